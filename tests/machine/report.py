"""What was measured, kept per check, so that a check that ran alone brings its own page up to date.

`make test-machine` writes it as `docs/measured/tested-on.md`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.package.roots import PROJECT

RESULTS: Final = PROJECT / "build/machine/results"
PAGE: Final = PROJECT / "docs/measured/tested-on.md"
ORDER: Final = ("talk", "light", "cards", "uplinks", "cost", "clock", "power")
"""Of the checks: first those that share a machine."""

_LINES: Final = 40
_HEAD: Final = """\
# Tested on

Written by `make test-machine`, which boots a machine in software, installs the package in it with
apt and torments it ([how](../developer/testing.md)). Every figure was measured by the run that is
named with it.

The machine's clock counts instructions, one nanosecond each: about the speed of one core of a
Raspberry Pi 3, whatever the speed of the machine below. Its seconds are those of the journal. What
waits for disk or network outside sees them pass quickly, so such times are upper bounds, and
nothing is asserted on time. No ARM hardware has been tested.
"""


@dataclass
class Section:
    """One check: what was done, what was measured, what the journal said."""

    check: str
    title: str = ""
    intro: str = ""
    rows: list[tuple[str, str]] = field(default_factory=list)
    journal: str = ""
    passed: int = 0
    failed: int = 0
    when: str = ""
    package: str = ""
    tests: int = 0
    """How many there are in the check's file."""

    @property
    def is_whole(self) -> bool:
        """Tell whether every test has come to an end, good or bad."""
        return self.passed + self.failed >= self.tests

    def note(self, what: str, value: str) -> None:
        """Add a measured value."""
        self.rows.append((what, value.strip()))

    def excerpt(self, lines: str) -> None:
        """Add lines of the journal; what an overrun lost is counted in the figures."""
        kept = [line for line in lines.splitlines() if " frames_lost: " not in line]
        self.journal += "\n".join(kept[:_LINES]) + "\n"


def save(section: Section) -> None:
    """Keep a section for the page."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{section.check}.json"
    path.write_text(json.dumps(asdict(section), indent=1), encoding="utf-8")


def load(folder: Path = RESULTS) -> list[Section]:
    """Return the sections that there are, in the order of the page."""
    found = []
    for check in ORDER:
        path = folder / f"{check}.json"
        if path.exists():
            values = json.loads(path.read_text(encoding="utf-8"))
            values["rows"] = [tuple(row) for row in values["rows"]]
            found.append(Section(**values))
    return found


def page(sections: list[Section]) -> str:
    """Return the page."""
    parts = [_HEAD]
    parts += [_section(section) for section in sections]
    missing = [check for check in ORDER if check not in {section.check for section in sections}]
    if missing:
        parts.append(f"Not run: {', '.join(missing)}.\n")
    return "\n".join(parts)


def _section(section: Section) -> str:
    verdict = "passed" if not section.failed else f"**{section.failed} failed**"
    lines = [f"## {section.title}", "", section.intro, ""]
    lines += [f"{section.passed} checks {verdict}; {section.package}, {section.when}.", ""]
    if section.rows:
        lines += ["| what | measured |", "| --- | --- |"]
        lines += [f"| {_cell(what)} | {_cell(value)} |" for what, value in section.rows]
        lines.append("")
    if section.journal:
        lines += ["```text", section.journal.rstrip(), "```", ""]
    return "\n".join(line for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
