"""Beginnings that several tests of the conversation share."""

from __future__ import annotations

from typing import Any

from agentd import events as e
from agentd.live import commands as c
from agentd.live.messages import (
    ClientContent,
    FunctionCall,
    TranscriptPiece,
)
from tests.live.world import (
    World,
    settings,
)

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"

SEED_ONLY = "gemini-3.1-flash-live-preview"


def talked(**live: Any) -> World:
    """A world in which one turn has been had and a handle is there."""
    world = World(settings(**live)).online()
    world.speak()
    world.receive(user_text=TranscriptPiece("what is this"), model_text=TranscriptPiece("a kettle"))
    world.reply()
    return world


def sent(world: World, kind: type) -> list[Any]:
    """Messages of one kind on the newest connection."""
    return [message for message in world.wire.received if isinstance(message, kind)]


def told_as_conversation(world: World) -> list[ClientContent]:
    """Every result that was told as conversation, on any connection."""
    received = [message for wire in world.wires for message in wire.received]
    return [m for m in received if isinstance(m, ClientContent) and m.turn_complete]


def cancelled(world: World) -> list[int]:
    """Turns that were silenced."""
    return [value.turn for value in world.delivered if isinstance(value, e.ReplyCancelled)]


def online(world: World, interface: str = "wlan0") -> None:
    """The path leads over an interface."""
    world.give(e.LinkChanged(interface=interface, online=True))


def reloaded(world: World, **live: Any) -> str:
    """Reload with other settings and return how."""
    world.settings = settings(**live)
    world.give(c.Reload(world.settings))
    return world.outcomes[-1]


def documents(world: World) -> tuple[object, object]:
    """What a restart would find."""
    return world.documents.get("session"), world.documents.get("transcript")


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
