"""The conversation on one connection: user turns in, answers out.

::

             user turn              first frame             last frame        played out
    IDLE ──────────────► THINKING ──────────────► SPEAKING ───────────► PLAYBACK ────────► IDLE
      ▲                      │  ▲                    ▲                      │
      │                      ▼  │ responses          │ next part            │
      │                     TOOLS────────────────────┴──────────────────────┘
      └──────────── interruption, from any phase but IDLE

No I/O: frames go to a :class:`Port`, everything timed goes into the agenda.
"""

from __future__ import annotations

import json
import wave
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Protocol

from agentd.emulator.audio import tone
from agentd.emulator.clock import Agenda
from agentd.emulator.effects import Utterance
from agentd.emulator.models import VIDEO_TOKENS_PER_FRAME, Backend
from agentd.emulator.options import EmulatorOptions
from agentd.emulator.reasons import BAD_ROLE, INVALID_ARGUMENT, NOT_IMPLEMENTED
from agentd.emulator.replies import (
    Reply,
    ReplyPart,
    Timed,
    UserTurn,
    audio_part,
    compose,
    input_transcription,
    plan_part,
)
from agentd.emulator.sessions import (
    HistoryTurn,
    OpenUtterance,
    Session,
    audio_tokens,
    compress,
    text_tokens,
)
from agentd.emulator.setup import Setup
from agentd.emulator.usage import usage_metadata
from agentd.emulator.wire import (
    JsonObject,
    WireError,
    as_list,
    as_object,
    server_content,
)

REPLY = "reply"
"""The agenda group of everything that belongs to the answer under way."""


class Phase(Enum):
    """What the model is doing."""

    IDLE = "idle"
    THINKING = "thinking"
    TOOLS = "tools"
    SPEAKING = "speaking"
    PLAYBACK = "playback"


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.THINKING}),
    Phase.THINKING: frozenset({Phase.TOOLS, Phase.SPEAKING, Phase.IDLE}),
    Phase.TOOLS: frozenset({Phase.SPEAKING, Phase.IDLE}),
    Phase.SPEAKING: frozenset({Phase.PLAYBACK, Phase.IDLE}),
    Phase.PLAYBACK: frozenset({Phase.SPEAKING, Phase.IDLE}),
}


class Port(Protocol):
    """What a turn engine needs from its connection."""

    def emit(self, message: JsonObject) -> None:
        """Send a message to the client."""

    def note(self, kind: str, **detail: Any) -> None:
        """Put something on record."""

    def heard(self, utterance: Utterance) -> None:
        """Hand over the audio of an utterance."""

    def moment(self, kind: str, now: float) -> None:
        """Report a moment that faults may wait for."""

    def position(self, kind: str, position_s: float, now: float) -> None:
        """Report a position within an utterance or a reply."""

    def resumable(self) -> None:
        """Tell the client a new handle."""

    def not_resumable(self) -> None:
        """Tell the client that it cannot resume at this point."""

    @property
    def closed(self) -> bool:
        """Tell whether a fault just ended the connection."""
        ...


@dataclass(slots=True)
class PendingCall:
    """A function call the client has not answered yet."""

    name: str
    blocking: bool
    say_after: str = ""


