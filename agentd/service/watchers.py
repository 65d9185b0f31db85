"""Who watches the daemon over the control socket: its status, its events, what is said.

Nobody who watches can slow the daemon down: what happens is put into bounded queues, and whoever
reads too slowly misses the oldest of it and is told how much.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from agentd.clock import Clock
from agentd.events import Event, TranscriptText, event_types
from agentd.service import rpc
from agentd.service.entry import entry_of, level_name
from agentd.service.feed import EVERYTHING, TEXT_CHARS, Feed
from agentd.service.peers import Access, Peer
from agentd.service.stay import WRITE_S, ClientLine, Door, Stay
from agentd.text import safe_text
from agentd.waiting import wait_for_event

WATCH_S = 1.0  # at least this often a watcher gets the status, if it changed
WATCH_MIN_S = 0.1  # and at most this often
MAX_NAMES = 256

PARAMS = {
    "events": rpc.Param(list, required=False, high=MAX_NAMES),
    "transcripts": rpc.Param(bool, required=False),
}


@dataclass(eq=False, slots=True)
class _Reader:
    feed: Feed
    more: asyncio.Event = field(default_factory=asyncio.Event)


class Watchers:
    """All of them. `status` is what they are shown, `access` who may read what is said."""

    def __init__(self, *, clock: Clock, status: Callable[[], object], access: Access) -> None:
        self._clock = clock
        self._status = status
        self._access = access
        self._of_status: set[asyncio.Event] = set()
        self._readers: set[_Reader] = set()
        self._names = frozenset(kind.name for kind in event_types())

    def door(self) -> Door:
        """Return the method `watch`."""
        return Door(self.open, PARAMS)

    def open(self, params: rpc.Params, peer: Peer) -> Stay:
        """Let a client watch: the status as ever, or what it names.

        Raises:
            RpcError: there is no such event, or it may not read transcripts.
        """
        if not params:
            return self._open_status()
        transcripts = params.get("transcripts", False)
        if transcripts and not self._access.may(peer):
            raise rpc.RpcError(rpc.NOT_PERMITTED, self._access.refusal("read transcripts"))
        reader = _Reader(Feed(self._checked(params.get("events", [])), transcripts=transcripts))
        self._readers.add(reader)  # before the snapshot: what it does not show is an event
        return Stay(
            self._status(),
            lambda line: _until_hung_up(line, self._send_events(reader, line)),
            lambda: self._readers.discard(reader),
        )

    def _checked(self, names: list[Any]) -> list[str]:
        for name in names:
            if not isinstance(name, str) or name not in self._names | {EVERYTHING}:
                shown = safe_text(name, rpc.NAME_CHARS) if isinstance(name, str) else "such event"
                near = difflib.get_close_matches(shown, self._names, 1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                what = f'events: there is no {shown}{hint}; "{EVERYTHING}" stands for all'
                raise rpc.RpcError(rpc.INVALID_PARAMS, what)
        return names

    @property
    def count(self) -> int:
        """Return how many watch."""
        return len(self._of_status) + len(self._readers)

    # ── what happens ──

    def publish(self) -> None:
        """Announce that the status has changed."""
        for changed in self._of_status:
            changed.set()

    def on_event(self, event: Event) -> None:
        """Hand an event to those who want it."""
        if not self._readers:
            return
        now, entry = self._clock.wall(), entry_of(event)
        body = {
            "name": entry.name,
            "level": level_name(entry.level),
            "monotonic_s": round(self._clock.monotonic(), 3),
            "unix_s": round(now.unix_s, 3),
            "synchronised": now.synchronised,
            "message": entry.message,
            "fields": dict(entry.fields),
        }
        for reader in self._readers:
            if reader.feed.event(event.name, body):
                reader.more.set()

    def on_transcript(self, said: TranscriptText) -> None:
        """Hand a piece of what is said to those who want it and may have it."""
        if not self._readers:
            return
        body = {
            "turn": said.turn,
            "speaker": said.speaker.value,
            # Half of a surrogate pair is no character; strict readers refuse it (RFC 8259, 8.2).
            "text": said.text[:TEXT_CHARS].encode("utf-8", "replace").decode(),
            "finished": said.finished,
        }
        for reader in self._readers:
            if reader.feed.transcript(body):
                reader.more.set()

    # ── what is sent ──

    async def _send_events(self, reader: _Reader, line: ClientLine) -> None:
        while True:
            await reader.more.wait()
            reader.more.clear()
            await line.send(reader.feed.take())

    def _open_status(self) -> Stay:
        changed = asyncio.Event()
        self._of_status.add(changed)
        return Stay(
            self._status(),
            lambda line: _until_hung_up(line, self._send_status(changed, line)),
            lambda: self._of_status.discard(changed),
        )

    async def _send_status(self, changed: asyncio.Event, line: ClientLine) -> None:
        last = b""
        while True:
            now = rpc.notification("status", self._status())
            if now != last:
                last = now
                await line.send(now, WRITE_S)
            await self._clock.sleep(WATCH_MIN_S)
            await wait_for_event(changed, self._clock, WATCH_S - WATCH_MIN_S)
            changed.clear()


async def _until_hung_up(line: ClientLine, sending: Coroutine[Any, Any, None]) -> None:
    async def send() -> None:
        with contextlib.suppress(OSError):  # it has gone, and the other side hears of it
            await sending

    async with asyncio.TaskGroup() as both:
        sender = both.create_task(send())
        await line.hung_up()
        sender.cancel()
