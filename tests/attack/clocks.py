"""Clocks that jump, and what the state directory says about timers, volume, mute and echo.

A timer is held against monotonic time: it rings when that has come, whatever the wall clock does
meanwhile. An alarm is held against the calendar: none is further away than its kind can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from agentd.audio.echo.policy import ECHO_DOCUMENT, measured_attenuation_db
from agentd.clock import FakeClock
from agentd.config.settings import Audio, Settings
from agentd.device import mute, ringer, volume
from agentd.device.mute import Mute
from agentd.device.ringer import Ringer
from agentd.device.timers import LOOK_AGAIN_S, TimerError
from agentd.device.volume import SoftwareVolume, Volume, VolumeControl
from agentd.eventbus import EventBus
from agentd.events import Event, Ringing, TimerCancelled, TimerMissed
from agentd.tools.device import DeviceTools
from tests.attack import frames
from tests.attack.target import Case, Step
from tests.device.memory import MemoryStore

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S
ZONES = ("UTC", "Europe/Berlin", "Asia/Jakarta", "Pacific/Apia", "America/St_Johns")
# What a kernel of 64 bits lets a clock be set to: 1970 to 2262.
MOMENTS = (0.0, 1.0, 1_700_000_000.0, 1_800_000_000.0, 2**31 - 30.0, 2**32 + 5.0, 9.2e9)
LENGTHS = (1.0, 5.0, 59.5, 600.0, 3600.0, 26 * 3600.0, 7 * DAY_S)
WAITS = (0.01, 1.0, 30.0, 600.0, 3600.0, DAY_S)
REPEATS = ("once", "daily", "weekdays")
FARTHEST_S = 4 * DAY_S
"""From Friday to Monday, and an hour that summer time adds."""
DOCUMENTS = (ringer.DOCUMENT, mute.DOCUMENT, volume.DOCUMENT, ECHO_DOCUMENT)
LOOKS = 10_000
_LOOP = asyncio.new_event_loop()


class _House:
    """What keeps time in a device, on clocks that the attack moves."""

    def __init__(self, zone: str) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.zone = ZoneInfo(zone)
        self.boots = 0
        self.due: dict[int, float] = {}  # timers of this boot, by monotonic time
        self.start()

    def start(self) -> None:
        """Start the program, in this boot or another one."""
        self.told: list[Event] = []
        self.ringer = Ringer(
            clock=self.clock,
            store=self.store,
            emit=self._hear,
            boot=f"boot-{self.boots}",
            timezone=self.zone,
        )
        software = SoftwareVolume(lambda _percent: None)

        async def find(_audio: Audio) -> VolumeControl:
            return software

        self.volume = Volume(
            Audio(),
            find=find,
            fallback=software,
            store=self.store,
            emit=self._hear,
            clock=self.clock,
        )
        self.mute = Mute(store=self.store, bus=EventBus(self._hear), apply=lambda _muted: None)
        self.mute.start(None)
        self.tools = DeviceTools(self.volume, self.mute, self.ringer, _forget, Settings)
        measured_attenuation_db(self.store.read(ECHO_DOCUMENT), Audio())
        self.ringer.look()

    def _hear(self, event: Event) -> None:
        if not isinstance(event, Ringing | TimerMissed | TimerCancelled) or event.kind != "timer":
            return
        due_s = self.due.pop(event.number, None)
        if due_s is not None and isinstance(event, Ringing):
            late_s = self.clock.now_s - due_s
            assert -0.001 < late_s < 1.0, f"a timer rings {late_s} s late"
        assert due_s is None or not isinstance(event, TimerMissed), "a timer was missed"

    def wait(self, seconds: float) -> None:
        """Let time pass, looking when the ringer wants to."""
        until_s = self.clock.now_s + seconds
        for _ in range(LOOKS):
            self.ringer.look()
            self._check()
            left_s = until_s - self.clock.now_s
            if left_s <= 0:
                return
            look_s = self.ringer.schedule.next_look_s(self.ringer.now())
            assert look_s is None or look_s > 0, "what is due is not taken"
            if self.ringer.ringing:
                look_s = min(look_s or left_s, LOOK_AGAIN_S)
            self.clock.advance(min(left_s, left_s if look_s is None else look_s))
        raise AssertionError("the ringer goes round in circles")

    def _check(self) -> None:
        now = self.ringer.now()
        overdue = [number for number, due_s in self.due.items() if due_s < now.mono_s]
        assert not overdue, f"timer {overdue[0]} has not rung"
        for entry in self.ringer.schedule.entries:
            left_s = self.ringer.schedule.left_s(entry, now)
            if entry.kind == "alarm" and now.synchronised:
                assert left_s is not None, "an alarm waits for ever"
                assert left_s < FARTHEST_S, f"an alarm rings in {left_s / DAY_S:.0f} days"

    def describe(self) -> None:
        """Have the model ask for everything that has a time in it."""
        json.dumps(self.ringer.schedule.dump(), allow_nan=False)
        json.dumps(_LOOP.run_until_complete(self.tools.list_timers({})), allow_nan=False)
        self.tools.asks("cancel_timer", {"all": True})
        self.tools.asks("set_volume", {"percent": 100})


async def _forget() -> str:
    return "all"


def _set(house: _House, seconds: Any, _: Any) -> None:
    entry = house.ringer.set_timer(float(seconds))
    house.due[entry.number] = house.clock.now_s + float(seconds)


def _alarm(house: _House, minutes: Any, repeat: Any) -> None:
    at = f"{int(minutes) // 60 % 24:02}:{int(minutes) % 60:02}"
    house.ringer.set_alarm(at, str(repeat))


def _cancel(house: _House, every: Any, _: Any) -> None:
    house.ringer.cancel(every=bool(every))


def _jump(house: _House, seconds: Any, synchronised: Any) -> None:
    to_s = min(max(0.0, house.clock.unix_s + float(seconds)), MOMENTS[-1])
    _to(house, to_s, synchronised)


def _to(house: _House, unix_s: Any, synchronised: Any) -> None:
    house.clock.unix_s = float(unix_s)
    house.clock.synchronised = bool(synchronised)


def _restart(house: _House, reboot: Any, up_s: Any) -> None:
    if reboot:
        house.boots += 1
        house.due.clear()
        house.clock.now_s = float(up_s)
    house.start()


def _saved(house: _House, name: Any, document: Any) -> None:
    if name in DOCUMENTS and isinstance(document, dict):
        house.due.clear()
        house.store.write(str(name), document)
        house.start()


DO: dict[str, Callable[[_House, Any, Any], None]] = {
    "set": _set, "alarm": _alarm, "cancel": _cancel, "jump": _jump, "to": _to,
    "restart": _restart, "saved": _saved,
    "wait": lambda house, seconds, _: house.wait(float(seconds)),
}  # fmt: skip


def _document(rng: random.Random) -> Step:
    house = _House("UTC")
    house.ringer.set_timer(600.0, "eggs")
    house.ringer.set_alarm("07:00", "daily")
    timers = house.store.read(ringer.DOCUMENT) or {}
    written: dict[str, dict[str, Any]] = {
        ringer.DOCUMENT: timers,
        mute.DOCUMENT: {"by": "voice"},
        volume.DOCUMENT: {"percent": 30},
        ECHO_DOCUMENT: {
            "capture_device": "default", "playback_device": "default", "attenuation_db": 20.0,
        },
    }  # fmt: skip
    name = rng.choice((ringer.DOCUMENT, *DOCUMENTS))
    frames.replace_one(written[name], rng)
    return ["saved", name, written[name]]


_STEPS: tuple[Callable[[random.Random], Step], ...] = (
    lambda rng: ["set", rng.choice(LENGTHS), 0],
    lambda rng: ["alarm", rng.randrange(1440), rng.choice(REPEATS)],
    lambda rng: ["jump", rng.choice((1, -1)) * rng.choice((1.0, 3600.0, DAY_S, 10 * YEAR_S)),
                 rng.random() < 0.6],
    lambda rng: ["to", rng.choice(MOMENTS), rng.random() < 0.6],
    lambda rng: ["wait", rng.choice(WAITS), 0],
    lambda rng: ["wait", rng.choice(WAITS[:5]), 0],
    lambda rng: ["restart", rng.random() < 0.5, rng.choice((0.0, 30.0, 1e9))],
    lambda rng: ["cancel", rng.random() < 0.5, 0],
)  # fmt: skip


class Clocks:
    """Timers, alarms and what else is kept, under clocks that jump."""

    name = "clocks"
    what = "clocks that jump, and documents about time"

    def make(self, rng: random.Random) -> list[Step]:
        """Return what is set, what passes, and how the clocks jump meanwhile."""
        case: list[Step] = [["zone", rng.choice(ZONES), 0]]
        count = rng.choice((3, 8, 16))
        case += [rng.choice((_document, *_STEPS, *_STEPS))(rng) for _ in range(count)]
        return case

    def check(self, case: Case) -> int:
        """Play it; nothing raises, rings wrongly or waits for ever."""
        zone = next((s[1] for s in case if s[:1] == ["zone"] and len(s) == 3), "UTC")
        house = _House(str(zone))
        for step in case:
            match step:
                case [str(what), first, second] if what in DO:
                    with contextlib.suppress(TimerError):  # said to whoever asked
                        DO[what](house, first, second)
                    house.describe()
                case _:
                    pass
        house.wait(1.0)
        return len(case)
