"""Replies and interruptions."""

from __future__ import annotations

import pytest

from agentd import events as e
from agentd.live import commands as c
from agentd.live.machine import State
from agentd.live.messages import (
    Interaction,
    RealtimeAudio,
    Tokens,
)
from tests.live.scenes import cancelled, sent
from tests.live.world import (
    World,
    settings,
)


def test_speaking_ends_when_the_speaker_has_drained() -> None:
    """Neither generationComplete nor turnComplete ends the turn."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    turn = world.last_reply
    world.receive(generation_complete=True)
    assert isinstance(world.delivered[-1], e.ReplyComplete)
    world.receive(turn_complete=True, tokens=Tokens(prompt=3, response=4))
    assert not world.told(e.TurnEnded)
    world.give(e.PlaybackMark(turn, 1000.0, drained=True))
    (ended,) = world.told(e.TurnEnded)
    assert (ended.reply_ms, ended.heard_ms, ended.interrupted) == (1000.0, 1000.0, False)
    assert (ended.prompt_tokens, ended.response_tokens) == (3, 4)


def test_first_audio_counts_from_the_end_of_speech() -> None:
    """Until the first byte of the reply."""
    world = World().online()
    world.speak()
    world.advance(0.4)
    world.reply()
    assert world.told(e.TurnEnded)[0].first_audio_ms == pytest.approx(400.0)


def test_barge_in_silences_at_once_and_late_audio_is_ignored() -> None:
    """Before a single byte of the new utterance is acknowledged."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    turn = world.last_reply
    world.give(e.PlaybackMark(turn, 300.0, drained=False))
    world.begin()
    assert cancelled(world) == [turn]
    (told,) = world.told(e.Interrupted)
    assert (told.by, told.heard_ms) == ("local", 300.0)
    before = len(world.delivered)
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(interrupted=True)
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(turn_complete=True)
    world.finish()
    assert len(world.delivered) == before
    assert world.told(e.TurnEnded)[0].interrupted
    world.reply()
    assert world.last_reply > turn
    assert not world.told(e.TurnEnded)[-1].interrupted


def test_barge_in_while_the_reply_is_played_out() -> None:
    """The service has long finished; only the speaker has not."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(480_000),), model_turn=True)
    world.receive(generation_complete=True)
    world.receive(turn_complete=True)
    turn = world.last_reply
    world.begin()
    assert cancelled(world) == [turn]
    world.receive(interrupted=True)
    world.finish()
    world.reply()
    assert world.last_reply != turn


def test_the_close_of_an_interrupted_turn_does_not_end_the_new_one() -> None:
    """The old turnComplete may come after the new question."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(generation_complete=True)
    world.speak()
    world.receive(turn_complete=True)
    assert len(world.told(e.TurnEnded)) == 1, "the interrupted one"
    world.reply()
    assert len(world.told(e.TurnEnded)) == 2
    assert not world.told(e.TurnEnded)[1].interrupted


def test_a_question_over_an_unanswered_question() -> None:
    """Both are delivered; one answer settles both; the old close is not taken for the new."""
    world = World().online()
    world.speak()
    world.speak()
    world.receive(interrupted=True)
    world.receive(turn_complete=True)
    world.reply()
    world.end()
    world.advance(1.0)
    world.connect()
    assert not sent(world, RealtimeAudio), "answered questions are not asked again"


def test_a_service_that_never_closes_an_interrupted_turn() -> None:
    """A second later its successor is heard all the same."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    old = world.last_reply
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    assert world.last_reply == old
    world.advance(1.1)
    world.receive(audio=(bytes(4800),), model_turn=True)
    assert world.last_reply > old


def test_generation_complete_of_an_interrupted_turn() -> None:
    """It ends the late audio, but not the new turn."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.speak()
    world.receive(generation_complete=True)
    world.receive(generation_complete=True)
    assert not any(isinstance(v, e.ReplyComplete) for v in world.delivered)
    world.receive(turn_complete=True)
    world.reply()
    assert world.told(e.TurnEnded)[-1].reply_ms == 200.0


