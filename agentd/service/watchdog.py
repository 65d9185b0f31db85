"""Whether the daemon deserves to live on: the evidence that feeds the watchdog (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the pipeline can prove. Taken on the event loop, so the loop turns as well."""

    frames: int  # microphone frames that reached the gate since the start
    muted: bool = False
    told_lost: bool = False  # the journal and the light say that there is no microphone
    wedged: int = 0  # capture streams that never closed, each with a thread stuck in a C library

    @property
    def excused(self) -> bool:
        """Say whether the absence of frames is in order.

        A microphone that is gone comes back by itself. One whose stream hangs in PortAudio or
        ALSA may hold up every later opening in this process: only a restart gets it back.
        """
        return self.muted or (self.told_lost and not self.wedged)


class Watchdog:
    """Feed while frames advance or their absence is explained; otherwise let it starve.

    A deaf unit that looks healthy is the worst failure of a smart speaker: it must be restarted.
    The watchdog's own period is the patience; nothing is added to it.
    """

    def __init__(self) -> None:
        self._frames = -1
        self._fed_s: float | None = None

    def feed(self, evidence: Evidence, now_s: float) -> bool:
        """Say whether to feed now."""
        healthy = evidence.excused or evidence.frames > self._frames
        self._frames = evidence.frames
        if healthy:
            self._fed_s = now_s
        return healthy

    def stalled_s(self, now_s: float) -> float:
        """Return for how long it has not been fed."""
        return 0.0 if self._fed_s is None else now_s - self._fed_s
