"""The setup message: checked as the service checks it, read into one frozen value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from live_emulator.models import (
    MODELS,
    VOICES,
    WITHDRAWN,
    AffectiveRule,
    Backend,
    ModelInfo,
    ThinkingRule,
    generic_model,
    read_traits,
    served,
    with_traits,
)
from live_emulator.reasons import (
    BLOCKING_UNSUPPORTED,
    INTERNAL_ERROR,
    INVALID_ARGUMENT,
    LEVEL_MISSING,
    LEVEL_UNSUPPORTED,
)
from live_emulator.wire import (
    JsonObject,
    WireError,
    as_bool,
    as_enum,
    as_int,
    as_list,
    as_object,
    camel,
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
_SCHEMA_FIELDS = frozenset(
    """type format title description nullable enum maxItems minItems properties required
    minProperties maxProperties minLength maxLength pattern example anyOf propertyOrdering default
    items minimum maximum""".split()
)
_VERTEX_SCHEMA_FIELDS = frozenset({"additionalProperties", "ref", "defs"})
_PREVIEW_VERSION = "v1alpha"
"""Where the Developer API knows proactivity and affective dialog."""
_MODALITIES = ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO")
_BEHAVIORS = ("UNSPECIFIED", "BLOCKING", "NON_BLOCKING")
_LEVELS = ("THINKING_LEVEL_UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "MINIMAL", "XHIGH")
_HANDLING = (
    "ACTIVITY_HANDLING_UNSPECIFIED",
    "START_OF_ACTIVITY_INTERRUPTS",
    "NO_INTERRUPTION",
)
_COVERAGE = (
    "TURN_COVERAGE_UNSPECIFIED",
    "TURN_INCLUDES_ONLY_ACTIVITY",
    "TURN_INCLUDES_ALL_INPUT",
    "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO",
)
_FIREBASE_MODEL = re.compile(r"^projects/[^/]+/(?=models/)")
"""Firebase names a model of the Developer API within the project."""
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
    json_schema: bool = False
    """Declared by ``parametersJsonSchema``, not by OpenAPI ``parameters``."""


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
    affective_dialog: bool = False

    @property
    def refused_later(self) -> bool:
        """Return whether the first message after this setup is refused."""
        return self.affective_dialog and (
            self.model.affective_dialog is AffectiveRule.REFUSED_LATER
        )

    @property
    def transparent(self) -> bool:
        """Return whether updates carry ``lastConsumedClientMessageIndex``."""
        return self.resumption is not None and self.resumption.transparent


class UnknownModel(WireError):
    """A setup names a model that is not served; ``served`` are those that are."""

    def __init__(self, code: int, reason: str, backend: Backend) -> None:
        super().__init__(code, reason)
        self.served = served(backend)


def _invalid(condition: bool, reason: str = INVALID_ARGUMENT) -> None:
    if condition:
        raise WireError(1007, reason)


def _no_unknown(body: JsonObject, known: Iterable[str], where: str) -> None:
    for name in body:
        if name not in known:
            raise WireError(1007, unknown_name(name, where))


def model_not_found(name: str, api_version: str, method: str) -> str:
    """Return the Developer API's sentence about a model that it does not serve."""
    return (
        f"models/{name} is not found for API version {api_version}, or is not supported for "
        f"{method}. Call ListModels to see the list of available models and their supported "
        "methods."
    )


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
    else:
        name = _FIREBASE_MODEL.sub("", text).removeprefix("models/")
    info = (extra or {}).get(name) or MODELS[backend].get(name)
    if info is not None and not _only_beta(name, api_version):
        return info
    if any_model:
        return info or generic_model(name)
    if backend is Backend.VERTEX:
        if name in WITHDRAWN[backend]:
            raise UnknownModel(1007, f"{text} is not supported in the live api.", backend)
        raise UnknownModel(
            1008,
            f"Publisher Model `{text}` was not found or your project does not have access to it.",
            backend,
        )
    raise UnknownModel(1008, model_not_found(name, api_version, "bidiGenerateContent"), backend)


def _only_beta(name: str, api_version: str) -> bool:
    """Return whether a model is not served on this version: ``-latest`` names are on v1beta only.

    Source: the release notes of google-genai 3.0, which made v1 the default (5 Nov 2026).
    """
    return name.endswith("-latest") and api_version == "v1"


