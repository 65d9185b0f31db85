"""Frames as clients send them: naming, base64, kinds, reasons."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_emulator import wire
from live_emulator.models import Backend
from live_emulator.record import describe_inbound
from live_emulator.setup import read_setup

# What google-genai 3.4.0 was seen to put on the wire.
SDK_VERTEX_SETUP = {
    "setup": {
        "model": "projects/proj/locations/us-central1/publishers/google/models/"
        "gemini-live-2.5-flash-native-audio",
        "generationConfig": {
            "responseModalities": ["AUDIO"],
            "temperature": 0.7,
            "topP": 0.9,
            "maxOutputTokens": 1024,
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "seed": 7,
            "speechConfig": {
                "voiceConfig": {"prebuiltVoiceConfig": {"voice_name": "Kore"}},
                "languageCode": "id-ID",
            },
            "thinkingConfig": {"include_thoughts": False, "thinking_budget": 0},
            "enableAffectiveDialog": True,
        },
        "systemInstruction": {"parts": [{"text": "Kamu asisten rumah."}], "role": "user"},
        "tools": [
            {"googleSearch": {}},
            {
                "functionDeclarations": [
                    {
                        "description": "Set lamp",
                        "name": "set_light",
                        "parameters": {
                            "properties": {
                                "on": {"type": "BOOLEAN"},
                                "room": {"enum": ["dapur", "kamar"], "type": "STRING"},
                            },
                            "required": ["on"],
                            "type": "OBJECT",
                        },
                        "behavior": "NON_BLOCKING",
                    },
                    {
                        "name": "get_time",
                        "parameters_json_schema": {
                            "type": "object",
                            "properties": {"tz": {"type": "string"}},
                        },
                    },
                ]
            },
        ],
        "sessionResumption": {"handle": "HANDLE-1", "transparent": True},
        "inputAudioTranscription": {"language_codes": ["id-ID"]},
        "outputAudioTranscription": {},
        "realtimeInputConfig": {
            "automatic_activity_detection": {
                "disabled": False,
                "start_of_speech_sensitivity": "START_SENSITIVITY_LOW",
                "end_of_speech_sensitivity": "END_SENSITIVITY_HIGH",
                "prefix_padding_ms": 20,
                "silence_duration_ms": 300,
            },
            "activity_handling": "START_OF_ACTIVITY_INTERRUPTS",
            "turn_coverage": "TURN_INCLUDES_ONLY_ACTIVITY",
        },
        "contextWindowCompression": {
            "trigger_tokens": 10000,
            "sliding_window": {"target_tokens": 512},
        },
        "proactivity": {"proactive_audio": True},
        "explicitVadSignal": True,
        "historyConfig": {"initial_history_in_client_content": True},
    }
}

SDK_MESSAGES: list[tuple[dict[str, Any], str, str]] = [
    (
        {
            "client_content": {
                "turns": [{"parts": [{"text": "halo"}], "role": "user"}],
                "turnComplete": True,
            }
        },
        "clientContent",
        "clientContent",
    ),
    ({"client_content": {"turnComplete": True}}, "clientContent", "clientContent"),
    (
        {"realtime_input": {"audio": {"data": "__79--8=", "mime_type": "audio/pcm;rate=16000"}}},
        "realtimeInput",
        "audio",
    ),
    (
        {"realtime_input": {"video": {"data": "_9g=", "mime_type": "image/jpeg"}}},
        "realtimeInput",
        "video",
    ),
    (
        {"realtime_input": {"mediaChunks": [{"data": "AAAA", "mime_type": "audio/pcm"}]}},
        "realtimeInput",
        "audio",
    ),
    ({"realtime_input": {"text": "halo"}}, "realtimeInput", "text"),
    ({"realtime_input": {"activityStart": {}}}, "realtimeInput", "activityStart"),
    ({"realtime_input": {"activityEnd": {}}}, "realtimeInput", "activityEnd"),
    ({"realtime_input": {"audioStreamEnd": True}}, "realtimeInput", "audioStreamEnd"),
    (
        {
            "tool_response": {
                "functionResponses": [
                    {"id": "fc-1", "name": "set_light", "response": {"result": "ok"}}
                ]
            }
        },
        "toolResponse",
        "toolResponse",
    ),
    (
        {
            "contextUpdate": {
                "systemInstruction": {"parts": [{"text": "You are concise."}], "role": "user"}
            }
        },
        "contextUpdate",
        "contextUpdate",
    ),
    ({"contextUpdate": {"tools": {"tools": []}}}, "contextUpdate", "contextUpdate"),
]


def test_the_sdk_s_rich_vertex_setup_is_read_whole() -> None:
    """The richest setup the SDK can send, mixed case and all, is understood field by field."""
    message = wire.parse_client_frame(json.dumps(SDK_VERTEX_SETUP))
    setup = read_setup(message.body, Backend.VERTEX, "v1beta1")
    assert setup.model.name == "gemini-live-2.5-flash-native-audio"
    assert setup.system_instruction == "Kamu asisten rumah."
    assert {name: spec.blocking for name, spec in setup.functions.items()} == {
        "set_light": False,
        "get_time": True,
    }
    assert setup.resumption is not None
    assert (setup.resumption.handle, setup.transparent) == ("HANDLE-1", True)
    assert setup.input_transcription
    assert setup.output_transcription
    assert (setup.activity.automatic, setup.activity.start_high, setup.activity.end_high) == (
        True,
        False,
        True,
    )
    assert (setup.activity.prefix_padding_ms, setup.activity.silence_duration_ms) == (20, 300)
    assert setup.activity.interrupts
    assert setup.compression is not None
    assert (setup.compression.trigger_tokens, setup.compression.target_tokens) == (10_000, 512)
    assert setup.explicit_vad_signal
    assert setup.seed_history
    assert not setup.include_thoughts


@pytest.mark.parametrize(("message", "kind", "recorded"), SDK_MESSAGES)
def test_every_sdk_message_is_recognised(message: dict[str, Any], kind: str, recorded: str) -> None:
    """Each client message of the SDK parses to its kind, and is recorded under its purpose."""
    text = json.dumps(message)
    assert wire.parse_client_frame(text).kind == kind
    assert wire.parse_client_frame(text.encode()).kind == kind
    assert describe_inbound(text).kind == recorded


def test_user_data_keeps_its_names() -> None:
    """Names inside args, responses and schemas belong to the user and are not renamed."""
    message = wire.parse_client_frame(
        json.dumps(
            {
                "tool_response": {
                    "function_responses": [
                        {"id": "1", "will_continue": True, "response": {"snake_key": 1}}
                    ]
                }
            }
        )
    )
    (response,) = message.body["functionResponses"]
    assert response == {"id": "1", "willContinue": True, "response": {"snake_key": 1}}


@given(st.binary(max_size=200))
def test_both_base64_alphabets_decode_alike(data: bytes) -> None:
    """Standard and URL-safe base64, padded or not, give the same bytes."""
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert wire.decode_base64(text) == data
        assert wire.decode_base64(text.rstrip("=")) == data


def test_url_safe_sample_of_the_sdk() -> None:
    """The bytes ff fe fd fb ef travel as __79--8= and come back."""
    assert wire.decode_base64("__79--8=") == b"\xff\xfe\xfd\xfb\xef"
    assert wire.decode_base64(wire.encode_base64(b"\xff\xfe\xfd")) == b"\xff\xfe\xfd"


@pytest.mark.parametrize("data", ["****", 5, None, "A"])
def test_bad_base64_is_refused(data: object) -> None:
    """What is no base64 text closes 1007."""
    with pytest.raises(wire.WireError) as caught:
        wire.decode_base64(data)
    assert caught.value.code == 1007


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        ("{", "Invalid JSON payload"),
        ("[]", "Root element"),
        ('{"foo": 1}', 'Unknown name "foo"'),
        ("{}", "invalid argument"),
        ('{"setup": 5}', "invalid argument"),
        ('{"setup": {}, "clientContent": {}}', "invalid argument"),
        ("[" * 100_000, "Invalid JSON payload"),
        (b"\xff\xfe\x00", "Invalid JSON payload"),
    ],
)
def test_bad_frames_close_1007(frame: str | bytes, part: str) -> None:
    """A frame that is no message is refused with 1007 and a telling reason."""
    with pytest.raises(wire.WireError) as caught:
        wire.parse_client_frame(frame)
    assert caught.value.code == 1007
    assert part in caught.value.reason


def test_deep_nesting_is_refused_not_crashed_on() -> None:
    """A message nested deeper than Python recurses is refused."""
    deep = '{"setup": {"tools": ' + "[" * 900 + "]" * 900 + "}}"
    with contextlib.suppress(wire.WireError):
        wire.parse_client_frame(deep)


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_no_frame_crashes_the_parser(frame: bytes | str) -> None:
    """Any frame at all either parses or is refused."""
    with contextlib.suppress(wire.WireError):
        assert wire.parse_client_frame(frame).kind in wire.CLIENT_KINDS
    assert describe_inbound(frame).kind


def test_reasons_are_cut_at_123_bytes() -> None:
    """A close reason never exceeds what a control frame carries, and never splits a character."""
    assert len(wire.cut_reason("x" * 200)) == 123
    assert wire.cut_reason("ä" * 100) == "ä" * 61
    assert wire.cut_reason("short") == "short"


@pytest.mark.parametrize(
    ("mime_type", "rate_hz"),
    [
        ("audio/pcm;rate=16000", 16_000),
        ("audio/pcm; rate=24000", 24_000),
        ("audio/pcm", 16_000),
        ("audio/pcm;rate=5", 16_000),
        (None, 16_000),
        ("audio/pcm;codec=x;rate=8000", 8_000),
    ],
)
def test_sample_rate_is_read_from_the_mime_type(mime_type: object, rate_hz: int) -> None:
    """The rate comes from the mime type; 16 kHz when it names none that makes sense."""
    assert wire.audio_rate_hz(mime_type) == rate_hz


def test_int64_as_number_or_string() -> None:
    """Proto3 JSON carries int64 either way."""
    assert (wire.as_int(42), wire.as_int("42"), wire.as_int(None)) == (42, 42, None)
    bad: object
    for bad in (True, "x", [], float("inf")):
        with pytest.raises(wire.WireError):
            wire.as_int(bad)


def test_field_readers_refuse_other_types() -> None:
    """A message field holds an object; a repeated field may be a bare value, as Google's has it."""
    assert (wire.as_object(None), wire.as_list(None)) == ({}, [])
    assert (wire.as_list("x"), wire.as_list({}), wire.as_list([1])) == (["x"], [{}], [1])
    with pytest.raises(wire.WireError):
        wire.as_object("x")


