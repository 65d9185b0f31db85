"""What all attacks in this process have in common: cases of steps, and what is done with one."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.attack import values

CORPUS = Path(__file__).parent / "corpus"
Step = Any  # plain JSON
Case = Sequence[Step]


class Target(Protocol):
    """A part of agentd that takes input from outside."""

    name: str
    what: str

    def make(self, rng: random.Random) -> list[Step]:
        """Return a new case: plain JSON, so that it can be kept and made smaller."""

    def check(self, case: Case) -> int:
        """Throw a case at the part; return how many inputs that was.

        Raises:
            Exception: something that must hold does not.
        """


@dataclass(frozen=True, slots=True)
class Found:
    """A case that broke something, as small as it could be made, and what it broke."""

    target: str
    case: Case
    error: str

    @property
    def text(self) -> str:
        """Return it as a file of the corpus."""
        body = {"target": self.target, "error": self.error, "case": list(self.case)}
        return json.dumps(body, indent=1, ensure_ascii=True) + "\n"


def rng_for(seed: int, name: str, turn: int) -> random.Random:
    """Return the dice of one case: the same for the same numbers, whatever ran before."""
    return random.Random(f"{seed}/{name}/{turn}")


def corpus(name: str) -> list[Path]:
    """Return the kept cases of a target."""
    return sorted((CORPUS / name).glob("*.json"))


def read_case(path: Path) -> tuple[str, Case]:
    """Return target and steps of a kept case."""
    kept = json.loads(path.read_text("utf-8"))
    return kept["target"], kept["case"]


def broken(target: Target, case: Case) -> str:
    """Return what a case breaks, in a line, or nothing."""
    try:
        target.check(case)
    except RecursionError:
        return "RecursionError"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return f"{type(error).__name__}: {error}"[:500]
    return ""


def _class_of(error: str) -> str:
    return re.sub(r"\d+", "#", error)[:60]


def smallest(target: Target, case: Case, error: str, tries: int = 400) -> Found:
    """Leave out steps as long as the same thing breaks (delta debugging, one pass per size)."""
    kept, wanted = list(case), _class_of(error)
    size = max(1, len(kept) // 2)
    while size and tries > 0:
        at = 0
        while at < len(kept) and tries > 0:
            shorter = kept[:at] + kept[at + size :]
            tries -= 1
            if _class_of(broken(target, shorter)) == wanted:
                kept = shorter
            else:
                at += size
        size //= 2
    return Found(target.name, kept, broken(target, kept) or error)


def mutated(case: Case, other: Case, rng: random.Random) -> list[Step]:
    """Return a kept case with steps doubled, left out, swapped, or taken from another."""
    steps = list(case)
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.randrange(len(steps) + 1)
        what = rng.random()
        if what < 0.4 and other:
            steps.insert(at, rng.choice(other))
        elif what < 0.7 and steps:
            steps.insert(at, steps[rng.randrange(len(steps))])
        elif steps:
            del steps[min(at, len(steps) - 1)]
    return steps


UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""What forges or hides text on a terminal or in a log (Unicode, "Bidirectional Formatting")."""


def assert_plain(text: str, most: int, what: str) -> None:
    """Hold a text that people will see against what a peer must not be able to do with it."""
    assert len(text) <= most, f"{what} has {len(text)} characters"
    found = UNPRINTABLE.search(text)
    assert found is None, f"{what} has {text[found.start()]!r} in it"


def assert_harmless(text: str, most: int, what: str) -> None:
    """Hold it against what must not be in a log either: the key."""
    assert_plain(text, most, what)
    assert values.KEY not in text, f"{what} has a key in it"
