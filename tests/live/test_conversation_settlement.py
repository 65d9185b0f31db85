"""What settles a question, and what does not: markers without content, reasons, statuses."""

from __future__ import annotations

from typing import Any

import pytest

from agentd import events as e
from agentd.live import commands as c
from agentd.live.machine import State
from agentd.live.messages import (
    ClientContent,
    FunctionCall,
    Interaction,
    RealtimeAudio,
    ResumptionUpdate,
    ToolResponse,
    TranscriptPiece,
)
from tests.live.scenes import CALL, call_out, cancelled, sent, talked, tool_done
from tests.live.world import World, settings

BACKENDS = [{}, {"backend": "vertex", "project": "p", "transparent_resumption": False}]


def failures(world: World) -> list[tuple[int, str, str]]:
    """Every turn that has failed: its number, the cause, the service's word."""
    return [(f.turn, f.cause, f.turn_complete_reason) for f in world.told(e.TurnFailed)]


def questions(world: World) -> list[int]:
    """How often the last utterance was asked, by connection."""
    return world.whole_deliveries()[world.spoken[-1].number]


def asked(**live: Any) -> World:
    """A question is out, after a first turn."""
    world = talked(**live)
    world.speak()
    return world


# ── an empty turn ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("markers", ["turn", "generation", "finished"])
def test_an_empty_turn_settles_nothing(markers: str) -> None:
    """Whatever markers close it, the question is asked again when the connection breaks."""
    world = asked()
    if markers == "finished":
        world.receive(model_text=TranscriptPiece("", finished=True))
    if markers != "turn":
        world.receive(generation_complete=True)
    world.receive(turn_complete=True)
    assert len(world.told(e.TurnEnded)) == 1, "the first turn's"
    world.end()
    world.connect()
    assert sent(world, RealtimeAudio)


def test_an_answer_behind_an_empty_turn_is_the_answer() -> None:
    """The marker belonged to something else."""
    world = asked()
    world.receive(turn_complete=True)
    world.advance(1.0)
    world.reply()
    assert [turn.reply_ms for turn in world.told(e.TurnEnded)] == [200.0, 200.0]
    assert not failures(world)
    assert len(world.wires) == 1


def test_a_question_answered_by_an_empty_turn_is_asked_again_once() -> None:
    """On another connection; if that is no better the household is told."""
    world = asked()
    for connection in (1, 2):
        world.receive(turn_complete=True)
        assert not failures(world)
        world.advance(3.1)
        if connection == 1:
            assert world.told(e.Disconnected)[-1].cause == "an empty answer"
            world.connect()
    (failed,) = world.told(e.TurnFailed)
    assert (failed.cause, failed.utterance) == ("no answer came", 2)
    assert questions(world) == [1, 2]
    assert world.is_in(State.LIVE)
    world.advance(60.0)
    assert len(world.wires) == 2, "and that is all"


def test_the_handle_is_not_blamed_for_an_empty_turn() -> None:
    """The connection was left on purpose, and the session goes on with the same handle."""
    world = asked()
    handle = world.good_handle
    for _ in range(2):
        world.receive(turn_complete=True)
        world.advance(3.1)
        if world.is_in(State.DIALING):
            world.connect()
    assert world.wire.plan.handle == handle
    assert not world.told(e.HandleDropped)


def test_an_empty_turn_waits_no_longer_than_for_a_reply() -> None:
    """A short reply timeout bounds it as well."""
    world = asked(reply_timeout_s=2.0)
    world.receive(turn_complete=True)
    world.advance(2.1)
    assert world.told(e.Disconnected)


def test_a_question_too_old_to_be_asked_again_has_failed() -> None:
    """Nothing is dialled for it."""
    world = asked(network__replay_max_age_s=1.0)
    world.advance(2.0)
    world.receive(turn_complete=True)
    world.advance(3.1)
    assert failures(world) == [(2, "no answer came", "")]
    assert len(world.wires) == 1


