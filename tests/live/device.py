"""A device for tests: a real session, marked PCM for a microphone, a speaker that counts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from agentd import events as e
from agentd.clock import Clock, SystemClock
from agentd.config.credentials import Credentials
from agentd.config.settings import Settings
from agentd.live.connection import Connector
from agentd.live.google.connector import GenaiConnector
from agentd.live.session import LiveSession
from agentd.live.store import MemoryStore
from agentd.live.toolbox import Toolbox
from tests.live.world import pcm, settings
from tests.virtual import LoopClock, VirtualLoop, run_virtually

DEADLINE_S = 20.0
SOON_S = 0.02
PRE_ROLL_PIECES = 15

_Event = TypeVar("_Event", bound=e.Event)


def key_of_everyone(backend: str) -> Credentials:
    """Any key will do."""
    del backend
    return Credentials("test", api_key="test-key-0123456789")


Test = Callable[..., Coroutine[Any, Any, None]]


def on_loop(test: Test) -> Callable[..., None]:
    """Run an async test to its end, in bounded virtual time; both ends must be on its loop."""
    return _bounded(test, run_virtually)


def on_real_loop(test: Test) -> Callable[..., None]:
    """Run an async test to its end, in bounded real time: some of it is elsewhere."""
    return _bounded(test, asyncio.run)


def _bounded(
    test: Test, run_loop: Callable[[Coroutine[Any, Any, None]], None]
) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(4 * DEADLINE_S):
                await test(*args, **kwargs)

        run_loop(bounded())

    return run


def clock_of_loop() -> Clock:
    """Return the clock of the loop that runs."""
    virtual = isinstance(asyncio.get_running_loop(), VirtualLoop)
    return LoopClock() if virtual else SystemClock()


class Device:
    """Holds a session; `async with` runs it and stops it."""

    def __init__(
        self,
        base_url: str = "",
        *,
        store: MemoryStore | None = None,
        connector: Connector | None = None,
        toolbox: Toolbox | None = None,
        clock: Clock | None = None,
        find: Callable[[str], Credentials] = key_of_everyone,
        config: Settings | None = None,
        **live: Any,
    ) -> None:
        self.settings = config or settings(**({"base_url": base_url} if base_url else {}), **live)
        self.store = store or MemoryStore()
        self.events: list[e.Event] = []
        self.values: list[e.Downlink] = []
        self.speed = 1.0  # how much faster than real time the speaker plays
        self.utterances: dict[int, bytes] = {}
        self._changed = asyncio.Event()
        self._handles: set[asyncio.TimerHandle] = set()
        toolbox = Toolbox() if toolbox is None else toolbox  # an empty one is false
        self.session = LiveSession(
            self.settings,
            clock=clock or clock_of_loop(),
            connector=connector or GenaiConnector(toolbox, find=find),
            store=self.store,
            emit=self._emit,
            deliver=self._deliver,
            toolbox=toolbox,
            random=lambda: 0.5,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.session.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop as the daemon would."""
        assert self._task is not None
        await self.session.stop()
        async with asyncio.timeout(DEADLINE_S):
            await self._task

    # ── microphone ──

    async def speak(self, pieces: int = 10, *, pause_s: float = 0.0) -> int:
        """Say an utterance; its audio can be told from any other."""
        number = await self.begin()
        await self.go_on(number, pieces, pause_s=pause_s)
        return self.finish(number)

    async def begin(self) -> int:
        """Begin an utterance."""
        number = len(self.utterances) + 1
        pre_roll = b"".join(pcm(number, n) for n in range(PRE_ROLL_PIECES))
        self.utterances[number] = pre_roll
        now = self.now
        self.session.hear(e.UtteranceStarted(number, now - 0.3, pre_roll, now - 0.06))
        await asyncio.sleep(0)
        return number

    async def go_on(self, number: int, pieces: int, *, pause_s: float = 0.0) -> None:
        """Go on speaking."""
        for _ in range(pieces):
            piece = pcm(number, len(self.utterances[number]) // 640)
            self.utterances[number] += piece
            self.session.hear(e.UtteranceAudio(number, self.now, piece))
            await asyncio.sleep(pause_s)

    def finish(self, number: int, reason: e.EndReason = e.EndReason.HANGOVER) -> int:
        """Fall silent."""
        speech_ms = len(self.utterances[number]) / 32
        self.session.hear(e.UtteranceEnded(number, self.now, speech_ms, reason))
        return number

    @property
    def now(self) -> float:
        """Monotonic time."""
        return asyncio.get_running_loop().time()

    # ── speaker ──

    def _deliver(self, value: e.Downlink) -> None:
        self.values.append(value)
        if isinstance(value, e.ReplyComplete):
            self._later(self.reply_ms(value.turn) / 1000 / self.speed, self._played, value.turn)
        if isinstance(value, e.ReplyCancelled):
            self.session.mark(e.PlaybackMark(value.turn, 0.0, drained=True))
        self._changed.set()

    def _played(self, turn: int) -> None:
        self.session.mark(e.PlaybackMark(turn, self.reply_ms(turn), drained=True))

    def _later(self, delay_s: float, call: Callable[[int], None], turn: int) -> None:
        self._handles.add(asyncio.get_running_loop().call_later(delay_s, call, turn))

    def reply_ms(self, turn: int) -> float:
        """How much reply has come."""
        return sum(
            len(v.pcm) / 48 for v in self.values if isinstance(v, e.ReplyAudio) and v.turn == turn
        )

    @property
    def reply(self) -> bytes:
        """All reply audio so far."""
        return b"".join(v.pcm for v in self.values if isinstance(v, e.ReplyAudio))

    # ── events ──

    def _emit(self, event: e.Event) -> None:
        self.events.append(event)
        self._changed.set()

    def told(self, kind: type[_Event]) -> list[_Event]:
        """Events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait(self, what: Callable[[], object], why: str = "") -> None:
        """Wait until something is so."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not what():
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        # conditions on other objects do not ring this bell
                        await asyncio.wait_for(self._changed.wait(), SOON_S)
        except TimeoutError:
            story = "\n".join(f"{event.name}: {event.message()}" for event in self.events[-25:])
            raise AssertionError(f"never {why or what}; the last events:\n{story}") from None

    async def event(self, kind: type[_Event], count: int = 1) -> _Event:
        """Wait for the `count`-th event of a kind and return it."""
        await self.wait(lambda: len(self.told(kind)) >= count, f"{count} × {kind.name}")
        return self.told(kind)[count - 1]

    async def connected(self, times: int = 1) -> None:
        """Wait until the session stands for the `times`-th time."""
        await self.wait(
            lambda: self.session.status().connections >= times and self.session.status().connected,
            f"connected {times} times",
        )

    async def answered(self, times: int = 1) -> None:
        """Wait until `times` turns have ended and all is quiet again."""
        await self.wait(lambda: len(self.told(e.TurnEnded)) >= times, f"{times} turns answered")

    async def good_handle(self, times: int = 1) -> None:
        """Wait until `times` handles are stored."""
        await self.event(e.HandleStored, times)

    def fields(self) -> Mapping[str, Any]:
        """The status, for the eye."""
        return {name: getattr(self.session.status(), name) for name in ("state", "dials")}
