"""What is known about the models that the Live API serves: one table, with sources.

Every model is a row of traits (:class:`ModelInfo`), every trait has its source in :data:`SOURCES`,
and ``--trait NAME=VALUE`` sets one against the table: where two sources disagree, both can be
played.  ``docs/developer/emulator.md`` holds the table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any


class Backend(Enum):
    """Which of Google's two front doors a client came through."""

    DEVELOPER = "developer"
    VERTEX = "vertex"


class ClientContentRule(Enum):
    """When a model accepts ``clientContent``."""

    ALWAYS = "always"
    SEED_ONLY = "seed_only"
    """Only to seed history at the start, and only with ``historyConfig``."""


class ThinkingRule(Enum):
    """What a model makes of ``thinkingConfig.thinkingLevel``."""

    OPTIONAL = "optional"
    REFUSED = "refused"
    REQUIRED = "required"
    """LOW, MEDIUM or HIGH; no setup without one."""


class SchedulingRule(Enum):
    """What a model makes of ``FunctionResponse.scheduling``."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    """Every result is spoken once the model is idle."""
    REFUSED = "refused"


class AffectiveRule(Enum):
    """What a model makes of ``enableAffectiveDialog`` where the API version knows it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    REFUSED_LATER = "refused_later"
    """The setup is completed, the first message after it closes 1007."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The traits of one model that show on the wire; :data:`SOURCES` says how each is known."""

    name: str
    window_tokens: int = 131_072
    audio_output: bool = True
    text_output: bool = False
    text_refusal: int = 1007
    answers: bool = True
    audio_only_input: bool = False
    interim_transcription: bool = False
    input_always_transcribed: bool = False
    client_content: ClientContentRule = ClientContentRule.ALWAYS
    context_update: bool = False
    thinking_level: ThinkingRule = ThinkingRule.OPTIONAL
    proactive_audio_false: bool = True
    affective_dialog: AffectiveRule = AffectiveRule.ACCEPTED
    preview_fields_everywhere: bool = False
    interaction_status: bool = False
    non_blocking_default: bool = False
    blocking_calls: bool = True
    scheduling: SchedulingRule = SchedulingRule.HONOURED
    json_schema_calls: bool = True
    tool_config: bool = False
    call_ends_turn: bool = False
    tool_ids: str = "function-call-"
    close_on_audio_during_tool_call: bool = False
    audio_stream_end: bool = True
    vad_signals: bool = True
    activity_echo: bool = False
    typed_turn_sees_video: bool = False
    combined_audio_and_text: bool = False
    unasked_resumption: bool = False
    resumable_mid_turn: bool = False


