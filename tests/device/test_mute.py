"""Mute is sovereign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.device.mute import MAY_UNMUTE, Mute, MuteState, at_start
from agentd.eventbus import EventBus
from agentd.events import Event, Muted, Unmuted


@dataclass
class World:
    """A microphone, a state directory and a journal, in the order in which they were touched."""

    saved: dict[str, Mapping[str, object]] = field(default_factory=dict)
    happened: list[object] = field(default_factory=list)

    def read(self, name: str) -> Mapping[str, object] | None:
        return self.saved.get(name)

    def write(self, name: str, document: dict[str, object]) -> None:
        self.saved[name] = document

    def emit(self, event: Event) -> None:
        self.happened.append(event)

    def mute(self, switch_closed: bool | None = None) -> Mute:
        mute = Mute(store=self, bus=EventBus(self.emit), apply=self.happened.append)
        mute.start(switch_closed)
        return mute


@pytest.mark.parametrize(
    ("saved_by", "switch_closed", "by"),
    [
        ("", None, ""),
        ("", False, ""),
        ("", True, "switch"),
        ("button", None, "button"),
        ("button", False, "button"),
        ("button", True, "switch"),
        ("switch", None, ""),
        ("switch", False, ""),
        ("switch", True, "switch"),
    ],
)
def test_at_start(saved_by: str, switch_closed: bool | None, by: str) -> None:
    """A closed switch wins; what a hand muted stays muted; an opened switch has let go."""
    assert at_start(saved_by, switch_closed) == MuteState(by, switch_closed)


@pytest.mark.parametrize(
    ("before", "switch_closed", "muted"),
    [("", True, True), ("button", False, True), ("button", None, True), ("", None, False)],
)
def test_another_switch_counts_as_the_one_found_at_boot(
    before: str, switch_closed: bool | None, muted: bool
) -> None:
    """A reload that brings a switch, moves it or takes it away unmutes nobody's hand."""
    mute = World().mute()
    if before:
        mute.ask(True, by=before)
    mute.fit(switch_closed)
    assert mute.muted is muted


def test_a_switch_that_is_taken_away_takes_its_mute_along() -> None:
    """It could never be opened again."""
    mute = World().mute()
    mute.fit(True)
    mute.fit(None)
    assert not mute.muted
    assert mute.ask(True, by="control") == mute.ask(False, by="control") == ""


def test_mute_closes_the_microphone_before_it_says_so() -> None:
    """The capture device is closed first, then the light turns red."""
    world = World()
    assert world.mute().ask(True, by="button") == ""
    assert world.happened == [True, Muted(by="button")]


def test_unmute_says_so_before_the_microphone_opens() -> None:
    """The light stops saying muted before the capture device opens."""
    world = World()
    mute = world.mute()
    mute.ask(True, by="voice")
    mute.ask(False, by="control")
    assert world.happened[2:] == [Unmuted(by="control"), False]
    assert not mute.muted


def test_mute_survives_a_restart() -> None:
    """A muted device comes up muted, and says by whom; capture is closed from the start."""
    world = World()
    world.mute().ask(True, by="button")
    world.happened.clear()
    assert world.mute().muted
    assert world.happened == [True, Muted(by="button")]


def test_unmute_survives_a_restart() -> None:
    """An unmuted device comes up unmuted, without a word."""
    world = World()
    mute = world.mute()
    mute.ask(True, by="button")
    mute.ask(False, by="button")
    world.happened.clear()
    assert not world.mute().muted
    assert world.happened == []


@pytest.mark.parametrize("document", [{}, {"by": 7}, {"by": None}, {"other": "x"}])
def test_damaged_document(document: dict[str, object]) -> None:
    """A document without sense means unmuted, as for a new device."""
    assert not World(saved={"mute": document}).mute().muted


def test_switch_is_above_everybody() -> None:
    """While the switch is on nobody else can unmute, and the answer says what to do."""
    world = World()
    mute = world.mute(switch_closed=True)
    for by in (*MAY_UNMUTE, "voice"):
        assert "switch" in mute.ask(False, by=by)
    assert mute.muted


def test_switch_moves() -> None:
    """Turning the switch mutes and unmutes at once, whoever muted before."""
    world = World()
    mute = world.mute(switch_closed=False)
    mute.ask(True, by="voice")
    mute.on_switch(True)
    mute.on_switch(False)
    assert not mute.muted
    assert world.happened[-2:] == [Unmuted(by="switch"), False]


@pytest.mark.parametrize("by", ["voice", "network", ""])
def test_nothing_remote_unmutes(by: str) -> None:
    """The model can close the microphone and can never open it."""
    world = World()
    mute = world.mute()
    mute.ask(True, by="voice")
    assert "button" in mute.ask(False, by=by)
    assert mute.muted


def test_asking_for_what_is_changes_nothing() -> None:
    """Muting twice or unmuting an open microphone is no event."""
    world = World()
    mute = world.mute()
    assert mute.ask(False, by="voice") == ""
    mute.ask(True, by="button")
    mute.ask(True, by="voice")
    assert world.happened == [True, Muted(by="button")]
    assert world.saved == {"mute": {"by": "button"}}


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["switch!", "voice", "button"]))))
def test_events_and_microphone_agree(requests: list[tuple[bool, str]]) -> None:
    """After any requests the microphone is closed exactly if the last event said muted."""
    world = World()
    mute = world.mute()
    for wanted, by in requests:
        if by == "switch!":
            mute.on_switch(wanted)
        else:
            mute.ask(wanted, by=by)
    applied = [item for item in world.happened if isinstance(item, bool)]
    assert (applied or [False])[-1] is mute.muted
    assert all(a is not b for a, b in pairwise([False, *applied]))
    assert bool(world.saved.get("mute", {"by": ""})["by"]) is mute.muted
