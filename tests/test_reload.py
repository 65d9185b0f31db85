"""Reload, mute, unmute, unplug, plug and stop in any order, while devices take their time."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd import events as e
from agentd.audio.fakes import FakeCapture, FakePlayback
from agentd.config.files import Loaded, parse
from agentd.config.settings import Settings
from agentd.daemon import Daemon, Parts
from agentd.device.leds import NoLights
from agentd.errors import CaptureFailed, ConfigError, ConfigProblem
from agentd.live.commands import SetupPlan
from agentd.live.connection import Connection
from agentd.service.journal import Journal
from agentd.service.notify import Notifier
from agentd.service.outlets import MemoryOutlet
from agentd.service.reload import READ_S, Reloader
from agentd.service.startup import SETTLE_S
from agentd.sound import Sound
from agentd.stage import Absent, Configured, Slot
from tests.virtual import LoopClock, run_virtually

SLOWEST_S = 3.0
SETTLED_S = 30.0
"""Long enough for every retry, however slow the devices."""

VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"audio": {"capture_gain_db": 3.0}},
    {"vad": {"aggressiveness": 3}},
    {"gpio": {"button": 5}},
    {"gpio": {"button": 5, "button_mode": "push-to-talk"}},
    {"network": {"debounce_ms": 100}},
)
BASE: dict[str, dict[str, Any]] = {
    "audio": {"echo_cancellation": "hardware", "mixer_control": "software"},
    "vad": {"detector": "webrtc"},
    "sounds": {"enabled": False},
    "network": {"monitor": False},
}


def made(variant: dict[str, Any]) -> Settings:
    """Return settings, changed by a variant."""
    tables = [(Path("base"), BASE), (Path("variant"), variant)]
    return parse(tables)


class NoService:
    """A connector whose dials take for ever."""

    async def warm_up(self) -> None:
        """Do nothing."""

    async def connect(self, plan: SetupPlan) -> Connection:
        """Never come back."""
        del plan
        await asyncio.Event().wait()
        raise AssertionError


@dataclass
class Microphone(FakeCapture):
    """Notes whether it was opened when it may not be."""

    may_open: Callable[[], bool] = lambda: True
    opened_wrongly: int = 0

    async def until_closed(self) -> None:
        """Wait until it is closed."""
        while self.is_open:
            self.changed.clear()
            await self.changed.wait()

    def _on_open(self) -> None:
        self.opened_wrongly += not self.may_open()


class House:
    """A daemon on fakes, and what is asked of it."""

    def __init__(self, folder: Path, opening_s: float, closing_s: float) -> None:
        self.wanted = made({})
        self.state = folder / "state"
        self.microphone = Microphone(opening_s=opening_s, closing_s=closing_s)
        self.speaker = FakePlayback(opening_s=opening_s, closing_s=closing_s)
        self.events: list[e.Event] = []
        self.outlet = MemoryOutlet()
        self.settled: list[float] = []
        clock = LoopClock()
        self.daemon = Daemon(
            Loaded(self.wanted, ()),
            journal=Journal(self.outlet, clock=clock, level="debug"),
            notifier=Notifier(None),
            clock=clock,
            reload_from=lambda: Loaded(self.wanted, ()),
            parts=Parts(
                devices=(self.microphone, self.speaker),
                connector=NoService(),
                lights=lambda _settings, _emit: NoLights(),
                state_directory=self.state,
                control_path=folder / "control.sock",
                observers=(self.events.append,),
                once_settled=self._settle,
            ),
        )
        self.microphone.may_open = lambda: not self.muted
        self._asked: set[asyncio.Task[str]] = set()

    def _settle(self) -> None:
        self.settled.append(asyncio.get_running_loop().time())

    @property
    def muted(self) -> bool:
        return bool(self.daemon.status()["muted"])

    def do(self, what: str, number: int) -> None:
        """Do one thing without waiting for it."""
        match what:
            case "reload":
                self.wanted = made(VARIANTS[number % len(VARIANTS)])
                self._asked.add(asyncio.create_task(self.daemon.reloader.reload()))
            case "mute" | "unmute":
                self.daemon.mute.ask(what == "mute", by="control")
            case "unplug":
                self.microphone.fails_to_open = CaptureFailed("the microphone is gone. Plug it in")
                if self.microphone.is_open and not self.microphone.broken:
                    self.microphone.fail(self.microphone.fails_to_open)
            case "plug":
                self.microphone.fails_to_open = None
            case "stop":
                self.daemon.stop("test")

    def tasks(self, name: str) -> int:
        return sum(task.get_name() == name for task in asyncio.all_tasks())

    def check(self) -> None:
        """Hold what must be true at every moment."""
        assert self.microphone.most_open <= 1
        assert self.speaker.most_open <= 1
        assert self.microphone.opened_wrongly == 0
        assert self.tasks("Sound") <= 1
        assert self.tasks("Button") <= 1

    async def outcomes(self) -> list[str | BaseException]:
        return await asyncio.gather(*self._asked, return_exceptions=True)


@contextlib.asynccontextmanager
async def house(opening_s: float = 0.0, closing_s: float = 0.0) -> AsyncIterator[House]:
    """Run a daemon until the end of the block; nothing may be left open then."""
    with tempfile.TemporaryDirectory(prefix="reload-") as folder:
        found = House(Path(folder), opening_s, closing_s)
        running = asyncio.create_task(found.daemon.run())
        try:
            yield found
        finally:
            found.do("stop", 0)
            status = await running
        assert status == 0
        found.check()
        assert not found.microphone.is_open
        assert not found.speaker.is_open
        assert [entry for entry in found.outlet.entries if entry.detail] == []


STEPS = st.tuples(
    st.sampled_from(["reload", "reload", "mute", "unmute", "unplug", "plug"]),
    st.integers(0, len(VARIANTS) - 1),
    st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0, 4.0]),
)


@settings(max_examples=40)
@given(
    st.lists(STEPS, max_size=14),
    st.floats(0, SLOWEST_S),
    st.floats(0, SLOWEST_S),
    st.booleans(),
)
def test_in_any_order_there_is_one_of_each_and_mute_closes(
    steps: list[tuple[str, int, float]], opening_s: float, closing_s: float, stop_at_once: bool
) -> None:
    """Never two open at once, none that opens while muted, and none that stays deaf afterwards."""

    async def main() -> None:
        async with house(opening_s, closing_s) as found:
            for what, number, pause_s in steps:
                found.do(what, number)
                await asyncio.sleep(pause_s)
                found.check()
            if stop_at_once:
                return
            await asyncio.sleep(SETTLED_S)
            found.check()
            if found.muted:
                assert not found.microphone.is_open
            assert set(await found.outcomes()) <= {""}
            found.do("unmute", 0)
            found.do("plug", 0)
            await found.microphone.until(found.microphone.opened + (not found.microphone.is_open))
            assert found.tasks("Sound") == 1

    run_virtually(main())


def test_it_settles_once() -> None:
    """Not before the first dial has had its chance, and not again after a reload."""

    async def main() -> None:
        async with house() as found:
            await asyncio.sleep(SETTLE_S - 1.0)
            assert len(found.settled) == 0
            await asyncio.sleep(2.0)
            assert len(found.settled) == 1
            assert await found.daemon.reloader.reload() == ""
            await asyncio.sleep(2 * SETTLE_S)
            assert len(found.settled) == 1

    run_virtually(main())


def test_a_hundred_reloads_at_once_are_two() -> None:
    """The one that runs, and one after it with the newest files, whose outcome all others get."""

    async def main() -> None:
        async with house(closing_s=0.3) as found:
            await found.microphone.until(1)
            found.do("reload", 1)
            await asyncio.sleep(0.1)
            for number in range(100):
                found.do("reload", 1 + number % 2)
            assert set(await found.outcomes()) == {""}
            reloads = [event for event in found.events if isinstance(event, e.Reloaded)]
            assert len(reloads) == 2
            assert reloads[-1].changed == "audio, vad"
            assert found.microphone.most_open == 1

    run_virtually(main())


def test_reloads_while_the_card_closes_leave_one_microphone_which_mute_closes() -> None:
    """Each brings other settings while the one before it is still at work."""

    async def main() -> None:
        async with house(closing_s=0.3) as found:
            await found.microphone.until(1)
            for number in (1, 2, 1):
                found.do("reload", number)
                await asyncio.sleep(0.1)
            assert await found.outcomes() == [""] * 3
            assert found.microphone.most_open == 1
            found.do("mute", 0)
            await found.microphone.until_closed()
            await asyncio.sleep(SETTLED_S)
            assert not found.microphone.is_open

    run_virtually(main())


def test_muted_while_the_old_one_closes_the_new_one_stays_closed() -> None:
    """The microphone that a reload brings obeys a mute that came in between."""

    async def main() -> None:
        async with house(closing_s=1.0) as found:
            await found.microphone.until(1)
            found.do("reload", 1)
            await asyncio.sleep(0.5)
            found.do("mute", 0)
            assert await found.outcomes() == [""]
            await asyncio.sleep(SETTLED_S)
            assert found.microphone.opened == found.microphone.closed == 1

    run_virtually(main())


def test_muted_while_the_first_one_opens_the_service_is_ready_all_the_same() -> None:
    """A closed microphone reports neither frames nor a loss; systemd would wait 120 s and kill."""

    async def main() -> None:
        async with house(opening_s=3.0) as found:
            await asyncio.sleep(1.0)
            assert not any(isinstance(event, e.Ready) for event in found.events)
            found.do("mute", 0)
            await asyncio.sleep(SETTLED_S)
            assert any(isinstance(event, e.Ready) for event in found.events)

    run_virtually(main())


def test_unmuted_before_the_device_is_closed_it_opens_again() -> None:
    """Mute and unmute within the time that a device takes to close leave a device that hears."""

    async def main() -> None:
        async with house(closing_s=1.0) as found:
            await found.microphone.until(1)
            found.do("mute", 0)
            await asyncio.sleep(0.5)
            found.do("unmute", 0)
            await found.microphone.until(2)
            assert found.microphone.is_open

    run_virtually(main())


def test_nothing_is_heard_of_a_device_that_is_still_closing() -> None:
    """Muted counts at once: what comes until the device is closed is not taken."""

    async def main() -> None:
        async with house(closing_s=1.0) as found:
            await found.microphone.until(1)
            found.microphone.say(bytes(640), 0.02)
            frames = found.daemon.status()["audio"]["capture"]["frames"]  # type: ignore[index]
            found.do("mute", 0)
            await asyncio.sleep(0.5)
            assert found.microphone.is_open
            found.microphone.say(bytes(640), 0.54)
            after = found.daemon.status()["audio"]["capture"]["frames"]  # type: ignore[index]
            assert (frames, after) == (1, 1)

    run_virtually(main())


def test_whoever_asked_may_leave_and_the_reload_goes_on() -> None:
    """A client that gives up in the middle leaves no half-done reload behind."""

    async def main() -> None:
        async with house(closing_s=1.0) as found:
            await found.microphone.until(1)
            asking = asyncio.create_task(found.daemon.reloader.reload())
            found.wanted = made(VARIANTS[1])
            await asyncio.sleep(0.5)
            asking.cancel()
            await found.microphone.until(2)
            assert [type(event) for event in found.events].count(e.Reloaded) == 1

    run_virtually(main())


@pytest.mark.parametrize(
    "error",
    [
        ConfigError((ConfigProblem("a.toml", "vad", "", "is wrong", "Correct it"),)),
        ValueError("Exceeds the limit (4300 digits)"),
        RecursionError("maximum recursion depth exceeded"),
        OSError(5, "Input/output error"),
        MemoryError(),
        KeyError("what nobody thought of"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_reload_is_a_refusal_whatever_it_was(error: Exception) -> None:
    """It is named, the settings in force stay, and the next reload works."""

    async def main() -> None:
        told: list[e.Event] = []
        taken: list[Settings] = []
        failing = True

        def load() -> Loaded:
            if failing:
                raise error
            return Loaded(made({}), ())

        async def apply(new: Settings) -> Configured:
            taken.append(new)
            return Configured((), "now")

        reloader = Reloader(load, apply, notifier=Notifier(None), emit=told.append)
        running = asyncio.create_task(reloader.run())
        assert await reloader.ask()
        assert [type(event) for event in told] == [e.ConfigRefused]
        assert taken == []
        failing = False
        assert await reloader.ask() == ""
        assert len(taken) == 1
        running.cancel()

    run_virtually(main())


def test_settings_that_cannot_be_taken_into_use_are_refused() -> None:
    """The sound is built before anything is changed: one that cannot be keeps the old one."""

    async def main() -> None:
        async with house() as found:
            await found.microphone.until(1)
            found.wanted = made({"audio": {"capture_gain_db": 3.0}})
            found.daemon.sound._make = _fails
            assert "MemoryError" in await found.daemon.reloader.reload()
            assert found.microphone.is_open
            found.outlet.entries.clear()

    def _fails(_settings: Settings) -> Sound:
        raise MemoryError

    run_virtually(main())


def test_files_that_cannot_be_read_in_time_are_refused() -> None:
    """A disk that hangs costs a reload, not the daemon."""

    async def main() -> None:
        told: list[e.Event] = []
        never = asyncio.Event()

        async def apply(_new: Settings) -> Configured:
            await asyncio.wait_for(never.wait(), READ_S)
            raise AssertionError

        reloader = Reloader(
            lambda: Loaded(made({}), ()), apply, notifier=Notifier(None), emit=told.append
        )
        running = asyncio.create_task(reloader.run())
        assert "could not be read" in await reloader.ask()
        running.cancel()

    run_virtually(main())


def test_of_several_replacements_the_last_one_begins() -> None:
    """The one that never began is never run."""

    class Slow(Absent):
        def __init__(self, name: str) -> None:
            self.name = name

        async def run(self) -> None:
            ran.append(self.name)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1.0)

    ran: list[str] = []

    async def main() -> None:
        slot = Slot(Slow("first"))
        running = asyncio.create_task(slot.run())
        await asyncio.sleep(0.1)
        await asyncio.gather(slot.replace(Slow("second")), slot.replace(Slow("third")))
        await asyncio.sleep(5.0)
        running.cancel()
        assert ran == ["first", "third"]
        assert slot.current.name == "third"

    run_virtually(main())