def test_bools_and_enums_as_googles_parser_reads_them() -> None:
    """Words in quotes are bools, enums come in any case; the rest is refused by name."""
    assert [wire.as_bool(v, "f") for v in (None, False, "false", True, "true")] == [
        False,
        False,
        False,
        True,
        True,
    ]
    known = ("UNSPECIFIED", "AUDIO")
    assert [wire.as_enum(v, known, "f", "M") for v in (None, "audio", "Audio")] == [
        "UNSPECIFIED",
        "AUDIO",
        "AUDIO",
    ]
    for read, reason in (
        (lambda: wire.as_bool(1, "a.b"), "Invalid value at 'a.b' (TYPE_BOOL), 1"),
        (
            lambda: wire.as_enum("smell", known, "a.b", "M"),
            (
                "Invalid value at 'a.b' "
                '(type.googleapis.com/google.ai.generativelanguage.v1beta.M), "smell"'
            ),
        ),
    ):
        with pytest.raises(wire.WireError) as caught:
            read()
        assert (caught.value.code, caught.value.reason) == (1007, reason)


def test_durations_as_protobuf_writes_them() -> None:
    """Whole seconds without a fraction, others with three digits, never negative."""
    assert [wire.duration(s) for s in (50, 9.5, 0.8333, -1)] == ["50s", "9.500s", "0.833s", "0s"]


