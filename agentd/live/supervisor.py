"""The life of the connection: when to dial and how, when to leave, what comes next.

One connection at a time, numbered by attempt. It ends by exactly one `Ended`, whatever happens;
the next dial comes after that and never before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from agentd import events
from agentd.config.settings import Settings
from agentd.events import LinkChanged
from agentd.live import commands as c
from agentd.live.backoff import Backoff, DialBudget, FlapDamper
from agentd.live.causes import CURED_BY_PATH
from agentd.live.causes import Handling as Do
from agentd.live.deadlines import Deadlines
from agentd.live.failures import SETUP_REFUSED, Failure, Kind, Phase, Verdict
from agentd.live.handle_trust import ConnectionRecord, Scene, Trust
from agentd.live.machine import CLOSING, CONNECTED, HOLDING, Action, Machine, Move, State
from agentd.live.memory import Memory
from agentd.live.outputs import Outputs
from agentd.live.resumption import Rung
from agentd.live.uplink import Uplink

STABLE_S = 15.0  # a connection this old has earned a fresh backoff
CLOSE_S = 2.0  # bound on our own close handshake; the SDK's default is 10 s
GUARD_S = 5.0  # beyond the shell's own timeouts, should it fail to keep them
BACKOFF_BASE_S = 0.5
QUOTA_BASE_S = 10.0
QUOTA_FLOOR_S = 5.0
QUOTA_CAP_S = 300.0
EAGER_S = 3.0  # somebody is speaking: do not sit out a long wait


@dataclass(frozen=True, slots=True)
class Loss:
    """A connection or an attempt that is over, before it is decided what comes next."""

    connection: ConnectionRecord
    failure: Failure
    verdict: Verdict
    cause: str
    fault: bool  # the service ended it, and what it carried may be why


class Supervisor:
    """Dials, leaves, and says why. What goes over the line is the conversation's business."""

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        uplink: Uplink,
        out: Outputs,
        *,
        random: Callable[[], float],
        endpoint: str,
        client_content: bool,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._uplink = uplink
        self._out = out
        self._random = random
        self._endpoint = endpoint
        self._client_content = client_content
        self._machine = Machine(out)
        self._trust = Trust(memory)
        self._due = Deadlines()
        self._backoff = Backoff(BACKOFF_BASE_S, settings.live.backoff_max_s, random)
        self._quota = Backoff(QUOTA_BASE_S, QUOTA_CAP_S, random, floor_s=QUOTA_FLOOR_S)
        self._budget = DialBudget(settings.live.dials_per_min)
        self._flapping = FlapDamper()
        self._link: LinkChanged | None = None
        self._next_delay_s = 0.0
        self._last_dial_s: float | None = None
        self._began_s = 0.0
        self._lost_at_s: float | None = None
        self.connection: ConnectionRecord | None = None
        self.dial_at_s: float | None = None
        self.trouble: Verdict | None = None
        self.last_activity_s = 0.0
        self.dials = self.connections = self.resumes = self.fresh = 0
        self.last_resume_ms: float | None = None

    @property
    def state(self) -> State:
        """Return where the session stands."""
        return self._machine.state

    @property
    def is_live(self) -> bool:
        """Return whether messages may be sent."""
        return self._machine.state in CONNECTED

    @property
    def is_setup_refused(self) -> bool:
        """Return whether the session rests because the service refuses what the setup says."""
        cause = self.trouble.cause if self.trouble is not None else ""
        return self.state is State.REFUSED and cause == SETUP_REFUSED

    def current(self, number: int) -> ConnectionRecord | None:
        """Return the connection if `number` is the present one and it is live."""
        connection = self.connection
        live = connection is not None and connection.number == number and self.is_live
        return connection if live else None

    def configure(self, settings: Settings, endpoint: str, *, client_content: bool) -> None:
        """Take new settings; what is in the setup message waits for the next connection."""
        self._settings = settings
        self._endpoint = endpoint
        self._client_content = client_content
        self._backoff.cap_s = settings.live.backoff_max_s
        self._budget.limit = settings.live.dials_per_min

    # ── dialling ──

    def start(self, now: float) -> None:
        """Begin."""
        self._began_s = self.last_activity_s = now
        self._move(Move.START, now)

    def _await_dial(self, delay_s: float, now: float) -> None:
        """Dial after `delay_s`, or later if the budget or the network says so."""
        at_s = max(now + delay_s, self._budget.earliest_s(now))
        if self._offline:
            # the network monitor may be wrong; look now and then
            at_s = max(at_s, now + self._settings.live.backoff_max_s)
        self.dial_at_s = at_s
        if at_s <= now:
            self._move(Move.DIAL, now)
        else:
            self._due.set("dial", at_s)

    def _dial(self, now: float) -> None:
        out, live = self._out, self._settings.live
        self._due.cancel("dial")
        self.dial_at_s = None
        self._last_dial_s = now
        self._budget.spend(now)
        self.dials += 1
        choice = self._memory.choose(now)
        self.connection = ConnectionRecord(self.dials, choice)
        self._due.set("setup", now + live.connect_timeout_s + live.setup_timeout_s + GUARD_S)
        out.emit(events.Connecting(connection=self.dials, rung=choice.rung.value))
        plan = c.SetupPlan(
            self._settings,
            choice.handle.value if choice.handle is not None else None,
            self._memory.instruction,
            initial_history=choice.rung is Rung.RESTORE and not self._client_content,
        )
        out.add(c.Dial(self.dials, plan))

    def connected(self, number: int, now: float) -> ConnectionRecord | None:
        """Note that setup is complete; return the connection that messages may be sent on now."""
        connection = self.connection
        if connection is None or connection.number != number or self.state is not State.DIALING:
            return None  # we are closing it already
        connection.ready_s = connection.last_frame_s = now
        self._due.cancel("setup")
        self._due.set("stable", now + STABLE_S)
        self.connections += 1
        self._trust.stood()
        self.trouble = None
        gap_ms = (now - (self._began_s if self._lost_at_s is None else self._lost_at_s)) * 1000.0
        self._lost_at_s = None
        self._announce_beginning(connection, gap_ms, now)
        self._move(Move.READY, now)
        return connection

    def _announce_beginning(self, connection: ConnectionRecord, gap_ms: float, now: float) -> None:
        out, choice = self._out, connection.choice
        if choice.handle is not None:
            self.resumes += 1
            self.last_resume_ms = gap_ms
            self._memory.ladder.resumable = True
            out.emit(
                events.Resumed(
                    connection=connection.number,
                    gap_ms=gap_ms,
                    handle_age_s=choice.handle.age_s(now, self._memory.wall) or 0.0,
                    rung=choice.rung.value,
                )
            )
            return
        self.fresh += 1
        self._memory.began_fresh()
        restoring = choice.rung is Rung.RESTORE
        out.emit(
            events.SessionFresh(
                connection=connection.number,
                cause=choice.why_not,
                restored_turns=len(self._memory.exchanges(now)) if restoring else 0,
                gap_ms=gap_ms,
            )
        )

    def want(self, now: float) -> None:
        """Have a connection soon: somebody speaks."""
        if self.state in (State.RELEASED, State.RELEASING):
            self._next_delay_s = 0.0
            self._move(Move.WANT, now)
        elif self.state is State.WAITING and not self._offline and self.dial_at_s is not None:
            patient = self.trouble is not None and self.trouble.patient
            eager_s = now if self._last_dial_s is None else self._last_dial_s + EAGER_S
            if not patient and eager_s < self.dial_at_s:
                self._await_dial(max(0.0, eager_s - now), now)

    def retry_now(self, now: float) -> bool:
        """Dial at once if the session waits for anything (reload); True if it did."""
        if self.state not in (State.REFUSED, State.WAITING):
            return False
        self._reset_backoff()
        self._await_dial(0.0, now)
        return True

    # ── trust ──

    def proved(self, connection: ConnectionRecord) -> None:
        """Believe in this connection and its handle: it has answered."""
        connection.proved = True
        self._memory.restoring_worked()
        self._reset_backoff()
        if connection.choice.handle is not None:
            self._memory.ladder.trust(connection.choice.handle)

    def _reset_backoff(self) -> None:
        self._backoff.reset()
        self._quota.reset()

    # ── leaving ──

    def go_away(self, connection: ConnectionRecord, time_left_s: float, now: float) -> None:
        """Take the announcement that the service will end this connection."""
        connection.go_away_at_s = now + time_left_s
        self._out.emit(events.GoAway(connection=connection.number, time_left_s=time_left_s))
        self.leave_when_quiet("go away", now)
        force_at_s = connection.go_away_at_s - self._settings.live.go_away_margin_s
        self._due.set("go_away", max(now, force_at_s))

    def leave_when_quiet(self, cause: str, now: float) -> None:
        """Give this connection up at the next quiet moment."""
        assert self.connection is not None
        self.connection.because = Failure(Phase.LIVE, Kind.LOCAL, reason=cause)
        self.connection.planned = True
        self._move(Move.LEAVE, now)

    def quiet(self, now: float) -> None:
        """Note a quiet moment: the time to leave, if that was wanted."""
        if self.state is State.LEAVING:
            self._move(Move.SWITCH, now)

    def abandon(self, failure: Failure, now: float, *, planned: bool) -> bool:
        """Drop the connection or the attempt without ceremony; False if there is none."""
        if not self._machine.can(Move.SWITCH):
            return False
        assert self.connection is not None
        self.connection.because = failure
        self.connection.planned = planned
        self._machine.move(Move.SWITCH)
        self._close(now, graceful=False)
        return True

    def release_at_s(self) -> float | None:
        """Return when a quiet connection is to be released, if ever."""
        quiet_s = self._settings.idle_release_s
        if quiet_s <= 0 or self.state is not State.LIVE:
            return None
        return self.last_activity_s + quiet_s

    def release_if_due(self, now: float) -> None:
        """Rest until somebody speaks, if nobody has for long. Call it only in quiet."""
        at_s = self.release_at_s()
        if at_s is not None and at_s <= now:
            self._move(Move.RELEASE, now)

    def stop(self, now: float) -> None:
        """End the session, gracefully if the peer lets us."""
        if self.connection is not None:
            self.connection.planned = True
        if self._machine.can(Move.STOP):
            self._move(Move.STOP, now)

    def _close(self, now: float, *, graceful: bool) -> None:
        assert self.connection is not None
        self._uplink.detach()
        self._out.add(c.Close(self.connection.number, graceful))
        if graceful:
            self._due.set("close", now + CLOSE_S)

    # ── the end of a connection ──

    def ended(self, number: int, seen: Failure, scene: Scene, now: float) -> Loss | None:
        """Take the end of a connection or an attempt; `go_on` with what is returned."""
        connection = self.connection
        if connection is None or connection.number != number or self.state not in HOLDING:
            return None
        self._due.cancel("setup", "stable", "go_away", "close")
        ours = seen.kind is Kind.LOCAL and connection.because is not None
        failure = connection.because if ours and connection.because is not None else seen
        judgement = self._trust.judge(
            connection,
            failure,
            scene,
            now,
            own_endpoint=bool(self._endpoint),
            lost_at_s=now if self._lost_at_s is None else self._lost_at_s,
        )
        if judgement.blameless:
            self._backoff.reset()
        verdict = judgement.verdict
        carried = connection.ready_s is not None and connection.go_away_at_s is None
        cause = failure.reason if ours else verdict.cause
        return Loss(connection, failure, verdict, cause, carried and verdict.blames_handle)

    def go_on(self, loss: Loss, now: float) -> None:
        """Choose what comes after a connection, announce it, and do it."""
        connection, failure, verdict = loss.connection, loss.failure, loss.verdict
        self.connection = None
        if connection.ready_s is not None:
            self._lost_at_s = now
            self._memory.was_alive(now)
        if connection.go_away_at_s is not None:
            connection.planned = True  # the announced end, also if the service was first
        refused = (
            verdict.action is Do.FATAL and not connection.planned and self._machine.can(Move.REFUSE)
        )
        self._next_delay_s = self._delay_s(connection, failure, verdict, now)
        if self.state is State.RELEASING:
            idle_min = (now - self.last_activity_s) / 60.0
            self._out.emit(events.Released(connection=connection.number, idle_min=idle_min))
        elif self.state is not State.STOPPING:
            self._announce_end(loss, now, refused=refused)
        self._move(Move.REFUSE if refused else Move.LOST, now)

    def _delay_s(
        self, connection: ConnectionRecord, failure: Failure, verdict: Verdict, now: float
    ) -> float:
        """Return how long to wait before the next dial."""
        if connection.planned or self.state in (State.RELEASING, State.STOPPING):
            of_use = connection.proved or not connection.is_young(now)
            if connection.go_away_at_s is None or of_use:
                return connection.rest_s
            return self._backoff.next_delay_s()  # turned away at the door, politely
        self.trouble = verdict
        delay_s = {
            Do.RESET: lambda: 0.0,  # another rung; the budget bounds how often
            Do.QUOTA: self._quota.next_delay_s,
            Do.FATAL: lambda: 0.0,
            Do.RETRY: self._backoff.next_delay_s,
        }[verdict.action]()
        if verdict.interval_s:
            delay_s = max(delay_s, verdict.interval_s * (0.9 + 0.2 * self._random()))
        return max(delay_s, failure.retry_after_s or 0.0)

    def _announce_end(self, loss: Loss, now: float, *, refused: bool) -> None:
        connection, failure, verdict = loss.connection, loss.failure, loss.verdict
        phase = Phase.LIVE if connection.ready_s is not None else failure.phase
        ours = failure.kind is Kind.LOCAL
        self._out.emit(
            events.Disconnected(
                connection=connection.number,
                phase=phase.value,
                cause=(failure.reason or verdict.cause) if ours else verdict.cause,
                close_code=failure.code,
                reason="" if ours else failure.reason,
                retry_in_s=max(self._next_delay_s, self._budget.earliest_s(now) - now),
                remedy="" if ours or connection.planned else verdict.remedy,
            )
        )
        if refused:
            self._out.emit(events.Refused(cause=verdict.cause, remedy=verdict.remedy))
        elif verdict.action is Do.QUOTA and not connection.planned:
            self._out.emit(
                events.QuotaExhausted(close_code=failure.code, retry_in_s=self._next_delay_s)
            )

    # ── the network ──

    def link_changed(self, change: LinkChanged, now: float) -> None:
        """Note that the network path changed: what went over the old one is dead."""
        before, self._link = self._link, change
        if not self._path_matters:
            return
        if change.online and before is None:
            return  # the first report tells how things are, not that they changed
        cause = "network changed" if change.online else "network lost"
        delay_s = self._flapping.delay_s(now)
        if self.abandon(Failure(Phase.LIVE, Kind.LOCAL, reason=cause), now, planned=True):
            assert self.connection is not None
            self.connection.rest_s = delay_s
            return
        cured = self.trouble is not None and self.trouble.cause in CURED_BY_PATH
        if self.state is State.WAITING or (self.state is State.REFUSED and change.online and cured):
            self._await_dial(delay_s, now)

    @property
    def _offline(self) -> bool:
        return self._link is not None and not self._link.online and self._path_matters

    @property
    def _path_matters(self) -> bool:
        """Return whether the network path leads anywhere: an endpoint on this machine has none."""
        host = urlsplit(self._endpoint).hostname or ""
        return not (host in {"localhost", "::1"} or host.startswith("127."))

    # ── time ──

    def deadline(self) -> float | None:
        """Return when `tick` should be called next, if ever."""
        return self._due.next()

    def tick(self, now: float) -> None:
        """Do what is due."""
        while (name := self._due.pop(now)) is not None:
            self._do(name, now)

    def _do(self, name: str, now: float) -> None:
        if name == "dial" and self._machine.can(Move.DIAL):
            self._move(Move.DIAL, now)  # the budget was asked when that was set
        elif name == "setup" and self.state is State.DIALING:
            failure = Failure(Phase.SETUP, Kind.TIMEOUT, reason="no setupComplete")
            self.abandon(failure, now, planned=False)
        elif name == "stable" and self.is_live:  # not one that is being given up just now
            self._reset_backoff()
        elif name == "go_away":
            self.quiet(now)  # it is not, but the service will not wait
        elif name == "close" and self.state in CLOSING:
            assert self.connection is not None
            self._out.add(c.Close(self.connection.number, graceful=False))

    # ── moves ──

    def _move(self, move: Move, now: float) -> None:
        action = self._machine.move(move)
        if action is Action.AWAIT:
            delay_s, self._next_delay_s = self._next_delay_s, 0.0
            self._await_dial(delay_s, now)
        elif action is Action.DIAL:
            self._dial(now)
        elif action is Action.CLOSE:
            self._close(now, graceful=True)
        elif action is Action.FINISH:
            self._uplink.detach()
            self._out.add(c.Finished())
