"""Frames that could not be used, or not understood: counted, and reported sparingly (pure)."""

from __future__ import annotations

from agentd.events import BadFrame, UnknownFrame
from agentd.live.outputs import Outputs

UNKNOWN_KINDS = 16  # that are reported; a peer may invent more


class OddFrames:
    """Counts what is odd; a server gone mad does not fill the journal."""

    def __init__(self, out: Outputs) -> None:
        self._out = out
        self._kinds: set[str] = set()
        self.bad = 0
        self.unknown = 0

    def could_not_be_used(self, problem: str) -> None:
        """Count a frame, or the part of one, that was left out; report each power of two."""
        self.bad += 1
        if self.bad & (self.bad - 1) == 0:
            self._out.emit(BadFrame(problem=problem, count=self.bad))

    def was_not_known(self, kind: str) -> None:
        """Count a kind of frame; report each once: the service has learnt something new."""
        self.unknown += 1
        if kind not in self._kinds and len(self._kinds) < UNKNOWN_KINDS:
            self._kinds.add(kind)
            self._out.emit(UnknownFrame(kind=kind))
