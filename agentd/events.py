"""What flows between the stages.

Two kinds of frozen values. *Stream values* carry sound and its framing from stage to stage and are
never logged. *Events* say that something happened: every subclass of `Event` has a stable name,
becomes one journal entry with its fields, and moves the device state. Names and fields are relied
upon by users' scripts (see docs/operator/service.md); transcripts travel as stream values only, so
that no event can carry a spoken word into a log.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

from agentd.text import filled

# ── stream values, microphone to session ──────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Frame:
    """20 ms from the microphone: int16 mono 16 kHz, 640 bytes."""

    index: int  # counts every frame the device delivered or lost, so a gap shows
    at_s: float  # monotonic time of its first sample
    pcm: bytes
    is_echo: bool = False  # what a canceller left of a reply, and nobody's voice in it


class EndReason(enum.Enum):
    """Why an utterance ended."""

    HANGOVER = "hangover"  # the speaker fell silent
    MAX_LENGTH = "max_length"  # split; the next utterance follows without a gap
    CUT = "cut"  # muted, half duplex, capture lost or stopping
    DISCARDED = "discarded"  # shorter than the minimum: a click, not a word


@dataclass(frozen=True, slots=True)
class UtteranceStarted:
    """Speech has begun; `pcm` is the pre-roll and the onset frames that proved it."""

    utterance: int
    at_s: float  # monotonic time of the first sample of `pcm`
    pcm: bytes
    onset_s: float  # monotonic time of the first frame judged speech


@dataclass(frozen=True, slots=True)
class UtteranceAudio:
    """More of an open utterance, in order and without gaps."""

    utterance: int
    at_s: float
    pcm: bytes


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """The utterance is complete; nothing more of it will come."""

    utterance: int
    at_s: float  # monotonic time after its last sample
    speech_ms: float  # from the onset to the last frame judged speech
    reason: EndReason


Speech = UtteranceStarted | UtteranceAudio | UtteranceEnded


# ── stream values, session to speaker ─────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ReplyAudio:
    """A piece of the model's reply: int16 mono 24 kHz."""

    turn: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class ReplyComplete:
    """No more audio will come for this turn (generationComplete); let it drain."""

    turn: int


@dataclass(frozen=True, slots=True)
class ReplyCancelled:
    """Stop the speaker now and drop what was not heard (interrupted, barge-in, forget)."""

    turn: int


class Speaker(enum.Enum):
    """Who spoke a transcript line."""

    USER = "user"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class TranscriptText:
    """A piece of transcript, in order per speaker; for screen and memory, never for logs."""

    turn: int
    speaker: Speaker
    text: str
    finished: bool = False


Downlink = ReplyAudio | ReplyComplete | ReplyCancelled | TranscriptText


# ── stream values, speaker back to session ────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PlaybackMark:
    """How far a reply has been heard at the speaker."""

    turn: int
    heard_ms: float
    drained: bool  # the device has played the last sample of a complete or cancelled reply


