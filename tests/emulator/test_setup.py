"""Setup validation: what the service refuses, with its codes and reasons."""

from __future__ import annotations

from typing import Any

import pytest

from live_emulator.models import Backend, ModelInfo
from live_emulator.setup import Setup, read_setup
from live_emulator.wire import WireError, cut_reason

DEV, VERTEX = Backend.DEVELOPER, Backend.VERTEX
MODELS = {
    DEV: "models/gemini-3.8-live",
    VERTEX: "projects/p/locations/l/publishers/google/models/gemini-3.8-live",
}
OLD = "models/gemini-2.5-flash-native-audio-preview-12-2025"


def read(backend: Backend = DEV, **fields: Any) -> Setup:
    body = {"model": MODELS[backend], **fields}
    return read_setup(body, backend, "v1beta")


def refused(backend: Backend = DEV, **fields: Any) -> tuple[int, str]:
    with pytest.raises(WireError) as caught:
        read(backend, **fields)
    return caught.value.code, caught.value.reason


def test_the_barest_setup_is_accepted() -> None:
    """A model alone is enough; everything else has a default."""
    setup = read()
    assert setup.model.name == "gemini-3.8-live"
    assert setup.activity.automatic
    assert setup.activity.interrupts
    assert (setup.resumption, setup.compression, setup.transparent) == (None, None, False)


@pytest.mark.parametrize(
    ("backend", "model", "code", "start"),
    [
        (
            DEV,
            "models/nope",
            1008,
            (
                "models/nope is not found for API version v1beta, or is not supported for "
                "bidiGenerateContent. Call ListModels"
            ),
        ),
        (DEV, "", 1007, "Request contains an invalid argument."),
        (DEV, 5, 1007, "Request contains an invalid argument."),
        (VERTEX, "models/gemini-3.8-live", 1007, "Invalid resource field value"),
        (VERTEX, "publishers/google/models/nope", 1008, "Publisher Model `publishers/"),
        (
            VERTEX,
            "publishers/google/models/gemini-live-2.5-flash-preview-native-audio-09-2025",
            1007,
            (
                "publishers/google/models/gemini-live-2.5-flash-preview-native-audio-09-2025 is not "  # noqa: E501
                "supported in the live api."
            ),
        ),
    ],
)
def test_unknown_models(backend: Backend, model: object, code: int, start: str) -> None:
    """A model that is unknown, withdrawn or misspelt closes as it was seen to."""
    found = refused(backend, model=model)
    assert found[0] == code
    assert found[1].startswith(start)


def test_the_reason_for_an_unknown_model_is_cut_where_the_real_one_is() -> None:
    """The cut reason ends at 123 bytes, as reported from the real service."""
    body = {"model": "models/gemini-live-2.5"}
    with pytest.raises(WireError) as caught:
        read_setup(body, DEV, "v1alpha")
    assert len(cut_reason(caught.value.reason)) == 123


def test_models_can_be_added_and_the_table_switched_off() -> None:
    """Extra models and any_model admit what the table does not know."""
    body = {"model": "models/mine"}
    mine = ModelInfo("mine", window_tokens=99)
    assert read_setup(body, DEV, "v1", extra_models={"mine": mine}).model is mine
    assert read_setup(body, DEV, "v1", any_model=True).model.name == "mine"


