"""`make attack`: run every attack for a bounded time and print what was thrown and what held."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.attack.target import (
    Found,
    Target,
    broken,
    corpus,
    mutated,
    read_case,
    rng_for,
    smallest,
)
from tests.attack.targets import IN_PROCESS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build/attack"
FOUND_MOST = 5  # of one target; then its time is over


@dataclass
class Row:
    """What became of one attack."""

    name: str
    what: str
    cases: int = 0
    inputs: int = 0
    seconds: float = 0.0
    found: list[str] = field(default_factory=list)


def attack(target: Target, seed: int, seconds: float, keep: Callable[[Found], Path]) -> Row:
    """Throw new and changed cases at a target for so long."""
    row = Row(target.name, target.what)
    kept = [read_case(path)[1] for path in corpus(target.name)]
    began = time.monotonic()
    seen: set[str] = set()
    while time.monotonic() - began < seconds and len(row.found) < FOUND_MOST:
        rng = rng_for(seed, target.name, row.cases)
        if kept and rng.random() < 0.2:
            case = mutated(rng.choice(kept), rng.choice(kept), rng)
        else:
            case = target.make(rng)
        row.cases += 1
        error = ""
        try:
            row.inputs += target.check(case)
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            error = broken(target, case) or "does not happen again: depends on what was before"
        if error and error[:60] not in seen:
            seen.add(error[:60])
            row.found.append(f"{error}  ({keep(smallest(target, case, error))})")
    row.seconds = time.monotonic() - began
    return row


def save(found: Found) -> Path:
    """Write a case that broke something where git does not look."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = f"{found.target}-{sha256(found.error[:60].encode()).hexdigest()[:8]}.json"
    path = RESULTS / name
    path.write_text(found.text, "utf-8")
    return path.relative_to(ROOT)


def replay(path: Path) -> int:
    """Throw one kept case; return the exit status."""
    name, case = read_case(path)
    target = next(make() for make in IN_PROCESS if make.name == name)
    error = broken(target, case)
    print(error or "holds")
    return 1 if error else 0


def table(rows: Iterable[Row]) -> str:
    """Return what was done as a table in Markdown."""
    lines = ["| attack | cases | inputs | s | found |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in rows:
        cells = (row.what, row.cases, f"{row.inputs:,}", f"{row.seconds:.0f}", len(row.found))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("make attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="for all together (300)")
    parser.add_argument("--seed", type=int, help="of a run that is to be repeated")
    parser.add_argument("--only", help="names of attacks, with commas between")
    parser.add_argument("--replay", type=Path, help="a case that was kept")
    parser.add_argument("--report", type=Path, help="write the table here as well (JSON)")
    parser.add_argument("--list", action="store_true", help="print the names of the attacks")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Attack; return 1 if something broke."""
    options = _options(arguments)
    logging.disable(logging.CRITICAL)  # tracebacks of what fails on purpose
    warnings.simplefilter("ignore")
    if options.replay:
        return replay(options.replay)
    targets = [make() for make in IN_PROCESS]
    if options.list:
        print("\n".join(f"{target.name:14}{target.what}" for target in targets))
        return 0
    if options.only:
        targets = [t for t in targets if t.name in options.only.split(",")]
    seed = int(time.time()) if options.seed is None else options.seed
    print(f"seed {seed}: the same cases again with SEED={seed}", flush=True)
    rows = []
    for target in targets:
        rows.append(attack(target, seed, options.seconds / len(targets), save))
        for text in rows[-1].found:
            print(f"FOUND in {target.name}: {text}", flush=True)
    print(table(rows))
    return 1 if any(row.found for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
