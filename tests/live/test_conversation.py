"""What the conversation does about this and that, one fact at a time."""

from __future__ import annotations

from typing import Any

import pytest

from agentd import events as e
from agentd.clock import WallTime
from agentd.live import commands as c
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import State
from agentd.live.messages import (
    ActivityEnd,
    ActivityStart,
    Audio,
    ClientContent,
    Content,
    ContextUpdate,
    FunctionCall,
    Interaction,
    RealtimeText,
    ResumptionUpdate,
    ServerMessage,
    Text,
    Tokens,
    ToolResponse,
)
from agentd.live.replay import MAX_TEXTS
from tests.live.world import (
    BAD_KEY,
    DEAD_HANDLE,
    DROPPED,
    INTERNAL,
    LOCAL,
    NO_ROUTE,
    QUOTA,
    World,
    settings,
)

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
SEED_ONLY = "gemini-3.1-flash-live-preview"


def talked(**live: Any) -> World:
    """A world in which one turn has been had and a handle is there."""
    world = World(settings(**live)).online()
    world.speak()
    world.receive(user_text=Text("what is this"), model_text=Text("a kettle"))
    world.reply()
    return world


def sent(world: World, kind: type) -> list[Any]:
    """Messages of one kind on the newest connection."""
    return [message for message in world.wire.received if isinstance(message, kind)]


def cancelled(world: World) -> list[int]:
    """Turns that were silenced."""
    return [value.turn for value in world.delivered if isinstance(value, e.ReplyCancelled)]


# ── sound goes out ────────────────────────────────────────────────────────────────────────────


def test_the_pre_roll_goes_out_at_once_and_the_rest_in_pieces() -> None:
    """360 ms at once, in messages of at most 100 ms; then 60 ms at a time; the rest at the end."""
    world = World().online()
    world.begin()
    assert [len(message.pcm) for message in sent(world, Audio)] == [3200, 3200, 3200]
    for _ in range(7):
        world.go_on()
    assert [len(message.pcm) for message in sent(world, Audio)[3:]] == [1920, 1920]
    world.finish()
    assert [len(message.pcm) for message in sent(world, Audio)[5:]] == [640]


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


# ── mute ──────────────────────────────────────────────────────────────────────────────────────


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
    assert not sent(world, Audio)


# ── replies and interruptions ─────────────────────────────────────────────────────────────────


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
    assert not sent(world, Audio), "answered questions are not asked again"


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
    assert (turn.speech_ms, turn.first_audio_ms, turn.reply_ms) == (0.0, -1.0, 200.0)


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
    assert not sent(world, Audio), "a cancelled question is not asked again"


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


# ── GoAway and leaving ────────────────────────────────────────────────────────────────────────


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


# ── trust ─────────────────────────────────────────────────────────────────────────────────────


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


# ── what becomes of a broken turn ─────────────────────────────────────────────────────────────


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
    assert not sent(world, Audio)
    world.give(e.PlaybackMark(world.last_reply, 1000.0, drained=True))
    assert not world.told(e.TurnEnded)[-1].interrupted


def test_an_old_question_is_not_asked_again() -> None:
    """The turn is announced failed."""
    world = talked(network__replay_max_age_s=2.0)
    world.speak()
    world.receive(user_text=Text("hm"))
    world.advance(5.0)
    world.end()
    assert world.told(e.TurnFailed)
    world.connect()
    assert not sent(world, Audio)


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
    world.receive(user_text=Text("hm"))
    world.advance(5.0)
    assert not world.told(e.TurnFailed)
    world.speak()
    world.reply()
    assert [failed.utterance for failed in world.told(e.TurnFailed)] == [unanswered.number]


def test_an_answer_that_comes_late_is_an_answer() -> None:
    """Giving up the repetition is not giving up the answer."""
    world = talked(network__replay_max_age_s=2.0)
    world.speak()
    world.receive(user_text=Text("hm"))
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


# ── the network ───────────────────────────────────────────────────────────────────────────────


def online(world: World, interface: str = "wlan0") -> None:
    """The path leads over an interface."""
    world.give(e.LinkChanged(interface=interface, online=True))


def offline(world: World) -> None:
    """There is no path."""
    world.give(e.LinkChanged(interface="", online=False))