def _check_schema(schema: object, backend: Backend, where: str) -> None:
    """Check OpenAPI ``parameters``: JSON Schema's own words are no fields of it.

    Source: 1007 for ``additionalProperties`` on the Developer API (published probe, 29 Sep 2026);
    Vertex AI's Schema has it, ``ref`` and ``defs``.
    """
    body = as_object(schema)
    known = _SCHEMA_FIELDS | (_VERTEX_SCHEMA_FIELDS if backend is Backend.VERTEX else set())
    for name in body:
        if camel(str(name)) not in known:
            raise WireError(1007, unknown_name(str(name), where))
    for name, inner in as_object(body.get("properties")).items():
        _check_schema(inner, backend, f"{where}.properties[{name}]")
    if "items" in body:
        _check_schema(body["items"], backend, f"{where}.items")


def read_functions(tools: object, info: ModelInfo, backend: Backend) -> dict[str, FunctionSpec]:
    """Collect the declared functions of a ``tools`` list.

    Raises:
        WireError: a declaration is none, or asks for what the model does not do.
    """
    found: dict[str, FunctionSpec] = {}
    for tool in as_list(tools):
        for declaration in as_list(as_object(tool).get("functionDeclarations")):
            body = as_object(declaration)
            name = body.get("name")
            _invalid(not isinstance(name, str) or not name)
            where = "setup.tools.function_declarations.behavior"
            behavior = as_enum(
                body.get("behavior"), _BEHAVIORS, where, "FunctionDeclaration.Behavior"
            )
            _invalid(behavior == "BLOCKING" and not info.blocking_calls, BLOCKING_UNSUPPORTED)
            blocks = behavior == "BLOCKING" or (
                behavior == "UNSPECIFIED" and not info.non_blocking_default
            )
            if "parameters" in body:
                _invalid("parametersJsonSchema" in body)
                where = "setup.tools.function_declarations.parameters"
                _check_schema(body["parameters"], backend, where)
            found[str(name)] = FunctionSpec(str(name), blocks, "parametersJsonSchema" in body)
    return found


def _check_thinking(thinking: JsonObject, info: ModelInfo) -> bool:
    """Check ``thinkingConfig``; return whether thoughts are asked for."""
    where = "setup.generation_config.thinking_config"
    level = as_enum(
        thinking.get("thinkingLevel"), _LEVELS, f"{where}.thinking_level", "ThinkingLevel"
    )
    given = level != _LEVELS[0]
    _invalid(given and info.thinking_level is ThinkingRule.REFUSED, LEVEL_UNSUPPORTED)
    if info.thinking_level is ThinkingRule.REQUIRED:
        _invalid(not given, LEVEL_MISSING)
        _invalid(level not in _LEVELS[1:4], LEVEL_UNSUPPORTED)
    return as_bool(thinking.get("includeThoughts"), f"{where}.include_thoughts")


def _read_modalities(body: JsonObject, info: ModelInfo) -> bool:
    """Check ``responseModalities``; return whether the model answers in text."""
    where = "setup.generation_config.response_modalities"
    modalities = [
        as_enum(item, _MODALITIES, f"{where}[{place}]", "GenerationConfig.Modality")
        for place, item in enumerate(as_list(body.get("responseModalities")))
    ] or ["AUDIO" if info.audio_output else "TEXT"]
    possible = {"AUDIO": info.audio_output, "TEXT": info.text_output}
    _invalid(len(modalities) > 1)  # go-genai#490, js-genai#382, python-genai#194
    if modalities == ["TEXT"] and not info.text_output and info.text_refusal != 1007:
        raise WireError(info.text_refusal, INTERNAL_ERROR)
    _invalid(
        not possible.get(modalities[0]),
        f"The requested combination of response modalities ({', '.join(modalities)}) is not "
        f"supported by the model. {info.name}",
    )
    return modalities == ["TEXT"]


def _read_generation(body: JsonObject, info: ModelInfo) -> tuple[bool, bool]:
    """Check ``generationConfig``; return (text reply, include thoughts)."""
    _no_unknown(body, _GENERATION_FIELDS, "setup.generation_config")
    text = _read_modalities(body, info)
    speech = as_object(body.get("speechConfig"))
    voice = as_object(as_object(speech.get("voiceConfig")).get("prebuiltVoiceConfig")).get(
        "voiceName"
    )
    known = voice is None or (isinstance(voice, str) and voice.capitalize() in VOICES)
    _invalid(not known, f"No matching speaker voice found for name: {voice}")
    return text, _check_thinking(as_object(body.get("thinkingConfig")), info)


def _read_preview(body: JsonObject, info: ModelInfo, backend: Backend, api_version: str) -> bool:
    """Check what only a preview version knows; return whether affective dialog is on."""
    generation = as_object(body.get("generationConfig"))
    hidden = backend is Backend.DEVELOPER and api_version != _PREVIEW_VERSION
    if hidden and not info.preview_fields_everywhere:
        if "proactivity" in body:
            raise WireError(1007, unknown_name("proactivity", "setup"))
        if "enableAffectiveDialog" in generation:
            raise WireError(1007, unknown_name("enableAffectiveDialog", "setup.generation_config"))
    proactive = as_object(body.get("proactivity")).get("proactiveAudio")
    off = proactive is not None and not as_bool(proactive, "setup.proactivity.proactive_audio")
    _invalid(off and not info.proactive_audio_false)
    affective = as_bool(
        generation.get("enableAffectiveDialog"), "setup.generation_config.enable_affective_dialog"
    )
    _invalid(affective and info.affective_dialog is AffectiveRule.REFUSED)
    return affective


