"""The daemon as its household has it: a process, its sound, its log, its socket, its manager.

Everything is waited for, nothing is slept for; a wait that fails shows what the daemon said last.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from agentd.service.client import SOCKET_NAME, ControlClient
from live_emulator import Emulator
from rig.recording import Recorder
from rig.sound import SoundRig

DEADLINE_S = 60.0
"""For everything that is waited for: the machine may be busy with something else."""
TEST_S = 150.0
"""For a whole test; pytest's own time-out ends the process half a minute later."""
POLL_S = 0.05
UNIT_NICE = -5
API_KEY = "AIza-this-key-must-never-be-seen"

Config = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine; one that hangs shows where everybody stands before it is ended."""

    async def bounded() -> None:
        late = asyncio.get_running_loop().call_later(TEST_S, show_where_everybody_stands)
        try:
            async with asyncio.timeout(TEST_S + 1):
                await main
        finally:
            late.cancel()

    asyncio.run(bounded())


def show_where_everybody_stands() -> None:
    """Print the stack of every task and every thread."""
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()
    # By its number: pytest captures that one, and `sys.stderr` may be none.
    faulthandler.dump_traceback(file=2)


def merged(*configs: Config) -> dict[str, dict[str, Any]]:
    """Return one configuration of several; later ones win. None takes a key away."""
    result: dict[str, dict[str, Any]] = {}
    for config in configs:
        for section, keys in config.items():
            result.setdefault(section, {}).update(keys)
    return result


def toml(config: Config) -> str:
    """Return a configuration as TOML; strings, lists and numbers look as in JSON."""
    lines = []
    for section, keys in config.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(v)}" for key, v in keys.items() if v is not None]
    return "\n".join(lines) + "\n"


class Home:
    """What outlives a run of the daemon: configuration, state, and where its sockets are."""

    def __init__(self, folder: Path, config: Config, environment: Mapping[str, str]) -> None:
        self.config_file = folder / "agentd.toml"
        self.state = folder / "state"
        self.state.mkdir()
        self._sockets = tempfile.TemporaryDirectory(prefix="e2e-")  # a short path, as sockets need
        self.runtime = Path(self._sockets.name)
        self.environment = {
            **environment,
            "STATE_DIRECTORY": str(self.state),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "GPIOZERO_PIN_FACTORY": "mock",
            "GEMINI_API_KEY": API_KEY,
        }
        self.config: Config = {}
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Write the configuration file with these keys changed."""
        self.config = merged(self.config, config)
        self.config_file.write_text(toml(self.config), encoding="utf-8")

    def close(self) -> None:
        """Remove the sockets."""
        self._sockets.cleanup()


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the daemon's log."""

    name: str
    wall_s: float
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.fields[key]