def test_speech_over_an_empty_turn_goes_on_from_it() -> None:
    """The service has heard both; one answer settles both."""
    world = asked()
    world.receive(turn_complete=True)
    world.speak()
    world.reply()
    world.end()
    world.connect()
    assert not sent(world, RealtimeAudio)
    assert not failures(world)


def test_the_late_close_of_an_older_turn_is_not_taken_for_the_new_one() -> None:
    """Nor does it start the wait of an empty turn."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.speak()
    world.receive(interrupted=True)
    world.receive(turn_complete=True)
    world.advance(10.0)
    assert not world.told(e.Disconnected)
    world.reply()
    assert not failures(world)


def test_thoughts_are_no_answer_but_a_sign_of_life() -> None:
    """They put the verdict off."""
    world = asked(reply_timeout_s=5.0)
    for _ in range(3):
        world.advance(4.0)
        world.receive(model_turn=True)
    assert world.is_in(State.LIVE)
    world.receive(turn_complete=True)
    assert len(world.told(e.TurnEnded)) == 1


def test_resumption_updates_do_not_stand_for_an_answer() -> None:
    """A service that has lost the question sends them every second; the wait ends all the same."""
    world = asked(reply_timeout_s=5.0)
    for number in range(8):
        if world.is_in(State.LIVE):
            world.receive(resumption=ResumptionUpdate(f"h{number}", resumable=True))
            world.advance(0.9)
    assert world.told(e.Disconnected)[0].reason == "the answer broke off"


# ── what the service says of it ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("RESPONSE_REJECTED", "the service rejected its own answer"),
        ("MAX_REGENERATION_REACHED", "the service rejected its own answer"),
        ("MALFORMED_FUNCTION_CALL", "the model called a function wrongly"),
        ("PROHIBITED_INPUT_CONTENT", "the service refuses the question"),
        ("GENERATED_AUDIO_SAFETY", "the service withholds its answer"),
        ("NEVER_SEEN_BEFORE", "the service ended the turn without an answer"),
    ],
)
def test_a_reason_that_means_no_answer_fails_the_question(reason: str, cause: str) -> None:
    """At once, told with its cause, and it is not asked again."""
    world = asked()
    world.receive(turn_complete=True, turn_complete_reason=reason)
    assert failures(world) == [(2, cause, reason)]
    assert reason in world.told(e.TurnFailed)[0].message()
    last = world.conversation.status(world.now, world.wall).last_turn
    assert last is not None
    assert last.turn_complete_reason == reason
    world.end()
    world.connect()
    assert not sent(world, RealtimeAudio)


def test_a_model_that_wants_to_hear_more_has_not_failed() -> None:
    """The turn is over without a word, and nothing is asked again."""
    for fields in (
        {"turn_complete": True, "turn_complete_reason": "NEED_MORE_INPUT"},
        {"turn_complete": True, "waiting_for_input": True},
        {"waiting_for_input": True},
    ):
        world = asked()
        world.receive(**fields)
        turn = world.told(e.TurnEnded)[-1]
        assert (turn.turn, turn.first_audio_ms, turn.reply_ms) == (2, None, 0.0)
        assert "nothing was said" in turn.message()
        world.receive(turn_complete=True)
        assert not failures(world)
        world.end()
        world.connect()
        assert not sent(world, RealtimeAudio)


def test_waiting_for_input_beside_an_answer_closes_nothing() -> None:
    """Its turnComplete follows."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(waiting_for_input=True)
    world.reply()
    assert world.told(e.TurnEnded)[-1].reply_ms == 300.0
    world.receive(waiting_for_input=True)
    assert len(world.told(e.TurnEnded)) == 2


def test_an_answer_that_was_broken_off_fails_when_it_has_been_heard() -> None:
    """First what was said, then the tone."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(turn_complete=True, turn_complete_reason="RESPONSE_REJECTED")
    assert not failures(world)
    world.give(e.PlaybackMark(world.last_reply, 100.0, drained=True))
    assert [turn for turn, _, _ in failures(world)] == [2]


def test_a_reason_that_nobody_knows_does_not_undo_an_answer() -> None:
    """It is shown."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(turn_complete=True, turn_complete_reason="NEVER_SEEN_BEFORE")
    world.give(e.PlaybackMark(world.last_reply, 100.0, drained=True))
    assert not failures(world)
    assert "NEVER_SEEN_BEFORE" in world.told(e.TurnEnded)[-1].message()


