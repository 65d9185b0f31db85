"""`agentd forget` without a daemon: from the disk, and told file by file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentd.cli.forget import directories, forget_on_disk
from agentd.clock import SystemClock
from agentd.device.mute import Mute
from agentd.errors import StateError
from agentd.eventbus import EventBus
from agentd.events import StateUnwritable
from agentd.live.store import MemoryStore
from agentd.state.store import StateStore
from agentd.tools.device import DeviceTools
from tests.test_reload import house
from tests.virtual import run_virtually

HANDLE = "Cihoandle-that-opens-the-conversation"
SPOKEN = "my PIN is 4711"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory after a conversation, a damaged file and a power cut."""
    directory = tmp_path / "state"
    store = StateStore(directory, clock=SystemClock(), emit=lambda _event: None)
    handles = [{"handle": HANDLE}, {"handle": HANDLE}]
    store.write("session", {"version": 1, "handles": handles, "instruction": SPOKEN})
    store.write("transcript", {"version": 1, "turns": [{"user": SPOKEN, "model": SPOKEN}]})
    store.write("volume", {"percent": 40})
    store.write("mute", {"by": "button"})
    store.close()
    (directory / "session.json.bad-1").write_text(HANDLE)
    (directory / "transcript.json.bad-3").write_text(SPOKEN)
    (directory / ".transcript.json.tmp").write_text(SPOKEN)
    return directory


def everything_in(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


def test_handle_transcript_and_all_their_copies_are_gone(state: Path) -> None:
    """Also what was quarantined and what a power cut left; volume and mute stay."""
    told = "\n".join(forget_on_disk(state))
    left = everything_in(state)
    assert HANDLE.encode() not in left
    assert SPOKEN.encode() not in left
    assert sorted(path.name for path in state.iterdir()) == ["mute.json", "volume.json"]
    assert f"{state / 'session.json'} (2 handles of the session, the instruction" in told
    assert f"{state / 'transcript.json'} (1 turn of transcript)" in told
    for copy in ("session.json.bad-1", "transcript.json.bad-3", ".transcript.json.tmp"):
        assert f"{state / copy} (a damaged copy)" in told
    assert SPOKEN not in told
    assert HANDLE not in told


def test_a_second_time_there_is_nothing(state: Path) -> None:
    """And nothing is claimed."""
    forget_on_disk(state)
    assert forget_on_disk(state) == []
    assert forget_on_disk(state / "missing") == []


def test_damaged_documents_are_deleted_all_the_same(state: Path) -> None:
    """Whoever wants to forget does not care for checksums."""
    (state / "session.json").write_bytes(b"\0garbage")
    assert f"{state / 'session.json'} (0 handles of the session)" in forget_on_disk(state)
    assert not (state / "session.json").exists()


def test_what_cannot_be_deleted_is_told(tmp_path: Path) -> None:
    """A directory in the place of the file: nothing is taken for deleted, and root may help."""
    (tmp_path / "transcript.json").mkdir()
    with pytest.raises(StateError, match="sudo agentd forget"):
        forget_on_disk(tmp_path)


def test_with_a_daemon_what_cannot_be_deleted_is_an_error_that_names_it() -> None:
    """By the socket and by the device's own tool; in memory it is gone, and later all of it is."""

    async def main() -> None:
        async with house() as found:
            await found.microphone.until(1)
            stubborn = found.state / "transcript.json.bad-1"
            (stubborn / "inside").mkdir(parents=True)
            forget = found.daemon.stages.methods()["forget"].handler
            with pytest.raises(StateError, match=f"not deleted: {stubborn}: "):
                await forget({})  # type: ignore[misc]
            told = [event for event in found.events if isinstance(event, StateUnwritable)]
            assert [str(stubborn) in event.cause for event in told] == [True]
            daemon = found.daemon
            bus = EventBus(found.events.append)
            mute = Mute(store=MemoryStore(), bus=bus, apply=lambda _muted: None)
            tools = DeviceTools(daemon.volume, mute, daemon.ringer, daemon.session.forget)
            answer = await tools.forget_conversation({})
            assert str(stubborn) in str(answer["error"])
            assert "forgotten" not in answer
            shutil.rmtree(stubborn)
            assert "turns of transcript" in str(await forget({}))  # type: ignore[misc]

    run_virtually(main())


def test_the_services_directory_and_ones_own_are_searched(tmp_path: Path) -> None:
    """What exists of the two; STATE_DIRECTORY decides alone."""
    own, service = tmp_path / ".local" / "state" / "agentd", tmp_path / "lib"
    assert directories({}, tmp_path, service) == []
    service.mkdir()
    own.mkdir(parents=True)
    assert directories({}, tmp_path, service) == [service, own]
    given = tmp_path / "given"
    assert directories({"STATE_DIRECTORY": str(given)}, tmp_path, service) == [given]


def test_the_command(state: Path, tmp_path: Path) -> None:
    """Exit 0, one line per file; then nothing is left to delete."""
    environ = os.environ | {"STATE_DIRECTORY": str(state), "RUNTIME_DIRECTORY": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-m", "agentd", "forget"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=Path(__file__).parents[1],
        ).stdout
        for _ in range(2)
    ]
    assert outputs[0].count("deleted: ") == 5
    assert outputs[1] == "there was nothing to delete\n"
