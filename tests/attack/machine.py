"""The machine and its people against the real daemon: disks, limits, signals, the socket."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agentd.service.client import SOCKET_NAME, CallFailed
from tests.attack import control, settings_files
from tests.attack.house import Service, house, lives, open_files, served, stops, watch
from tests.attack.services import judge
from tests.attack.target import rng_for
from tests.e2e.driver import Config, Home, Speaker

SERVICE = ("--reply", "tone", "--latency", "0.1", "--no-limits")
DEBUG: Config = {"log": {"level": "debug"}}
IDLE_CLIENTS = 24
LINES = 400
RELOADS = 40
YEAR_S = 365 * 86_400
TIMER_S = 8.0
WALLS = ((-60 * YEAR_S, False), (10 * YEAR_S, True), (-10 * YEAR_S, True), (230 * YEAR_S, False))
"""Seconds off, and whether NTP vouches for that: 1966 is the furthest back that libraries meet."""
TIMER_SCENARIO = f"""\
[[turn]]
tool_call = {{ name = "set_timer", args = {{ seconds = {TIMER_S:.0f} }} }}
say = "It is set."
tone = "0.2s"
"""


@contextlib.asynccontextmanager
async def living(*prefix: str) -> AsyncIterator[tuple[Speaker, Home]]:
    """Run a daemon with a friendly service; at the end one more question is answered."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        async with served(Path(folder), *SERVICE) as service:
            home = house(Path(folder), service.environment, DEBUG)
            async with lives(home, *prefix) as speaker:
                await speaker.wait_event("session_fresh")
                yield speaker, home
                await asks(speaker, "Is all well?")
                await stops(speaker)


async def asks(speaker: Speaker, text: str) -> None:
    """Ask something and wait for the whole answer."""
    since = speaker.mark()
    await speaker.control("say", text=text)
    await speaker.wait_event("turn", since=since, interrupted=False)


@contextlib.contextmanager
def small_disk(place: Path, size: str = "64k") -> Iterator[None]:
    """Put a file system of its own under a directory that is there."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", place], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, how: str) -> None:
    """Make a file system read-only ("ro"), as a kernel does with a bad card, or writable ("rw")."""
    subprocess.run(["mount", "-o", f"remount,{how}", place], check=True)


def can_mount() -> bool:
    """Say whether file systems can be mounted here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder)):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


async def disk_full() -> None:
    """A full disk costs nothing but what would be written; room again, and it is written."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        async with served(Path(folder), *SERVICE) as service:
            home = house(Path(folder), service.environment, DEBUG)
            with small_disk(home.state):
                async with lives(home) as speaker:
                    await speaker.wait_event("session_fresh")
                    filler = home.state / "filler"
                    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                        while file.write(bytes(1024)):
                            pass
                    await asks(speaker, "What is the time?")
                    await speaker.wait_event("state_unwritable")
                    filler.unlink()
                    await speaker.wait_event("state_writable")
                    await asks(speaker, "And now?")
                    await stops(speaker)
                assert sorted(p.suffix for p in home.state.iterdir()) != []


async def disk_read_only() -> None:
    """Nothing is called forgotten that is still on a disk which the kernel made read-only."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        async with served(Path(folder), *SERVICE) as service:
            home = house(Path(folder), service.environment, DEBUG)
            with small_disk(home.state, "1m"):
                async with lives(home) as speaker:
                    await speaker.wait_event("session_fresh")
                    await asks(speaker, "Remember this.")
                    await speaker.control("instruct", text="Be brief.")
                    await speaker.wait_event("handle_stored")
                    remount(home.state, "ro")
                    with pytest.raises(CallFailed) as refused:
                        await speaker.control("forget")
                    assert str(home.state) in str(refused.value)
                    remount(home.state, "rw")
                    await speaker.control("forget")
                    await stops(speaker)


async def few_descriptors() -> None:
    """With hardly any file descriptors left, what needs one more is refused; the rest goes on."""
    async with living("prlimit", "--nofile=28:28") as (speaker, home):
        held: list[socket.socket] = []
        with contextlib.suppress(OSError):  # the queue is full, as it should be
            while len(held) < 20:
                held.append(await asyncio.to_thread(knock, home))
        for client in held:
            client.close()
        await asks(speaker, "Still there?")


