"""From settings to the setup message: a fresh LiveConnectConfig for every connection.

The SDK changes the config object that it is given (`connect()` rewrites `system_instruction`), so
none is ever used twice. Import this module only where the SDK may be imported: it takes a second
on a desktop and several on a Pi.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.genai import types

from agentd.config.models import model_keys
from agentd.config.settings import Transcription
from agentd.live.capabilities import Capabilities, capabilities
from agentd.live.commands import SetupPlan
from agentd.live.toolbox import Tool, Toolbox


def connect_config(plan: SetupPlan, toolbox: Toolbox) -> types.LiveConnectConfig:
    """Return the configuration of one connection."""
    settings, live = plan.settings, plan.settings.live
    caps = capabilities(live.backend, live.model)
    config = types.LiveConnectConfig(
        response_modalities=[types.Modality.AUDIO],
        speech_config=types.SpeechConfig(
            voice_config=types.VoiceConfig(
                prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name=live.voice)
            ),
            language_code=live.language if caps.language_code else None,
        ),
        system_instruction=_instruction(plan, caps),
        temperature=live.temperature,
        session_resumption=_resumption(plan, caps),
        realtime_input_config=types.RealtimeInputConfig(
            automatic_activity_detection=types.AutomaticActivityDetection(
                disabled=live.activity_detection == "local"
            ),
        ),
    )
    level = live.thinking_level or model_keys(live.model).thinking_level
    if level:
        config.thinking_config = types.ThinkingConfig(
            thinking_level=types.ThinkingLevel(level.upper())
        )
    if live.compression.enabled:
        config.context_window_compression = types.ContextWindowCompressionConfig(
            trigger_tokens=live.compression.trigger_tokens,
            sliding_window=types.SlidingWindow(target_tokens=live.compression.target_tokens),
        )
    if live.transcription.input:
        config.input_audio_transcription = _hints(live.transcription)
    if live.transcription.output:
        config.output_audio_transcription = types.AudioTranscriptionConfig()
    if plan.initial_history:
        config.history_config = types.HistoryConfig(initial_history_in_client_content=True)
    if settings.tools.enabled:
        config.tools = list(declared(toolbox, caps)) or None
    return config


def _hints(given: Transcription) -> types.AudioTranscriptionConfig:
    """Return what the service is told about the words to expect; nothing is the common case."""
    mode = given.mode and types.AudioTranscriptionConfigMode(given.mode.upper())
    return types.AudioTranscriptionConfig(
        language_codes=list(given.languages) or None,
        custom_vocabulary=list(given.vocabulary) or None,
        mode=mode,
    )


def declared(toolbox: Toolbox, caps: Capabilities) -> list[types.Tool]:
    """Return the functions as a setup or a contextUpdate declares them; none as an empty list."""
    declarations = [_declaration(tool, caps) for tool in toolbox]
    return [types.Tool(function_declarations=declarations)] if declarations else []


def _instruction(plan: SetupPlan, caps: Capabilities) -> types.Content | None:
    text = plan.instruction
    if not caps.language_code:
        # these models take the language from the instruction (Live API docs, "Change language")
        text = f"{text}\nSpeak {plan.settings.live.language} unless asked otherwise.".strip()
    return types.Content(parts=[types.Part(text=text)], role="user") if text else None


def _resumption(plan: SetupPlan, caps: Capabilities) -> types.SessionResumptionConfig:
    resumption = types.SessionResumptionConfig(handle=plan.handle)
    if caps.transparent and plan.settings.live.transparent_resumption:
        resumption.transparent = True  # the Developer API's converter refuses even False
    return resumption


def _declaration(tool: Tool, caps: Capabilities) -> types.FunctionDeclaration:
    declaration = types.FunctionDeclaration(name=tool.name, description=tool.description)
    if caps.openapi_parameters:
        declaration.parameters = openapi(tool.parameters)
    else:
        declaration.parameters_json_schema = dict(tool.parameters)
    if tool.slow and caps.declare_behavior:
        declaration.behavior = types.Behavior.NON_BLOCKING
    elif caps.declare_blocking and not tool.slow:
        declaration.behavior = types.Behavior.BLOCKING
    return declaration


def openapi(schema: Mapping[str, Any]) -> types.Schema:
    """Return a JSON Schema in the form of OpenAPI 3.0 that the API calls `Schema`.

    What that form does not know (`additionalProperties`) is left out: the service closes with 1007
    on it, and the arguments are checked on this side anyway.
    """
    known = {
        name: value
        for name, value in schema.items()
        if name in {"description", "enum", "format", "minimum", "maximum", "required"}
    }
    converted = types.Schema(type=types.Type(str(schema.get("type", "object")).upper()), **known)
    if "properties" in schema:
        converted.properties = {name: openapi(of) for name, of in schema["properties"].items()}
    if "items" in schema:
        converted.items = openapi(schema["items"])
    return converted
