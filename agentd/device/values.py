"""Arguments of a function call as the model gives them: any JSON value in any place."""

from __future__ import annotations

import math


def number(value: object) -> float | None:
    """Return a number that was given as a number or as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def text(value: object) -> str:
    """Return a text, or an empty one for anything else."""
    return value if isinstance(value, str) else ""
