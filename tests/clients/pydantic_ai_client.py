"""pydantic-ai: an agent with a realtime session."""
# mypy: ignore-errors

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from checks import given, hold, not_here, pieces, report, tone
from google.auth.credentials import Credentials
from pydantic_ai import Agent, messages
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.google_cloud import GoogleCloudProvider
from pydantic_ai.realtime import (
    RealtimeResponseInterruptedEvent,
    RealtimeSessionReconnectEvent,
    RealtimeTurnCompleteEvent,
)
from pydantic_ai.realtime.google import GoogleRealtimeModel

GIVEN = given()
LEVELS = {"thinking": "low"} if "thinking" in GIVEN["model"] else {}


class Token(Credentials):
    """Credentials that are good for ever."""

    token = "invented"
    expired = False
    valid = True

    def __init__(self) -> None:
        super().__init__()
        self.token = "invented"

    def refresh(self, request: Any) -> None:
        """Nothing to refresh."""


def model(which: str, **settings: Any) -> GoogleRealtimeModel:
    """Return the model on one of the emulators."""
    url = GIVEN["urls"][which]
    if GIVEN["vertex"]:
        provider: Any = GoogleCloudProvider(
            credentials=Token(), project="p", location="us-central1", base_url=url
        )
    else:
        provider = GoogleProvider(api_key="invented", base_url=url)
    return GoogleRealtimeModel(GIVEN["model"], provider=provider, settings=LEVELS | settings)


@asynccontextmanager
async def connect(which: str = "plain", agent: Agent | None = None, **settings: Any) -> Any:
    """Open a session."""
    agent = agent or Agent(instructions="Be kind.")
    async with agent.realtime(model(which, **settings)).session() as session:
        yield session


async def speak(session: Any, seconds: float = 1.0) -> None:
    """Send an utterance, and the silence that ends it."""
    for piece in pieces(tone(seconds) + bytes(48_000)):
        await session.send_audio(piece)


async def turn(session: Any) -> list[Any]:
    """Receive up to the end of a turn."""
    events = []
    async for event in session:
        events.append(event)
        if isinstance(event, RealtimeTurnCompleteEvent):
            return events
    raise AssertionError(f"closed in the middle of a turn: {events[-3:]}")


def spoken(session: Any, which: type) -> str:
    """Join what was transcribed of one side."""
    parts = [part for message in session.all_messages() for part in message.parts]
    del which
    return " ".join(
        str(getattr(part, "transcript", None) or getattr(part, "content", "")) for part in parts
    )


async def setup() -> None:
    async with connect():
        pass


async def text() -> None:
    async with connect() as session:
        await session.send("Hello there")
        await turn(session)
        await session.send("And again")
        await turn(session)


async def audio_automatic() -> None:
    async with connect() as session:
        heard = bytearray()
        stream = session.stream_audio()
        await speak(session)
        async for chunk in stream:
            heard += chunk
            if len(heard) >= 40_000:
                break
        hold(len(heard) >= 40_000, len(heard))


async def transcripts() -> None:
    async with connect() as session:
        await speak(session)
        await turn(session)
        said = spoken(session, messages.ModelResponse)
        hold(said.count("speech") >= 2, said)


async def tools() -> None:
    called = []
    agent = Agent(instructions="Be kind.")

    @agent.tool_plain
    def lamp() -> str:
        """Switch the lamp on."""
        called.append(True)
        return "on"

    async with connect("tools", agent) as session:
        await speak(session)
        for _ in range(3):
            await turn(session)
            if called and "It is on." in spoken(session, messages.ModelResponse):
                return
        hold(False, (called, spoken(session, messages.ModelResponse)))


async def interruption() -> None:
    async with connect("slow") as session:

        async def speak_over() -> None:
            await asyncio.sleep(4.0)  # the reply lasts eight seconds
            await speak(session)

        await speak(session)
        speaking = asyncio.create_task(speak_over())
        async for event in session:
            if isinstance(event, RealtimeResponseInterruptedEvent):
                break
        await speaking


async def go_away_and_resume() -> None:
    async with connect("short", reconnect={"max_attempts": 3}) as session:
        await speak(session)
        async for event in session:
            if isinstance(event, RealtimeSessionReconnectEvent):
                break
        await speak(session)
        await turn(session)


async def compression() -> None:
    window = {"trigger_tokens": 10_000, "target_tokens": 512}
    async with connect(google_context_compression=window) as session:
        for _ in range(3):
            await session.send("word " * 6_000)
            await turn(session)


report(
    {
        "setup": setup,
        "text": text,
        "audio, manual": not_here,
        "audio, automatic": audio_automatic,
        "transcripts": transcripts,
        "tools": tools,
        "interruption": interruption,
        "GoAway, resume": go_away_and_resume,
        "window": compression,
        "instruction midway": not_here,
        "end": setup,
    },
    version("pydantic-ai-slim"),
)
