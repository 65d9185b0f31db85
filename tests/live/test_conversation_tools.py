"""Tool calls."""

from __future__ import annotations

import pytest

from agentd import events as e
from agentd.live import commands as c
from agentd.live.consent import Question
from agentd.live.machine import State
from agentd.live.messages import (
    ActivityEnd,
    ActivityStart,
    ClientContent,
    FunctionCall,
    RealtimeAudio,
    ToolResponse,
)
from agentd.live.tool_rules import Rules
from tests.live.scenes import (
    CALL,
    NATIVE,
    call_out,
    sent,
    talked,
    told_as_conversation,
    tool_done,
)
from tests.live.world import (
    World,
    settings,
)


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


def test_a_function_may_have_a_deadline_of_its_own() -> None:
    """Longer or shorter than that of the settings."""
    rules = Rules(None, lambda _name, _args: Question(), {"lamp": 3.0}.get)
    world = World(settings(tools__timeout_s=8.0), rules=rules).online()
    world.speak()
    world.receive(calls=(CALL, FunctionCall("c2", "radio", {})))
    world.advance(4.0)
    assert [told.tool for told in world.told(e.ToolCalled)] == ["lamp"]
    world.advance(5.0)
    assert [told.tool for told in world.told(e.ToolCalled)] == ["lamp", "radio"]


def test_functions_that_are_switched_off_are_not_run() -> None:
    """Whatever the model remembers, or makes up."""
    world = World(settings(tools__enabled=False)).online()
    world.speak()
    world.receive(calls=(CALL,))
    assert not world.tools
    (answer,) = sent(world, ToolResponse)
    assert "switched off" in answer.response["error"]


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


def test_a_turn_of_endless_calls_fails() -> None:
    """One after the other: thirty-two are answered, one gets an error, and that is told."""
    world = talked()
    world.speak()
    for number in range(40):
        world.receive(calls=(FunctionCall(f"c{number}", "lamp", {"n": number}),))
        for key in list(world.tools):
            tool_done(world, key)
    answers = sent(world, ToolResponse)
    assert ["error" in answer.response for answer in answers] == [False] * 32 + [True]
    (failed,) = world.told(e.TurnFailed)
    assert (failed.turn, failed.cause) == (2, "the model called functions without end")
    world.end()
    world.connect()
    assert not sent(world, RealtimeAudio), "it is not asked again"
    assert not sent(world, ClientContent), "and no result is told"
    world.speak()
    world.receive(calls=(CALL,))
    assert len(world.tools) == 1, "the next question may call again"


def test_endless_calls_at_once_are_stopped() -> None:
    """Nothing runs on for a turn that has failed, and what still comes of it is not run."""
    world = talked()
    world.speak()
    calls = tuple(FunctionCall(f"c{n}", "lamp", {"n": n}) for n in range(40))
    world.receive(calls=calls)
    assert not world.tools
    assert len(sent(world, ToolResponse)) == 1
    assert len(world.told(e.ToolCalled)) == 32
    world.receive(calls=calls)
    assert not world.tools
    assert len(sent(world, ToolResponse)) == 1


def test_endless_calls_of_a_turn_that_is_over_are_only_dropped() -> None:
    """There is nothing left that could fail."""
    world = talked()
    world.speak()
    world.receive(audio=(bytes(4800),), model_turn=True)
    world.begin()
    calls = tuple(FunctionCall(f"c{n}", "lamp", {"n": n}) for n in range(40))
    world.receive(calls=calls)
    assert len(world.tools) == 32
    assert not world.told(e.TurnFailed)


def test_a_call_that_comes_after_the_button_is_not_run() -> None:
    """The user has stopped the turn that it belongs to."""
    world = talked()
    world.speak()
    world.give(c.CancelReply("button"))
    world.receive(calls=(CALL,))
    assert not world.tools


def test_a_call_while_the_user_goes_on_speaking_is_run() -> None:
    """They have asked for it; the service withdraws it if it no longer wants it."""
    world = talked()
    world.speak()
    world.begin()
    world.receive(calls=(CALL,))
    assert len(world.tools) == 1
    tool_done(world)
    assert sent(world, ToolResponse)


def test_calls_of_many_turns_at_once_are_bounded() -> None:
    """Functions that nobody waits for may run beside the talk, but not without end."""
    world = World(settings())
    world.conversation = type(world.conversation)(
        world.settings, random=lambda: 0.5, non_blocking=lambda name: True
    )
    world.online()
    for turn in range(4):
        world.speak()
        world.receive(calls=tuple(FunctionCall(f"{turn}-{n}", "f", {"n": n}) for n in range(10)))
        world.reply()
    assert len(world.tools) == 32
    errors = [r for r in sent(world, ToolResponse) if "error" in r.response]
    assert len(errors) == 8


def test_the_reply_deadline_is_not_off_for_another_question() -> None:
    """A function that runs on from an earlier turn excuses no silence about this one."""
    world = World(settings(reply_timeout_s=5.0, tools__timeout_s=60.0))
    world.conversation = type(world.conversation)(
        world.settings, random=lambda: 0.5, non_blocking=lambda name: True
    )
    world.online()
    world.speak()
    world.receive(calls=(CALL,))
    world.reply()
    world.speak()
    world.advance(5.1)
    assert world.told(e.Disconnected)