# ── events ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened; one journal entry at `level`."""

    name: ClassVar[str]
    level: ClassVar[int] = logging.INFO
    template: ClassVar[str]  # the MESSAGE, formatted with the fields

    @property
    def wording(self) -> str:
        """Return the template of this event's sentence."""
        return self.template

    def message(self) -> str:
        """Return the short sentence for the journal."""
        return filled(self.wording, self.fields())

    def fields(self) -> dict[str, object]:
        """Return the fields by name; enums as their values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.value if isinstance(v, enum.Enum) else v for k, v in values.items()}


Emit = Callable[[Event], None]


# life of the daemon


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(Event):
    """The pipeline stands: capture runs or says why it does not."""

    name = "ready"
    template = "agentd {version} ready, talking to {model} ({backend})"
    version: str
    backend: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Event):
    """The daemon is going down on purpose."""

    name = "stopping"
    template = "stopping: {cause}"
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRefused(Event):
    """A configuration was refused; one entry per problem. On reload the old one stays in force."""

    name = "config_error"
    level = logging.ERROR
    template = "{file}: {key}: {problem}. {remedy}"
    file: str
    key: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded(Event):
    """A new configuration is in force; `how` says by which way the session took it."""

    name = "reloaded"
    template = "configuration reloaded: {changed}; session: {how}"
    changed: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateUnwritable(Event):
    """The state directory cannot be written; agentd goes on from memory."""

    name = "state_unwritable"
    level = logging.WARNING
    template = "cannot write state ({cause}); the conversation would not survive a restart"
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateWritable(Event):
    """The state directory can be written again; what was kept in memory is on disk."""

    name = "state_writable"
    template = "state is written again after {outage_s:.0f} s"
    outage_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StateQuarantined(Event):
    """A state file was unreadable and has been put aside."""

    name = "state_quarantined"
    level = logging.WARNING
    template = "state file {file} is unusable ({cause}); put aside as {aside}, starting afresh"
    file: str
    cause: str
    aside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Starving(Event):
    """The watchdog is not fed any more; systemd will restart the daemon, the handle survives."""

    name = "starving"
    level = logging.ERROR
    template = "no microphone frames for {stalled_s:.0f} s without a cause; the watchdog starves"
    stalled_s: float


# speech and turns


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceHeard(Event):
    """An utterance ended at the gate."""

    name = "utterance"
    template = "heard {speech_ms:.0f} ms of speech ({reason})"
    utterance: int
    speech_ms: float
    reason: EndReason


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeWord(Event):
    """A wake word was heard; `stops` says that it ends what plays instead of opening the gate."""

    name = "wake"
    template = "{word} heard (score {score:.2f}, cut-off {cutoff:.2f})"
    word: str
    score: float
    cutoff: float
    stops: bool = False
    tone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeNearMiss(Event):
    """Something sounded nearly like a wake word."""

    name = "wake_near_miss"
    level = logging.DEBUG
    template = "nearly {word}: score {score:.2f}, cut-off {cutoff:.2f}"
    word: str
    score: float
    cutoff: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeReady(Event):
    """Wake words are listened for."""

    name = "wake_ready"
    template = "listening for {words}"
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeModelRefused(Event):
    """A wake word's model cannot be used; the others go on."""

    name = "wake_model_refused"
    level = logging.ERROR
    template = "{file}: {key}: {problem}. {remedy}"
    file: str
    key: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeUnavailable(Event):
    """No wake word can be listened for; the gate stays shut."""

    name = "wake_unavailable"
    level = logging.ERROR
    template = "no wake word can be heard: {cause}; {instead}. {remedy}"
    cause: str
    instead: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionChanged(Event):
    """Who may open the gate has changed, and for how long if that is known (else 0)."""

    name = "attention"
    level = logging.DEBUG
    template = "attention: {stance} ({reason})"
    stance: str
    reason: str
    for_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkOpened(Event):
    """Audio begins to leave the device. Emitted before its first byte is sent."""

    name = "uplink_opened"
    level = logging.DEBUG
    template = "audio leaves the device"
    utterance: int
    replay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkClosed(Event):
    """No audio leaves the device any more. Emitted after its last byte."""

    name = "uplink_closed"
    level = logging.DEBUG
    template = "no audio leaves the device"
    utterance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted(Event):
    """The user's utterance (or a text) was delivered whole; the model's answer is awaited."""

    name = "turn_started"
    level = logging.DEBUG
    template = "turn {turn}: waiting for the reply"
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnInProgress(Event):
    """The service works on an answer in the background; more of it follows."""

    name = "turn_in_progress"
    level = logging.DEBUG
    template = "turn {turn}: the service works on"
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStarted(Event):
    """The first sample of a reply is at the speaker."""

    name = "reply_started"
    level = logging.DEBUG
    template = "turn {turn}: the reply is heard"
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDrained(Event):
    """The last sample of a reply has been heard (or it was flushed)."""

    name = "reply_drained"
    level = logging.DEBUG
    template = "turn {turn}: the speaker has fallen silent after {heard_ms:.0f} ms"
    turn: int
    heard_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnded(Event):
    """A turn is over: answered, played out, or interrupted. Zero tokens mean none were reported."""

    name = "turn"
    template = "turn {turn}: first audio after {first_audio_ms:.0f} ms, {heard_ms:.0f} ms heard"
    turn: int
    speech_ms: float
    # End of speech at the gate → first reply byte received; None: none came, or nobody had asked.
    first_audio_ms: float | None
    reply_ms: float
    heard_ms: float
    interrupted: bool
    turn_complete_reason: str = ""  # the service's own word for why it ended, when it gave one
    prompt_tokens: int
    response_tokens: int

    @property
    def wording(self) -> str:
        """Return the sentence for what was heard: an answer, something unasked, or nothing."""
        said = " ({turn_complete_reason})" if self.turn_complete_reason else ""
        if self.first_audio_ms is not None:
            return self.template + said
        if self.reply_ms > 0:
            return "turn {turn}: {heard_ms:.0f} ms heard" + said
        return "turn {turn}: nothing was said" + said


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFailed(Event):
    """No answer came, or it broke off."""

    name = "turn_failed"
    level = logging.WARNING
    template = "turn {turn} failed: {cause}"
    turn: int
    utterance: int = 0  # the question's last one; 0: it was typed, or the service spoke unasked
    cause: str
    turn_complete_reason: str = ""  # the service's own word for it, when it gave one

    @property
    def wording(self) -> str:
        """Return the sentence, with the service's word if there is one."""
        return self.template + (" ({turn_complete_reason})" if self.turn_complete_reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Event):
    """A reply was stopped; `by` is local (barge-in, button) or server."""

    name = "interrupted"
    template = "reply of turn {turn} interrupted by {by} after {heard_ms:.0f} ms"
    turn: int
    by: str
    heard_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted(Event):
    """The model calls a function, and its answer waits for the result."""

    name = "tool_started"
    level = logging.DEBUG
    template = "turn {turn}: the model calls {tool}"
    tool: str
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled(Event):
    """The model called a function; its arguments stay out of the log."""

    name = "tool"
    template = "tool {tool} {outcome} after {took_ms:.0f} ms"
    tool: str
    outcome: str  # answered, failed, timeout, cancelled, late
    took_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLimited(Event):
    """The model calls a function more often than it may; told once until it may again."""

    name = "tool_limited"
    level = logging.WARNING
    template = "tool {tool} is called more than {per_minute:# time} a minute; it is not run"
    tool: str  # other: all names that are no functions of this device
    per_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsOffered(Event):
    """A program at the control socket offers functions; it may do so again with others."""

    name = "tools_offered"
    template = "{host} offers {tools:# function}"
    host: str
    tools: int
    uid: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsWithdrawn(Event):
    """A tool host has gone, and its functions with it."""

    name = "tools_withdrawn"
    template = "{host} and its {tools:# function} have gone: {cause}"
    host: str
    tools: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolHostFailed(Event):
    """A tool host was hung up on for what it did, or did not do."""

    name = "tool_host_failed"
    level = logging.WARNING
    template = "{host} was hung up on: {cause}"
    host: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsDeclared(Event):
    """The model gets another set of functions; `how`: context_update, on_resume, off."""

    name = "tools_declared"
    template = "the model gets {functions:# function} ({how})"
    functions: int
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationNeeded(Event):
    """The model wants what only a person may decide; it was told to ask."""

    name = "confirmation_needed"
    template = "turn {turn}: {tool} waits for a person's yes"
    tool: str
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationAsked(Event):
    """The model has spoken after that; from now on an answer counts, and so does the button."""

    name = "confirmation_asked"
    level = logging.DEBUG
    template = "{tool}: the question was heard; {within_s:.0f} s for the answer"
    tool: str
    within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed(Event):
    """A person has answered, and it is done."""

    name = "confirmed"
    template = "{tool} confirmed by {by}"
    tool: str
    by: str  # voice, button, control


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationLapsed(Event):
    """Nobody has confirmed it; nothing was done."""

    name = "confirmation_lapsed"
    template = "{tool} was not confirmed ({cause}); nothing was done"
    tool: str
    cause: str  # timeout, declined, stopped, muted, replaced, reloaded, forgotten


