"""google-genai, any version: what a Live client does, one check after the other.

Run by the interpreter of the client's own environment; knows nothing of this project.  Reads
``{"urls": {…}, "vertex": bool, "model": …}`` from argv, prints ``{check: "ok" or what happened}``.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from array import array
from collections.abc import Awaitable, Callable
from typing import Any

from google import genai
from google.auth.credentials import Credentials
from google.genai import errors, types

GIVEN = json.loads(sys.argv[1])
PCM = array("h", (round(9000 * math.sin(0.118 * n)) for n in range(16_000))).tobytes()
LAMP = {"function_declarations": [{"name": "lamp", "description": "Switch the lamp on."}]}


class Token(Credentials):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Credentials that are good for ever."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.token = "invented"

    @property
    def expired(self) -> bool:
        return False

    @property
    def valid(self) -> bool:
        return True

    def refresh(self, request: Any) -> None:
        """Nothing to refresh."""


def client(which: str) -> Any:
    """Return a client of one of the emulators."""
    options: dict[str, Any] = {"base_url": GIVEN["urls"][which]}
    if GIVEN["vertex"]:
        return genai.Client(
            vertexai=True,
            project="p",
            location="us-central1",
            credentials=Token(),
            http_options=options,  # type: ignore[arg-type, unused-ignore]
        )
    options["api_version"] = "v1beta"
    return genai.Client(api_key="invented", http_options=options)  # type: ignore[arg-type, unused-ignore]


def connect(which: str = "plain", *, manual: bool = True, **config: Any) -> Any:
    """Return the context manager of a connection."""
    given: dict[str, Any] = {
        "response_modalities": ["AUDIO"],
        "input_audio_transcription": {},
        "output_audio_transcription": {},
    }
    if manual:
        given["realtime_input_config"] = {"automatic_activity_detection": {"disabled": True}}
    return client(which).aio.live.connect(model=GIVEN["model"], config=given | config)


async def speak(session: Any, pcm: bytes = PCM, *, manual: bool = True) -> None:
    """Send an utterance."""
    if manual:
        await session.send_realtime_input(activity_start=types.ActivityStart())
    for start in range(0, len(pcm), 3_200):
        blob = types.Blob(data=pcm[start : start + 3_200], mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=blob)
    if manual:
        await session.send_realtime_input(activity_end=types.ActivityEnd())


async def write(session: Any, text: str, role: str = "user", *, complete: bool = True) -> None:
    """Send typed content."""
    turn = types.Content(role=role, parts=[types.Part(text=text)])
    await session.send_client_content(turns=turn, turn_complete=complete)


async def turn(session: Any) -> list[Any]:
    """Receive up to the end of a turn."""
    return [message async for message in session.receive()]


def sound(messages: list[Any]) -> int:
    """Count bytes of the reply."""
    return sum(len(m.data) for m in messages if m.data)


def words(messages: list[Any], which: str) -> str:
    """Join a transcription."""
    found = (getattr(m.server_content, which, None) for m in messages if m.server_content)
    return "".join(item.text or "" for item in found if item)


async def setup() -> None:
    async with connect():
        pass


async def text() -> None:
    async with connect() as session:
        await write(session, "Hello there")
        assert sound(await turn(session))
        await session.send_realtime_input(text="And again")
        assert sound(await turn(session))


async def audio_manual() -> None:
    async with connect() as session:
        await speak(session)
        assert sound(await turn(session)) >= 47_000


async def audio_automatic() -> None:
    async with connect(manual=False) as session:
        await speak(session, PCM + bytes(48_000), manual=False)
        assert sound(await turn(session)) >= 47_000


async def transcripts() -> None:
    async with connect() as session:
        await speak(session)
        messages = await turn(session)
        assert "speech" in words(messages, "input_transcription")
        assert "speech" in words(messages, "output_transcription")


async def tools() -> None:
    async with connect("tools", tools=[LAMP]) as session:
        await speak(session)
        said = ""
        for _ in range(3):
            async for message in session.receive():
                said += words([message], "output_transcription")
                if message.tool_call:
                    call = message.tool_call.function_calls[0]
                    answer = types.FunctionResponse(
                        id=call.id, name=call.name, response={"ok": True}
                    )
                    await session.send_tool_response(function_responses=[answer])
            if "It is on." in said:
                return
        raise AssertionError(said)


async def interruption() -> None:
    async with connect("slow") as session:
        await speak(session)
        interrupted = False
        async for message in session.receive():
            if message.data and not interrupted:
                await session.send_realtime_input(activity_start=types.ActivityStart())
            content = message.server_content
            interrupted = interrupted or bool(content and content.interrupted)
        assert interrupted


async def go_away_and_resume() -> None:
    handle, ended, warned = "", "", False
    async with connect("short", session_resumption={}) as session:
        await speak(session)
        try:
            while True:
                async for message in session.receive():
                    update = message.session_resumption_update
                    if update and update.new_handle:
                        handle = update.new_handle
                    warned = warned or message.go_away is not None
        except errors.APIError as end:
            ended = str(end)
    assert warned
    assert "1008" in ended, ended
    async with connect("short", session_resumption={"handle": handle}) as session:
        await speak(session)
        usage = (await turn(session))[-1].usage_metadata
        assert usage.prompt_token_count == 75, usage  # the first second, its answer, this second


async def compression() -> None:
    window = {"trigger_tokens": 10_000, "sliding_window": {"target_tokens": 512}}
    tokens = []
    async with connect(context_window_compression=window) as session:
        for _ in range(3):
            await write(session, "word " * 6_000)
            tokens.append((await turn(session))[-1].usage_metadata.prompt_token_count)
    assert 0 < tokens[-1] < 10_000, tokens


async def instruction_midway() -> None:
    async with connect() as session:
        if GIVEN["vertex"]:
            await write(session, "Be brief.", "system", complete=False)
        elif "3.8" in GIVEN["model"] and hasattr(session, "send_context_update"):
            change = types.Content(parts=[types.Part(text="Be brief.")])
            await session.send_context_update(system_instruction=change)
        else:
            raise NotImplementedError
        await speak(session)
        assert sound(await turn(session))


CHECKS: dict[str, Callable[[], Awaitable[None]]] = {
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
}


async def main() -> None:
    """Run every check; one that fails says how."""
    found = {}
    for name, check in CHECKS.items():
        try:
            await asyncio.wait_for(check(), 40)
            found[name] = "ok"
        except NotImplementedError:
            found[name] = "not here"
        except Exception as exc:  # noqa: BLE001 - whatever a client raises is a result
            found[name] = f"{type(exc).__name__}: {exc}"[:200]
    print(json.dumps({"version": genai.__version__, "found": found}))


asyncio.run(main())
