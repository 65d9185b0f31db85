"""A TCP relay that makes a bad link of a good one, for tests without a kernel that can.

It runs on a thread and an event loop of its own, so it keeps time while the code under test does
not, and may be steered from anywhere. Bytes pass untouched: TLS goes through it end to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

CHUNK_BYTES: Final = 4096
QUEUE_CHUNKS: Final = 64
BUFFER_BYTES: Final = 32 * 1024
"""Kernel buffer asked for: a stalled relay takes little before its senders notice."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What one direction of a link is like."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Added to the delay at random; order is kept."""
    rate_bytes_s: float | None = None
    stall_chance: float = 0.0
    """Chance per chunk that everything behind it waits, as TCP does when a packet is lost."""
    stall_s: float = 0.3


GOOD: Final = Quality()


class _Connection:
    """One relayed connection: two pumps, a gate that holds them, and a way to end it."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.open = asyncio.Event()
        self.open.set()
        self.vanished = False
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        await self.open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.relay.target)
        except OSError:
            self.reset()
            return
        self.writers.append(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._direction(reader, far_writer, up=True))
                group.create_task(self._direction(far_reader, writer, up=False))
        except* OSError:
            self.reset()
        finally:
            for each in self.writers:
                each.close()

    async def _direction(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE_CHUNKS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader, queue, up=up))
            group.create_task(self._give(queue, writer, up=up))

    async def _take(
        self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]], *, up: bool
    ) -> None:
        clock = asyncio.get_running_loop().time
        data = b"-"
        while data:
            await self.open.wait()
            data = await reader.read(CHUNK_BYTES)
            quality = self.relay.quality(up=up)
            due = clock() + quality.delay_s + self.relay.chance.random() * quality.jitter_s
            await queue.put((due, data))

    async def _give(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await queue.get()
            quality = self.relay.quality(up=up)
            if quality.rate_bytes_s:
                due = max(due, clock()) + len(data) / quality.rate_bytes_s
            if self.relay.chance.random() < quality.stall_chance:
                due = max(due, clock()) + quality.stall_s
            await asyncio.sleep(max(0.0, due - clock()))
            await self.open.wait()
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            self.relay.count(len(data), up=up)

    def reset(self) -> None:
        """End both sides with RST, also of a connection that is held."""
        self.vanished = False
        self.open.set()
        for writer in self.writers:
            sock: socket.socket | None = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Relay:
    """Listens on `port` and relays to a target; a context manager that may be used from any thread.

    `set_quality` shapes the link; `stall` and `resume` hold it; `vanish` makes connections half
    open for ever while new ones work; `reset` kills them with RST; `refuse` and `accept` close and
    open the port.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", *, listen: str = "127.0.0.1") -> None:
        self.target = (host, port)
        self.port = 0
        self.connections = 0
        """Connections accepted so far."""
        self.bytes_up = 0
        self.bytes_down = 0
        self.chance = random.Random(7)
        self._listen = listen
        self._up = self._down = GOOD
        self._stalled = False
        self._alive: dict[_Connection, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- steering --------------------------------------------------------------------------------

    def set_quality(self, up: Quality = GOOD, down: Quality = GOOD) -> None:
        """Shape what passes from now on; `up` is towards the target."""
        self._up, self._down = up, down

    def quality(self, *, up: bool) -> Quality:
        """Return the quality of one direction now."""
        return self._up if up else self._down

    def stall(self) -> None:
        """Let nothing pass, without any sign; new connections are taken and hang."""
        self._do(self._set_stalled, True)

    def resume(self) -> None:
        """End a stall; what was held passes, except on vanished connections."""
        self._do(self._set_stalled, False)

    def vanish(self) -> None:
        """Make the present connections half open for ever, as a NAT that forgot them."""
        self._do(self._vanish)

    def reset(self) -> None:
        """End the present connections with RST to both sides."""
        self._do(self._reset)

    def refuse(self) -> None:
        """Close the port: connecting is refused. Present connections go on."""
        self._call(self._close_port())

    def accept(self) -> None:
        """Open the port, the same as before."""
        self._call(self._open_port())

    # --- watching --------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """Connections that are open now, vanished ones included."""
        return len(self._alive)

    def wait_for(self, happened: Callable[[Relay], bool], *, timeout_s: float = 20) -> None:
        """Wait until something is true of the relay: `relay.wait_for(lambda r: r.active == 0)`."""
        with self._changed:
            if not self._changed.wait_for(lambda: happened(self), timeout_s):
                raise TimeoutError(f"the relay did not get there within {timeout_s} s")

    def count(self, size: int, *, up: bool) -> None:
        """Note that bytes have passed."""
        with self._changed:
            if up:
                self.bytes_up += size
            else:
                self.bytes_down += size
            self._changed.notify_all()

    # --- on the relay's own loop -----------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def _do(self, action: Callable[..., object], *arguments: object) -> None:
        async def act() -> None:
            action(*arguments)

        self._call(act())

    def _set_stalled(self, stalled: bool) -> None:
        self._stalled = stalled
        for connection in self._alive:
            if stalled:
                connection.open.clear()
            elif not connection.vanished:
                connection.open.set()

    def _reset(self) -> None:
        for connection in self._alive:
            connection.reset()

    def _vanish(self) -> None:
        for connection in self._alive:
            connection.vanished = True
            connection.open.clear()

    async def _open_port(self) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        sock.bind((self._listen, self.port))
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=sock, limit=CHUNK_BYTES)

    async def _close_port(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self)
        if self._stalled:
            connection.open.clear()
        task = asyncio.current_task()
        assert task is not None
        with self._changed:
            self._alive[connection] = task
            self.connections += 1
            self._changed.notify_all()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await connection.serve(reader, writer)
        finally:
            with self._changed:
                del self._alive[connection]
                self._changed.notify_all()

    async def _shut(self) -> None:
        await self._close_port()
        tasks = list(self._alive.values())
        for connection in list(self._alive):
            connection.reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