class Speaker:
    """One run of `agentd run`."""

    def __init__(self, home: Home, *prefix: str) -> None:
        """Run it in this home; `prefix` is a program that starts it, such as prlimit."""
        self.home = home
        self._prefix = prefix
        self.events: list[Event] = []
        self.output: list[str] = []
        """Every line that the daemon wrote, to either stream."""
        self.stray: list[str] = []
        """Lines that are no events: nothing should ever write them."""
        self.notified: list[str] = []
        self._changed = asyncio.Event()
        self._process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._notify: socket.socket | None = None

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the process; return at once."""
        environment = dict(self.home.environment)
        path = self.home.runtime / "notify"
        path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notify.bind(str(path))
        environment["NOTIFY_SOCKET"] = str(path)
        asyncio.get_running_loop().add_reader(self._notify, self._take_notification)
        self._process = await asyncio.create_subprocess_exec(
            # A test run that is killed leaves no daemon behind.
            *("setpriv", "--pdeathsig", "KILL", *self._prefix),
            *(sys.executable, "-m", "agentd", "run"),
            *("--config", str(self.home.config_file)),
            env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        with contextlib.suppress(PermissionError):  # root may: as the unit does
            os.setpriority(os.PRIO_PROCESS, self._process.pid, UNIT_NICE)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            self._readers.append(asyncio.create_task(self._read(stream)))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            self.output.append(line)
            try:
                told = json.loads(line)
                time = datetime.fromisoformat(told["time"]).timestamp()
                self.events.append(Event(told["event"], time, told))
            except (ValueError, KeyError, TypeError):
                self.stray.append(line)
            self._changed.set()
        self._changed.set()

    def _take_notification(self) -> None:
        assert self._notify is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notified += self._notify.recv(65_536).decode().splitlines()
                self._changed.set()

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Say whether the process lives."""
        return self._process is not None and self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def exit_status(self, timeout_s: float = DEADLINE_S) -> int:
        """Wait for the end of the process and of its output."""
        assert self._process is not None
        async with asyncio.timeout(timeout_s):
            status = await self._process.wait()
            await asyncio.gather(*self._readers)
        if self._notify is not None:
            self._take_notification()
            asyncio.get_running_loop().remove_reader(self._notify)
            self._notify.close()
            self._notify = None
        return status

    async def stop(self) -> int:
        """Ask the daemon to end, as systemd does; return its exit status."""
        self.signal(signal.SIGTERM)
        return await self.exit_status()

    async def kill(self) -> None:
        """Cut the power."""
        if self.running:
            self.signal(signal.SIGKILL)
        await self.exit_status()

    # --- what it says --------------------------------------------------------------------------

    def mark(self) -> int:
        """Return a point in the log, for `since`."""
        return len(self.events)

    def told(self, name: str, *, since: int = 0, **fields: object) -> list[Event]:
        """Return the events of a name with these fields, oldest first."""
        return [
            event
            for event in self.events[since:]
            if event.name == name and all(event.fields.get(k) == v for k, v in fields.items())
        ]

    async def wait_event(self, name: str, *, since: int = 0, **fields: object) -> Event:
        """Return the first such event, past or to come."""
        what = f"{name} {fields or ''}"
        return (await self.until(lambda: self.told(name, since=since, **fields), what))[0]

    async def wait_notified(self, message: str) -> None:
        """Wait until the service manager was told something."""
        await self.until(lambda: message in self.notified, message)

    async def until(self, found: Callable[[], T], what: str) -> T:
        """Wait until the daemon's words make something true; return that."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (result := found()):
                    if all(reader.done() for reader in self._readers):
                        raise AssertionError(f"ended without {what}\n{self.last_words()}")
                    self._changed.clear()
                    await self._changed.wait()
                return result
        except TimeoutError:
            raise AssertionError(f"no {what} in time\n{self.last_words()}") from None

    def last_words(self) -> str:
        """Return the end of the output, for a failing test; of a crash, all from its first line."""
        fatal = [at for at, line in enumerate(self.output) if line.startswith("Fatal Python")]
        return "\n".join(self.output[min([*fatal, max(len(self.output) - 60, 0)]) :])

    # --- what it is asked ----------------------------------------------------------------------

    async def control(self, method: str, **params: object) -> Any:
        """Call a method on the control socket, as `agentd mute` and the others do."""

        def call() -> Any:
            with ControlClient(self.home.runtime / SOCKET_NAME) as client:
                return client.call(method, **params)

        return await asyncio.to_thread(call)

    async def hears(self) -> None:
        """Wait until the microphone delivers frames, which after a mute no event tells."""
        before = (await self.control("status"))["audio"]["capture"]["frames"]
        async with asyncio.timeout(DEADLINE_S):
            while (await self.control("status"))["audio"]["capture"]["frames"] <= before:  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)

    async def state(self, wanted: str) -> dict[str, Any]:
        """Wait until the device shows a state; return its status then."""
        await self.until(lambda: self.shown()[-1:] == [wanted], f"state {wanted}")
        status: dict[str, Any] = await self.control("status")
        return status

    def shown(self, since: int = 0) -> list[str]:
        """Return the states that the light has shown, in order."""
        return [event["after"] for event in self.told("state", since=since)]


@contextlib.asynccontextmanager
async def speaking(home: Home) -> AsyncIterator[Speaker]:
    """Run the daemon; at the end it must stop well and must have written nothing but events."""
    speaker = Speaker(home)
    await speaker.start()
    try:
        yield speaker
    except asyncio.CancelledError:
        print(f"ended by the test's time-out; the daemon said last:\n{speaker.last_words()}")
        await speaker.kill()
        raise
    except BaseException:
        await speaker.kill()
        raise
    if speaker.running:
        assert await speaker.stop() == 0, speaker.last_words()
    assert speaker.stray == []
    assert [event for event in speaker.events if "traceback" in event.fields] == []


@contextlib.asynccontextmanager
async def recording(rig: SoundRig, *devices: str) -> AsyncIterator[Recorder]:
    """Record what is said and heard, without holding up what else runs on this loop."""
    recorder = rig.record(*devices)
    await asyncio.to_thread(recorder.__enter__)
    try:
        yield recorder
    finally:
        await asyncio.to_thread(recorder.stop)


PLAIN: Config = {
    "audio": {
        "capture_device": "rig_mic",
        "playback_device": "rig_spk",
        "echo_cancellation": "hardware",  # two sinks share no air
        "volume_percent": 100,
    },
    "vad": {"detector": "webrtc"},
    "gpio": {"status_led": 25, "mute_led": 23},
    "sounds": {"enabled": False},  # what is recorded is the reply alone
    "live": {"dials_per_min": 120},  # faults follow each other more closely than in a year
    "log": {"level": "debug", "format": "json"},
}
"""The configuration of every test, before what it changes."""


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would configure the daemon."""
    prefixes = ("GEMINI_", "GOOGLE_", "AGENTD_", "CREDENTIALS_", "NOTIFY_", "SSL_CERT", "GPIOZERO")
    return {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}


@contextlib.contextmanager
def home(
    folder: Path, emulator: Emulator, config: Config | None = None, rig: SoundRig | None = None
) -> Iterator[Home]:
    """Make a home whose daemon talks to this emulator through the rig's devices, if any."""
    environment = {**clean_environment(), **(rig.env if rig else {"HOME": str(folder)})}
    made = Home(folder, merged(PLAIN, config or {}), environment | emulator.client_environment())
    try:
        yield made
    finally:
        made.close()


def files(microphone: Path, speaker: Path) -> Config:
    """Return the configuration of a room made of WAV files."""
    return {
        "audio": {
            "capture_device": f"file:{microphone}",
            "playback_device": f"file:{speaker}",
        }
    }


def show(text: str) -> None:
    """Print what was measured; `pytest -rP` shows it."""
    print(text)
