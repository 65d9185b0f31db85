"""Whatever stands in any field of any frame, through the real SDK into the conversation."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, cast

import pytest
from google import genai
from google.genai.live import AsyncSession

from agentd.events import Event
from agentd.live import commands as c
from agentd.live.connection import ConnectionFailed
from agentd.live.google.connection import EMPTY_FRAMES_AT_ONCE, GenaiConnection
from agentd.live.google.connector import ignore_warnings_of_the_sdk
from agentd.live.google.frames import screened
from agentd.live.google.websocket import LiveWebSocket
from agentd.live.messages import MAX_COUNT, Interaction, ServerMessage
from agentd.service.entry import entry_of, json_line
from agentd.text import VALUE_LIMIT
from tests.live.device import on_loop
from tests.live.scenes import talked
from tests.live.world import World

EVERYTHING: dict[str, Any] = {
    "setupComplete": {"sessionId": "s"},
    "serverContent": {
        "modelTurn": {
            "role": "model",
            "parts": [
                {"text": "t", "thought": True},
                {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "AAAA"}},
            ],
        },
        "inputTranscription": {"text": "i", "finished": True, "languageCode": "en"},
        "outputTranscription": {"text": "o", "finished": True},
        "interimInputTranscription": {"text": "x"},
        "interrupted": False,
        "generationComplete": True,
        "turnComplete": True,
        "turnCompleteReason": "NEED_MORE_INPUT",
        "interactionStatus": "IDLE",
        "waitingForInput": True,
        "groundingMetadata": {"webSearchQueries": ["q"]},
    },
    "interactionStatus": "IDLE",
    "toolCall": {"functionCalls": [{"id": "c", "name": "f", "args": {"x": 1}}]},
    "toolCallCancellation": {"ids": ["c"]},
    "usageMetadata": {
        "promptTokenCount": 1,
        "responseTokenCount": 2,
        "candidatesTokenCount": 2,
        "totalTokenCount": 3,
        "cachedContentTokenCount": 4,
        "thoughtsTokenCount": 5,
        "toolUsePromptTokenCount": 6,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}],
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}],
        "trafficType": "ON_DEMAND",
    },
    "goAway": {"timeLeft": "50s"},
    "sessionResumptionUpdate": {
        "newHandle": "h",
        "resumable": True,
        "lastConsumedClientMessageIndex": "3",
    },
    "voiceActivityDetectionSignal": {"vadSignalType": "VAD_SIGNAL_TYPE_SOS"},
    "voiceActivity": {"type": "ACTIVITY_START", "audioOffset": "1.5s"},
    "error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "m"},
    "newKind": 1,
}
SECRET = "WORDS-OF-A-PEER"
HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 2**53, int("9" * 4300), 1e308, float("nan"), float("inf"), "", "9" * 4300,
    f"\x1b]0;{SECRET}\x07", SECRET * 10_000, "\ud800", "\u202e" + SECRET, [], {}, [None], [[[[]]]],
    [SECRET] * 300, {SECRET: SECRET}, {"parts": [{}] * 300},
)  # fmt: skip


def paths(value: Any, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    """Every place in a frame."""
    if before:
        yield before
    items: Any = value.items() if isinstance(value, dict) else ()
    for name, inner in enumerate(value) if isinstance(value, list) else items:
        yield from paths(inner, *before, name)


def with_value(path: tuple[str | int, ...], value: object) -> bytes:
    """A frame of the kind, with one place filled by something else."""
    frame = {path[0]: copy.deepcopy(EVERYTHING[str(path[0])])}
    place: Any = frame
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return json.dumps(frame).encode()


class FakeWebSocket:
    """Hands out frames as ours does."""

    def __init__(self, *frames: bytes) -> None:
        self.frames = list(frames)
        self.excess = ""
        self.transport = self
        self.aborted = False

    async def recv(self, decode: bool | None = None) -> bytes:
        """Return the next one."""
        del decode
        return screened(self.frames.pop(0))

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


def link_to(socket: FakeWebSocket, *, vertex: bool = False) -> GenaiConnection:
    """The real SDK on these frames."""
    client = genai.Client(vertexai=vertex, api_key="x" * 30)
    websocket = cast("LiveWebSocket", socket)
    session = AsyncSession(api_client=client._api_client, websocket=websocket)

    async def leave(*_: Any) -> None:
        """Do nothing."""

    return GenaiConnection(session, websocket, leave)


BY_BACKEND = ("usageMetadata", "voiceActivity")  # what the SDK converts in two ways


@pytest.mark.parametrize(
    ("kind", "vertex"),
    [(kind, False) for kind in sorted(EVERYTHING)] + [(kind, True) for kind in BY_BACKEND],
)
def test_hostile_values_in_every_field(
    kind: str, vertex: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Status and journal stay whole, plain and bounded; no library logs or keeps a word."""
    ignore_warnings_of_the_sdk()
    caplog.set_level(logging.WARNING)
    places = [path for path in paths(EVERYTHING) if path[0] == kind]
    frames = [with_value(path, value) for path in places for value in HOSTILE]
    world = talked()
    with warnings.catch_warnings():
        warnings.showwarning = lambda *told, **_more: pytest.fail(f"shown: {str(told[0])[:80]}")
        for message in received(frames, vertex=vertex):
            answer(world, message)
    assert [record.getMessage()[:80] for record in caplog.records] == []


