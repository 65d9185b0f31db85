"""The start: when it is complete, and when the first connection no longer needs the processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentd import __version__
from agentd.clock import Clock
from agentd.config.settings import Settings
from agentd.events import (
    CaptureBack,
    CaptureLost,
    Disconnected,
    Emit,
    Event,
    Muted,
    Ready,
    Resumed,
    SessionFresh,
)
from agentd.service.notify import Notifier
from agentd.stage import Stage
from agentd.waiting import wait_for_event

SETTLE_S = 10.0  # the first connection has had its chance


class Startup(Stage):
    """Announces that the daemon is ready."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        emit: Emit,
        notifier: Notifier,
        muted: Callable[[], bool],
        once_settled: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `once_settled` is called when the first dial is over."""
        self._settings = settings
        self._clock = clock
        self._emit = emit
        self._notifier = notifier
        self._muted = muted
        self._once_settled = once_settled
        self._microphone_known = asyncio.Event()
        self._dialled = asyncio.Event()  # the first dial has come to something

    def on_event(self, event: Event) -> None:
        """Note the first word of microphone and connection."""
        if isinstance(event, CaptureBack | CaptureLost | Muted):
            self._microphone_known.set()
        elif isinstance(event, SessionFresh | Resumed | Disconnected):
            self._dialled.set()

    async def run(self) -> None:
        """Report that the start is complete, and that it is quiet; then return."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._become_ready())
            await self.settled()
            self._once_settled()

    async def _become_ready(self) -> None:
        """Notify systemd once the microphone works, is reported missing, or is closed by a mute."""
        if not self._muted():
            await self._microphone_known.wait()
        live = self._settings.live
        self._emit(Ready(version=__version__, backend=live.backend, model=live.model))
        self._notifier.ready()

    async def settled(self) -> None:
        """Wait until the first dial is over: what is slow to import would only hold it up."""
        await wait_for_event(self._dialled, self._clock, SETTLE_S)
