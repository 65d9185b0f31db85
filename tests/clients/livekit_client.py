"""livekit-agents: the session of its Gemini plugin, without a room."""
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from checks import given, hold, pieces, report, tone
from google.auth.credentials import Credentials
from google.genai import types
from livekit import rtc
from livekit.agents import function_tool, llm
from livekit.plugins.google.realtime import RealtimeModel

GIVEN = given()


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


class Live:
    """A session, and what it has said."""

    def __init__(self, which: str, manual: bool, **more: Any) -> None:
        options = types.HttpOptions(base_url=GIVEN["urls"][which])
        if GIVEN["vertex"]:
            place = {"vertexai": True, "project": "p", "location": "us-central1"}
            place["credentials"] = Token()
        else:
            options.api_version = "v1beta"
            place = {"api_key": "invented"}
        if manual:
            more["realtime_input_config"] = types.RealtimeInputConfig(
                automatic_activity_detection=types.AutomaticActivityDetection(disabled=True)
            )
        if "thinking" in GIVEN["model"]:
            more["thinking_config"] = types.ThinkingConfig(thinking_level="LOW")
        self.model = RealtimeModel(
            model=GIVEN["model"], instructions="Be kind.", http_options=options, **place, **more
        )
        self.session = self.model.session()
        self.generations: asyncio.Queue[Any] = asyncio.Queue()
        self.heard = ""
        self.usage: list[Any] = []
        self.errors: list[str] = []
        self.session.on("generation_created", self.generations.put_nowait)
        self.session.on("input_audio_transcription_completed", self._heard)
        self.session.on("metrics_collected", self.usage.append)
        self.session.on("error", lambda error: self.errors.append(str(error)))

    def _heard(self, found: Any) -> None:
        self.heard = found.transcript

    async def write(self, text: str) -> Any:
        """Send typed content; return the answer."""
        context = self.session.chat_ctx
        context.add_message(role="user", content=text)
        await self.session.update_chat_ctx(context)
        return await self.session.generate_reply()

    async def speak(self, *, manual: bool = False) -> None:
        """Send an utterance."""
        if manual:
            self.session.start_user_activity()
        for piece in pieces(tone() + bytes(4_800 if manual else 48_000)):
            self.session.push_audio(rtc.AudioFrame(piece, 16_000, 1, len(piece) // 2))
        if manual:
            await asyncio.sleep(0.3)

    async def generation(self) -> Any:
        """Return what the model says next, by itself or asked."""
        return await self.generations.get()


@asynccontextmanager
async def connect(which: str = "plain", *, manual: bool = False, **more: Any) -> Any:
    """Open a session."""
    live = Live(which, manual, **more)
    try:
        yield live
        hold(not live.errors, live.errors)
    finally:
        await live.session.aclose()
        await live.model.aclose()


async def sound(generation: Any) -> tuple[int, str]:
    """Count bytes of a reply; join its words."""
    size, said = 0, ""
    async for message in generation.message_stream:

        async def listen(message: Any = message) -> int:
            return sum([len(frame.data.tobytes()) async for frame in message.audio_stream])

        async def read(message: Any = message) -> str:
            return "".join([str(piece) async for piece in message.text_stream])

        more, text = await asyncio.gather(listen(), read())
        size, said = size + more, said + text
    return size, said


async def setup() -> None:
    async with connect() as live:
        await sound(await live.write("Hello"))


async def text() -> None:
    async with connect() as live:
        for words in ("Hello there", "And again"):
            size, _ = await sound(await live.write(words))
            hold(size, "sound")


async def audio_manual() -> None:
    async with connect(manual=True) as live:
        await asyncio.sleep(1.0)
        await live.speak(manual=True)
        size, _ = await sound(await live.session.generate_reply())
        while size < 40_000:  # its turnComplete behind activityEnd may have broken that one off
            size += (await sound(await live.generation()))[0]


async def audio_automatic() -> None:
    async with connect() as live:
        await live.speak()
        size, _ = await sound(await live.generation())
        hold(size >= 40_000, size)


async def transcripts() -> None:
    async with connect() as live:
        await live.speak()
        _, said = await sound(await live.generation())
        hold("speech" in said, said)
        hold("speech" in live.heard, live.heard)


async def tools() -> None:
    @function_tool
    async def lamp() -> str:
        """Switch the lamp on."""
        return "on"

    async with connect("tools") as live:
        await live.session.update_tools([lamp])
        await asyncio.sleep(1.0)
        generation = await live.write("The lamp, please")
        said, answered = "", False
        for _ in range(3):
            words = asyncio.create_task(sound(generation))
            async for call in generation.function_stream:
                answered = True
                context = live.session.chat_ctx
                context.items.append(call)
                context.items.append(
                    llm.FunctionCallOutput(
                        call_id=call.call_id, name=call.name, output="on", is_error=False
                    )
                )
                await live.session.update_chat_ctx(context)
            said += (await words)[1]
            if answered and "It is on." in said:
                return
            generation = await asyncio.wait_for(live.generation(), 20)
        hold(False, (answered, said))


async def interruption() -> None:
    async with connect("slow") as live:
        await live.speak()
        generation = await live.generation()
        await asyncio.sleep(0.5)
        await live.speak()
        size, _ = await sound(generation)
        hold(size < 48_000 * 7, size)


async def go_away_and_resume() -> None:
    async with connect("short") as live:
        await sound(await live.write("Hello"))
        await asyncio.sleep(4.0)  # the end of the first connection is past; nothing announces it
        for _ in range(3):  # a connection lives two seconds here, and a question may meet its end
            with contextlib.suppress(llm.RealtimeError):
                size, _text = await sound(await live.write("And again"))
                hold(size, "sound")
                return
        hold(False, "an answer after the end of the first connection")


async def compression() -> None:
    window = types.ContextWindowCompressionConfig(
        trigger_tokens=10_000, sliding_window=types.SlidingWindow(target_tokens=512)
    )
    async with connect(context_window_compression=window) as live:
        for _ in range(3):
            await sound(await live.write("word " * 6_000))
        await asyncio.sleep(0.5)
        tokens = live.usage[-1].input_tokens
        hold(0 < tokens < 10_000, tokens)


async def instruction_midway() -> None:
    async with connect() as live:
        await sound(await live.write("Hello"))
        await live.session.update_instructions("Be brief.")
        size, _ = await sound(await live.write("And again"))
        hold(size, "sound")


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
        "end": setup,
    },
    version("livekit-agents"),
)
