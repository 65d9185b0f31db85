"""The talk button on a session that was put to rest."""

from __future__ import annotations

from agentd import events as e
from agentd.live import commands as c
from agentd.live.machine import State
from tests.live.world import World, settings


def test_the_button_wakes_a_released_session() -> None:
    """Closed after a quiet minute, it is dialled before the first word is spoken."""
    world = World(settings(idle_release_min=1.0)).start().connect()
    world.advance(90.0)
    assert world.told(e.Released)
    assert world.is_in(State.RELEASED)
    dials = world.conversation.status(world.now, world.wall).dials
    world.give(c.Want())
    assert world.is_in(State.DIALING)
    assert world.conversation.status(world.now, world.wall).dials == dials + 1


def test_the_button_puts_off_the_rest() -> None:
    """A press counts as activity: somebody is about to speak."""
    world = World(settings(idle_release_min=1.0)).start().connect()
    world.advance(50.0)
    world.give(c.Want())
    world.advance(30.0)
    assert world.is_in(State.LIVE)
    world.advance(40.0)
    assert world.is_in(State.RELEASED)


def test_a_live_session_is_left_alone() -> None:
    """Nothing is dialled, nothing is sent."""
    world = World(settings()).start().connect()
    assert world.give(c.Want()) == []
