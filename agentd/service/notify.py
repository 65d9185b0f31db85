"""Talks to systemd: ready, status, reloading, stopping, watchdog (sd_notify(3)).

One datagram each, so no library; without `$NOTIFY_SOCKET` every call does nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

from agentd.clock import Clock
from agentd.events import Emit, Starving
from agentd.service.watchdog import Evidence, Watchdog
from agentd.stage import Stage
from agentd.text import safe_text
from agentd.waiting import wait_for_event

BEATS_PER_PERIOD = 3  # two may be late before systemd loses patience
QUIET_BEAT_S = 30.0  # without a watchdog, for the status sentence alone


class Notifier:
    """The service manager's socket."""

    def __init__(self, address: str | None, *, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self._status = ""
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Notifier:
        """Return the notifier that systemd asked for, or one that does nothing."""
        watchdog_s = None
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            try:
                watchdog_s = int(environ["WATCHDOG_USEC"]) / 1e6
            except (KeyError, ValueError):
                watchdog_s = None
        address = environ.get("NOTIFY_SOCKET") or None
        return cls(address, watchdog_s=watchdog_s if watchdog_s and watchdog_s > 0 else None)

    @property
    def active(self) -> bool:
        """Say whether systemd listens."""
        return self._socket is not None

    def ready(self) -> None:
        """Tell that the start or a reload is complete."""
        self._send("READY=1")

    def status(self, sentence: str) -> None:
        """Show `sentence` in `systemctl status`; the same one is not sent twice."""
        if sentence != self._status:
            self._status = sentence
            self._send(f"STATUS={safe_text(sentence)}")

    def reloading(self, monotonic_usec: int | None = None) -> None:
        """Tell that a reload begins; `ready` ends it (Type=notify-reload, systemd 253)."""
        usec = time.monotonic_ns() // 1000 if monotonic_usec is None else monotonic_usec
        self._send(f"RELOADING=1\nMONOTONIC_USEC={usec}")

    def stopping(self) -> None:
        """Tell that the daemon is going down on purpose."""
        self._send("STOPPING=1")

    def feed(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            # Nobody to tell: a lost beat is made up for by the next one.
            return


class Heartbeat(Stage):
    """Feeds the watchdog from evidence and keeps the status sentence fresh."""

    def __init__(
        self,
        notifier: Notifier,
        *,
        clock: Clock,
        emit: Emit,
        evidence: Callable[[], Evidence],
        sentence: Callable[[], str],
    ) -> None:
        self._notifier = notifier
        self._clock = clock
        self._emit = emit
        self._evidence = evidence
        self._sentence = sentence
        self._watchdog = Watchdog()
        self._starving = False
        self._changed = asyncio.Event()

    @property
    def period_s(self) -> float:
        """Return the time between two beats."""
        watchdog_s = self._notifier.watchdog_s
        return QUIET_BEAT_S if watchdog_s is None else watchdog_s / BEATS_PER_PERIOD

    def refresh(self) -> None:
        """Renew the sentence soon: the state has changed."""
        self._changed.set()

    def beat(self) -> None:
        """Feed or starve, once."""
        now_s = self._clock.monotonic()
        if self._watchdog.feed(self._evidence(), now_s):
            self._starving = False
            self._notifier.feed()
        elif not self._starving and self._notifier.watchdog_s is not None:
            self._starving = True
            self._emit(Starving(stalled_s=self._watchdog.stalled_s(now_s)))
        self._notifier.status(self._sentence())

    async def run(self) -> None:
        """Beat until cancelled; returns at once where systemd does not listen."""
        if not self._notifier.active:
            return
        next_s = self._clock.monotonic()
        while True:
            if self._clock.monotonic() >= next_s:
                self.beat()
                next_s = self._clock.monotonic() + self.period_s
            wait_s = next_s - self._clock.monotonic()
            if await wait_for_event(self._changed, self._clock, wait_s):
                self._changed.clear()
                self._notifier.status(self._sentence())
