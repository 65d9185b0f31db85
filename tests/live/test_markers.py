"""What the service's markers mean: every pair of floor and marker."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from agentd.live import commands as c
from agentd.live.markers import MEANING, Act, Floor, Marker, markers_of
from agentd.live.messages import FunctionCall, Interaction, ServerMessage
from agentd.live.turn import SETTLEMENT, Came, Said
from tests.live.world import World

SOUND = {"audio": (bytes(4800),), "model_turn": True}


def asked() -> World:
    """A question is out."""
    world = World().online()
    world.speak()
    return world


def answered(**content: Any) -> World:
    """Something of its answer has come."""
    world = asked()
    world.receive(**content)
    return world


def answered_beside_a_call(**content: Any) -> World:
    """A function is at work that the answer waits for, and something is said meanwhile."""
    world = answered(calls=(FunctionCall("c1", "lamp", {}),))
    world.receive(**content)
    return world


def all_sent() -> World:
    """The whole answer has come and is not closed."""
    world = answered(**SOUND)
    world.receive(generation_complete=True)
    return world


def stopped(world: World) -> World:
    """The button has ended the answer here."""
    world.give(c.CancelReply("button"))
    return world


def and_asked(world: World) -> World:
    """The next question is out."""
    world.speak()
    return world


WAYS: dict[Floor, list[Callable[[], World]]] = {
    Floor.QUIET: [lambda: World().online()],
    Floor.ASKED: [asked],
    Floor.THINKING: [
        lambda: answered(model_turn=True),
        lambda: answered(calls=(FunctionCall("c1", "lamp", {}),)),
    ],
    Floor.SPEAKING: [
        lambda: answered(**SOUND),
        lambda: answered(written=True, model_turn=True),
        all_sent,
        lambda: answered_beside_a_call(**SOUND),
        lambda: answered_beside_a_call(written=True, model_turn=True),
    ],
    Floor.CLOSING: [lambda: stopped(all_sent())],
    Floor.OVERLAP: [lambda: and_asked(stopped(all_sent()))],
    Floor.LATE: [
        lambda: stopped(answered(**SOUND)),
        lambda: and_asked(stopped(answered(**SOUND))),
    ],
}
"""How each floor is come to."""

REASONS = ("NEED_MORE_INPUT", "RESPONSE_REJECTED", "NEVER_SEEN_BEFORE")
WORKING = Interaction.IN_PROGRESS

SAYS: dict[Marker, list[dict[str, Any]]] = {
    Marker.INTERRUPTED: [{"interrupted": True}],
    Marker.STATUS: [{"interaction": WORKING}],
    Marker.GENERATED: [{"generation_complete": True}],
    Marker.CLOSED: [
        {"turn_complete": True},
        {"turn_complete": True, "waiting_for_input": True},
        {"turn_complete": True, "interaction": WORKING},
    ],
    Marker.CLOSED_BECAUSE: [
        {"turn_complete": True, "turn_complete_reason": reason, **more}
        for reason in REASONS
        for more in ({}, {"interaction": WORKING})
    ],
    Marker.IDLE: [
        {"interaction": Interaction.IDLE},
        {"interaction": Interaction.IDLE, "waiting_for_input": True},
    ],
    Marker.WAITING: [{"waiting_for_input": True}],
}
"""The frames in which each marker comes."""


def floor(world: World) -> Floor:
    """Who has it."""
    return world.conversation._turns.floor


@pytest.mark.parametrize(("before", "way"), [(f, way) for f, ways in WAYS.items() for way in ways])
def test_the_ways_lead_where_they_are_said_to_lead(before: Floor, way: Callable[[], World]) -> None:
    """So that the tests below test what they say."""
    assert floor(way()) is before


def test_every_pair_has_a_row_and_every_act_is_used() -> None:
    """The table is whole: no marker comes unforeseen, and nothing is there that is never done."""
    assert set(MEANING) == set(itertools.product(Floor, Marker))
    assert {row.act for row in MEANING.values()} == set(Act)
    assert set(World().conversation._turns._acts) == set(Act)
    assert set(SETTLEMENT) == set(itertools.product(Said, Came))


@pytest.mark.parametrize(("before", "marker"), list(itertools.product(Floor, Marker)))
def test_a_marker_leads_where_the_table_says_and_everywhere_it_says(
    before: Floor, marker: Marker
) -> None:
    """From each floor, by every way to it and every frame that carries the marker."""
    row, reached = MEANING[before, marker], set()
    for way, says in itertools.product(WAYS[before], SAYS[marker]):
        assert marker in markers_of(ServerMessage(**says))
        world = way()
        world.receive(**says)
        reached.add(floor(world))
    assert reached == row.after
    if row.act is Act.IGNORE:
        assert reached == {before}


@pytest.mark.parametrize(
    ("before", "marker"), [pair for pair, row in MEANING.items() if row.act is Act.IGNORE]
)
def test_what_is_ignored_says_nothing_and_does_nothing(before: Floor, marker: Marker) -> None:
    """Neither speaker nor journal hears of it."""
    for way, says in itertools.product(WAYS[before], SAYS[marker]):
        world = way()
        events, delivered = len(world.events), len(world.delivered)
        world.receive(**says)
        assert len(world.events) == events
        assert len(world.delivered) == delivered
