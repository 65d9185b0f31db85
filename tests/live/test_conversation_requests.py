"""Typed questions, instructions and context."""

from __future__ import annotations

from typing import Any

import pytest

from agentd import events as e
from agentd.live import commands as c
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import State
from agentd.live.messages import (
    ClientContent,
    Content,
    ContextUpdate,
    RealtimeText,
    ToolsUpdate,
)
from agentd.live.replay import MAX_TEXTS
from tests.live.scenes import NATIVE, SEED_ONLY, cancelled, sent, talked
from tests.live.world import (
    BAD_KEY,
    NO_ROUTE,
    World,
    settings,
)


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


@pytest.mark.parametrize(
    ("live", "how"),
    [
        ({}, "context_update"),
        ({"backend": "vertex", "project": "p"}, "context_update"),
        ({"model": NATIVE}, "on_resume"),
        ({"tools__enabled": False}, "off"),
    ],
)
def test_other_functions(live: dict[str, Any], how: str) -> None:
    """They are declared in the running session, or with the next setup at the next quiet moment."""
    world = talked(**live)
    world.give(c.ToolsChanged())
    assert world.outcomes == [how]
    assert sent(world, ToolsUpdate) == [ToolsUpdate()] * (how == "context_update")
    assert world.is_in(State.SWITCHING if how == "on_resume" else State.LIVE)


def test_other_functions_wait_until_nobody_speaks() -> None:
    """Not in the middle of a word or an answer; what changed several times goes out once."""
    world = talked()
    world.speak(end=False)
    world.give(c.ToolsChanged())
    world.give(c.ToolsChanged())
    assert world.outcomes == ["context_update"] * 2
    assert not sent(world, ToolsUpdate)
    world.finish()
    assert not sent(world, ToolsUpdate)
    world.reply()
    assert sent(world, ToolsUpdate) == [ToolsUpdate()]
    world.speak()
    world.reply()
    assert sent(world, ToolsUpdate) == [ToolsUpdate()]


def test_other_functions_that_a_break_overtakes_go_with_the_setup() -> None:
    """The next one declares what there is then, and nothing is sent beside it."""
    world = talked()
    world.speak()
    world.give(c.ToolsChanged())
    world.end()
    world.connect()
    world.reply()
    assert not sent(world, ToolsUpdate)


@pytest.mark.parametrize(
    ("failure", "dials"),
    [
        (Failure(Phase.SETUP, Kind.CLOSED, 1007, "Request contains an invalid argument."), 2),
        (BAD_KEY, 1),
    ],
)
def test_other_functions_may_mend_a_refused_setup(failure: Failure, dials: int) -> None:
    """One bad declaration ends every setup: with others it is tried at once, for no other cause."""
    world = World().start()
    world.end(failure)
    assert world.is_in(State.REFUSED)
    world.give(c.ToolsChanged())
    assert len(world.wires) == dials


def test_other_functions_while_dialling() -> None:
    """The attempt whose setup may declare the old ones is given up, and the next one is right."""
    world = World().start()
    assert world.is_in(State.DIALING)
    world.give(c.ToolsChanged())
    assert world.outcomes == ["on_resume"]
    assert world.wires[0].aborted
    world.advance(1.0)
    world.connect()
    world.end()
    world.give(c.ToolsChanged())
    assert world.outcomes[-1] == "on_resume", "the next setup declares them"


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
    assert "1 turn" in world.outcomes[-1]
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
