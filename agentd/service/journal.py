"""The journal of the daemon: every event becomes one entry, filtered, bounded and private."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from agentd.clock import Clock
from agentd.config.settings import Settings
from agentd.events import Event, SessionFresh
from agentd.service.entry import JournalEntry, Value, entry_of
from agentd.service.outlets import Outlet
from agentd.service.ratelimit import RateLimit
from agentd.stage import Stage

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Journal(Stage):
    """The stage that logs every event. `put`, `tick` and `close` may be called from any thread.

    Every entry carries the session and the connection in which it happened, so that
    `journalctl AGENTD_CONNECTION=19` shows all of that connection, turns included. Both count
    from the start of the daemon.
    """

    def __init__(
        self, outlet: Outlet, *, clock: Clock, level: str = "info", limit: RateLimit | None = None
    ) -> None:
        self._outlet = outlet
        self._clock = clock
        self._level = LEVELS[level]
        self._limit = limit or RateLimit()
        self._lock = threading.RLock()
        self._session = 0
        self._connection = 0

    @property
    def dropped(self) -> int:
        """Return how many entries the outlet could not take."""
        return self._outlet.dropped

    async def configure(self, settings: Settings) -> str:
        """Log from another level on."""
        self._level = LEVELS[settings.log.level]
        return ""

    def on_event(self, event: Event) -> None:
        """Log `event`."""
        with self._lock:
            if isinstance(event, SessionFresh):
                self._session += 1
            connection = getattr(event, "connection", None)
            if isinstance(connection, int):
                self._connection = connection
            if event.level >= self._level:
                self.put(entry_of(event))

    def put(self, entry: JournalEntry) -> None:
        """Log an entry that is not an event: a library's warning, a crash."""
        with self._lock:
            self.tick()
            if entry.level >= self._level and self._limit.allow(
                entry.name, self._clock.monotonic()
            ):
                self._outlet.put(self._stamped(entry))

    def tick(self) -> None:
        """Tell what was suppressed in windows that are over."""
        with self._lock:
            for name, count in self._limit.expired(self._clock.monotonic()):
                self._outlet.put(self._stamped(_suppressed(name, count)))

    def close(self) -> None:
        """Tell what was suppressed and not told yet, and bring everything to its place."""
        with self._lock:
            for name, count in self._limit.drain():
                self._outlet.put(self._stamped(_suppressed(name, count)))
        self._outlet.close()

    def _stamped(self, entry: JournalEntry) -> JournalEntry:
        context: dict[str, Value] = {}
        if self._session:
            context["session"] = self._session
        if self._connection:
            context["connection"] = self._connection
        fields = context | dict(entry.fields)
        return JournalEntry(entry.name, entry.level, entry.message, fields, entry.detail)


def _suppressed(name: str, count: int) -> JournalEntry:
    return JournalEntry(
        "suppressed",
        logging.WARNING,
        f"{count} more {name} {'entry was' if count == 1 else 'entries were'} suppressed",
        {"suppressed": name, "count": count},
    )
