"""What `agentd demo` shows: a live line under the conversation on a terminal, else plain lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from agentd.cli.watch import STYLES, meter
from agentd.service import terminal
from agentd.text import safe_text

if TYPE_CHECKING:
    from rich.console import Console

METER_WIDTH = 24
LINE_LIMIT = 1000  # of what was said in one go


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: a title, the names of its columns, and rows of as many cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()  # columns of figures


class Screen(Protocol):
    """Somewhere to show a conversation."""

    def line(self, at_s: float, mark: str, text: str, style: str = "") -> None:
        """Add one line to the conversation."""

    def now(self, state: str, level_dbfs: float) -> None:
        """Show the present state of the light and the microphone's level."""

    def table(self, sheet: Sheet) -> None:
        """Show a table."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class TerminalScreen:
    """Colours, a moving meter, and the conversation scrolling above them. Needs rich."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(console=console, refresh_per_second=12, transient=True)
        self._live.start()

    def line(self, at_s: float, mark: str, text: str, style: str = "") -> None:
        """Add one line to the conversation."""
        from rich.text import Text

        # What rich prints goes to the terminal as it is.
        words = safe_text(text, LINE_LIMIT)
        self._console.print(
            Text.assemble((f"{at_s:6.1f} s  ", "grey50"), f"{mark:8} ", words, style=style)
        )

    def now(self, state: str, level_dbfs: float) -> None:
        """Repaint the light and the meter."""
        from rich.text import Text

        style, bar = STYLES.get(state, "white"), meter(level_dbfs, METER_WIDTH)
        self._live.update(
            Text.assemble(("  ●  ", style), (f"{safe_text(state):10} ", style), (bar, "green"))
        )

    def table(self, sheet: Sheet) -> None:
        """Show a table."""
        from rich.table import Table
        from rich.text import Text

        shown = Table(title=sheet.title, title_justify="left")
        for name in sheet.columns:
            shown.add_column(name, justify="right" if name in sheet.right else "left")
        for row in sheet.rows:
            shown.add_row(*(Text(safe_text(cell)) for cell in row))
        self._console.print(shown)

    def close(self) -> None:
        """Take the live line away."""
        self._live.stop()


class PlainScreen:
    """One line per thing that happens; no colour, no cursor movement, nothing but Python."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, at_s: float, mark: str, text: str, style: str = "") -> None:
        """Add one line to the conversation."""
        del style
        self._write(f"{at_s:6.1f} s  {mark:8} {safe_text(text, LINE_LIMIT)}")

    def now(self, state: str, level_dbfs: float) -> None:
        """Show nothing: a meter makes no sense in a file."""

    def table(self, sheet: Sheet) -> None:
        """Show a table in columns."""
        self._write(f"\n{sheet.title}")
        for row in columns(sheet):
            self._write(row)
        self._write("")

    def close(self) -> None:
        """Do nothing."""

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def columns(sheet: Sheet) -> list[str]:
    """Return the table as lines of text, a rule below the names of the columns."""
    cells: list[Sequence[str]] = [sheet.columns]
    cells += [tuple(safe_text(cell) for cell in row) for row in sheet.rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(sheet.columns))]
    cells.insert(1, tuple("-" * width for width in widths))
    return [
        "  ".join(
            cell.rjust(width) if name in sheet.right else cell.ljust(width)
            for cell, width, name in zip(row, widths, sheet.columns, strict=True)
        ).rstrip()
        for row in cells
    ]


def open_screen() -> Screen:
    """Return the screen that suits standard output; without rich, plain lines do."""
    console = terminal.console()
    return PlainScreen(sys.stdout) if console is None else TerminalScreen(console)