def test_a_new_path_means_a_new_connection_at_once() -> None:
    """Aborted, not closed; dialled without delay."""
    world = talked()
    online(world)
    assert world.is_in(State.LIVE), "the first report is no change"
    online(world, "wwan0")
    assert world.wire.aborted
    world.advance(0.0)
    assert world.is_in(State.DIALING)
    assert world.told(e.Disconnected)[0].cause == "network changed"
    world.connect()
    assert world.told(e.Resumed)[0].gap_ms == 0.0


def test_without_a_network_there_is_no_dialling_in_vain() -> None:
    """One look per longest backoff, in case the monitor is wrong; at once when it is back."""
    world = talked()
    online(world)
    offline(world)
    world.advance(50.0)
    assert world.is_in(State.WAITING)
    assert len(world.wires) == 1
    world.speak()
    assert len(world.wires) == 1
    world.advance(15.0)
    assert len(world.wires) == 2
    world.end(NO_ROUTE)
    online(world)
    assert world.is_in(State.DIALING)


def test_a_flapping_link_ends_connected_within_the_budget() -> None:
    """N3: twenty changes in thirty seconds."""
    world = talked()
    online(world)
    for flap in range(20):
        world.advance(1.5)
        if flap % 2:
            online(world)
        else:
            offline(world)
    assert len(world.wires) <= 21
    world.settle()


def test_an_endpoint_on_this_machine_has_no_path() -> None:
    """Demo, doctor and tests work without a network."""
    for host in ("127.0.0.1:9443", "localhost:9443", "[::1]:9443"):
        world = World(settings(base_url=f"https://{host}")).online()
        online(world)
        offline(world)
        assert world.is_in(State.LIVE)


def test_a_portal_is_tried_again_on_another_network() -> None:
    """What a network has caused another network may cure; a bad key it does not."""
    for failure, dials in (
        (Failure(Phase.HANDSHAKE, Kind.CERTIFICATE, 0, "self-signed"), True),
        (BAD_KEY, False),
    ):
        world = World().start()
        online(world)
        world.advance(0.0)
        while not world.is_in(State.DIALING):
            world.advance(0.5)
        world.end(failure)
        assert world.is_in(State.REFUSED)
        online(world, "wwan0")
        assert world.is_in(State.DIALING) is dials


# ── refusals ──────────────────────────────────────────────────────────────────────────────────


def test_a_refused_key_is_not_hammered_and_a_reload_tries_at_once() -> None:
    """Told with its remedy; the next try minutes later."""
    world = World().start()
    world.end(BAD_KEY)
    (refused,) = world.told(e.Refused)
    assert refused.cause == "credential refused"
    assert refused.remedy
    world.speak()
    world.advance(240.0)
    assert len(world.wires) == 1
    world.give(c.Reload(world.settings))
    assert len(world.wires) == 2
    world.connect()


def test_quota_is_backed_off_and_not_hurried() -> None:
    """Not even by somebody speaking; the handle stays."""
    world = talked()
    world.end(QUOTA)
    (told,) = world.told(e.QuotaExhausted)
    assert told.retry_in_s >= 5.0
    world.speak()
    world.advance(4.0)
    assert len(world.wires) == 1
    world.advance(2.0)
    assert world.wire.plan.handle == world.good_handle


def test_the_service_may_name_the_time() -> None:
    """Retry-After is honoured."""
    world = World().start()
    world.end(Failure(Phase.HANDSHAKE, Kind.STATUS, 503, retry_after_s=120.0))
    world.advance(119.0)
    assert len(world.wires) == 1
    world.advance(2.0)
    assert len(world.wires) == 2


def test_a_shell_that_forgets_its_timeouts() -> None:
    """A dial that never ends is ended."""
    world = World().start()
    world.advance(30.0)
    assert world.told(e.Disconnected)[0].phase == "setup"
    assert world.told(e.Disconnected)[0].cause == "timeout"


# ── requests ──────────────────────────────────────────────────────────────────────────────────


def test_say() -> None:
    """A typed question is a turn; in a gap it waits."""
    world = World().online()
    world.give_say("hello")
    assert sent(world, ClientContent) == [
        ClientContent((Content("user", "hello"),), turn_complete=True)
    ]
    world.reply()
    world.end()
    world.give_say("again")
    world.connect()
    assert world.outcomes == ["sent", "will be sent when connected"]
    assert len(sent(world, ClientContent)) == 1