def test_content_text() -> None:
    """Text parts are joined; other parts and odd values are passed over."""
    with pytest.raises(wire.WireError, match="Content"):
        wire.content_text("plain", "x")
    assert (
        wire.content_text(
            {"parts": [{"text": "a"}, {"inlineData": {}}, 3, {"text": 1}, {"text": "b"}]},
            "x",
        )
        == "a\nb"
    )
    assert wire.content_text(None, "x") == ""


def test_redaction_leaves_no_audio() -> None:
    """Inline data is replaced by its length at every depth."""
    message = {"a": [{"data": "AAAA", "mimeType": "x"}], "data": {"data": "BB"}}
    assert wire.redact(message) == {
        "a": [{"data": "<4 base64 characters>", "mimeType": "x"}],
        "data": {"data": "<2 base64 characters>"},
    }


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({}, "empty"),
        ({"setupComplete": {}}, "setupComplete"),
        ({"serverContent": {}}, "serverContent"),
        ({"serverContent": {"turnComplete": True, "interrupted": False}}, "turnComplete"),
        ({"serverContent": {"outputTranscription": {"text": "x"}}}, "outputTranscription"),
        ({"serverContent": {"modelTurn": {"parts": [{"text": "x"}]}}}, "text"),
        ({"serverContent": {"modelTurn": {"parts": [{"inlineData": {}}]}}}, "audio"),
        ({"serverContent": {"modelTurn": {}}}, "text"),
    ],
)
def test_server_messages_are_named_for_the_record(message: dict[str, Any], kind: str) -> None:
    """A server message is recorded under its most telling field."""
    assert wire.message_kind(message) == kind


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"realtimeInput": {"somethingNew": 1}}, "realtimeInput"),
        ({"realtimeInput": 3}, "realtimeInput"),
        ({"realtimeInput": {"audio": {"mimeType": "audio/pcm", "data": "*"}}}, "invalid"),
        ({"realtimeInput": {"audio": 3}}, "audio"),
        ({"realtimeInput": {"mediaChunks": 3}}, "audio"),
        ([], "invalid"),
    ],
)
def test_odd_input_is_recorded_all_the_same(message: object, kind: str) -> None:
    """The record names odd frames too."""
    assert describe_inbound(json.dumps(message)).kind == kind
