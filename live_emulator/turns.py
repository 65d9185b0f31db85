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
from enum import Enum
from functools import partial

from live_emulator.audio import tone
from live_emulator.calls import Calls, PendingCall, UnknownCall
from live_emulator.clock import Agenda
from live_emulator.ear import Ear
from live_emulator.models import VIDEO_TOKENS_PER_FRAME, Backend
from live_emulator.options import EmulatorOptions
from live_emulator.port import Port
from live_emulator.reasons import BAD_ROLE, INVALID_ARGUMENT, NOT_IMPLEMENTED
from live_emulator.replies import (
    Reply,
    ReplyPart,
    Timed,
    UserTurn,
    audio_part,
    compose,
    input_transcription,
    plan_part,
)
from live_emulator.sessions import HistoryTurn, Session, audio_tokens, compress, text_tokens
from live_emulator.setup import Setup
from live_emulator.usage import usage_metadata
from live_emulator.wire import JsonObject, WireError, as_list, as_object, server_content

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
        self.setup = setup
        self.session = session
        self._options = options
        self._agenda = agenda
        self._port = port
        self._resumed = resumed
        self._phase = Phase.IDLE
        self._seeded = False
        self._typed: list[str] = []
        self._video_frames = 0
        self.calls = Calls(number, setup)
        self.ear = Ear(
            number,
            setup=setup,
            session=session,
            port=port,
            interrupt=self.interrupt,
            ask=self._take,
        )
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

    def _move(self, phase: Phase) -> None:
        if phase not in MOVES[self._phase]:
            raise RuntimeError(f"no move from {self._phase.value} to {phase.value}")
        self._phase = phase

    # -- the user speaks --------------------------------------------------------------------

    def audio(self, pcm: bytes, rate_hz: int, now: float) -> None:
        """Hear audio.

        Raises:
            WireError: the model takes none while it waits for a function response.
        """
        if self._phase is Phase.TOOLS and self._refuses_audio():
            raise WireError(1008, NOT_IMPLEMENTED)
        self.ear.audio(pcm, rate_hz, now)

    def _refuses_audio(self) -> bool:
        return (
            self._options.audio_during_tool_call == "close_1008"
            or self.setup.model.close_on_audio_during_tool_call
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
        if seeding or (spoken and not complete):
            self._take_history(now, seeded=seeding and complete)
        elif complete:
            self._port.moment("text", now)
            if not self._port.closed:
                self._take(UserTurn(0, text="\n".join(self._typed)), now)
                self._typed.clear()

    def _take_history(self, now: float, *, seeded: bool) -> None:
        self._port.moment("history", now)
        self._seeded = self._seeded or seeded
        if not self._port.closed:
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
        self._port.emit({"toolCall": {"functionCalls": self.calls.begin(self._reply)}})
        blocks = self.calls.blocking
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
        if self._reply.idle_after_s is not None:
            fields["interactionStatus"] = "IN_PROGRESS"
        elif self.setup.model.interaction_status or len(self._reply.parts) > 1:
            fields["interactionStatus"] = "IDLE"
        if self._reply.turn_complete_reason:
            fields["turnCompleteReason"] = self._reply.turn_complete_reason
        if self._reply.grounding is not None or self.setup.backend is Backend.VERTEX:
            fields["groundingMetadata"] = dict(self._reply.grounding or {})
        self._port.emit(server_content(**fields) | self._usage())
        if self._reply.idle_after_s is None:
            self._finish(now)
        else:
            self._agenda.at(now + self._reply.idle_after_s, REPLY, self._idle)

    def _idle(self, now: float) -> None:
        """End background work: IDLE alone, as gemini-3.8-live-extended-thinking ends it."""
        self._port.emit(server_content(interactionStatus="IDLE"))
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
        if ids := self.calls.cancel():
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
        if self._phase is Phase.TOOLS and not self.calls.blocking and not self._port.closed:
            if self._reply.empty_turn:
                self._close_empty(now)
            self._agenda.at(now + self._reply.latency_s, REPLY, self._speak)

    def _close_empty(self, now: float) -> None:
        """Close the turn of a function call, as recorded on Vertex AI; the answer is the next."""
        self._port.emit(server_content(outputTranscription={"finished": True}))
        self._port.emit(server_content(generationComplete=True))
        self._port.emit(server_content(turnComplete=True))
        self._port.moment("turnComplete", now)

    def _one_response(self, response: JsonObject, now: float) -> None:
        try:
            call = self.calls.take(response)
        except UnknownCall as error:
            self._port.note("unknown_tool_response", id=error.call_id)
            if self._options.unknown_tool_response == "close_1008":
                raise WireError(1008, NOT_IMPLEMENTED) from None
            return
        result = json.dumps(response.get("response", {}), ensure_ascii=False)
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
