"""Timers at work."""

from __future__ import annotations

import asyncio
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agentd import events as e
from agentd.clock import FakeClock
from agentd.device.facts import RINGING_MAX_S
from agentd.device.ringer import Ringer, boot_id
from agentd.device.timers import TimerError
from tests.device.memory import MemoryStore
from tests.device.stepping import Stepping
from tests.device.waiting import Told


class World:
    """A ringer, its clock and its state directory."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.store = MemoryStore()
        self.emitted: list[e.Event] = []

    def ringer(self, boot: str = "boot-1") -> Ringer:
        """Start (again)."""
        return Ringer(
            clock=self.clock,
            store=self.store,
            emit=self.emitted.append,
            boot=boot,
            timezone=ZoneInfo("Asia/Jakarta"),
        )

    def taken(self) -> list[e.Event]:
        """Return what was emitted since the last call."""
        taken = list(self.emitted)
        self.emitted.clear()
        return taken


def test_timer_rings_and_is_silenced() -> None:
    """Set, told, rung, silenced; each is one event, without the label."""
    world = World()
    ringer = world.ringer()
    ringer.set_timer(60, "eggs")
    assert world.taken() == [e.TimerSet(kind="timer", number=1, in_s=60.0)]
    world.clock.advance(60)
    ringer.look()
    ringer.look()
    assert world.taken() == [e.Ringing(kind="timer", number=1)]
    assert [entry.label for entry in ringer.ringing] == ["eggs"]
    assert ringer.silence("button")
    assert not ringer.silence("button")
    assert world.taken() == [e.RingEnded(by="button")]


def test_ringing_ends_by_itself() -> None:
    """In an empty house it is quiet again after a quarter of an hour."""
    world = World()
    ringer = world.ringer()
    ringer.set_timer(60)
    world.clock.advance(60)
    ringer.look()
    world.clock.advance(RINGING_MAX_S - 1)
    ringer.look()
    assert ringer.ringing
    world.clock.advance(1)
    ringer.look()
    assert not ringer.ringing
    assert world.taken()[-1] == e.RingEnded(by="itself")


def test_restart() -> None:
    """After a restart of the daemon the timer is still there and rings in time."""
    world = World()
    world.ringer().set_timer(60)
    world.clock.advance(30)
    ringer = world.ringer()
    ringer.look()
    world.taken()
    world.clock.advance(30)
    ringer.look()
    assert world.taken() == [e.Ringing(kind="timer", number=1)]
    assert world.ringer("boot-2").schedule.entries == ()


def test_missed_while_off() -> None:
    """What was due long ago is told and does not ring."""
    world = World()
    world.ringer().set_alarm("12:00")
    world.taken()
    world.clock.advance(3 * 86_400)
    ringer = world.ringer("boot-2")
    ringer.look()
    (event,) = world.taken()
    assert isinstance(event, e.TimerMissed)
    assert event.late_s > 86_400
    assert not ringer.ringing


def test_cancel() -> None:
    """Cancelling tells each one; cancelling all is fine with none."""
    world = World()
    ringer = world.ringer()
    ringer.set_timer(60)
    ringer.set_timer(90, "pasta")
    world.taken()
    ringer.cancel(label="pasta")
    ringer.cancel(every=True)
    assert world.taken() == [
        e.TimerCancelled(kind="timer", number=2),
        e.TimerCancelled(kind="timer", number=1),
    ]
    assert ringer.cancel(every=True) == []
    with pytest.raises(TimerError):
        ringer.cancel(number=1)


def test_looking_does_not_wear_the_card() -> None:
    """Only a change is written."""
    world = World()
    ringer = world.ringer()
    ringer.set_timer(600)
    writes = world.store.writes
    for _ in range(20):
        world.clock.advance(10)
        ringer.look()
    assert world.store.writes == writes


@pytest.mark.anyio
async def test_run_rings_on_time_and_sleeps_otherwise() -> None:
    """`run` wakes for the timer and for the end of its ringing, and not before or after."""
    clock = Stepping(2_000)
    world = World(clock)
    ringer = world.ringer()
    began_s = clock.now_s
    times: Told[tuple[str, float]] = Told()
    ringer._emit = lambda event: times.append((event.name, clock.now_s - began_s))
    task = asyncio.ensure_future(ringer.run())
    await asyncio.sleep(0)
    assert clock.slept == []
    ringer.set_timer(600)
    await times.until_has(("ring_ended", 600 + RINGING_MAX_S))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert times == [
        *(("timer_set", 0), ("ringing", 600), ("ring_ended", 600 + RINGING_MAX_S)),
    ]
    assert len(clock.slept) <= 4


def test_boot_id(tmp_path: Path) -> None:
    """The kernel names the boot; without that every start counts as a boot."""
    assert boot_id() == boot_id()
    assert boot_id(tmp_path / "none") == ""
