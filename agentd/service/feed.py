"""What a watcher is sent: what happened, in order and numbered, and how much it missed (pure)."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping

from agentd.service import rpc

EVERYTHING = "*"
QUEUE_ITEMS = 256
QUEUE_BYTES = 256 << 10
TEXT_CHARS = 4096  # of one piece of a transcript


class Feed:
    """A bounded queue between the daemon and one reader.

    Every item that the reader asked for has the next number, from 1. Drop policy: when the queue
    is full the oldest go, and what was dropped is reported as a range of numbers, so that each
    number is either an item's or missed. Adding never waits.

    Args:
        names: the events that are wanted, or `*` among them for all.
        transcripts: whether pieces of what was said are wanted as well.
    """

    def __init__(self, names: Collection[str], *, transcripts: bool = False) -> None:
        self._names = frozenset(names)
        self._transcripts = transcripts
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._number = 0  # of the newest item
        self._unreported = 0  # of those that were dropped
        self.missed = 0  # ever

    def event(self, name: str, body: Mapping[str, object]) -> bool:
        """Add an event; return whether it is wanted."""
        wanted = name in self._names or EVERYTHING in self._names
        if wanted:
            self._add("event", body)
        return wanted

    def transcript(self, body: Mapping[str, object]) -> bool:
        """Add a piece of a transcript; return whether it is wanted."""
        if self._transcripts:
            self._add("transcript", body)
        return self._transcripts

    def take(self) -> bytes:
        """Return the lines that are due, or nothing; what was missed comes first."""
        first = self._number - len(self._queue) + 1
        lines = list(self._queue)
        if self._unreported:
            missed = {"seq": first - self._unreported, "count": self._unreported}
            lines.insert(0, rpc.notification("missed", missed))
        self._queue.clear()
        self._bytes = self._unreported = 0
        return b"".join(lines)

    def _add(self, method: str, body: Mapping[str, object]) -> None:
        self._number += 1
        line = rpc.notification(method, {"seq": self._number, **body})
        self._queue.append(line)
        self._bytes += len(line)
        while len(self._queue) > QUEUE_ITEMS or self._bytes > QUEUE_BYTES:
            self._bytes -= len(self._queue.popleft())
            self._unreported += 1
            self.missed += 1
