"""New settings while the conversation goes on."""

from __future__ import annotations

from agentd import events as e
from agentd.live import commands as c
from agentd.live.machine import State
from agentd.live.messages import (
    ActivityEnd,
    ContextUpdate,
    ToolsUpdate,
)
from tests.live.scenes import NATIVE, reloaded, sent, talked
from tests.live.world import (
    World,
    settings,
)


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


def test_reload_that_withdraws_the_functions() -> None:
    """The model is left none in the running session, and gets them back likewise."""
    world = talked()
    assert reloaded(world, tools__enabled=False) == "context_update"
    assert reloaded(world) == "context_update"
    assert sent(world, ToolsUpdate) == [ToolsUpdate(offered=False), ToolsUpdate()]


def test_reload_of_another_model() -> None:
    """A fresh session that knows the conversation."""
    world = talked()
    assert reloaded(world, model=NATIVE) == "fresh"
    world.good_handle = None
    world.advance(0.0)
    world.connect()
    assert world.told(e.SessionFresh)[-1].restored_turns == 1


def test_a_handle_that_comes_after_the_reload_is_the_old_models() -> None:
    """It is bound to what its connection was dialled with, and is not used with the new model."""
    world = talked()
    world.speak()
    assert reloaded(world, model=NATIVE) == "fresh"
    world.reply()
    world.good_handle = None
    world.advance(0.1)
    assert world.wire.plan.settings.live.model == NATIVE
    assert world.wire.plan.handle is None
    world.connect()
    assert world.told(e.SessionFresh)[-1].cause == "handle of another model"


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
