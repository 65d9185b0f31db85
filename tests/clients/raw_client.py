"""A client without an SDK: websockets and JSON by hand, as the pages for Vertex AI show it."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from checks import given, hold, pieces, report, tone  # type: ignore[import-not-found]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.version import version

GIVEN = given()
LAMP = [{"functionDeclarations": [{"name": "lamp", "description": "Switch the lamp on."}]}]
TRUST = ssl.create_default_context()


@asynccontextmanager
async def dial(which: str = "plain", *, manual: bool = True, **more: Any) -> AsyncIterator[Any]:
    """Connect and set up."""
    host, model = GIVEN["urls"][which].removeprefix("https://"), GIVEN["model"]
    if GIVEN["vertex"]:
        path = "ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
        headers = {"Authorization": "Bearer invented"}
        model = f"projects/p/locations/us-central1/publishers/google/models/{model}"
    else:
        service = "google.ai.generativelanguage.v1beta.GenerativeService"
        path, headers = f"ws/{service}.BidiGenerateContent?key=invented", {}
        model = f"models/{model}"
    setup: dict[str, Any] = {
        "model": model,
        "generation_config": {"response_modalities": "audio"},  # a bare value, in lower case
        "input_audio_transcription": {},
        "output_audio_transcription": {},
    }
    if manual:
        setup["realtime_input_config"] = {"automatic_activity_detection": {"disabled": True}}
    async with connect(f"wss://{host}/{path}", ssl=TRUST, additional_headers=headers) as socket:
        await say(socket, {"setup": setup | more})
        hold("setupComplete" in json.loads(await socket.recv()), "setupComplete")
        yield socket


async def say(socket: ClientConnection, message: dict[str, Any]) -> None:
    """Send a message."""
    await socket.send(json.dumps(message))


async def write(socket: Any, text: str, role: str = "user", *, complete: bool = True) -> None:
    """Send typed content."""
    turn = {"role": role, "parts": [{"text": text}]}
    await say(socket, {"client_content": {"turns": [turn], "turn_complete": complete}})


async def speak(socket: Any, *, manual: bool = True) -> None:
    """Send an utterance, in `media_chunks` as the older pages do."""
    if manual:
        await say(socket, {"realtime_input": {"activity_start": {}}})
    for piece in pieces(tone() + (b"" if manual else bytes(48_000))):
        data = base64.b64encode(piece).decode()
        chunk = {"mime_type": "audio/pcm;rate=16000", "data": data}
        await say(socket, {"realtime_input": {"media_chunks": [chunk]}})
    if manual:
        await say(socket, {"realtime_input": {"activity_end": {}}})


async def turn(socket: Any, each: Callable[[Any], Any] | None = None) -> list[Any]:
    """Receive up to the end of a turn."""
    messages = []
    async for frame in socket:
        message = json.loads(frame)
        messages.append(message)
        if each is not None:
            await each(message)
        if message.get("serverContent", {}).get("turnComplete"):
            return messages
    raise AssertionError("closed in the middle of a turn")


def sound(messages: list[Any]) -> int:
    """Count bytes of the reply."""
    contents = [m.get("serverContent", {}).get("modelTurn", {}) for m in messages]
    parts = [part for content in contents for part in content.get("parts", [])]
    return sum(len(base64.b64decode(part["inlineData"]["data"])) for part in parts)


def words(messages: list[Any], which: str) -> str:
    """Join a transcription."""
    return "".join(m.get("serverContent", {}).get(which, {}).get("text", "") for m in messages)


async def setup() -> None:
    async with dial():
        pass


async def text() -> None:
    async with dial() as socket:
        await write(socket, "Hello there")
        hold(sound(await turn(socket)), "sound")
        await say(socket, {"realtime_input": {"text": "And again"}})
        hold(sound(await turn(socket)), "sound")


async def audio_manual() -> None:
    async with dial() as socket:
        await speak(socket)
        hold(sound(await turn(socket)) >= 47_000, "a second of sound")


async def audio_automatic() -> None:
    async with dial(manual=False) as socket:
        await speak(socket, manual=False)
        hold(sound(await turn(socket)) >= 47_000, "a second of sound")


async def transcripts() -> None:
    async with dial() as socket:
        await speak(socket)
        messages = await turn(socket)
        for which in ("inputTranscription", "outputTranscription"):
            hold("speech" in words(messages, which), which)


async def tools() -> None:
    async with dial("tools", tools=LAMP) as socket:

        async def answer(message: Any) -> None:
            for call in message.get("toolCall", {}).get("functionCalls", []):
                response = {"id": call["id"], "name": call["name"], "response": {"ok": True}}
                await say(socket, {"tool_response": {"function_responses": [response]}})

        await speak(socket)
        said = ""
        for _ in range(3):
            said += words(await turn(socket, answer), "outputTranscription")
            if "It is on." in said:
                return
        hold(False, said)


async def interruption() -> None:
    async with dial("slow") as socket:
        started = False

        async def interrupt(message: Any) -> None:
            nonlocal started
            if sound([message]) and not started:
                started = True
                await say(socket, {"realtime_input": {"activity_start": {}}})

        await speak(socket)
        messages = await turn(socket, interrupt)
        hold(any(m.get("serverContent", {}).get("interrupted") for m in messages), "interrupted")


async def go_away_and_resume() -> None:
    handle, warned = "", False
    async with dial("short", session_resumption={}) as socket:
        await speak(socket)
        try:
            async for frame in socket:
                message = json.loads(frame)
                handle = message.get("sessionResumptionUpdate", {}).get("newHandle") or handle
                warned = warned or "goAway" in message
        except ConnectionClosed as closed:
            hold(closed.rcvd is not None and closed.rcvd.code == 1008, closed)
    hold(warned, "a warning")
    async with dial("short", session_resumption={"handle": handle}) as socket:
        await speak(socket)
        usage = (await turn(socket))[-1]["usageMetadata"]
        hold(usage["promptTokenCount"] == 75, usage)


async def compression() -> None:
    window = {"trigger_tokens": 10_000, "sliding_window": {"target_tokens": 512}}
    async with dial(context_window_compression=window) as socket:
        usage: dict[str, Any] = {}
        for _ in range(3):
            await write(socket, "word " * 6_000)
            usage = (await turn(socket))[-1]["usageMetadata"]
        hold(0 < usage["promptTokenCount"] < 10_000, usage)


async def instruction_midway() -> None:
    async with dial() as socket:
        if GIVEN["vertex"]:
            await write(socket, "Be brief.", "system", complete=False)
        elif "3.8" in GIVEN["model"]:
            change = {"systemInstruction": {"parts": [{"text": "Be brief."}]}}
            await say(socket, {"contextUpdate": change})
        else:
            raise NotImplementedError
        await speak(socket)
        hold(sound(await turn(socket)), "sound")


async def end() -> None:
    async with dial() as socket:
        pass
    hold(socket.close_code == 1000, socket.close_code)


report(
    {
        "setup": setup,
        "text": text,
        "audio, manual": audio_manual,
        "audio, automatic": audio_automatic,
        "transcripts": transcripts,
        "tools": tools,
        "interruption": interruption,
        "GoAway, resume": go_away_and_resume,
        "window": compression,
        "instruction midway": instruction_midway,
        "end": end,
    },
    version,
)