# session and connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Connecting(Event):
    """A dial begins."""

    name = "connecting"
    level = logging.DEBUG
    template = "connection {connection}: dialling ({rung})"
    connection: int
    rung: str  # newest, previous, restore, fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFresh(Event):
    """A new session began: the first ever, or after the handles failed."""

    name = "session_fresh"
    template = "connection {connection}: fresh session ({cause}), {restored_turns:# turn} restored"
    connection: int
    cause: str
    restored_turns: int
    gap_ms: float  # since the previous connection ended, or since the start


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRefused(Event):
    """The service ends every session that is told the conversation so far; it is told no more."""

    name = "context_refused"
    level = logging.WARNING
    template = "sessions end over the restored conversation ({turns:# turn}), put aside: {cause}"
    cause: str
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """The conversation goes on over a new connection."""

    name = "resumed"
    template = "connection {connection}: resumed in {gap_ms:.0f} ms"
    connection: int
    gap_ms: float
    handle_age_s: float
    rung: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoAway(Event):
    """The service will end this connection; the switch waits for a quiet moment."""

    name = "go_away"
    template = "connection {connection}: the service ends it in {time_left_s:.0f} s"
    connection: int
    time_left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(Event):
    """A connection ended, or a dial failed. `cause` is our class, `reason` the peer's words."""

    name = "disconnected"
    template = "connection {connection} ended in {phase}: {cause} (code {close_code}) {reason}"
    connection: int
    phase: str  # handshake, setup, live
    cause: str
    close_code: int  # WebSocket close code or HTTP status; 0 when there was none
    reason: str  # the peer's words, bounded and stripped of control characters
    retry_in_s: float
    remedy: str = ""  # what to do about it; empty when agentd ended it


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Event):
    """Closed on purpose after a quiet time; the next speech reconnects."""

    name = "released"
    template = "connection {connection} released after {idle_min:.0f} quiet minutes"
    connection: int
    idle_min: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """There is no connection for a reason that a person must fix, here or at the service."""

    name = "refused"
    level = logging.ERROR
    template = "cannot connect: {cause}. {remedy}"
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaExhausted(Event):
    """The service says that a quota is used up."""

    name = "quota"
    level = logging.WARNING
    template = "quota exhausted (code {close_code}); next try in {retry_in_s:.0f} s"
    close_code: int
    retry_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleStored(Event):
    """A resumption handle is safe on disk. `handle` is a fingerprint, never the handle."""

    name = "handle_stored"
    level = logging.DEBUG
    template = "handle {handle} stored"
    handle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleDropped(Event):
    """A handle will not be used again."""

    name = "handle_dropped"
    level = logging.WARNING
    template = "handle {handle} dropped: {cause}"
    handle: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed(Event):
    """Speech that had not reached the service was sent again, exactly once."""

    name = "replayed"
    template = "{utterances:# utterance}, {audio_ms:.0f} ms, replayed"
    connection: int
    utterances: int
    audio_ms: float
    way: str  # utterance, index


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechLost(Event):
    """Speech was too old to be replayed; the user is told by light and sound."""

    name = "speech_lost"
    level = logging.WARNING
    template = "{speech_ms:.0f} ms of speech dropped: {cause}"
    utterance: int
    speech_ms: float
    age_s: float
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructed(Event):
    """The system instruction changed; `how`: now, context_update, on_resume."""

    name = "instructed"
    template = "system instruction changed ({how})"
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten(Event):
    """Handle, transcript journal and what depends on them were deleted."""

    name = "forgotten"
    template = "forgotten: {what}"
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadFrame(Event):
    """The server sent something that cannot be used; the session goes on."""

    name = "bad_frame"
    level = logging.WARNING
    template = "unusable message from the service: {problem} ({count} so far)"
    problem: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFrame(Event):
    """The service sent a kind of message that this version does not know; told once for each."""

    name = "unknown_frame"
    template = "the service sent a kind of message that agentd does not know: {kind}"
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMoved(Event):
    """The session's state machine moved (agentd.live.machine)."""

    name = "session_state"
    level = logging.DEBUG
    template = "session: {before} → {after} ({move})"
    before: str
    move: str
    after: str