def _read_resumption(body: JsonObject, backend: Backend) -> Resumption | None:
    if "sessionResumption" not in body:
        return None
    wanted = as_object(body["sessionResumption"])
    known = {"handle"} | ({"transparent"} if backend is Backend.VERTEX else set())
    _no_unknown(wanted, known, "setup.session_resumption")
    handle = wanted.get("handle") or ""
    _invalid(not isinstance(handle, str))
    transparent = as_bool(wanted.get("transparent"), "setup.session_resumption.transparent")
    return Resumption(handle, transparent)


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
    where = "setup.realtime_input_config"
    detection = f"{where}.automatic_activity_detection"
    start, end = (
        as_enum(
            automatic.get(f"{edge}OfSpeechSensitivity"),
            _SENSITIVITY[edge],
            f"{detection}.{edge}_of_speech_sensitivity",
            f"RealtimeInputConfig.AutomaticActivityDetection.{edge.capitalize()}Sensitivity",
        )
        for edge in ("start", "end")
    )
    handling = as_enum(
        config.get("activityHandling"),
        _HANDLING,
        f"{where}.activity_handling",
        "RealtimeInputConfig.ActivityHandling",
    )
    coverage = as_enum(
        config.get("turnCoverage"),
        _COVERAGE,
        f"{where}.turn_coverage",
        "RealtimeInputConfig.TurnCoverage",
    )
    high = backend is Backend.DEVELOPER
    prefix = as_int(automatic.get("prefixPaddingMs"))
    silence = as_int(automatic.get("silenceDurationMs"))
    _invalid((prefix is not None and prefix < 0) or (silence is not None and silence < 0))
    return ActivityDetection(
        automatic=not as_bool(automatic.get("disabled"), f"{detection}.disabled"),
        start_high=high if start.endswith("UNSPECIFIED") else start.endswith("HIGH"),
        end_high=high if end.endswith("UNSPECIFIED") else end.endswith("HIGH"),
        prefix_padding_ms=prefix,
        silence_duration_ms=silence,
        interrupts=handling != "NO_INTERRUPTION",
        turn_coverage=coverage,
    )


def check_setup_fields(body: JsonObject, backend: Backend, *, tool_config: bool = False) -> None:
    """Refuse fields that no setup of this backend has.

    Raises:
        WireError: naming the field.
    """
    known = _SETUP_FIELDS[backend] | ({"toolConfig"} if tool_config else set())
    _no_unknown(body, known, "setup")


def read_setup(
    body: JsonObject,
    backend: Backend,
    api_version: str,
    *,
    any_model: bool = False,
    extra_models: Mapping[str, ModelInfo] | None = None,
    traits: Mapping[str, object] | None = None,
) -> Setup:
    """Check a normalised ``setup`` body as the service does; ``traits`` go before the table.

    Raises:
        WireError: with the close code and reason of the real service.
    """
    tool_config = bool(read_traits(traits or {}).get("tool_config"))
    check_setup_fields(body, backend, tool_config=tool_config)
    info = find_model(
        backend, body.get("model"), api_version, any_model=any_model, extra=extra_models
    )
    info = with_traits(info, traits or {})
    affective = _read_preview(body, info, backend, api_version)
    text, thoughts = _read_generation(as_object(body.get("generationConfig")), info)
    instruction = content_text(body.get("systemInstruction"), "setup.system_instruction")
    functions = read_functions(body.get("tools"), info, backend)
    _invalid(info.audio_only_input and bool(instruction or functions))
    history = as_object(body.get("historyConfig")).get("initialHistoryInClientContent")
    return Setup(
        backend=backend,
        model=info,
        text_reply=text,
        system_instruction=instruction,
        functions=functions,
        resumption=_read_resumption(body, backend),
        compression=_read_compression(body, info),
        activity=_read_activity(body, backend),
        input_transcription="inputAudioTranscription" in body or info.input_always_transcribed,
        output_transcription="outputAudioTranscription" in body,
        explicit_vad_signal=as_bool(body.get("explicitVadSignal"), "setup.explicit_vad_signal")
        and info.vad_signals,
        seed_history=as_bool(history, "setup.history_config.initial_history_in_client_content"),
        include_thoughts=thoughts,
        affective_dialog=affective,
    )
