"""A conversation in one process: `LiveSession`, the real SDK, TLS, and the Live API emulator.

The microphone and the speaker are the test's: what is said are bytes that occur nowhere else, so
that "every sample arrived, in order, once" is a comparison of bytes. Everything runs `SCALE` times
as fast as life unless a test says otherwise.

In `make test` time is virtual: it passes when nobody has anything to do, and a machine that is
busy with something else changes nothing. `make continuity` keeps and reports real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from agentd import events as e
from agentd.clock import Clock, SystemClock, WallTime
from agentd.config.settings import Settings
from agentd.live.commands import SetupPlan
from agentd.live.connection import Connection, Connector
from agentd.live.google.connector import GenaiConnector
from agentd.live.messages import ClientMessage, ServerMessage
from agentd.live.session import LiveSession
from agentd.live.store import ConversationStore, MemoryStore
from agentd.live.toolbox import Tool, Toolbox
from live_emulator import Emulator, EmulatorOptions
from live_emulator.record import Entry
from tests.emulator.clients import environment
from tests.virtual import LoopClock, VirtualLoop, run_virtually

FULL = os.environ.get("AGENTD_CONTINUITY") == "full"
SCALE = 10.0
DEADLINE_S = 30.0
"""For everything that is waited for: the machine may be busy with something else."""
PIECE_BYTES = 640
PRE_ROLL_PIECES = 15
API_KEY = "AIza-this-key-must-never-be-seen"
DEVELOPER, VERTEX = "developer", "vertex"
BACKENDS = (DEVELOPER, VERTEX)

T = TypeVar("T", bound=e.Event)
Tables = Mapping[str, Mapping[str, Any]]


def run(main: Coroutine[Any, Any, None], *, real_time: bool = False) -> None:
    """Run a test's coroutine with a deadline.

    Args:
        real_time: something takes part that keeps it: a relay, the kernel's network, a process.
    """

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main

    if real_time or FULL:
        asyncio.run(bounded())
    else:
        run_virtually(bounded())


def clock_of(scale: float) -> Clock:
    """Return a clock `scale` times as fast as that of the loop that runs."""
    if isinstance(asyncio.get_running_loop(), VirtualLoop):
        return LoopClock(scale)
    return SystemClock(scale)


class ElsewhereClock:
    """A household's clock whose time of day is another one."""

    def __init__(
        self, scale: float = SCALE, *, offset_s: float = 0.0, synchronised: bool = True
    ) -> None:
        self._clock = clock_of(scale)
        self.offset_s = offset_s
        self.synchronised = synchronised

    def monotonic(self) -> float:
        """Return the time that durations are measured by."""
        return self._clock.monotonic()

    def wall(self) -> WallTime:
        """Return the shifted time."""
        return WallTime(self._clock.wall().unix_s + self.offset_s, self.synchronised)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._clock.sleep(seconds)


@dataclass
class Spoken:
    """One utterance and what became of it."""

    number: int
    pcm: bytes
    ended_s: float = 0.0
    """By the household's clock."""


@dataclass
class Delivery:
    """How one utterance reached the service."""

    spoken: Spoken
    times: int
    """Whole deliveries that the conversation contains: not undone by the end of a connection."""
    undone: int
    """Whole deliveries on connections that ended before they were answered."""
    at: int
    """Where the last of them stands among all utterances received."""


