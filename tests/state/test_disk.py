"""Real files: kill -9 at every step, damage of every kind, full and read-only disks (S1, S2)."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentd.clock import SystemClock
from agentd.events import Event, StateQuarantined, StateUnwritable, StateWritable
from agentd.state.files import QUARANTINE_SLOTS, DiskFiles
from agentd.state.paths import runtime_directory, state_directory
from agentd.state.store import StateStore

OLD = {"handle": "old", "padding": "o" * 50_000}
NEW = {"handle": "new", "padding": "n" * 50_000}
STEPS = ["create", "write", "write", "write", "write", "sync", "rename", "sync directory", "done"]

# A daemon that stores OLD whole and dies by SIGKILL at one step of storing NEW.
VICTIM = """
import json, os, signal, sys
from pathlib import Path
from agentd.clock import SystemClock
from agentd.state.files import DiskFiles
from agentd.state.store import StateStore

directory, fatal, old, new = Path(sys.argv[1]), int(sys.argv[2]), *map(json.loads, sys.stdin)
steps = []

def at_step(step) -> None:
    steps.append(step)
    print(step, flush=True)
    if len(steps) > fatal:
        os.kill(os.getpid(), signal.SIGKILL)

first = StateStore(directory, clock=SystemClock(), emit=print)
first.write("handle", old)
first.close()
files = DiskFiles(directory, at_step=at_step)
second = StateStore(directory, clock=SystemClock(), emit=print, files=files)
second.write("handle", new)
second.close()
"""


def open_store(directory: Path) -> tuple[StateStore, list[Event]]:
    """Return a store on `directory` and what it tells."""
    events: list[Event] = []
    return StateStore(directory, clock=SystemClock(), emit=events.append), events


def listing(directory: Path) -> list[str]:
    """Return the names in `directory`."""
    return sorted(path.name for path in directory.iterdir())


def run_victim(directory: Path, fatal: int) -> subprocess.CompletedProcess[str]:
    """Run a process that dies at step number `fatal` of its second write."""
    return subprocess.run(
        [sys.executable, "-c", VICTIM, str(directory), str(fatal)],
        input=f"{json.dumps(OLD)}\n{json.dumps(NEW)}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize("fatal", range(len(STEPS)))
def test_a_kill_at_any_step_leaves_the_old_or_the_new_state(tmp_path: Path, fatal: int) -> None:
    """S1: SIGKILL between any two system calls of a write never tears the file."""
    victim = run_victim(tmp_path, fatal)
    assert victim.returncode == -signal.SIGKILL, victim.stderr
    assert victim.stdout.split("\n")[:-1] == STEPS[: fatal + 1]
    store, events = open_store(tmp_path)
    assert store.read("handle") == (NEW if fatal > STEPS.index("rename") else OLD)
    assert events == []
    store.write("handle", {"handle": "next"})  # nothing left behind is in the way
    store.close()
    assert listing(tmp_path) == ["handle.json"]


def test_a_write_syncs_the_file_before_and_the_directory_after_the_rename(tmp_path: Path) -> None:
    """The order that survives a power cut."""
    steps: list[str] = []
    DiskFiles(tmp_path, at_step=steps.append).replace("handle", b"x" * 50_000)
    assert steps == STEPS


def damaged(data: bytes) -> dict[str, bytes]:
    """Return every kind of damage done to `data`."""
    return {
        "truncated": data[: len(data) // 2],
        "zero length": b"",
        "zeroes": b"\0" * len(data),
        "garbage": os.urandom(500),
        "future version": data.replace(b'"format": 1', b'"format": 9', 1),
        "other document": data.replace(b'"old"', b'"odd"', 1),
    }


@pytest.mark.parametrize("kind", damaged(b""))
def test_a_damaged_file_is_put_aside_and_told_once(tmp_path: Path, kind: str) -> None:
    """S1: truncated, zero-length, garbage and future files cost the state, never the daemon."""
    store, _ = open_store(tmp_path)
    store.write("handle", OLD)
    store.close()
    bad = damaged((tmp_path / "handle.json").read_bytes())[kind]
    (tmp_path / "handle.json").write_bytes(bad)
    store, events = open_store(tmp_path)
    assert store.read("handle") is None
    assert [type(event) for event in events] == [StateQuarantined]
    assert (tmp_path / str(events[0].fields()["aside"])).read_bytes() == bad
    store.write("handle", NEW)
    store.close()
    assert open_store(tmp_path)[0].read("handle") == NEW


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(garbage=st.binary(max_size=300))
def test_no_content_of_a_file_crashes_the_start(tmp_path: Path, garbage: bytes) -> None:
    """Whatever the file holds, reading it yields None and an event."""
    (tmp_path / "handle.json").write_bytes(garbage)
    store, events = open_store(tmp_path)
    assert store.read("handle") is None
    assert [type(event) for event in events] == [StateQuarantined]


def test_quarantine_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    """Ten bad files leave three behind, the last ones."""
    for number in range(10):
        (tmp_path / "handle.json").write_text(f"bad {number}")
        open_store(tmp_path)[0].read("handle")
    kept = sorted(path.read_text() for path in tmp_path.iterdir())
    assert kept == [f"bad {number}" for number in range(10 - QUARANTINE_SLOTS, 10)]


@pytest.mark.parametrize("obstacle", ["fifo", "directory", "symlink"])
def test_what_is_no_file_is_put_aside_without_waiting_on_it(tmp_path: Path, obstacle: str) -> None:
    """A FIFO, a folder or a link in the place of the file is moved, not opened or followed."""
    path = tmp_path / "handle.json"
    if obstacle == "fifo":
        os.mkfifo(path)
    elif obstacle == "directory":
        (path / "inside").mkdir(parents=True)
    else:
        path.symlink_to("/etc/passwd")
    store, events = open_store(tmp_path)
    assert store.read("handle") is None
    assert [type(event) for event in events] == [StateQuarantined]
    store.write("handle", NEW)
    store.close()
    assert stat.S_ISREG(path.lstat().st_mode)


def test_files_and_directory_are_private(tmp_path: Path) -> None:
    """0600 in 0700, whatever the umask and however wide the directory was."""
    directory = tmp_path / "deep" / "state"
    directory.mkdir(parents=True, mode=0o755)
    old = os.umask(0)
    try:
        store, _ = open_store(directory)
        store.write("handle", NEW)
        store.close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "handle.json").stat().st_mode) == 0o600


def test_delete_leaves_nothing_behind(tmp_path: Path) -> None:
    """The file, its temporary and its quarantined copies are gone."""
    for name in ("handle.json", ".handle.json.tmp", "handle.json.bad-1", "handle.json.bad-3"):
        (tmp_path / name).write_text("secret")
    (tmp_path / "device.json").write_text("{}")
    store, _ = open_store(tmp_path)
    store.delete("handle")
    asyncio.run(store.flush())
    assert listing(tmp_path) == ["device.json"]


def test_a_directory_that_vanishes_is_made_again(tmp_path: Path) -> None:
    """S2: rm -rf of the state directory in mid-flight costs nothing."""
    directory = tmp_path / "state"
    store, events = open_store(directory)
    assert store.read("handle") is None
    store.write("handle", OLD)
    asyncio.run(store.flush())
    shutil.rmtree(directory)
    store.write("handle", NEW)
    asyncio.run(store.flush())
    assert open_store(directory)[0].read("handle") == NEW
    assert events == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB that can be filled and remounted read-only."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", mount],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs here (needs root): {made.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


def test_a_full_disk_keeps_the_old_file_whole_and_recovers(small_disk: Path) -> None:
    """S2: ENOSPC for real: memory goes on, told once, no debris, written when there is room."""
    store, events = open_store(small_disk)
    store.write("handle", {"n": 1})
    asyncio.run(store.flush())
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 40_000)
    for _ in range(5):
        store.write("handle", NEW)
        asyncio.run(store.flush())
    assert store.read("handle") == NEW
    assert [type(event) for event in events] == [StateUnwritable]
    assert "No space left" in events[0].message()
    assert listing(small_disk) == ["ballast", "handle.json"]
    assert open_store(small_disk)[0].read("handle") == {"n": 1}
    ballast.unlink()
    asyncio.run(store.flush())
    assert [type(event) for event in events] == [StateUnwritable, StateWritable]
    assert open_store(small_disk)[0].read("handle") == NEW


def test_a_read_only_disk_keeps_talking_from_memory(small_disk: Path) -> None:
    """S2: EROFS for real, as after an SD card error; remounting recovers."""
    store, events = open_store(small_disk)
    store.write("handle", {"n": 1})
    asyncio.run(store.flush())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store.write("handle", {"n": 2})
    store.delete("device")
    asyncio.run(store.flush())
    assert store.read("handle") == {"n": 2}
    assert [type(event) for event in events] == [StateUnwritable]
    assert "Read-only" in events[0].message()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    asyncio.run(store.flush())
    assert open_store(small_disk)[0].read("handle") == {"n": 2}


def test_what_cannot_be_deleted_is_named_and_announced_every_time(small_disk: Path) -> None:
    """Whoever asked to forget hears which file is left; on disk it stays until it can go."""
    store, events = open_store(small_disk)
    store.write("handle", {"n": 1})
    asyncio.run(store.flush())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for _ in range(2):
        store.delete("handle")
        store.delete("never-there")
        failed = asyncio.run(store.flush())
        assert failed == {"handle": f"{small_disk}/handle.json: Read-only file system"}
    assert store.read("handle") is None
    assert [type(event) for event in events] == [StateUnwritable] * 2
    assert f"{small_disk}/handle.json" in events[0].message()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert asyncio.run(store.flush()) == {}
    assert listing(small_disk) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, which writes for another user")
def test_what_root_writes_belongs_to_the_owner_of_the_directory() -> None:
    """`sudo agentd doctor` writes what it measured; the daemon, another user, reads it."""
    daemon_uid = 65_534
    with tempfile.TemporaryDirectory(prefix="two-users-") as folder:
        Path(folder).chmod(0o755)
        directory = Path(folder) / "state"
        directory.mkdir(mode=0o700)
        os.chown(directory, daemon_uid, daemon_uid)
        by_root, events = open_store(directory)
        by_root.write("echo", {"n": 1})
        by_root.close()
        about = (directory / "echo.json").stat()
        assert (about.st_uid, about.st_gid) == (daemon_uid, daemon_uid)
        assert stat.S_IMODE(about.st_mode) == 0o600
        assert listing(directory) == ["echo.json"]
        child = os.fork()
        if child == 0:
            os.setresuid(daemon_uid, daemon_uid, daemon_uid)
            store = open_store(directory)[0]
            good = store.read("echo") == {"n": 1}
            store.write("echo", {"n": 2})
            store.close()
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert open_store(directory)[0].read("echo") == {"n": 2}
        assert events == []


def test_a_disk_that_hangs_does_not_hold_up_the_last_write(tmp_path: Path) -> None:
    """Fsync never returns: `close` gives up, says so, and the document before it is on disk."""
    let_go = threading.Event()
    steps: list[str] = []

    def at_step(step: str) -> None:
        steps.append(step)
        if step == "sync" and steps.count("sync") == 2:
            let_go.wait(60)

    events: list[Event] = []
    store = StateStore(
        tmp_path,
        clock=SystemClock(),
        emit=events.append,
        files=DiskFiles(tmp_path, at_step=at_step),
    )
    for name in ("first", "second", "third"):
        store.write(name, {"n": 1})
    store.close()
    assert [type(event) for event in events] == [StateUnwritable]
    assert "has not returned" in events[0].message()
    assert open_store(tmp_path)[0].read("first") == {"n": 1}
    let_go.set()


def test_garbage_on_a_read_only_disk_is_told_and_survived(small_disk: Path) -> None:
    """What cannot even be put aside does not stop the start."""
    (small_disk / "handle.json").write_text("garbage")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store, events = open_store(small_disk)
    assert store.read("handle") is None
    assert [type(event) for event in events] == [StateUnwritable]


@pytest.mark.parametrize(
    ("environ", "state", "runtime"),
    [
        (
            {"STATE_DIRECTORY": "/var/lib/agentd", "RUNTIME_DIRECTORY": "/run/agentd:/run/x"},
            "/var/lib/agentd",
            "/run/agentd",
        ),
        ({}, "/home/ada/.local/state/agentd", "/home/ada/.local/state/agentd/run"),
        ({"XDG_STATE_HOME": "/x", "XDG_RUNTIME_DIR": "/run/user/7"}, "/x/agentd",
         "/run/user/7/agentd"),
        ({"XDG_STATE_HOME": "rel", "XDG_RUNTIME_DIR": "rel", "STATE_DIRECTORY": "rel"},
         "/home/ada/.local/state/agentd", "/home/ada/.local/state/agentd/run"),
    ],
)  # fmt: skip
def test_directories_come_from_systemd_else_from_the_user(
    environ: dict[str, str], state: str, runtime: str
) -> None:
    """The first of systemd's directories counts; relative values are ignored."""
    home = Path("/home/ada")
    assert state_directory(environ, home) == Path(state)
    assert runtime_directory(environ, home) == Path(runtime)


def test_a_shell_finds_the_socket_of_the_service_if_there_is_one(tmp_path: Path) -> None:
    """Commands look into the service's directory first, then into the user's."""
    home = Path("/home/ada")
    assert runtime_directory({}, home, system=tmp_path) == tmp_path
    absent = tmp_path / "absent"
    assert runtime_directory({}, home, system=absent) == home / ".local/state/agentd/run"
