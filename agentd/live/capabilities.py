"""What a model on a backend can do in a Live session: one table, sources named.

Sources: [doc] Live API guides and model pages (ai.google.dev, cloud.google.com), [sdk] field
documentation of google-genai 3.4, [obs] reports: googleapis/js-genai#1236 and
livekit/agents#4545 (1008 when audio arrives while a blocking call is pending), LiveKit's Gemini
plugin (3.1 takes clientContent only as a seed; Vertex ignores `scheduling`).

Of extended thinking: pydantic-ai ("Thinking level must be specified for this model"),
openclaw/openclaw#152413 ("Function response scheduling is not supported for this model"),
AidenAI-IO/aiden-firmware#708 (functions with a JSON Schema were spoken about instead of called;
with parameters in OpenAPI's form they are called).

Of 3.8: functions are NON_BLOCKING unless they say BLOCKING and it speaks on before the result
[doc model page, and Vertex AI's "migrate from 2.5 to 3.8 live"]; proactive audio is always on, so
that it may choose to say nothing [doc]; its detector does not heed audioStreamEnd and wants to hear
the pause (openclaw/openclaw#152830, #152844).
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How to do on this model what can be done in several ways."""

    client_content: bool = True  # clientContent at any time; else only as initial history
    context_update: bool = False  # contextUpdate changes the system instruction in place
    tools_update: bool = False  # contextUpdate changes the functions in place
    system_role: bool = False  # role `system` in clientContent does (Vertex only [doc])
    transparent: bool = False  # sessionResumption.transparent (Vertex only [sdk])
    declare_behavior: bool = False  # FunctionDeclaration.behavior NON_BLOCKING
    scheduling: bool = False  # FunctionResponse.scheduling is honoured
    response_without_id: bool = (
        False  # a call without an id is answered without (Vertex only [sdk])
    )
    hold_audio_during_calls: bool = False  # audio during a blocking call closes with 1008
    language_code: bool = True  # speechConfig.languageCode
    declare_blocking: bool = False  # a quick function says BLOCKING: unsaid is NON_BLOCKING
    heeds_stream_end: bool = True  # audioStreamEnd ends speech for the service's own detector
    may_stay_silent: bool = False  # no answer, and no turnComplete, to what needs none
    openapi_parameters: bool = False  # a function's parameters by `parameters`, not as JSON Schema


_DEVELOPER = Capabilities(declare_behavior=True, scheduling=True)
_VERTEX = Capabilities(system_role=True, transparent=True, response_without_id=True)


def capabilities(backend: str, model: str) -> Capabilities:
    """Return what `model` can do on `backend`; an unknown one gets the common ground."""
    base = _VERTEX if backend == "vertex" else _DEVELOPER
    name = model.rsplit("/", 1)[-1]
    if name.startswith("gemini-3.8-live-extended-thinking"):
        # functions are asynchronous, which is the default
        return replace(
            base,
            context_update=True,
            tools_update=True,
            declare_behavior=False,
            scheduling=False,
            heeds_stream_end=False,
            may_stay_silent=True,
            openapi_parameters=True,
        )
    if name.startswith("gemini-3.8"):
        # [doc] mid-session system and tool updates; clientContent all session long
        return replace(
            base,
            context_update=True,
            tools_update=True,
            declare_behavior=True,
            declare_blocking=True,
            heeds_stream_end=False,
            may_stay_silent=True,
        )
    if name.startswith(("gemini-3.1", "gemini-3.5-live-translate")):
        # [doc] clientContent seeds history only, text goes through realtimeInput
        return replace(base, client_content=False, system_role=False)
    if "native-audio" in name:
        # [doc] speaks the language it is addressed in; languageCode is for the older models
        return replace(base, hold_audio_during_calls=True, language_code=False)
    return base