class TurnEngine:
    """One connection's turns.  ``now`` is service seconds throughout."""

    def __init__(
        self,
        number: int,
        *,
        setup: Setup,
        session: Session,
        options: EmulatorOptions,
        agenda: Agenda,
        port: Port,
        resumed: bool,
    ) -> None:
        self._number = number
        self.setup = setup
        self.functions = dict(setup.functions)
        self.session = session
        self._options = options
        self._agenda = agenda
        self._port = port
        self._resumed = resumed
        self._restored = session.partial is not None
        self._phase = Phase.IDLE
        self._seeded = False
        self._typed: list[str] = []
        self._video_frames = 0
        self._stray = False
        self._calls: dict[str, PendingCall] = {}
        self._call_count = 0
        self._queue: deque[UserTurn | Reply] = deque(maxlen=64)
        self._reply = Reply()
        self._parts: deque[ReplyPart] = deque()
        self._part = ReplyPart()
        self._frames: Iterator[Timed] = iter(())
        self._started_s = 0.0
        self._sent_s = 0.0
        self._sent_before_s = 0.0
        self._context = (0, 0, 0)
        self.late_chunks = 0
        """Fault: how many chunks follow the next ``interrupted``."""

    # -- state ------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Return what the model is doing."""
        return self._phase

    @property
    def listening(self) -> bool:
        """Tell whether an utterance is open."""
        return self.session.partial is not None

    def _move(self, phase: Phase) -> None:
        if phase not in MOVES[self._phase]:
            raise RuntimeError(f"no move from {self._phase.value} to {phase.value}")
        self._phase = phase

    # -- the user speaks --------------------------------------------------------------------

    def activity_start(self, now: float) -> None:
        """Open an utterance; by default it interrupts the answer under way."""
        if self.session.partial is not None:
            if not self._restored:
                self._port.note("ignored", why="activityStart inside an activity")
                return
            self._port.note("partial_discarded", seconds=self.session.partial.seconds)
        self._restored = False
        self.session.partial = OpenUtterance(self.session.user_turns + 1, now)
        self._port.moment("activityStart", now)
        if not self._port.closed and self.setup.activity.interrupts:
            self.interrupt(now)

    def audio(self, pcm: bytes, rate_hz: int, now: float) -> None:
        """Add audio to the open utterance; outside of one it is dropped and counted."""
        utterance = self.session.partial
        if self._phase is Phase.TOOLS and self._refuses_audio():
            raise WireError(1008, NOT_IMPLEMENTED)
        if utterance is None:
            if not self._stray:
                self._port.note("ignored", why="audio outside an activity")
            self._stray = True
            return
        self._restored = self._stray = False
        if not utterance.pcm:
            utterance.rate_hz = rate_hz
            self._port.moment("audio", now)
        if not self._port.closed:
            utterance.pcm += pcm
            self._port.position("audio", utterance.seconds, now)

    def _refuses_audio(self) -> bool:
        return (
            self._options.audio_during_tool_call == "close_1008"
            or self.setup.model.close_on_audio_during_tool_call
        )

    def activity_end(self, now: float, *, explicit: bool = True) -> None:
        """Close the utterance and answer it."""
        utterance = self.session.partial
        if utterance is None:
            self._port.note("ignored", why="activityEnd outside an activity")
            return
        self._hand_over(utterance, now, complete=True, explicit=explicit)
        self.session.partial = None
        self._restored = False
        self._port.moment("activityEnd", now)
        if not self._port.closed:
            turn = UserTurn(0, bytes(utterance.pcm), utterance.rate_hz, utterance.text)
            self._take(turn, now)

    def abandon(self, now: float) -> None:
        """Put an utterance cut short by the connection's end on record."""
        if self.session.partial is not None:
            explicit = not self.setup.activity.automatic
            self._hand_over(self.session.partial, now, complete=False, explicit=explicit)

    def _hand_over(
        self, utterance: OpenUtterance, now: float, *, complete: bool, explicit: bool
    ) -> None:
        self._port.heard(
            Utterance(
                self.session.id,
                self._number,
                utterance.number,
                bytes(utterance.pcm),
                utterance.rate_hz,
                complete,
                explicit,
                utterance.started_s,
                now,
                utterance.text,
            )
        )

    def text(self, text: str, now: float) -> None:
        """Take ``realtimeInput.text``: part of an open utterance, or a turn of its own."""
        if self.session.partial is not None:
            self.session.partial.text += text
            return
        self._port.moment("text", now)
        if self._port.closed:
            return
        if self.setup.activity.interrupts:
            self.interrupt(now)
        self._take(UserTurn(0, text=text), now)

    def video(self) -> None:
        """Count a video frame towards the next user turn."""
        self._video_frames += 1

    def _take(self, turn: UserTurn, now: float) -> None:
        """Answer a user turn now, or after the answer under way."""
        if self._phase is Phase.IDLE:
            self._answer(turn, now)
        else:
            self._queue.append(turn)

    # -- the user types, seeds history, updates the system instruction ----------------------

    def client_content(self, body: JsonObject, now: float) -> None:
        """Apply ``clientContent``.

        Raises:
            WireError: the model or the backend refuses it.
        """
        turns = [as_object(turn) for turn in as_list(body.get("turns"))]
        complete = body.get("turnComplete") is True
        seeding = self.setup.seed_history and not self._seeded
        if seeding and self._resumed:
            raise WireError(1007, INVALID_ARGUMENT)
        if not seeding and self.setup.model.client_content.value == "seed_only":
            raise WireError(1007, INVALID_ARGUMENT)
        spoken = [turn for turn in turns if turn.get("role") != "system"]
        if not seeding and (spoken or complete):
            self.interrupt(now)
        for turn in turns:
            self._apply_content(turn, seeding=seeding)
        if seeding:
            self._seeded = complete
            self._fit()
        elif complete:
            self._port.moment("text", now)
            if not self._port.closed:
                self._take(UserTurn(0, text="\n".join(self._typed)), now)
                self._typed.clear()
        elif spoken:
            self._fit()

    def _apply_content(self, turn: JsonObject, *, seeding: bool) -> None:
        role = turn.get("role", "user")
        texts = [
            part["text"]
            for part in as_list(turn.get("parts"))
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        ]
        text = "\n".join(texts)
        if role == "system" and self.setup.backend is Backend.VERTEX:
            self.session.system_instruction = text
            self._port.note("system_instruction", tokens=text_tokens(text))
            return
        if role not in ("user", "model"):
            raise WireError(1007, BAD_ROLE)
        if role == "user" and not seeding:
            self._typed.append(text)
        self._remember(HistoryTurn(role, text, text_tokens=text_tokens(text)))

    # -- the model answers ------------------------------------------------------------------

    def _remember(self, turn: HistoryTurn) -> None:
        self.session.history += (turn,)

    def _fit(self) -> None:
        """Compress the context window, or fail as the service does when it overflows."""
        session = self.session
        total = session.context_tokens
        wanted = self.setup.compression
        if wanted is not None:
            system = text_tokens(session.system_instruction)
            session.history = compress(
                session.history, system, wanted.trigger_tokens, wanted.target_tokens
            )
            after = session.context_tokens
            if after != total:
                session.compressions += 1
                self._port.note("compressed", before_tokens=total, after_tokens=after)
            total = after
        if total > self.setup.model.window_tokens:
            self._port.note("context_exhausted", tokens=total)
            raise WireError(1007, INVALID_ARGUMENT)

    def _answer(self, turn: UserTurn, now: float) -> None:
        session = self.session
        session.user_turns += 1
        turn = UserTurn(session.user_turns, turn.pcm, turn.rate_hz, turn.text)
        script = self._options.scenario.turn_for(turn.number - 1, turn.seconds or None)
        try:
            reply = compose(turn, script, self._options)
        except (OSError, ValueError, EOFError, wave.Error) as exc:
            self._port.note("scenario_error", error=str(exc))
            reply = Reply(parts=(ReplyPart(),))
        typed = bool(self._typed)
        self._remember(
            HistoryTurn(
                "user",
                "" if typed else reply.heard,
                audio_tokens(turn.seconds),
                0 if typed or turn.pcm else text_tokens(turn.text),
                self._video_frames * VIDEO_TOKENS_PER_FRAME,
            )
        )
        self._video_frames = 0
        self._fit()
        if turn.pcm:
            for message in input_transcription(self.setup, reply.heard):
                self._port.emit(message)
        self._begin(reply, now)

    def _begin(self, reply: Reply, now: float) -> None:
        self._reply = reply
        self._parts = deque(reply.parts)
        self._part = ReplyPart()
        self._sent_s = self._sent_before_s = 0.0
        self._context = (
            sum(t.audio_tokens for t in self.session.history),
            sum(t.video_tokens for t in self.session.history),
            self.session.context_tokens,
        )
        self._move(Phase.THINKING)
        self._port.not_resumable()
        self._agenda.at(now + reply.latency_s, REPLY, self._first_frame)

    def _first_frame(self, now: float) -> None:
        if self._reply.silent:
            self._finish(now)
            return
        if not self._reply.calls:
            self._speak(now)
            return
        calls = []
        for scripted in self._reply.calls:
            self._call_count += 1
            call_id = f"{self.setup.model.tool_id_prefix}{self._number * 10**9 + self._call_count}"
            spec = self.functions.get(scripted.name)
            blocking = spec.blocking if spec else not self.setup.model.non_blocking_default
            self._calls[call_id] = PendingCall(scripted.name, blocking, self._reply.say_after)
            calls.append({"id": call_id, "name": scripted.name, "args": dict(scripted.args)})
        self._port.emit({"toolCall": {"functionCalls": calls}})
        blocks = any(call.blocking for call in self._calls.values())
        if blocks:
            self._move(Phase.TOOLS)
        self._port.moment("toolCall", now)
        if not blocks and not self._port.closed:
            self._speak(now)

    def _speak(self, now: float) -> None:
        self._move(Phase.SPEAKING)
        self._part = self._parts.popleft() if self._parts else ReplyPart()
        self._sent_before_s += self._sent_s
        self._sent_s = 0.0
        self._started_s = now
        thought = self._reply.thought if not self._sent_before_s else ""
        self._frames = plan_part(self._part, thought, self.setup, self._options)
        if not self._sent_before_s:
            self._port.moment("reply", now)
        if not self._port.closed:
            self._next_frame(now)

    def _next_frame(self, now: float) -> None:
        """Send what is due of the plan, then wait for the rest."""
        for frame in self._frames:
            due_s = self._started_s + frame.offset_s
            if due_s > now:
                self._agenda.at(due_s, REPLY, partial(self._send_on, frame))
                return
            self._send(frame, now)
            if self._port.closed:
                return
        self._agenda.at(now, REPLY, self._generated)

    def _send_on(self, frame: Timed, now: float) -> None:
        self._send(frame, now)
        if not self._port.closed:
            self._next_frame(now)

    def _send(self, frame: Timed, now: float) -> None:
        self._port.emit(frame.message)
        if frame.audio_s:
            self._sent_s = frame.audio_s
            self._port.position("reply", self._sent_before_s + self._sent_s, now)

    def _generated(self, now: float) -> None:
        last = not self._parts
        self._move(Phase.PLAYBACK)
        if last:
            self._port.emit(server_content(generationComplete=True))
            self._port.moment("generationComplete", now)
            if self._port.closed:
                return
        played_s = self._started_s + self._sent_s * self._options.playback_hold
        self._agenda.at(max(now, played_s), REPLY, self._played if last else self._part_played)

    def _part_played(self, now: float) -> None:
        self._remember_reply(self._part.text)
        self._port.emit(server_content(turnComplete=True, interactionStatus="IN_PROGRESS"))
        self._speak(now)

    def _played(self, now: float) -> None:
        self._remember_reply(self._part.text)
        fields: JsonObject = {"turnComplete": True}
        if self.setup.model.interaction_status or len(self._reply.parts) > 1:
            fields["interactionStatus"] = "IDLE"
        if self._reply.need_more_input:
            fields["turnCompleteReason"] = "NEED_MORE_INPUT"
        if self._reply.grounding is not None or self.setup.backend is Backend.VERTEX:
            fields["groundingMetadata"] = dict(self._reply.grounding or {})
        self._port.emit(server_content(**fields) | self._usage())
        self._finish(now)

    def _remember_reply(self, text: str) -> None:
        spoken = audio_tokens(self._sent_s)
        words = text_tokens(text) if self.setup.text_reply else 0
        self._remember(HistoryTurn("model", text, spoken, words))

    def _usage(self) -> JsonObject:
        audio, video, total = self._context
        said = audio_tokens(self._sent_before_s + self._sent_s)
        words = 0
        if self.setup.text_reply:
            words = sum(text_tokens(part.text) for part in self._reply.parts)
        return usage_metadata(
            self.setup.backend,
            prompt_audio=audio,
            prompt_video=video,
            prompt_text=total - audio - video,
            response_audio=said,
            response_text=words,
        )

    def _finish(self, now: float) -> None:
        """Return to idle, tell the new handle, go on with what waited."""
        silent = self._reply.silent
        self._move(Phase.IDLE)
        self._fit()
        self._port.resumable()
        if not silent:
            self._port.moment("turnComplete", now)
        if self._port.closed or not self._queue:
            return
        waiting = self._queue.popleft()
        if isinstance(waiting, UserTurn):
            self._answer(waiting, now)
        else:
            self._begin(waiting, now)

    # -- interruption -----------------------------------------------------------------------

    def interrupt(self, now: float) -> None:
        """Break the answer off: only what was sent stays in history."""
        if self._phase is Phase.IDLE:
            self._cancel_calls()
            return
        self._agenda.cancel(REPLY)
        self._cancel_calls()
        self._port.emit(server_content(interrupted=True))
        for _ in range(self.late_chunks):
            self._port.emit(audio_part(self.setup, tone(self._options.chunk_ms / 1000)))
        self.late_chunks = 0
        if self._sent_s:
            share = self._sent_s / max(len(self._part.pcm) / 48_000, 1e-9)
            self._remember_reply(self._part.text[: round(len(self._part.text) * share)])
        self._port.emit(server_content(turnComplete=True) | self._usage())
        self._move(Phase.IDLE)
        self._port.moment("interrupted", now)
        if not self._port.closed:
            self._port.resumable()

    def _cancel_calls(self) -> None:
        """Drop the calls that an interruption cancels: all blocking ones."""
        ids = [call_id for call_id, call in self._calls.items() if call.blocking]
        for call_id in ids:
            del self._calls[call_id]
        if ids:
            self._port.emit({"toolCallCancellation": {"ids": ids}})

    # -- tools ------------------------------------------------------------------------------

    def tool_response(self, body: JsonObject, now: float) -> None:
        """Take function responses; blocking ones let the answer go on.

        Raises:
            WireError: no id on the Developer API, or an unknown one where that closes.
        """
        for item in as_list(body.get("functionResponses")):
            self._one_response(as_object(item), now)
        self._port.moment("toolResponse", now)
        waits = any(call.blocking for call in self._calls.values())
        if self._phase is Phase.TOOLS and not waits and not self._port.closed:
            self._agenda.at(now + self._reply.latency_s, REPLY, self._speak)

    def _one_response(self, response: JsonObject, now: float) -> None:
        call_id = response.get("id")
        if not call_id and self.setup.backend is Backend.DEVELOPER:
            raise WireError(1007, INVALID_ARGUMENT)
        if not call_id:
            named = (k for k, c in self._calls.items() if c.name == response.get("name"))
            call_id = next(named, None)
        call = self._calls.get(str(call_id))
        if call is None:
            self._port.note("unknown_tool_response", id=str(call_id))
            if self._options.unknown_tool_response == "close_1008":
                raise WireError(1008, NOT_IMPLEMENTED)
            return
        result = json.dumps(response.get("response", {}), ensure_ascii=False)
        if response.get("willContinue") is not True:
            del self._calls[str(call_id)]
        self._remember(HistoryTurn("user", "", text_tokens=text_tokens(result)))
        if not call.blocking:
            self._deliver(call, result, str(response.get("scheduling") or "WHEN_IDLE"), now)

    def _deliver(self, call: PendingCall, result: str, scheduling: str, now: float) -> None:
        """Speak about the result of a NON_BLOCKING call, when its scheduling says so."""
        if scheduling == "SILENT":
            return
        said = call.say_after or f"{call.name}: {result}"
        reply = Reply(
            parts=(ReplyPart(tone(self._options.tone_s), said),),
            latency_s=self._options.latency_s,
        )
        if scheduling == "INTERRUPT":
            self.interrupt(now)
        if self._phase is Phase.IDLE and not self._port.closed:
            self._begin(reply, now)
        else:
            self._queue.append(reply)
