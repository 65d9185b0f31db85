"""How often the model may call each function, and all of them together (pure).

A sliding minute. What is refused does not count, so that waiting helps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agentd.events import ToolLimited
from agentd.live.outputs import Outputs

WINDOW_S = 60.0
OTHER = ""  # all names that are no functions of ours; a peer may invent any number


@dataclass(frozen=True, slots=True)
class Limits:
    """Calls within a minute; `per_minute` is None for a name that is no function."""

    per_minute: Callable[[str], int | None]
    other: int
    total: int


class CallRates:
    """Counts calls and refuses what is too much."""

    def __init__(self, limits: Limits | None, out: Outputs) -> None:
        self._limits = limits  # None: no bound
        self._out = out
        self._calls: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()
        self._reported: set[str] = set()

    def refusal(self, name: str, now: float) -> str:
        """Count a call; return an empty text, or a sentence that says why it may not be run."""
        if self._limits is None:
            return ""
        known = self._limits.per_minute(name)
        key, limit = (OTHER, self._limits.other) if known is None else (name, known)
        calls = self._calls.setdefault(key, deque())
        for window in (calls, self._all):
            while window and window[0] <= now - WINDOW_S:
                window.popleft()
        for window, most, what in (
            (calls, limit, "this function"),
            (self._all, self._limits.total, "functions"),
        ):
            if len(window) >= most:
                self._report(key, most)
                wait_s = window[0] + WINDOW_S - now
                return (
                    f"not done: {what} may be called {most} times a minute. "
                    f"Do not call again for {wait_s:.0f} seconds"
                )
        calls.append(now)
        self._all.append(now)
        self._reported.discard(key)
        return ""

    def _report(self, key: str, most: int) -> None:
        """Report the first refusal of each function; a model gone mad does not fill the journal."""
        if key not in self._reported:
            self._reported.add(key)
            self._out.emit(ToolLimited(tool=key or "other", per_minute=most))
