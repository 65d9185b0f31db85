"""GoAway, and leaving at a quiet moment."""

from __future__ import annotations

from agentd import events as e
from agentd.live.machine import State
from agentd.live.messages import (
    ResumptionUpdate,
)
from tests.live.scenes import talked
from tests.live.world import (
    World,
    settings,
)


def test_go_away_waits_for_a_resumable_moment() -> None:
    """An update that says "not now" holds the switch back, the deadline forces it."""
    world = talked()
    world.receive(resumption=ResumptionUpdate())
    world.receive(go_away_s=50.0)
    world.advance(44.0)
    assert world.is_in(State.LEAVING)
    world.handle_update()
    assert world.is_in(State.SWITCHING)
    world = talked()
    world.receive(resumption=ResumptionUpdate())
    world.receive(go_away_s=50.0)
    world.advance(45.5)
    assert world.told(e.Disconnected)[0].cause == "go away"


def test_a_second_go_away_moves_the_deadline() -> None:
    """The newest announcement counts."""
    world = talked()
    world.begin()
    world.receive(go_away_s=100.0)
    world.receive(go_away_s=10.0)
    world.advance(5.5)
    assert not world.is_in(State.LEAVING)


def test_go_away_without_a_margin_is_followed_at_once() -> None:
    """Even in mid-speech; the utterance is sent again whole."""
    world = talked()
    spoken = world.speak(end=False)
    world.receive(go_away_s=1.0)
    world.advance(0.01)
    world.connect()
    world.finish()
    assert world.heard_by(world.wire) == bytes(spoken.pcm)


def test_a_door_that_says_go_away_at_once_is_not_hammered() -> None:
    """GoAway right after setup, again and again: backoff, as for any other failure."""
    world = World(settings(dials_per_min=100)).online()
    for _ in range(8):
        world.receive(go_away_s=0.0)
        world.advance(0.01)
        if not world.is_in(State.DIALING):
            break
        world.connect()
    assert world.is_in(State.WAITING)


def test_a_close_that_is_not_answered_becomes_an_abort() -> None:
    """A frozen peer does not hold up the switch."""
    world = talked()
    world.polite = False
    world.receive(go_away_s=50.0)
    assert world.is_in(State.SWITCHING)
    world.advance(2.1)
    assert world.is_in(State.DIALING)


def test_what_is_said_during_the_switch_goes_out_after_it() -> None:
    """Not a word is lost."""
    world = talked()
    world.polite = False
    world.receive(go_away_s=50.0)
    spoken = world.speak()
    world.advance(2.1)
    world.connect()
    assert world.heard_by(world.wire) == bytes(spoken.pcm)
    assert world.told(e.Replayed)[0].way == "utterance"
