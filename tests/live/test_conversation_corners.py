"""Corners."""

from __future__ import annotations

from agentd import events as e
from agentd.live import commands as c
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import State
from agentd.live.messages import (
    ActivityEnd,
    ActivityStart,
    AudioStreamEnd,
    ClientContent,
    FunctionCall,
    RealtimeAudio,
    Silence,
    ToolResponse,
    TranscriptPiece,
)
from tests.live.scenes import (
    CALL,
    NATIVE,
    call_out,
    cancelled,
    reloaded,
    sent,
    talked,
    tool_done,
)
from tests.live.world import (
    INTERNAL,
    NO_ROUTE,
    QUOTA,
    World,
    settings,
)


def indexed_world() -> World:
    """Vertex AI with indices, one turn had."""
    return talked(backend="vertex", project="p")


def test_timers_of_what_is_over_do_nothing() -> None:
    """They may fire late."""
    world = talked()
    dials = len(world.wires)
    world.tick()
    world.end(QUOTA)
    world.tick()
    assert len(world.wires) == dials


def test_a_dial_timer_respects_the_budget() -> None:
    """Also when it fires early."""
    world = World(settings(dials_per_min=2)).start()
    world.end(NO_ROUTE)
    world.end(NO_ROUTE)
    assert world.is_in(State.WAITING)
    world.tick()
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


def test_split_speech_whose_connection_never_comes_back_is_lost() -> None:
    """It was sent, but its end was not: nothing was asked, and that is announced."""
    for detection in ("local", "server"):
        world = World(settings(activity_detection=detection)).online()
        world.speak(2, end=False)
        world.finish(e.EndReason.MAX_LENGTH)
        world.end()
        world.advance(30.0)
        assert world.lost == {1}, detection


def test_a_text_between_the_parts_of_split_speech() -> None:
    """The parts become two activities; everything arrives in the order in which it was given."""
    world = World().online()
    world.speak(2, end=False)
    world.finish(e.EndReason.MAX_LENGTH)
    world.give_say()
    world.speak(2)
    world.advance(1.5)
    kinds = [type(m) for m in world.wire.received if not isinstance(m, RealtimeAudio)]
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
    assert len(sent(world, RealtimeAudio)) == 3
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
    world.tick()
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


def test_silence_follows_speech_where_the_detector_waits_to_hear_it() -> None:
    """3.8 ignores audioStreamEnd; others heed it. Where the device frames speech, none is sent."""
    for live, pieces in (
        ({"activity_detection": "server"}, 10),
        ({"activity_detection": "server", "model": NATIVE}, 0),
        ({}, 0),
    ):
        world = World(settings(**live)).online()
        world.speak()
        assert len(sent(world, Silence)) == pieces
        assert all(not any(message.pcm) for message in sent(world, Silence))
        assert isinstance(world.wire.received[-1], AudioStreamEnd | ActivityEnd)


def test_no_silence_is_sent_once_it_is_muted() -> None:
    """Muted means closed, for sound without words too."""
    world = World(settings(activity_detection="server")).online()
    world.begin()
    world.mute(on=True)
    assert not sent(world, Silence)
    assert sent(world, AudioStreamEnd)


def test_a_chosen_silence_is_told_from_a_question_that_was_lost() -> None:
    """What was transcribed has been heard; without a word of it the connection is given up."""
    for heard, model, stays in ((True, "", True), (False, "", False), (True, NATIVE, False)):
        chosen = {"model": model} if model else {}
        world = World(settings(reply_timeout_s=4.0, **chosen)).online()
        world.speak()
        world.reply()
        world.speak()
        if heard:
            world.receive(user_text=TranscriptPiece("are you coming"))
        world.advance(5.0)
        assert (world.conversation.status(world.now, world.wall).dials == 1) is stays
        assert len(world.told(e.TurnEnded)) == 1 + stays