# network


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged(Event):
    """The network path changed: default route, its interface or our address on it."""

    name = "link_changed"
    template = "network: {interface} (online: {online})"
    interface: str  # empty when there is none
    online: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUnwatched(Event):
    """Network changes cannot be followed; dead connections are found by their silence alone."""

    name = "link_unwatched"
    level = logging.WARNING
    template = "network changes cannot be followed: {cause}"
    cause: str


# sound


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureLost(Event):
    """No frames come from the microphone."""

    name = "capture_lost"
    level = logging.ERROR
    template = "microphone {device} lost: {cause}. {remedy}"
    device: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureBack(Event):
    """Frames come again: for the first time, after an outage, or after a mute."""

    name = "capture_back"
    template = "microphone {device} delivers frames"
    device: str
    outage_s: float  # 0 at the start and after a mute


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSilent(Event):
    """Samples come from the microphone, but no sound: all of them are the same.

    A notice, not the loss of the microphone: some have a noise gate.
    """

    name = "capture_silent"
    level = logging.WARNING
    template = "microphone {device}: {cause}, for {silent_s:.0f} s now. {remedy}"
    device: str
    cause: str
    silent_s: float
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHeard(Event):
    """Sound comes from the microphone after `capture_silent`."""

    name = "capture_heard"
    template = "microphone {device} has sound"
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackLost(Event):
    """The speaker does not take samples."""

    name = "playback_lost"
    level = logging.ERROR
    template = "speaker {device} lost: {cause}. {remedy}"
    device: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackBack(Event):
    """The speaker takes samples again (or for the first time)."""

    name = "playback_back"
    template = "speaker {device} takes samples"
    device: str
    outage_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesLost(Event):
    """The capture device or the event loop was too slow; sound is missing."""

    name = "frames_lost"
    level = logging.WARNING
    template = "{frames} microphone frames lost ({cause})"
    frames: int
    cause: str  # overrun, loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Underrun(Event):
    """The speaker ran dry in the middle of a reply."""

    name = "underrun"
    level = logging.DEBUG
    template = "speaker ran dry in turn {turn} ({gap_ms:.0f} ms)"
    turn: int
    gap_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWedged(Event):
    """A sound stream could not be closed; its thread was abandoned (PortAudio #1037).

    Sound goes on over a new stream. A restart at a quiet moment gets the thread back.
    """

    name = "stream_wedged"
    level = logging.ERROR
    template = "stream of {device} does not close; {abandoned} abandoned so far"
    device: str
    abandoned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoHandled(Event):
    """It is decided how the device is kept from hearing itself."""

    name = "echo"
    template = "echo: {by} ({cause})"
    by: str  # canceller, half duplex, none needed
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoUncancelled(Event):
    """The echo canceller that the configuration asks for is missing; half duplex instead."""

    name = "echo_uncancelled"
    level = logging.WARNING
    template = "no echo canceller ({cause}): speech cannot interrupt a reply. {remedy}"
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorMissing(Event):
    """The voice detector that the configuration asks for is missing; another one listens."""

    name = "detector_missing"
    level = logging.WARNING
    template = "{detector} listens: {cause}. {remedy}"
    detector: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOverflow(Event):
    """A reply is longer than the playback buffer will ever hold; the rest of it is dropped."""

    name = "reply_overflow"
    level = logging.ERROR
    template = "turn {turn}: more than {buffered_s:.0f} s of unheard reply, the rest is dropped"
    turn: int
    buffered_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyUnplayable(Event):
    """The service sent sound of a type that is not played; once a turn."""

    name = "reply_unplayable"
    level = logging.WARNING
    template = "turn {turn}: the service sent {cause}, which agentd does not play"
    turn: int  # 0: it was not asked for
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Muted(Event):
    """Capture is closed; nothing is heard."""

    name = "muted"
    template = "muted by {by}"
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmuted(Event):
    """Capture is open again."""

    name = "unmuted"
    template = "unmuted by {by}"
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeChanged(Event):
    """The volume was set."""

    name = "volume"
    template = "volume {percent} %"
    percent: int
    by: str


