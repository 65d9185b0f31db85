"""The live view of `agentd status --watch`."""

from __future__ import annotations

import copy
import io
import json
import os
import pty
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agentd.cli.watch import LAST_TURNS, History, meter, picture, plain_line

TURN = {"turn": 4, "speech_ms": 1_500.0, "first_audio_ms": 412.0, "interrupted": False}
STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "uptime_s": 7_500.0,
    "state": "listening",
    "cause": "speech",
    "muted": False,
    "session": {
        "connected": True,
        "connections": 3,
        "resumes": 2,
        "last_resume_ms": 610.0,
        "go_away_in_s": 42.0,
        "retry_in_s": None,
        "handle_age_s": None,
        "trouble": "",
        "tokens": {},
    },
    "audio": {
        "capture": {"device": "mic", "level_dbfs": -30.0, "alive": True, "lost_frames": 0},
        "playback": {"device": "spk", "underruns": 1, "alive": True, "buffered_ms": 250.0},
    },
    "network": {"interface": "wlan0", "online": True, "changes": 1},
    "turns": {"count": 4, "interrupted": 0, "last": TURN},
}


def status(**changes: Any) -> dict[str, Any]:
    """The status with some values changed, by dotted path with two underscores."""
    changed = copy.deepcopy(STATUS)
    for path, value in changes.items():
        *tables, key = path.split("__")
        at = changed
        for table in tables:
            at = at[table]
        at[key] = value
    return changed


def shown(document: dict[str, Any], history: History | None = None) -> str:
    history = history or History()
    history.take(document)
    stream = io.StringIO()
    Console(file=stream, width=110, force_terminal=False).print(picture(document, history))
    return stream.getvalue()


def test_everything_is_on_one_picture() -> None:
    """State, level, speaker, session, network, turns."""
    text = shown(status())
    for words in (
        "● listening  speech",
        "▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▯▯▯▯▯▯▯▯▯▯▯▯▯▯▯▯  -30 dBFS  mic",
        "spk: 1 underrun, 250 ms to play",
        "connected; 3 connections, 2 resumed, last in 0.61 s, ends in 42 s",
        "wlan0",
        "2 h 5 min, agentd 1.2.3",
        "turn 4  1.5 s spoken, first audio after 412 ms",
    ):
        assert words in text, text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"muted": True}, "closed"),
        ({"audio__capture__alive": False}, "mic: opening"),
        (
            {
                "audio__capture__alive": False,
                "audio__capture__trouble": "mic has ended",
                "audio__capture__remedy": "Check its cable",
            },
            "mic: not working: mic has ended. Check its cable",
        ),
        (
            {"audio__playback__trouble": "spk has ended", "audio__playback__remedy": "Look at it"},
            "spk: not working: spk has ended. Look at it",
        ),
        # Without keep_alive it is closed while there is nothing to play.
        ({"audio__playback__alive": False}, "spk: 1 underrun"),
        ({"audio__capture__lost_frames": 7}, "7 frames lost"),
        (
            {"session__connected": False, "session__trouble": "dns", "session__retry_in_s": 5.0},
            "not connected dns, next try in 5 s",
        ),
        ({"network__online": False, "network__interface": ""}, "unknown (offline)"),
        ({"turns__last": None}, "listening"),
        (
            {"turns__last": {**TURN, "first_audio_ms": None, "interrupted": True}},
            "no answer, interr",
        ),
    ],
)
def test_what_is_wrong_is_seen(changes: dict[str, Any], words: str) -> None:
    """Every part has words for its trouble."""
    assert words in shown(status(**changes))


def test_the_last_turns_are_kept() -> None:
    """The newest five, each once."""
    history = History()
    for number in range(8):
        for _ in range(3):
            history.take(status(turns__last={**TURN, "turn": number}))
    assert [turn["turn"] for turn in history.turns] == list(range(8 - LAST_TURNS, 8))


def test_the_meter_is_bounded() -> None:
    """From nothing to full scale."""
    assert meter(-120.0, 4) == "▯▯▯▯"
    assert meter(-30.0, 4) == "▮▮▯▯"
    assert meter(3.0, 4) == "▮▮▮▮"


def test_a_plain_line_does_not_move_with_the_level() -> None:
    """A log of the watch has a line per change, not per second."""
    assert plain_line(status()) == plain_line(
        status(audio__capture__level_dbfs=-11.0, uptime_s=1.0)
    )
    assert plain_line(status()) == ("listening (speech); connected; 3 connections; wlan0; 4 turns")


DOCUMENTS = (status(), status(uptime_s=7_501.0), status(state="thinking", cause="turn"))


@pytest.fixture
def daemon() -> Iterator[Path]:
    """A control socket that answers `watch` with three documents and then goes away."""
    with tempfile.TemporaryDirectory(prefix="watch-") as folder:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder}/control.sock")
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, peer.makefile("rw") as lines:
                asked = json.loads(lines.readline())
                answers = [{"jsonrpc": "2.0", "id": asked["id"], "result": DOCUMENTS[0]}]
                answers += [{"jsonrpc": "2.0", "method": "status", "params": d} for d in DOCUMENTS]
                lines.write("".join(json.dumps(answer) + "\n" for answer in answers))
                lines.flush()

        thread = threading.Thread(target=serve)
        thread.start()
        yield Path(folder)
        thread.join(30)
        listener.close()


def run(folder: Path, *arguments: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentd", "status", "--watch", *arguments],
        env=os.environ | {"RUNTIME_DIRECTORY": str(folder), "TERM": "xterm", "COLUMNS": "110"},
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[1],
        **(streams or {"capture_output": True}),
    )


def test_json_streams(daemon: Path) -> None:
    """One document a line, and the end of the daemon is told."""
    done = run(daemon, "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == list(DOCUMENTS)
    assert (done.returncode, done.stderr) == (1, "agentd has stopped\n")


def test_a_pipe_gets_plain_lines(daemon: Path) -> None:
    """Without colour or cursor movement, and only when something has changed."""
    done = run(daemon)
    assert done.stdout.splitlines() == [plain_line(DOCUMENTS[0]), plain_line(DOCUMENTS[2])]


def test_a_terminal_gets_the_picture(daemon: Path) -> None:
    """On a real pseudo-terminal: colour, meter and the newest state."""
    ours, theirs = pty.openpty()
    done = run(daemon, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # the other end is closed: all was read
            break
        seen += piece
    os.close(ours)
    assert done.returncode == 1
    text = seen.decode()
    assert "thinking" in text
    assert "\x1b[" in text
    assert "▮" in text
