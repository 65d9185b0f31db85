"""The Live session without I/O: what to do about everything that can happen.

`Conversation.handle(input, now, wall)` takes one input and returns the commands that follow from
it; `deadline()` says when it wants a `Tick`. Its parts speak the same grammar: methods in, values
out, `now` always passed, what is to be done put into the one `Outputs`. A part knows those below
it, by their class, and none above:

    patience   updates   functions           how long to wait, how changes and calls get through
        │         │          │
    supervisor ───┴──────────┤               one connection after another
        │                    │
     uplink ─────────────► turns             what was said; who speaks to whom
        │                    │
      line            dependents             the light around speech; what hangs on a turn
        │                    │
      outbox    calls    consent    memory   what is kept

What it guarantees (see the property tests): never two connections; every utterance delivered once
on a surviving connection or announced lost; a good handle outlives empty updates; a bounded rate
of dials; from every state a good network and a good server lead to LIVE; stop always ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentd import events
from agentd.clock import WallTime
from agentd.config.settings import Settings
from agentd.events import LinkChanged, PlaybackMark, UtteranceEnded, UtteranceStarted
from agentd.live import commands as c
from agentd.live.admission import Admission
from agentd.live.calls import Calls
from agentd.live.capabilities import Capabilities, capabilities
from agentd.live.consent import Consent
from agentd.live.dependents import Dependents
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.functions import Functions
from agentd.live.handle_trust import ConnectionRecord, Scene
from agentd.live.machine import State
from agentd.live.memory import Memory
from agentd.live.messages import (
    ClientContent,
    ResumptionUpdate,
)
from agentd.live.odd_frames import OddFrames
from agentd.live.outputs import Outputs
from agentd.live.patience import Patience
from agentd.live.replay import Outbox, ring_bytes
from agentd.live.resumption import Rung
from agentd.live.status import SessionStatus
from agentd.live.supervisor import Loss, Supervisor
from agentd.live.tool_rules import NO_RULES, Rules
from agentd.live.transcript import seed
from agentd.live.turns import Turns
from agentd.live.updates import Updates
from agentd.live.uplink import Uplink, uplink_settings
from agentd.live.usage import Usage

HANDLE_S = 5.0  # the handle after a turn comes a moment behind its end, or not at all
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
        self._caps = self._capabilities()
        self._out = out = Outputs()
        self._usage = Usage()
        self._memory = Memory(settings, out, endpoint(settings))
        self._consent = Consent(rules.ask, settings.tools.confirm, out, press=_press(settings))
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
        self._uplink = Uplink(uplink_settings(settings, self._caps), self._outbox, self._turns, out)
        self._supervisor = Supervisor(
            settings,
            self._memory,
            self._uplink,
            out,
            random=random,
            endpoint=endpoint(settings),
            client_content=self._caps.client_content,
        )
        self._functions = Functions(
            settings,
            self._caps,
            rules,
            non_blocking=non_blocking,
            calls=self._calls,
            consent=self._consent,
            turns=self._turns,
            uplink=self._uplink,
        )
        self._patience = Patience(
            settings.live.reply_timeout_s,
            may_stay_silent=self._caps.may_stay_silent,
            turns=self._turns,
            calls=self._calls,
            outbox=self._outbox,
            supervisor=self._supervisor,
        )
        self._updates = Updates(
            settings,
            self._caps,
            memory=self._memory,
            calls=self._calls,
            turns=self._turns,
            uplink=self._uplink,
            supervisor=self._supervisor,
        )
        self._odd = OddFrames(out)
        self._quiet_since_s: float | None = None
        self._leave_at_s: float | None = None
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            c.Start: self._start,
            events.UtteranceStarted: self._hear,
            events.UtteranceAudio: self._hear,
            events.UtteranceEnded: self._hear,
            PlaybackMark: self._marked,
            LinkChanged: self._link_changed,
            c.Connected: self._connected,
            c.Received: self._received,
            c.Ended: self._ended,
            c.Tick: self._tick,
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
        self._memory.wall = wall
        if not self._over:
            self._handlers[type(given)](given, now)
        if not self._over:
            self._settle(now)
        return self._out.take()

    def deadline(self) -> float | None:
        """Return when `Tick` should be handled next, if ever."""
        if self._over:
            return None
        times = (
            self._uplink.deadline(),
            self._turns.deadline(),
            self._functions.deadline(),
            self._consent.deadline(),
            self._patience.deadline(),
            self._supervisor.deadline(),
            self._memory.deadline(),
            self._release_at_s(),
            self._leave_at_s,
        )
        return min((at_s for at_s in times if at_s is not None), default=None)

    def _tick(self, given: c.Tick, now: float) -> None:
        """Do what is due; what the uplink and a quiet moment have to do follows any input."""
        self._consent.tick(now)
        self._patience.tick(given.unsent_bytes, now)
        self._supervisor.tick(now)
        if self._release_at_s() is not None and self._turns.quiet and self._uplink.idle:
            self._supervisor.release_if_due(now)
        self._memory.tick(now)
        self._functions.tick(now)
        self._turns.tick(now)

    def _release_at_s(self) -> float | None:
        """Return when to rest; not while a function is at work whose result will be told."""
        return None if self._calls.pending else self._supervisor.release_at_s()

    @property
    def _over(self) -> bool:
        return self._supervisor.state is State.STOPPED

    # ── what follows from anything ──

    def _settle(self, now: float) -> None:
        """Send what may be sent, and leave if it is quiet."""
        self._uplink.held = self._functions.holds_audio
        self._updates.tick(now)
        self._uplink.tick(now)
        self._leave_at_s = None
        if self._turns.is_open:
            self._memory.fall_behind()
        if not (self._turns.quiet and self._uplink.idle):
            self._supervisor.last_activity_s = now
            self._quiet_since_s = None
        elif not self._calls.pending and self._memory.resumable:
            self._leave_if_wanted(now)

    def _leave_if_wanted(self, now: float) -> None:
        """Use a quiet moment to leave, but give the handle of the turn before time to come.

        It follows `turnComplete` in a frame of its own. Gemini 3.8 also sends one as the turn
        begins, which is no word that the turn is over: what it leads to is the turn before.
        """
        if self._quiet_since_s is None:
            self._quiet_since_s = now
        leave_at_s = self._quiet_since_s + HANDLE_S
        if not self._memory.is_behind or leave_at_s <= now:
            self._supervisor.quiet(now)
        elif self._supervisor.state is State.LEAVING:
            self._leave_at_s = leave_at_s

    def _start(self, given: c.Start, now: float) -> None:
        self._memory.load(given.session_document, given.transcript_document, now)
        self._supervisor.start(now)

    def _stop(self, given: c.Stop, now: float) -> None:
        del given
        self._calls.stop_all(now)
        if self._supervisor.is_live:
            self._memory.was_alive(now)
        self._uplink.stop(now)
        self._supervisor.stop(now)

    # ── a connection comes and goes ──

    def _link_changed(self, change: LinkChanged, now: float) -> None:
        self._supervisor.link_changed(change, now)

    def _connected(self, given: c.Connected, now: float) -> None:
        connection = self._supervisor.connected(given.connection, now)
        if connection is not None:
            self._open(connection, now)

    def _open(self, connection: ConnectionRecord, now: float) -> None:
        """Begin to talk: restored context first, then what waits."""
        self._updates.connected()
        self._uplink.configure(uplink_settings(self._settings, self._caps))
        self._turns.connected(local_activity=self._uplink.settings.local_activity)
        self._functions.connected(self._outbox.questions(), now)
        self._memory.catch_up()
        choice = connection.choice
        first = None
        if choice.rung is Rung.RESTORE:
            # historyConfig wants its end marked; without it, turnComplete would ask for an answer
            first = ClientContent(
                seed(self._memory.exchanges(now)), turn_complete=not self._caps.client_content
            )
        self._uplink.attach(
            connection.number,
            consumed=None if choice.handle is None else choice.handle.consumed,
            indexed=self._transparent,
            first=first,
            now=now,
        )

    def _ended(self, given: c.Ended, now: float) -> None:
        loss = self._supervisor.ended(given.connection, given.failure, self._scene(), now)
        if loss is not None:
            self._lost(loss, now)
            self._supervisor.go_on(loss, now)

    def _lost(self, loss: Loss, now: float) -> None:
        if loss.fault:
            self._outbox.blame()
        if (unfinished := self._turns.awaiting) is not None:
            self._consent.broke_off(unfinished.number)
        self._uplink.detach()
        self._turns.connection_lost(loss.cause, now)
        self._calls.connection_lost()

    def _scene(self) -> Scene:
        awaiting = self._turns.awaiting
        return Scene(
            awaiting_first_sign=awaiting is not None and not awaiting.content,
            user_speaks=self._turns.speaking is not None,
            somebody_waits=bool(self._outbox.questions()),
        )

    # ── what the service says ──

    def _received(self, given: c.Received, now: float) -> None:
        connection, message = self._supervisor.current(given.connection), given.message
        if connection is None:
            return
        connection.last_frame_s = now
        if message.problem:
            self._odd.could_not_be_used(message.problem)
        if message.unplayable:
            turn = self._turns.current
            number = turn.number if turn is not None else 0
            self._out.emit(events.ReplyUnplayable(turn=number, cause=message.unplayable))
        if message.unknown:
            self._odd.was_not_known(message.unknown)
        if message.tokens is not None:
            self._usage.add(message.tokens)
        if message.resumption is not None:
            self._offered(message.resumption, connection, now)
        self._functions.received(message, self._turns.received(message, now), now)
        if message.turn_complete:
            self._memory.fall_behind()
        connection.spoke = connection.spoke or bool(message.audio)
        if connection.spoke and (message.generation_complete or message.turn_complete):
            self._supervisor.proved(connection)
        if message.go_away_s is not None:
            self._supervisor.go_away(connection, message.go_away_s, now)

    def _offered(self, update: ResumptionUpdate, connection: ConnectionRecord, now: float) -> None:
        position = self._uplink.log.position(update.consumed_index)
        self._memory.offer(
            update,
            position if self._transparent else None,
            now,
            None if connection.proved else connection.choice.handle,
        )
        self._uplink.log.forget_until(self._memory.consumed or 0)
        if self._memory.ladder.resumable and not self._turns.is_open:
            self._memory.catch_up()

    def _confirm(self, given: c.Confirm, now: float) -> None:
        del given
        self._functions.confirmed(now)

    def _tool_done(self, given: c.ToolDone, now: float) -> None:
        self._functions.done(given.key, given.outcome, given.response, now)

    # ── what the user says and wants ──

    def _hear(self, speech: events.Speech, now: float) -> None:
        if isinstance(speech, UtteranceStarted) and not self._uplink.muted:
            self._turns.barge_in("local", now)
            self._supervisor.want(now)
        before = self._turns.last_number
        self._uplink.hear(speech)
        if isinstance(speech, UtteranceEnded):
            self._consent.spoken_out(speech)
        elif isinstance(speech, UtteranceStarted) and self._turns.last_number != before:
            turn = self._turns.last_number  # not the rest of a split one
            self._consent.spoken(turn, speech.utterance, speech.onset_s, now)

    def _marked(self, mark: PlaybackMark, now: float) -> None:
        self._consent.played(mark.turn, mark.heard_ms, now, drained=mark.drained)
        self._turns.marked(mark, now)

    def _want(self, given: c.Want, now: float) -> None:
        """Be ready for somebody who is about to speak."""
        del given
        self._supervisor.last_activity_s = now
        self._supervisor.want(now)

    def _cancel_reply(self, given: c.CancelReply, now: float) -> None:
        self._turns.cancel_reply(given.by, now)
        self._consent.stopped()

    def _set_mute(self, given: c.SetMute, now: float) -> None:
        if given.muted:
            self._consent.lapse("muted")
            self._uplink.mute(now)
        else:
            self._uplink.unmute()

    def _say(self, given: c.Say, now: float) -> None:
        if not self._uplink.enter(given.text, asks=True, now=now):
            self._out.add(c.Outcome(TOO_MANY))
            return
        self._consent.typed(self._turns.last_number, now)
        self._turns.barge_in("local", now)
        self._supervisor.want(now)
        sent = "sent" if self._supervisor.is_live else "will be sent when connected"
        self._out.add(c.Outcome(sent))

    def _add_context(self, given: c.AddContext, now: float) -> None:
        added = "added" if self._supervisor.is_live else "will be added when connected"
        if not self._caps.client_content:
            added = "refused: this model takes no context without answering it"
        elif not self._uplink.enter(given.text, asks=False, now=now):
            added = TOO_MANY
        self._out.add(c.Outcome(added))

    def _instruct(self, given: c.Instruct, now: float) -> None:
        self._memory.instruct(given.text)
        how = self._updates.instruct(now)
        self._out.emit(events.Instructed(how=how))
        self._out.add(c.Outcome(how))

    def _tools_changed(self, given: c.ToolsChanged, now: float) -> None:
        """Bring other functions to the model."""
        del given
        enabled = self._settings.tools.enabled
        self._out.add(c.Outcome(self._updates.declare_tools(now) if enabled else "off"))

    def _forget(self, given: c.Forget, now: float) -> None:
        self._turns.abandon(now)
        self._consent.lapse("forgotten")
        self._calls.stop_all(now, but=given.asked_by)
        self._uplink.forget(now)
        what = self._memory.forget()
        self._out.emit(events.Forgotten(what=what))
        failure = Failure(Phase.LIVE, Kind.LOCAL, reason="forgotten")
        self._supervisor.abandon(failure, now, planned=True)
        self._out.add(c.Outcome(what))

    # ── settings ──

    def _reload(self, given: c.Reload, now: float) -> None:
        settings = self._settings = given.settings
        caps = self._caps = self._capabilities()
        endpoint = self._endpoint_of(settings)
        self._consent.configure(settings.tools.confirm, press=_press(settings))
        self._memory.configure(settings, endpoint, now)
        self._supervisor.configure(settings, endpoint, client_content=caps.client_content)
        self._functions.configure(settings, caps)
        self._patience.reply_timeout_s = settings.live.reply_timeout_s
        self._patience.may_stay_silent = caps.may_stay_silent
        self._out.add(c.Outcome(self._updates.configure(settings, caps, now)))

    @property
    def _transparent(self) -> bool:
        return self._caps.transparent and self._settings.live.transparent_resumption

    def _capabilities(self) -> Capabilities:
        return capabilities(self._settings.live.backend, self._settings.live.model)

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
            bad_frames=self._odd.bad,
            unknown_frames=self._odd.unknown,
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
