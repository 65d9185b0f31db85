"""What the service says unasked, or sooner than expected, is no sign of a dead connection."""

from __future__ import annotations

from agentd import events as e
from agentd.live.machine import State
from tests.live.world import World, settings


def test_speech_that_nobody_asked_for_is_not_overdue() -> None:
    """Its first frame starts the wait for the next; it used to count from the clock's origin."""
    world = World(settings()).online()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.advance(settings().live.reply_timeout_s - 0.1)
    assert world.state is State.LIVE
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(generation_complete=True)
    world.receive(turn_complete=True)
    world.give(e.PlaybackMark(world.last_reply, 200.0, drained=True))
    assert [turn.reply_ms for turn in world.told(e.TurnEnded)] == [200.0]
    assert not world.told(e.Disconnected)


def test_unasked_speech_that_breaks_off_ends_the_connection() -> None:
    """The bound is the same as for any answer."""
    world = World(settings()).online()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.advance(settings().live.reply_timeout_s + 0.1)
    assert len(world.told(e.Disconnected)) == 1


def test_an_answer_that_is_faster_than_our_own_gate_is_heard_whole() -> None:
    """With the service's detector, the answer may begin before our gate has closed."""
    world = World(settings(activity_detection="server")).online()
    world.begin()
    world.go_on()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.finish()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(generation_complete=True)
    world.receive(turn_complete=True)
    world.give(e.PlaybackMark(world.last_reply, 200.0, drained=True))
    (turn,) = world.told(e.TurnEnded)
    assert turn.reply_ms == 200.0
    assert not turn.interrupted
    assert not world.told(e.Disconnected)
