"""An event loop whose time passes at once: what waits for seconds waits for nothing."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from agentd.clock import WallTime

T = TypeVar("T")
THREADS = "agentd "
"""The names of threads in which blocking calls run begin so; time stands still for those."""


LONGEST_CALL_S = 60.0
"""Real seconds; a blocking call that takes longer has hung, and its test fails."""


class _Jumping(selectors.DefaultSelector):
    now_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._foreign = set(threading.enumerate())
        """Threads of earlier tests, some of which hang for ever on purpose: not waited for."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waiting_since = time.monotonic()
        while not (ready := super().select(0)) and timeout != 0:
            if calls := self._calls():
                if time.monotonic() - waiting_since > LONGEST_CALL_S:
                    raise RuntimeError(f"these blocking calls do not return: {calls}")
                super().select(0.001)
            elif timeout is None:
                raise RuntimeError("everybody waits for something that will never happen")
            else:
                self.now_s += timeout
                return []
        return ready

    def _calls(self) -> list[str]:
        found = set(threading.enumerate()) - self._foreign
        return [thread.name for thread in found if thread.name.startswith(THREADS)]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when nobody has anything to do."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time."""
        return self._jumping.now_s


class LoopClock:
    """The clock of the loop that runs; may be read from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def wall(self) -> WallTime:
        """Return a time of day that passes with it."""
        return WallTime(1_800_000_000.0 + self.monotonic(), synchronised=True)

    async def sleep(self, seconds: float) -> None:
        """Wait on the loop."""
        await asyncio.sleep(seconds)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a loop of its own, without waiting."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
