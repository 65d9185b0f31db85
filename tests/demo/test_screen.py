"""The demo's two screens."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agentd.demo.report import Delivery, table
from agentd.demo.screen import PlainScreen, TerminalScreen, open_screen
from agentd.demo.script import SpokenLine
from agentd.events import TurnEnded

ESCAPE = "\x1b]0;title\x07\u202eevil\nnew line"


def turn(first_audio_ms: float, heard_ms: float) -> TurnEnded:
    return TurnEnded(
        turn=1, speech_ms=900, first_audio_ms=first_audio_ms, reply_ms=0, heard_ms=heard_ms,
        interrupted=False, prompt_tokens=1, response_tokens=1,
    )  # fmt: skip


DELIVERIES = [
    Delivery(SpokenLine(0.0, ("Front_Left",), "an ordinary turn"), 1, 1, turn(210.0, 1500.0)),
    Delivery(SpokenLine(0.0, ("Rear_Left",), "lost"), 0, 0, turn(-1.0, 0.0)),
    Delivery(SpokenLine(0.0, ("Side_Left",), "once and again"), 2, 2, None),
]


def test_plain_columns_need_no_library() -> None:
    """Figures to the right, a rule below the names, singular and plural."""
    stream = io.StringIO()
    PlainScreen(stream).table(table(DELIVERIES))
    lines = stream.getvalue().splitlines()
    assert lines[1] == "What was said, and what became of it"
    assert lines[4].split() == "Front left an ordinary turn 1 whole 210 ms 1.5 s".split()
    assert lines[5].split()[-5:] == "– 0 times – 0.0 s".split()[-5:]
    assert lines[6].split()[-4:] == "2 times – –".split()
    assert len({line.rindex("s") for line in (lines[4], lines[5])}) == 1


def test_neither_screen_passes_on_what_steers_a_terminal() -> None:
    """Whatever a transcript holds, it stays one line of text."""
    plain, painted = io.StringIO(), io.StringIO()
    PlainScreen(plain).line(1.0, "you", ESCAPE)
    screen = TerminalScreen(Console(file=painted, width=100, force_terminal=False))
    screen.line(1.0, "you", ESCAPE)
    screen.now(ESCAPE, -20.0)
    screen.table(table(DELIVERIES))
    screen.close()
    assert plain.getvalue() == "   1.0 s  you      ]0;title evil new line\n"
    for text in (plain.getvalue(), painted.getvalue()):
        assert all(line.isprintable() for line in text.split("\n"))


def test_without_rich_plain_lines_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal, too."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("agentd.service.terminal.can_be_painted", lambda _stream: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    screen = open_screen()
    screen.line(1.0, "you", "hello")
    assert isinstance(screen, PlainScreen)
    assert capsys.readouterr().out == "   1.0 s  you      hello\n"
