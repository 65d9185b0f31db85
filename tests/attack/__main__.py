"""`make attack`: run every attack for a bounded time and print what was thrown and what held."""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
import random
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.attack import machine, services
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
ONE_S = 170.0  # for one attack on the real daemon, which has deadlines of its own
SUFFER_S = 6.0
IN_PROCESS_SHARE = 0.25


@dataclass
class Row:
    """What became of one attack."""

    name: str
    what: str
    cases: int = 0
    inputs: int = 0
    seconds: float = 0.0
    measured: str = ""
    found: list[str] = field(default_factory=list)


def attack(target: Target, seed: int, seconds: float) -> Row:
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
        try:
            row.inputs += target.check(case)
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            error = broken(target, case) or "does not happen again: depends on what was before"
            if error[:60] not in seen:
                seen.add(error[:60])
                row.found.append(f"{error}  ({save(smallest(target, case, error))})")
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
    target = next(made for made in (make() for make in IN_PROCESS) if made.name == name)
    error = broken(target, case)
    print(error or "holds")
    return 1 if error else 0


def on_the_daemon(row: Row, work: Callable[[], Awaitable[object]]) -> Row:
    """Run one attack that has the real daemon to itself."""

    async def bounded() -> object:
        async with asyncio.timeout(ONE_S):
            return await work()

    began = time.monotonic()
    row.cases = 1
    try:
        row.measured = str(asyncio.run(bounded()) or "")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / f"{row.name}.txt"
        path.write_text(f"{type(error).__name__}: {error}\n", "utf-8")
        first = (str(error).splitlines() or [""])[0][:200]
        row.found.append(f"{type(error).__name__}: {first}  ({path.relative_to(ROOT)})")
    row.seconds = time.monotonic() - began
    return row


def _service(name: str) -> Row:
    about = services.names()[name].about
    return on_the_daemon(Row(name, about), lambda: services.suffer(name, SUFFER_S))


def _fault(name: str) -> Row:
    about = (machine.FAULTS[name].__doc__ or "").strip().removesuffix(".")
    if lacks := machine.why_not(name):
        return Row(name, about, measured=f"left out: {lacks}")
    return on_the_daemon(Row(name, about), machine.FAULTS[name])


def table(rows: list[Row], *, real: bool) -> str:
    """Return what was done as a table in Markdown: in this process, or on the real daemon."""
    if real:
        lines = ["| attack | what | s | measured | held |", "| --- | --- | ---: | --- | --- |"]
    else:
        lines = ["| attack | cases | inputs | s | found |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in rows:
        held = "left out" if not row.cases else "no" if row.found else "yes"
        cells: tuple[object, ...] = (row.what, row.cases, f"{row.inputs:,}")
        cells = (*cells, f"{row.seconds:.0f}", len(row.found))
        if real:
            cells = (row.name, row.what, f"{row.seconds:.0f}", row.measured, held)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("make attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for all together (600)")
    parser.add_argument("--seed", type=int, help="of a run that is to be repeated")
    parser.add_argument("--only", help="names of attacks, with commas between")
    parser.add_argument("--replay", type=Path, help="throw a case that was kept")
    parser.add_argument("--report", type=Path, help="write the tables here as well")
    parser.add_argument("--list", action="store_true", help="print the names of the attacks")
    return parser.parse_args(arguments)


def chosen(only: str | None) -> tuple[list[Target], list[str], list[str]]:
    """Return targets, hostile services and faults, all or those that are named.

    Raises:
        ValueError: a name that there is not.
    """
    targets: list[Target] = [make() for make in IN_PROCESS]
    wanted = set(only.split(",")) if only else None
    known = {t.name for t in targets} | set(services.names()) | set(machine.FAULTS)
    if wanted is not None and wanted - known:
        raise ValueError(f"no attack {min(wanted - known)!r}; --list names them")

    def some(names: list[str]) -> list[str]:
        return [name for name in names if wanted is None or name in wanted]

    targets = [t for t in targets if wanted is None or t.name in wanted]
    return targets, some(list(services.names())), some(list(machine.FAULTS))


def run(options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """Attack; in this process first, then the real daemon as long as there is time."""
    targets, hostile, faults = chosen(options.only)
    began = time.monotonic()
    share = IN_PROCESS_SHARE if hostile or faults else 1.0
    for target in targets:
        yield attack(target, seed, options.seconds * share / len(targets))
    real = [(name, _service) for name in hostile] + [(name, _fault) for name in faults]
    random.Random(seed).shuffle(real)
    for name, make in real:
        over = time.monotonic() - began > options.seconds
        yield Row(name, "") if over else make(name)


def _print_list() -> None:
    for target in (make() for make in IN_PROCESS):
        print(f"{target.name:22}{target.what}")
    for name, scenario in services.names().items():
        print(f"{name:22}{scenario.about}")
    for name, fault in machine.FAULTS.items():
        print(f"{name:22}{(fault.__doc__ or '').strip()}")


def _report(rows: list[Row], seed: int) -> str:
    inside = {make().name for make in IN_PROCESS}
    parts = [
        f"Seed {seed}, Python {platform.python_version()}, {platform.machine()}.",
        table([row for row in rows if row.name in inside], real=False),
        table([row for row in rows if row.name not in inside and row.what], real=True),
    ]
    if missed := [row.name for row in rows if not row.what]:
        parts.append(f"Not reached in the time: {', '.join(sorted(missed))}.")
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Attack; return 1 if something broke."""
    options = _options(arguments)
    logging.disable(logging.CRITICAL)  # tracebacks of what fails on purpose
    warnings.simplefilter("ignore")
    if options.list:
        _print_list()
        return 0
    if options.replay:
        return replay(options.replay)
    seed = int(time.time()) if options.seed is None else options.seed
    print(f"seed {seed}: the same cases again with SEED={seed}", flush=True)
    rows = []
    for row in run(options, seed):
        rows.append(row)
        print(f"{row.name}: {row.measured or f'{row.inputs:,} inputs'}", flush=True)
        for text in row.found:
            print(f"FOUND in {row.name}: {text}", flush=True)
    report = _report(rows, seed)
    print(report)
    if options.report:
        head = "# The last attack\n\nWritten by `make attack`; what it is: testing.md.\n\n"
        options.report.write_text(head + report, "utf-8")
    return 1 if any(row.found for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
