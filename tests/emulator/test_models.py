"""Models as rows of traits: what each does on the wire that another does not."""

from __future__ import annotations

import argparse
import base64
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from live_emulator.cli import add_arguments, options_from, traits_from
from live_emulator.models import (
    MODELS,
    SOURCES,
    WITHDRAWN,
    Backend,
    ClientContentRule,
    ModelInfo,
    read_traits,
    traits_table,
)
from live_emulator.options import EmulatorOptions
from live_emulator.scenario import read_scenario
from live_emulator.setup import read_setup
from live_emulator.wire import WireError, cut_reason
from tests.emulator.harness import (
    Peer,
    blob,
    handles,
    kinds,
    make_service,
    reply_pcm,
    said,
    silence,
    voice,
)
from tests.emulator.test_turns import AUTO, BOTH, content, ready

DEV, VERTEX = Backend.DEVELOPER, Backend.VERTEX
V38, THINKING = "gemini-3.8-live", "gemini-3.8-live-extended-thinking"
V31, V25 = "gemini-3.1-flash-live-preview", "gemini-2.5-flash-native-audio-preview-12-2025"
TRANSCRIBE, TRANSLATE = "gemini-3.5-transcribe-live", "gemini-3.5-live-translate-preview"
LOW: Any = {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}}
ROOT = Path(__file__).resolve().parents[2]


def setup_of(model: str, api_version: str = "v1beta", backend: Backend = DEV, **body: Any) -> Any:
    path = f"models/{model}" if backend is DEV else f"publishers/google/models/{model}"
    return read_setup({"model": path, **body}, backend, api_version)


def refusal(model: str, api_version: str = "v1beta", backend: Backend = DEV, **body: Any) -> str:
    with pytest.raises(WireError) as caught:
        setup_of(model, api_version, backend, **body)
    return f"{caught.value.code} {caught.value.reason}"


def tools(*declarations: dict[str, Any]) -> Any:
    return {"tools": [{"functionDeclarations": list(declarations)}]}


# -- the table --------------------------------------------------------------------------------


def test_every_trait_has_its_source() -> None:
    """No trait without a source that says how sure it is and, where it was seen, when."""
    assert set(SOURCES) == {item.name for item in fields(ModelInfo)} - {"name"}
    assert {certainty for certainty, _ in SOURCES.values()} <= {"known", "observed", "guess"}
    assert all(source for _, source in SOURCES.values())


def test_the_page_holds_the_table() -> None:
    """docs/developer/emulator.md shows the traits as they are; ``--list-models`` prints them."""
    assert traits_table() in (ROOT / "docs" / "developer" / "emulator.md").read_text("utf-8")


def test_traits_can_be_set_against_the_table() -> None:
    """Where two sources disagree both can be played; values come as text or as themselves."""
    assert read_traits({"client_content": "seed_only", "audio_stream_end": "True"}) == {
        "client_content": ClientContentRule.SEED_ONLY,
        "audio_stream_end": True,
    }
    assert read_traits({"window_tokens": "500", "tool_ids": "x-"}) == {
        "window_tokens": 500,
        "tool_ids": "x-",
    }
    assert read_traits({"client_content": ClientContentRule.SEED_ONLY}) == {
        "client_content": ClientContentRule.SEED_ONLY
    }
    assert traits_from(["a=1", "b = x=y"]) == {"a": "1", "b": "x=y"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nope": "1"}, "no such trait; one of window_tokens"),
        ({"name": "x"}, "no such trait"),
        ({"audio_stream_end": "maybe"}, "choose one of true, false"),
        ({"client_content": "sometimes"}, "choose one of always, seed_only"),
        ({"window_tokens": "0"}, "a whole number"),
        ({"window_tokens": "many"}, "a whole number"),
    ],
)
def test_a_wrong_trait_says_what_there_is(given: dict[str, Any], words: str) -> None:
    """The refusal names the trait and what is allowed."""
    with pytest.raises(ValueError, match=next(iter(given))) as caught:
        EmulatorOptions(traits=given)
    assert words in str(caught.value)


