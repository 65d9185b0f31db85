"""A world for a `Conversation`: virtual time, a network that does as it is told, a simple service.

Every command is checked against what must always hold, so each test that uses the world tests the
invariants too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentd import events as e
from agentd.clock import WallTime
from agentd.config.settings import Settings
from agentd.live import commands as c
from agentd.live.conversation import Conversation
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import State
from agentd.live.messages import (
    ActivityEnd,
    ActivityStart,
    AudioStreamEnd,
    ClientContent,
    ClientMessage,
    RealtimeAudio,
    ResumptionUpdate,
    ServerMessage,
    Tokens,
)
from agentd.live.tool_rules import NO_RULES, Rules
from agentd.live.turns import MAX_CALLS_OF_TURN

LOCAL = Failure(Phase.LIVE, Kind.LOCAL)
DROPPED = Failure(Phase.LIVE, Kind.DROPPED, 1006)
INTERNAL = Failure(Phase.LIVE, Kind.CLOSED, 1011, "Internal error encountered.")
NO_ROUTE = Failure(Phase.HANDSHAKE, Kind.UNREACHABLE)
DEAD_HANDLE = Failure(Phase.SETUP, Kind.CLOSED, 1008, "BidiGenerateContent session not found")
QUOTA = Failure(Phase.LIVE, Kind.CLOSED, 1011, "You exceeded your current quota, please check")
BAD_KEY = Failure(Phase.HANDSHAKE, Kind.STATUS, 401, "API key not valid")

PIECE_BYTES = 640


def settings(**live: Any) -> Settings:
    """Settings with keys of [live], and of other tables as `table__key`."""
    tables: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in live.items():
        table, _, key = name.rpartition("__")
        tables[table or "live"][key] = value
    return Settings.model_validate(dict(tables))


def pcm(utterance: int, piece: int) -> bytes:
    """20 ms that are unmistakably this piece of this utterance."""
    mark = utterance.to_bytes(4, "big") + piece.to_bytes(4, "big")
    return mark * (PIECE_BYTES // len(mark))


@dataclass
class Spoken:
    """What the user said in one utterance."""

    number: int
    pcm: bytearray = field(default_factory=bytearray)
    pieces: int = 0
    ended: e.EndReason | None = None
    muted: bool = False  # heard while muted, or overtaken by it


@dataclass
class Wire:
    """One connection as the service sees it."""

    number: int
    plan: c.SetupPlan
    ready: bool = False
    closing: bool = False
    over: bool = False
    aborted: bool = False
    received: list[ClientMessage] = field(default_factory=list)
    before: list[ClientMessage] = field(default_factory=list)  # what the handle's state contains
    activity_open: bool = False
    unanswered: int = 0  # questions that wait for a reply
    consumed: int = 0  # the highest index told

    @property
    def known(self) -> list[ClientMessage]:
        """All messages that the session at the service consists of, seen from here."""
        return self.before + self.received


class World:
    """Drives one conversation and watches it."""

    def __init__(
        self,
        config: Settings | None = None,
        *,
        random: float = 0.5,
        rules: Rules = NO_RULES,
        slow: bool = False,
    ) -> None:
        self.settings = config or settings()
        self.now = 1000.0
        self.wall = WallTime(1_800_000_000.0, synchronised=True)
        self.conversation = Conversation(
            self.settings, random=lambda: random, non_blocking=lambda _name: slow, rules=rules
        )
        self.unsent_bytes = 0
        self.wires: list[Wire] = []
        self.events: list[e.Event] = []
        self.delivered: list[e.Downlink] = []
        self.documents: dict[str, Any] = {}
        self.aside: list[Any] = []
        self.tools: dict[int, c.CallTool] = {}
        self.outcomes: list[str] = []
        self.spoken: list[Spoken] = []
        self.dial_times: list[float] = []
        self.finished = False
        self.muted = False
        self.lit: int | None = None
        self.lost: set[int] = set()
        self.calls: dict[int, int] = defaultdict(int)  # functions called, by turn
        self.answered: set[int] = set()
        self.handles = 0
        self.good_handle: str | None = None  # the newest that the service gave for keeps
        self.indexed = self.settings.live.backend == "vertex" and (
            self.settings.live.transparent_resumption
        )
        self.states: dict[str, list[ClientMessage]] = {}  # by handle, when indices are told
        self.polite = True  # the peer answers our closes
        self._rules: dict[type, Callable[[Any], object]] = {
            c.Dial: self._check_dial,
            c.Send: self._check_send,
            c.PurgeAudio: lambda command: None,
            c.Close: self._closes,
            c.Emit: lambda command: self._check_event(command.event),
            c.EmitInLine: lambda command: self._check_event(command.event),
            c.Deliver: lambda command: self.delivered.append(command.value),
            c.StoreDocument: self._stores,
            c.PutAside: lambda command: self.aside.append(self.documents.pop(command.name, None)),
            c.CallTool: self._calls_tool,
            c.CancelTool: lambda command: self.tools.pop(command.key, None),
            c.Outcome: lambda command: self.outcomes.append(command.text),
            c.Finished: self._finishes,
        }

    # ── driving ──

    def give(self, given: c.Input) -> list[c.Command]:
        """Hand over one input and carry out what follows."""
        found = self.conversation.handle(given, self.now, self.wall)
        for command in found:
            self._carry_out(command)
        return found

    def start(self, session: object = None, transcript: object = None) -> World:
        """Start; the dial is under way afterwards."""
        self.give(c.Start(session, transcript))
        return self

    def online(self, **kind: Any) -> World:
        """Start and connect."""
        self.start()
        return self.connect()

    @property
    def state(self) -> State:
        """The session's state."""
        return self.conversation.state

    def is_in(self, *states: State) -> bool:
        """Tell whether the session is in one of these states."""
        return self.conversation.state in states

    @property
    def wire(self) -> Wire:
        """The newest connection."""
        return self.wires[-1]

    @property
    def open_wire(self) -> Wire | None:
        """The connection that is not over, if any."""
        return next((wire for wire in self.wires if not wire.over), None)

    def connect(self) -> World:
        """Let the dial under way succeed."""
        assert self.state is State.DIALING, self.state
        self.wire.ready = True
        self.give(c.Connected(self.wire.number))
        return self

    def reconnect(self) -> World:
        """Wait for the next dial and let it succeed."""
        for _ in range(1000):
            if self.is_in(State.DIALING):
                return self.connect()
            self.advance(0.5)
        raise AssertionError("no dial comes")

    def end(self, failure: Failure = DROPPED) -> World:
        """Let the connection or attempt end."""
        wire = self.open_wire
        assert wire is not None
        wire.over = True
        self.give(c.Ended(wire.number, LOCAL if wire.closing else failure))
        return self

    def receive(self, **fields: Any) -> World:
        """Let a frame arrive on the open connection."""
        wire = self.open_wire
        if wire is not None and wire.ready:
            update = fields.get("resumption")
            in_use = wire is self.wire and self.state in (State.LIVE, State.LEAVING)
            if in_use and isinstance(update, ResumptionUpdate) and update.resumable:
                self.good_handle = update.handle or self.good_handle
            self.give(c.Received(wire.number, ServerMessage(**fields)))
        return self

    def handle_update(self, lag: int = 0) -> str:
        """Let a new resumable handle arrive; its state lacks the last `lag` messages."""
        self.handles += 1
        handle = f"handle-{self.handles}"
        index = None
        wire = self.open_wire
        if self.indexed and wire is not None:
            index = wire.consumed = max(wire.consumed, len(wire.received) - lag)
            self.states[handle] = wire.before + wire.received[:index]
        self.receive(resumption=ResumptionUpdate(handle, resumable=True, consumed_index=index))
        return handle

    def reply(self, ms: int = 200, *, text: str = "", keep: bool = True) -> World:
        """Let a whole reply arrive and be played out."""
        before = self.last_reply
        asked = [n for n, wires in self.whole_deliveries().items() if self.wire.number in wires]
        self.receive(audio=(bytes(48 * ms),), model_turn=True)
        turn = self.last_reply
        if turn != before and self.open_wire is not None and not self.wire.activity_open:
            self.answered.update(asked)
        self.receive(generation_complete=True)
        self.receive(turn_complete=True, tokens=Tokens(prompt=10, response=5))
        if self.open_wire is not None:
            self.open_wire.unanswered = 0
        if keep:
            self.handle_update()
        if turn:
            self.give(e.PlaybackMark(turn, float(ms), drained=True))
        return self

    @property
    def last_reply(self) -> int:
        """The turn of the newest reply audio."""
        audio = [value for value in self.delivered if isinstance(value, e.ReplyAudio)]
        return audio[-1].turn if audio else 0

    def advance(self, seconds: float) -> World:
        """Let time pass, with what becomes due on the way. A close of ours is answered at once."""
        until = self.now + seconds
        for _ in range(100_000):
            self._answer_closes()
            at = self.conversation.deadline()
            if at is None or at > until or self.finished:
                break
            self._pass(max(0.0, at - self.now))
            self.tick()
        else:
            raise AssertionError("the timers go round in circles")
        self._pass(until - self.now)
        return self

    def tick(self) -> None:
        """Let the conversation do what is due, whether or not anything is."""
        self.give(c.Tick(self.unsent_bytes))

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.wall = WallTime(self.wall.unix_s + seconds, self.wall.synchronised)

    def _answer_closes(self) -> None:
        while (wire := self.open_wire) is not None and wire.closing:
            if not (self.polite or wire.aborted):
                return
            self.end()

    # ── the user ──

    def speak(self, pieces: int = 10, *, end: bool = True) -> Spoken:
        """Say something: a pre-roll of 300 ms and some pieces."""
        spoken = self.begin()
        for _ in range(pieces):
            self.go_on()
        if end:
            self.finish()
        return spoken

    def begin(self) -> Spoken:
        """Begin an utterance."""
        spoken = Spoken(len(self.spoken) + 1, muted=self.muted)
        pre_roll = b"".join(pcm(spoken.number, n) for n in range(15))
        spoken.pieces = 15
        spoken.pcm += pre_roll
        self.spoken.append(spoken)
        self.give(e.UtteranceStarted(spoken.number, self.now - 0.3, pre_roll, self.now - 0.06))
        return spoken

    def go_on(self) -> None:
        """20 ms more of the open utterance."""
        spoken = self.spoken[-1]
        piece = pcm(spoken.number, spoken.pieces)
        spoken.pieces += 1
        spoken.pcm += piece
        self._pass(0.02)
        self.give(e.UtteranceAudio(spoken.number, self.now, piece))

    def finish(self, reason: e.EndReason = e.EndReason.HANGOVER) -> None:
        """End the open utterance."""
        spoken = self.spoken[-1]
        spoken.ended = reason
        self.give(e.UtteranceEnded(spoken.number, self.now, spoken.pieces * 20.0, reason))

    def give_say(self, text: str = "what time is it") -> None:
        """Type a question."""
        self.give(c.Say(text))

    def mute(self, *, on: bool = True) -> None:
        """Mute or unmute."""
        self.muted = on
        if on:
            for spoken in self.spoken:
                if spoken.number not in self.whole_deliveries():
                    spoken.muted = True
        self.give(c.SetMute(on))

    # ── checks ──

    def _carry_out(self, command: c.Command) -> None:
        rule = self._rules.get(type(command))
        assert rule is not None, f"the world does not know {command}"
        rule(command)

    def _closes(self, command: c.Close) -> None:
        wire = self.open_wire
        assert wire is not None, "closes what is not open"
        assert wire.number == command.connection, "closes another connection"
        wire.closing = True
        wire.aborted = wire.aborted or not command.graceful

    def _stores(self, command: c.StoreDocument) -> None:
        self.documents[command.name] = command.document

    def _calls_tool(self, command: c.CallTool) -> None:
        self.tools[command.key] = command

    def _finishes(self, command: c.Finished) -> None:
        del command
        assert self.open_wire is None, "finished beside an open connection"
        self.finished = True

    def _check_dial(self, command: c.Dial) -> None:
        assert self.open_wire is None, "dials beside an open connection"
        assert not self.finished
        self.dial_times.append(self.now)
        recent = [at for at in self.dial_times if at > self.now - 60.0]
        limit = self.settings.live.dials_per_min
        assert len(recent) <= limit, f"{len(recent)} dials within a minute"
        if self.good_handle is not None:
            assert command.plan.handle == self.good_handle, "a good handle is not used"
        wire = Wire(command.connection, command.plan)
        wire.before = list(self.states.get(command.plan.handle or "", []))
        starts = sum(isinstance(m, ActivityStart) for m in wire.before)
        wire.activity_open = starts > sum(isinstance(m, ActivityEnd) for m in wire.before)
        self.wires.append(wire)

    def _check_send(self, command: c.Send) -> None:
        wire = self.open_wire
        assert wire is not None, "sends without a connection"
        assert wire.number == command.connection, "sends on a dead connection"
        assert wire.ready, "sends before setup is complete"
        assert not wire.closing, "sends after the close"
        message = command.message
        if isinstance(message, RealtimeAudio):
            assert self.lit is not None, "audio outside UplinkOpened and UplinkClosed"
            assert not self.muted, "audio while muted"
            number = int.from_bytes(message.pcm[:4], "big")
            assert self.indexed or number not in self.answered, "asks again what was answered"
            assert 0 < len(message.pcm) <= 3200
        if isinstance(message, ActivityStart):
            assert not wire.activity_open, "two activities at once"
            assert self.settings.live.activity_detection == "local"
            wire.activity_open = True
        if isinstance(message, ActivityEnd):
            assert wire.activity_open, "activityEnd without activityStart"
            wire.activity_open = False
        if isinstance(message, ActivityEnd | AudioStreamEnd):
            wire.unanswered += 1
        if isinstance(message, ClientContent) and message.turn_complete:
            assert not wire.activity_open, "a text in the middle of speech"
            wire.unanswered += 1
        wire.received.append(message)

    def _check_event(self, event: e.Event) -> None:
        self.events.append(event)
        assert event.message()
        match event:
            case e.UplinkOpened(utterance=number):
                assert self.lit is None, "the uplink is open already"
                self.lit = number
            case e.UplinkClosed(utterance=number):
                assert self.lit == number, "another uplink is open"
                self.lit = None
            case e.ToolStarted(turn=number):
                self.calls[number] += 1
                assert self.calls[number] <= MAX_CALLS_OF_TURN, "calls without end"
            case e.SpeechLost(utterance=number):
                assert number not in self.lost, "lost twice"
                self.lost.add(number)
            case e.HandleDropped() | e.Forgotten() | e.SessionFresh():
                self.good_handle = None

    def told(self, kind: type[e.Event]) -> list[Any]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def heard_by(self, wire: Wire) -> bytes:
        """All audio of the session as a connection knows it, in order."""
        return b"".join(m.pcm for m in wire.known if isinstance(m, RealtimeAudio))

    def whole_deliveries(self) -> dict[int, list[int]]:
        """For each utterance the connections on which it arrived whole and closed."""
        found: dict[int, list[int]] = defaultdict(list)
        for wire in self.wires:
            closed = b""
            pending = b""
            for message in wire.known:
                if isinstance(message, RealtimeAudio):
                    pending += message.pcm
                elif isinstance(message, ActivityEnd | AudioStreamEnd):
                    closed += pending
                    pending = b""
            for spoken in self.spoken:
                if spoken.pcm and bytes(spoken.pcm) in closed:
                    found[spoken.number].append(wire.number)
        return found

    def settle(self, seconds: float = 1500.0) -> None:
        """From now on all is well: the network is up, the service answers everything."""
        if self.state is State.OFF:
            self.start()
        if self.spoken and self.spoken[-1].ended is None:
            self.finish()
        self.give(e.LinkChanged(interface="wlan0", online=True))
        until = self.now + seconds
        while self.now < until:
            self._answer_closes()
            if self.state is State.DIALING:
                self.connect()
            elif self.is_in(State.LIVE, State.LEAVING) and self.wire.unanswered:
                self.reply()
            for key in list(self.tools):
                del self.tools[key]
                self.give(c.ToolDone(key, "answered", {}))
            if self._is_calm():
                # no timer may bring it down again, except to find more to do
                self.advance(min(30.0, until - self.now))
                if self._is_calm():
                    return
            else:
                self.advance(0.05 if self.is_in(State.LIVE, State.LEAVING) else 5.0)
        raise AssertionError(f"still {self.state} after {seconds} s of good weather")

    def _is_calm(self) -> bool:
        live = self.is_in(State.LIVE) and not self.wire.unanswered
        return live or self.is_in(State.RELEASED)
