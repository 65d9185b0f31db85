"""The service clock: seconds as the emulated service counts them.

Every duration of the emulated service (GoAway, connection limit, handle lifetime, reply pace,
playback hold) is in *service seconds*.  ``time_scale`` service seconds pass in one real second,
so with ``time_scale=60`` a ten-minute connection lasts ten real seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol


class ServiceClock(Protocol):
    """Tell service time, in seconds since the emulator started."""

    def now(self) -> float:
        """Return service seconds since the start."""
        ...

    def real_s(self, service_s: float) -> float:
        """Convert a duration in service seconds to real seconds."""
        ...


class ScaledClock:
    """Service time derived from the monotonic clock, or another, ``time_scale`` times as fast."""

    def __init__(
        self, time_scale: float = 1.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if time_scale <= 0:
            raise ValueError("time_scale must be above 0; 60 makes ten minutes pass in ten seconds")
        self.time_scale = time_scale
        self._monotonic = monotonic
        self._started = monotonic()

    def now(self) -> float:
        """Return service seconds since the start."""
        return (self._monotonic() - self._started) * self.time_scale

    def real_s(self, service_s: float) -> float:
        """Convert a duration in service seconds to real seconds."""
        return service_s / self.time_scale


class ManualClock:
    """Service time that moves only when told to; for tests of the core."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Return service seconds since the start."""
        return self._now

    def real_s(self, service_s: float) -> float:
        """Return the duration unchanged."""
        return service_s

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        self._now += seconds


Action = Callable[[float], None]


class Agenda:
    """What is due when: callbacks in time order, cancellable by group.

    Items due at the same instant run in the order in which they were added.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Action]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, due_s: float, group: str, action: Action) -> None:
        """Run ``action(now)`` once ``due_s`` is reached."""
        self._count += 1
        heappush(self._heap, (due_s, self._count, group, action))

    def cancel(self, *groups: str) -> int:
        """Forget every item of these groups; return how many there were."""
        kept = [item for item in self._heap if item[2] not in groups]
        dropped = len(self._heap) - len(kept)
        if dropped:
            self._heap = kept
            heapify(self._heap)
        return dropped

    def pending(self, group: str) -> bool:
        """Tell whether anything of this group is still due."""
        return any(item[2] == group for item in self._heap)

    def deadline(self) -> float | None:
        """Return when the next item is due, or None."""
        return self._heap[0][0] if self._heap else None

    def run_due(self, now: float) -> None:
        """Run everything due by ``now``, including what the callbacks add."""
        while self._heap and self._heap[0][0] <= now:
            due_s, _, _, action = heappop(self._heap)
            action(due_s)
