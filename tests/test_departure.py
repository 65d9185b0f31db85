"""A stop is a stop, whatever a thread, a name server, a disk or a device does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.service.client import SOCKET_NAME, ControlClient
from agentd.service.departure import LATEST_S, WORD_S, Departure
from tests.e2e.driver import clean_environment

UNIT_S = 10.0
"""TimeoutStopSec of the unit: then it kills."""


def test_the_last_words_are_said_in_order_and_bounded() -> None:
    """One that hangs is given up, one that fails is passed over, and then it leaves."""
    said: list[object] = []
    never = threading.Event()
    departure = Departure(leave=said.append)
    departure.say_at_last(lambda: said.append("first"))
    departure.say_at_last(lambda: never.wait(60))
    departure.say_at_last(lambda: said.append(1 // 0))
    departure.say_at_last(lambda: said.append("last"))
    departure.now(7)
    never.set()
    assert said == ["first", "last", 7]


def test_it_leaves_by_itself_when_nobody_does() -> None:
    """The thread of its own says that it was a stop as it should be."""
    left = threading.Event()
    statuses: list[int] = []

    def leave(status: int) -> None:
        statuses.append(status)
        left.set()

    departure = Departure(leave=leave)
    departure.at_latest(0.0)
    assert left.wait(30)
    assert statuses == [0]


def test_all_of_it_is_within_the_promise() -> None:
    """Five seconds: the wait, and two last words (state and journal) that both hang."""
    assert LATEST_S + 2 * WORD_S < 5.0


# ── the process ───────────────────────────────────────────────────────────────────────────────

HANG = """
import os, threading
def hang(*_, **__):
    os.write(2, b'{"event": "hangs"}\\n')
    threading.Event().wait()
"""
FAULTS = {
    "thread": "import agentd.live.google.connector as c; c._import_sdk = hang",
    "name server": "import socket; socket.getaddrinfo = hang",
    "disk": "import os; os.fsync = hang",
    "reload": "import agentd.daemon as d; first = [d.load]\n"
    "d.load = lambda path: first.pop()(path) if first else hang()",
    "device": (
        "import agentd.audio.files as f; import asyncio; from agentd.waiting import to_its_end\n"
        "async def capture(self, deliver):\n"
        "    try:\n"
        "        self._timeline.begin(); deliver(bytes(640), 0.0, False)\n"
        "        await asyncio.sleep(600)\n"
        "    finally: await to_its_end(asyncio.sleep(600))\n"
        "f.FileCapture.capture = capture"
    ),
    "loop": "import agentd.device.presenter as p; p.Presenter.close = hang",
}
HANGS_BEFORE = {"thread", "name server", "disk", "reload"}
"""Those are waited for; the others hang because of the stop."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A configuration with files as devices, and a service that is nowhere."""
    with wave.open(str(tmp_path / "mic.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    (tmp_path / "agentd.toml").write_text(
        f"""
        [live]
        base_url = "https://speaker.invalid:9"
        [audio]
        capture_device = "file:{tmp_path}/mic.wav"
        playback_device = "file:{tmp_path}/spk.wav"
        [vad]
        detector = "webrtc"
        [log]
        format = "json"
        """
    )
    return tmp_path


def start(home: Path, fault: str) -> subprocess.Popen[str]:
    """Start the daemon with a fault in it."""
    program = f"{HANG}\n{fault}\nimport sys; from agentd.cli.main import main; sys.exit(main())"
    return subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", sys.executable, "-c", program),
            *("run", "--config", str(home / "agentd.toml")),
        ],
        env={
            **clean_environment(),
            "STATE_DIRECTORY": str(home / "state"),
            "RUNTIME_DIRECTORY": str(home),
            "GEMINI_API_KEY": "any-key-will-do",
            "PYTHONUNBUFFERED": "1",
        },
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


def told(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the names of events as they come."""
    assert process.stderr is not None
    for line in process.stderr:
        yield json.loads(line)["event"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_stop_ends_the_process_whatever_hangs(fault: str, home: Path) -> None:
    """Exit 0 before the unit would kill, with `stopping` in the journal and the state on disk."""
    process = start(home, FAULTS[fault])
    events = told(process)
    try:
        seen: list[str] = []
        while "ready" not in seen:
            seen.append(next(events))
        if fault == "reload":
            process.send_signal(signal.SIGHUP)
        if fault == "disk":
            with ControlClient(home / SOCKET_NAME) as client:
                client.call("volume.set", percent=30)
        while fault in HANGS_BEFORE and "hangs" not in seen:
            seen.append(next(events))
        process.send_signal(signal.SIGTERM)
        assert process.wait(UNIT_S) == 0
        seen += list(events)
    finally:
        process.kill()
        process.wait()
    assert "stopping" in seen
    assert ("hangs" in seen) == (fault != "device")
    assert "crash" not in seen


@pytest.mark.slow
def test_a_stop_during_the_start_is_a_stop(home: Path) -> None:
    """The configuration lies on a disk that hangs: nothing has begun, so it simply leaves."""
    slow = (
        'import agentd.config.files as f, sys\ndef load(*_):\n    print(\'{"event": "loading"}\', '
    )
    slow += "file=sys.stderr, flush=True)\n    hang()\nf.load = load"
    process = start(home, slow)
    try:
        assert next(told(process)) == "loading"
        process.send_signal(signal.SIGTERM)
        assert process.wait(UNIT_S) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = " + "9" * 5000, "more than 4300 digits"),
        ("a = " + "[" * 100_000, "nests too deep"),
        (None, "is a pipe, not a file"),
    ],
    ids=["digits", "nesting", "pipe"],
)
def test_a_configuration_that_cannot_be_read_ends_the_start_with_78(
    text: str | None, says: str, home: Path
) -> None:
    """One sentence, and a status on which the unit does not start it again."""
    drop_in = home / "conf.d" / "10-mine.toml"
    drop_in.parent.mkdir()
    if text is None:
        os.mkfifo(drop_in)
    else:
        drop_in.write_text(text)
    process = start(home, "")
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 78
    assert says in complaint
    assert "Traceback" not in complaint
