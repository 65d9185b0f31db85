"""The real google-genai SDK, unchanged, against the emulator."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import errors, types

from live_emulator import Emulator
from live_emulator.audio import resample
from tests.emulator.clients import emulator, run, sdk
from tests.emulator.harness import voice

MANUAL = types.RealtimeInputConfig(
    automatic_activity_detection=types.AutomaticActivityDetection(disabled=True)
)


def config(**fields: Any) -> types.LiveConnectConfig:
    """Audio, manual activity signals, transcriptions, resumption."""
    given: dict[str, Any] = {
        "response_modalities": ["AUDIO"],
        "realtime_input_config": MANUAL,
        "input_audio_transcription": types.AudioTranscriptionConfig(),
        "output_audio_transcription": types.AudioTranscriptionConfig(),
        "session_resumption": types.SessionResumptionConfig(),
    }
    return types.LiveConnectConfig(**(given | fields))


async def say(session: Any, pcm: bytes) -> None:
    """Speak an utterance in 40 ms messages."""
    await session.send_realtime_input(activity_start=types.ActivityStart())
    for start in range(0, len(pcm), 1_280):
        chunk = types.Blob(data=pcm[start : start + 1_280], mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=chunk)
    await session.send_realtime_input(activity_end=types.ActivityEnd())


async def turn(session: Any) -> list[types.LiveServerMessage]:
    """Receive one turn."""
    return [message async for message in session.receive()]


async def collect(session: Any, into: list[types.LiveServerMessage]) -> None:
    """Receive one turn into a list that outlives an exception."""
    async for message in session.receive():
        into.append(message)  # noqa: PERF401 - what came before an exception is wanted


def audio(messages: list[types.LiveServerMessage]) -> bytes:
    """Join the audio of a turn."""
    return b"".join(message.data for message in messages if message.data)


async def new_handle(server: Emulator, since: int = 0) -> str:
    """Wait for a handle on the wire."""
    entry = await server.record.wait_for(
        lambda e: "newHandle" in (e.message or {}).get("sessionResumptionUpdate", {}), since=since
    )
    assert entry.message is not None
    return str(entry.message["sessionResumptionUpdate"]["newHandle"])


@pytest.mark.parametrize(
    ("vertex", "model"),
    [
        (False, "gemini-3.8-live"),
        (False, "gemini-3.1-flash-live-preview"),
        (False, "gemini-2.5-flash-native-audio-preview-12-2025"),
        (True, "gemini-3.8-live"),
        (True, "gemini-live-2.5-flash-native-audio"),
    ],
)
def test_a_parrot_turn_on_both_backends(vertex: bool, model: str) -> None:
    """The user's own words come back at 24 kHz; every byte sent arrived; usage is parsed."""

    async def main() -> None:
        async with emulator(transcripts=["Front center"]) as server:
            client = sdk(server, vertex=vertex)
            pcm = voice(0.8)
            async with client.aio.live.connect(model=model, config=config()) as session:
                if vertex:
                    assert session.session_id
                await say(session, pcm)
                messages = await turn(session)
            assert audio(messages) == resample(pcm, 16_000, 24_000)
            assert server.received_audio() == pcm
            assert server.utterances[0].pcm == pcm
            contents = [m.server_content for m in messages if m.server_content]
            heard = [c.input_transcription.text or "" for c in contents if c.input_transcription]
            spoken = [c.output_transcription.text or "" for c in contents if c.output_transcription]
            assert ("".join(heard), "".join(spoken)) == ("Front center", "Front center")
            usage = messages[-1].usage_metadata
            assert usage is not None
            assert (usage.prompt_token_count, usage.response_token_count) == (20, 20)
            assert contents[-2].generation_complete
            assert contents[-1].turn_complete

    run(main())


def test_the_sdk_resumes_on_both_backends() -> None:
    """A second connection with the handle continues the session."""

    async def main() -> None:
        for vertex in (False, True):
            async with emulator() as server:
                client = sdk(server, vertex=vertex)
                connect = client.aio.live.connect
                async with connect(model="gemini-3.8-live", config=config()) as session:
                    await say(session, voice(0.3))
                    await turn(session)
                    ended = await server.record.wait_for("turnComplete")
                    handle = await new_handle(server, ended.seq)
                await server.record.wait_for("closed")
                again = config(session_resumption=types.SessionResumptionConfig(handle=handle))
                async with connect(model="gemini-3.8-live", config=again) as session:
                    await say(session, voice(0.3))
                    usage = (await turn(session))[-1].usage_metadata
                    assert usage is not None
                    assert usage.prompt_token_count == 3 * 8

    run(main())


def test_transparent_indices_reach_the_sdk() -> None:
    """On Vertex the index of consumed messages arrives as an int."""

    async def main() -> None:
        async with emulator(index_interval_s=0.1) as server:
            client = sdk(server, vertex=True)
            resumption = types.SessionResumptionConfig(transparent=True)
            async with client.aio.live.connect(
                model="gemini-3.8-live", config=config(session_resumption=resumption)
            ) as session:
                await session.send_realtime_input(activity_start=types.ActivityStart())
                async for message in session.receive():
                    update = message.session_resumption_update
                    if update and update.last_consumed_client_message_index == 1:
                        break

    run(main())


