"""What a new session is told of the old one."""

from __future__ import annotations

from typing import Any

import pytest

from agentd import events as e
from agentd.live import commands as c
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.messages import (
    ClientContent,
    TranscriptPiece,
)
from tests.live.scenes import SEED_ONLY, documents, sent, talked
from tests.live.world import (
    DEAD_HANDLE,
    DROPPED,
    INTERNAL,
    QUOTA,
    World,
    settings,
)

REFUSED = Failure(Phase.LIVE, Kind.CLOSED, 1007, "Request contains an invalid argument.")
UNREADABLE = Failure(Phase.LIVE, Kind.CLOSED, 1007, "Invalid JSON payload received.")
BLOCKED = Failure(Phase.LIVE, Kind.CLOSED, 1008, "The content is blocked.")


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
        audio=(bytes(48_000),),
        model_turn=True,
        model_text=TranscriptPiece("one two three four five six"),
    )
    world.give(e.PlaybackMark(world.last_reply, 500.0, drained=False))
    world.speak()
    stored = world.documents["transcript"]["turns"][0]["model"]
    assert stored == "one two three …"


# ── a restored conversation that the service refuses ──


def restored(**live: Any) -> World:
    """A fresh session has just been told the conversation so far."""
    world = talked(**live)
    world.end()
    world.end(DEAD_HANDLE)
    world.connect()
    assert sent(world, ClientContent)
    return world


def seeds(world: World) -> list[int]:
    """The connections that were told the conversation so far."""
    return [
        wire.number
        for wire in world.wires
        if any(isinstance(m, ClientContent) and not m.turn_complete for m in wire.received)
    ]


@pytest.mark.parametrize("failure", [REFUSED, UNREADABLE, BLOCKED, INTERNAL, DROPPED])
def test_two_sessions_that_end_over_it_are_enough(failure: Failure) -> None:
    """The third begins without; the transcript is put aside, and that is told once."""
    world = restored()
    world.end(failure)
    assert not world.told(e.ContextRefused)
    world.reconnect()
    assert sent(world, ClientContent)
    world.end(failure)
    (told,) = world.told(e.ContextRefused)
    assert told.turns == 1
    assert world.documents.get("transcript") is None
    assert len(world.aside) == 1
    world.reconnect()
    assert not sent(world, ClientContent)
    assert world.told(e.SessionFresh)[-1].cause == "the restored conversation was refused"
    world.speak()
    world.receive(user_text=TranscriptPiece("and now"))
    world.reply()
    assert [turn["user"] for turn in world.documents["transcript"]["turns"]] == ["and now"]


def test_a_service_that_keeps_silent_about_it() -> None:
    """No sign of life, or signs and no answer: the question comes through without it."""
    for life in (False, True):
        world = restored(reply_timeout_s=5.0)
        world.advance(60.0)
        world.speak()
        for _ in range(2):
            if life:
                world.receive(user_text=TranscriptPiece("hm"))
            world.advance(5.1)
            world.reconnect()
        assert world.told(e.ContextRefused)
        assert not sent(world, ClientContent)
        world.reply()
        assert not world.told(e.TurnFailed)


def test_the_count_outlives_a_restart() -> None:
    """One session before it and one after it."""
    world = restored()
    world.end(REFUSED)
    world.give(c.Stop())
    again = World().start(*documents(world)).connect()
    assert sent(again, ClientContent)
    again.end(REFUSED)
    assert again.told(e.ContextRefused)
    again.reconnect()
    assert not sent(again, ClientContent)
    again.give(c.Stop())
    third = World().start(*documents(again))
    third.connect()
    assert not sent(third, ClientContent)


@pytest.mark.parametrize("count", [True, "2", -5, 10**9, None])
def test_a_count_that_anybody_may_have_written(count: object) -> None:
    """One refusal is always needed here and now."""
    world = talked()
    session, transcript = documents(world)
    assert isinstance(session, dict)
    again = World().start({**session, "handles": [], "restore_refusals": count}, transcript)
    again.connect()
    assert sent(again, ClientContent)


def test_an_answer_ends_the_suspicion() -> None:
    """It can be told again, as often as it takes."""
    world = restored()
    world.end(REFUSED)
    world.reconnect()
    world.speak()
    world.reply(keep=False)
    for _ in range(2):
        world.end(REFUSED)
        world.reconnect()
        assert sent(world, ClientContent)
        world.speak()
        world.reply(keep=False)
    assert not world.told(e.ContextRefused)


@pytest.mark.parametrize("how", ["quota", "later", "go away", "network", "key"])
def test_what_is_not_the_fault_of_the_conversation(how: str) -> None:
    """A quota, a link, a key, or a connection that stood in peace for long."""
    world = restored()
    for _ in range(3):
        if how == "later":
            world.advance(60.0)
        if how == "go away":
            world.receive(go_away_s=0.0)
            world.advance(0.1)
        elif how == "network":
            for interface in ("wlan0", "wwan0"):
                world.give(e.LinkChanged(interface=interface, online=True))
            world.advance(0.1)
        else:
            denied = Failure(Phase.LIVE, Kind.CLOSED, 1008, "Permission denied")
            world.end({"quota": QUOTA, "key": denied}.get(how, INTERNAL))
        world.reconnect()
    assert seeds(world)[-1] == world.wire.number
    assert not world.told(e.ContextRefused)


def test_what_privacy_no_longer_allows_is_deleted_where_it_was_put_aside() -> None:
    """Also when nothing else of it is left."""
    world = World(settings(privacy__restore_context=False)).start(None, None)
    assert world.documents == {"transcript": None}


def test_half_surrogates_go_nowhere() -> None:
    """Neither from the disk nor from a keyboard."""
    half = "half\ud83d"
    document = {
        "version": 1,
        "turns": [{"user": half, "model": half, "at_unix_s": 1.0, "at_synchronised": False}],
    }
    world = World().start(None, document).connect()
    world.give(c.Instruct(half))
    world.give(c.Say(half))
    world.receive(user_text=TranscriptPiece("x"), model_text=TranscriptPiece(half))
    world.reply()
    said = repr([world.wire.received, world.documents, world.conversation._memory.instruction])
    assert "half\ufffd" in said
    assert "\\ud83d" not in said
