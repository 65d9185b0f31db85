"""When a changed set of functions is brought to the service (pure).

A change costs a cached prefix, where functions change in the running session, or a connection. So
changes are gathered for a moment, a host that has gone is given time to come back, and one that
comes and goes for ever does not wear out the conversation.
"""

from __future__ import annotations

from collections import deque

SETTLE_S = 1.0  # more may be offered: hosts start together
RETURN_S = 10.0  # a program that systemd starts anew is back by then
MOST = 6
WINDOW_S = 300.0


class CallPace:
    """Decides when. At most `MOST` changes in `WINDOW_S` seconds."""

    def __init__(self) -> None:
        self._wanted_s: float | None = None
        self._brought: deque[float] = deque(maxlen=MOST)

    @property
    def due_s(self) -> float | None:
        """Return when the functions of that moment are to be brought; None: nothing changed."""
        if self._wanted_s is None:
            return None
        if len(self._brought) < MOST:
            return self._wanted_s
        return max(self._wanted_s, self._brought[0] + WINDOW_S)

    def offered(self, now: float) -> None:
        """Note that there are more functions."""
        self._want(now + SETTLE_S)

    def withdrawn(self, now: float) -> None:
        """Note that there are fewer; a call of one that has gone gets an error meanwhile."""
        self._want(now + RETURN_S)

    def now(self, now: float) -> None:
        """Note that the conversation stands still until the functions are others."""
        self._want(now)
        self._brought.clear()

    def brought(self, now: float, *, changed: bool) -> None:
        """Note that the service was given the functions, or had them already."""
        self._wanted_s = None
        if changed:
            self._brought.append(now)

    def _want(self, at_s: float) -> None:
        self._wanted_s = at_s if self._wanted_s is None else min(at_s, self._wanted_s)