def test_say_on_a_model_that_takes_text_as_realtime_input_only() -> None:
    """And such a model takes no silent context."""
    world = World(settings(model=SEED_ONLY)).online()
    world.give_say("hello")
    assert sent(world, RealtimeText) == [RealtimeText("hello")]
    world.give(c.AddContext("the oven is on"))
    assert world.outcomes[-1].startswith("refused")


def test_an_unanswered_text_is_sent_again() -> None:
    """Once, on the next connection."""
    world = talked()
    world.give_say("hello")
    world.end()
    world.connect()
    assert len(sent(world, ClientContent)) == 1
    assert world.conversation.status(world.now, world.wall).replayed == 1


def test_too_many_texts_are_refused() -> None:
    """The asker is told."""
    world = World().start()
    for _ in range(MAX_TEXTS):
        world.give_say()
    world.give_say()
    world.give(c.AddContext("x"))
    assert all(outcome.startswith("refused") for outcome in world.outcomes[-2:])


def test_context_does_not_interrupt_a_reply() -> None:
    """It waits for the end of the answer, or goes just ahead of the next question."""
    world = World().online()
    world.speak()
    world.give(c.AddContext("the oven is on"))
    assert not sent(world, ClientContent)
    world.reply()
    assert sent(world, ClientContent) == [
        ClientContent((Content("user", "the oven is on"),), turn_complete=False)
    ]
    world.speak()
    world.give(c.AddContext("the oven is off"))
    world.speak()
    assert len(sent(world, ClientContent)) == 2


def test_a_text_waits_for_the_end_of_speech() -> None:
    """Typing does not cut somebody off."""
    world = World().online()
    world.begin()
    world.give_say()
    assert not sent(world, ClientContent)
    world.finish()
    assert sent(world, ClientContent)


@pytest.mark.parametrize(
    ("live", "how", "kind"),
    [
        ({"backend": "vertex", "project": "p"}, "now", ClientContent),
        ({}, "context_update", ContextUpdate),
        ({"model": NATIVE}, "on_resume", None),
    ],
)
def test_instruct(live: dict[str, Any], how: str, kind: type | None) -> None:
    """By the best way there is, and the asker is told which; the next setup carries it."""
    world = talked(**live)
    world.give(c.Instruct("be brief"))
    assert world.outcomes == [how]
    assert world.told(e.Instructed)[0].how == how
    if kind is None:
        assert world.is_in(State.SWITCHING), "idle: applied at once, by resuming"
    else:
        assert len(sent(world, kind)) == 1
        world.end()
    world.advance(1.0)
    assert world.wire.plan.instruction == "be brief"
    assert world.wire.plan.handle is not None


def test_a_role_system_instruction_does_not_interrupt_a_reply() -> None:
    """It waits for the end of the answer, or goes ahead of the next question."""
    world = talked(backend="vertex", project="p")
    world.speak()
    world.give(c.Instruct("be brief"))
    assert not sent(world, ClientContent)
    world.reply()
    assert sent(world, ClientContent) == [
        ClientContent((Content("system", "be brief"),), turn_complete=False)
    ]


def test_an_instruction_in_a_gap_goes_with_the_next_setup() -> None:
    """And is not sent twice."""
    world = talked(backend="vertex", project="p")
    world.end()
    world.give(c.Instruct("be brief"))
    assert world.outcomes == ["on_resume"]
    world.end(NO_ROUTE)
    world.advance(5.0)
    world.connect()
    assert world.wire.plan.instruction == "be brief"
    assert not sent(world, ClientContent)


def test_forget() -> None:
    """Handle, transcript, instruction and silence; the next session knows nothing."""
    world = talked()
    world.give(c.Instruct("be a pirate"))
    world.speak()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.give(c.Forget())
    assert cancelled(world) == [world.last_reply]
    assert world.documents["session"] is None
    assert world.documents["transcript"] is None
    assert "1 turns" in world.outcomes[-1]
    assert "instruction" in world.outcomes[-1]
    assert world.told(e.Forgotten)
    world.advance(0.0)
    assert world.wire.plan.handle is None
    assert world.wire.plan.instruction == world.settings.live.system_instruction
    world.connect()
    fresh = world.told(e.SessionFresh)[-1]
    assert (fresh.cause, fresh.restored_turns) == ("forgotten", 0)
    assert world.wire.received == []