async def little_memory() -> None:
    """An address space that is small but enough is enough."""
    async with living("prlimit", f"--as={600 << 20}") as (speaker, _home):
        await asks(speaker, "Still there?")


async def stopped_and_continued() -> None:
    """A process that was stopped for seconds, listening and speaking, goes on where it was."""
    async with living() as (speaker, _home):
        await speaker.control("say", text="A question whose answer takes a while, if you please.")
        await speaker.wait_event("state", after="speaking")
        for _ in range(2):
            speaker.signal(signal.SIGSTOP)
            await asyncio.to_thread(subprocess.run, ["sleep", "6"], check=True)
            speaker.signal(signal.SIGCONT)
            await speaker.control("status")


class WrongTime:
    """The wall clock of a daemon that is started with `prefix`."""

    def __init__(self, folder: Path) -> None:
        library, page = folder / "wrong_time.so", folder / "wrong_time"
        source = Path(__file__).with_name("wrong_time.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        page.write_bytes(struct.pack("=qq", 0, 1))
        with page.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 16)
        self.prefix = ("env", f"LD_PRELOAD={library}", f"WRONG_TIME={page}")

    def be(self, off_s: int, *, synchronised: bool) -> None:
        """Set it so many seconds off."""
        self._page[:] = struct.pack("=qq", off_s, synchronised)


async def clock_jumps() -> None:
    """A wall clock that is set by decades rings no timer early or late, and ends nothing."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        scenario = Path(folder) / "timer.toml"
        scenario.write_text(TIMER_SCENARIO, "utf-8")
        clock = WrongTime(Path(folder))
        async with served(Path(folder), *SERVICE, "--scenario", str(scenario)) as service:
            home = house(Path(folder), service.environment, DEBUG)
            async with lives(home, *clock.prefix) as speaker:
                await speaker.wait_event("session_fresh")
                began_s = time.monotonic()
                await speaker.control("say", text="Eight seconds, please.")
                await speaker.wait_event("timer_set")
                for off_s, synchronised in WALLS:
                    clock.be(off_s, synchronised=synchronised)
                    judge(await watch(speaker, 1.5))
                await speaker.wait_event("ringing")
                assert time.monotonic() - began_s >= TIMER_S, "it rang early"
                await speaker.control("silence")
                for off_s, synchronised in WALLS:
                    await _dials_at(speaker, service, clock, off_s, synchronised=synchronised)
                await asks(speaker, "Is all well?")
                await stops(speaker)


async def _dials_at(
    speaker: Speaker, service: Service, clock: WrongTime, off_s: int, *, synchronised: bool
) -> None:
    """Have it dial at a time at which no certificate is valid; then the time is right again."""
    clock.be(off_s, synchronised=synchronised)
    since = speaker.mark()
    await service.ask("fault", do="reset")
    await speaker.wait_event("disconnected", since=since, phase="handshake")
    judge(await watch(speaker, 0.5))
    clock.be(0, synchronised=True)
    await speaker.control("reload")  # in place of half a minute of patience
    await speaker.until(
        lambda: [
            *speaker.told("session_fresh", since=since),
            *speaker.told("resumed", since=since),
        ],
        "a session at the right time",
    )


async def killed_again_and_again() -> None:
    """Whenever the power goes, the next start finds a whole conversation or none, and says so."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        async with served(Path(folder), *SERVICE) as service:
            home = house(Path(folder), service.environment, DEBUG)
            for turn in range(4):
                speaker = Speaker(home)
                await speaker.start()
                await speaker.wait_notified("READY=1")
                await speaker.control("say", text="Store this.")
                if turn % 2:
                    await speaker.wait_event("turn")
                await speaker.kill()
            async with lives(home) as speaker:
                assert speaker.told("state_quarantined") == []
                await asks(speaker, "What did I say?")
                await stops(speaker)


async def reload_storm() -> None:
    """Reloads at once by signal and by socket, good and bad: one configuration, one microphone."""
    async with living() as (speaker, home):
        before = open_files(speaker.pid)
        rng = rng_for(1, "reloads", 0)
        for turn in range(RELOADS):
            home.configure({"vad": {"hangover_ms": 500 + 10 * turn}})
            if turn % 5 == 4:
                home.config_file.write_text("\n".join(settings_files.lines(rng)), "utf-8")
            speaker.signal(signal.SIGHUP)
            if turn % 3 == 0:
                with contextlib.suppress(CallFailed):
                    await speaker.control("reload")
        home.configure({"vad": {"hangover_ms": 640}})
        await speaker.control("reload")
        await speaker.control("mute")
        frames = await counted(speaker)
        assert await counted(speaker) == frames, "a microphone is open after mute"
        await speaker.control("unmute")
        await speaker.hears()
        after = open_files(speaker.pid)
        assert len(after) < len(before) + 4, f"left behind: {sorted(after - before)}"


