"""From events to light."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from agentd.clock import FakeClock
from agentd.config.settings import GpioPins, Settings
from agentd.device.leds import RecordingLights
from agentd.device.patterns import LISTENING_FLOOR, LightKind
from agentd.device.presenter import Presentation, Presenter
from agentd.device.state import DeviceState
from agentd.events import Event, HandleStored, StateChanged, VolumeChanged
from tests.device.builders import (
    MIC_BACK,
    MUTED,
    READY,
    VOLUME,
    closed,
    failed,
    fresh,
    opened,
    started,
)
from tests.device.stepping import Stepping
from tests.device.waiting import Told


@dataclass
class World:
    """A presenter with lights that remember and a clock that obeys."""

    kind: LightKind = LightKind.RGB
    clock: FakeClock = field(default_factory=FakeClock)
    emitted: Told[Event] = field(default_factory=Told)
    changes: list[Presentation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lights = RecordingLights(self.clock, self.kind)
        self.presenter = Presenter(
            clock=self.clock,
            settings=Settings(),
            lights=lambda _settings: self.lights,
            emit=self.emit,
        )
        self.presenter.open()
        self.presenter.observe(self.changes.append)
        for event in (READY, MIC_BACK, fresh()):
            self.presenter.show(event)

    def emit(self, event: Event) -> None:
        """Fan out as the daemon does: the presenter hears its own events too."""
        self.emitted.append(event)
        self.presenter.show(event)


def test_light_is_on_when_the_event_returns() -> None:
    """Who emits `UplinkOpened` and then sends, sends with the light on."""
    world = World()
    world.presenter.show(opened())
    assert world.lights.shown[-1][1].colour == (0.0, 1.0, 1.0)
    world.presenter.show(closed())
    assert world.lights.shown[-1][1].colour == (0.0, 0.0, 0.0)


def test_states_are_told() -> None:
    """Each change of state is one event with both names, and none without a change."""
    world = World()
    world.emitted.clear()
    for event in (opened(), opened(), started(), closed()):
        world.presenter.show(event)
    assert world.emitted == [
        StateChanged(before="idle", after="listening"),
        StateChanged(before="listening", after="thinking"),
    ]


def test_observers_get_event_facts_and_both_states() -> None:
    """An observer sees what happened and what came of it; unrelated events do not reach it."""
    world = World()
    world.changes.clear()
    world.presenter.show(HandleStored(handle="ab"))
    world.presenter.show(MUTED)
    (change,) = world.changes
    assert (change.before.state, change.after.state) == (DeviceState.IDLE, DeviceState.MUTED)
    assert change.event is MUTED
    assert change.facts.muted


def test_deadline_passes() -> None:
    """When a deadline passes the state moves without an event, and observers are told."""
    world = World()
    world.presenter.show(VOLUME)
    world.clock.advance(2.0)
    world.presenter.refresh()
    assert world.presenter.state is DeviceState.IDLE
    assert world.changes[-1].event is None
    assert world.presenter.since_s == world.clock.now_s


def test_cause_alone_reaches_observers() -> None:
    """A passing deadline that changes only the cause is told as well, but is no new state."""
    world = World()
    world.presenter.show(failed())
    told = len(world.emitted)
    world.presenter.refresh()
    assert len(world.emitted) == told


def test_same_look_is_not_set_twice() -> None:
    """Events that change nothing to see do not touch the pins."""
    world = World()
    count = len(world.lights.shown)
    world.presenter.show(fresh(2))
    world.presenter.refresh()
    assert len(world.lights.shown) == count


def test_volume_restarts_its_pattern() -> None:
    """Turning further shows the new level from the beginning."""
    world = World(LightKind.PWM)
    world.presenter.show(VOLUME)
    world.clock.advance(1.0)
    world.presenter.show(VolumeChanged(percent=90, by="voice"))
    assert world.presenter.since_s == world.clock.now_s


def test_second_failure_restarts_its_pattern() -> None:
    """Two failures in a row are two series of pulses."""
    world = World()
    world.presenter.show(failed())
    world.clock.advance(1.0)
    world.presenter.show(failed(2))
    assert world.presenter.since_s == world.clock.now_s
    world.clock.advance(0.5)
    world.presenter.show(started(3))
    assert world.presenter.since_s == world.clock.now_s - 0.5


@pytest.mark.anyio
async def test_other_lights_after_a_reload() -> None:
    """New lights show the present state at once; the old ones go off."""
    world = World()
    world.presenter.show(opened())
    before = world.lights
    world.lights = lights = RecordingLights(world.clock, LightKind.PWM)
    await world.presenter.configure(Settings(gpio=GpioPins(brightness_percent=10)))
    assert before.closed
    assert [look.level for _, look in lights.shown] == [LISTENING_FLOOR]


@pytest.mark.anyio
async def test_pattern_moves_on_time() -> None:
    """`run` wakes for each step of a pattern and for the end of the state, then sleeps."""
    world = World(LightKind.PLAIN, Stepping(60.0))
    assert isinstance(world.clock, Stepping)
    world.presenter.show(failed())
    world.lights.shown.clear()
    started_s = world.clock.now_s
    task = asyncio.ensure_future(world.presenter.run())
    await world.emitted.until_has(StateChanged(before="failed", after="idle"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    steps = [(round(at - started_s, 2), look.level) for at, look in world.lights.shown]
    assert [level for _, level in steps] == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    assert [at_s for at_s, _ in steps] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6], abs=0.011
    )
    assert world.lights.closed


@pytest.mark.anyio
async def test_idle_sleeps() -> None:
    """With nothing to show `run` asks the clock for nothing."""
    world = World()
    task = asyncio.ensure_future(world.presenter.run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.clock.slept == []
    world.presenter.show(started())
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.clock.slept
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
