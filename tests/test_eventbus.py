"""Light, cause, effect: in that order, whoever emits while others listen."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.eventbus import EventBus
from agentd.events import Event, HandleStored, Muted, SpeechLost, StateChanged


def happened(name: str) -> Event:
    """Return an event that is known by its name."""
    return HandleStored(handle=name)


def name_of(event: Event) -> str:
    """Return the name that `happened` gave."""
    assert isinstance(event, HandleStored)
    return event.handle


@dataclass
class World:
    """A bus whose observers emit what a tree says; `shown` is the light, `told` the journal."""

    children: dict[str, list[str]]
    shown: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bus = EventBus(lambda event: self.shown.append(name_of(event)))
        self.bus.subscribe(lambda event: self.told.append(name_of(event)))
        self.bus.subscribe(self.react)
        self.bus.subscribe(lambda event: self.late.append(name_of(event)))

    def react(self, event: Event) -> None:
        for child in self.children.get(name_of(event), []):
            self.bus.emit(happened(child))
            assert self.shown[-1] == child, "the light is right when emit returns"


@given(st.lists(st.integers(0, 30), max_size=30))
def test_causes_come_before_effects_for_everybody(parents: list[int]) -> None:
    """Whatever emits what: each event once, in one order for all, and after what caused it."""
    children: dict[str, list[str]] = {}
    for number, parent in enumerate(parents, 1):
        children.setdefault(str(min(parent, number - 1)), []).append(str(number))
    world = World(children)
    world.bus.emit(happened("0"))
    assert world.told == world.late
    assert sorted(world.told) == sorted(world.shown) == sorted(map(str, range(len(parents) + 1)))
    for cause, effects in children.items():
        places = [world.told.index(name) for name in (cause, *effects)]
        assert places == sorted(places)


def test_the_change_of_state_that_an_event_brings_comes_after_it() -> None:
    """The light emits while it is set; the journal shows the event first."""
    told: list[Event] = []

    def light(event: Event) -> None:
        if isinstance(event, Muted):
            bus.emit(StateChanged(before="idle", after="muted"))

    bus = EventBus(light)
    bus.subscribe(told.append)
    bus.emit(Muted(by="button"))
    assert told == [Muted(by="button"), StateChanged(before="idle", after="muted")]


def test_what_is_announced_stands_before_its_effects_and_shows_after_them() -> None:
    """Muted: first in the journal, and the light says so only once the microphone is closed."""
    order: list[str] = []
    lost = SpeechLost(utterance=1, speech_ms=300, age_s=0.1, cause="muted")
    bus = EventBus(lambda event: order.append(f"light {event.name}"))
    bus.subscribe(lambda event: order.append(event.name))

    def close() -> None:
        order.append("closed")
        bus.emit(lost)

    bus.announce(Muted(by="button"), close)
    assert order == ["closed", "light speech_lost", "light muted", "muted", "speech_lost"]


def test_a_failing_observer_holds_up_nothing_for_good() -> None:
    """Its error reaches whoever emitted; what waited is told with the next event."""
    told: list[str] = []
    bus = EventBus()
    bus.subscribe(lambda event: told.append(name_of(event)))

    def fail(event: Event) -> None:
        if name_of(event) == "bad":
            bus.emit(happened("effect"))
            raise ValueError

    bus.subscribe(fail)
    with pytest.raises(ValueError):  # noqa: PT011 - ours, from above
        bus.emit(happened("bad"))
    bus.emit(happened("next"))
    assert told == ["bad", "effect", "next"]


def test_what_fails_before_its_light_is_told_all_the_same() -> None:
    """An act that fails leaves the bus as usable as before."""
    told: list[Event] = []
    bus = EventBus()
    bus.subscribe(told.append)

    def fail() -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - ours, from above
        bus.announce(happened("half done"), fail)
    bus.emit(happened("next"))
    assert [name_of(event) for event in told] == ["half done", "next"]