def test_a_trait_without_a_value_is_no_trait() -> None:
    """--trait wants NAME=VALUE."""
    with pytest.raises(ValueError, match="NAME=VALUE"):
        traits_from(["client_content"])
    wrong: Any = 5
    with pytest.raises(ValueError, match="a table of names and values"):
        EmulatorOptions(traits=wrong)


def test_a_trait_of_the_command_line_goes_beside_those_of_a_scenario(tmp_path: Path) -> None:
    """And before the same one."""
    script = tmp_path / "s.toml"
    script.write_text("[options]\ntraits = { vad_signals = false, audio_stream_end = false }\n")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = ["--scenario", str(script), "--trait", "vad_signals=true"]
    options = options_from(parser.parse_args(given))
    assert options.traits == {"vad_signals": "true", "audio_stream_end": False}


def test_an_unknown_model_puts_on_record_what_is_served() -> None:
    """The close is the service's; the record says which models there are."""
    peer = Peer()
    peer.setup("gemini-9")
    assert peer.closes[0][0] == 1008
    assert peer.noted("unknown_model") == [{"served": list(MODELS[DEV])}]


@pytest.mark.parametrize("backend", list(Backend))
def test_withdrawn_names(backend: Backend) -> None:
    """They close as reported, 1008 on the Developer API and 1007 on Vertex; any_model wins."""
    code = "1008" if backend is DEV else "1007"
    for name in WITHDRAWN[backend]:
        assert name not in MODELS[backend]
        assert refusal(name, backend=backend).startswith(code)
        path = f"models/{name}" if backend is DEV else f"publishers/google/models/{name}"
        found = read_setup({"model": path}, backend, "v1beta", any_model=True)
        assert found.model.name == name


def test_latest_names_are_not_on_v1() -> None:
    """google-genai 3.0 moved to v1, where names that end in -latest are not served."""
    name = "gemini-2.5-flash-native-audio-latest"
    assert setup_of(name, "v1beta").model.name == name
    assert refusal(name, "v1").startswith(f"1008 models/{name} is not found for API version v1,")
    found = read_setup({"model": f"models/{name}"}, DEV, "v1", any_model=True)
    assert found.model.window_tokens == 128_000


def test_firebase_names_models_within_a_project() -> None:
    """projects/P/models/M is the Developer API's model M."""
    found = read_setup({"model": f"projects/p/models/{V38}"}, DEV, "v1beta")
    assert found.model.name == V38


# -- thinking ---------------------------------------------------------------------------------


def test_thinking_levels() -> None:
    """Extended thinking demands LOW, MEDIUM or HIGH, 3.8 takes none, 2.5 any."""
    missing = "1007 Thinking level must be specified for this model."
    wrong = "1007 Thinking level is not supported for this model."

    def level(value: str) -> Any:
        return {"generationConfig": {"thinkingConfig": {"thinkingLevel": value}}}

    assert refusal(THINKING) == missing
    assert refusal(THINKING, **level("THINKING_LEVEL_UNSPECIFIED")) == missing
    assert refusal(THINKING, **level("minimal")) == wrong
    for value in ("LOW", "medium", "High"):
        assert setup_of(THINKING, **level(value)).model.interaction_status
    assert refusal(V38, **level("LOW")) == wrong
    assert setup_of(V25, **level("MINIMAL")).model.name == V25


def test_extended_thinking_takes_no_blocking_functions() -> None:
    """BLOCKING closes the setup; undeclared functions do not block."""
    blocking = tools({"name": "lamp", "behavior": "BLOCKING"})
    assert refusal(THINKING, **LOW, **blocking) == (
        "1007 BLOCKING function calls are not supported for this model."
    )
    assert not setup_of(THINKING, **LOW, **tools({"name": "lamp"})).functions["lamp"].blocking
    assert setup_of(V38, **blocking).functions["lamp"].blocking


