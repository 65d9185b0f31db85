"""Muted means that nothing leaves."""

from __future__ import annotations

from agentd import events as e
from agentd.live import commands as c
from agentd.live.messages import (
    ActivityEnd,
    RealtimeAudio,
)
from tests.live.scenes import sent, talked
from tests.live.world import (
    World,
)


def test_mute_closes_every_path() -> None:
    """The open activity is ended, what waits is dropped, what comes is not heard."""
    world = World().online()
    world.begin()
    found = world.give(c.SetMute(muted=True))
    assert isinstance(found[0], c.PurgeAudio)
    assert sent(world, ActivityEnd)
    assert world.lit is None
    count = len(world.wire.received)
    world.go_on()
    world.finish()
    world.speak()
    assert len(world.wire.received) == count
    assert world.give(c.SetMute(muted=True)) == []
    world.give(c.SetMute(muted=False))
    world.speak()
    assert len(world.wire.received) > count


def test_mute_announces_what_was_waiting() -> None:
    """Speech from a gap that will not be sent is announced lost."""
    world = talked()
    world.end()
    world.speak()
    world.give(c.SetMute(muted=True))
    assert [lost.cause for lost in world.told(e.SpeechLost)] == ["muted"]


def test_nothing_is_replayed_while_muted() -> None:
    """Not even a question whose answer was cut off."""
    world = talked()
    world.speak()
    world.give(c.SetMute(muted=True))
    world.end()
    world.connect()
    assert not sent(world, RealtimeAudio)
