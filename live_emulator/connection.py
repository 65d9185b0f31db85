"""One WebSocket connection, sans I/O: frames and time in, effects out.

The shell calls :meth:`LiveConnection.receive` for each frame, :meth:`~LiveConnection.tick` at
each :meth:`~LiveConnection.deadline`, :meth:`~LiveConnection.disconnected` at the end, and
carries out what :meth:`~LiveConnection.take` returns, in order.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from live_emulator import reasons, wire
from live_emulator.activity import EnergyGate, SpeechAudio, SpeechEnded, SpeechStarted
from live_emulator.clock import Agenda
from live_emulator.effects import (
    Close,
    DropConnections,
    Effect,
    Freeze,
    Note,
    Reset,
    Send,
    Serverwide,
    Utterance,
)
from live_emulator.fault_frames import ODD_FRAMES
from live_emulator.faults import SERVER_ACTIONS, SETUP_ACTIONS, Fault
from live_emulator.handshake import Admission
from live_emulator.models import Backend
from live_emulator.opening import Opened, Service, check_credential, find_token, open_session
from live_emulator.sessions import Poison, Session, Snapshot
from live_emulator.setup import Setup, UnknownModel, read_functions, read_setup
from live_emulator.tokens import Token
from live_emulator.turns import TurnEngine
from live_emulator.wire import ClientMessage, JsonObject, WireError, as_list, as_object

_REALTIME_FIELDS = frozenset(
    {"audio", "video", "mediaChunks", "text", "activityStart", "activityEnd", "audioStreamEnd"}
)


def _check_realtime(setup: Setup, body: JsonObject) -> None:
    """Refuse what a ``realtimeInput`` of this setup must not hold."""
    for name in body:
        if name not in _REALTIME_FIELDS:
            raise WireError(1007, wire.unknown_name(name, "realtime_input"))
    if setup.activity.automatic and ("activityStart" in body or "activityEnd" in body):
        raise WireError(1007, reasons.EXPLICIT_ACTIVITY)
    if setup.model.audio_only_input and ("text" in body or "video" in body):
        raise WireError(1007, reasons.INVALID_ARGUMENT)


class LiveConnection:
    """The protocol of one connection.  ``now`` is service seconds throughout."""

    def __init__(self, number: int, admission: Admission, service: Service, now: float) -> None:
        self.number = number
        self.admission = admission
        self._service = service
        self._options = service.options
        self._store = service.store
        self._schedule = service.schedule
        self._opened_s = now
        self._agenda = Agenda()
        self._out: list[Effect] = []
        self._received = 0
        self._consumed = 0
        self._told = 0
        self._last_message_s = now
        self._gate: EnergyGate | None = None
        self._poisoned = Poison.NONE
        self.muted = False
        self.closed = False
        self.setup: Setup | None = None
        self.session: Session | None = None
        self.engine: TurnEngine | None = None
        self.ready = False

    # -- the shell's side -------------------------------------------------------------------

    def receive(self, frame: str | bytes, now: float) -> None:
        """Take one frame from the client."""
        if self.closed:
            return
        self._last_message_s = now
        index = self._received
        self._received += 1
        if self.muted:
            return
        try:
            message = wire.parse_client_frame(frame)
        except WireError as exc:
            self._close(exc.code, exc.reason)
            return
        lag = self._options.consume_lag_s
        if lag and message.kind != "setup":
            self._agenda.at(now + lag, "consume", partial(self._consume, message, index))
        else:
            self._consume(message, index, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        try:
            self._agenda.run_due(now)
        except WireError as exc:
            self._close(exc.code, exc.reason)

    def deadline(self) -> float | None:
        """Return when :meth:`tick` is due next."""
        return None if self.closed else self._agenda.deadline()

    def take(self) -> list[Effect]:
        """Return the effects since the last call."""
        out, self._out = self._out, []
        return out

    def disconnected(self, now: float) -> None:
        """Note that the connection is gone: an open utterance is lost with it."""
        self.closed = True
        self._agenda = Agenda()
        engine = self.engine
        if engine is not None and self.number in engine.session.open_connections:
            engine.ear.abandon(now)
            self._store.disconnected(engine.session, self.number, now)

    # -- Port -------------------------------------------------------------------------------

    def emit(self, message: JsonObject) -> None:
        """Send a message, unless the connection is mute or closed."""
        if not self.muted and not self.closed:
            self._out.append(Send(message))

    def note(self, kind: str, **detail: Any) -> None:
        """Put something on record."""
        self._out.append(Note(kind, detail))

    def heard(self, utterance: Utterance) -> None:
        """Hand over the audio of an utterance."""
        self._out.append(utterance)

    def moment(self, kind: str, now: float) -> None:
        """Report a moment; faults waiting for it strike."""
        for fault in self._schedule.happened(kind, self.number):
            self.apply(fault, now)
        turn_begins = kind in ("activityEnd", "text")
        if turn_begins and self._poisoned is Poison.CLOSE and not self.closed:
            self._close(1011, reasons.INTERNAL_ERROR)

    def position(self, kind: str, position_s: float, now: float) -> None:
        """Report a position inside an utterance or a reply."""
        for fault in self._schedule.position(kind, self.number, position_s):
            self.apply(fault, now)

    def resumable(self) -> None:
        """Issue a handle and tell it."""
        if self.session is None or self.setup is None or not self._resumes() or self.closed:
            return
        transparent = self.setup.transparent
        snapshot = self.session.snapshot(with_partial=transparent)
        handle = self._store.issue(self.session, snapshot)
        update: JsonObject = {"newHandle": handle, "resumable": True}
        if transparent:
            update["lastConsumedClientMessageIndex"] = str(self._consumed)
            self._told = self._consumed
        self.emit({"sessionResumptionUpdate": update})

    def busy(self, settled: Snapshot) -> None:
        """Tell that there is no resuming now; false and "" vanish in proto3 JSON.

        Some models issue a handle instead.  It leads to ``settled``, the end of the turn before:
        what the real ones restore is not known, and a lost answer is lost either way.
        """
        if self.session is None or self.setup is None or not self._resumes():
            return
        if self.setup.model.resumable_mid_turn and not self.setup.transparent:
            handle = self._store.issue(self.session, settled)
            self.emit({"sessionResumptionUpdate": {"newHandle": handle, "resumable": True}})
        else:
            self.emit({"sessionResumptionUpdate": {}})

    def _resumes(self) -> bool:
        setup = self.setup
        return setup is not None and (
            setup.resumption is not None or setup.model.unasked_resumption
        )

    # -- messages ---------------------------------------------------------------------------

    def _consume(self, message: ClientMessage, index: int, now: float) -> None:
        if self.closed or self.muted:
            return
        try:
            self._dispatch(message, now)
        except WireError as exc:
            self._close(exc.code, exc.reason)
        self._consumed = index
        if self.setup is not None and self.setup.transparent and self.ready and not self.closed:
            self._tell_index_soon(now)

    def _dispatch(self, message: ClientMessage, now: float) -> None:
        if message.kind == "setup":
            if self._received > 1:
                raise WireError(1007, reasons.INVALID_ARGUMENT)
            self._take_setup(message.body, now)
            return
        engine = self.engine
        if engine is None or engine.setup.refused_later:
            raise WireError(1007, reasons.INVALID_ARGUMENT)
        if message.kind == "realtimeInput":
            self._realtime(engine, message.body, now)
        elif message.kind == "clientContent":
            engine.client_content(message.body, now)
        elif message.kind == "toolResponse":
            engine.tool_response(message.body, now)
        else:
            self._context_update(engine, message.body)

    def _realtime(self, engine: TurnEngine, body: JsonObject, now: float) -> None:
        _check_realtime(engine.setup, body)
        if "activityStart" in body:
            engine.ear.start(now)
        chunks = [body["audio"]] if "audio" in body else []
        for blob in map(as_object, chunks + as_list(body.get("mediaChunks"))):
            self._blob(engine, blob, now)
        if "video" in body:
            wire.decode_base64(as_object(body["video"]).get("data", ""))
            self._video(engine, now)
        if isinstance(body.get("text"), str) and not self.closed:
            engine.text(body["text"], now)
        if "activityEnd" in body and not self.closed:
            engine.ear.end(now)
        if wire.as_bool(body.get("audioStreamEnd"), "realtime_input.audio_stream_end"):
            self._stream_end(engine, now)

    def _blob(self, engine: TurnEngine, blob: JsonObject, now: float) -> None:
        mime_type = blob.get("mimeType", "")
        data = wire.decode_base64(blob.get("data", ""))
        if self.closed:
            return
        if isinstance(mime_type, str) and mime_type.startswith("image/"):
            self._video(engine, now)
            return
        if not isinstance(mime_type, str) or not mime_type.startswith("audio/"):
            raise WireError(1007, reasons.INVALID_ARGUMENT)
        rate_hz = wire.audio_rate_hz(mime_type)
        if not engine.setup.activity.automatic:
            engine.audio(data, rate_hz, now)
            return
        if self._gate is None or self._gate.rate_hz != rate_hz:
            self._gate = EnergyGate(engine.setup.activity, rate_hz)
            self._gate.speaking = engine.ear.listening
        self._detected(engine, self._gate.feed(data), rate_hz, now)

    def _video(self, engine: TurnEngine, now: float) -> None:
        """Take a video frame; from the first on, the session has the shorter limit."""
        engine.video()
        if not engine.session.saw_video:
            engine.session.saw_video = True
            self._arm_session_limit(engine.session, engine.setup, now)

    def _stream_end(self, engine: TurnEngine, now: float) -> None:
        if not engine.setup.model.audio_stream_end:
            self.note("ignored", why="audioStreamEnd on a model that does not heed it")
        elif not engine.setup.activity.automatic:
            self.note("ignored", why="audioStreamEnd under manual activity signals")
        elif self._gate is not None:
            self._detected(engine, self._gate.flush(), self._gate.rate_hz, now)

    def _detected(
        self,
        engine: TurnEngine,
        found: list[SpeechStarted | SpeechAudio | SpeechEnded],
        rate_hz: int,
        now: float,
    ) -> None:
        for event in found:
            if self.closed:
                return
            if isinstance(event, SpeechStarted):
                self._signal("START", "SOS", event.offset_s)
                engine.ear.start(now)
                if not self.closed:
                    engine.audio(event.pcm, rate_hz, now)
            elif isinstance(event, SpeechAudio):
                engine.audio(event.pcm, rate_hz, now)
            else:
                self._signal("END", "EOS", event.offset_s)
                engine.ear.end(now, explicit=False)

    def _signal(self, edge: str, short: str, offset_s: float) -> None:
        if self.setup is not None and self.setup.explicit_vad_signal:
            offset = wire.duration(offset_s)
            self.emit({"voiceActivity": {"type": f"ACTIVITY_{edge}", "audioOffset": offset}})
            signal = {"vadSignalType": f"VAD_SIGNAL_TYPE_{short}"}
            self.emit({"voiceActivityDetectionSignal": signal})

    def _context_update(self, engine: TurnEngine, body: JsonObject) -> None:
        if not engine.setup.model.context_update:
            raise WireError(1007, reasons.INVALID_ARGUMENT)
        if "systemInstruction" in body:
            where = "context_update.system_instruction"
            text = wire.content_text(body["systemInstruction"], where)
            engine.session.system_instruction = text
            self.note("system_instruction", characters=len(text))
        if "tools" in body:
            tools = as_object(body["tools"]).get("tools")
            setup = engine.setup
            engine.calls.functions = read_functions(tools, setup.model, setup.backend)
            self.note("tools", names=sorted(engine.calls.functions))

    # -- setup ------------------------------------------------------------------------------

    def _take_setup(self, body: JsonObject, now: float) -> None:
        later: list[Fault] = []
        for fault in self._schedule.happened("setup", self.number):
            if fault.action in SETUP_ACTIONS:
                later.append(fault)
            else:
                self.apply(fault, now)
        if self.closed:
            return
        credential = self.admission.credential
        check_credential(credential, self._options)
        token = find_token(credential, self._service)
        if token is not None:
            body = token.effective(body)
        setup = self._read_setup(body)
        if token is not None:
            resumes = setup.resumption is not None and bool(setup.resumption.handle)
            token.check(now, resuming=resumes)
        opened = open_session(setup, self._service, now)
        if token is not None:
            self._heed(token, opened, now)
        if opened.wrong_model:
            self.emit({"setupComplete": {}})
            raise WireError(1011, reasons.INTERNAL_ERROR)
        if opened.taken_from:
            self._out.append(DropConnections(opened.taken_from))
        self._enter(setup, opened)
        self._answer_setup(later, now)

    def _heed(self, token: Token, opened: Opened, now: float) -> None:
        """Count the use of a token, and end the connection when it expires."""
        if not opened.resumed:
            token.spend()
        self._agenda.at(
            max(now, token.expires_s), "limit", lambda _: self._close(1008, reasons.TOKEN_EXPIRED)
        )

    def _read_setup(self, body: JsonObject) -> Setup:
        try:
            return read_setup(
                body,
                self.admission.backend,
                self.admission.api_version,
                any_model=self._options.any_model,
                extra_models=self._options.extra_models,
                traits=self._options.traits,
            )
        except UnknownModel as error:
            self.note("unknown_model", served=list(error.served))
            raise

    def _enter(self, setup: Setup, opened: Opened) -> None:
        """Make the opened session this connection's."""
        session = opened.session
        if setup.system_instruction:
            session.system_instruction = setup.system_instruction
        self.setup, self.session = setup, session
        self._store.connected(session, self.number)
        self._poisoned = opened.poison if opened.resumed else Poison.NONE
        self.note("session", id=session.id, resumed=opened.resumed)
        self.engine = TurnEngine(
            self.number,
            setup=setup,
            session=session,
            options=self._options,
            agenda=self._agenda,
            port=self,
            resumed=opened.resumed,
        )

    def _answer_setup(self, faults: list[Fault], now: float) -> None:
        """Send setupComplete, unless a fault delays, doubles or swallows it."""
        delay_s = 0.0
        for fault in faults:
            if fault.action == "silent_setup":
                self.muted = True
            elif fault.action == "delay_setup":
                delay_s = fault.number("delay_s", 5.0)
            else:
                self._agenda.at(now + delay_s, "setup", partial(self.apply, fault))
        if delay_s:
            self._agenda.at(now + delay_s, "setup", self._complete_setup)
        else:
            self._complete_setup(now)

    def _complete_setup(self, now: float) -> None:
        session, setup = self.session, self.setup
        assert session is not None
        assert setup is not None
        vertex = setup.backend is Backend.VERTEX
        self.emit({"setupComplete": {"sessionId": session.id} if vertex else {}})
        self.ready = True
        self.muted = self.muted or self._poisoned is Poison.MUTE
        self._arm_limits(session, setup, now)
        if self._options.handle_on_setup:
            self.resumable()
        if self._options.handle_interval_s:
            self._periodic_handle(now)

    # -- timers -----------------------------------------------------------------------------

    def _arm_limits(self, session: Session, setup: Setup, now: float) -> None:
        options = self._options
        after_s, left_s = options.go_away(setup.backend)
        if options.connection_limits:
            self._arm_go_away(self._opened_s + after_s, left_s)
        self._arm_session_limit(session, setup, now)
        if options.idle_limit_s:
            self._agenda.at(now + options.idle_limit_s, "idle", self._check_idle)

    def _arm_session_limit(self, session: Session, setup: Setup, now: float) -> None:
        options = self._options
        limit_s = options.session_limit(video=session.saw_video)
        if not options.connection_limits or limit_s is None or setup.compression is not None:
            return
        left_s = options.go_away(setup.backend)[1]
        end_s = session.created_s + limit_s
        self._arm_go_away(max(now, end_s - left_s), min(left_s, max(0.0, end_s - now)))

    def _arm_go_away(self, due_s: float, left_s: float) -> None:
        grace_s = self._options.go_away_grace_s
        self._agenda.at(due_s, "limit", lambda at: self.go_away(at, left_s, left_s + grace_s))

    def go_away(self, now: float, left_s: float, close_after_s: float) -> None:
        """Announce the end, and close once the client did not."""
        announced = wire.duration(self._service.real_s(left_s))
        self.emit({"goAway": {"timeLeft": announced}})
        if close_after_s:
            self._agenda.at(
                now + close_after_s, "limit", lambda _: self._close(1008, reasons.GO_AWAY)
            )
        self.moment("goAway", now)

    def _check_idle(self, now: float) -> None:
        due_s = self._last_message_s + self._options.idle_limit_s
        if now >= due_s:
            self._close(1008, reasons.IDLE)
        else:
            self._agenda.at(due_s, "idle", self._check_idle)

    def _periodic_handle(self, now: float) -> None:
        if self.engine is not None and self.engine.settled and now > self._opened_s:
            self.resumable()
        self._agenda.at(now + self._options.handle_interval_s, "handle", self._periodic_handle)

    def _tell_index_soon(self, now: float) -> None:
        if not self._agenda.pending("index"):
            self._agenda.at(now + self._options.index_interval_s, "index", self._tell_index)

    def _tell_index(self, _: float) -> None:
        """Tell the index of the last consumed message, unless there is no resuming now."""
        if self.engine is None or self._told == self._consumed:
            return
        if self.engine.settled:
            self.resumable()
        # Otherwise the update at the end of the turn tells it.

    # -- faults and the end -----------------------------------------------------------------

    def _close(self, code: int, reason: str) -> None:
        if not self.closed:
            self._out.append(Close(code, wire.cut_reason(reason)))
            self._end()

    def _end(self) -> None:
        self.closed = True
        self._agenda.cancel("reply")

    def apply(self, fault: Fault, now: float) -> None:
        """Let a fault strike this connection."""
        self.note("fault", do=fault.action, **dict(fault.params))
        if self.closed:
            return
        if fault.action in SERVER_ACTIONS:
            self._out.append(Serverwide(fault))
        elif fault.action in ODD_FRAMES:
            self._out.append(ODD_FRAMES[fault.action](fault))
        elif fault.action in ("freeze", "thaw"):
            self._out.append(Freeze(fault.action == "freeze"))
        elif fault.action in ("mute", "unmute"):
            self.muted = fault.action == "mute"
        else:
            {
                "close": self._fault_close,
                "reset": self._fault_reset,
                "go_away": self._fault_go_away,
                "quota": self._fault_quota,
                "audio_after_interrupted": self._fault_late_audio,
            }[fault.action](fault, now)

    def _fault_close(self, fault: Fault, _: float) -> None:
        self._close(int(fault.number("code", 1011)), fault.text("reason", reasons.INTERNAL_ERROR))

    def _fault_reset(self, _fault: Fault, _now: float) -> None:
        self._out.append(Reset())
        self._end()

    def _fault_go_away(self, fault: Fault, now: float) -> None:
        left_s = fault.number("time_left_s", self._options.go_away(self.admission.backend)[1])
        default_s = left_s + self._options.go_away_grace_s
        self.go_away(now, left_s, fault.number("close_after_s", default_s))

    def _fault_quota(self, fault: Fault, now: float) -> None:
        reason = fault.text("reason", reasons.QUOTA)
        delay_s = fault.number("delay_s", 0.8)
        self._agenda.at(now + delay_s, "limit", lambda _: self._close(1011, reason))

    def _fault_late_audio(self, fault: Fault, _: float) -> None:
        if self.engine is not None:
            self.engine.late_chunks = int(fault.number("chunks", 5))