def respond(peer: Peer, **more: Any) -> list[dict[str, Any]]:
    (call,) = (f["toolCall"]["functionCalls"][0] for f in peer.frames if "toolCall" in f)
    body = {"id": call["id"], "name": call["name"], "response": {"ok": True}, **more}
    return peer.send({"tool_response": {"functionResponses": [body]}})


CALL = {"tool_call": {"name": "lamp"}, "say": "Done.", "say_after": "It is on.", "tone": "0.2s"}


def test_extended_thinking_refuses_scheduling() -> None:
    """A function response with scheduling closes 1007; without it the result is spoken."""
    declared = tools({"name": "lamp", "parameters": {"type": "OBJECT"}})
    peer = ready(model=THINKING, turns=[CALL], setup=BOTH | LOW | declared)
    peer.say()
    peer.advance(0.3)
    respond(peer, scheduling="WHEN_IDLE")
    assert peer.closes == [(1007, "Function response scheduling is not supported for this model.")]
    plain = ready(model=THINKING, turns=[CALL], setup=BOTH | LOW | declared)
    plain.say()
    plain.advance(5.0)
    respond(plain)
    assert "It is on." in said(plain.advance(10.0))
    assert plain.closes == []


def test_extended_thinking_speaks_calls_declared_by_json_schema() -> None:
    """As reported; functions declared by OpenAPI parameters are called; a knob calls all."""
    by_schema = tools({"name": "lamp", "parametersJsonSchema": {"type": "object"}})
    peer = ready(model=THINKING, turns=[CALL], setup=BOTH | LOW | by_schema)
    peer.say()
    frames = peer.advance(20.0)
    assert "toolCall" not in kinds(frames)
    assert said(frames) == "lamp({})"
    assert peer.noted("calls_spoken") == [{"names": ["lamp"]}]
    other = ready(
        model=THINKING,
        turns=[CALL],
        setup=BOTH | LOW | by_schema,
        traits={"json_schema_calls": True},
    )
    other.say()
    assert "toolCall" in kinds(other.advance(20.0))


def test_the_last_turn_of_extended_thinking_is_idle() -> None:
    """IN_PROGRESS for all but the last turnComplete."""
    peer = ready(model=THINKING, turns=[{"say": ["One.", "Two."]}], setup=LOW)
    peer.say()
    status = [
        f["serverContent"]["interactionStatus"]
        for f in peer.advance(30.0)
        if "interactionStatus" in f.get("serverContent", {})
    ]
    assert status == ["IN_PROGRESS", "IDLE"]


# -- functions --------------------------------------------------------------------------------


