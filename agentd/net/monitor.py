"""Follows the network path and tells when it changed: the shell around `agentd.net.path`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentd.clock import Clock
from agentd.events import Emit, LinkChanged, LinkUnwatched
from agentd.net.kernel import Kernel, Subscription
from agentd.net.path import NetworkPath, PathChange, PathTracker
from agentd.waiting import call_in_daemon_thread, wait_for_event

GATHER_S = 0.02  # one change of the network is a burst of messages
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0


class NetworkMonitor:
    """Watches the kernel; emits `LinkChanged` and calls `on_path` for every change of the path."""

    def __init__(
        self,
        kernel: Kernel,
        *,
        clock: Clock,
        emit: Emit,
        on_path: Callable[[PathChange], None],
        debounce_ms: int = 200,
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._emit = emit
        self._on_path = on_path
        self._tracker = PathTracker(debounce_ms / 1000)
        self._knocked = asyncio.Event()
        self._told_cause = ""

    @property
    def path(self) -> NetworkPath | None:
        """Return the path as it was told last; None before the first look."""
        return self._tracker.path

    async def run(self) -> None:
        """Watch until cancelled; a kernel that cannot be watched is told and tried again."""
        retry_s = RETRY_FIRST_S
        while True:
            subscription: Subscription | None = None
            looks = 0
            try:
                subscription = self._kernel.subscribe(self._knocked.set)
                while subscription.alive:
                    await self._look()
                    looks += 1
                    await self._wait()
                cause = "the subscription ended"
            except OSError as error:
                cause = error.strerror or str(error) or type(error).__name__
            finally:
                if subscription is not None:
                    subscription.close()
            if cause != self._told_cause:
                self._told_cause = cause
                self._emit(LinkUnwatched(cause=cause))
            # One good look at least: this was a disturbance, not the rule.
            retry_s = RETRY_FIRST_S if looks else min(retry_s * 2, RETRY_MAX_S)
            await self._clock.sleep(retry_s)

    async def _look(self) -> None:
        # In a thread: the kernel's network lock is held for long just when the network changes.
        snapshot = await call_in_daemon_thread(self._kernel.snapshot, "network")
        change = self._tracker.observe(snapshot, self._clock.monotonic())
        if change is not None:
            after = change.after
            self._emit(LinkChanged(interface=after.interface, online=after.online))
            self._on_path(change)

    async def _wait(self) -> None:
        due_s = self._tracker.due_s
        wait_s = None if due_s is None else max(0.0, due_s - self._clock.monotonic())
        if await wait_for_event(self._knocked, self._clock, wait_s):
            await self._clock.sleep(GATHER_S)
            self._knocked.clear()
