"""What crosses the border to the Live API, as small frozen values.

The SDK's own objects stay in `agentd.live.google.connector`; everything behind it sees only these.
Field meanings: Live API reference, `BidiGenerateContentClientMessage` and `…ServerMessage`.
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UPLINK_HZ = 16_000
UPLINK_BYTES_PER_MS = UPLINK_HZ * 2 // 1000
DOWNLINK_BYTES_PER_MS = 24_000 * 2 // 1000

# ── to the service ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ActivityStart:
    """The user begins to speak (only with local activity detection)."""


@dataclass(frozen=True, slots=True)
class ActivityEnd:
    """The user has finished speaking (only with local activity detection)."""


@dataclass(frozen=True, slots=True)
class AudioStreamEnd:
    """The audio stream pauses (only with the service's activity detection)."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A piece of digital silence behind speech, for a detector that waits to hear the pause.

    No word of the user is in it: whatever counts what was said leaves it out.
    """

    ms: int = 100  # the longest message that the Live API guide recommends

    @property
    def pcm(self) -> bytes:
        """Return it as int16 mono 16 kHz."""
        return bytes(self.ms * UPLINK_BYTES_PER_MS)


@dataclass(frozen=True, slots=True)
class RealtimeAudio:
    """User speech: int16 mono 16 kHz."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """One piece of conversation: role `user`, `model` or `system`."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class ClientContent:
    """Conversation added in order; with `turn_complete` the model answers."""

    turns: tuple[Content, ...]
    turn_complete: bool


@dataclass(frozen=True, slots=True)
class RealtimeText:
    """Text as realtime input, for models that take clientContent only as a seed."""

    text: str


@dataclass(frozen=True, slots=True)
class ContextUpdate:
    """A new system instruction for the running session."""

    system_instruction: str


@dataclass(frozen=True, slots=True)
class ToolsUpdate:
    """The functions that the model may call from now on: those of the toolbox, or none.

    The toolbox is read when the message is sent, so one that is sent again declares what is there
    then.
    """

    offered: bool = True


@dataclass(frozen=True, slots=True)
class ToolResponse:
    """The answer to one function call; `scheduling` is empty, WHEN_IDLE, INTERRUPT or SILENT."""

    call_id: str
    name: str
    response: Mapping[str, Any]
    scheduling: str = ""


ClientMessage = (
    ActivityStart
    | ActivityEnd
    | AudioStreamEnd
    | Silence
    | RealtimeAudio
    | ClientContent
    | RealtimeText
    | ContextUpdate
    | ToolsUpdate
    | ToolResponse
)

MESSAGE_BYTES = 256  # an estimate of what a message costs in memory beside what it says


def size_bytes(message: ClientMessage) -> int:
    """Return about how much memory a message takes while it waits or is kept."""
    match message:
        case RealtimeAudio(pcm):
            return MESSAGE_BYTES + len(pcm)
        case RealtimeText(text) | ContextUpdate(text):
            return MESSAGE_BYTES + 4 * len(text)
        case ClientContent(turns):
            return MESSAGE_BYTES + sum(4 * len(turn.text) for turn in turns)
        case ToolResponse(call_id, name, response):
            said = json.dumps(response, default=str)
            return MESSAGE_BYTES + 4 * (len(call_id) + len(name) + len(said))
        case _:
            return MESSAGE_BYTES


# ── from the service ──────────────────────────────────────────────────────────────────────────


class Interaction(enum.Enum):
    """`interactionStatus`: whether more turns of the same answer follow.

    It comes beside `turnComplete`, and IDLE also alone, when work in the background has ended
    (Live API guide, "Thinking"; google-gemini/gemini-skills#81: "turnComplete no longer means
    idle").
    """

    UNSAID = ""
    IN_PROGRESS = "IN_PROGRESS"
    IDLE = "IDLE"


@dataclass(frozen=True, slots=True)
class TranscriptPiece:
    """A piece of transcription."""

    text: str
    finished: bool = False


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The model asks for a function; without an id (Vertex AI) `call_id` is empty.

    With `refused` it gets that as an error and nothing runs.
    """

    call_id: str
    name: str
    args: Mapping[str, Any]
    refused: str = ""


@dataclass(frozen=True, slots=True)
class ResumptionUpdate:
    """A new handle, or word that the session cannot be resumed just now (empty, not resumable)."""

    handle: str = ""
    resumable: bool = False
    consumed_index: int | None = None  # lastConsumedClientMessageIndex; setup is 0


MAX_COUNT = 2**53 - 1  # what JSON carries exactly (RFC 8259, 6); counts beyond it are no counts


def believable(count: object) -> int:
    """Return a count that the service states, or 0 if it cannot be one."""
    return count if isinstance(count, int) and 0 <= count <= MAX_COUNT else 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of one usage report; `by_modality` keys are like `prompt_audio`.

    The keys come from a list, so they may be shown.
    """

    prompt: int = 0
    response: int = 0
    total: int = 0
    cached: int = 0
    thoughts: int = 0
    tool_use: int = 0
    by_modality: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """One frame from the service; several things may come in one frame.

    `problem` says what of the frame could not be used; when it was all of it, everything else is
    empty. `unknown` names a kind of frame that this version does not know.
    """

    audio: tuple[bytes, ...] = ()  # int16 mono 24 kHz
    unplayable: str = ""  # sound came that cannot be played, and why; said once a turn
    model_turn: bool = False  # any model content, thoughts included
    written: bool = False  # part of the answer is text, which nobody hears; no thought is meant
    user_text: TranscriptPiece | None = None
    model_text: TranscriptPiece | None = None
    interrupted: bool = False
    generation_complete: bool = False
    turn_complete: bool = False
    turn_complete_reason: str = ""  # a name like NEED_MORE_INPUT; empty when none was given
    waiting_for_input: bool = False  # nothing is generated until the user says more
    interaction: Interaction = Interaction.UNSAID
    calls: tuple[FunctionCall, ...] = ()
    cancelled_calls: tuple[str, ...] = ()
    resumption: ResumptionUpdate | None = None
    tokens: Tokens | None = None
    go_away_s: float | None = None
    problem: str = ""
    unknown: str = ""


_DURATION = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*s?\s*", re.ASCII)
GO_AWAY_UNSTATED_S = 10.0


def parse_time_left_s(text: object) -> float:
    """Read `goAway.timeLeft` ("50s", "9.500s"); what cannot be read counts as 10 s.

    The SDK leaves it a string. Guessing short is safe: the switch still waits for a quiet moment.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) and len(text) < 40 else None
    seconds = float(match[1]) if match else math.nan
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else GO_AWAY_UNSTATED_S


def is_content(message: ServerMessage) -> bool:
    """Return whether the frame carries something of the model's answer, or its thoughts.

    A transcription that only says "finished" is a marker: Vertex AI closes an empty turn with it.
    """
    words = message.model_text is not None and bool(message.model_text.text)
    return bool(message.audio or message.model_turn or words or message.calls)


_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
REASON_UNKNOWN = "OTHER"


def reason_name(value: object) -> str:
    """Return a `turnCompleteReason` as it may be shown; what is no name of an enum is OTHER."""
    if value is None or value == "TURN_COMPLETE_REASON_UNSPECIFIED":
        return ""
    named = isinstance(value, str) and _REASON.fullmatch(value)
    return str(value) if named else REASON_UNKNOWN


def canonical(args: Mapping[str, Any]) -> str:
    """Return the arguments of a function in a form that is equal for equal calls."""
    return json.dumps(args, sort_keys=True, default=str)


_LONE = re.compile("[\ud800-\udfff]")


def whole_text(text: str) -> str:
    """Replace halves of surrogate pairs: a strict JSON parser refuses a message that has one."""
    return _LONE.sub("\ufffd", text)


def whole_json(value: Any) -> Any:
    """Replace them in all strings of a JSON value, keys included."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, Mapping):
        return {whole_text(str(key)): whole_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_json(item) for item in value]
    return value
