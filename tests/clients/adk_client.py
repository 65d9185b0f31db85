"""google-adk: an agent that a runner runs live."""
# mypy: ignore-errors
# ruff: noqa: E402 - the SDK looks at the environment when it is imported

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from importlib.metadata import version
from typing import Any, Self

from checks import given, hold, not_here, pieces, report, tone
from google.auth.credentials import Credentials

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


if GIVEN["vertex"]:
    os.environ |= {
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_CLOUD_PROJECT": "p",
        "GOOGLE_CLOUD_LOCATION": "us-central1",
    }
else:
    os.environ["GOOGLE_API_KEY"] = "invented"

from google.adk.agents import Agent, LiveRequestQueue
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.google_llm import Gemini
from google.adk.runners import InMemoryRunner
from google.genai import Client, types

CALLED: list[bool] = []


def lamp() -> dict[str, bool]:
    """Switch the lamp on."""
    CALLED.append(True)
    return {"on": True}


class Live:
    """A run, its queue and its events."""

    def __init__(self, which: str = "plain", *, tools: bool = False, **config: Any) -> None:
        options: dict[str, Any] = {"base_url": GIVEN["urls"][which]}
        model = Gemini(model=GIVEN["model"])
        if GIVEN["vertex"]:
            model.__dict__["_live_api_client"] = Client(
                vertexai=True,
                project="p",
                location="us-central1",
                credentials=Token(),
                http_options=options,
            )
        else:
            options["api_version"] = "v1beta"
            model.__dict__["_live_api_client"] = Client(api_key="invented", http_options=options)
        agent = Agent(name="kitchen", model=model, instruction="Be kind.", tools=[lamp] * tools)
        self.runner = InMemoryRunner(agent=agent, app_name="kitchen")
        self.queue = LiveRequestQueue()
        self.config = RunConfig(
            **{
                "streaming_mode": StreamingMode.BIDI,
                "response_modalities": ["AUDIO"],
                "input_audio_transcription": types.AudioTranscriptionConfig(),
                "output_audio_transcription": types.AudioTranscriptionConfig(),
            }
            | config
        )

    async def __aenter__(self) -> Self:
        session = await self.runner.session_service.create_session(
            app_name="kitchen", user_id="somebody"
        )
        self.events = self.runner.run_live(
            user_id="somebody",
            session_id=session.id,
            live_request_queue=self.queue,
            run_config=self.config,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.queue.close()
        async with aclosing(self.events):
            pass

    def write(self, text: str) -> None:
        """Send typed content."""
        self.queue.send_content(types.Content(role="user", parts=[types.Part(text=text)]))

    def speak(self, *, manual: bool = False) -> None:
        """Send an utterance."""
        if manual:
            self.queue.send_activity_start()
        for piece in pieces(tone() + (b"" if manual else bytes(48_000))):
            self.queue.send_realtime(types.Blob(data=piece, mime_type="audio/pcm;rate=16000"))
        if manual:
            self.queue.send_activity_end()

    async def turn(self) -> list[Any]:
        """Receive up to the end of a turn."""
        events = []
        async for event in self.events:
            events.append(event)
            if event.error_message or event.error_code:
                raise AssertionError(f"{event.error_code}: {event.error_message}")
            if event.turn_complete:
                return events
        raise AssertionError("the run ended")


def sound(events: list[Any]) -> int:
    """Count bytes of the reply."""
    parts = [part for event in events if event.content for part in event.content.parts or []]
    return sum(len(part.inline_data.data) for part in parts if part.inline_data)


def words(events: list[Any], which: str) -> str:
    """Join a transcription."""
    found = (getattr(event, which, None) for event in events)
    return " ".join(item.text or "" for item in found if item)


async def setup() -> None:
    async with Live() as live:
        live.write("Hello")
        await live.turn()


async def text() -> None:
    async with Live() as live:
        live.write("Hello there")
        hold(sound(await live.turn()), "sound")
        live.write("And again")
        hold(sound(await live.turn()), "sound")


async def audio_manual() -> None:
    detection = types.AutomaticActivityDetection(disabled=True)
    how = types.RealtimeInputConfig(automatic_activity_detection=detection)
    async with Live(realtime_input_config=how) as live:
        live.speak(manual=True)
        hold(sound(await live.turn()) >= 47_000, "a second of sound")


async def audio_automatic() -> None:
    async with Live() as live:
        live.speak()
        hold(sound(await live.turn()) >= 40_000, "a second of sound")


async def transcripts() -> None:
    async with Live() as live:
        live.speak()
        events = await live.turn()
        for which in ("input_transcription", "output_transcription"):
            hold("speech" in words(events, which), which)


async def tools() -> None:
    CALLED.clear()
    async with Live("tools", tools=True) as live:
        live.write("The lamp, please")
        said = ""
        for _ in range(3):
            said += words(await live.turn(), "output_transcription")
            if CALLED and "It is on." in said:
                return
        hold(False, (CALLED, said))


async def interruption() -> None:
    async with Live("slow") as live:
        live.speak()
        again = False
        async for event in live.events:
            if event.interrupted:
                return
            if sound([event]) and not again:
                again = True
                live.speak()
        hold(False, "interrupted")


async def go_away_and_resume() -> None:
    """The runner reconnects by itself; the question after is answered."""
    async with Live("short", session_resumption=types.SessionResumptionConfig()) as live:
        live.write("Hello")
        await live.turn()
        await asyncio.sleep(4.0)  # the end of the first connection is past
        live.write("And again")
        hold(sound(await live.turn()), "sound")


async def compression() -> None:
    window = types.ContextWindowCompressionConfig(
        trigger_tokens=10_000, sliding_window=types.SlidingWindow(target_tokens=512)
    )
    async with Live(context_window_compression=window) as live:
        for _ in range(3):
            live.write("word " * 6_000)
            usage = [event.usage_metadata for event in await live.turn() if event.usage_metadata]
        hold(0 < usage[-1].prompt_token_count < 10_000, usage[-1])


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
        "instruction midway": not_here,
        "end": setup,
    },
    version("google-adk"),
)