def test_interrupted_by_the_service() -> None:
    """Its detector heard something: flush, and ignore what was under way."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    turn = world.last_reply
    world.receive(interrupted=True)
    assert cancelled(world) == [turn]
    assert world.told(e.Interrupted)[0].by == "server"
    world.receive(audio=(bytes(4800),), model_turn=True)
    assert world.conversation.status(world.now, world.wall).late_pieces == 1
    world.receive(turn_complete=True)
    assert world.told(e.TurnEnded)[0].interrupted


@pytest.mark.parametrize("when", ["before", "awaiting", "after"])
def test_phantom_interrupted(when: str) -> None:
    """Without anything to interrupt it does nothing; in the playback phase it flushes."""
    world = World().online()
    if when != "before":
        world.speak()
    if when == "after":
        world.reply()
    world.receive(interrupted=True)
    assert cancelled(world) == []
    if when == "awaiting":
        world.reply()
        assert world.told(e.TurnEnded)[0].reply_ms == 200.0


def test_interrupted_in_the_playback_phase() -> None:
    """After generationComplete and after turnComplete alike."""
    for markers in (1, 2):
        world = World().online()
        world.speak()
        world.receive(audio=(bytes(48_000),), model_turn=True)
        world.receive(generation_complete=True)
        if markers == 2:
            world.receive(turn_complete=True)
        world.receive(interrupted=True)
        assert cancelled(world) == [world.last_reply]
        world.receive(turn_complete=True)
        assert len(world.told(e.TurnEnded)) == 1


def test_more_to_come_keeps_the_wait_open() -> None:
    """IN_PROGRESS: another turn of the same answer follows, and is awaited."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    first = world.last_reply
    world.receive(turn_complete=True, interaction=Interaction.IN_PROGRESS)
    assert [started.turn for started in world.told(e.TurnStarted)] == [first, first + 1]
    world.receive(audio=(bytes(4800),), model_turn=True)
    assert world.last_reply == first + 1
    world.receive(turn_complete=True, interaction=Interaction.IDLE)
    assert len(world.told(e.TurnStarted)) == 2


def test_the_service_speaks_up_unasked() -> None:
    """A turn of its own, without a question."""
    world = World().online()
    world.reply()
    (turn,) = world.told(e.TurnEnded)
    assert (turn.speech_ms, turn.first_audio_ms, turn.reply_ms) == (0.0, None, 200.0)


def test_the_service_may_be_faster_than_our_gate() -> None:
    """With its own detector it answers while our gate is still open."""
    world = World(settings(activity_detection="server")).online()
    world.begin()
    world.receive(audio=(bytes(4800),), model_turn=True)
    assert world.last_reply == 1
    world.receive(turn_complete=True)
    world.give(e.PlaybackMark(1, 100.0, drained=True))
    world.finish()
    assert world.is_in(State.LIVE)


def test_the_button_stops_a_reply() -> None:
    """Also one that has not begun; what still comes of it is ignored."""
    world = World().online()
    world.give(c.CancelReply("button"))
    world.speak()
    world.give(c.CancelReply("button"))
    world.receive(audio=(bytes(4800),), model_turn=True)
    assert world.last_reply == 0
    world.receive(turn_complete=True)
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.give(c.CancelReply("button"))
    assert world.told(e.Interrupted)[0].by == "button"
    world.end()
    world.advance(1.0)
    world.connect()
    assert not sent(world, RealtimeAudio), "a cancelled question is not asked again"


def test_a_speaker_that_never_reports_does_not_hold_up_the_turn() -> None:
    """After the playing time and a margin the turn is over."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.receive(generation_complete=True)
    world.receive(turn_complete=True)
    world.advance(5.5)
    assert not world.told(e.TurnEnded)
    world.advance(1.0)
    assert world.told(e.TurnEnded)


def test_a_turn_complete_that_never_comes() -> None:
    """Generated, played, never closed: the turn ends by itself, and a late close does no harm."""
    world = World().online()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(generation_complete=True)
    world.advance(20.0)
    assert len(world.told(e.TurnEnded)) == 1
    assert world.is_in(State.LIVE)
    world.speak()
    world.receive(turn_complete=True)
    world.reply()
    assert len(world.told(e.TurnEnded)) == 2