def test_forget_in_a_gap() -> None:
    """There is nothing to abort; it is forgotten all the same."""
    world = World().start()
    world.end(NO_ROUTE)
    world.give(c.Forget())
    assert world.outcomes == ["no stored session, 0 turns of transcript"]


# ── reload ────────────────────────────────────────────────────────────────────────────────────


def reloaded(world: World, **live: Any) -> str:
    """Reload with other settings and return how."""
    world.settings = settings(**live)
    world.give(c.Reload(world.settings))
    return world.outcomes[-1]


def test_reload_of_what_needs_no_connection() -> None:
    """Timeouts and limits count at once."""
    world = talked()
    assert reloaded(world, reply_timeout_s=2.0, network__replay_max_age_s=5.0) == "now"
    assert world.is_in(State.LIVE)


def test_reload_of_another_voice() -> None:
    """At the next quiet moment the session is resumed with it."""
    world = talked()
    world.speak()
    assert reloaded(world, voice="Puck") == "on_resume"
    assert world.is_in(State.LEAVING)
    world.reply()
    world.advance(0.0)
    assert world.wire.plan.settings.live.voice == "Puck"
    assert world.wire.plan.handle is not None


def test_reload_of_another_instruction() -> None:
    """Goes the way of `instruct`; the file has the last word."""
    world = talked()
    world.give(c.Instruct("by word"))
    assert reloaded(world, system_instruction="by file") == "context_update"
    assert sent(world, ContextUpdate)[-1] == ContextUpdate("by file")


def test_reload_of_another_model() -> None:
    """A fresh session that knows the conversation."""
    world = talked()
    assert reloaded(world, model=NATIVE) == "fresh"
    world.good_handle = None
    world.advance(0.0)
    world.connect()
    assert world.told(e.SessionFresh)[-1].restored_turns == 1


def test_reload_during_a_dial() -> None:
    """The attempt with the old settings is given up."""
    world = World().start()
    assert reloaded(world, voice="Puck") == "on_resume"
    world.advance(0.0)
    assert world.wire.plan.settings.live.voice == "Puck"


def test_reload_that_forbids_a_transcript() -> None:
    """It is deleted at once."""
    world = talked()
    assert world.documents["transcript"]
    reloaded(world, privacy__restore_context=False)
    assert world.documents["transcript"] is None


def test_another_way_of_framing_speech_waits_for_the_next_connection() -> None:
    """The setup of the present one says who frames it."""
    world = talked()
    world.begin()
    reloaded(world, activity_detection="server")
    world.settings = settings()  # what the present connection was set up with
    world.finish()
    assert sent(world, ActivityEnd)


# ── restoring ─────────────────────────────────────────────────────────────────────────────────


def documents(world: World) -> tuple[object, object]:
    """What a restart would find."""
    return world.documents.get("session"), world.documents.get("transcript")


def test_a_restart_goes_on() -> None:
    """With the handle, and with an instruction given by word."""
    world = talked()
    world.give(c.Instruct("be brief"))
    world.give(c.Stop())
    again = World().start(*documents(world))
    assert again.wire.plan.handle == world.good_handle
    assert again.wire.plan.instruction == "be brief"


def test_an_instruction_by_word_ends_with_the_configured_one() -> None:
    """Somebody has edited the file meanwhile."""
    world = talked()
    world.give(c.Instruct("be brief"))
    again = World(settings(system_instruction="new")).start(*documents(world))
    assert again.wire.plan.instruction == "new"


@pytest.mark.parametrize("document", [None, [], {"version": 9}, {"version": 1, "handles": 7}])
def test_a_restart_with_nonsense(document: object) -> None:
    """Begins afresh."""
    world = World().start(document, document)
    assert world.wire.plan.handle is None


def test_history_for_models_that_take_it_only_at_the_start() -> None:
    """Announced in the setup, and closed with turnComplete."""
    world = talked(model=SEED_ONLY)
    world.end()
    world.end(DEAD_HANDLE)
    assert world.wire.plan.initial_history
    world.connect()
    (seed,) = sent(world, ClientContent)
    assert seed.turn_complete


