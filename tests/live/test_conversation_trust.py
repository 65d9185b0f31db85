"""Which connections and handles are trusted."""

from __future__ import annotations

from agentd import events as e
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import State
from agentd.live.messages import (
    ClientContent,
    Content,
)
from tests.live.scenes import sent, talked
from tests.live.world import (
    DEAD_HANDLE,
    DROPPED,
    INTERNAL,
    World,
)


def test_a_dead_handle_is_dropped_at_once() -> None:
    """The next rung is dialled without delay."""
    world = talked()
    first = world.good_handle
    world.handle_update()
    world.end()
    world.end(DEAD_HANDLE)
    assert [dropped.cause for dropped in world.told(e.HandleDropped)] == ["handle refused"]
    assert world.wire.plan.handle == first
    world.end(DEAD_HANDLE)
    assert world.wire.plan.handle is None
    world.connect()
    fresh = world.told(e.SessionFresh)[-1]
    assert (fresh.cause, fresh.restored_turns) == ("handle refused", 1)
    (seed,) = sent(world, ClientContent)
    assert seed.turns == (Content("user", "what is this"), Content("model", "a kettle"))
    assert not seed.turn_complete


def test_a_resumed_connection_that_dies_on_the_first_question() -> None:
    """Its handle is demoted, and the question goes to the next rung."""
    world = talked()
    world.end()
    world.connect()
    world.advance(60.0)
    spoken = world.speak()
    world.end(INTERNAL)
    assert len(world.told(e.HandleDropped)) == 1
    world.advance(1.0)
    world.connect()
    assert world.heard_by(world.wire) == bytes(spoken.pcm)


def test_a_resumed_connection_that_dies_young() -> None:
    """Closed by the service within seconds: the handle is demoted."""
    world = talked()
    world.end()
    world.connect()
    world.advance(2.0)
    world.end(INTERNAL)
    assert world.told(e.HandleDropped)


def test_a_proved_connection_vouches_for_its_handle() -> None:
    """Once it has answered, a later death is not the handle's fault."""
    world = talked()
    world.end()
    world.connect()
    world.speak()
    world.reply(keep=False)
    world.end(INTERNAL)
    assert not world.told(e.HandleDropped)


def test_a_broken_network_does_not_cost_the_handle_at_once() -> None:
    """Only the third broken connection in a row does."""
    world = talked()
    world.end()
    for broken in range(3):
        assert len(world.told(e.HandleDropped)) == 0, broken
        world.reconnect()
        world.end(DROPPED)
    assert len(world.told(e.HandleDropped)) == 1


def test_the_service_is_given_time_while_nobody_waits() -> None:
    """Internal errors at setup: the handle is tried for half a minute, unless somebody speaks."""
    world = talked()
    world.end()
    for _ in range(5):
        world.end(Failure(Phase.SETUP, Kind.CLOSED, 1011, "Internal error encountered."))
        for _ in range(20):
            if not world.is_in(State.DIALING):
                world.advance(0.5)
    assert not world.told(e.HandleDropped)
    world.speak()
    while not world.is_in(State.DIALING):
        world.advance(0.5)
    world.end(Failure(Phase.SETUP, Kind.CLOSED, 1011, "Internal error encountered."))
    assert world.told(e.HandleDropped)


def test_nothing_of_a_question_that_gets_no_sign_of_life_is_lost() -> None:
    """The connection is given up after the reply timeout; the question is asked again."""
    world = talked(reply_timeout_s=5.0)
    spoken = world.speak()
    world.advance(5.5)
    assert world.told(e.Disconnected)[0].cause == "mute"
    world.connect()
    assert world.heard_by(world.wire) == bytes(spoken.pcm)


def test_a_question_that_is_still_being_sent_has_not_been_asked() -> None:
    """N4: while a slow path gets on with it nobody is mute; then the service has its time."""
    world = talked(reply_timeout_s=6.0)
    world.speak()
    for seconds, unsent in ((6.0, 90_000), (5.0, 60_000), (5.0, 30_000), (5.0, 0), (5.9, 0)):
        world.unsent_bytes = unsent
        world.advance(seconds)
        assert world.is_in(State.LIVE)
    world.advance(0.2)
    assert world.told(e.Disconnected)[0].cause == "mute"


def test_a_question_that_gets_no_further_is_asked_elsewhere() -> None:
    """A path that stands still is given up at the second look; elsewhere it is looked at anew."""
    world = talked(reply_timeout_s=6.0)
    spoken = world.speak()
    world.unsent_bytes = 90_000
    world.advance(6.5)
    assert world.is_in(State.LIVE)
    world.advance(5.5)
    assert world.told(e.Disconnected)[0].cause == "mute"
    world.connect()
    assert world.heard_by(world.wire) == bytes(spoken.pcm)
    world.advance(6.5)
    assert world.is_in(State.LIVE)


def test_any_frame_is_a_sign_of_life() -> None:
    """Even one that cannot be used puts the verdict off."""
    world = talked(reply_timeout_s=5.0)
    world.speak()
    world.advance(4.0)
    world.receive(problem="frame of an unknown kind")
    world.advance(4.0)
    assert world.is_in(State.LIVE)
    world.advance(2.0)
    assert world.told(e.Disconnected)[0].cause == "connection lost"


def test_bad_frames_do_not_fill_the_journal() -> None:
    """Told at 1, 2, 4, 8 and so on."""
    world = World().online()
    for _ in range(10):
        world.receive(problem="nonsense")
    assert [told.count for told in world.told(e.BadFrame)] == [1, 2, 4, 8]