SOURCES: dict[str, tuple[str, str]] = {
    "window_tokens": ("known", "model pages: 131,072 for 3.x, 128k native audio, 32k others"),
    "audio_output": ("known", "live-transcribe page, 26 Aug 2026: responseModalities TEXT only"),
    "text_output": ("known", "model pages: half-cascade and transcription models answer in text"),
    "text_refusal": (
        "observed",
        "the close code for TEXT alone: 1011 on 3.1 (python-genai#2238), 1007 on native audio",
    ),
    "answers": ("known", "live-transcribe page, 26 Aug 2026: a transcript, no agent"),
    "audio_only_input": (
        "known",
        (
            "live-transcribe and live-translate pages: no tools, instructions or typed text; that "
            "they close 1007 is a guess"
        ),
    ),
    "interim_transcription": (
        "observed",
        "live-transcribe page; frame shapes published from a live probe, Sep 2026",
    ),
    "input_always_transcribed": ("observed", "pydantic-ai, verified live, Oct 2026: 3.x always"),
    "client_content": (
        "observed",
        (
            "3.1: always in recordings of Aug 2026 and livekit/agents#7289 (15 Sep 2026); before, "
            "`seed_only` (python-genai issues of Mar and Apr 2026)"
        ),
    ),
    "context_update": ("known", "3.8 model page: instruction and tools change mid-session"),
    "thinking_level": (
        "observed",
        (
            "1007 without one and with MINIMAL on extended thinking, 1007 with one on 3.8 "
            "(published probes of 29 Sep and 1 Oct 2026; openclaw#152413)"
        ),
    ),
    "proactive_audio_false": ("known", "3.8 model page: always on, false is an error"),
    "affective_dialog": (
        "observed",
        "pydantic-ai, verified live: 3.1 closes at setup, 3.8 at the first message after it",
    ),
    "preview_fields_everywhere": (
        "observed",
        (
            "proactivity and enableAffectiveDialog are unknown names on the Developer API outside "
            "v1alpha (22 Oct 2026; probe of 29 Sep); older pages show them on v1beta"
        ),
    ),
    "interaction_status": ("known", "thinking page: IN_PROGRESS, the last one IDLE"),
    "non_blocking_default": (
        "known",
        "3.8 model page; one probe of 29 Sep 2026 found extended thinking blocking without it",
    ),
    "blocking_calls": ("observed", "1007 on extended thinking (published probe, 29 Sep 2026)"),
    "scheduling": (
        "observed",
        (
            "1007 on extended thinking (openclaw#152413 and four more); 3.8: honoured by the model "
            "page, 1007 by one report; Vertex 2.5 ignores it (LiveKit's Gemini plugin)"
        ),
    ),
    "json_schema_calls": (
        "observed",
        (
            "AidenAI-IO/aiden-firmware#708: on extended thinking functions by parametersJsonSchema "
            "were spoken, not called; a probe of 29 Sep 2026 saw them called"
        ),
    ),
    "tool_config": (
        "guess",
        "Firebase's SDKs send toolConfig when it is set; one report says the API refuses it",
    ),
    "call_ends_turn": (
        "observed",
        (
            "Vertex 2.5: recordings of Aug 2026, pydantic-ai verified live; native audio: adk"
            "-python waits for it (#5239); livekit/agents#3192: some do, some don't"
        ),
    ),
    "tool_ids": ("observed", "recordings of Aug 2026: prefix and digits, UUIDs on Vertex 2.5"),
    "close_on_audio_during_tool_call": ("observed", "js-genai#1236, livekit/agents#4545: some do"),
    "audio_stream_end": ("observed", "3.8 ignores it (openclaw#152830, #152844)"),
    "vad_signals": (
        "observed",
        (
            "3.8 sends none (python-genai#2981); a probe of 29 Sep 2026 saw voiceActivity on "
            "extended thinking"
        ),
    ),
    "activity_echo": (
        "observed",
        (
            "voiceActivity without being asked: frame shapes published from a live probe of the "
            "transcription model, Sep 2026; a probe of 29 Sep 2026 saw it on extended thinking"
        ),
    ),
    "typed_turn_sees_video": ("observed", "pydantic-ai, verified live: on no model"),
    "combined_audio_and_text": ("observed", "recordings of 3.1, Aug 2026"),
    "unasked_resumption": (
        "observed",
        "recordings of 3.1, Aug 2026; extended thinking: probe of 29 Sep 2026",
    ),
    "resumable_mid_turn": (
        "observed",
        (
            "3.8: pydantic-ai, verified live; extended thinking: a handle 0.2 s into the turn "
            "(probe of 29 Sep 2026); older models withhold it (SDK field documentation)"
        ),
    ),
}
"""How each trait is known: (known, observed or guess; the source with its date)."""

UUIDS = ""
"""As ``tool_ids``: call ids are UUIDs."""

_V25 = ModelInfo("gemini-2.5-flash-native-audio-preview-12-2025", window_tokens=128_000)
_V31 = ModelInfo(
    "gemini-3.1-flash-live-preview",
    affective_dialog=AffectiveRule.REFUSED,
    text_refusal=1011,
    combined_audio_and_text=True,
    input_always_transcribed=True,
    unasked_resumption=True,
    tool_ids="fc_",
)
_V38 = ModelInfo(
    "gemini-3.8-live",
    context_update=True,
    thinking_level=ThinkingRule.REFUSED,
    proactive_audio_false=False,
    affective_dialog=AffectiveRule.REFUSED_LATER,
    non_blocking_default=True,
    input_always_transcribed=True,
    combined_audio_and_text=True,
    audio_stream_end=False,
    vad_signals=False,
    resumable_mid_turn=True,
    tool_ids="fc_",
)
_V38_THINKING = replace(
    _V38,
    name="gemini-3.8-live-extended-thinking",
    thinking_level=ThinkingRule.REQUIRED,
    interaction_status=True,
    blocking_calls=False,
    scheduling=SchedulingRule.REFUSED,
    json_schema_calls=False,
    unasked_resumption=True,
)
_VERTEX_25 = ModelInfo(
    "gemini-live-2.5-flash",
    window_tokens=32_768,
    text_output=True,
    scheduling=SchedulingRule.IGNORED,
    call_ends_turn=True,
    tool_ids=UUIDS,
)

MODELS: dict[Backend, dict[str, ModelInfo]] = {
    Backend.DEVELOPER: {
        info.name: info
        for info in (
            _V38,
            _V38_THINKING,
            _V31,
            ModelInfo(
                "gemini-3.5-transcribe-live",
                audio_output=False,
                text_output=True,
                answers=False,
                audio_only_input=True,
                interim_transcription=True,
                activity_echo=True,
                input_always_transcribed=True,
            ),
            replace(
                _V31,
                name="gemini-3.5-live-translate-preview",
                window_tokens=32_768,
                audio_only_input=True,
            ),
            _V25,
            replace(_V25, name="gemini-2.5-flash-native-audio-latest"),
        )
    },
    Backend.VERTEX: {
        info.name: info
        for info in (
            # affectiveDialog was removed from the Developer API's schema only.
            replace(_V38, affective_dialog=AffectiveRule.ACCEPTED),
            replace(
                _VERTEX_25,
                name="gemini-live-2.5-flash-native-audio",
                window_tokens=128_000,
                text_output=False,
            ),
            _VERTEX_25,
            replace(
                _V31,
                name="gemini-3.5-live-translate-preview",
                window_tokens=32_768,
                audio_only_input=True,
            ),
        )
    },
}

