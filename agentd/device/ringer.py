"""The owner of timers and alarms: keeps them in the state directory and rings.

What rings ends by the button, by voice, by `agentd`, or by itself after 15 minutes.
"""

from __future__ import annotations

import asyncio
from datetime import tzinfo
from pathlib import Path

from agentd.clock import Clock
from agentd.device.facts import RINGING_MAX_S
from agentd.device.mute import MuteStore
from agentd.device.timers import Now, Schedule, TimerEntry, load
from agentd.events import (
    Emit,
    RingEnded,
    Ringing,
    TimerCancelled,
    TimerMissed,
    TimerSet,
)
from agentd.stage import Stage
from agentd.waiting import wait_for_event

DOCUMENT = "timers"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id(path: Path = _BOOT_ID) -> str:
    """Return the kernel's name for this boot; empty (every start is a new boot) without one."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class Ringer(Stage):
    """Timers and alarms at work. All methods belong to the loop's thread; `run` is a task."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: MuteStore,
        emit: Emit,
        boot: str | None = None,
        timezone: tzinfo | None = None,
    ) -> None:
        self._clock = clock
        self._store = store
        self._emit = emit
        self._boot = boot_id() if boot is None else boot
        self._timezone = timezone
        self._schedule = load(store.read(DOCUMENT)).seen(self.now())
        self._ringing: tuple[TimerEntry, ...] = ()
        self._rings_until_s = 0.0
        self._moved = asyncio.Event()

    @property
    def schedule(self) -> Schedule:
        """Return what is set."""
        return self._schedule

    @property
    def ringing(self) -> tuple[TimerEntry, ...]:
        """Return what rings now."""
        return self._ringing

    @property
    def timezone(self) -> tzinfo | None:
        """Return the zone of the local clock; None: the system's."""
        return self._timezone

    def now(self) -> Now:
        """Read the clocks."""
        wall = self._clock.wall()
        return Now(self._clock.monotonic(), wall.unix_s, wall.synchronised, self._boot)

    def set_timer(self, length_s: float, label: str = "") -> TimerEntry:
        """Set a timer; raise `TimerError` with a sentence if that makes no sense."""
        schedule, entry = self._schedule.set_timer(length_s, label, self.now())
        self._tell_set(schedule, entry)
        return entry

    def set_alarm(self, at: str, repeat: str = "once", label: str = "") -> TimerEntry:
        """Set an alarm; raise `TimerError` with a sentence if that makes no sense."""
        now = self.now()
        schedule, entry = self._schedule.set_alarm(at, repeat, label, now, self._timezone)
        self._tell_set(schedule, entry)
        return entry

    def cancel(
        self, number: int | None = None, label: str = "", kind: str = "", *, every: bool = False
    ) -> list[TimerEntry]:
        """Cancel what matches; raise `TimerError` if nothing does or it is not clear what."""
        if every:
            schedule, gone = self._schedule.cancel_all()
        else:
            schedule, gone = self._schedule.cancel(number, label, kind)
        for entry in gone:
            self._emit(TimerCancelled(kind=entry.kind, number=entry.number))
        self._become(schedule)
        return gone

    def silence(self, by: str) -> bool:
        """Stop the ringing; return whether anything rang."""
        if not self._ringing:
            return False
        self._ringing = ()
        self._emit(RingEnded(by=by))
        return True

    def look(self) -> None:
        """Ring what is due and end what has rung for long enough."""
        if self._ringing and self._clock.monotonic() >= self._rings_until_s:
            self.silence("itself")
        schedule, due = self._schedule.take_due(self.now(), self._timezone)
        self._become(schedule)
        for item in due:
            kind, number = item.entry.kind, item.entry.number
            if item.missed:
                self._emit(TimerMissed(kind=kind, number=number, late_s=item.late_s))
                continue
            self._ringing += (item.entry,)
            self._rings_until_s = self._clock.monotonic() + RINGING_MAX_S
            self._emit(Ringing(kind=kind, number=number))

    async def run(self) -> None:
        """Watch the clocks until cancelled; without timers nothing wakes."""
        while True:
            self._moved.clear()
            self.look()
            await wait_for_event(self._moved, self._clock, self._wait_s())

    def _wait_s(self) -> float | None:
        waits_s = [self._schedule.next_look_s(self.now())]
        if self._ringing:
            waits_s.append(max(0.0, self._rings_until_s - self._clock.monotonic()))
        return min((wait_s for wait_s in waits_s if wait_s is not None), default=None)

    def _tell_set(self, schedule: Schedule, entry: TimerEntry) -> None:
        in_s = schedule.left_s(entry, self.now()) or 0.0
        self._become(schedule)
        self._emit(TimerSet(kind=entry.kind, number=entry.number, in_s=in_s))

    def _become(self, schedule: Schedule) -> None:
        before, self._schedule = self._schedule, schedule
        if schedule.dump() != before.dump():
            self._store.write(DOCUMENT, schedule.dump())
            self._moved.set()
