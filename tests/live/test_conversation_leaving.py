"""GoAway, and leaving at a quiet moment."""

from __future__ import annotations

from typing import Any

from agentd import events as e
from agentd.live.conversation import HANDLE_S
from agentd.live.machine import State
from agentd.live.messages import (
    ResumptionUpdate,
)
from tests.live.scenes import reloaded, talked
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


def answered_before_its_handle(**live: Any) -> World:
    """GoAway in an answer that has a handle from its beginning, and is heard before its end."""
    world = talked(**live)
    world.speak()
    world.receive(audio=(bytes(9600),), model_turn=True)
    world.handle_update()
    world.receive(go_away_s=50.0)
    world.receive(generation_complete=True)
    world.give(e.PlaybackMark(world.last_reply, 200.0, drained=True))
    world.receive(turn_complete=True)
    return world


def test_a_handle_from_within_a_turn_is_not_the_one_to_leave_with() -> None:
    """It leads to the turn before; the one that follows the turn's end is waited for."""
    world = answered_before_its_handle()
    assert world.is_in(State.LEAVING)
    after = world.handle_update()
    assert world.is_in(State.SWITCHING)
    world.advance(0.1)
    assert world.wire.plan.handle == after


def test_a_handle_that_never_comes_is_not_waited_for_long() -> None:
    """A service that gives none behind the turn is left with what there is."""
    world = answered_before_its_handle()
    world.advance(HANDLE_S - 0.1)
    assert world.is_in(State.LEAVING)
    world.advance(0.2)
    assert [told.rung for told in world.told(e.Connecting)] == ["fresh", "newest"]


def test_the_first_handle_of_all_is_waited_for_too() -> None:
    """Without it the conversation would begin anew."""
    world = World(settings()).online()
    world.speak()
    world.receive(go_away_s=50.0)
    world.reply(keep=False)
    assert world.is_in(State.LEAVING)
    world.handle_update()
    assert world.is_in(State.SWITCHING)


def test_an_update_without_a_handle_does_not_end_the_wait() -> None:
    """It says "not now"; the next one that brings a handle does."""
    world = answered_before_its_handle()
    world.receive(resumption=ResumptionUpdate())
    world.advance(HANDLE_S + 1.0)
    assert world.is_in(State.LEAVING)
    world.handle_update()
    assert world.is_in(State.SWITCHING)


def test_a_handle_of_another_model_is_waited_for_by_nobody() -> None:
    """What the next connection cannot use is no reason to stay."""
    world = talked()
    world.speak()
    world.reply(keep=False)
    reloaded(world, model="gemini-2.5-flash-native-audio-preview-12-2025")
    assert world.is_in(State.SWITCHING)


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