def test_openapi_parameters_have_no_words_of_json_schema() -> None:
    """AdditionalProperties is unknown on the Developer API, at any depth; Vertex has it."""
    inner = {"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "items": {"$ref": "x"}}}}
    outer = {"type": "OBJECT", "additionalProperties": False}
    assert 'Unknown name "additionalProperties"' in refusal(
        V38, **tools({"name": "f", "parameters": outer})
    )
    assert 'Unknown name "$ref"' in refusal(V38, **tools({"name": "f", "parameters": inner}))
    setup_of(V38, backend=VERTEX, **tools({"name": "f", "parameters": outer}))
    schema = tools({"name": "f", "parametersJsonSchema": outer})
    assert setup_of(V38, **schema).functions["f"].json_schema
    both = tools({"name": "f", "parametersJsonSchema": outer, "parameters": {"type": "OBJECT"}})
    assert refusal(V38, **both).startswith("1007")


@pytest.mark.parametrize("model", ["gemini-live-2.5-flash", "gemini-live-2.5-flash-native-audio"])
def test_on_vertex_2_5_a_call_has_a_turn_of_its_own(model: str) -> None:
    """It ends before the answer, with usage; the answer ends its own; ids are UUIDs."""
    turn = {"tool_call": {"name": "lamp"}, "say": "On.", "tone": "0.2s"}
    peer = ready(VERTEX, model, turns=[turn], setup=BOTH | tools({"name": "lamp"}))
    peer.say()
    before = peer.advance(5.0)
    shapes = [kind for kind in kinds(before) if kind != "sessionResumptionUpdate"]
    assert shapes == ["toolCall", "outputTranscription", "generationComplete", "turnComplete"]
    assert "usageMetadata" in before[-1]
    (call,) = (f["toolCall"]["functionCalls"][0] for f in before if "toolCall" in f)
    assert len(call["id"]) == 36
    respond(peer)
    after = kinds(peer.advance(5.0))
    assert "On." in said(peer.frames)
    assert after[-3:] == ["generationComplete", "turnComplete", "sessionResumptionUpdate"]


def test_on_vertex_2_5_new_speech_drops_the_call_that_waits() -> None:
    """The user speaks instead of waiting: the call is cancelled, its answer never comes."""
    turns = [{"tool_call": {"name": "lamp"}, "say": "On."}, {"say": "Something else."}]
    peer = ready(VERTEX, "gemini-live-2.5-flash", turns=turns, setup=BOTH | tools({"name": "lamp"}))
    peer.say()
    peer.advance(5.0)
    peer.say()
    assert "toolCallCancellation" in peer.kinds
    respond(peer)
    peer.advance(20.0)
    assert said(peer.frames) == "Something else."


def test_an_answer_to_a_call_waits_for_what_is_being_said() -> None:
    """Without interruptions the result of a closed call comes after the turn under way."""
    turns = [{"tool_call": {"name": "lamp"}, "say": "On."}, {"say": "Something else."}]
    quiet = {"realtimeInputConfig": {"activityHandling": "NO_INTERRUPTION"}}
    peer = ready(
        VERTEX, "gemini-live-2.5-flash", turns=turns, setup=BOTH | tools({"name": "lamp"}) | quiet
    )
    peer.send({"realtime_input": {"text": "lamp"}})
    peer.advance(5.0)
    peer.send({"realtime_input": {"text": "other"}})
    respond(peer)
    peer.advance(20.0)
    assert said(peer.frames) == "Something else.On."


def test_vertex_2_5_ignores_scheduling() -> None:
    """SILENT is not heeded: the result is spoken."""
    declared = tools({"name": "lamp", "behavior": "NON_BLOCKING"})
    peer = ready(VERTEX, "gemini-live-2.5-flash", turns=[CALL], setup=BOTH | declared)
    peer.say()
    peer.advance(5.0)
    respond(peer, scheduling="silent")
    assert "It is on." in said(peer.advance(10.0))


def test_a_non_blocking_call_is_not_talked_over_in_the_same_instant() -> None:
    """The model goes on after its latency, so that a client has the call first."""
    peer = ready(model=V38, turns=[CALL], setup=BOTH | tools({"name": "lamp"}), latency_s=0.2)
    peer.say()
    peer.advance(20.0)
    at = {kind: peer.times[n] for n, kind in reversed(list(enumerate(each(peer))))}
    assert at["audio"] - at["toolCall"] == pytest.approx(0.2)


def each(peer: Peer) -> list[str]:
    return [kinds([frame])[0] for frame in peer.frames]


# -- 3.8 and before ----------------------------------------------------------------------------


def test_3_8_does_not_heed_audio_stream_end() -> None:
    """Only trailing silence ends a turn; the knob plays the documented behaviour."""
    peer = ready(model=V38, setup=AUTO)
    peer.send(blob(voice(0.5)))
    peer.send({"realtime_input": {"audioStreamEnd": True}})
    assert peer.utterances == []
    assert peer.noted("ignored")
    peer.send(blob(silence(1.0)))
    assert len(peer.utterances) == 1
    documented = ready(model=V38, setup=AUTO, traits={"audio_stream_end": True})
    documented.send(blob(voice(0.5)))
    documented.send({"realtime_input": {"audioStreamEnd": "true"}})
    assert len(documented.utterances) == 1


def test_3_8_sends_no_explicit_vad_signals() -> None:
    """ExplicitVadSignal is taken and nothing comes of it."""
    peer = ready(VERTEX, V38, setup=AUTO | {"explicitVadSignal": True})
    peer.send(blob(voice(0.5) + silence(1.0)))
    assert not [f for f in peer.frames if "voiceActivity" in f]


def test_3_8_gives_a_handle_in_the_middle_of_a_turn() -> None:
    """It leads to the end of the turn before; older models withhold one until the turn's end."""
    peer = ready(model=V38, setup=BOTH)
    peer.turn()
    peer.say()
    peer.advance(0.0)
    (midway,) = handles(peer.frames[-1:])
    peer.hang_up()
    again = peer.again()
    again.setup(V38, **BOTH | {"sessionResumption": {"handle": midway}})
    assert again.core.session is not None
    assert [turn.role for turn in again.core.session.history] == ["user", "model"]
    older = ready(setup=BOTH)
    older.say()
    assert older.frames[-1] == {"sessionResumptionUpdate": {}}


def test_3_x_transcribes_the_user_unasked() -> None:
    """InputTranscription comes without inputAudioTranscription; on 2.5 only when asked for."""
    assert said(ready(model=V38).turn(), "inputTranscription")
    assert said(ready(model=V31).turn(), "inputTranscription")
    assert not said(ready(model=V25).turn(), "inputTranscription")


def test_preview_fields_belong_to_v1alpha() -> None:
    """Proactivity and affective dialog are unknown names elsewhere; Vertex takes them."""
    proactive: Any = {"proactivity": {"proactiveAudio": True}}
    affective: Any = {"generationConfig": {"enableAffectiveDialog": True}}
    assert 'Unknown name "proactivity"' in refusal(V25, **proactive)
    assert 'Unknown name "enableAffectiveDialog"' in refusal(V25, "v1", **affective)
    setup_of(V25, "v1alpha", **proactive, **affective)
    setup_of("gemini-live-2.5-flash-native-audio", "v1beta1", VERTEX, **proactive, **affective)
    everywhere = {"preview_fields_everywhere": "true"}
    read_setup({"model": f"models/{V25}", **proactive}, DEV, "v1", traits=everywhere)


def test_affective_dialog_where_it_is_gone() -> None:
    """3.1 closes at setup, 3.8 completes it and closes at the first message."""
    affective: Any = {"generationConfig": {"enableAffectiveDialog": True}}
    assert refusal(V31, "v1alpha", **affective) == "1007 Request contains an invalid argument."
    peer = Peer(traits={"preview_fields_everywhere": True})
    assert kinds(peer.setup(V38, **affective)) == ["setupComplete"]
    peer.start()
    assert peer.closes == [(1007, "Request contains an invalid argument.")]


# -- models that are no agents -----------------------------------------------------------------


def test_a_transcript_grows_and_is_final() -> None:
    """Interims while the user speaks, then the whole text and generationComplete; no answer."""
    peer = ready(
        model=TRANSCRIBE,
        setup={"generationConfig": {"responseModalities": ["TEXT"]}},
        transcripts=["one two three four five six seven"],
    )
    peer.start()
    for _ in range(32):
        peer.send(blob(voice(0.1)))
    peer.end()
    peer.advance(30.0)
    interims = [
        f["serverContent"]["interimInputTranscription"]["text"]
        for f in peer.frames
        if "interimInputTranscription" in f.get("serverContent", {})
    ]
    assert interims == ["one two", "one two three four", "one two three four five six"]
    assert said(peer.frames, "inputTranscription") == "one two three four five six seven"
    assert [f["voiceActivity"] for f in peer.frames if "voiceActivity" in f] == [
        {"type": "ACTIVITY_START", "audioOffset": "0s"},
        {"type": "ACTIVITY_END", "audioOffset": "3.200s"},
    ]
    assert "generationComplete" in peer.kinds
    assert "turnComplete" not in peer.kinds
    assert not reply_pcm(peer.frames)


def test_an_empty_activity_is_only_echoed() -> None:
    """Nothing was said: no text, no generationComplete, just the end of the activity."""
    peer = ready(model=TRANSCRIBE)
    peer.start()
    peer.end()
    peer.advance(30.0)
    assert "generationComplete" not in peer.kinds
    assert len([f for f in peer.frames if "voiceActivity" in f]) == 2


@pytest.mark.parametrize("model", [TRANSCRIBE, TRANSLATE])
def test_models_for_audio_alone(model: str) -> None:
    """Neither tools nor instructions nor typed text nor video."""
    instruction: Any = {"systemInstruction": {"parts": [{"text": "x"}]}}
    assert refusal(model, **instruction).startswith("1007")
    assert refusal(model, **tools({"name": "f"})).startswith("1007")
    for message in (
        content(),
        {"realtime_input": {"text": "hello"}},
        {"realtime_input": {"video": {"data": "", "mime_type": "image/jpeg"}}},
    ):
        peer = ready(model=model)
        peer.send(message)
        assert peer.closes[0][0] == 1007


def test_a_transcript_is_text_and_translation_is_sound() -> None:
    """Each has one modality."""
    audio: Any = {"generationConfig": {"responseModalities": ["AUDIO"]}}
    text: Any = {"generationConfig": {"responseModalities": ["TEXT"]}}
    assert setup_of(TRANSCRIBE).text_reply
    assert "(AUDIO)" in refusal(TRANSCRIBE, **audio)
    assert refusal(TRANSLATE, **text).startswith("1011")
    assert refusal(V31, **text) == "1011 Internal error encountered."
    assert "(TEXT)" in refusal(V38, **text)
    both: Any = {"generationConfig": {"responseModalities": ["AUDIO", "TEXT"]}}
    for model in (V38, V31, V25):
        assert refusal(model, **both) == "1007 Request contains an invalid argument."
    assert reply_pcm(ready(model=TRANSLATE).turn())


# -- lenient, as Google's parser is -------------------------------------------------------------


@pytest.mark.parametrize("modalities", ["audio", ["audio"], "AUDIO", ["Audio"]])
def test_modalities_in_any_case_and_bare(modalities: Any) -> None:
    """Google's live-api-web-console sends the scalar in lower case, and it works."""
    setup = setup_of(V38, generationConfig={"responseModalities": modalities})
    assert not setup.text_reply


def test_bare_values_for_lists() -> None:
    """tools, functionDeclarations, turns and parts may be the thing itself."""
    declared = {"functionDeclarations": {"name": "lamp", "behavior": "non_blocking"}}
    assert list(setup_of(V38, tools=declared).functions) == ["lamp"]
    peer = ready()
    turn = {"role": "user", "parts": {"text": "hello"}}
    peer.send({"clientContent": {"turns": turn, "turn_complete": "true"}})
    assert "turnComplete" in kinds(peer.advance(10.0))


def test_a_number_that_is_not_whole_is_no_integer() -> None:
    """Where Google's parser is strict the emulator is: 5000.5 tokens, 1 for a bool."""
    assert refusal(V38, contextWindowCompression={"triggerTokens": 5_000.5}).startswith("1007")
    assert setup_of(V38, contextWindowCompression={"triggerTokens": 6_000.0}).compression
    assert "TYPE_BOOL" in refusal(V38, historyConfig={"initialHistoryInClientContent": 1})
    assert len(cut_reason(refusal(V38, systemInstruction="x" * 400))) <= 123


# -- tokens and limits --------------------------------------------------------------------------


def usage(frames: list[dict[str, Any]]) -> Any:
    return [f["usageMetadata"] for f in frames if "usageMetadata" in f][-1]


def test_a_typed_turn_is_in_the_history_once() -> None:
    """Compression keeps the turn that it is about to answer, so the prompt is counted."""
    window: Any = {"contextWindowCompression": {"triggerTokens": 5_000, "slidingWindow": {}}}
    peer = ready(model=V38, setup=window)
    frames: list[dict[str, Any]] = []
    for _ in range(3):
        peer.send(content("x" * 4 * 11_000))
        frames = peer.advance(60.0)
    session = peer.core.session
    assert session is not None
    assert session.compressions
    assert [t.role for t in session.history] == ["user", "model"]
    assert usage(frames)["promptTokenCount"] == 11_000


def test_a_function_result_is_no_user_turn() -> None:
    """The window is cut where the user spoke, not where a function answered."""
    turn = {"tool_call": {"name": "lamp"}, "say": "On."}
    peer = ready(turns=[turn], setup=tools({"name": "lamp"}))
    peer.say()
    peer.advance(1.0)
    respond(peer)
    peer.advance(20.0)
    assert peer.core.session is not None
    assert [t.role for t in peer.core.session.history] == ["user", "function", "model"]


def test_media_in_client_content_costs_tokens() -> None:
    """An image 258, audio 25 a second, as in realtime input."""
    peer = ready()
    pcm = base64.b64encode(voice(2.0)).decode()
    parts = [
        {"inline_data": {"mime_type": "image/png", "data": "AAAA"}},
        {"inlineData": {"mimeType": "audio/pcm;rate=16000", "data": pcm}},
        {"inlineData": {"mimeType": "application/pdf", "data": ""}},
        {"text": "What is it?"},
    ]
    peer.send({"clientContent": {"turns": [{"parts": parts}], "turnComplete": True}})
    details = usage(peer.advance(30.0))["promptTokensDetails"]
    assert {d["modality"]: d["tokenCount"] for d in details} == {
        "TEXT": 3,
        "AUDIO": 50,
        "VIDEO": 258,
    }


FRAME = {"realtime_input": {"video": {"data": "AAAA", "mime_type": "image/jpeg"}}}


def test_a_typed_question_does_not_see_the_camera() -> None:
    """Video frames belong to the next spoken turn, on every model probed; there is a knob."""
    peer = ready()
    peer.send(FRAME)
    peer.send(content())
    assert usage(peer.advance(30.0))["promptTokenCount"] == 2
    peer.say(1.0)
    assert usage(peer.advance(30.0))["promptTokenCount"] > 258
    other = ready(traits={"typed_turn_sees_video": True})
    other.send(FRAME)
    other.send(content())
    assert usage(other.advance(30.0))["promptTokenCount"] == 2 + 258


def test_a_session_with_video_ends_after_two_minutes() -> None:
    """Audio and video without compression: GoAway, then 1008; compression or the knob lifts it."""
    peer = ready()
    peer.advance(30.0)
    peer.send(FRAME)
    peer.send(FRAME)
    peer.advance(45.0)
    assert peer.kinds[-1] == "goAway"
    peer.advance(60.0)
    assert peer.closes[0][0] == 1008
    window: Any = {"contextWindowCompression": {"slidingWindow": {}}}
    for peer in (ready(setup=window), ready(video_session_limit_s=0.0)):
        peer.send(FRAME)
        peer.advance(200.0)
        assert peer.closes == []


def test_a_session_that_saw_video_ends_soon_after_it_is_resumed() -> None:
    """The limit is the session's, also over a restart of the emulator."""
    first = ready(setup={"sessionResumption": {}})
    first.send(FRAME)
    first.turn()
    first.hang_up()
    second = first.again()
    second.setup(V25, sessionResumption={"handle": handles(first.frames)[-1]})
    second.advance(65.0)
    assert second.closes[0][0] == 1008
    dumped = first.service.store.dump(0.0, 0.0)
    fresh = make_service(first.clock)
    fresh.store.load(dumped, 0.0, 0.0)
    assert [s.saw_video for s in fresh.store.sessions.values()] == [True]


def test_near_silent_replies() -> None:
    """gain_db makes a reply that can hardly be heard, or one that clips; nothing else changes."""
    loud, quiet = (
        reply_pcm(ready(turns=[{"parrot": True, "gain_db": gain}]).turn()) for gain in (0.0, -80.0)
    )
    assert len(loud) == len(quiet)
    assert max(abs(v) for v in memoryview(quiet).cast("h")) <= 1
    for wrong in ("loud", True, 1e9, float("nan"), None):
        with pytest.raises(ValueError, match=r"turn.. 1: gain_db = .*; a number from -120 to 40"):
            read_scenario({"turn": [{"gain_db": wrong}]})
