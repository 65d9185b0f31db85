"""What is known about the models that the Live API serves: one table, with sources.

Sources: the public Live API and model pages (ai.google.dev/gemini-api/docs/live,
cloud.google.com/vertex-ai/generative-ai/docs/live-api), the field documentation of the
google-genai SDK, and for close codes the reports named in ``docs/emulator.md``.
What no source states is marked as a guess there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Backend(Enum):
    """Which of Google's two front doors a client came through."""

    DEVELOPER = "developer"
    VERTEX = "vertex"


class ClientContentRule(Enum):
    """When a model accepts ``clientContent``."""

    ALWAYS = "always"
    SEED_ONLY = "seed_only"
    """Only to seed history at the start, and only with ``historyConfig`` (Gemini 3.1)."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The traits of one model that show on the wire."""

    name: str
    window_tokens: int = 131_072
    client_content: ClientContentRule = ClientContentRule.ALWAYS
    text_output: bool = False
    context_update: bool = False
    thinking_level: bool = True
    proactive_audio_false: bool = True
    affective_dialog: bool = True
    interaction_status: bool = False
    non_blocking_default: bool = False
    combined_audio_and_text: bool = False
    """Audio and its transcription share a frame (recorded on 3.1)."""
    unasked_resumption: bool = False
    """Sends resumption updates although setup did not ask (recorded on 3.1)."""
    tool_id_prefix: str = "function-call-"
    close_on_audio_during_tool_call: bool = False


_V25 = ModelInfo("gemini-2.5-flash-native-audio-preview-12-2025", window_tokens=128_000)
_V31 = ModelInfo(
    "gemini-3.1-flash-live-preview",
    client_content=ClientContentRule.SEED_ONLY,
    combined_audio_and_text=True,
    unasked_resumption=True,
    tool_id_prefix="fc_",
)
_V38 = ModelInfo(
    "gemini-3.8-live",
    context_update=True,
    thinking_level=False,
    proactive_audio_false=False,
    affective_dialog=False,
    non_blocking_default=True,
    combined_audio_and_text=True,
    tool_id_prefix="fc_",
)

MODELS: dict[Backend, dict[str, ModelInfo]] = {
    Backend.DEVELOPER: {
        info.name: info
        for info in (
            _V38,
            replace(_V38, name="gemini-3.8-live-extended-thinking", interaction_status=True),
            _V31,
            _V25,
            replace(_V25, name="gemini-2.5-flash-native-audio-latest"),
            replace(_V31, name="gemini-3.5-live-translate-preview", window_tokens=32_768),
            ModelInfo("gemini-2.0-flash-live-001", window_tokens=32_768, text_output=True),
        )
    },
    Backend.VERTEX: {
        info.name: info
        for info in (
            # affectiveDialog was removed from the Developer API's schema only.
            replace(_V38, affective_dialog=True),
            replace(_V25, name="gemini-live-2.5-flash-native-audio"),
            ModelInfo("gemini-live-2.5-flash", window_tokens=32_768, text_output=True),
        )
    },
}

WITHDRAWN: dict[Backend, frozenset[str]] = {
    Backend.DEVELOPER: frozenset(),
    Backend.VERTEX: frozenset(
        {
            "gemini-live-2.5-flash-preview-native-audio-09-2025",
            "gemini-live-2.5-flash-preview-native-audio",
        }
    ),
}

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
