"""A bound on what is logged: so many entries per name and minute, the rest counted (pure)."""

from __future__ import annotations

from dataclasses import dataclass

BURST = 30
WINDOW_S = 60.0


@dataclass(slots=True)
class _Window:
    until_s: float
    passed: int = 0
    suppressed: int = 0


class RateLimit:
    """Lets `burst` entries of each name pass in every window."""

    def __init__(self, *, burst: int = BURST, window_s: float = WINDOW_S) -> None:
        self._burst = burst
        self._window_s = window_s
        self._windows: dict[str, _Window] = {}

    def allow(self, name: str, now_s: float) -> bool:
        """Say whether an entry of `name` may pass; a refused one is counted."""
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = _Window(now_s + self._window_s)
        if window.passed < self._burst:
            window.passed += 1
            return True
        window.suppressed += 1
        return False

    def expired(self, now_s: float) -> list[tuple[str, int]]:
        """End the windows that are over; return what they suppressed, by name."""
        return self._end([name for name, w in self._windows.items() if now_s >= w.until_s])

    def drain(self) -> list[tuple[str, int]]:
        """End all windows; return what they suppressed, by name."""
        return self._end(list(self._windows))

    def _end(self, names: list[str]) -> list[tuple[str, int]]:
        ended = [(name, self._windows.pop(name).suppressed) for name in names]
        return [(name, count) for name, count in ended if count]
