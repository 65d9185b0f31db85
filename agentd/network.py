"""The watch on the network path as one stage: begins late, and is replaced by a reload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from agentd.config.settings import Settings
from agentd.events import Event, LinkChanged
from agentd.stage import Absent, Runnable, Slot, Stage


@dataclass(frozen=True, slots=True)
class NetworkLog:
    """The network path as last reported."""

    interface: str = ""
    online: bool | None = None  # None: nobody watches it
    changes: int = 0

    def after(self, event: Event) -> NetworkLog:
        """Return the log once `event` has happened."""
        if not isinstance(event, LinkChanged):
            return self
        return replace(
            self, interface=event.interface, online=event.online, changes=self.changes + 1
        )


class NetworkWatch(Stage):
    """Runs the monitor of the settings in force; none where it is switched off."""

    def __init__(
        self,
        settings: Settings,
        make: Callable[[Settings], Runnable],
        settled: Callable[[], Awaitable[object]],
    ) -> None:
        """Prepare; `make` builds a monitor. What is slow to import waits for `settled`."""
        self._settings = settings
        self._make = make
        self._settled = settled
        self._monitor = Slot(self._made(settings))
        self._log = NetworkLog()

    def _made(self, settings: Settings) -> Runnable:
        return self._make(settings) if settings.network.monitor else Absent()

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._settled()
        await self._monitor.run()

    async def configure(self, settings: Settings) -> str:
        """Watch otherwise, or no more."""
        before = self._settings
        if settings.network != before.network:
            monitor = self._made(settings)
            self._settings = settings
            await self._monitor.replace(monitor)
        return ""

    def on_event(self, event: Event) -> None:
        """Keep what the monitor reports."""
        self._log = self._log.after(event)

    def status(self) -> object:
        """Return the `network` part of the status."""
        return self._log
