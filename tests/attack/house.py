"""The real daemon and a service in a process of its own, for attacks that need both.

Nothing is slept for: what is waited for is an event, an answer, or the end of the attack's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentd.demo.room import write_user
from agentd.demo.script import SPEECH_DIRECTORY
from live_emulator.control import ControlClient as ServiceControl
from tests.e2e.driver import (
    DEADLINE_S,
    PLAIN,
    POLL_S,
    Config,
    Home,
    Speaker,
    clean_environment,
    files,
    merged,
)

ROOT = Path(__file__).parents[2]
STOPS = "STOPS"
WATCHDOG_S = 30
STOP_S = 5.0
"""Within it a stop ends, whatever goes on (docs/operator/service.md)."""
BUSY_S = 2.0
"""Allowed on top of a promise: this machine may be busy with something else."""


class Service:
    """`agentd emulator` as a process."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._options = options
        self._socket = folder / "service.sock"
        self._process: Process | None = None
        self.environment: dict[str, str] = {}
        self.base_url = ""

    async def start(self) -> None:
        """Start it; return when it listens."""
        command = (sys.executable, "-m", "agentd", "emulator", *self._options)
        self._process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", *command, "--control", str(self._socket)),
            stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, cwd=ROOT, env=clean_environment(),
        )  # fmt: skip
        assert self._process.stdout is not None
        ready = json.loads(await self._process.stdout.readline())
        self.environment, self.base_url = ready["environment"], ready["base_url"]

    async def ask(self, command: str, **rest: Any) -> dict[str, Any]:
        """Ask it something over its own control socket."""

        def call() -> dict[str, Any]:
            with ServiceControl(self._socket) as client:
                return client.request(command, **rest)

        return await asyncio.to_thread(call)

    async def behave(self) -> None:
        """End every attack: nothing that is scheduled strikes, and open connections are cut."""
        await self.ask("clear")
        await self.ask("fault", do="heal_handles")
        await self.ask("fault", do="reset")

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()  # it takes its folder along
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


@dataclass
class Measured:
    """What an attack did to the daemon."""

    answers: int = 0
    slowest_s: float = 0.0
    starved_s: float = 0.0
    stop_ms: int = 0
    """The longest turn of its event loop, in processor time."""
    grown_mib: float = 0.0

    def __str__(self) -> str:
        return (
            f"slowest answer {self.slowest_s:.2f} s, longest without heartbeat"
            f" {self.starved_s:.1f} s, longest stop {self.stop_ms} ms of processor,"
            f" +{self.grown_mib:.0f} MiB"
        )


def house(folder: Path, environment: Mapping[str, str], config: Config | None = None) -> Home:
    """Make a home with a silent room, whose daemon feeds a watchdog."""
    microphone = folder / "mic.wav"
    write_user(microphone, SPEECH_DIRECTORY, [])
    room = files(microphone, folder / "speaker.wav")
    own = {
        "HOME": str(folder),
        "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000),
        "PYTHONPATH": str(Path(__file__).parent / "within"),
        STOPS: str(folder / "stops"),
    }
    plain = clean_environment() | own | dict(environment)
    return Home(folder, merged(PLAIN, room, {"log": {"level": "info"}}, config or {}), plain)


@contextlib.asynccontextmanager
async def served(folder: Path, *options: str) -> AsyncIterator[Service]:
    """Run a service."""
    service = Service(folder, *options)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


@contextlib.asynccontextmanager
async def lives(home: Home, *prefix: str) -> AsyncIterator[Speaker]:
    """Run the daemon; whatever happens, it is gone afterwards, and it wrote nothing but events."""
    speaker = Speaker(home, *prefix)
    await speaker.start()
    try:
        await speaker.wait_notified("READY=1")
        yield speaker
    finally:
        if speaker.running:
            await speaker.kill()
        home.close()
    assert speaker.stray == [], f"wrote {speaker.stray[0][:300]!r}"
    crashed = [event for event in speaker.events if "traceback" in event.fields]
    assert crashed == [], f"{crashed[0].name}: {crashed[0]['traceback'][-600:]}"


def resident_mib(pid: int, *, peak: bool = False) -> float:
    """Return the memory of a process, now or at its peak since `forget_peak`."""
    field = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def forget_peak(pid: int) -> None:
    """Let the peak begin anew (proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


async def watch(speaker: Speaker, seconds: float) -> Measured:
    """Use the daemon for so long as its owner does; measure how it fares meanwhile."""
    found = Measured()
    noted = len(stops_ms(speaker))
    forget_peak(speaker.pid)
    before, began = resident_mib(speaker.pid), time.monotonic()
    fed, fed_at = speaker.notified.count("WATCHDOG=1"), began
    while time.monotonic() - began < seconds:
        asked = time.monotonic()
        muted = found.answers % 4 == 2
        if found.answers % 2:
            await speaker.control("status")
        else:
            await speaker.control("mute" if muted else "unmute")
        now = time.monotonic()
        found.answers += 1
        found.slowest_s = max(found.slowest_s, now - asked)
        count = speaker.notified.count("WATCHDOG=1")
        if count != fed:
            fed, fed_at = count, now
        found.starved_s = max(found.starved_s, now - fed_at)
        found.grown_mib = max(found.grown_mib, resident_mib(speaker.pid, peak=True) - before)
        await asyncio.sleep(0.05)  # an owner, no flood
    await speaker.control("unmute")
    found.stop_ms = max(stops_ms(speaker)[noted:], default=0)
    return found


def stops_ms(speaker: Speaker) -> list[int]:
    """Return how long the loop of a daemon has stood still, each time that it was long."""
    return [int(line) for line in Path(speaker.home.environment[STOPS]).read_text().splitlines()]


async def is_answered(speaker: Speaker, text: str) -> None:
    """Ask something and wait until a turn more is over.

    By the status: after a flood the journal's rate limit leaves events of the same kind out.
    """
    before = (await speaker.control("status"))["turns"]["count"]
    await speaker.control("say", text=text)
    async with asyncio.timeout(DEADLINE_S):
        while (await speaker.control("status"))["turns"]["count"] <= before:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)


async def stops(speaker: Speaker) -> float:
    """Stop it as systemd does; return how long that took."""
    began = time.monotonic()
    status = await speaker.stop()
    took = time.monotonic() - began
    assert status == 0, f"exit status {status}\n{speaker.last_words()}"
    assert took < STOP_S + BUSY_S, f"a stop took {took:.1f} s"
    return took


def open_files(pid: int) -> set[str]:
    """Return the descriptors of a process, with what each of them is."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.add(f"{link.name}: {link.readlink()}")
    return found