# control socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Commanded(Event):
    """Somebody changed something through the control socket."""

    name = "command"
    template = "{method} by uid {uid} (pid {pid})"
    method: str
    uid: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefused(Event):
    """Somebody without permission knocked at the control socket."""

    name = "command_refused"
    level = logging.WARNING
    template = "control refused to uid {uid} (pid {pid}): {cause}"
    uid: int
    pid: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlUnavailable(Event):
    """The control socket cannot be opened; agentd runs on without commands."""

    name = "control_unavailable"
    level = logging.ERROR
    template = "no control socket: {cause}. {remedy}"
    cause: str
    remedy: str


# device


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """The derived device state moved; for `status --watch` and debugging."""

    name = "state"
    level = logging.DEBUG
    template = "{before} → {after}"
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpioUnavailable(Event):
    """A configured light or button cannot be driven; agentd goes on without it."""

    name = "gpio_unavailable"
    level = logging.ERROR
    template = "gpio {part}: {cause}. {remedy}"
    part: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonUsed(Event):
    """Somebody pressed the button; `action` is what it was taken for."""

    name = "button"
    template = "button {gesture}: {action}"
    gesture: str  # tap, double_tap, hold, press, release
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerSet(Event):
    """A timer or alarm was set; what it is for stays out of the log."""

    name = "timer_set"
    template = "{kind} {number} set, rings in {in_s:.0f} s"
    kind: str  # timer, alarm
    number: int
    in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerCancelled(Event):
    """A timer or alarm will not ring."""

    name = "timer_cancelled"
    template = "{kind} {number} cancelled"
    kind: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerMissed(Event):
    """A timer or alarm came due while the device was off; it is too late to ring."""

    name = "timer_missed"
    level = logging.WARNING
    template = "{kind} {number} was due {late_s:.0f} s ago, while the device was off"
    kind: str
    number: int
    late_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ringing(Event):
    """A timer or alarm rings."""

    name = "ringing"
    template = "{kind} {number} rings"
    kind: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RingEnded(Event):
    """Nothing rings any more."""

    name = "ring_ended"
    template = "the ringing was ended by {by}"
    by: str  # button, voice, control, itself


def event_types() -> tuple[type[Event], ...]:
    """Return every event that agentd can emit, by name."""
    # dataclass(slots=True) makes each class twice; the later one, which is in use, wins.
    return tuple({child.name: child for child in Event.__subclasses__()}.values())
