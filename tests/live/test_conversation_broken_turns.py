"""What becomes of a broken turn."""

from __future__ import annotations

from agentd import events as e
from agentd.live import commands as c
from agentd.live.machine import State
from agentd.live.messages import (
    RealtimeAudio,
    TranscriptPiece,
)
from tests.live.scenes import cancelled, sent, talked
from tests.live.world import (
    NO_ROUTE,
    World,
)


def test_a_reply_that_breaks_off_is_given_again() -> None:
    """The question is asked again under a new number; the old reply falls silent for the new."""
    world = talked()
    spoken = world.speak()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    old = world.last_reply
    world.end()
    assert isinstance(world.delivered[-1], e.ReplyComplete)
    assert not world.told(e.TurnFailed)
    world.connect()
    assert world.heard_by(world.wire) == bytes(spoken.pcm)
    world.reply()
    assert world.last_reply > old
    assert cancelled(world) == [old]


def test_a_reply_that_was_generated_whole_is_not_given_again() -> None:
    """All of it is at the speaker; asking again would only repeat it."""
    world = talked()
    world.speak()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.receive(generation_complete=True)
    world.end()
    world.connect()
    assert not sent(world, RealtimeAudio)
    world.give(e.PlaybackMark(world.last_reply, 1000.0, drained=True))
    assert not world.told(e.TurnEnded)[-1].interrupted


def test_an_old_question_is_not_asked_again() -> None:
    """The turn is announced failed."""
    world = talked(network__replay_max_age_s=2.0)
    world.speak()
    world.receive(user_text=TranscriptPiece("hm"))
    world.advance(5.0)
    world.end()
    assert world.told(e.TurnFailed)
    world.connect()
    assert not sent(world, RealtimeAudio)


def test_a_question_that_waits_too_long_in_a_gap_is_announced() -> None:
    """Undelivered speech as lost, delivered questions as failed; at the time, not afterwards."""
    world = talked()
    world.speak()
    world.end()
    world.speak()
    world.end(NO_ROUTE)
    world.give(e.LinkChanged(interface="", online=False))
    world.give(c.Say("hello"))
    world.advance(25.0)
    assert [lost.utterance for lost in world.told(e.SpeechLost)] == [3]
    assert [failed.utterance for failed in world.told(e.TurnFailed)] == [2, 0]


def test_a_question_without_an_answer_is_not_lost_in_the_next_one() -> None:
    """Too old to be asked again, it was still hoped for; speaking over it ends the hope."""
    world = talked(network__replay_max_age_s=2.0)
    unanswered = world.speak()
    world.receive(user_text=TranscriptPiece("hm"))
    world.advance(5.0)
    assert not world.told(e.TurnFailed)
    world.speak()
    world.reply()
    assert [failed.utterance for failed in world.told(e.TurnFailed)] == [unanswered.number]


def test_an_answer_that_comes_late_is_an_answer() -> None:
    """Giving up the repetition is not giving up the answer."""
    world = talked(network__replay_max_age_s=2.0)
    world.speak()
    world.receive(user_text=TranscriptPiece("hm"))
    world.advance(5.0)
    world.reply()
    world.speak()
    world.reply()
    assert not world.told(e.TurnFailed)


def test_speech_in_a_gap_makes_the_next_dial_come_sooner() -> None:
    """Nobody sits out a minute of backoff while somebody speaks."""
    world = World().start()
    for _ in range(9):
        while not world.is_in(State.DIALING):
            world.advance(0.5)
        world.end(NO_ROUTE)
    wait = world.conversation.status(world.now, world.wall).retry_in_s
    assert wait is not None
    assert wait > 10.0
    world.speak()
    wait = world.conversation.status(world.now, world.wall).retry_in_s
    assert wait is not None
    assert wait <= 3.0
