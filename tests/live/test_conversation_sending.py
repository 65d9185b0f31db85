"""What leaves the device, and when."""

from __future__ import annotations

from agentd import events as e
from agentd.live.machine import State
from agentd.live.messages import (
    ActivityEnd,
    ActivityStart,
    RealtimeAudio,
)
from tests.live.scenes import sent, talked
from tests.live.world import (
    World,
)


def test_the_pre_roll_goes_out_at_once_and_the_rest_in_pieces() -> None:
    """360 ms at once, in messages of at most 100 ms; then 60 ms at a time; the rest at the end."""
    world = World().online()
    world.begin()
    assert [len(message.pcm) for message in sent(world, RealtimeAudio)] == [3200, 3200, 3200]
    for _ in range(7):
        world.go_on()
    assert [len(message.pcm) for message in sent(world, RealtimeAudio)[3:]] == [1920, 1920]
    world.finish()
    assert [len(message.pcm) for message in sent(world, RealtimeAudio)[5:]] == [640]


def test_speech_split_by_length_is_one_activity() -> None:
    """The model is not asked in mid-sentence."""
    world = World().online()
    world.speak(3, end=False)
    world.finish(e.EndReason.MAX_LENGTH)
    world.speak(3)
    assert len(sent(world, ActivityStart)) == len(sent(world, ActivityEnd)) == 1
    assert world.heard_by(world.wire) == bytes(world.spoken[0].pcm + world.spoken[1].pcm)
    assert len(world.told(e.TurnStarted)) == 1


def test_the_rest_of_a_split_utterance_that_never_comes() -> None:
    """After a second the question is asked as it is."""
    world = World().online()
    world.speak(3, end=False)
    world.finish(e.EndReason.MAX_LENGTH)
    assert not sent(world, ActivityEnd)
    world.advance(1.1)
    assert sent(world, ActivityEnd)
    assert world.told(e.TurnStarted)


def test_split_speech_in_a_gap_stays_together() -> None:
    """Also when it is sent later."""
    world = talked()
    world.end()
    world.speak(3, end=False)
    world.finish(e.EndReason.MAX_LENGTH)
    world.speak(3)
    world.connect()
    assert len(sent(world, ActivityStart)) == len(sent(world, ActivityEnd)) == 1


def test_a_click_that_was_sent_is_closed_and_awaits_no_answer() -> None:
    """Shorter than a word: activityEnd, and no turn."""
    world = World().online()
    world.begin()
    world.finish(e.EndReason.DISCARDED)
    assert sent(world, ActivityEnd)
    assert not world.told(e.TurnStarted)
    world.advance(60.0)
    assert world.is_in(State.LIVE)


def test_a_click_in_a_gap_is_never_sent() -> None:
    """And not announced: nobody said anything."""
    world = talked()
    world.end()
    world.begin()
    world.finish(e.EndReason.DISCARDED)
    world.connect()
    assert world.wire.received == []
    assert not world.told(e.SpeechLost)


def test_a_lost_end_of_speech_does_not_stay_open() -> None:
    """The gate begins a new utterance: the old one is over."""
    world = World().online()
    world.begin()
    world.begin()
    world.finish()
    assert len(sent(world, ActivityEnd)) == 2


def test_speech_of_unknown_utterances_is_ignored() -> None:
    """As after an unmute in mid-word."""
    world = World().online()
    world.give(e.UtteranceAudio(99, world.now, bytes(640)))
    world.give(e.UtteranceEnded(99, world.now, 0.0, e.EndReason.HANGOVER))
    assert world.wire.received == []
