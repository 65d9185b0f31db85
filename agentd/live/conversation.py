"""The Live session without I/O: what to do about everything that can happen.

`Conversation.handle(input, now, wall)` takes one input and returns the commands that follow from
it. It composes the pure parts (machine, ladder, ring, turns, calls) and owns the life of the
connection: when to dial and with which handle, when to leave, whom to believe.

What it guarantees (see the property tests): never two connections; every utterance delivered once
on a surviving connection or announced lost; a good handle outlives empty updates; a bounded rate
of dials; from every state a good network and a good server lead to LIVE; stop always ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from agentd import events
from agentd.clock import WallTime
from agentd.config import Settings
from agentd.events import Event, LinkChanged, PlaybackMark, UtteranceStarted
from agentd.live import commands as c
from agentd.live.backoff import Backoff, DialBudget
from agentd.live.calls import TIMER as TOOL_TIMER
from agentd.live.calls import Calls
from agentd.live.capabilities import Capabilities, capabilities
from agentd.live.failures import Action as Do
from agentd.live.failures import Failure, Kind, Phase, Verdict, classify
from agentd.live.machine import CONNECTED, HOLDING, Action, Machine, Move, State
from agentd.live.messages import (
    ClientContent,
    Content,
    ContextUpdate,
    ResumptionUpdate,
    ServerMessage,
    ToolResponse,
)
from agentd.live.plan import differs, digest, same_session
from agentd.live.resumption import (
    Choice,
    Handle,
    Identity,
    Ladder,
    Rung,
    fingerprint,
    handle_from_document,
    handle_to_document,
)
from agentd.live.transcript import Journal, seed
from agentd.live.turns import LastTurn, Turn, Turns
from agentd.live.uplink import Uplink, UplinkSettings
from agentd.live.usage import Usage

STABLE_S = 15.0  # a connection this old has earned a fresh backoff
HEALTH_S = 10.0  # a resumed connection that dies younger speaks against its handle
CLOSE_S = 2.0  # bound on our own close handshake; the SDK's default is 10 s
GUARD_S = 5.0  # beyond the shell's own timeouts, should it fail to keep them
BACKOFF_BASE_S = 0.5
QUOTA_BASE_S = 10.0
QUOTA_FLOOR_S = 5.0
QUOTA_CAP_S = 300.0
EAGER_S = 3.0  # somebody is speaking: do not sit out a long wait
RING_MARGIN_S = 10.0
SESSION, TRANSCRIPT = "session", "transcript"
VERSION = 1


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """What `agentd status` shows of the session."""

    state: str
    connected: bool
    connections: int  # set up since the start
    dials: int
    resumes: int
    fresh_sessions: int
    last_resume_ms: float | None
    handle_age_s: float | None
    go_away_in_s: float | None
    connected_for_s: float | None
    retry_in_s: float | None
    tokens: dict[str, int]
    turns: int
    last_turn: LastTurn | None
    bad_frames: int
    late_pieces: int
    speech_lost: int
    replayed: int
    trouble: str  # the cause of the last failure, empty when connected


@dataclass(slots=True)
class _Connection:
    """What is known of the present connection or attempt."""

    number: int
    choice: Choice
    ready_s: float | None = None
    last_frame_s: float = 0.0
    proved: bool = False  # a turn was answered on it
    go_away_at_s: float | None = None
    because: Failure | None = None  # why we end it ourselves
    planned: bool = False  # our end of it is no failure


class Conversation:
    """One conversation over many connections."""

    def __init__(
        self,
        settings: Settings,
        *,
        random: Callable[[], float],
        endpoint: Callable[[Settings], str] = lambda settings: settings.live.base_url or "",
        non_blocking: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self._settings = settings
        self._endpoint_of = endpoint
        self._random = random
        self._non_blocking = non_blocking
        self._out: list[c.Command] = []
        self._now = 0.0
        self._wall = WallTime(0.0, synchronised=False)
        self._machine = Machine(self._state_changed)
        self._caps = self._capabilities()
        self._ladder = Ladder()
        self._usage = Usage()
        self._turns = Turns(
            deliver=lambda value: self._do(c.Deliver(value)),
            emit=self._emit,
            answered=self._answered,
            finished=self._turn_finished,
            take_tokens=self._usage.take_turn,
            local_activity=lambda: self._uplink.settings.local_activity,
        )
        self._uplink = Uplink(
            self._uplink_settings(), turns=self._turns, command=self._do, emit=self._emit
        )
        self._calls = Calls(
            command=self._do, emit=self._emit, respond=self._respond, tell=self._tell
        )
        privacy = settings.privacy
        self._journal = Journal(
            max_turns=privacy.transcript_max_turns,
            max_age_s=privacy.transcript_max_age_h * 3600.0,
            enabled=privacy.restore_context,
        )
        self._backoff = Backoff(BACKOFF_BASE_S, settings.live.backoff_max_s, random)
        self._quota = Backoff(QUOTA_BASE_S, QUOTA_CAP_S, random, floor_s=QUOTA_FLOOR_S)
        self._budget = DialBudget(settings.live.dials_per_min)
        self._connection: _Connection | None = None
        self._timers: dict[str, float] = {}
        self._instruction: str | None = None  # in place of the configured one
        self._instruction_due = False
        self._seed: ClientContent | None = None  # goes out first on a fresh connection
        self._next_delay_s = 0.0
        self._link: LinkChanged | None = None
        self._dial_at_s: float | None = None
        self._last_dial_s: float | None = None
        self._lost_at_s: float | None = None
        self._last_activity_s = 0.0
        self._trouble: Verdict | None = None
        self._dials = self._connections = self._resumes = self._fresh = self._bad_frames = 0
        self._last_resume_ms: float | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            c.Start: self._start,
            events.UtteranceStarted: self._hear,
            events.UtteranceAudio: self._hear,
            events.UtteranceEnded: self._hear,
            PlaybackMark: self._turns.marked,
            LinkChanged: self._link_changed,
            c.Connected: self._connected,
            c.Received: self._received,
            c.Ended: self._ended,
            c.TimerFired: self._timer_fired,
            c.Say: self._say,
            c.AddContext: self._add_context,
            c.Instruct: self._instruct,
            c.Forget: self._forget,
            c.Reload: self._reload,
            c.SetMute: self._set_mute,
            c.CancelReply: self._cancel_reply,
            c.Want: self._wanted,
            c.ToolDone: self._tool_done,
            c.Stop: self._stop,
        }

    @property
    def state(self) -> State:
        """Return where the session stands."""
        return self._machine.state

    def handle(self, given: c.Input, now: float, wall: WallTime) -> list[c.Command]:
        """Take one input and return what is to be done about it, in order."""
        self._now, self._wall = now, wall
        self._out = []
        if not self._over:
            self._handlers[type(given)](given)
        if not self._over:
            self._settle()
        return self._out

    @property
    def _over(self) -> bool:
        return self._machine.state is State.STOPPED

    # ── what follows from anything ──

    def _settle(self) -> None:
        """Send what may be sent, leave if it is quiet, and set the timers."""
        self._uplink.held = self._caps.hold_audio_during_calls and self._calls.blocking
        self._send_instruction()
        for item in self._uplink.expire(self._now):
            self._turns.give_up(item.turn, "no answer came")
        self._uplink.pump(self._now)
        if not (self._turns.quiet and self._uplink.idle):
            self._last_activity_s = self._now
        if self._machine.state is State.LEAVING and self._may_leave():
            self._leave_now()
        self._due("ring", self._uplink.next_timer_s())
        self._due("turn", self._turn_deadline_s())
        self._due("release", self._release_at_s())

    def _may_leave(self) -> bool:
        """Tell whether this is a quiet moment from which nothing would be missing."""
        newest = self._ladder.newest
        bound = newest is not None and newest.identity == self._identity()
        keeps = self._ladder.resumable or not bound
        return self._turns.quiet and self._uplink.idle and not self._calls.pending and keeps

    def _turn_deadline_s(self) -> float | None:
        reply_s = self._reply_deadline_s()
        times = [t for t in (self._turns.deadline_s(), reply_s) if t is not None]
        return min(times, default=None)

    def _reply_deadline_s(self) -> float | None:
        """Return when the awaited answer is given up; a tool at work is not the service's fault."""
        turn, connection = self._turns.awaiting, self._connection
        if turn is None or connection is None or self._calls.pending:
            return None
        since = turn.asked_at_s or 0.0
        if turn.frames:
            since = max(since, connection.last_frame_s)
        return since + self._settings.live.reply_timeout_s

    def _release_at_s(self) -> float | None:
        quiet_s = self._settings.live.idle_release_min * 60.0
        if quiet_s <= 0 or self._machine.state is not State.LIVE:
            return None
        return self._last_activity_s + quiet_s

    # ── starting, dialling ──

    def _start(self, given: c.Start) -> None:
        self._last_activity_s = self._now
        self._load(given.session_document)
        self._journal.load(given.transcript_document)
        self._move(Move.START)

    def _load(self, document: object) -> None:
        if not isinstance(document, dict) or document.get("version") != VERSION:
            return
        handles = document.get("handles")
        found = [handle_from_document(h) for h in handles[:2]] if isinstance(handles, list) else []
        good = [handle for handle in found if handle is not None]
        self._ladder = Ladder(*good)
        text, basis = document.get("instruction"), document.get("instruction_basis")
        # an instruction given by word of mouth holds until the configured one changes
        if isinstance(text, str) and basis == self._instruction_basis():
            self._instruction = text[:65_536]

    def _instruction_basis(self) -> str:
        return fingerprint(self._settings.live.system_instruction)

    def _await_dial(self, delay_s: float) -> None:
        """Dial after `delay_s`, or later if the budget or the network says so."""
        at_s = max(self._now + delay_s, self._budget.earliest_s(self._now))
        if self._offline:
            # the network monitor may be wrong; look now and then
            at_s = max(at_s, self._now + self._settings.live.backoff_max_s)
        self._dial_at_s = at_s
        if at_s <= self._now:
            self._move(Move.DIAL)
        else:
            self._set_timer("dial", at_s)

    @property
    def _offline(self) -> bool:
        return self._link is not None and not self._link.online and self._path_matters

    @property
    def _path_matters(self) -> bool:
        """Tell whether the network path leads anywhere: an endpoint on this machine has none."""
        host = urlsplit(self._endpoint_of(self._settings)).hostname or ""
        return not (host in {"localhost", "::1"} or host.startswith("127."))

    def _dial(self) -> None:
        self._cancel_timer("dial")
        self._dial_at_s = None
        self._last_dial_s = self._now
        self._budget.spend(self._now)
        self._dials += 1
        exchanges = self._journal.recent(self._now, self._wall)
        choice = self._ladder.choose(
            self._identity(),
            lifetime_s=self._settings.handle_lifetime_s,
            now=self._now,
            wall=self._wall,
            can_restore=bool(exchanges),
        )
        self._connection = _Connection(self._dials, choice)
        live = self._settings.live
        self._set_timer(
            "setup", self._now + live.connect_timeout_s + live.setup_timeout_s + GUARD_S
        )
        self._emit(events.Connecting(connection=self._dials, rung=choice.rung.value))
        plan = c.SetupPlan(
            self._settings,
            choice.handle.value if choice.handle is not None else None,
            live.system_instruction if self._instruction is None else self._instruction,
            initial_history=choice.rung is Rung.RESTORE and not self._caps.client_content,
        )
        self._do(c.Dial(self._dials, plan))

    def _connected(self, given: c.Connected) -> None:
        connection = self._connection
        if connection is None or given.connection != connection.number:
            return
        if self._machine.state is not State.DIALING:
            return  # we are closing it already
        connection.ready_s = connection.last_frame_s = self._now
        self._cancel_timer("setup")
        self._set_timer("stable", self._now + STABLE_S)
        self._connections += 1
        self._trouble = None
        self._instruction_due = False  # the setup has carried it
        gap_ms = 0.0 if self._lost_at_s is None else (self._now - self._lost_at_s) * 1000.0
        self._lost_at_s = None
        handle = connection.choice.handle
        if handle is not None:
            self._resumed(connection, handle, gap_ms)
        else:
            self._began_fresh(connection, gap_ms)
        self._move(Move.READY)

    def _resumed(self, connection: _Connection, handle: Handle, gap_ms: float) -> None:
        self._resumes += 1
        self._last_resume_ms = gap_ms
        self._ladder.resumable = True
        self._emit(
            events.Resumed(
                connection=connection.number,
                gap_ms=gap_ms,
                handle_age_s=handle.age_s(self._now, self._wall) or 0.0,
                rung=connection.choice.rung.value,
            )
        )

    def _began_fresh(self, connection: _Connection, gap_ms: float) -> None:
        self._fresh += 1
        had_handles = self._ladder.newest is not None
        self._ladder.began_fresh()
        if had_handles:
            self._save_session()
        restoring = connection.choice.rung is Rung.RESTORE
        exchanges = self._journal.recent(self._now, self._wall) if restoring else ()
        self._emit(
            events.SessionFresh(
                connection=connection.number,
                cause=connection.choice.why_not,
                restored_turns=len(exchanges),
                gap_ms=gap_ms,
            )
        )
        if exchanges:
            # historyConfig wants its end marked; without it, turnComplete would ask for an answer
            self._seed = ClientContent(seed(exchanges), turn_complete=not self._caps.client_content)

    def _open_uplink(self) -> None:
        connection = self._connection
        assert connection is not None
        self._uplink.configure(self._uplink_settings())
        self._calls.connected(self._uplink.holds)
        handle = connection.choice.handle
        self._uplink.attach(
            connection.number,
            consumed=None if handle is None else handle.consumed,
            indexed=self._transparent,
            first=self._seed,
            now=self._now,
        )
        self._seed = None

    # ── what the service says ──

    def _received(self, given: c.Received) -> None:
        connection = self._connection
        if connection is None or given.connection != connection.number:
            return
        if self._machine.state not in CONNECTED:
            return
        connection.last_frame_s = self._now
        message = given.message
        if message.problem:
            self._bad_frame(message.problem)
            if self._turns.current is not None:
                self._turns.current.frames = True
            return
        if message.tokens is not None:
            self._usage.add(message.tokens)
        if message.resumption is not None:
            self._resumption(message.resumption)
        self._turns.received(message, self._now)
        self._tools(message)
        if message.generation_complete or message.turn_complete:
            self._prove()
        if message.go_away_s is not None:
            self._go_away(connection, message.go_away_s)

    def _bad_frame(self, problem: str) -> None:
        self._bad_frames += 1
        count = self._bad_frames
        if count & (count - 1) == 0:  # 1, 2, 4, 8, …: a server gone mad does not fill the journal
            self._emit(events.BadFrame(problem=problem, count=count))

    def _resumption(self, update: ResumptionUpdate) -> None:
        position = self._uplink.log.position(update.consumed_index)
        template = Handle(
            "",
            self._identity(),
            self._wall,
            digest(self._settings, self._instruction),
            alive_s=self._now,
            alive=self._wall,
            consumed=position if self._transparent else None,
        )
        stored = self._ladder.offer(update, template)
        if stored is not None:
            self._save_session(events.HandleStored(handle=fingerprint(stored.value)))
        in_use = [h for h in (self._ladder.newest, self._ladder.previous) if h is not None]
        reach = [handle.consumed for handle in in_use if handle.consumed is not None]
        if reach and len(reach) == len(in_use):
            self._uplink.log.forget_until(min(reach))

    def _tools(self, message: ServerMessage) -> None:
        turn = self._turns.current.number if self._turns.current is not None else 0
        for call in message.calls:
            self._calls.called(
                call,
                turn,
                self._now,
                timeout_s=self._settings.tools.timeout_s,
                blocking=not (self._caps.declare_behavior and self._non_blocking(call.name)),
            )
        if message.cancelled_calls:
            self._calls.cancelled(message.cancelled_calls, self._now)

    def _prove(self) -> None:
        """Believe in this connection and its handle: it has answered."""
        connection = self._connection
        assert connection is not None
        connection.proved = True
        self._backoff.reset()
        self._quota.reset()
        if connection.choice.handle is not None:
            self._ladder.trust(connection.choice.handle)

    def _go_away(self, connection: _Connection, time_left_s: float) -> None:
        connection.go_away_at_s = self._now + time_left_s
        self._emit(events.GoAway(connection=connection.number, time_left_s=time_left_s))
        self._plan_to_leave("go away")
        margin_s = self._settings.live.go_away_margin_s
        self._set_timer("go_away", max(self._now, connection.go_away_at_s - margin_s))

    # ── leaving ──

    def _plan_to_leave(self, cause: str) -> None:
        """Give this connection up at the next quiet moment."""
        assert self._connection is not None
        self._connection.because = Failure(Phase.LIVE, Kind.LOCAL, reason=cause)
        self._connection.planned = True
        self._move(Move.LEAVE)

    def _leave_now(self) -> None:
        self._move(Move.SWITCH)

    def _abandon(self, failure: Failure, *, planned: bool) -> None:
        """Drop the connection or the attempt without ceremony."""
        connection = self._connection
        assert connection is not None
        connection.because = failure
        connection.planned = planned
        self._machine.move(Move.SWITCH)
        self._close(graceful=False)

    def _close(self, *, graceful: bool) -> None:
        assert self._connection is not None
        self._uplink.detach()
        self._do(c.Close(self._connection.number, graceful))
        if graceful:
            self._set_timer("close", self._now + CLOSE_S)

    def _ended(self, given: c.Ended) -> None:
        connection = self._connection
        if connection is None or given.connection != connection.number:
            return
        if self._machine.state not in HOLDING:
            return
        for name in ("setup", "stable", "go_away", "close"):
            self._cancel_timer(name)
        failure = given.failure
        if connection.because is not None and failure.kind is Kind.LOCAL:
            failure = connection.because
        verdict = self._judge(connection, failure)
        cause = failure.reason if failure.kind is Kind.LOCAL else verdict.cause
        self._uplink.detach()
        self._turns.connection_lost(self._uplink.holds, self._repeat_as, self._now, cause)
        self._calls.connection_lost()
        self._connection = None
        if connection.ready_s is not None:
            self._ladder.touch(self._now, self._wall)
            self._lost_at_s = self._now
            self._save_session()
        if connection.go_away_at_s is not None:
            connection.planned = True  # the announced end, also if the service was first
        self._go_on(connection, failure, verdict)

    def _repeat_as(self, before: int, after: int) -> None:
        self._uplink.renumber(before, after)
        self._calls.renumber(before, after)

    def _judge(self, connection: _Connection, failure: Failure) -> Verdict:
        """Class the failure and act on what it says about the handle."""
        handle = connection.choice.handle
        verdict = classify(
            failure, with_handle=handle is not None, clock_synchronised=self._wall.synchronised
        )
        if handle is None or failure.kind is Kind.LOCAL:
            return verdict
        if verdict.action is Do.RESET:
            self._drop(handle, verdict.cause)
        elif verdict.action is Do.RETRY and self._speaks_against_handle(connection, verdict):
            self._drop(handle, f"{verdict.cause} after resuming with it")
        return verdict

    def _speaks_against_handle(self, connection: _Connection, verdict: Verdict) -> bool:
        """Tell whether a resumed connection ended in a way that makes its handle unfit.

        The service's own close soon after the resume, or on the first question, is proof enough.
        A broken network proves nothing, unless it happens again and again.
        """
        handle = connection.choice.handle
        assert handle is not None
        if connection.proved or connection.go_away_at_s is not None:
            return False
        if connection.ready_s is None:
            return verdict.blames_handle and self._ladder.strike(handle)
        awaiting = self._turns.awaiting
        on_first_turn = awaiting is not None and not awaiting.content
        young = self._now - connection.ready_s < HEALTH_S
        if verdict.blames_handle and (on_first_turn or (young and self._turns.speaking is None)):
            return True
        return (young or on_first_turn) and self._ladder.strike(handle)

    def _drop(self, handle: Handle, cause: str) -> None:
        self._ladder.drop(handle, cause)
        self._emit(events.HandleDropped(handle=fingerprint(handle.value), cause=cause))
        self._save_session()

    def _go_on(self, connection: _Connection, failure: Failure, verdict: Verdict) -> None:
        """Choose what comes after a connection, tell it, and do it."""
        releasing = self._machine.state is State.RELEASING
        stopping = self._machine.state is State.STOPPING
        refused = (
            verdict.action is Do.FATAL and not connection.planned and self._machine.can(Move.REFUSE)
        )
        delay_s = 0.0
        if not (connection.planned or releasing or stopping):
            self._trouble = verdict
            delay_s = max(self._delay_s(verdict), failure.retry_after_s or 0.0)
        elif connection.go_away_at_s is not None and not self._held_up(connection):
            delay_s = self._backoff.next_delay_s()  # turned away at the door, politely
        if releasing:
            idle_min = (self._now - self._last_activity_s) / 60.0
            self._emit(events.Released(connection=connection.number, idle_min=idle_min))
        elif not stopping:
            self._tell_end(connection, failure, verdict, delay_s, refused=refused)
        self._next_delay_s = delay_s
        self._move(Move.REFUSE if refused else Move.LOST)

    def _held_up(self, connection: _Connection) -> bool:
        """Tell whether a connection lasted or was of use."""
        age_s = 0.0 if connection.ready_s is None else self._now - connection.ready_s
        return connection.proved or age_s >= HEALTH_S

    def _delay_s(self, verdict: Verdict) -> float:
        if verdict.action is Do.RESET:
            return 0.0  # another rung; the budget bounds how often
        if verdict.action is Do.QUOTA:
            return self._quota.next_delay_s()
        if verdict.action is Do.FATAL:
            return verdict.interval_s * (0.9 + 0.2 * self._random())
        return self._backoff.next_delay_s()

    def _tell_end(
        self,
        connection: _Connection,
        failure: Failure,
        verdict: Verdict,
        delay_s: float,
        *,
        refused: bool,
    ) -> None:
        earliest_s = self._budget.earliest_s(self._now) - self._now
        phase = Phase.LIVE if connection.ready_s is not None else failure.phase
        local = failure.kind is Kind.LOCAL and failure.reason
        self._emit(
            events.Disconnected(
                connection=connection.number,
                phase=phase.value,
                cause=failure.reason if local else verdict.cause,
                close_code=failure.code,
                reason="" if local else failure.reason,
                retry_in_s=max(delay_s, earliest_s),
            )
        )
        if refused:
            self._emit(events.Refused(cause=verdict.cause, remedy=verdict.remedy))
        elif verdict.action is Do.QUOTA and not connection.planned:
            self._emit(events.QuotaExhausted(close_code=failure.code, retry_in_s=delay_s))

    # ── the network ──

    def _link_changed(self, given: LinkChanged) -> None:
        before, self._link = self._link, given
        if not self._path_matters:
            return
        state = self._machine.state
        if given.online and before is None:
            return  # the first report tells how things are, not that they changed
        if state in (State.DIALING, State.LIVE, State.LEAVING):
            cause = "network changed" if given.online else "network lost"
            self._abandon(Failure(Phase.LIVE, Kind.LOCAL, reason=cause), planned=True)
        elif state is State.WAITING or (
            state is State.REFUSED and given.online and self._refused_by_path()
        ):
            self._await_dial(0.0)

    def _refused_by_path(self) -> bool:
        """Tell whether another network may cure it (a portal or proxy was in the way)."""
        return self._trouble is not None and self._trouble.cause in (
            "certificate",
            "intercepted",
            "proxy refuses",
            "region refused",
        )

    # ── the user ──

    def _hear(self, speech: events.Speech) -> None:
        if isinstance(speech, UtteranceStarted) and not self._uplink.muted:
            self._turns.barge_in("local")
            self._want()
        self._uplink.hear(speech)

    def _wanted(self, given: c.Want) -> None:
        del given
        self._last_activity_s = self._now
        self._want()

    def _want(self) -> None:
        """Somebody speaks: a connection is wanted now."""
        state = self._machine.state
        if state in (State.RELEASED, State.RELEASING):
            self._next_delay_s = 0.0
            self._move(Move.WANT)
        elif state is State.WAITING and not self._offline and self._dial_at_s is not None:
            patient = self._trouble is not None and self._trouble.action is Do.QUOTA
            eager_s = self._now if self._last_dial_s is None else self._last_dial_s + EAGER_S
            if not patient and eager_s < self._dial_at_s:
                self._await_dial(max(0.0, eager_s - self._now))

    def _say(self, given: c.Say) -> None:
        if not self._uplink.enter(given.text, asks=True, now=self._now):
            self._do(c.Outcome("refused: too many texts wait for a connection"))
            return
        self._turns.barge_in("local")
        self._want()
        self._do(c.Outcome("sent" if self._is_connected else "will be sent when connected"))

    def _add_context(self, given: c.AddContext) -> None:
        if not self._caps.client_content:
            self._do(c.Outcome("refused: this model takes no context without answering it"))
        elif not self._uplink.enter(given.text, asks=False, now=self._now):
            self._do(c.Outcome("refused: too many texts wait for a connection"))
        else:
            self._do(c.Outcome("added" if self._is_connected else "will be added when connected"))

    def _instruct(self, given: c.Instruct) -> None:
        self._instruction = given.text
        self._save_session()
        how = self._apply_instruction()
        self._emit(events.Instructed(how=how))
        self._do(c.Outcome(how))

    def _apply_instruction(self) -> str:
        """Bring the instruction to the service in the best way there is; return which."""
        if not self._is_connected:
            return "on_resume"
        if self._caps.system_role:
            self._instruction_due = True
            return "now"
        if self._caps.context_update:
            self._uplink.send(ContextUpdate(self._current_instruction))
            return "context_update"
        if self._machine.state is State.LIVE:
            self._plan_to_leave("new instruction")
        return "on_resume"

    @property
    def _current_instruction(self) -> str:
        return (
            self._settings.live.system_instruction
            if self._instruction is None
            else self._instruction
        )

    def _send_instruction(self) -> None:
        """Send a role-system instruction when it interrupts nothing."""
        if not self._instruction_due or not self._is_connected or self._turns.speaking:
            return
        if self._turns.awaiting is not None and self._uplink.idle:
            return
        self._instruction_due = False
        content = Content("system", self._current_instruction)
        self._uplink.send(ClientContent((content,), turn_complete=False))

    def _forget(self, given: c.Forget) -> None:
        del given
        had_handle = self._ladder.newest is not None
        turns = len(self._journal)
        self._turns.abandon()
        self._calls.stop_all(self._now)
        self._uplink.forget(self._now)
        self._ladder.forget("forgotten")
        self._journal.clear()
        told_instruction, self._instruction = self._instruction is not None, None
        self._do(c.Store(SESSION, None))
        self._do(c.Store(TRANSCRIPT, None))
        what = ", ".join(
            [
                "the session at the service" if had_handle else "no stored session",
                f"{turns} turns of transcript",
                *(["the spoken instruction"] if told_instruction else []),
            ]
        )
        self._emit(events.Forgotten(what=what))
        if self._machine.can(Move.SWITCH):
            self._abandon(Failure(Phase.LIVE, Kind.LOCAL, reason="forgotten"), planned=True)
        self._do(c.Outcome(what))

    def _reload(self, given: c.Reload) -> None:
        before, self._settings = self._settings, given.settings
        self._caps = self._capabilities()
        live, privacy = given.settings.live, given.settings.privacy
        self._backoff.cap_s = live.backoff_max_s
        self._budget.limit = live.dials_per_min
        self._journal.limit(
            max_turns=privacy.transcript_max_turns,
            max_age_s=privacy.transcript_max_age_h * 3600.0,
            enabled=privacy.restore_context,
        )
        if not privacy.restore_context and before.privacy.restore_context:
            self._do(c.Store(TRANSCRIPT, None))
        if before.live.system_instruction != live.system_instruction:
            self._instruction = None  # the file has the last word
        self._do(c.Outcome(self._apply_settings(before)))

    def _apply_settings(self, before: Settings) -> str:
        """Bring new settings to the session; return by which way."""
        state = self._machine.state
        if state in (State.REFUSED, State.WAITING):
            self._backoff.reset()
            self._quota.reset()
            self._await_dial(0.0)  # this is what a person waits for
            return "on_resume"
        if state is State.DIALING:
            self._abandon(Failure(Phase.SETUP, Kind.LOCAL, reason="reloaded"), planned=True)
            return "on_resume"
        changed = differs(before, self._settings)
        if not changed:
            self._uplink.configure(
                replace(
                    self._uplink_settings(), local_activity=self._uplink.settings.local_activity
                )
            )
            return "now"
        if changed == {"system_instruction"}:
            return self._apply_instruction()
        if state in CONNECTED:
            self._plan_to_leave("reloaded")
        return "on_resume" if same_session(before, self._settings) else "fresh"

    def _set_mute(self, given: c.SetMute) -> None:
        if given.muted:
            self._uplink.mute(self._now)
        else:
            self._uplink.unmute()

    def _cancel_reply(self, given: c.CancelReply) -> None:
        self._turns.cancel_reply(given.by)

    def _tool_done(self, given: c.ToolDone) -> None:
        self._calls.done(given.key, given.outcome, given.response, self._now)

    def _respond(self, response: ToolResponse) -> bool:
        if self._caps.scheduling and self._non_blocking(response.name):
            response = replace(response, scheduling="WHEN_IDLE")
        return self._uplink.send(response)

    def _tell(self, text: str) -> None:
        self._uplink.enter(text, asks=True, now=self._now)

    def _stop(self, given: c.Stop) -> None:
        del given
        if not self._machine.can(Move.STOP):
            return
        self._calls.stop_all(self._now)
        if self._connection is not None:
            self._connection.planned = True
            if self._connection.ready_s is not None:
                self._ladder.touch(self._now, self._wall)
        self._save_session()
        self._move(Move.STOP)

    # ── time ──

    def _timer_fired(self, given: c.TimerFired) -> None:
        self._timers.pop(given.name, None)
        if given.name.startswith(TOOL_TIMER):
            self._calls.timed_out(int(given.name.removeprefix(TOOL_TIMER)), self._now)
            return
        rule = {
            "dial": self._dial_due,
            "setup": self._setup_overdue,
            "stable": self._stable,
            "go_away": self._forced_to_leave,
            "close": self._close_overdue,
            "turn": self._turn_due,
            "release": self._release_due,
        }.get(given.name)
        if rule is not None:  # "ring" is done by _settle
            rule()

    def _dial_due(self) -> None:
        if self._machine.can(Move.DIAL):
            earliest_s = self._budget.earliest_s(self._now)
            if earliest_s <= self._now:
                self._move(Move.DIAL)
            else:
                self._await_dial(earliest_s - self._now)

    def _setup_overdue(self) -> None:
        if self._machine.state is State.DIALING:
            failure = Failure(Phase.SETUP, Kind.TIMEOUT, reason="no setupComplete")
            self._abandon(failure, planned=False)

    def _stable(self) -> None:
        self._backoff.reset()
        self._quota.reset()

    def _forced_to_leave(self) -> None:
        if self._machine.state is State.LEAVING:
            self._leave_now()

    def _close_overdue(self) -> None:
        if self._connection is not None:
            self._do(c.Close(self._connection.number, graceful=False))

    def _turn_due(self) -> None:
        self._turns.close_overdue(self._now)
        deadline_s = self._reply_deadline_s()
        if deadline_s is None or deadline_s > self._now or not self._is_connected:
            return
        turn = self._turns.awaiting
        assert turn is not None
        if turn.frames:
            failure = Failure(Phase.LIVE, Kind.DROPPED, reason="the answer broke off")
        else:
            failure = Failure(Phase.LIVE, Kind.TIMEOUT, reason="no sign of life")
        self._abandon(failure, planned=False)

    def _release_due(self) -> None:
        at_s = self._release_at_s()
        if at_s is not None and at_s <= self._now and self._may_leave():
            self._move(Move.RELEASE)

    # ── moves ──

    def _move(self, move: Move) -> None:
        action = self._machine.move(move)
        if action is Action.AWAIT:
            delay_s, self._next_delay_s = self._next_delay_s, 0.0
            self._await_dial(delay_s)
        elif action is Action.DIAL:
            self._dial()
        elif action is Action.OPEN:
            self._open_uplink()
        elif action is Action.CLOSE:
            self._close(graceful=True)
        elif action is Action.FINISH:
            for name in list(self._timers):
                self._cancel_timer(name)
            self._uplink.detach()
            self._do(c.Finished())

    def _state_changed(self, before: State, move: Move, after: State) -> None:
        self._emit(events.SessionMoved(before=before.value, move=move.value, after=after.value))

    # ── small parts ──

    @property
    def _is_connected(self) -> bool:
        return self._machine.state in CONNECTED

    @property
    def _transparent(self) -> bool:
        return self._caps.transparent and self._settings.live.transparent_resumption

    def _capabilities(self) -> Capabilities:
        return capabilities(self._settings.live.backend, self._settings.live.model)

    def _identity(self) -> Identity:
        live = self._settings.live
        vertex = live.backend == "vertex"
        return Identity(
            live.backend,
            (live.project or "") if vertex else "",
            live.location if vertex else "",
            live.model,
            self._endpoint_of(self._settings),
        )

    def _uplink_settings(self) -> UplinkSettings:
        settings = self._settings
        seconds = settings.vad.max_utterance_s + settings.network.replay_max_age_s + RING_MARGIN_S
        return UplinkSettings(
            local_activity=settings.live.activity_detection == "local",
            client_content=self._caps.client_content,
            max_age_s=settings.network.replay_max_age_s,
            max_bytes=int(seconds * 32_000),
        )

    def _answered(self, turn: int) -> None:
        self._uplink.answered(turn)

    def _turn_finished(self, turn: Turn) -> None:
        self._calls.turn_over(turn.number)
        if self._journal.add(turn.user_text, turn.model_text, self._now, self._wall):
            self._do(c.Store(TRANSCRIPT, self._journal.to_document()))

    def _save_session(self, stored: Event | None = None) -> None:
        handles = [h for h in (self._ladder.newest, self._ladder.previous) if h is not None]
        document = {
            "version": VERSION,
            "handles": [handle_to_document(handle) for handle in handles],
            "instruction": self._instruction,
            "instruction_basis": self._instruction_basis(),
        }
        self._do(c.Store(SESSION, document, stored))

    def _do(self, command: c.Command) -> None:
        self._out.append(command)

    def _emit(self, event: Event) -> None:
        self._do(c.Emit(event))

    def _set_timer(self, name: str, at_s: float) -> None:
        self._timers[name] = at_s
        self._do(c.SetTimer(name, at_s))

    def _cancel_timer(self, name: str) -> None:
        if self._timers.pop(name, None) is not None:
            self._do(c.CancelTimer(name))

    def _due(self, name: str, at_s: float | None) -> None:
        """Make sure that a timer fires at `at_s` or before; one that fires early does no harm."""
        if at_s is not None and at_s < self._timers.get(name, float("inf")):
            self._set_timer(name, at_s)

    def status(self, now: float, wall: WallTime) -> SessionStatus:
        """Return what there is to know, without changing anything."""
        connection = self._connection
        ready_s = connection.ready_s if connection is not None else None
        going_s = connection.go_away_at_s if connection is not None else None
        newest = self._ladder.newest
        waiting = self._machine.state in (State.WAITING, State.REFUSED)
        retry_s = self._dial_at_s if waiting else None
        return SessionStatus(
            state=self._machine.state.value,
            connected=self._is_connected,
            connections=self._connections,
            dials=self._dials,
            resumes=self._resumes,
            fresh_sessions=self._fresh,
            last_resume_ms=self._last_resume_ms,
            handle_age_s=None if newest is None else newest.age_s(now, wall),
            go_away_in_s=None if going_s is None else max(0.0, going_s - now),
            connected_for_s=None if ready_s is None else now - ready_s,
            retry_in_s=None if retry_s is None else max(0.0, retry_s - now),
            tokens=self._usage.totals(),
            turns=self._turns.count,
            last_turn=self._turns.last,
            bad_frames=self._bad_frames,
            late_pieces=self._turns.late_pieces,
            speech_lost=self._uplink.lost_count,
            replayed=self._uplink.replayed_count,
            trouble="" if self._trouble is None else self._trouble.cause,
        )
