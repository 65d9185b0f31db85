"""Clients for the emulator: a raw WebSocket, and the real google-genai SDK."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from google.auth.credentials import Credentials
from websockets.asyncio.client import ClientConnection, connect

from live_emulator import Emulator, EmulatorOptions
from tests.emulator.harness import MANUAL, MODEL, blob
from tests.virtual import run_virtually

DEVELOPER = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
DEADLINE_S = 30.0


def run(main: Coroutine[Any, Any, None], *, virtually: bool = False) -> None:
    """Run a test's coroutine with a deadline.

    Args:
        virtually: on virtual time, for what happens at a time and not at a message.
    """

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await main

    if virtually:
        run_virtually(bounded())
    else:
        asyncio.run(bounded())


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@asynccontextmanager
async def emulator(**options: Any) -> AsyncIterator[Emulator]:
    """An emulator, ten times as fast as life, with the environment pointing at it."""
    options.setdefault("time_scale", 10.0)
    async with Emulator(EmulatorOptions(**options)) as server:
        with environment(server.client_environment()):
            yield server


class Raw:
    """A client that writes its own JSON."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message as a text frame."""
        await self.ws.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        """Receive a message."""
        message: dict[str, Any] = json.loads(await self.ws.recv())
        return message

    async def until(self, key: str) -> list[dict[str, Any]]:
        """Receive up to a message with this top-level or serverContent key."""
        out = []
        while True:
            out.append(await self.receive())
            if key in out[-1] or key in out[-1].get("serverContent", {}):
                return out

    async def setup(self, model: str = f"models/{MODEL}", **fields: Any) -> dict[str, Any]:
        """Set up with manual activity signals; return the first frame."""
        await self.send({"setup": {"model": model, "realtimeInputConfig": MANUAL, **fields}})
        return await self.receive()

    async def say(self, pcm: bytes) -> None:
        """Send an utterance."""
        await self.send({"realtimeInput": {"activityStart": {}}})
        await self.send(blob(pcm))
        await self.send({"realtimeInput": {"activityEnd": {}}})


@asynccontextmanager
async def raw(server: Emulator, path: str = DEVELOPER, **given: Any) -> AsyncIterator[Raw]:
    """A raw connection with an API key."""
    given.setdefault("additional_headers", {"x-goog-api-key": "test"})
    url = server.base_url.replace("https", "wss") + path
    async with connect(url, ssl=server.client_context(), proxy=None, **given) as ws:
        yield Raw(ws)


class Token(Credentials):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Google credentials with a fixed token."""

    def __init__(self, token: str = "ya29.test") -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.token = token

    @property
    def expired(self) -> bool:
        return False

    @property
    def valid(self) -> bool:
        return True

    def refresh(self, request: Any) -> None:
        """Nothing to refresh."""


def sdk(
    server: Emulator, *, vertex: bool = False, api_key: str = "test", api_version: str = "v1beta"
) -> Any:
    """The real SDK's client."""
    from google import genai

    if vertex:
        return genai.Client(
            vertexai=True,
            project="proj",
            location="us-central1",
            credentials=Token(),
            http_options={"base_url": server.base_url},
        )
    return genai.Client(
        api_key=api_key, http_options={"base_url": server.base_url, "api_version": api_version}
    )