def received(frames: list[bytes], *, vertex: bool) -> list[ServerMessage]:
    """What the link makes of the frames."""

    async def main() -> list[ServerMessage]:
        found = []
        link = link_to(FakeWebSocket(*frames), vertex=vertex)
        for _ in frames:
            link._bad_frames = 0  # the count has a test of its own
            found.append(await link.receive())
        return found

    return asyncio.run(main())


def answer(world: World, message: ServerMessage) -> None:
    """Let the conversation have the frame; look at what it shows then."""
    wire = world.open_wire
    if wire is None or not wire.ready:
        world.online()
        wire = world.open_wire
    before = len(world.events)
    if wire is not None:
        conversation = world.conversation
        for command in conversation.handle(c.Received(wire.number, message), world.now, world.wall):
            if isinstance(command, c.Emit | c.EmitInLine):
                world.events.append(command.event)
    status = asdict(world.conversation.status(world.now, world.wall))
    written = json.dumps(status, allow_nan=False)
    assert SECRET not in written
    assert len(written) < 5_000
    assert all(0 <= count <= MAX_COUNT for count in status["tokens"].values())
    for event in world.events[before:]:
        assert_fit_for_the_journal(world, event)


def assert_fit_for_the_journal(world: World, event: Event) -> None:
    """A line of it is plain and short."""
    entry = entry_of(event)
    assert all(len(v) <= VALUE_LIMIT for v in entry.fields.values() if isinstance(v, str))
    line = json_line(entry, world.wall)
    line.encode("utf-8")
    assert line.replace("\t", " ").isprintable() or line.isascii()
    assert line.count(SECRET) <= 3


@on_loop
async def test_the_status_at_the_top_level_ends_background_work() -> None:
    """Written there by some services; the SDK (3.4.0) drops it."""
    for vertex in (False, True):
        frames = (b'{"interactionStatus": "IDLE"}', b'{"interactionStatus": "IN_PROGRESS"}')
        link = link_to(FakeWebSocket(*frames), vertex=vertex)
        assert (await link.receive()).interaction is Interaction.IDLE
        assert (await link.receive()).interaction is Interaction.IN_PROGRESS


@on_loop
async def test_new_kinds_never_end_the_connection_as_bad_frames() -> None:
    """A new version of the service may send one with every piece of a reply."""
    link = link_to(FakeWebSocket(*[b'{"newKind": {}}'] * 500))
    assert {(await link.receive()).unknown for _ in range(500)} == {"newKind"}


@pytest.mark.parametrize("frame", [b"{}", b'{"newKind": 1}', b'{"serverContent": {}}'])
@on_loop
async def test_a_flood_of_frames_that_say_nothing_ends_the_connection(frame: bytes) -> None:
    """It is work without end; a few of them are usual."""
    socket = FakeWebSocket(*[frame] * (2 * EMPTY_FRAMES_AT_ONCE))
    link = link_to(socket)
    with pytest.raises(ConnectionFailed, match="empty frames a second"):
        await read_to_the_end(link)
    assert socket.aborted
    assert len(socket.frames) < EMPTY_FRAMES_AT_ONCE


async def read_to_the_end(link: GenaiConnection) -> None:
    """Receive until the connection is given up."""
    while True:
        await link.receive()
