"""What `agentd demo` shows: a live line under the conversation on a terminal, else plain lines."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agentd.watch import STYLES, meter

METER_WIDTH = 24


class Screen(Protocol):
    """Somewhere to show a conversation."""

    def line(self, at_s: float, mark: str, text: str, style: str = "") -> None:
        """Add one line to the conversation."""

    def now(self, state: str, level_dbfs: float) -> None:
        """Show the present state of the light and the microphone's level."""

    def table(self, table: Table) -> None:
        """Show a table."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class TerminalScreen:
    """Colours, a moving meter, and the conversation scrolling above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=12, transient=True)
        self._live.start()

    def line(self, at_s: float, mark: str, text: str, style: str = "") -> None:
        """Add one line to the conversation."""
        self._console.print(
            Text.assemble((f"{at_s:6.1f} s  ", "grey50"), f"{mark:8} ", text, style=style)
        )

    def now(self, state: str, level_dbfs: float) -> None:
        """Repaint the light and the meter."""
        style, bar = STYLES.get(state, "white"), meter(level_dbfs, METER_WIDTH)
        self._live.update(Text.assemble(("  ●  ", style), (f"{state:10} ", style), (bar, "green")))

    def table(self, table: Table) -> None:
        """Show a table."""
        self._console.print(table)

    def close(self) -> None:
        """Take the live line away."""
        self._live.stop()


class PlainScreen:
    """One line per thing that happens; no colour, no cursor movement."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, at_s: float, mark: str, text: str, style: str = "") -> None:
        """Add one line to the conversation."""
        del style
        self._console.print(Text(f"{at_s:6.1f} s  {mark:8} {text}"), soft_wrap=True)

    def now(self, state: str, level_dbfs: float) -> None:
        """Show nothing: a meter makes no sense in a file."""

    def table(self, table: Table) -> None:
        """Show a table."""
        self._console.print(table)

    def close(self) -> None:
        """Do nothing."""


def open_screen() -> Screen:
    """Return the screen that suits standard output."""
    console = Console(highlight=False)
    if console.is_terminal:
        return TerminalScreen(console)
    return PlainScreen(Console(highlight=False, width=100))
