"""A clock that moves only by sleeping, and stops at a horizon."""

from __future__ import annotations

import asyncio

from agentd.clock import FakeClock


class Stepping(FakeClock):
    """Time passes only by sleeping; who would sleep past the horizon sleeps for ever."""

    def __init__(self, horizon_s: float) -> None:
        super().__init__()
        self.end_s = self.now_s + horizon_s
        self.over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Advance at once, unless that is past the horizon."""
        if self.now_s + seconds > self.end_s:
            self.over.set()
            await asyncio.Event().wait()
        await super().sleep(seconds)
