"""Tool calls."""

from __future__ import annotations

from agentd import events as e
from agentd.live import commands as c
from agentd.live.machine import State
from agentd.live.messages import (
    ActivityStart,
    ClientContent,
    FunctionCall,
    ToolResponse,
)
from tests.live.scenes import CALL, NATIVE, call_out, sent, talked, tool_done
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
