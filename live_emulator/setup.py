"""The setup message: checked as the service checks it, read into one frozen value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from live_emulator.models import MODELS, VOICES, WITHDRAWN, Backend, ModelInfo, generic_model
from live_emulator.reasons import INVALID_ARGUMENT
from live_emulator.wire import (
    JsonObject,
    WireError,
    as_int,
    as_list,
    as_object,
    content_text,
    unknown_name,
)

TRIGGER_RANGE_TOKENS = (5_000, 128_000)
TARGET_RANGE_TOKENS = (0, 128_000)

_COMMON_FIELDS = frozenset(
    """model generationConfig systemInstruction tools sessionResumption contextWindowCompression
    inputAudioTranscription outputAudioTranscription realtimeInputConfig proactivity
    historyConfig avatarConfig safetySettings labels""".split()
)
_SETUP_FIELDS = {
    Backend.DEVELOPER: _COMMON_FIELDS | {"serviceTier"},
    Backend.VERTEX: _COMMON_FIELDS | {"explicitVadSignal"},
}
_GENERATION_FIELDS = frozenset(
    """responseModalities temperature topP topK maxOutputTokens mediaResolution seed speechConfig
    thinkingConfig enableAffectiveDialog candidateCount presencePenalty frequencyPenalty
    stopSequences responseMimeType responseSchema responseJsonSchema responseLogprobs logprobs
    routingConfig modelSelectionConfig audioTimestamp modelConfig translationConfig
    enableEnhancedCivicAnswers imageConfig""".split()
)
_VERTEX_MODEL = re.compile(
    r"^(?:projects/[^/]+/locations/[^/]+/)?publishers/google/models/(?P<name>[^/]+)$"
)
_SENSITIVITY = {
    "start": ("START_SENSITIVITY_UNSPECIFIED", "START_SENSITIVITY_HIGH", "START_SENSITIVITY_LOW"),
    "end": ("END_SENSITIVITY_UNSPECIFIED", "END_SENSITIVITY_HIGH", "END_SENSITIVITY_LOW"),
}


@dataclass(frozen=True, slots=True)
class Resumption:
    """``sessionResumption``: which handle, and whether indices are wanted."""

    handle: str = ""
    transparent: bool = False


@dataclass(frozen=True, slots=True)
class Compression:
    """``contextWindowCompression`` with the defaults filled in."""

    trigger_tokens: int
    target_tokens: int


@dataclass(frozen=True, slots=True)
class ActivityDetection:
    """``realtimeInputConfig`` as far as it shapes the server's behaviour."""

    automatic: bool = True
    start_high: bool = True
    end_high: bool = True
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None
    interrupts: bool = True
    turn_coverage: str = ""


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A declared function: does a call of it block the turn?"""

    name: str
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Setup:
    """An accepted setup message."""

    backend: Backend
    model: ModelInfo
    text_reply: bool = False
    system_instruction: str = ""
    functions: Mapping[str, FunctionSpec] = field(default_factory=dict)
    resumption: Resumption | None = None
    compression: Compression | None = None
    activity: ActivityDetection = ActivityDetection()
    input_transcription: bool = False
    output_transcription: bool = False
    explicit_vad_signal: bool = False
    seed_history: bool = False
    include_thoughts: bool = False

    @property
    def transparent(self) -> bool:
        """Tell whether updates carry ``lastConsumedClientMessageIndex``."""
        return self.resumption is not None and self.resumption.transparent


def _invalid(condition: bool, reason: str = INVALID_ARGUMENT) -> None:
    if condition:
        raise WireError(1007, reason)


def _no_unknown(body: JsonObject, known: Iterable[str], where: str) -> None:
    for name in body:
        if name not in known:
            raise WireError(1007, unknown_name(name, where))


def find_model(
    backend: Backend,
    path: object,
    api_version: str,
    *,
    any_model: bool = False,
    extra: Mapping[str, ModelInfo] | None = None,
) -> ModelInfo:
    """Look up the model that a setup names.

    Raises:
        WireError: with the close that the real service was seen to use.
    """
    _invalid(not isinstance(path, str) or not path)
    text = str(path)
    if backend is Backend.VERTEX:
        match = _VERTEX_MODEL.match(text)
        _invalid(match is None, "Invalid resource field value in the request.")
        assert match is not None
        name = match["name"]
        _invalid(name in WITHDRAWN[backend], f"{text} is not supported in the live api.")
    else:
        name = text.removeprefix("models/")
    info = (extra or {}).get(name) or MODELS[backend].get(name)
    if info is not None:
        return info
    if any_model:
        return generic_model(name)
    if backend is Backend.VERTEX:
        raise WireError(
            1008,
            f"Publisher Model `{text}` was not found or your project does not have access to it.",
        )
    raise WireError(
        1008,
        f"models/{name} is not found for API version {api_version}, or is not supported for "
        "bidiGenerateContent. Call ListModels to see the list of available models and their "
        "supported methods.",
    )


def read_functions(tools: object, *, blocking: bool) -> dict[str, FunctionSpec]:
    """Collect the declared functions of a ``tools`` list."""
    found: dict[str, FunctionSpec] = {}
    for tool in as_list(tools):
        for declaration in as_list(as_object(tool).get("functionDeclarations")):
            body = as_object(declaration)
            name = body.get("name")
            _invalid(not isinstance(name, str) or not name)
            behavior = body.get("behavior")
            blocks = blocking if behavior in (None, "UNSPECIFIED") else behavior != "NON_BLOCKING"
            found[str(name)] = FunctionSpec(str(name), blocks)
    return found


def _read_generation(body: JsonObject, info: ModelInfo) -> tuple[bool, bool]:
    """Check ``generationConfig``; return (text reply, include thoughts)."""
    _no_unknown(body, _GENERATION_FIELDS, "setup.generation_config")
    if "enableAffectiveDialog" in body and not info.affective_dialog:
        raise WireError(1007, unknown_name("enableAffectiveDialog", "setup.generation_config"))
    modalities = as_list(body.get("responseModalities"))
    text = modalities == ["TEXT"]
    shown = ", ".join(str(item) for item in modalities)
    _invalid(
        len(modalities) > 1 or any(item not in ("AUDIO", "TEXT") for item in modalities),
        f"The requested combination of response modalities ({shown}) is not supported by the "
        f"model. {info.name}",
    )
    _invalid(
        text and not info.text_output,
        "The requested combination of response modalities (TEXT) is not supported by the model.",
    )
    speech = as_object(body.get("speechConfig"))
    voice = as_object(as_object(speech.get("voiceConfig")).get("prebuiltVoiceConfig")).get(
        "voiceName"
    )
    known = voice is None or (isinstance(voice, str) and voice.capitalize() in VOICES)
    _invalid(not known, f"No matching speaker voice found for name: {voice}")
    thinking = as_object(body.get("thinkingConfig"))
    level = thinking.get("thinkingLevel")
    _invalid(level is not None and not info.thinking_level)
    return text, thinking.get("includeThoughts") is True


def _read_resumption(body: JsonObject, backend: Backend) -> Resumption | None:
    if "sessionResumption" not in body:
        return None
    wanted = as_object(body["sessionResumption"])
    known = {"handle"} | ({"transparent"} if backend is Backend.VERTEX else set())
    _no_unknown(wanted, known, "setup.session_resumption")
    handle = wanted.get("handle") or ""
    _invalid(not isinstance(handle, str))
    return Resumption(handle, wanted.get("transparent") is True)


def _read_compression(body: JsonObject, info: ModelInfo) -> Compression | None:
    """Read compression; defaults: trigger 80 % of the window, target half of the trigger."""
    if "contextWindowCompression" not in body:
        return None
    wanted = as_object(body["contextWindowCompression"])
    _no_unknown(wanted, {"triggerTokens", "slidingWindow"}, "setup.context_window_compression")
    trigger = as_int(wanted.get("triggerTokens"))
    target = as_int(as_object(wanted.get("slidingWindow")).get("targetTokens"))
    low, high = TRIGGER_RANGE_TOKENS
    _invalid(trigger is not None and not low <= trigger <= high)
    low, high = TARGET_RANGE_TOKENS
    _invalid(target is not None and not low <= target <= high)
    trigger_tokens = int(info.window_tokens * 0.8) if trigger is None else trigger
    target_tokens = trigger_tokens // 2 if target is None else target
    _invalid(target_tokens >= trigger_tokens)
    return Compression(trigger_tokens, target_tokens)


def _read_activity(body: JsonObject, backend: Backend) -> ActivityDetection:
    """Read activity handling; sensitivities default HIGH on Developer, LOW on Vertex."""
    config = as_object(body.get("realtimeInputConfig"))
    automatic = as_object(config.get("automaticActivityDetection"))
    start = automatic.get("startOfSpeechSensitivity", "START_SENSITIVITY_UNSPECIFIED")
    end = automatic.get("endOfSpeechSensitivity", "END_SENSITIVITY_UNSPECIFIED")
    _invalid(start not in _SENSITIVITY["start"] or end not in _SENSITIVITY["end"])
    high = backend is Backend.DEVELOPER
    prefix = as_int(automatic.get("prefixPaddingMs"))
    silence = as_int(automatic.get("silenceDurationMs"))
    _invalid((prefix is not None and prefix < 0) or (silence is not None and silence < 0))
    return ActivityDetection(
        automatic=automatic.get("disabled") is not True,
        start_high=high if start.endswith("UNSPECIFIED") else start.endswith("HIGH"),
        end_high=high if end.endswith("UNSPECIFIED") else end.endswith("HIGH"),
        prefix_padding_ms=prefix,
        silence_duration_ms=silence,
        interrupts=config.get("activityHandling") != "NO_INTERRUPTION",
        turn_coverage=str(config.get("turnCoverage", "")),
    )


def read_setup(
    body: JsonObject,
    backend: Backend,
    api_version: str,
    *,
    any_model: bool = False,
    extra_models: Mapping[str, ModelInfo] | None = None,
) -> Setup:
    """Check a normalised ``setup`` body as the service does.

    Raises:
        WireError: with the close code and reason of the real service.
    """
    _no_unknown(body, _SETUP_FIELDS[backend], "setup")
    info = find_model(
        backend, body.get("model"), api_version, any_model=any_model, extra=extra_models
    )
    text, thoughts = _read_generation(as_object(body.get("generationConfig")), info)
    proactivity = as_object(body.get("proactivity"))
    _invalid(proactivity.get("proactiveAudio") is False and not info.proactive_audio_false)
    return Setup(
        backend=backend,
        model=info,
        text_reply=text,
        system_instruction=content_text(body.get("systemInstruction")),
        functions=read_functions(body.get("tools"), blocking=not info.non_blocking_default),
        resumption=_read_resumption(body, backend),
        compression=_read_compression(body, info),
        activity=_read_activity(body, backend),
        input_transcription="inputAudioTranscription" in body,
        output_transcription="outputAudioTranscription" in body,
        explicit_vad_signal=body.get("explicitVadSignal") is True,
        seed_history=as_object(body.get("historyConfig")).get("initialHistoryInClientContent")
        is True,
        include_thoughts=thoughts,
    )
