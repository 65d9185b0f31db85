"""A short part of `make attack`, with seeds that never change."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import stops
from tests.attack.__main__ import Row, chosen, table
from tests.attack.target import CORPUS, Case, Target, broken, mutated, read_case, rng_for, smallest
from tests.attack.targets import IN_PROCESS

SEED = 2611
# As many cases as a few seconds allow; `make attack` throws as many as there is time for.
CASES = {
    "frames": 150,
    "settings": 80,
    "boot": 60,
    "handshakes": 30,
    "control": 200,
    "tool-host": 100,
    "state": 60,
    "clocks": 120,
    "wav": 300,
    "credentials": 40,
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Warnings of libraries about hostile input are not read by anybody."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def target(name: str) -> Target:
    """Return an attack by its name."""
    return next(make() for make in IN_PROCESS if make.name == name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_what_is_thrown_breaks_nothing(name: str) -> None:
    """None of a fixed number of hostile cases breaks what must hold."""
    attacked = target(name)
    for turn in range(CASES[name]):
        case = attacked.make(rng_for(SEED, name, turn))
        error = broken(attacked, case)
        assert not error, f"{error}\n{smallest(attacked, case, error, tries=60).text[:1500]}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(CORPUS.rglob("*.json")), ids=lambda path: path.stem)
def test_what_was_found_once_breaks_nothing(path: Path) -> None:
    """Every case that once broke something is thrown again."""
    name, case = read_case(path)
    assert broken(target(name), case) == ""


def test_the_page_of_stops_has_a_row_for_every_frame() -> None:
    """Counts come in pairs, of what is before a frame and of the frame; one too few is an error."""
    sizes = {name: len(text) for name, text in stops.texts().items()}
    counts = [n for turn in range(len(sizes)) for n in (7, (turn + 1) * 100_000_000)]
    text = stops.page(sizes, counts)
    assert "| 1650 token counts | 52,845 | 200.0 | 0.20 |" in text
    assert len(re.findall(r"(?m)^\| .* \| [0-9.]+ \|$", text)) == len(sizes) == 5
    with pytest.raises(ValueError, match="shorter"):
        stops.page(sizes, counts[:-2])


class _Weak:
    """A target that breaks on "b" after "a"."""

    name = "weak"
    what = "a target that breaks"

    def make(self, rng: random.Random) -> list[str]:
        return rng.choices("abcdefgh", k=30)

    def check(self, case: Case) -> int:
        if "b" in "".join(case).partition("a")[2]:
            raise ValueError("b after a")
        return len(case)


def test_what_breaks_something_is_made_small_and_happens_again() -> None:
    """A case is cut to the steps that matter, and the same seed gives the same case."""
    weak = _Weak()
    case = next(c for n in range(99) if broken(weak, c := weak.make(rng_for(1, "weak", n))))
    again = next(c for n in range(99) if broken(weak, c := weak.make(rng_for(1, "weak", n))))
    assert case == again
    found = smallest(weak, case, broken(weak, case))
    assert list(found.case) == ["a", "b"]
    assert found.error.startswith("ValueError: b after a")


def test_a_mutation_takes_steps_from_both() -> None:
    """A kept case is changed by what it and another are made of."""
    steps = {s for n in range(50) for s in mutated("abc", "xyz", random.Random(n))}
    assert steps == set("abcxyz")


def test_the_tables_name_every_attack_once() -> None:
    """What is printed at the end can be pasted into a page; a name means one attack."""
    for real in (False, True):
        lines = table([Row("a", "what it is")], real=real).splitlines()
        assert len({line.count("|") for line in lines}) == 1
    targets, hostile, faults = chosen(None)
    names = [*(t.name for t in targets), *hostile, *faults]
    assert len(names) == len(set(names))
    assert chosen("wav,flood-empty")[1:] == (["flood-empty"], [])
    with pytest.raises(ValueError, match="no attack 'nothing'"):
        chosen("nothing")