@pytest.mark.parametrize("how", ["parts", "transcription"])
@pytest.mark.parametrize("complete", [True, False])
def test_an_answer_in_text_alone_has_failed(how: str, complete: bool) -> None:
    """Nobody hears it; also when its turnComplete never comes."""
    world = asked()
    if how == "parts":
        world.receive(model_turn=True, written=True)
    else:
        world.receive(model_text=TranscriptPiece("ten past four"))
    world.receive(generation_complete=True)
    if complete:
        world.receive(turn_complete=True)
    else:
        world.advance(20.0)
    assert failures(world) == [(2, "the answer came as text, without sound", "")]
    assert len(world.wires) == 1


def test_an_answer_that_cannot_be_played_has_failed() -> None:
    """Sound of a type that nobody plays is no answer; with sound besides, it is one."""
    world = asked()
    world.receive(model_turn=True, unplayable="audio/mp3")
    world.receive(turn_complete=True)
    assert failures(world) == [(2, "the answer came as sound that cannot be played", "")]
    world.speak()
    world.receive(model_turn=True, unplayable="audio/mp3")
    world.reply()
    assert len(failures(world)) == 1


# ── work in the background ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("complete", [True, False])
def test_idle_ends_the_wait_alone_as_with_turn_complete(complete: bool) -> None:
    """After it nothing is awaited: no timeout, no error, no broken connection."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(turn_complete=True, interaction=Interaction.IN_PROGRESS)
    world.receive(turn_complete=complete, interaction=Interaction.IDLE)
    world.give(e.PlaybackMark(world.last_reply, 100.0, drained=True))
    world.advance(300.0)
    assert not failures(world)
    assert len(world.wires) == 1
    if not complete:
        world.receive(turn_complete=True)
    world.speak()
    world.reply()
    assert not failures(world)


def test_idle_alone_closes_an_answer() -> None:
    """Its turnComplete may come late or never."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(interaction=Interaction.IDLE)
    world.give(e.PlaybackMark(world.last_reply, 100.0, drained=True))
    assert len(world.told(e.TurnEnded)) == 2
    world.speak()
    world.receive(turn_complete=True)
    world.advance(5.0)
    assert len(world.wires) == 1
    world.reply()
    assert not failures(world)


def test_background_work_has_more_patience_and_not_for_ever() -> None:
    """Two minutes of silence, where an answer has fifteen seconds."""
    world = asked()
    world.receive(turn_complete=True, interaction=Interaction.IN_PROGRESS)
    assert [told.turn for told in world.told(e.TurnInProgress)] == [2], "for the light"
    world.advance(115.0)
    assert world.is_in(State.LIVE)
    world.receive(interaction=Interaction.IN_PROGRESS)
    world.advance(115.0)
    assert world.is_in(State.LIVE)
    world.advance(6.0)
    assert world.told(e.Disconnected)[-1].reason == "the answer broke off"


def test_idle_after_work_that_came_to_nothing() -> None:
    """Nothing was heard: an empty turn like any other."""
    world = asked()
    world.receive(turn_complete=True, interaction=Interaction.IN_PROGRESS)
    world.receive(interaction=Interaction.IDLE)
    assert len(world.told(e.TurnEnded)) == 1
    world.advance(3.1)
    assert world.told(e.Disconnected)[-1].cause == "an empty answer"


