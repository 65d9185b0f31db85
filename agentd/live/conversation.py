"""The Live session without I/O: what to do about everything that can happen.

`Conversation.handle(input, now, wall)` takes one input and returns the commands that follow from
it. It puts the parts together: the supervisor (one connection after another), the uplink (what was
said), the turns (who speaks to whom), the calls (functions), the memory (what is kept).

What it guarantees (see the property tests): never two connections; every utterance delivered once
on a surviving connection or announced lost; a good handle outlives empty updates; a bounded rate
of dials; from every state a good network and a good server lead to LIVE; stop always ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agentd import events
from agentd.clock import WallTime
from agentd.config.settings import Settings
from agentd.events import LinkChanged, PlaybackMark, UtteranceEnded, UtteranceStarted
from agentd.live import commands as c
from agentd.live.admission import Admission
from agentd.live.calls import TIMER as TOOL_TIMER
from agentd.live.calls import Answer, Calls, Tell, as_conversation, refusal
from agentd.live.capabilities import Capabilities, capabilities
from agentd.live.consent import Consent
from agentd.live.dependents import Dependents
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.handle_trust import ConnectionRecord, Scene
from agentd.live.machine import State
from agentd.live.memory import Memory
from agentd.live.messages import (
    ClientContent,
    Content,
    ContextUpdate,
    FunctionCall,
    ResumptionUpdate,
    ServerMessage,
    ToolResponse,
    ToolsUpdate,
    whole_json,
)
from agentd.live.outputs import Outputs
from agentd.live.plan import differs, same_session
from agentd.live.replay import Outbox
from agentd.live.resumption import Rung
from agentd.live.status import SessionStatus
from agentd.live.supervisor import Loss, Supervisor
from agentd.live.tool_rules import NO_RULES, Rules
from agentd.live.transcript import seed
from agentd.live.turn import NO_ANSWER, TOO_MANY_CALLS, Turn
from agentd.live.turns import EMPTY_S, IN_PROGRESS_S, Turns
from agentd.live.uplink import Uplink, UplinkSettings, ring_bytes
from agentd.live.usage import Usage

HANDLE_S = 5.0  # the handle after a turn comes a moment behind its end, or not at all
LOOK_AGAIN_S = 5.0  # whether a question that is still being sent gets on
UNKNOWN_KINDS = 16  # that are told; a peer may invent more
SWITCHED_OFF = "functions are switched off"
TOO_MANY = "refused: too many texts wait for a connection"


class Conversation:
    """One conversation over many connections."""

    def __init__(
        self,
        settings: Settings,
        *,
        random: Callable[[], float],
        endpoint: Callable[[Settings], str] = lambda settings: settings.live.base_url or "",
        non_blocking: Callable[[str], bool] = lambda _name: False,
        rules: Rules = NO_RULES,
    ) -> None:
        self._settings = settings
        self._endpoint_of = endpoint
        self._non_blocking = non_blocking
        self._caps = self._capabilities()
        self._out = out = Outputs()
        self._usage = Usage()
        self._memory = Memory(settings, out, endpoint(settings))
        self._consent = Consent(rules.ask, settings.tools.confirm, out, press=_press(settings))
        self._rules = rules
        self._calls = Calls(Admission(rules, self._consent, out), out)
        self._outbox = Outbox(
            max_age_s=settings.network.replay_max_age_s, max_bytes=ring_bytes(settings)
        )
        dependents = Dependents(
            out,
            outbox=self._outbox,
            calls=self._calls,
            consent=self._consent,
            memory=self._memory,
            usage=self._usage,
        )
        self._turns = Turns(dependents, out)
        self._uplink = Uplink(self._uplink_settings(), self._outbox, self._turns, out)
        self._supervisor = Supervisor(
            settings,
            self._memory,
            self._uplink,
            out,
            random=random,
            endpoint=endpoint(settings),
            client_content=self._caps.client_content,
        )
        self._instruction_due = False
        self._tools_due = False
        self._bad_frames = 0
        self._unknown_frames = 0
        self._unknown_kinds: set[str] = set()
        self._under_way = ((0, 0), 0)  # turn, connection; its bytes unsent at the last look
        self._look_again_s = 0.0
        self._quiet_since_s: float | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            c.Start: self._start,
            events.UtteranceStarted: self._hear,
            events.UtteranceAudio: self._hear,
            events.UtteranceEnded: self._hear,
            PlaybackMark: self._marked,
            LinkChanged: self._link_changed,
            c.Connected: self._connected,
            c.Received: self._received,
            c.Ended: self._ended,
            c.TimerFired: self._timer_fired,
            c.Say: self._say,
            c.AddContext: self._add_context,
            c.Instruct: self._instruct,
            c.ToolsChanged: self._tools_changed,
            c.Forget: self._forget,
            c.Reload: self._reload,
            c.SetMute: self._set_mute,
            c.CancelReply: self._cancel_reply,
            c.Confirm: self._confirm,
            c.Want: self._want,
            c.ToolDone: self._tool_done,
            c.Stop: self._stop,
        }

    @property
    def state(self) -> State:
        """Return where the session stands."""
        return self._supervisor.state

    def handle(self, given: c.Input, now: float, wall: WallTime) -> list[c.Command]:
        """Take one input and return what is to be done about it, in order."""
        self._out.begin(now, wall)
        if not self._over:
            self._handlers[type(given)](given)
        if not self._over:
            self._settle()
        return self._out.take()

    @property
    def _over(self) -> bool:
        return self._supervisor.state is State.STOPPED

    # ── what follows from anything ──

    def _settle(self) -> None:
        """Send what may be sent, leave if it is quiet, and set the timers."""
        now = self._out.now
        self._uplink.held = self._caps.hold_audio_during_calls and self._calls.blocking
        self._send_instruction()
        self._send_tools()
        self._uplink.tick(now)
        if self._turns.is_open:
            self._memory.fall_behind()
        if not (self._turns.quiet and self._uplink.idle):
            self._supervisor.last_activity_s = now
            self._quiet_since_s = None
        elif not self._calls.pending and self._memory.resumable:
            self._leave_if_wanted()
        self._out.due_by("outbox", self._uplink.deadline())
        self._out.due_by("turn", self._turns.deadline())
        self._out.due_by("reply", self._reply_deadline_s())
        self._out.due_by("release", self._supervisor.release_at_s())
        self._out.due_by("consent", self._consent.lapses_s)
        self._out.due_by("retention", self._memory.expires_at_s)

    def _leave_if_wanted(self) -> None:
        """Use a quiet moment to leave, but give the handle of the turn before time to come.

        It follows `turnComplete` in a frame of its own. Gemini 3.8 also sends one as the turn
        begins, which is no word that the turn is over: what it leads to is the turn before.
        """
        if self._quiet_since_s is None:
            self._quiet_since_s = self._out.now
        leave_at_s = self._quiet_since_s + HANDLE_S
        if not self._memory.is_behind or leave_at_s <= self._out.now:
            self._supervisor.quiet(self._out.now)
        elif self._supervisor.state is State.LEAVING:
            self._out.due_by("handle", leave_at_s)

    def _reply_deadline_s(self) -> float | None:
        """Return when the awaited answer is given up; a tool at work is not the service's fault.

        Each call has a deadline of its own, and a turn a bound of calls.
        """
        turn = self._turns.awaiting
        if turn is None or not self._supervisor.is_live:
            return None  # or it is being given up already
        if self._calls.awaited_in(turn.number):
            return None
        patience_s = self._settings.live.reply_timeout_s
        if turn.empty_at_s is not None:
            return turn.empty_at_s + (patience_s if turn.called else min(EMPTY_S, patience_s))
        if turn.in_progress:
            patience_s = max(patience_s, IN_PROGRESS_S)
        since = max(turn.asked_at_s or 0.0, turn.life_s or 0.0)
        return max(since + patience_s, self._look_again_s)

    def _start(self, given: c.Start) -> None:
        self._memory.load(given.session_document, given.transcript_document)
        self._supervisor.start(self._out.now)

    def _stop(self, given: c.Stop) -> None:
        del given
        self._calls.stop_all(self._out.now)
        if self._supervisor.is_live:
            self._memory.was_alive()
        self._uplink.stop(self._out.now)
        self._supervisor.stop(self._out.now)

    # ── a connection comes and goes ──

    def _link_changed(self, change: LinkChanged) -> None:
        self._supervisor.link_changed(change, self._out.now)

    def _connected(self, given: c.Connected) -> None:
        connection = self._supervisor.connected(given.connection, self._out.now)
        if connection is not None:
            self._open(connection)

    def _open(self, connection: ConnectionRecord) -> None:
        """Begin to talk: restored context first, then what waits."""
        self._instruction_due = self._tools_due = False  # the setup has carried them
        self._uplink.configure(self._uplink_settings())
        self._turns.connected(local_activity=self._uplink.settings.local_activity)
        self._give(self._calls.connected(self._outbox.questions()))
        self._memory.catch_up()
        choice = connection.choice
        first = None
        if choice.rung is Rung.RESTORE:
            # historyConfig wants its end marked; without it, turnComplete would ask for an answer
            first = ClientContent(
                seed(self._memory.exchanges()), turn_complete=not self._caps.client_content
            )
        self._uplink.attach(
            connection.number,
            consumed=None if choice.handle is None else choice.handle.consumed,
            indexed=self._transparent,
            first=first,
            now=self._out.now,
        )

    def _ended(self, given: c.Ended) -> None:
        now = self._out.now
        loss = self._supervisor.ended(given.connection, given.failure, self._scene(), now)
        if loss is not None:
            self._lost(loss)
            self._supervisor.go_on(loss, now)

    def _lost(self, loss: Loss) -> None:
        if loss.fault:
            self._outbox.blame()
        if (unfinished := self._turns.awaiting) is not None:
            self._consent.broke_off(unfinished.number)
        self._uplink.detach()
        self._turns.connection_lost(loss.cause, self._out.now)
        self._calls.connection_lost()

    def _scene(self) -> Scene:
        awaiting = self._turns.awaiting
        return Scene(
            awaiting_first_sign=awaiting is not None and not awaiting.content,
            user_speaks=self._turns.speaking is not None,
            somebody_waits=bool(self._outbox.questions()),
        )

    # ── what the service says ──

    def _received(self, given: c.Received) -> None:
        connection, message = self._supervisor.current(given.connection), given.message
        if connection is None:
            return
        connection.last_frame_s = self._out.now
        if message.problem:
            self._bad_frame(message.problem)
        if message.unplayable:
            turn = self._turns.current
            number = turn.number if turn is not None else 0
            self._out.emit(events.ReplyUnplayable(turn=number, cause=message.unplayable))
        if message.unknown:
            self._unknown_frame(message.unknown)
        if message.tokens is not None:
            self._usage.add(message.tokens)
        if message.resumption is not None:
            self._offered(message.resumption, connection)
        self._tools(message, self._turns.received(message, self._out.now))
        if message.turn_complete:
            self._memory.fall_behind()
        connection.spoke = connection.spoke or bool(message.audio)
        if connection.spoke and (message.generation_complete or message.turn_complete):
            self._supervisor.proved(connection)
        if message.go_away_s is not None:
            self._supervisor.go_away(connection, message.go_away_s, self._out.now)

    def _offered(self, update: ResumptionUpdate, connection: ConnectionRecord) -> None:
        position = self._uplink.log.position(update.consumed_index)
        self._memory.offer(
            update,
            position if self._transparent else None,
            None if connection.proved else connection.choice.handle,
        )
        self._uplink.log.forget_until(self._memory.consumed or 0)
        if self._memory.ladder.resumable and not self._turns.is_open:
            self._memory.catch_up()

    def _bad_frame(self, problem: str) -> None:
        self._bad_frames += 1
        count = self._bad_frames
        if count & (count - 1) == 0:  # 1, 2, 4, 8, …: a server gone mad does not fill the journal
            self._out.emit(events.BadFrame(problem=problem, count=count))

    def _unknown_frame(self, kind: str) -> None:
        """Tell each kind once: the service has learnt something that this version has not."""
        self._unknown_frames += 1
        if kind not in self._unknown_kinds and len(self._unknown_kinds) < UNKNOWN_KINDS:
            self._unknown_kinds.add(kind)
            self._out.emit(events.UnknownFrame(kind=kind))

    def _tools(self, message: ServerMessage, turn: int | None) -> None:
        enabled = self._settings.tools.enabled
        for call in message.calls if turn is not None else ():
            assert turn is not None
            if not self._turns.may_call(turn):
                self._too_many_calls(call, turn)
                break
            self._give(
                self._calls.called(
                    call if enabled else replace(call, refused=SWITCHED_OFF),
                    turn,
                    self._out.now,
                    timeout_s=self._timeout_s(call.name),
                    blocking=not (self._caps.declare_behavior and self._non_blocking(call.name)),
                    tellable=not self._turns.is_telling,
                )
            )
        if message.cancelled_calls:
            self._calls.cancelled(message.cancelled_calls, self._out.now)

    def _confirm(self, given: c.Confirm) -> None:
        del given
        now = self._out.now
        confirmed = self._consent.pressed(now)
        if confirmed is not None:
            timeout_s = self._timeout_s(confirmed.name)
            self._calls.run_by_hand(
                confirmed.name, confirmed.question.args, now, timeout_s=timeout_s
            )

    def _timeout_s(self, name: str) -> float:
        own_s = self._rules.timeout_s(name)
        return self._settings.tools.timeout_s if own_s is None else own_s

    def _too_many_calls(self, call: FunctionCall, turn: int) -> None:
        """End an answer that calls one function after the other; the model is told once."""
        current = self._turns.current
        if current is None or current.number != turn:
            return
        self._give([refusal(call, turn, TOO_MANY_CALLS)])
        self._turns.fail(current, TOO_MANY_CALLS, self._out.now)

    def _tool_done(self, given: c.ToolDone) -> None:
        self._give(self._calls.done(given.key, given.outcome, given.response, self._out.now))

    def _give(self, answers: list[Answer]) -> None:
        """Let the model hear what came of its calls."""
        for answer in answers:
            if isinstance(answer, Tell):
                self._tell(answer.text)
            else:
                self._respond(answer.response, answer.turn)

    def _respond(self, response: ToolResponse, turn: int) -> None:
        response = replace(response, response=whole_json(response.response))
        if self._caps.scheduling and self._non_blocking(response.name):
            response = replace(response, scheduling="WHEN_IDLE")
        if not response.call_id and not self._caps.response_without_id:
            if not self._turns.is_telling:
                self._tell(as_conversation(response.name, response.response))
            return
        self._turns.responded(turn, self._out.now)
        self._uplink.send(response)

    def _tell(self, text: str) -> None:
        self._uplink.enter(text, asks=True, now=self._out.now, once=True)

    # ── what the user says and wants ──

    def _hear(self, speech: events.Speech) -> None:
        if isinstance(speech, UtteranceStarted) and not self._uplink.muted:
            self._turns.barge_in("local", self._out.now)
            self._supervisor.want(self._out.now)
        before = self._turns.last_number
        self._uplink.hear(speech)
        if isinstance(speech, UtteranceEnded):
            self._consent.spoken_out(speech)
        elif isinstance(speech, UtteranceStarted) and self._turns.last_number != before:
            turn, now = self._turns.last_number, self._out.now  # not the rest of a split one
            self._consent.spoken(turn, speech.utterance, speech.onset_s, now)

    def _marked(self, mark: PlaybackMark) -> None:
        now = self._out.now
        self._consent.played(mark.turn, mark.heard_ms, now, drained=mark.drained)
        self._turns.marked(mark, now)

    def _want(self, given: c.Want) -> None:
        """Be ready for somebody who is about to speak."""
        del given
        self._supervisor.last_activity_s = self._out.now
        self._supervisor.want(self._out.now)

    def _cancel_reply(self, given: c.CancelReply) -> None:
        self._turns.cancel_reply(given.by, self._out.now)
        self._consent.stopped()

    def _set_mute(self, given: c.SetMute) -> None:
        if given.muted:
            self._consent.lapse("muted")
            self._uplink.mute(self._out.now)
        else:
            self._uplink.unmute()

    def _say(self, given: c.Say) -> None:
        if not self._uplink.enter(given.text, asks=True, now=self._out.now):
            self._out.add(c.Outcome(TOO_MANY))
            return
        self._consent.typed(self._turns.last_number, self._out.now)
        self._turns.barge_in("local", self._out.now)
        self._supervisor.want(self._out.now)
        sent = "sent" if self._supervisor.is_live else "will be sent when connected"
        self._out.add(c.Outcome(sent))

    def _add_context(self, given: c.AddContext) -> None:
        added = "added" if self._supervisor.is_live else "will be added when connected"
        if not self._caps.client_content:
            added = "refused: this model takes no context without answering it"
        elif not self._uplink.enter(given.text, asks=False, now=self._out.now):
            added = TOO_MANY
        self._out.add(c.Outcome(added))

    def _instruct(self, given: c.Instruct) -> None:
        self._memory.instruct(given.text)
        how = self._apply_instruction()
        self._out.emit(events.Instructed(how=how))
        self._out.add(c.Outcome(how))

    def _apply_instruction(self) -> str:
        """Bring the instruction to the service in the best way there is; return which."""
        if not self._supervisor.is_live:
            return "on_resume"
        if self._caps.system_role:
            self._instruction_due = True
            return "now"
        if self._caps.context_update:
            self._uplink.send(ContextUpdate(self._memory.instruction))
            return "context_update"
        self._supervisor.leave_when_quiet("new instruction", self._out.now)
        return "on_resume"

    def _tools_changed(self, given: c.ToolsChanged) -> None:
        """Bring other functions to the model."""
        del given
        enabled = self._settings.tools.enabled
        self._out.add(c.Outcome(self._apply_tools() if enabled else "off"))

    def _apply_tools(self) -> str:
        """Declare the functions anew in the best way there is; return which."""
        if self._supervisor.is_live:
            if self._caps.tools_update:
                self._tools_due = True
                return "context_update"
            self._supervisor.leave_when_quiet("new functions", self._out.now)
        elif self._supervisor.state is State.DIALING:  # its setup may name the old ones
            failure = Failure(Phase.SETUP, Kind.LOCAL, reason="new functions")
            self._supervisor.abandon(failure, self._out.now, planned=True)
        elif self._supervisor.is_setup_refused:  # perhaps over the old ones
            self._supervisor.retry_now(self._out.now)
        return "on_resume"

    def _send_tools(self) -> None:
        """Declare other functions when nobody speaks: the model works anew through all it holds."""
        if self._tools_due and self._turns.quiet and self._uplink.idle and not self._calls.pending:
            self._tools_due = not self._uplink.send(ToolsUpdate(self._settings.tools.enabled))

    def _send_instruction(self) -> None:
        """Send a role-system instruction when it interrupts nothing that goes on."""
        if not self._instruction_due or self._turns.speaking is not None:
            return
        if not self._turns.quiet and self._uplink.idle:
            return
        content = Content("system", self._memory.instruction)
        if self._uplink.send(ClientContent((content,), turn_complete=False)):
            self._instruction_due = False

    def _forget(self, given: c.Forget) -> None:
        self._turns.abandon(self._out.now)
        self._consent.lapse("forgotten")
        self._calls.stop_all(self._out.now, but=given.asked_by)
        self._uplink.forget(self._out.now)
        what = self._memory.forget()
        self._out.emit(events.Forgotten(what=what))
        failure = Failure(Phase.LIVE, Kind.LOCAL, reason="forgotten")
        self._supervisor.abandon(failure, self._out.now, planned=True)
        self._out.add(c.Outcome(what))

    # ── settings ──

    def _reload(self, given: c.Reload) -> None:
        before, self._settings = self._settings, given.settings
        self._caps = self._capabilities()
        self._consent.configure(given.settings.tools.confirm, press=_press(given.settings))
        endpoint = self._endpoint_of(given.settings)
        self._memory.configure(given.settings, endpoint)
        self._supervisor.configure(
            given.settings, endpoint, client_content=self._caps.client_content
        )
        self._out.add(c.Outcome(self._apply_settings(before)))

    def _apply_settings(self, before: Settings) -> str:
        """Bring new settings to the session; return by which way."""
        changed = differs(before, self._settings)
        how = "on_resume" if same_session(before, self._settings) else "fresh"
        if self._supervisor.retry_now(self._out.now):  # this is what a person waits for
            return how
        if not changed:
            # how speech is framed belongs to the setup of the present connection
            framing = self._uplink.settings.local_activity
            self._uplink.configure(replace(self._uplink_settings(), local_activity=framing))
            return "now"
        if changed == {"system_instruction"} and self._supervisor.is_live:
            return self._apply_instruction()
        if changed == {"tools"}:
            return self._apply_tools()
        if self._supervisor.is_live:
            self._supervisor.leave_when_quiet("reloaded", self._out.now)
        elif self._supervisor.state is State.DIALING:
            failure = Failure(Phase.SETUP, Kind.LOCAL, reason="reloaded")
            self._supervisor.abandon(failure, self._out.now, planned=True)
        return how

    @property
    def _transparent(self) -> bool:
        return self._caps.transparent and self._settings.live.transparent_resumption

    def _capabilities(self) -> Capabilities:
        return capabilities(self._settings.live.backend, self._settings.live.model)

    def _uplink_settings(self) -> UplinkSettings:
        settings = self._settings
        return UplinkSettings(
            local_activity=settings.live.activity_detection == "local",
            client_content=self._caps.client_content,
            max_age_s=settings.network.replay_max_age_s,
            max_bytes=ring_bytes(settings),
        )

    # ── time ──

    def _timer_fired(self, given: c.TimerFired) -> None:
        name, now = given.name, self._out.now
        self._out.timer_fired(name)
        if name.startswith(TOOL_TIMER):
            self._give(self._calls.timed_out(int(name.removeprefix(TOOL_TIMER)), now))
        elif name == "turn":
            self._turns.tick(now)
        elif name == "reply":
            self._reply_overdue(given.unsent_bytes)
        elif name == "retention":
            self._memory.expire()
        elif name == "consent":
            self._consent.expire(now)
        elif name == "release":
            if self._turns.quiet and self._uplink.idle and not self._calls.pending:
                self._supervisor.release_if_due(now)
        else:  # "outbox" is done by _settle
            self._supervisor.timer_fired(name, now)

    def _reply_overdue(self, unsent_bytes: int) -> None:
        """Give up a connection on which a question gets no answer."""
        deadline_s, turn = self._reply_deadline_s(), self._turns.awaiting
        if turn is None or deadline_s is None or deadline_s > self._out.now:
            return
        if turn.empty_at_s is not None:
            self._empty_overdue(turn)
            return
        if turn.frames:
            self._calls.swallowed(turn.number)
            failure = Failure(Phase.LIVE, Kind.DROPPED, reason="the answer broke off")
        elif self._is_on_its_way(turn, unsent_bytes):
            return
        else:
            failure = Failure(Phase.LIVE, Kind.TIMEOUT, reason="no sign of life")
        self._supervisor.abandon(failure, self._out.now, planned=False)

    def _empty_overdue(self, turn: Turn) -> None:
        """Act on a turn that the service has closed and not answered since."""
        if turn.reply_bytes or turn.follows or turn.unasked:
            self._turns.close_empty(turn, self._out.now)
        elif turn.number in self._outbox.questions() and self._turns.may_ask_again(turn):
            # On the old connection the service would hear the question a second time.
            failure = Failure(Phase.LIVE, Kind.LOCAL, reason="an empty answer")
            self._supervisor.abandon(failure, self._out.now, planned=True)
        else:
            self._turns.fail(turn, NO_ANSWER, self._out.now)

    def _is_on_its_way(self, turn: Turn, unsent_bytes: int) -> bool:
        """Tell whether the question itself is still being sent: the path is slow, nobody is mute.

        A path that carries nothing any more is dead, and ended by TCP's own timeout besides.
        """
        now, question = self._out.now, (turn.number, self._supervisor.connections)
        before, self._under_way = self._under_way, (question, unsent_bytes)
        left = before[1] if before[0] == question else None
        if unsent_bytes:
            self._look_again_s = now + LOOK_AGAIN_S
            return left is None or unsent_bytes < left
        if left:
            self._turns.arrived(turn, now)  # it has arrived since the last look
        return bool(left)

    def status(self, now: float, wall: WallTime) -> SessionStatus:
        """Return what there is to know, without changing anything."""
        supervisor, turns = self._supervisor, self._turns
        connection, newest = supervisor.connection, self._memory.ladder.newest
        ready_s = connection.ready_s if connection is not None else None
        going_s = connection.go_away_at_s if connection is not None else None
        retry_s = supervisor.dial_at_s
        return SessionStatus(
            state=supervisor.state.value,
            connected=supervisor.is_live,
            connections=supervisor.connections,
            dials=supervisor.dials,
            resumes=supervisor.resumes,
            fresh_sessions=supervisor.fresh,
            last_resume_ms=supervisor.last_resume_ms,
            handle_age_s=None if newest is None else newest.age_s(now, wall),
            go_away_in_s=None if going_s is None else max(0.0, going_s - now),
            connected_for_s=None if ready_s is None else now - ready_s,
            retry_in_s=None if retry_s is None else max(0.0, retry_s - now),
            tokens=self._usage.totals(),
            turns=turns.count,
            last_turn=turns.last,
            bad_frames=self._bad_frames,
            unknown_frames=self._unknown_frames,
            confirming=self._consent.waiting,
            late_pieces=turns.late_pieces,
            speech_lost=self._uplink.lost_count,
            replayed=self._uplink.replayed_count,
            trouble="" if supervisor.trouble is None else supervisor.trouble.cause,
            remedy="" if supervisor.trouble is None else supervisor.trouble.remedy,
        )


def _press(settings: Settings) -> str:
    """Return how the button says yes; empty without one."""
    if settings.gpio.button is None:
        return ""
    # with push to talk a press alone is how one speaks, also to say no
    return f"press the button{' twice' if settings.gpio.button_mode == 'push-to-talk' else ''}"
