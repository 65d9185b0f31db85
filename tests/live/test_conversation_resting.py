"""Resting, stopping, and the status."""

from __future__ import annotations

import pytest

from agentd import events as e
from agentd.clock import WallTime
from agentd.live import commands as c
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import State
from agentd.live.messages import (
    ServerMessage,
)
from tests.live.scenes import documents, talked
from tests.live.world import (
    LOCAL,
    NO_ROUTE,
    World,
)


def test_a_quiet_hour_releases_the_connection() -> None:
    """Closed cleanly, handle kept; the next word reconnects and waits in the outbox."""
    world = talked(idle_release_min=30.0)
    world.advance(31 * 60.0)
    assert world.told(e.Released)[0].idle_min == pytest.approx(30.0)
    assert world.is_in(State.RELEASED)
    spoken = world.speak()
    world.connect()
    assert world.told(e.Resumed)
    assert world.heard_by(world.wire) == bytes(spoken.pcm)


def test_a_word_during_the_release_calls_it_off() -> None:
    """The close is under way; then it is dialled at once."""
    world = talked(idle_release_min=1.0)
    world.polite = False
    world.advance(61.0)
    assert world.is_in(State.RELEASING)
    world.speak()
    assert world.is_in(State.SWITCHING)
    world.advance(5.0)
    assert world.is_in(State.DIALING)


def test_a_conversation_is_not_released() -> None:
    """Quiet means quiet."""
    world = talked(idle_release_min=1.0)
    for _ in range(10):
        world.advance(30.0)
        world.speak()
        world.reply()
    assert world.is_in(State.LIVE)


def test_the_gap_of_a_restart_is_the_time_since_the_start() -> None:
    """How long it had been off nobody knows; "resumed in 0 ms" would be no figure at all."""
    world = World().start(*documents(talked()))
    world.advance(0.7)
    world.connect()
    assert 600.0 < world.told(e.Resumed)[0].gap_ms < 900.0


def test_stop_before_start() -> None:
    """Ends at once."""
    world = World()
    world.give(c.Stop())
    assert world.finished


def test_what_waits_when_the_device_stops_is_announced() -> None:
    """Speech is never written to disk, so the next start cannot send it."""
    world = talked()
    world.end(NO_ROUTE)
    waiting = world.speak()
    open_one = world.begin()
    world.give(c.Stop())
    told = [(lost.utterance, lost.cause) for lost in world.told(e.SpeechLost)]
    assert told == [(n, "the device stopped") for n in (waiting.number, open_one.number)]


def test_what_is_being_said_when_the_device_stops_is_announced() -> None:
    """The service drops an unfinished utterance with its connection."""
    world = talked()
    spoken = world.begin()
    world.give(c.Stop())
    assert [lost.utterance for lost in world.told(e.SpeechLost)] == [spoken.number]


def test_stop_twice() -> None:
    """Once is enough."""
    world = talked()
    world.polite = False
    world.give(c.Stop())
    world.give(c.Stop())
    world.advance(5.0)
    assert world.finished


def test_inputs_of_another_connection_are_ignored() -> None:
    """They come late, or from nowhere."""
    world = talked()
    for given in (c.Connected(99), c.Ended(99, LOCAL), c.Connected(1)):
        world.give(given)
    world.give(c.Received(99, ServerMessage(turn_complete=True)))
    assert world.is_in(State.LIVE)


def test_the_status_tells_everything() -> None:
    """And changes nothing."""
    world = World().start()
    status = world.conversation.status(world.now, world.wall)
    assert (status.connected, status.connections, status.handle_age_s) == (False, 0, None)
    world.end(NO_ROUTE)
    assert world.conversation.status(world.now, world.wall).trouble == "unreachable"
    world = talked()
    world.begin()
    world.receive(go_away_s=50.0)
    world.advance(10.0)
    status = world.conversation.status(world.now, world.wall)
    assert status.connected
    assert status.go_away_in_s == pytest.approx(40.0)
    assert status.handle_age_s == pytest.approx(10.0, abs=1.0)
    assert status.turns == 1
    assert status.last_turn is not None
    assert status.last_turn.reply_ms == 200.0
    assert status.tokens["prompt"] == 10


def test_a_clock_that_is_not_set_alarms_nobody() -> None:
    """A certificate that looks wrong before NTP answers is tried again quietly."""
    world = World()
    world.wall = WallTime(0.0, synchronised=False)
    world.start()
    world.end(Failure(Phase.HANDSHAKE, Kind.NOT_YET_VALID, 0, "certificate is not yet valid"))
    assert not world.told(e.Refused)
    assert world.told(e.Disconnected)[0].cause == "clock not set"
