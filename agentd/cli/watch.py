"""`agentd status --watch`: the device, live, in a terminal; plain lines or JSON elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.cli.describe import NOT_A_STATUS, describe
from agentd.errors import EXIT_FAILURE, ControlError
from agentd.service import terminal
from agentd.service.client import ControlClient
from agentd.service.statustext import duration_text, not_working, session_counts, was_answered
from agentd.text import counted, json_text

if TYPE_CHECKING:
    from rich.console import RenderableType

METER_WIDTH = 32
METER_FLOOR_DBFS = -60.0
LAST_TURNS = 5
CLEAR = "\x1b[H\x1b[2J"

STYLES = {
    "idle": "grey50",
    "starting": "white",
    "listening": "bold cyan",
    "thinking": "cyan",
    "speaking": "bright_cyan",
    "follow_up": "dark_cyan",
    "offline": "dark_orange",
    "failed": "red",
    "ringing": "bold white",
    "volume": "white",
    "muted": "bold red",
    "fatal": "bold red",
}

Status = Mapping[str, Any]
Show = Callable[[Status], None]


def watch(path: Path, *, as_json: bool) -> int:
    """Show the status whenever it changes, until the daemon stops or Ctrl-C."""
    with ControlClient(path) as client:
        documents = client.watch()
        if as_json:
            _each(documents, lambda status: print(json_text(status), flush=True))
        elif terminal.can_be_painted(sys.stdout):
            _on_terminal(documents)
        else:
            _each(documents, _changes())
    print("agentd has stopped", file=sys.stderr)
    return EXIT_FAILURE


def _each(documents: Iterator[Status], show: Show) -> None:
    for status in documents:
        try:
            show(status)
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
            raise ControlError(NOT_A_STATUS) from None


def _on_terminal(documents: Iterator[Status]) -> None:
    console = terminal.console()
    if console is None:  # no rich: the same facts, without colour
        out = terminal.raw(sys.stdout)
        _each(documents, lambda status: print(f"{CLEAR}{describe(status)}", file=out, flush=True))
        return
    from rich.live import Live

    history = History()
    with Live(console=console, auto_refresh=False, screen=False, transient=False) as live:

        def show(status: Status) -> None:
            history.take(status)
            live.update(picture(status, history), refresh=True)

        _each(documents, show)


def _changes() -> Show:
    """Return a function that prints a line when something other than a level has changed."""
    last = ""

    def show(status: Status) -> None:
        nonlocal last
        line = plain_line(status)
        if line != last:
            last = line
            print(line, flush=True)

    return show


def plain_line(status: Status) -> str:
    """Return the status as one line without figures that move all the time."""
    session, network, turns = status["session"], status["network"], status["turns"]
    connected = "connected" if session["connected"] else f"not connected {session['trouble']}"
    devices = status["audio"]["capture"], status["audio"]["playback"]
    lost = [f"{one['device']}: {not_working(one)}" for one in devices if not_working(one)]
    parts = (
        f"{status['state']} ({status['cause']})",
        *lost,
        connected.strip(),
        counted(session["connections"], "connection"),
        network["interface"],
        counted(turns["count"], "turn"),
    )
    return "; ".join(part for part in parts if part)


class History:
    """The last turns, collected while watching."""

    def __init__(self) -> None:
        self.turns: list[Status] = []

    def take(self, status: Status) -> None:
        """Note the last turn if it is a new one."""
        last = status["turns"]["last"]
        if last and (not self.turns or self.turns[-1]["turn"] != last["turn"]):
            self.turns = [*self.turns, last][-LAST_TURNS:]


def meter(level_dbfs: float, width: int = METER_WIDTH) -> str:
    """Return a bar for a level between the meter's floor and full scale."""
    share = max(0.0, min(1.0, 1.0 - level_dbfs / METER_FLOOR_DBFS))
    full = round(share * width)
    return "▮" * full + "▯" * (width - full)


def picture(status: Status, history: History) -> RenderableType:
    """Return the status as something rich can show."""
    from rich.table import Table
    from rich.text import Text

    capture, playback = status["audio"]["capture"], status["audio"]["playback"]
    session, network = status["session"], status["network"]
    style = STYLES.get(status["state"], "white")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="grey50", justify="right")
    grid.add_column()
    cause = f"  {status['cause']}".replace("_", " ")
    grid.add_row(
        "state", Text.assemble(("● ", style), (status["state"].replace("_", " "), style), cause)
    )
    grid.add_row("microphone", _level(status["muted"], capture))
    grid.add_row("speaker", _speaker(playback))
    grid.add_row("session", _session(session))
    online = {True: "", False: " (offline)", None: ""}[network["online"]]
    grid.add_row("network", Text(f"{network['interface'] or 'unknown'}{online}"))
    grid.add_row("up", Text(f"{duration_text(status['uptime_s'])}, agentd {status['version']}"))
    for turn in history.turns:
        grid.add_row(Text(f"turn {turn['turn']}"), _turn(turn))
    return grid


def _level(muted: bool, capture: Status) -> RenderableType:
    from rich.text import Text

    if muted:
        return Text("closed", style="bold red")
    if not capture["alive"]:
        return Text(f"{capture['device']}: {not_working(capture) or 'opening'}", style="red")
    if capture.get("trouble"):
        return Text(f"{capture['device']}: {not_working(capture)}", style="yellow")
    level = capture["level_dbfs"]
    colour = "red" if level > -3 else "yellow" if level > -12 else "green"
    lost = f"  {counted(capture['lost_frames'], 'frame')} lost" if capture["lost_frames"] else ""
    return Text.assemble((meter(level), colour), f" {level:4.0f} dBFS  {capture['device']}{lost}")


def _speaker(playback: Status) -> RenderableType:
    from rich.text import Text

    if trouble := not_working(playback):
        return Text(f"{playback['device']}: {trouble}", style="red")
    waiting = f", {playback['buffered_ms']:.0f} ms to play" if playback["buffered_ms"] else ""
    return Text(f"{playback['device']}: {counted(playback['underruns'], 'underrun')}{waiting}")


def _session(session: Status) -> RenderableType:
    from rich.text import Text

    counts = session_counts(session)
    if session["connected"]:
        ends = session["go_away_in_s"]
        soon = f", ends in {ends:.0f} s" if ends is not None else ""
        return Text(f"connected; {counts}{soon}", style="green")
    retry = session["retry_in_s"]
    when = f", next try in {retry:.0f} s" if retry is not None else ""
    return Text(f"not connected {session['trouble']}{when}; {counts}", style="dark_orange")


def _turn(turn: Status) -> RenderableType:
    from rich.text import Text

    answered = (
        f"first audio after {turn['first_audio_ms']:.0f} ms"
        if was_answered(turn["first_audio_ms"])
        else "no answer"
    )
    broken = ", interrupted" if turn["interrupted"] else ""
    return Text(f"{turn['speech_ms'] / 1000:.1f} s spoken, {answered}{broken}")
