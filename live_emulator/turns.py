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
from dataclasses import replace
from enum import Enum
from functools import partial

from live_emulator.audio import tone
from live_emulator.calls import Calls, PendingCall, UnknownCall
from live_emulator.clock import Agenda
from live_emulator.ear import Ear
from live_emulator.models import VIDEO_TOKENS_PER_FRAME, Backend, ClientContentRule, SchedulingRule
from live_emulator.options import EmulatorOptions
from live_emulator.port import Port
from live_emulator.reasons import (
    BAD_ROLE,
    INVALID_ARGUMENT,
    NOT_IMPLEMENTED,
    SCHEDULING_UNSUPPORTED,
)
from live_emulator.replies import (
    Reply,
    ReplyPart,
    Timed,
    UserTurn,
    audio_part,
    compose,
    heard_text,
    input_transcription,
    plan_part,
)
from live_emulator.sessions import (
    HistoryTurn,
    OpenUtterance,
    Session,
    Snapshot,
    audio_tokens,
    compress,
    text_tokens,
)
from live_emulator.setup import Setup
from live_emulator.usage import usage_metadata
from live_emulator.wire import (
    JsonObject,
    WireError,
    as_bool,
    as_enum,
    as_list,
    as_object,
    audio_rate_hz,
    content_text,
    decode_base64,
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


_SCHEDULING = ("SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT")


def _media_tokens(turn: JsonObject) -> tuple[int, int]:
    """Count the tokens of inline audio and inline images in a ``Content``."""
    audio = images = 0
    for part in as_list(turn.get("parts")):
        blob = as_object(part).get("inlineData")
        if blob is None:
            continue
        mime_type = str(as_object(blob).get("mimeType", ""))
        data = decode_base64(as_object(blob).get("data", ""))
        if mime_type.startswith("audio/"):
            audio += audio_tokens(len(data) / 2 / audio_rate_hz(mime_type))
        elif mime_type.startswith(("image/", "video/")):
            images += VIDEO_TOKENS_PER_FRAME
    return audio, images


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
            interim=self._interim,
        )
        self._interim_s = 0
        self._waiting: Reply | None = None
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
    def settled(self) -> bool:
        """Return whether the model neither speaks nor waits for a function."""
        return self._phase is Phase.IDLE and self._waiting is None

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
        if self.setup.model.audio_only_input:
            raise WireError(1007, INVALID_ARGUMENT)
        turns = [as_object(turn) for turn in as_list(body.get("turns"))]
        complete = as_bool(body.get("turnComplete"), "client_content.turn_complete")
        seeding = self.setup.seed_history and not self._seeded
        if seeding and self._resumed:
            raise WireError(1007, INVALID_ARGUMENT)
        rule = self.setup.model.client_content
        if not seeding and rule is ClientContentRule.SEED_ONLY:
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
                self._take(UserTurn(0, text="\n".join(self._typed), remembered=True), now)
                self._typed.clear()

    def _take_history(self, now: float, *, seeded: bool) -> None:
        self._port.moment("history", now)
        self._seeded = self._seeded or seeded
        if not self._port.closed:
            self._fit()

    def _apply_content(self, turn: JsonObject, *, seeding: bool) -> None:
        role = turn.get("role", "user")
        text = content_text(turn, "client_content.turns")
        audio, images = _media_tokens(turn)
        if role == "system" and self.setup.backend is Backend.VERTEX:
            self.session.system_instruction = text
            self._port.note("system_instruction", tokens=text_tokens(text))
            return
        if role not in ("user", "model"):
            raise WireError(1007, BAD_ROLE)
        if role == "user" and not seeding:
            self._typed.append(text)
        self._remember(HistoryTurn(role, text, audio, text_tokens(text), images))

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
        settled = session.snapshot(with_partial=False)
        session.user_turns += 1
        turn = replace(turn, number=session.user_turns)
        script = self._options.scenario.turn_for(turn.number - 1, turn.seconds or None)
        try:
            reply = compose(turn, script, self._options)
        except (OSError, ValueError, EOFError, wave.Error) as exc:
            self._port.note("scenario_error", error=str(exc))
            reply = Reply(parts=(ReplyPart(),))
        self._remember_user(turn, reply.heard)
        self._fit()
        if turn.pcm:
            for message in input_transcription(self.setup, reply.heard):
                self._port.emit(message)
        if self.setup.model.answers:
            self._begin(reply, now, settled)
        else:
            self._transcribed(reply.heard)

    def _remember_user(self, turn: UserTurn, heard: str) -> None:
        """Put a user turn into the history, once; video belongs to the next spoken one."""
        seen = turn.pcm or self.setup.model.typed_turn_sees_video
        video = self._video_frames * VIDEO_TOKENS_PER_FRAME if seen else 0
        if seen:
            self._video_frames = 0
        if turn.remembered and not video:
            return
        words = 0 if turn.pcm or turn.remembered else text_tokens(turn.text)
        said = "" if turn.remembered else heard
        self._remember(HistoryTurn("user", said, audio_tokens(turn.seconds), words, video))

    def _transcribed(self, heard: str) -> None:
        """End the utterance of a model that only transcribes: nothing follows silence."""
        if heard:
            self._port.emit(server_content(generationComplete=True))
        self._port.resumable()

    def _interim(self, utterance: OpenUtterance) -> None:
        """Send what an utterance under way says so far, once a second of its audio."""
        before = int((len(utterance.pcm) - 1) / (2 * utterance.rate_hz)) if utterance.pcm else 0
        if self.setup.model.interim_transcription and before > self._interim_s:
            script = self._options.scenario.turn_for(utterance.number - 1, None)
            turn = UserTurn(utterance.number, bytes(utterance.pcm), utterance.rate_hz)
            words = heard_text(turn, script, tuple(self._options.transcripts)).split(" ")
            text = " ".join(words[: max(1, 2 * before)])
            self._port.emit(server_content(interimInputTranscription={"text": text}))
        self._interim_s = before

    def _begin(self, reply: Reply, now: float, settled: Snapshot | None = None) -> None:
        reply, spoken = self.calls.spoken(reply)
        if spoken:
            self._port.note("calls_spoken", names=spoken)
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
        self._port.busy(settled or self.session.snapshot(with_partial=False))
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
        ends = blocks and self.setup.model.call_ends_turn
        if blocks and not ends:
            self._move(Phase.TOOLS)
        self._port.moment("toolCall", now)
        if self._port.closed:
            return
        if ends:
            self._end_call_turn(now)
        elif not blocks:
            # The service talks on, but not in the same instant (recordings of Aug 2026).
            self._agenda.at(now + self._options.latency_s, REPLY, self._speak)

    def _end_call_turn(self, now: float) -> None:
        """Close the turn of a call before its answer; the answer has a turn of its own."""
        self._waiting = self._reply
        if self.setup.output_transcription:
            self._port.emit(server_content(outputTranscription={"finished": True}))
        self._port.emit(server_content(generationComplete=True))
        self._port.emit(server_content(turnComplete=True) | self._usage())
        self._move(Phase.IDLE)
        self._port.moment("turnComplete", now)

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
        self._waiting = None
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
        elif self._waiting is not None and not self.calls.blocking and not self._port.closed:
            answer, self._waiting = replace(self._waiting, heard="", calls=()), None
            self._say(answer, now)

    def _close_empty(self, now: float) -> None:
        """Close the turn of a function call, as recorded on Vertex AI; the answer is the next."""
        self._port.emit(server_content(outputTranscription={"finished": True}))
        self._port.emit(server_content(generationComplete=True))
        self._port.emit(server_content(turnComplete=True))
        self._port.moment("turnComplete", now)

    def _one_response(self, response: JsonObject, now: float) -> None:
        scheduling = self._scheduling(response)
        try:
            call = self.calls.take(response)
        except UnknownCall as error:
            self._port.note("unknown_tool_response", id=error.call_id)
            if self._options.unknown_tool_response == "close_1008":
                raise WireError(1008, NOT_IMPLEMENTED) from None
            return
        result = json.dumps(response.get("response", {}), ensure_ascii=False)
        self._remember(HistoryTurn("function", "", text_tokens=text_tokens(result)))
        if not call.blocking:
            self._deliver(call, result, scheduling, now)

    def _scheduling(self, response: JsonObject) -> str:
        """Read when the result is to be spoken about, as far as the model heeds it."""
        rule = self.setup.model.scheduling
        if "scheduling" in response and rule is SchedulingRule.REFUSED:
            raise WireError(1007, SCHEDULING_UNSUPPORTED)
        where = "tool_response.function_responses.scheduling"
        wanted = as_enum(
            response.get("scheduling"), _SCHEDULING, where, "FunctionResponse.Scheduling"
        )
        honoured = rule is SchedulingRule.HONOURED and wanted != _SCHEDULING[0]
        return wanted if honoured else "WHEN_IDLE"

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
        self._say(reply, now)

    def _say(self, reply: Reply, now: float) -> None:
        """Say something now, or after the answer under way."""
        if self._phase is Phase.IDLE and not self._port.closed:
            self._begin(reply, now)
        else:
            self._queue.append(reply)