def test_a_filler_is_not_the_answer() -> None:
    """The link breaks while the service thinks on: the question is asked again."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(generation_complete=True, interaction=Interaction.IN_PROGRESS)
    world.receive(turn_complete=True, interaction=Interaction.IN_PROGRESS)
    world.end()
    world.connect()
    assert questions(world) == [1, 2]
    world.reply()
    assert not failures(world)


def test_the_status_of_an_older_turn_is_not_the_new_ones() -> None:
    """Late IN_PROGRESS does not stretch the wait for a question asked since."""
    world = asked(reply_timeout_s=5.0)
    world.speak()
    world.receive(interaction=Interaction.IN_PROGRESS)
    world.advance(6.0)
    assert world.told(e.Disconnected)


def test_speaking_over_a_filler_settles_its_question() -> None:
    """The user has gone on; a broken link does not bring the old question back."""
    world = asked()
    world.receive(audio=(bytes(48_000),), model_turn=True)
    world.receive(turn_complete=True, interaction=Interaction.IN_PROGRESS)
    world.begin()
    assert cancelled(world)
    world.finish()
    world.end()
    world.connect()
    assert questions(world) == [1, 2]
    assert world.whole_deliveries()[2] == [1]


# ── functions ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("live", BACKENDS, ids=["developer", "vertex"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_turn_of_a_function_call_is_not_the_answers(live: dict[str, Any], when: str) -> None:
    """Closed before the result or after it, it leaves the question open: asked again."""
    world = call_out(**live)
    if when == "after":
        tool_done(world)
    world.receive(model_text=TranscriptPiece("", finished=True))
    world.receive(generation_complete=True)
    world.receive(turn_complete=True)
    assert len(world.told(e.TurnEnded)) == 1
    world.end()
    world.connect()
    assert questions(world) == [1, 2]
    world.receive(calls=(FunctionCall("c2", "lamp", {"on": True}),))
    if when == "before":
        tool_done(world)
    assert len(sent(world, ToolResponse)) == 1, "and it runs once"
    world.reply()
    assert not failures(world)


@pytest.mark.parametrize("live", BACKENDS, ids=["developer", "vertex"])
def test_the_moment_between_a_result_and_the_answer_is_not_quiet(live: dict[str, Any]) -> None:
    """A connection that is to be left is not left then."""
    world = call_out(**live)
    world.receive(go_away_s=50.0)
    tool_done(world)
    world.receive(turn_complete=True)
    world.handle_update()
    world.advance(2.0)
    assert world.is_in(State.LEAVING)
    world.reply()
    world.advance(0.1)
    assert not world.is_in(State.LEAVING)
    assert world.told(e.TurnEnded)[-1].heard_ms == 200.0


def test_the_result_of_a_function_that_outlived_its_turn_is_still_spoken_about() -> None:
    """No moment before that is quiet; and if nothing is said, that is no failure."""
    world = World(settings())
    world.conversation = type(world.conversation)(
        world.settings, random=lambda: 0.5, non_blocking=lambda name: name == "lamp"
    )
    world.online()
    world.speak()
    world.receive(calls=(CALL,))
    world.reply()
    world.receive(go_away_s=50.0)
    tool_done(world)
    world.advance(3.0)
    assert world.is_in(State.LEAVING)
    world.advance(3.0)
    assert not world.is_in(State.LEAVING)
    assert not failures(world)


def test_a_slow_result_does_not_reopen_another_question() -> None:
    """What is being answered meanwhile stays answered."""
    world = World(settings())
    world.conversation = type(world.conversation)(
        world.settings, random=lambda: 0.5, non_blocking=lambda name: name == "lamp"
    )
    world.online()
    world.speak()
    world.receive(calls=(CALL,))
    world.reply()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    tool_done(world)
    world.receive(turn_complete=True)
    world.give(e.PlaybackMark(world.last_reply, 100.0, drained=True))
    assert len(world.told(e.TurnEnded)) == 2


def test_a_function_that_did_all_there_was_to_say() -> None:
    """Announced, called, and nothing after it: what was heard was the answer."""
    world = asked(reply_timeout_s=5.0)
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(calls=(CALL,))
    tool_done(world)
    world.receive(turn_complete=True)
    world.advance(5.1)
    world.give(e.PlaybackMark(world.last_reply, 100.0, drained=True))
    assert not failures(world)
    assert world.told(e.TurnEnded)[-1].heard_ms == 100.0
    assert len(world.wires) == 1


def test_a_function_without_a_word_has_failed_when_the_wait_is_over() -> None:
    """Its question is not asked again: the function has run."""
    world = call_out(reply_timeout_s=5.0)
    tool_done(world)
    world.receive(turn_complete=True)
    world.advance(4.9)
    assert not failures(world)
    world.advance(0.2)
    assert failures(world) == [(2, "no answer came", "")]
    assert len(world.wires) == 1


def test_what_is_said_before_a_call_plays_while_the_call_runs() -> None:
    """The part is over, the light says thinking, and the question waits for the rest."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(calls=(CALL,))
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(turn_complete=True)
    assert [turn.turn for turn in world.told(e.TurnStarted)][-2:] == [2, 3]
    tool_done(world)
    world.receive(turn_complete=True)
    world.end()
    world.connect()
    assert questions(world) == [1, 2]


