"""What the tests of this folder measured: one row per fault and way of injecting it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.continuity.household import Household

HEAD = (
    *("id", "what", "n", "gap ms", "max", "said", "whole", "replayed", "lost", "dials"),
    *("KiB up", "note"),
)


@dataclass
class Row:
    """One line of the table."""

    fault: str
    what: str
    gaps_ms: list[float] = field(default_factory=list)
    said: int = 0
    whole: int = 0
    replayed: int = 0
    lost: int = 0
    dials: int = 0
    bytes_up: int = 0
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        gaps = self.gaps_ms
        return (
            self.fault,
            self.what,
            str(len(gaps)) if gaps else "",
            f"{statistics.median(gaps):.0f}" if gaps else "",
            f"{max(gaps):.0f}" if gaps else "",
            str(self.said),
            str(self.whole),
            str(self.replayed),
            str(self.lost),
            str(self.dials),
            f"{self.bytes_up / 1024:.0f}",
            self.note,
        )


class Report:
    """The rows of a test run."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, row: Row) -> Row:
        """Add a row that the test filled in itself."""
        self.rows.append(row)
        return row

    def of(
        self,
        fault: str,
        what: str,
        home: Household,
        gaps_ms: Sequence[float] = (),
        note: str = "",
    ) -> Row:
        """Add a row of what a household went through."""
        status = home.session.status()
        deliveries = home.deliveries()
        return self.add(
            Row(
                fault,
                what,
                list(gaps_ms),
                said=len(deliveries),
                whole=sum(delivery.times == 1 for delivery in deliveries),
                replayed=status.replayed,
                lost=status.speech_lost,
                dials=status.dials,
                bytes_up=sum(entry.audio_bytes for entry in home.entries("audio", direction="in")),
                note=note,
            )
        )

    def lines(self) -> list[str]:
        """Return the table as text, in the order of the faults."""

        def order(row: Row) -> tuple[str, int]:
            return row.fault[0], int(row.fault[1:].split("-")[0] or 0)

        table = [HEAD, *(row.cells() for row in sorted(self.rows, key=order))]
        widths = [max(len(line[n]) for line in table) for n in range(len(HEAD))]
        left = {0, 1, len(HEAD) - 1}
        return [
            "  ".join(
                cell.ljust(width) if n in left else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