def test_only_what_was_heard_is_remembered() -> None:
    """Of an interrupted reply the rest was never said, as far as anybody knows."""
    world = World().online()
    world.speak()
    world.receive(
        audio=(bytes(48_000),), model_turn=True, model_text=Text("one two three four five six")
    )
    world.give(e.PlaybackMark(world.last_reply, 500.0, drained=False))
    world.speak()
    stored = world.documents["transcript"]["turns"][0]["model"]
    assert stored == "one two three …"


# ── tools ─────────────────────────────────────────────────────────────────────────────────────

CALL = FunctionCall("c1", "lamp", {"on": True})


def call_out(**live: Any) -> World:
    """A question was asked and the model calls a function."""
    world = talked(**live)
    world.speak()
    world.receive(calls=(CALL,))
    return world


def tool_done(world: World, key: int = 1) -> None:
    """The tool answers."""
    world.tools.pop(key, None)
    world.give(c.ToolDone(key, "answered", {"result": "ok"}))


def test_a_call_is_answered_once() -> None:
    """Whatever comes twice."""
    world = call_out()
    world.receive(calls=(CALL,))
    assert [(tool.name, tool.args) for tool in world.tools.values()] == [("lamp", {"on": True})]
    tool_done(world)
    tool_done(world)
    assert sent(world, ToolResponse) == [ToolResponse("c1", "lamp", {"result": "ok"})]
    assert [told.outcome for told in world.told(e.ToolCalled)] == ["answered"]


def test_a_tool_at_work_is_not_the_services_silence() -> None:
    """The reply timeout waits for the tool, the tool's own deadline does not."""
    world = call_out(reply_timeout_s=2.0, tools__timeout_s=8.0)
    world.advance(7.0)
    assert world.is_in(State.LIVE)
    world.advance(2.0)
    assert [told.outcome for told in world.told(e.ToolCalled)] == ["timeout"]
    assert "error" in sent(world, ToolResponse)[0].response
    assert not world.tools


def test_a_withdrawn_call_is_stopped_and_not_answered() -> None:
    """Cancellation by id."""
    world = call_out()
    world.receive(cancelled_calls=("c1", "unknown"))
    assert not world.tools
    assert [told.outcome for told in world.told(e.ToolCalled)] == ["cancelled"]
    tool_done(world)
    assert not sent(world, ToolResponse)


def test_a_question_asked_again_does_not_run_its_tool_twice() -> None:
    """The same call of the repeated question takes the result of the first."""
    world = call_out()
    tool_done(world)
    world.end()
    world.connect()
    world.receive(calls=(FunctionCall("c2", "lamp", {"on": True}),))
    assert not world.tools
    assert sent(world, ToolResponse) == [ToolResponse("c2", "lamp", {"result": "ok"})]


def test_a_tool_still_at_work_answers_the_repeated_call() -> None:
    """It was not started again."""
    world = call_out()
    world.end()
    world.connect()
    world.receive(calls=(FunctionCall("c2", "lamp", {"on": True}),))
    assert list(world.tools) == [1]
    tool_done(world)
    assert [r.call_id for r in sent(world, ToolResponse)] == ["c2"]


def test_a_result_that_outlives_its_question_is_told_as_conversation() -> None:
    """When the question is too old to be asked again."""
    world = call_out(network__replay_max_age_s=1.0)
    world.advance(3.0)
    world.end()
    world.connect()
    tool_done(world)
    assert not sent(world, ToolResponse)
    (told,) = sent(world, ClientContent)
    assert "lamp" in told.turns[0].text
    assert told.turn_complete
    assert [told.outcome for told in world.told(e.ToolCalled)] == ["late"]


def test_a_finished_result_is_told_too() -> None:
    """It had been sent, but the model's state does not contain it."""
    world = call_out(network__replay_max_age_s=1.0)
    tool_done(world)
    world.advance(3.0)
    world.end()
    world.connect()
    assert "lamp" in sent(world, ClientContent)[0].turns[0].text