def test_the_light_hears_of_a_call_when_it_begins() -> None:
    """Not only when it is over."""
    world = call_out()
    assert [(told.tool, told.turn) for told in world.told(e.ToolStarted)] == [("lamp", 2)]


# ── ids ──


def test_calls_without_an_id_are_told_apart() -> None:
    """On Vertex AI they may have none; each runs, and no made-up id is sent back."""
    world = talked(backend="vertex", project="p", transparent_resumption=False)
    world.speak()
    for name in ("lamp", "radio", "lamp"):
        world.receive(calls=(FunctionCall("", name, {}),))
    assert [tool.name for tool in world.tools.values()] == ["lamp", "radio", "lamp"]
    world.receive(cancelled_calls=("",))
    for key in list(world.tools):
        tool_done(world, key)
    answers = sent(world, ToolResponse)
    assert [(answer.call_id, answer.name) for answer in answers] == [
        ("", "lamp"),
        ("", "radio"),
        ("", "lamp"),
    ]
    world.reply()
    assert not world.told(e.TurnFailed)


def test_a_call_without_an_id_on_the_developer_api_is_told() -> None:
    """A response without an id is refused there; the result goes out as conversation, once."""
    world = talked()
    world.speak()
    world.receive(calls=(FunctionCall("", "lamp", {}),))
    tool_done(world)
    assert not sent(world, ToolResponse)
    assert "lamp" in told_as_conversation(world)[0].turns[0].text
    world.receive(calls=(FunctionCall("", "radio", {}),))
    tool_done(world, 2)
    assert len(told_as_conversation(world)) == 1, "no chain of them"


def test_the_same_id_with_another_function_is_another_call() -> None:
    """A service that counts anew with each call is answered each time."""
    world = call_out()
    tool_done(world)
    for call in (FunctionCall("c1", "radio", {}), FunctionCall("c1", "lamp", {"on": False})):
        world.receive(calls=(call,))
        tool_done(world, max(world.tools))
    assert [answer.name for answer in sent(world, ToolResponse)] == ["lamp", "radio", "lamp"]


def test_a_call_told_again_after_its_answer_gets_the_same_answer() -> None:
    """It does not run twice."""
    world = call_out()
    tool_done(world)
    world.receive(calls=(CALL,))
    assert not world.tools
    assert len(sent(world, ToolResponse)) == 2


# ── results that nobody takes ──


def test_a_result_that_the_service_swallows_is_not_told_as_well() -> None:
    """The question is asked while it is fresh, fails once, and the device is quiet."""
    world = talked(reply_timeout_s=4.0)
    world.speak()
    for _ in range(400):
        if world.is_in(State.DIALING):
            world.connect()
        elif world.is_in(State.LIVE):
            asked = sum(isinstance(m, ActivityEnd) for m in world.wire.received)
            answered = len(sent(world, ToolResponse))
            if asked > answered:
                world.receive(calls=(FunctionCall(f"c{world.now}", "lamp", {}),))
                for key in list(world.tools):
                    tool_done(world, key)
        world.advance(0.5)
    assert len(world.told(e.TurnFailed)) == 1
    assert not told_as_conversation(world)
    assert len(world.wires) < 8
    assert world.is_in(State.LIVE)


def test_a_telling_is_told_once_and_calls_of_it_never() -> None:
    """No chain of new questions, whatever the model does with it."""
    world = call_out(network__replay_max_age_s=1.0, reply_timeout_s=4.0)
    world.advance(3.0)
    world.end()
    world.connect()
    tool_done(world)
    world.receive(calls=(FunctionCall("c2", "radio", {}),))
    tool_done(world, 2)
    for _ in range(100):
        if world.is_in(State.DIALING):
            world.connect()
        world.advance(1.0)
    assert len(told_as_conversation(world)) == 1


def test_a_result_that_nobody_wanted_stays_unwanted() -> None:
    """Also when one more connection breaks before its function has finished."""
    world = call_out()
    world.end()
    world.connect()
    world.reply()
    world.end()
    world.reconnect()
    tool_done(world)
    assert not sent(world, ClientContent)
    assert not sent(world, ToolResponse)


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


@pytest.mark.parametrize("typed", [True, False])
def test_a_question_after_the_close_of_a_calls_own_turn_gets_its_answer(typed: bool) -> None:
    """On Vertex AI 2.5 nothing more comes of that turn: what comes belongs to the new question."""
    world = call_out(backend="vertex", project="p", model="gemini-live-2.5-flash")
    world.receive(generation_complete=True)
    world.receive(turn_complete=True)
    before = world.last_reply
    if typed:
        world.give_say()
    else:
        world.speak()
    world.receive(cancelled_calls=("c1",))
    world.reply()
    assert world.last_reply > before, "its sound is not taken for late sound of the call's turn"
    assert world.told(e.TurnEnded)[-1].reply_ms == 200.0
    world.advance(60.0)
    assert not world.told(e.TurnFailed)
    assert world.conversation.status(world.now, world.wall).late_pieces == 0


def test_a_question_after_the_rest_of_a_calls_turn_waits_for_its_close() -> None:
    """Where the service has said more since, that is still to be closed, and is ignored."""
    world = call_out(backend="vertex", project="p", model="gemini-live-2.5-flash")
    world.receive(turn_complete=True)
    world.receive(audio=(bytes(960),), model_turn=True)
    world.give_say()
    world.receive(audio=(bytes(960),), model_turn=True)
    assert world.conversation.status(world.now, world.wall).late_pieces == 1
