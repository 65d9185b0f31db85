"""One daemon in one place: the second one learns who is there, and leaves."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentd.cli.forget import forget_on_disk
from agentd.clock import FakeClock
from agentd.errors import AlreadyRunning
from agentd.service import sole
from agentd.service.sole import Place
from agentd.state.store import StateStore

HOLD = """\
import sys
from pathlib import Path
from agentd.service.sole import Place
place = Place(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def held_by_another(state: Path) -> subprocess.Popen[bytes]:
    """Return a process that holds a state directory until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_the_second_is_told_whose_the_directory_is(tmp_path: Path) -> None:
    """The sentence names process and directory, and what to do; the first goes on."""
    process = held_by_another(tmp_path)
    try:
        with pytest.raises(AlreadyRunning) as refused:
            Place.take(tmp_path, tmp_path / "run/control.sock")
        told = str(refused.value)
        assert re.match(rf"another agentd runs already: process {process.pid} has ", told)
        assert str(tmp_path) in told
        assert f"kill {process.pid}" in told
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    Place.take(tmp_path, tmp_path / "run/control.sock").leave()  # however the first has ended


def test_where_the_kernel_does_not_say_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc/locks it is another process; that is enough to leave."""
    monkeypatch.setattr(sole, "LOCKS", tmp_path / "none")
    with (
        Place.take(tmp_path, tmp_path / "control.sock"),
        pytest.raises(AlreadyRunning, match=r"another process has .* agentd[)][.] Two can"),
    ):
        Place(tmp_path, patience_s=0.0)


def test_a_socket_with_a_listener_is_taken(tmp_path: Path) -> None:
    """Also with another state directory, and also when its queue is full."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with pytest.raises(AlreadyRunning, match=rf"process {os.getpid()} has {path}"):
            Place.take(tmp_path / "state", path)
        with pytest.raises(AlreadyRunning, match="another process has"):  # nobody accepts
            Place.take(tmp_path / "state", path)
    Place.take(tmp_path / "state", path).leave()  # a file that nobody listens on is no daemon


@pytest.mark.parametrize("place", ["state", "missing/deeper", "file/state"])
def test_what_cannot_be_held_is_used_all_the_same(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No directory, a file in the way, no locks: the daemon starts, and says so when it writes."""

    def no_locks(_descriptor: int, _how: int) -> None:
        raise OSError(95, "Operation not supported")

    if place == "state":
        monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / "file").write_text("")
    with Place.take(tmp_path / place, tmp_path / "file/control.sock"):
        pass


def test_a_lock_of_a_moment_is_waited_for(tmp_path: Path) -> None:
    """`agentd forget` has the directory for a moment; a daemon that starts then starts."""
    process = held_by_another(tmp_path)
    assert process.stdin is not None
    process.stdin.close()  # it ends now, and lets go a little later
    with Place(tmp_path, patience_s=60.0):
        process.wait()


def test_nothing_is_forgotten_under_a_daemon_that_takes_no_commands(tmp_path: Path) -> None:
    """It would write the conversation anew: who asked is told to stop it first."""
    store = StateStore(tmp_path, clock=FakeClock(), emit=lambda _event: None)
    store.write("session", {"handles": []})
    asyncio.run(store.flush())
    with Place(tmp_path), pytest.raises(AlreadyRunning, match="stop it first"):
        forget_on_disk(tmp_path)
    assert (tmp_path / "session.json").exists()
    assert forget_on_disk(tmp_path) != []
    assert not (tmp_path / "session.json").exists()


@pytest.mark.slow
def test_a_second_daemon_ends_with_a_sentence(tmp_path: Path) -> None:
    """Exit status 1, one line, and no microphone opened."""
    settings = '[audio]\ncapture_device = "file:/dev/null"\n'
    (tmp_path / "agentd.toml").write_text(settings)
    with Place(tmp_path):
        began = time.monotonic()
        second = subprocess.run(
            [sys.executable, "-m", "agentd", "run", "--config", tmp_path / "agentd.toml"],
            env=os.environ | {"STATE_DIRECTORY": str(tmp_path), "RUNTIME_DIRECTORY": "/nowhere"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert time.monotonic() - began > sole.PATIENCE_S
    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr.count("\n") == 1
    assert second.stderr.startswith("agentd: another agentd runs already: process")
