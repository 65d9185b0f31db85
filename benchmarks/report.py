"""The report: run conditions, tables as text and as Markdown, JSON, and the documents."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.micro import Cost
from benchmarks.results import Results, rows

BEGIN = "<!-- table: begin (written by `make bench BENCH_ARGS=--write-docs`) -->"
END = "<!-- table: end -->"
PACKAGES = ("agentd", "google-genai", "websockets", "pyaudio", "webrtcvad-wheels", "pydantic")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a run was made; only ratios within one run count."""

    date: str
    mode: str
    machine: str
    cores: int
    memory_gib: float
    load_before: float
    load_after: float
    took_min: float
    python: str
    packages: dict[str, str]


def conditions(mode: str, load_before: float, took_s: float) -> Conditions:
    """Return the conditions of the run that ends now."""
    return Conditions(
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        mode=mode,
        machine=f"{platform.machine()}, Linux {platform.release().split('-')[0]}",
        cores=os.cpu_count() or 0,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        load_before=round(load_before, 1),
        load_after=round(os.getloadavg()[0], 1),
        took_min=round(took_s / 60, 1),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def sentence(run: Conditions) -> str:
    """Say the conditions in a sentence."""
    packages = ", ".join(f"{name} {number}" for name, number in run.packages.items())
    return (
        f"{run.date}, mode {run.mode}, {run.took_min:g} min. {run.machine}, {run.cores} cores, "
        f"{run.memory_gib:g} GiB; load {run.load_before:g} before, {run.load_after:g} after "
        f"(the run itself included). Python {run.python}; {packages}."
    )


def plain(table: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, len(row) - 2) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "| --- |" + " --- |" * (len(table[0]) - 1))
    return "\n".join(lines)


def stage_rows(costs: Sequence[Cost]) -> list[list[str]]:
    """Return the table of stages."""
    table = [["stage", "µs a call", "bare", "µs a call", "ms CPU a minute of it"]]
    table += [
        [
            cost.stage,
            f"{cost.us:.1f}",
            cost.bare,
            f"{cost.bare_us:.1f}",
            f"{cost.ms_per_minute:.1f}",
        ]
        for cost in costs
    ]
    return table


def write_json(path: Path, run: Conditions, results: Results, costs: Sequence[Cost]) -> None:
    """Write everything that was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "conditions": asdict(run),
        **results.as_json(),
        "stages": [asdict(cost) | {"ms_per_minute": cost.ms_per_minute} for cost in costs],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_docs(
    path: Path,
    run: Conditions,
    results: Results,
    systems: Mapping[str, str],
    costs: Sequence[Cost],
) -> None:
    """Put the tables into the document, between its two marks.

    Raises:
        ValueError: the marks are not there.
    """
    text = path.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no place for the table: put {BEGIN!r} and {END!r} in it")
    parts = [sentence(run), markdown(rows(results, systems))]
    if costs:
        parts += ["Stages by themselves:", markdown(stage_rows(costs))]
    if results.skipped:
        parts += ["Not measured in this run:", "\n".join(f"- {why}" for why in results.skipped)]
    path.write_text(f"{head}{begin}\n\n" + "\n\n".join(parts) + f"\n\n{end}{tail}", "utf-8")
