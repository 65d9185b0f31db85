"""What the run measured, printed at its end."""

from __future__ import annotations

_FIGURES: list[tuple[str, str, str]] = []


def note(suite: str, what: str, value: str) -> None:
    """Keep one figure for the end of the run."""
    _FIGURES.append((suite, what, value))


def lines() -> list[str]:
    """Return the figures, one line each, by suite."""
    return [f"{suite:9} {what:44} {value}" for suite, what, value in sorted(_FIGURES)]
