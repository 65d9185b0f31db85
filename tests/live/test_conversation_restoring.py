"""What a new session is told of the old one."""

from __future__ import annotations

import pytest

from agentd import events as e
from agentd.live import commands as c
from agentd.live.messages import (
    ClientContent,
    Text,
)
from tests.live.scenes import SEED_ONLY, documents, sent, talked
from tests.live.world import (
    DEAD_HANDLE,
    World,
    settings,
)


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
