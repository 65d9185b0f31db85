"""Times at which something is due, by name (pure)."""

from __future__ import annotations


class Deadlines:
    """A few named times; setting one again moves it."""

    def __init__(self) -> None:
        self._at_s: dict[str, float] = {}

    def set(self, name: str, at_s: float) -> None:
        """Have something due at `at_s`, and at no other time."""
        self._at_s[name] = at_s

    def cancel(self, *names: str) -> None:
        """Have these not due any more."""
        for name in names:
            self._at_s.pop(name, None)

    def next(self) -> float | None:
        """Return when the first is due, if any is."""
        return min(self._at_s.values(), default=None)

    def pop(self, now: float) -> str | None:
        """Return the first that is due, once; None: nothing is."""
        due = [(at_s, name) for name, at_s in self._at_s.items() if at_s <= now]
        if not due:
            return None
        _, name = min(due)
        del self._at_s[name]
        return name
