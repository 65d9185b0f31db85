"""From the SDK's messages to our own values: the last place where SDK objects are seen.

Imported lazily, together with the SDK.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.genai import types

from agentd.live.google.frames import MAX_ID_CHARS, MAX_NAME_CHARS, call_problem
from agentd.live.messages import (
    FunctionCall,
    Interaction,
    ResumptionUpdate,
    ServerMessage,
    Tokens,
    TranscriptPiece,
    believable,
    parse_time_left_s,
    reason_name,
    whole_text,
)
from agentd.live.reply_audio import is_sound
from agentd.live.resumption import MAX_HANDLE_CHARS
from agentd.live.transcript import MAX_TEXT_CHARS

MODALITIES = frozenset(str(modality.value) for modality in types.MediaModality)
OTHER = "other"

_STATUS = {
    types.InteractionStatus.IN_PROGRESS: Interaction.IN_PROGRESS,
    types.InteractionStatus.REQUIRES_ACTION: Interaction.IDLE,  # its deprecated name (SDK 2.19)
    types.InteractionStatus.IDLE: Interaction.IDLE,
}


def convert(
    message: types.LiveServerMessage, *, audio: tuple[bytes, ...] = (), unplayable: str = ""
) -> ServerMessage:
    """Return the frame's content; what agentd has no use for is left out.

    `audio` and `unplayable` are what the decoder has made of the frame's `sounds`.
    """
    problems: list[str] = []
    content = message.server_content
    update = message.session_resumption_update
    return ServerMessage(
        audio=audio,
        unplayable=unplayable,
        model_turn=bool(_parts(content)),
        written=any(part.text and not part.thought for part in _parts(content)),
        user_text=_text(content.input_transcription, problems) if content else None,
        model_text=_text(content.output_transcription, problems) if content else None,
        interrupted=bool(content and content.interrupted),
        generation_complete=bool(content and content.generation_complete),
        turn_complete=bool(content and content.turn_complete),
        turn_complete_reason=_reason(content),
        waiting_for_input=bool(content and content.waiting_for_input),
        interaction=_interaction(content),
        calls=tuple(_calls(message.tool_call, problems)),
        cancelled_calls=_cancelled(message.tool_call_cancellation),
        resumption=None if update is None else _resumption(update, problems),
        tokens=None if message.usage_metadata is None else _tokens(message.usage_metadata),
        go_away_s=None if message.go_away is None else parse_time_left_s(message.go_away.time_left),
        problem="; ".join(problems[:3]),
    )


def _parts(content: types.LiveServerContent | None) -> list[types.Part]:
    if content is None or content.model_turn is None:
        return []
    return content.model_turn.parts or []


def sounds(message: types.LiveServerMessage) -> Iterable[tuple[str | None, bytes]]:
    """Yield MIME type and bytes of everything in a frame that is meant to be heard."""
    for part in _parts(message.server_content):
        blob = part.inline_data
        if part.thought or blob is None or not blob.data:
            continue
        if is_sound(blob.mime_type):
            yield blob.mime_type, blob.data


def _text(transcription: types.Transcription | None, problems: list[str]) -> TranscriptPiece | None:
    if transcription is None or not (transcription.text or transcription.finished):
        return None
    text = transcription.text or ""
    if len(text) > MAX_TEXT_CHARS:
        problems.append(f"transcription of {len(text)} characters, cut to {MAX_TEXT_CHARS}")
    return TranscriptPiece(whole_text(text[:MAX_TEXT_CHARS]), bool(transcription.finished))


def _reason(content: types.LiveServerContent | None) -> str:
    reason = content.turn_complete_reason if content is not None else None
    return reason_name(getattr(reason, "value", reason))


def _interaction(content: types.LiveServerContent | None) -> Interaction:
    status = content.interaction_status if content is not None else None
    return _STATUS.get(status, Interaction.UNSAID) if status is not None else Interaction.UNSAID


def _calls(
    tool_call: types.LiveServerToolCall | None, problems: list[str]
) -> Iterable[FunctionCall]:
    asked = (tool_call.function_calls or []) if tool_call is not None else []
    for call in asked:
        call_id, name, args = call.id or "", call.name or "", call.args or {}
        if len(call_id) > MAX_ID_CHARS:  # nothing that it could be answered with
            problems.append(f"call with an id of {len(call_id)} characters")
            continue
        refused = call_problem(name, args)
        if refused:
            problems.append(f"call refused: {refused}")
            args = {}
        yield FunctionCall(call_id, name[:MAX_NAME_CHARS], args, refused)


def _cancelled(cancellation: types.LiveServerToolCallCancellation | None) -> tuple[str, ...]:
    ids = (cancellation.ids or ()) if cancellation is not None else ()
    return tuple(call_id for call_id in ids if len(call_id) <= MAX_ID_CHARS)


def _resumption(
    update: types.LiveServerSessionResumptionUpdate, problems: list[str]
) -> ResumptionUpdate:
    handle = update.new_handle or ""
    if len(handle) > MAX_HANDLE_CHARS:
        problems.append(f"resumption handle of {len(handle)} characters")
        return ResumptionUpdate()  # not resumable by this one; an older handle is kept
    index = update.last_consumed_client_message_index
    return ResumptionUpdate(
        handle, bool(update.resumable), index if index == believable(index) else None
    )


def _tokens(usage: types.UsageMetadata) -> Tokens:
    return Tokens(
        prompt=believable(usage.prompt_token_count),
        response=believable(usage.response_token_count),
        total=believable(usage.total_token_count),
        cached=believable(usage.cached_content_token_count),
        thoughts=believable(usage.thoughts_token_count),
        tool_use=believable(usage.tool_use_prompt_token_count),
        by_modality=(
            *_modalities("prompt", usage.prompt_tokens_details),
            *_modalities("response", usage.response_tokens_details),
        ),
    )


def _modalities(side: str, details: Iterable[Any] | None) -> Iterable[tuple[str, int]]:
    for detail in details or ():
        modality = getattr(detail.modality, "value", None)
        name = modality.lower() if modality in MODALITIES else OTHER
        count = believable(detail.token_count)
        if count:
            yield f"{side}_{name}", count
