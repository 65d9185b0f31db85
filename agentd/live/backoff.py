"""When to dial next: full-jitter exponential backoff under a hard cap of dials per minute.

Full jitter (a uniform draw from zero to the current ceiling) spreads a fleet that lost the same
network best: Marc Brooker, "Exponential Backoff And Jitter", AWS architecture blog, 2015.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

WINDOW_S = 60.0
FLAP_WINDOW_S = 15.0
FLAP_FREE = 4  # a handover with a moment offline is two changes
FLAP_BASE_S = 0.5
FLAP_DOUBLINGS = 3


class Backoff:
    """Draw growing delays; the first after a reset is zero, because most losses are passing."""

    def __init__(
        self, base_s: float, cap_s: float, random: Callable[[], float], *, floor_s: float = 0.0
    ) -> None:
        self.base_s = base_s
        self.cap_s = cap_s
        self.floor_s = floor_s  # every delay is at least this, also the first
        self._random = random
        self.failures = 0

    def next_delay_s(self) -> float:
        """Return the delay before the next dial and count one more failure."""
        failures, self.failures = self.failures, self.failures + 1
        if failures == 0:
            return self.floor_s
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 40))
        return max(self.floor_s, self._random() * ceiling)

    def reset(self) -> None:
        """Start over. Only stability earns this: a connect alone is not health (quota closes)."""
        self.failures = 0


class DialBudget:
    """At most `limit` dials within any 60 seconds (sliding window)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._dials: deque[float] = deque()

    def earliest_s(self, now: float) -> float:
        """Return the first moment, `now` or later, at which a dial is allowed."""
        self._forget(now)
        if len(self._dials) < self.limit:
            return now
        return self._dials[-self.limit] + WINDOW_S

    def spend(self, now: float) -> None:
        """Record a dial."""
        self._forget(now)
        self._dials.append(now)

    def _forget(self, now: float) -> None:
        while self._dials and self._dials[0] <= now - WINDOW_S:
            self._dials.popleft()


class FlapDamper:
    """Let a network that keeps changing settle before the next dial.

    The first changes are followed at once; more of them within the window wait longer each, so a
    flapping link spends a handful of dials and not the budget of the minute.
    """

    def __init__(self) -> None:
        self._changes: deque[float] = deque(maxlen=FLAP_FREE + FLAP_DOUBLINGS)

    def delay_s(self, now: float) -> float:
        """Return how long the network should stay as it is before a dial; count one change."""
        while self._changes and self._changes[0] <= now - FLAP_WINDOW_S:
            self._changes.popleft()
        self._changes.append(now)
        more = len(self._changes) - FLAP_FREE
        return 0.0 if more <= 0 else FLAP_BASE_S * 2.0 ** (more - 1)