def test_a_result_that_the_repeated_question_did_not_need() -> None:
    """It is dropped, whether the tool has finished or not."""
    for finished in (True, False):
        world = call_out()
        if finished:
            tool_done(world)
        world.end()
        world.connect()
        world.reply()
        tool_done(world)
        assert not sent(world, ClientContent)
        assert not sent(world, ToolResponse)


def test_too_many_calls() -> None:
    """The surplus is answered with an error."""
    world = talked()
    world.speak()
    world.receive(calls=tuple(FunctionCall(f"c{n}", "f", {"n": n}) for n in range(40)))
    assert len(world.tools) == 32
    assert len(sent(world, ToolResponse)) == 8


def test_audio_waits_for_a_blocking_call_where_the_model_demands_it() -> None:
    """On models that close with 1008 otherwise; it goes out with the answer."""
    world = call_out(model=NATIVE)
    world.speak()
    assert len(sent(world, ActivityStart)) == 2
    world.give_say("typed")
    assert not sent(world, ClientContent)
    tool_done(world)
    kinds = [type(message) for message in world.wire.received]
    assert kinds.index(ToolResponse) < len(kinds) - kinds[::-1].index(ActivityStart) - 1
    assert sent(world, ClientContent)


def test_a_slow_tool_does_not_block_where_the_backend_allows() -> None:
    """Its answer says when to speak of it."""
    world = World(settings(model=NATIVE))
    world.conversation = type(world.conversation)(
        world.settings, random=lambda: 0.5, non_blocking=lambda name: name == "lamp"
    )
    world.online()
    world.speak()
    world.receive(calls=(CALL,))
    world.reply()
    world.speak()
    assert len(sent(world, ActivityStart)) == 2
    tool_done(world)
    assert sent(world, ToolResponse)[0].scheduling == "WHEN_IDLE"


def test_stop_and_forget_stop_the_tools() -> None:
    """Nothing runs on."""
    for request in (c.Stop(), c.Forget()):
        world = call_out()
        world.give(request)
        assert not world.tools


# ── resting, stopping, status ─────────────────────────────────────────────────────────────────


def test_a_quiet_hour_releases_the_connection() -> None:
    """Closed cleanly, handle kept; the next word reconnects and waits in the ring."""
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
    world.end(Failure(Phase.HANDSHAKE, Kind.CERTIFICATE, 0, "certificate is not yet valid"))
    assert not world.told(e.Refused)
    assert world.told(e.Disconnected)[0].cause == "clock not set"


# ── corners ───────────────────────────────────────────────────────────────────────────────────


def test_timers_of_what_is_over_do_nothing() -> None:
    """They may fire late."""
    world = talked()
    dials = len(world.wires)
    for name in ("tool:99", "dial", "setup", "go_away", "close", "stable", "release", "reply"):
        world.give(c.TimerFired(name))
    world.end(QUOTA)
    for name in ("close", "go_away"):
        world.give(c.TimerFired(name))
    assert len(world.wires) == dials


def test_a_dial_timer_respects_the_budget() -> None:
    """Also when it fires early."""
    world = World(settings(dials_per_min=2)).start()
    world.end(NO_ROUTE)
    world.end(NO_ROUTE)
    assert world.is_in(State.WAITING)
    world.give(c.TimerFired("dial"))
    assert len(world.wires) == 2
    world.advance(60.0)
    assert len(world.wires) == 3


def test_a_withdrawn_call_that_was_answered_already() -> None:
    """There is nothing left to stop."""
    world = call_out()
    tool_done(world)
    world.receive(cancelled_calls=("c1",))
    assert [told.outcome for told in world.told(e.ToolCalled)] == ["answered"]


def test_a_tool_finishes_between_two_connections() -> None:
    """Its result waits for the repeated call, also when part of the reply had been heard."""
    world = call_out()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.end()
    tool_done(world)
    world.connect()
    assert not sent(world, ToolResponse)
    world.receive(calls=(FunctionCall("c2", "lamp", {"on": True}),))
    assert [r.call_id for r in sent(world, ToolResponse)] == ["c2"]
    assert not world.tools