@pytest.mark.parametrize(
    ("backend", "fields", "part"),
    [
        (DEV, {"nonsense": 1}, "Unknown name \"nonsense\" at 'setup'"),
        (DEV, {"explicitVadSignal": True}, 'Unknown name "explicitVadSignal"'),
        (VERTEX, {"serviceTier": "x"}, 'Unknown name "serviceTier"'),
        (DEV, {"sessionResumption": {"transparent": True}}, 'Unknown name "transparent"'),
        (VERTEX, {"sessionResumptionConfig": {}}, 'Unknown name "sessionResumptionConfig"'),
        (DEV, {"generationConfig": {"nope": 1}}, 'Unknown name "nope"'),
        (DEV, {"generationConfig": {"enableAffectiveDialog": True}}, "enableAffectiveDialog"),
        (DEV, {"contextWindowCompression": {"nope": 1}}, 'Unknown name "nope"'),
        (DEV, {"generationConfig": {"responseModalities": ["AUDIO", "TEXT"]}}, "invalid argument"),
        (DEV, {"generationConfig": {"responseModalities": ["TEXT"]}}, "(TEXT) is not supported"),
        (DEV, {"generationConfig": {"responseModalities": ["SMELL"]}}, '"SMELL"'),
        (DEV, {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}}, "Thinking level"),
        (DEV, {"proactivity": {"proactiveAudio": False}}, 'Unknown name "proactivity"'),
        (VERTEX, {"proactivity": {"proactiveAudio": False}}, "invalid argument"),
        (DEV, {"systemInstruction": "Be brief."}, "Invalid value at 'setup.system_instruction'"),
        (DEV, {"sessionResumption": {"handle": 5}}, "invalid argument"),
        (DEV, {"sessionResumption": 5}, "invalid argument"),
        (DEV, {"tools": [{"functionDeclarations": [{"description": "no name"}]}]}, "invalid arg"),
        (DEV, {"tools": "x"}, "invalid argument"),
        (
            DEV,
            {
                "realtimeInputConfig": {
                    "automaticActivityDetection": {"startOfSpeechSensitivity": "X"}
                }
            },
            "start_of_speech_sensitivity' (type.googleapis.com/",
        ),
        (
            DEV,
            {"realtimeInputConfig": {"automaticActivityDetection": {"silenceDurationMs": -1}}},
            "invalid argument",
        ),
        (
            DEV,
            {
                "generationConfig": {
                    "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Bob"}}}
                }
            },
            "No matching speaker voice found",
        ),
        (DEV, {"contextWindowCompression": {"triggerTokens": 4_999}}, "invalid argument"),
        (DEV, {"contextWindowCompression": {"triggerTokens": 128_001}}, "invalid argument"),
        (
            DEV,
            {"contextWindowCompression": {"slidingWindow": {"targetTokens": 128_001}}},
            "invalid argument",
        ),
        (
            DEV,
            {
                "contextWindowCompression": {
                    "triggerTokens": "5000",
                    "slidingWindow": {"targetTokens": "5000"},
                }
            },
            "invalid argument",
        ),
    ],
)
def test_bad_setups_close_1007(backend: Backend, fields: dict[str, Any], part: str) -> None:
    """Wrong fields, values and combinations close 1007 with a reason that names them."""
    code, reason = refused(backend, **fields)
    assert code == 1007
    assert part in reason


def test_older_models_take_what_3_8_refuses() -> None:
    """thinking_level, proactive_audio=false and affective dialog are breaking points of 3.8."""
    body = {
        "model": OLD,
        "proactivity": {"proactiveAudio": False},
        "generationConfig": {
            "enableAffectiveDialog": True,
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        },
    }
    setup = read_setup(body, DEV, "v1alpha")
    assert setup.include_thoughts
    assert setup.affective_dialog


def test_text_models_answer_in_text() -> None:
    """A half-cascade model may answer in text."""
    setup = read(
        VERTEX,
        model="publishers/google/models/gemini-live-2.5-flash",
        generationConfig={"responseModalities": ["TEXT"]},
    )
    assert setup.text_reply


def test_compression_defaults() -> None:
    """The trigger defaults to 80 % of the window, the target to half of the trigger."""
    empty = read(contextWindowCompression={"slidingWindow": {}}).compression
    assert empty is not None
    assert (empty.trigger_tokens, empty.target_tokens) == (104_857, 52_428)
    zero = read(
        contextWindowCompression={"triggerTokens": 5_000, "slidingWindow": {"targetTokens": 0}}
    ).compression
    assert zero is not None
    assert (zero.trigger_tokens, zero.target_tokens) == (5_000, 0)


def test_sensitivity_defaults_differ_by_backend() -> None:
    """Unset sensitivities mean HIGH on the Developer API and LOW on Vertex."""
    assert (read(DEV).activity.start_high, read(VERTEX).activity.end_high) == (True, False)
    low = {"automaticActivityDetection": {"startOfSpeechSensitivity": "START_SENSITIVITY_LOW"}}
    assert not read(DEV, realtimeInputConfig=low).activity.start_high


def test_functions_are_blocking_by_model() -> None:
    """3.8 defaults functions to NON_BLOCKING; older models block unless told otherwise."""
    tools = [
        {
            "functionDeclarations": [
                {"name": "plain"},
                {"name": "async", "behavior": "NON_BLOCKING"},
                {"name": "sync", "behavior": "BLOCKING"},
            ]
        }
    ]
    new = {name: spec.blocking for name, spec in read(tools=tools).functions.items()}
    old = {name: spec.blocking for name, spec in read(model=OLD, tools=tools).functions.items()}
    assert new == {"plain": False, "async": False, "sync": True}
    assert old == {"plain": True, "async": False, "sync": True}


def test_no_interruption() -> None:
    """NO_INTERRUPTION switches barge-in off."""
    assert not read(realtimeInputConfig={"activityHandling": "NO_INTERRUPTION"}).activity.interrupts