def test_every_close_surfaces_in_the_sdk() -> None:
    """goAway, then a close with its code; the SDK raises APIError with it."""

    async def main() -> None:
        async with emulator() as server:
            client = sdk(server)
            async with client.aio.live.connect(model="gemini-3.8-live", config=config()) as session:
                server.faults.do("go_away", time_left_s=2.0)
                seen: list[types.LiveServerMessage] = []
                with pytest.raises(errors.APIError) as caught:
                    await collect(session, seen)
                assert seen[0].go_away is not None
                assert seen[0].go_away.time_left == "0.200s"
                assert caught.value.code == 1008

    run(main())


def test_tools_text_and_context_through_the_sdk() -> None:
    """Tool calls, responses, client content and context updates as the SDK sends them."""

    async def main() -> None:
        from live_emulator.scenario import read_scenario

        script = read_scenario(
            {"turn": [{"tool_call": {"name": "lamp", "args": {"on": True}}, "say": "Lit."}]}
        )
        tools: Any = [
            {"function_declarations": [{"name": "lamp", "behavior": "BLOCKING"}]},
        ]
        async with emulator(scenario=script) as server:
            client = sdk(server)
            async with client.aio.live.connect(
                model="gemini-3.8-live", config=config(tools=tools)
            ) as session:
                await session.send_client_content(
                    turns=types.Content(role="user", parts=[types.Part(text="light")])
                )
                spoken = ""
                async for message in session.receive():
                    if message.tool_call:
                        call = message.tool_call.function_calls[0]
                        assert call.args == {"on": True}
                        await session.send_tool_response(
                            function_responses=types.FunctionResponse(
                                id=call.id, name=call.name, response={"result": "ok"}
                            )
                        )
                    content = message.server_content
                    if content and content.output_transcription:
                        spoken += content.output_transcription.text or ""
                assert spoken == "Lit."
                kinds = [e.kind for e in server.record.select(direction="in")]
                assert kinds == ["setup", "clientContent", "toolResponse"]

    run(main())


@pytest.mark.parametrize(
    ("options", "api_key", "model", "code", "part"),
    [
        ({}, "test", "nope", 1008, "models/nope is not found for API version v1beta"),
        ({"accept_credentials": frozenset({"k"})}, "bad", "gemini-3.8-live", 1007, "API key not"),
    ],
)
def test_refused_setups_reach_the_sdk(
    options: dict[str, Any], api_key: str, model: str, code: int, part: str
) -> None:
    """A close before setupComplete surfaces from connect with code and reason."""

    async def main() -> None:
        async with emulator(**options) as server:
            client = sdk(server, api_key=api_key)
            with pytest.raises(errors.APIError) as caught:
                async with client.aio.live.connect(model=model, config=config()):
                    pytest.fail("the setup was accepted")
            assert caught.value.code == code
            assert part in str(caught.value)

    run(main())


@pytest.mark.filterwarnings("ignore:.*ephemeral token support")
def test_ephemeral_tokens_use_the_constrained_method() -> None:
    """An auth_tokens/ key goes to BidiGenerateContentConstrained and is admitted."""

    async def main() -> None:
        async with emulator(unknown_tokens="accept") as server:
            client = sdk(server, api_key="auth_tokens/abc")
            async with client.aio.live.connect(model="gemini-3.8-live", config=config()):
                entry = await server.record.wait_for("connect")
                assert entry.detail["auth"] == "ephemeral"
                assert entry.detail["path"].endswith("Constrained")

    run(main())


def test_an_unknown_frame_breaks_the_sdk_as_it_does_in_the_field() -> None:
    """A frame with only unknown top-level keys raises TypeError out of receive()."""

    async def main() -> None:
        async with emulator() as server:
            client = sdk(server)
            async with client.aio.live.connect(model="gemini-3.8-live", config=config()) as session:
                server.faults.do("unknown_frame")
                with pytest.raises(TypeError):
                    await turn(session)

    run(main())


def test_an_oversized_frame_ends_the_sdk_s_connection() -> None:
    """A frame above 1 MiB reads as 1006 in receive()."""

    async def main() -> None:
        async with emulator() as server:
            client = sdk(server)
            async with client.aio.live.connect(model="gemini-3.8-live", config=config()) as session:
                server.faults.do("oversized_frame")
                with pytest.raises(errors.APIError) as caught:
                    await turn(session)
                assert caught.value.code == 1006

    run(main())


def test_text_frames_by_knob() -> None:
    """The SDK takes binary frames and text frames alike; both can be served."""

    async def main() -> None:
        for text in (False, True):
            async with emulator(text_frames=text, deflate=text) as server:
                client = sdk(server)
                async with client.aio.live.connect(
                    model="gemini-3.8-live", config=config()
                ) as session:
                    await say(session, voice(0.1))
                    assert audio(await turn(session))
                frames = {e.frame for e in server.record.select(direction="out")}
                assert frames == {"text" if text else "binary"}

    run(main())