class Loudspeaker:
    """Plays replies on the clock, and says how far they were heard, as the real player does."""

    def __init__(self, clock: Clock, mark: Callable[[e.PlaybackMark], None]) -> None:
        self.heard_ms: dict[int, float] = {}
        self._clock = clock
        self._mark = mark
        self._until_s = 0.0
        self._received_ms: dict[int, float] = {}
        self._playing: dict[int, asyncio.Task[None]] = {}

    def hear(self, value: e.Downlink) -> None:
        """Take what the session delivers."""
        if isinstance(value, e.ReplyAudio):
            ms = len(value.pcm) / 48.0
            self._received_ms[value.turn] = self._received_ms.get(value.turn, 0.0) + ms
            self._until_s = max(self._until_s, self._clock.monotonic()) + ms / 1000.0
        elif isinstance(value, e.ReplyComplete):
            self._playing[value.turn] = asyncio.create_task(self._play_out(value.turn))
        elif isinstance(value, e.ReplyCancelled):
            self._until_s = self._clock.monotonic()
            if task := self._playing.pop(value.turn, None):
                task.cancel()
            self._drained(value.turn)

    async def _play_out(self, turn: int) -> None:
        await self._clock.sleep(self._until_s - self._clock.monotonic())
        self._playing.pop(turn, None)
        self._drained(turn)

    def _drained(self, turn: int) -> None:
        self.heard_ms[turn] = self._received_ms.get(turn, 0.0)
        self._mark(e.PlaybackMark(turn, self.heard_ms[turn], drained=True))

    async def stop(self) -> None:
        """Stop playing."""
        tasks = list(self._playing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _ScaledLink:
    """A link whose announced times are in the household's seconds.

    The emulator announces GoAway in real seconds, as a client without a fast clock needs it.
    """

    def __init__(self, link: Connection, scale: float) -> None:
        self._link = link
        self._scale = scale

    @property
    def local_address(self) -> str | None:
        return self._link.local_address

    @property
    def unsent_bytes(self) -> int:
        return self._link.unsent_bytes

    async def send(self, message: ClientMessage) -> None:
        await self._link.send(message)

    async def receive(self) -> ServerMessage:
        message = await self._link.receive()
        if message.go_away_s is None:
            return message
        return replace(message, go_away_s=message.go_away_s * self._scale)

    async def close(self) -> None:
        await self._link.close()

    def abort(self) -> None:
        self._link.abort()


class ScaledConnector:
    """The real connector for a session on a fast clock."""

    def __init__(self, connector: Connector, scale: float) -> None:
        self._connector = connector
        self._scale = scale

    async def warm_up(self) -> None:
        """Import the SDK."""
        await self._connector.warm_up()

    async def connect(self, plan: SetupPlan) -> Connection:
        """Dial."""
        return _ScaledLink(await self._connector.connect(plan), self._scale)


@dataclass
class Household:
    """A session at work, and the person who talks to it."""

    emulator: Emulator
    clock: Clock
    settings: Settings
    store: ConversationStore
    connector: Connector
    toolbox: Toolbox
    seed: int = 7
    events: list[e.Event] = field(default_factory=list)
    transcript: list[e.TranscriptText] = field(default_factory=list)
    spoken: list[Spoken] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._watchers: list[Callable[[e.Event], None]] = []
        self.session = LiveSession(
            self.settings,
            clock=self.clock,
            connector=self.connector,
            store=self.store,
            emit=self._emit,
            deliver=self._deliver,
            toolbox=self.toolbox,
            random=self.chance.random,
        )
        self.speaker = Loudspeaker(self.clock, self.session.mark)

    # ── what the session says ──

    def _emit(self, event: e.Event) -> None:
        assert event.message()
        self.events.append(event)
        for watcher in self._watchers:
            watcher(event)
        self._changed.set()

    def _deliver(self, value: e.Downlink) -> None:
        if isinstance(value, e.TranscriptText):
            self.transcript.append(value)
        else:
            self.speaker.hear(value)

    def watch(self, watcher: Callable[[e.Event], None]) -> None:
        """Call `watcher` with every event to come."""
        self._watchers.append(watcher)

    def told(self, kind: type[T], since: int = 0) -> list[T]:
        """Return the events of a kind."""
        return [event for event in self.events[since:] if isinstance(event, kind)]

    def mark(self) -> int:
        """Return a point in the list of events, for `since`."""
        return len(self.events)

    async def until(self, found: Callable[[], object], what: str) -> None:
        """Wait until an event has made something true."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not found():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            tail = "\n".join(f"{event.name}: {event.message()}" for event in self.events[-25:])
            raise AssertionError(f"no {what} in time; the last events:\n{tail}") from None

    async def wait_told(self, kind: type[T], since: int = 0, count: int = 1) -> T:
        """Return the `count`-th event of a kind after `since`, past or to come."""
        await self.until(lambda: len(self.told(kind, since)) >= count, kind.name)
        return self.told(kind, since)[count - 1]

    @property
    def connected(self) -> bool:
        """Whether a connection stands."""
        return self.session.status().connected

    async def online(self) -> None:
        """Wait until a connection stands."""
        await self.until(lambda: self.connected, "connection")

    # ── the person ──

    def words(self, seconds: float) -> bytes:
        """Return speech that was never heard before."""
        return self.chance.randbytes(round(seconds * 1000 / 20) * PIECE_BYTES)

    async def say(self, seconds: float = 0.6) -> Spoken:
        """Say something from beginning to end."""
        spoken = self.begin(seconds)
        await self.finish(spoken)
        return spoken

    def begin(self, seconds: float = 0.6) -> Spoken:
        """Begin to speak: the pre-roll and the onset are heard."""
        spoken = Spoken(len(self.spoken) + 1, self.words(max(0.4, seconds)))
        self.spoken.append(spoken)
        now = self.clock.monotonic()
        head = spoken.pcm[: PRE_ROLL_PIECES * PIECE_BYTES]
        self.session.hear(e.UtteranceStarted(spoken.number, now - 0.3, head, now - 0.06))
        return spoken

    async def finish(self, spoken: Spoken, *, reason: e.EndReason = e.EndReason.HANGOVER) -> None:
        """Say the rest, in real time by the household's clock."""
        started_s = self.clock.monotonic()
        pieces = range(PRE_ROLL_PIECES * PIECE_BYTES, len(spoken.pcm), PIECE_BYTES)
        for count, at in enumerate(pieces, 1):
            await self.clock.sleep(started_s + count * 0.02 - self.clock.monotonic())
            piece = spoken.pcm[at : at + PIECE_BYTES]
            now = self.clock.monotonic()
            self.session.hear(e.UtteranceAudio(spoken.number, now - 0.02, piece))
        spoken.ended_s = self.clock.monotonic()
        speech_ms = len(spoken.pcm) / 32.0
        self.session.hear(e.UtteranceEnded(spoken.number, spoken.ended_s, speech_ms, reason))

    async def answered(self, since: int) -> e.TurnEnded:
        """Wait until a turn has ended by an answer heard to its end."""

        def whole() -> list[e.TurnEnded]:
            return [turn for turn in self.told(e.TurnEnded, since) if not turn.interrupted]

        await self.until(whole, "answered turn")
        return whole()[0]

    async def talk(self, seconds: float = 0.6) -> e.TurnEnded:
        """Say something and hear the answer out."""
        since = self.mark()
        await self.say(seconds)
        return await self.answered(since)

    # ── what became of it ──

    def deliveries(self) -> list[Delivery]:
        """Find everything that was said among what the service received."""
        answered = self._answered_utterances()
        found = []
        for spoken in self.spoken:
            hits = [
                (place, answered[place])
                for place, got in enumerate(self.emulator.utterances)
                if got.complete and got.pcm == spoken.pcm
            ]
            kept = [place for place, good in hits if good]
            at = kept[-1] if kept else -1
            found.append(Delivery(spoken, len(kept), len(hits) - len(kept), at))
        return found

    def _answered_utterances(self) -> list[bool]:
        """Tell of every utterance received whether its connection lived to answer it."""
        entries = list(self.emulator.record)
        places = [entry for entry in entries if entry.kind == "utterance"]
        answered = []
        for entry in places:
            result = False
            for later in entries:
                if later.seq <= entry.seq or later.connection != entry.connection:
                    continue
                if later.kind in ("generationComplete", "interrupted"):
                    result = True
                    break
                if later.kind == "utterance":
                    break
            answered.append(result)
        return answered

    def assert_nothing_lost(self) -> None:
        """Every sample of every utterance arrived, in order, once."""
        deliveries = self.deliveries()
        wrong = [(d.spoken.number, d.times) for d in deliveries if d.times != 1]
        assert not wrong, f"(utterance, times it is part of the conversation): {wrong}"
        order = [delivery.at for delivery in deliveries]
        assert order == sorted(order), f"the order changed: {order}"
        assert not self.told(e.SpeechLost)

    def entries(self, kind: str, since: int = 0, direction: str = "") -> list[Entry]:
        """Return what the emulator recorded of a kind."""
        return [
            entry
            for entry in self.emulator.record
            if entry.kind == kind and entry.seq > since and direction in ("", entry.direction)
        ]

    @property
    def dials(self) -> int:
        """How often it was dialled."""
        return self.session.status().dials

    @property
    def seq(self) -> int:
        """The newest entry of the emulator's record."""
        return self.emulator.record.last_seq

    async def gap_ms(self, since: int) -> float:
        """Return real ms from the trouble after `since` to the setupComplete that ended it."""
        trouble = next(
            entry
            for entry in self.emulator.record
            if entry.seq > since and entry.kind in ("fault", "closing", "closed", "refused")
        )
        good = await self.emulator.record.wait_for(
            lambda entry: entry.kind == "setupComplete" and entry.t > trouble.t,
            DEADLINE_S,
            since=since,
        )
        return (good.t - trouble.t) * 1000.0


def settings_for(emulator: Emulator, backend: str, tables: Tables) -> Settings:
    """Return settings that dial this emulator."""
    live = {"base_url": emulator.base_url, "backend": backend, "reply_timeout_s": 60.0}
    # On a fast clock the machine itself needs "seconds" for a dial.
    merged: dict[str, dict[str, Any]] = {"live": live, "network": {"replay_max_age_s": 60.0}}
    for name, table in tables.items():
        merged[name] = {**merged.get(name, {}), **table}
    return Settings.model_validate(merged)


@contextlib.asynccontextmanager
async def household(
    backend: str = DEVELOPER,
    *,
    scale: float = SCALE,
    tables: Tables | None = None,
    tools: tuple[Tool, ...] = (),
    store: ConversationStore | None = None,
    clock: Clock | None = None,
    server: Emulator | None = None,
    base_url: str | None = None,
    seed: int = 7,
    **options: Any,
) -> AsyncIterator[Household]:
    """Start a service and a session that talks to it; stop both at the end.

    Args:
        scale: how many times as fast as life both run.
        server: a service that runs already; `options` are not used then.
        base_url: dial here instead (a relay in front of the service).
    """
    options = {"connection_limits": False, "reply": "tone", "tone_s": 0.5, **options}
    async with contextlib.AsyncExitStack() as stack:
        if server is None:
            server = Emulator(EmulatorOptions(time_scale=scale, **options))
            await stack.enter_async_context(server)
        variables = {**server.client_environment(), "GEMINI_API_KEY": API_KEY}
        stack.enter_context(environment(variables))
        settings = settings_for(server, backend, tables or {})
        if base_url is not None:
            settings = settings.model_copy(
                update={"live": settings.live.model_copy(update={"base_url": base_url})}
            )
        toolbox = Toolbox(tools)
        connector: Connector = ScaledConnector(GenaiConnector(toolbox), scale)
        home = Household(
            server,
            clock or clock_of(scale),
            settings,
            store or MemoryStore(),
            connector,
            toolbox,
            seed,
        )
        # Importing the SDK takes half a minute of a clock ten times as fast.
        await connector.warm_up()
        running = asyncio.create_task(home.session.run())
        try:
            yield home
        finally:
            await home.session.stop()
            await running
            await home.speaker.stop()
