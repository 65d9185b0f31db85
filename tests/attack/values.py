"""Hostile values: what a peer, a file or a person puts where something else was expected."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

ESC = "\x1b]0;forged\x07\x1b[2J"
BIDI = "\u202egnp.exe\u2066"
LONE = "\ud800half a pair\udc00"
KEY = "AIzaSyA-hostile-key-that-nobody-may-log"

TEXTS: Sequence[str] = (
    "", " ", "\x00", "\r\n<0>forged line", ESC, BIDI, LONE, KEY, "\ufeff", "\u2028", "é" * 7, "🦜",
    "null", "true", "-0", "1e999", "NaN", "../../etc/passwd", "%s%n{0}{event}", "$(reboot)",
    "__class__", "constructor", "a" * 241, "{" * 60, '"', "\\", "'",
)  # fmt: skip
NUMBERS: Sequence[int | float] = (
    0, 1, -1, 2, 7, 255, 256, 65_535, 2**31 - 1, 2**31, -(2**31), 2**53, 2**53 + 1, 2**63, -(2**63),
    2**64, 10**30, 10**400, 0.5, -0.0, 1e-308, 1e300, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
DEPTHS = (3, 40, 400, 3000)


def text(rng: random.Random) -> str:
    """Return a hostile text: mostly short, seldom long."""
    chosen = rng.choice(TEXTS)
    shape = rng.random()
    if shape < 0.05:
        return (chosen or "x") * rng.choice((10, 300, 5000))
    return chosen + rng.choice(TEXTS) if shape < 0.25 else chosen


def number(rng: random.Random) -> int | float:
    """Return a number at an edge of something."""
    return rng.choice(NUMBERS) if rng.random() < 0.8 else rng.randint(-100_000, 100_000)


def deep(rng: random.Random) -> Any:
    """Return lists or objects inside each other."""
    value: Any = []
    for _ in range(rng.choice(DEPTHS[:2])):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def anything(rng: random.Random, depth: int = 3) -> Any:
    """Return a JSON value of any kind."""
    shape = rng.random()
    if depth > 0 and shape < 0.12:
        return [anything(rng, depth - 1) for _ in range(rng.choice((0, 1, 2, 70)))]
    if depth > 0 and shape < 0.25:
        return {text(rng): anything(rng, depth - 1) for _ in range(rng.choice((0, 1, 3)))}
    if shape < 0.28:
        return deep(rng)
    if shape < 0.6:
        return text(rng)
    return number(rng) if shape < 0.85 else rng.choice((None, True, False))


def spoilt(value: str, rng: random.Random) -> str:
    """Return the text with some damage: cut, doubled, a character changed, something put in."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(value) + 1)
        until = min(len(value), at + rng.choice((1, 2, 8, 60)))
        value = rng.choice(_DAMAGES)(value, at, until, rng)
    return value


def _put_in(value: str, at: int, until: int, rng: random.Random) -> str:
    del until
    return value[:at] + rng.choice(TEXTS) + value[at:]


def _replace(value: str, at: int, until: int, rng: random.Random) -> str:
    return value[:at] + chr(rng.choice((0, 9, 10, 34, 39, 44, 91, 93, 123, 125))) + value[until:]


_DAMAGES: Sequence[Callable[[str, int, int, random.Random], str]] = (
    lambda value, at, until, rng: value[:at] + value[until:],
    lambda value, at, until, rng: value[:until] + value[at:],
    lambda value, at, until, rng: value[:at],
    _put_in,
    _replace,
)