WITHDRAWN: dict[Backend, frozenset[str]] = {
    Backend.DEVELOPER: frozenset(
        {
            "gemini-live-2.5-flash-preview",
            "gemini-2.5-flash-native-audio-preview-09-2025",
            "gemini-2.5-flash-preview-native-audio-dialog",
            "gemini-2.5-flash-exp-native-audio-thinking-dialog",
            "gemini-2.0-flash-exp",
            "gemini-2.0-flash-live-001",
        }
    ),
    Backend.VERTEX: frozenset(
        {
            "gemini-live-2.5-flash-preview-native-audio-09-2025",
            "gemini-live-2.5-flash-preview-native-audio",
            "gemini-2.0-flash-live-preview-04-09",
        }
    ),
}
"""Names that were served once.  They close like unknown ones on the Developer API (1008), and
1007 "is not supported in the live api" on Vertex AI (litellm#38454, #39851)."""

VOICES = frozenset(
    """Achernar Achird Algenib Algieba Alnilam Aoede Autonoe Callirrhoe Charon Despina Enceladus
    Erinome Fenrir Gacrux Iapetus Kore Laomedeia Leda Orus Puck Pulcherrima Rasalgethi Sadachbia
    Sadaltager Schedar Sulafat Umbriel Vindemiatrix Zephyr Zubenelgenubi""".split()
)
"""The prebuilt voices (Live API docs, "Change voice")."""

AUDIO_TOKENS_PER_S = 25
VIDEO_TOKENS_PER_FRAME = 258


def generic_model(name: str) -> ModelInfo:
    """Return the traits assumed of a model that the table does not know."""
    return ModelInfo(name, context_update=True)


def served(backend: Backend) -> tuple[str, ...]:
    """Return the names of the table's models, for messages that say what there is."""
    return tuple(MODELS[backend])


# -- traits set by hand -----------------------------------------------------------------------


def _trait(name: str, value: object) -> Any:
    default = next((item.default for item in fields(ModelInfo) if item.name == name), None)
    if name == "name" or default is None:
        known = ", ".join(item.name for item in fields(ModelInfo) if item.name != "name")
        raise ValueError(f"trait {name!r}: no such trait; one of {known}")
    if isinstance(default, bool):
        allowed: Iterable[str] = ("true", "false")
        chosen: Any = {"true": True, "false": False}.get(str(value).lower())
    elif isinstance(default, Enum):
        allowed = [str(item.value) for item in type(default)]
        text = str(value.value if isinstance(value, Enum) else value).lower()
        chosen = next((item for item in type(default) if item.value == text), None)
    elif isinstance(default, int):
        allowed = ("a whole number, at least 1",)
        text = str(value)
        chosen = int(text) if text.isdecimal() and int(text) > 0 else None
    else:
        allowed, chosen = ("a text",), str(value)
    if chosen is None:
        raise ValueError(f"trait {name} = {value!r}; choose one of {', '.join(allowed)}")
    return chosen


def read_traits(given: Mapping[str, object]) -> dict[str, Any]:
    """Check traits given by name, as text or as values.

    Raises:
        ValueError: naming the trait, the value and what is allowed.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"traits = {given!r}; a table of names and values")  # noqa: TRY004
    return {name: _trait(name, value) for name, value in given.items()}


def with_traits(info: ModelInfo, given: Mapping[str, object]) -> ModelInfo:
    """Return a model's row with some traits set by hand."""
    return replace(info, **read_traits(given)) if given else info


# -- the table as text ------------------------------------------------------------------------


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"`{value}…`" if value else "UUID"


def traits_table() -> str:
    """Return the table in Markdown: a line per trait and value, and which models have it."""
    lines = ["| trait | models | how it is known |", "| --- | --- | --- |"]
    rows = [
        (info, info.name + (" (Vertex)" if backend is Backend.VERTEX else ""))
        for backend in Backend
        for info in MODELS[backend].values()
    ]
    for item in fields(ModelInfo)[1:]:
        by_value: dict[str, list[str]] = {}
        for info, name in rows:
            by_value.setdefault(_shown(getattr(info, item.name)), []).append(name)
        most = max(by_value, key=lambda value: len(by_value[value]))
        shown = [
            f"{value}: {', '.join(names)}" for value, names in by_value.items() if value != most
        ]
        shown.append(f"{'all' if len(by_value) == 1 else 'others'}: {most}")
        certainty, source = SOURCES[item.name]
        lines.append(f"| `{item.name}` | {'; '.join(shown)} | {certainty}: {source} |")
    return "\n".join(lines) + "\n"
