"""An event loop whose time passes at once: what waits for seconds waits for nothing.

Both ends of a socket may be on it: what is under way between them arrives before time goes on. What
another process or thread does in real time (a relay, a network namespace) has no place on it.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

from agentd.clock import WallTime

T = TypeVar("T")
Given = TypeVarTuple("Given")
THREADS = "agentd "
"""The names of threads in which blocking calls run begin so; time stands still for those."""


LONGEST_CALL_S = 60.0
"""Real seconds; a blocking call that takes longer has hung, and its test fails."""
TICK_S = 1e-9
NEAR_S = 0.05
ON_THE_WAY_S = 0.002
"""Real seconds. The kernel hands bytes over as they are sent, unless it is very busy: before more
than `NEAR_S` is jumped over, which may be a deadline, it gets that long."""


class _Jumping(selectors.DefaultSelector):
    now_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        """Calls that asyncio's own threads have not answered."""
        self._foreign = set(threading.enumerate())
        """Threads of earlier tests, some of which hang for ever on purpose: not waited for."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waiting_since, lingered = time.monotonic(), False
        while not (ready := super().select(0)) and timeout != 0:
            if calls := self._calls():
                if time.monotonic() - waiting_since > LONGEST_CALL_S:
                    raise RuntimeError(f"these blocking calls do not return: {calls}")
                super().select(0.001)
            elif self._has_sockets and (timeout is None or timeout > NEAR_S) and not lingered:
                lingered = True
                super().select(ON_THE_WAY_S)
            elif timeout is None:
                raise RuntimeError("everybody waits for something that will never happen")
            else:
                self.now_s += timeout
                return []
        return ready

    def _calls(self) -> list[str]:
        found = set(threading.enumerate()) - self._foreign
        named = [thread.name for thread in found if thread.name.startswith(THREADS)]
        return [*named, *["asyncio.to_thread"] * self.calls]

    @property
    def _has_sockets(self) -> bool:
        return len(self.get_map()) > 1  # the first is the loop's own


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when nobody has anything to do."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time."""
        return self._jumping.now_s

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Given]], object],
        *args: *Given,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Fire at `when`, and at least a tick from now.

        Who has rounded a time and looks again "now" would otherwise look for ever.
        """
        now_s = self.time()
        soonest_s = now_s + max(TICK_S, 4 * math.ulp(now_s))
        return super().call_at(max(when, soonest_s), callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]  # typeshed has the coroutine of the abstract one
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Let time stand still until the call has returned."""
        self._jumping.calls += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._returned)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Wait for the threads as long as they take."""
        self._jumping.calls += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._jumping.calls -= 1

    def _returned(self, _: object) -> None:
        self._jumping.calls -= 1


class LoopClock:
    """The loop's clock, or one `scale` times as fast; may be read from any thread."""

    def __init__(self, scale: float = 1.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._scale = scale

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time() * self._scale

    def wall(self) -> WallTime:
        """Return a time of day that passes with it."""
        return WallTime(1_800_000_000.0 + self.monotonic(), synchronised=True)

    async def sleep(self, seconds: float) -> None:
        """Wait on the loop."""
        await asyncio.sleep(max(0.0, seconds) / self._scale)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a loop of its own, without waiting."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