def test_two_calls_of_two_questions() -> None:
    """Renumbering one question leaves the call of the other alone."""
    world = call_out()
    world.speak()
    world.receive(turn_complete=True)
    world.receive(calls=(FunctionCall("c9", "radio", {}),), audio=(bytes(4800),), model_turn=True)
    world.end()
    world.connect()
    world.receive(calls=(FunctionCall("c10", "radio", {}),))
    assert [tool.name for tool in world.tools.values()] == ["lamp", "radio"]
    tool_done(world, 2)
    assert [r.call_id for r in sent(world, ToolResponse)] == ["c10"]
    world.give(c.Forget())
    assert not world.tools


def test_an_instruction_that_finds_the_connection_gone() -> None:
    """It goes with the next setup."""
    world = talked(backend="vertex", project="p")
    world.speak()
    world.give(c.Instruct("be brief"))
    world.receive(turn_complete=True)
    world.speak()
    world.give(c.Instruct("be brief!"))
    world.end(NO_ROUTE)
    world.reconnect()
    assert world.wire.plan.instruction == "be brief!"


def test_reload_while_released() -> None:
    """Nothing is dialled for it."""
    world = talked(idle_release_min=1.0)
    world.advance(61.0)
    assert world.is_in(State.RELEASED)
    assert reloaded(world, voice="Puck", idle_release_min=1.0) == "on_resume"
    assert world.is_in(State.RELEASED)


def test_the_previous_handle_gets_one_chance() -> None:
    """The newest was given up for internal errors; after both, a fresh session is dialled."""
    world = talked()
    world.handle_update()
    world.end()
    world.speak()
    for _ in range(4):
        while not world.is_in(State.DIALING):
            world.advance(0.2)
        assert world.wire.plan.handle is not None
        world.end(Failure(Phase.SETUP, Kind.CLOSED, 1011, "Internal error encountered."))
    assert len(world.told(e.HandleDropped)) == 2
    assert world.is_in(State.DIALING), "another rung is tried without delay"
    assert world.wire.plan.handle is None


def test_a_repeated_reply_after_the_broken_one_was_played() -> None:
    """There is nothing left to silence."""
    world = talked()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.end()
    world.give(e.PlaybackMark(world.last_reply, 100.0, drained=True))
    world.connect()
    world.reply()
    assert cancelled(world) == []


def test_two_replies_at_a_silent_speaker() -> None:
    """Each is over in its own time."""
    world = World().online()
    for ms in (1000, 20_000):
        world.receive(audio=(bytes(48 * ms),), model_turn=True)
        world.receive(generation_complete=True)
        world.receive(turn_complete=True)
    world.advance(7.0)
    assert len(world.told(e.TurnEnded)) == 1
    world.advance(30.0)
    assert len(world.told(e.TurnEnded)) == 2


def test_split_speech_that_a_blocking_call_holds_up() -> None:
    """Whole, when the call is over."""
    world = World(settings(model=NATIVE)).online()
    world.begin()
    world.receive(calls=(CALL,))
    for _ in range(5):
        world.go_on()
    world.finish(e.EndReason.MAX_LENGTH)
    world.advance(2.0)
    tool_done(world)
    assert world.heard_by(world.wire) == bytes(world.spoken[0].pcm)
    assert sent(world, ActivityEnd)


def test_a_text_between_the_parts_of_split_speech() -> None:
    """The parts become two activities; everything arrives in the order in which it was given."""
    world = World().online()
    world.speak(2, end=False)
    world.finish(e.EndReason.MAX_LENGTH)
    world.give_say()
    world.speak(2)
    world.advance(1.5)
    kinds = [type(m) for m in world.wire.received if not isinstance(m, Audio)]
    assert kinds == [ActivityStart, ActivityEnd, ClientContent, ActivityStart, ActivityEnd]


def test_a_question_that_kills_every_connection_is_given_up() -> None:
    """Spoken, it is announced lost; typed, its turn has failed; and the session lives on."""
    for typed in (False, True):
        world = talked()
        if typed:
            world.give_say()
        else:
            world.speak()
        for _ in range(4):
            world.end(INTERNAL)
            world.reconnect()
        world.advance(1.0)
        assert world.is_in(State.LIVE)
        if typed:
            assert world.told(e.TurnFailed)
        else:
            assert [lost.utterance for lost in world.told(e.SpeechLost)] == [2]


def indexed_world() -> World:
    """Vertex AI with indices, one turn had."""
    return talked(backend="vertex", project="p")