async def counted(speaker: Speaker) -> int:
    """Return how many frames the microphone has delivered, after some beats of the heart."""
    beats = speaker.notified.count("WATCHDOG=1")
    await speaker.until(lambda: speaker.notified.count("WATCHDOG=1") > beats, "heartbeat")
    return int((await speaker.control("status"))["audio"]["capture"]["frames"])


async def odd_files() -> None:
    """A pipe, a device and a link in circles among the settings: refused, and nothing waits."""
    async with living() as (speaker, home):
        drop_ins = home.config_file.parent / "conf.d"
        drop_ins.mkdir()
        odd: dict[str, Callable[[Path], None]] = {
            "fifo": os.mkfifo,
            "zero": lambda path: path.symlink_to("/dev/zero"),
            "circle": lambda path: path.symlink_to(path.name),
            "folder": lambda path: path.mkdir(),
        }
        for make in odd.values():
            path = drop_ins / "50-odd.toml"
            make(path)
            since = speaker.mark()
            speaker.signal(signal.SIGHUP)
            await speaker.wait_event("config_error", since=since)
            judge(await watch(speaker, 1.0))
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def knock(home: Home) -> socket.socket:
    """Connect to the control socket and say nothing."""
    client = socket.socket(socket.AF_UNIX)
    # Its own timeout would not wait for a place in the queue (connect(2), EAGAIN).
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 5, 0))
    client.connect(str(home.runtime / SOCKET_NAME))
    client.settimeout(5)
    return client


async def idle_clients() -> None:
    """However many members of the group hold the socket, its owner mutes, and is muted."""
    async with living() as (speaker, home):
        held = [await asyncio.to_thread(knock, home) for _ in range(IDLE_CLIENTS)]
        try:
            assert (await speaker.control("mute"))["muted"] is True
            await speaker.control("unmute")
        finally:
            for client in held:
                client.close()


async def deaf_watchers() -> None:
    """Clients that ask to watch and never read are cut off, and cost no memory."""
    async with living() as (speaker, home):
        held = [knock(home) for _ in range(12)]
        for client in held:
            client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "watch"}\n' * 3)
        try:
            judge(await watch(speaker, 6.0))
        finally:
            for client in held:
                client.close()


async def hostile_lines() -> None:
    """Thousands of lines that are nearly requests leave mute, settings and process as they were."""
    async with living() as (speaker, home):
        rng = rng_for(2, "lines", 0)
        target = control.Control()
        harmless = ("status", "volume", "watch", "nothing")

        def throw() -> None:
            for _ in range(LINES // 10):
                with contextlib.suppress(OSError), knock(home) as client:
                    for line in target.make(rng):
                        if not any(name in line for name in control.NAMES if name not in harmless):
                            client.sendall(str(line).encode("latin-1", "replace") + b"\n")
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65_536):
                        pass

        await asyncio.to_thread(throw)
        assert (await speaker.control("status"))["muted"] is False


Fault = Callable[[], Awaitable[None]]
FAULTS: dict[str, Fault] = {
    "disk-full": disk_full,
    "disk-read-only": disk_read_only,
    "few-descriptors": few_descriptors,
    "little-memory": little_memory,
    "stopped": stopped_and_continued,
    "clock-jumps": clock_jumps,
    "killed": killed_again_and_again,
    "reload-storm": reload_storm,
    "odd-files": odd_files,
    "idle-clients": idle_clients,
    "deaf-watchers": deaf_watchers,
    "hostile-lines": hostile_lines,
}
NEEDS_MOUNT = frozenset({"disk-full", "disk-read-only"})
NEEDS_COMPILER = frozenset({"clock-jumps"})


def why_not(name: str) -> str:
    """Return what this machine lacks for a fault; empty: nothing."""
    if name in NEEDS_MOUNT and not can_mount():
        return "file systems cannot be mounted here"
    if name in NEEDS_COMPILER and shutil.which("cc") is None:
        return "there is no C compiler"
    return ""