def test_nobody_asked_and_nothing_is_owed() -> None:
    """A call of the service's own accord, answered and closed without a word."""
    world = talked()
    world.receive(calls=(CALL,))
    tool_done(world)
    world.receive(turn_complete=True)
    world.advance(30.0)
    assert not failures(world)
    assert len(world.wires) == 1


# ── what comes late ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("drained", [True, False])
def test_transcription_after_the_turn_belongs_to_it(drained: bool) -> None:
    """It opens no turn of its own, which nothing would ever close."""
    world = asked()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.receive(turn_complete=True)
    if drained:
        world.give(e.PlaybackMark(2, 100.0, drained=True))
    world.receive(model_text=TranscriptPiece("late"))
    last = world.delivered[-1]
    assert isinstance(last, e.TranscriptText)
    assert (last.turn, last.text) == (2, "late")
    world.receive(model_turn=True)
    world.advance(60.0)
    assert len(world.wires) == 1
    assert not failures(world)


def test_thoughts_while_somebody_speaks_are_nobodys() -> None:
    """They open nothing."""
    world = talked()
    world.begin()
    world.receive(model_text=TranscriptPiece("late"))
    world.receive(model_turn=True)
    world.finish()
    world.reply()
    assert not failures(world)


def test_replies_without_end_are_not_counted_without_end() -> None:
    """Of thousands at the speaker the last few are followed; all are told."""
    world = talked()
    for _ in range(500):
        world.receive(audio=(bytes(960),), model_turn=True)
        world.receive(turn_complete=True)
    assert len(world.told(e.TurnEnded)) == 1 + 500 - 32
    world.advance(60.0)
    assert len(world.told(e.TurnEnded)) == 501


def test_forget_ends_the_expectation_too() -> None:
    """Nothing of what was before is waited for."""
    world = call_out()
    tool_done(world)
    world.receive(turn_complete=True)
    world.give(c.Forget())
    world.reconnect()
    world.advance(60.0)
    assert not failures(world)
    assert not sent(world, ClientContent)


def test_an_answer_that_overtakes_the_end_of_its_question() -> None:
    """The service's own detector was faster: what it says belongs to the question under way."""
    world = World(settings(activity_detection="server")).online()
    world.begin()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.finish()
    world.reply()
    assert [turn.reply_ms for turn in world.told(e.TurnEnded)] == [300.0]


def test_words_that_nobody_has_just_said() -> None:
    """A transcription of the user without a turn is dropped."""
    world = talked()
    before = len(world.delivered)
    world.receive(user_text=TranscriptPiece("late"))
    assert len(world.delivered) == before


def test_a_failed_turn_leaves_the_functions_of_another_alone() -> None:
    """Only its own results go."""
    world = World(settings())
    world.conversation = type(world.conversation)(
        world.settings, random=lambda: 0.5, non_blocking=lambda name: name == "lamp"
    )
    world.online()
    world.speak()
    world.receive(calls=(CALL,))
    world.reply()
    world.speak()
    world.receive(calls=(FunctionCall("c2", "radio", {}),))
    tool_done(world, 2)
    world.receive(turn_complete=True, turn_complete_reason="RESPONSE_REJECTED")
    assert [tool.name for tool in world.tools.values()] == ["lamp"]
    tool_done(world)
    assert sent(world, ToolResponse)[-1].name == "lamp"