def test_speech_that_becomes_unwanted_in_a_gap_is_closed_at_the_service() -> None:
    """Its start is part of the resumed state; without an end the activity would stay open."""
    world = indexed_world()
    world.begin()
    world.handle_update()
    world.end()
    world.finish(e.EndReason.DISCARDED)
    world.connect()
    assert [type(m) for m in world.wire.received] == [ActivityEnd]
    assert world.lit is None


def test_speech_whose_start_the_service_never_saw_is_not_closed() -> None:
    """There is nothing to close."""
    world = indexed_world()
    world.begin()
    world.end()
    world.finish(e.EndReason.DISCARDED)
    world.connect()
    assert world.wire.received == []
    assert world.lit is None


def test_the_rest_of_a_question_is_sent_again_and_answered() -> None:
    """What the handle's state contains is not sent, the rest is, and the light shines."""
    world = indexed_world()
    spoken = world.speak(10, end=False)
    world.handle_update(2)
    world.finish()
    world.end()
    world.connect()
    assert len(sent(world, Audio)) == 3
    assert isinstance(world.wire.received[-1], ActivityEnd)
    assert world.told(e.Replayed)[-1].way == "index"
    assert world.heard_by(world.wire).endswith(bytes(spoken.pcm))
    assert any(event.replay for event in world.told(e.UplinkOpened))
    world.reply()
    assert not world.told(e.TurnEnded)[-1].interrupted


def test_tool_results_go_nowhere_without_a_connection() -> None:
    """They wait."""
    world = call_out()
    world.end(NO_ROUTE)
    tool_done(world)
    assert not sent(world, ToolResponse)


def test_what_is_released_by_its_timer_must_be_quiet() -> None:
    """A timer that fires while somebody speaks releases nothing."""
    world = talked(idle_release_min=1.0)
    world.advance(59.0)
    world.begin()
    world.give(c.TimerFired("release"))
    assert world.is_in(State.LIVE)


def test_new_speech_follows_an_index_replay() -> None:
    """What was spoken in the gap comes after the rest of what was spoken before it."""
    world = indexed_world()
    world.speak(5)
    world.end()
    world.speak(5)
    world.connect()
    heard = world.heard_by(world.wire)
    assert heard.endswith(bytes(world.spoken[1].pcm + world.spoken[2].pcm))
    assert [told.way for told in world.told(e.Replayed)] == ["index", "utterance"]


def test_muted_speech_is_closed_but_not_answered_after_a_resume() -> None:
    """Its beginning is known to the service; no sound of it follows."""
    world = indexed_world()
    world.begin()
    world.handle_update()
    world.go_on()
    world.mute()
    world.end()
    world.connect()
    assert [type(m) for m in world.wire.received] == [ActivityEnd]


def test_a_door_that_slams_is_not_the_questions_fault() -> None:
    """Only connections that carried it count against a question."""
    world = talked()
    spoken = world.speak()
    world.end()
    for _ in range(4):
        while not world.is_in(State.DIALING):
            world.advance(0.2)
        world.end(Failure(Phase.SETUP, Kind.CLOSED, 1011, "Internal error encountered."))
    world.reconnect()
    assert world.heard_by(world.wire) == bytes(spoken.pcm)


def test_late_audio_of_a_silenced_reply_while_speech_is_held_up() -> None:
    """The user has spoken over it; that the speech must wait for a call changes nothing."""
    world = World(settings(model=NATIVE)).online()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True, calls=(CALL,))
    world.begin()
    before = len(world.delivered)
    world.receive(audio=(bytes(4800),), model_turn=True)
    assert len(world.delivered) == before


def test_an_adopted_result_belongs_to_the_repeated_question() -> None:
    """When that is over, the result is gone: the same call later runs anew."""
    world = call_out()
    world.receive(audio=(bytes(4800),), model_turn=True)
    tool_done(world)
    world.end()
    world.connect()
    world.receive(calls=(FunctionCall("c2", "lamp", {"on": True}),))
    world.reply()
    world.end()
    world.reconnect()
    world.speak()
    world.receive(calls=(FunctionCall("c3", "lamp", {"on": True}),))
    assert [tool.name for tool in world.tools.values()] == ["lamp"]
