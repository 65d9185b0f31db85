"""The WebSocket under the SDK, opened through websockets' `create_connection` door.

It keeps what the SDK would lose, bounds what a peer may make us keep or do at once, tells the
kernel to notice a dead path, and can be dropped at once. Imported lazily, together with the SDK.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import functools
import json
import socket
import termios
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from agentd.live.google.frames import Excess, Gauge, screened

EARLY_FRAMES = 16  # before setupComplete; one or two have been seen
EARLY_BYTES = 64 << 10
SLICE_BYTES = 2 << 10  # at once from the socket: 512 of the smallest frames with something in them
MAX_FRAMES_PER_S = 2_000.0  # a reply at ten times its pace comes in about 250
FRAMES_AT_ONCE = 10_000  # a path that hung for minutes delivers what it kept back
UNREAD_PONGS = 1_000


class Redirected(InvalidHandshake):
    """The peer answers with a redirect; `host` is where to, for people."""

    def __init__(self, status_code: int, location: str) -> None:
        super().__init__(f"redirected with {status_code}")
        self.status_code = status_code
        self.host = ""
        with contextlib.suppress(ValueError):
            self.host = urlsplit(location).hostname or ""


class LiveWebSocket(ClientConnection):
    """A connection whose first frame for the SDK is setupComplete, whatever the peer sends first.

    The SDK takes the first frame for setupComplete without looking (3.4 to 3.6). What comes before
    it, and what comes in the same frame, is handed out afterwards.

    asyncio hands over up to 256 KiB at once, which may be 65,000 frames: they are taken in
    slices, and the loop has its turn after each.
    """

    def __init__(
        self,
        protocol: ClientProtocol,
        *,
        made: Callable[[LiveWebSocket], None],
        user_timeout_ms: int,
        **options: Any,
    ) -> None:
        super().__init__(protocol, **options)
        self._user_timeout_ms = user_timeout_ms
        self._early: deque[bytes] = deque()
        self._set_up = False
        self.excess = ""  # why it was given up, if the peer sent too much
        self._backlog = bytearray()
        self._queue_full = False  # websockets has more frames than anybody has read
        self._slice_due: asyncio.Handle | None = None
        self._ends: deque[Callable[[], None]] = deque()  # what comes after the backlog
        self._frames = Gauge(at_once=FRAMES_AT_ONCE, per_s=MAX_FRAMES_PER_S)
        self._unread_pongs = 0
        self.encrypted = False  # TLS stands
        made(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up once TCP and TLS stand."""
        super().connection_made(cast("asyncio.Transport", _ClosedOnce(transport)))
        self.recv_messages.pause = self._hold
        self.recv_messages.resume = self._release
        self.encrypted = True
        raw = transport.get_extra_info("socket")
        if raw is not None:
            watch_socket(raw, self._user_timeout_ms)

    def give_up(self, reason: str) -> None:
        """Drop the connection because the peer sends too much."""
        if not self.excess:
            self.excess = reason
            self._backlog.clear()
            self.transport.abort()

    async def handshake(self, *args: Any, **options: Any) -> None:
        """Do the opening handshake; follow no redirect.

        websockets follows them and takes `x-goog-api-key` along to whatever host is named: it
        strips only the headers that it knows to be credentials (17.4).

        Raises:
            Redirected: the peer sends us elsewhere.
        """
        try:
            await super().handshake(*args, **options)
        except InvalidStatus as error:
            status = error.response.status_code
            if 300 <= status < 400:
                places = error.response.headers.get_all("Location")
                raise Redirected(status, "".join(places[:1])) from error
            raise

    # ── bytes ──

    def data_received(self, data: bytes) -> None:
        """Take what the socket has delivered, in slices."""
        if not self.excess:
            self._backlog += data
            self._go_on()

    def eof_received(self) -> None:
        """Take the end of the stream, after what was received before it."""
        self._ends.append(super().eof_received)
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, after what was received before."""
        self._ends.append(functools.partial(super().connection_lost, exc))
        self._go_on()

    def _go_on(self) -> None:
        if self._slice_due is None:
            self._take_slice()

    def _take_slice(self) -> None:
        """Take one slice; the next one when everybody else has had a turn."""
        self._slice_due = None
        if self._backlog and self._may_take:
            piece = bytes(self._backlog[:SLICE_BYTES])
            del self._backlog[:SLICE_BYTES]
            super().data_received(piece)
        if self._backlog and self._may_take:
            self._slice_due = self.loop.call_soon(self._take_slice)
        while self._ends and not self._backlog:
            self._ends.popleft()()
        if self.transport.is_closing():
            return  # TLS raises AttributeError when it is told to go on after the end (sslproto)
        if self._backlog or self._queue_full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    @property
    def _may_take(self) -> bool:
        """Tell whether there is room; what comes at the end is bounded, and nobody may be there."""
        return not self._queue_full or bool(self._ends)

    def _hold(self) -> None:
        self._queue_full = True

    def _release(self) -> None:
        self._queue_full = False
        if self._slice_due is None:
            self._slice_due = self.loop.call_soon(self._take_slice)

    # ── frames ──

    def process_event(self, event: Event) -> None:
        """Count what comes, and what it makes us answer."""
        super().process_event(event)
        if not isinstance(event, Frame):
            return
        if self._frames.is_over(self.loop.time()):
            self.give_up(f"more than {MAX_FRAMES_PER_S:.0f} frames a second")
        if event.opcode is Opcode.PING and self.paused:
            self._unread_pongs += 1
            if self._unread_pongs > UNREAD_PONGS:
                self.give_up("pings whose answers are not read")

    def resume_writing(self) -> None:
        """Go on sending: the peer has read."""
        self._unread_pongs = 0
        super().resume_writing()

    # ── messages ──

    async def recv(self, decode: bool | None = None) -> Any:
        """Return the next frame; the first one is the one with setupComplete.

        Raises:
            Excess: too much came before setupComplete.
            UnusableFrame: the next frame cannot be used.
            UnknownKind: the next frame is of a kind that is not known.
        """
        del decode  # the SDK asks for bytes, and so does the screening
        if not self._set_up:
            return await self._recv_setup()
        if self._early:
            return screened(self._early.popleft())
        return screened(await super().recv(decode=False))

    async def _recv_setup(self) -> bytes:
        size = 0
        while True:
            try:
                frame = await super().recv(decode=False)
            except ConnectionClosed:
                if self.excess:
                    raise Excess(self.excess) from None
                raise
            size += len(frame)
            if size > EARLY_BYTES or len(self._early) >= EARLY_FRAMES:
                self.give_up(
                    f"more than {EARLY_FRAMES} frames or {EARLY_BYTES >> 10} KiB"
                    " before the setup is complete"
                )
                raise Excess(self.excess)
            beside = beside_setup_complete(frame)
            if beside is None:
                self._early.append(frame)
                continue
            if beside:
                self._early.append(beside)
            self._set_up = True
            return frame

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; by exception or cancellation without waiting for a peer that may be dead."""
        if exc_type is None:
            await super().__aexit__(exc_type, exc_value, traceback)
        else:
            self.transport.abort()


class _ClosedOnce:
    """A transport whose `close` may be called again.

    The second `close` of asyncio's TLS transport cuts it off from its connection (3.11 to 3.13):
    whatever is called afterwards, `abort` too, raises, and the socket stays open. websockets closes
    at the end of the stream whether or not it has closed before.
    """

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def close(self) -> None:
        """Close, unless that has begun."""
        if not self._transport.is_closing():
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def beside_setup_complete(frame: bytes | str) -> bytes | None:
    """Return what else a setupComplete frame carries, as a frame; None if it is no such frame."""
    try:
        parsed = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict) or "setupComplete" not in parsed:
        return None
    del parsed["setupComplete"]
    return json.dumps(parsed).encode() if parsed else b""


def watch_socket(raw: socket.socket, user_timeout_ms: int) -> None:
    """Let the kernel notice a dead path: unacknowledged data, and silence while idle."""
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout_ms),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(5, user_timeout_ms // 1000)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, user_timeout_ms // 3000)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ):
        with contextlib.suppress(OSError):  # not TCP: a proxy behind a Unix socket
            raw.setsockopt(level, option, value)


def unacknowledged(raw: socket.socket | None) -> int:
    """Return the bytes in a socket's send queue that the peer's kernel has not got (tcp(7))."""
    size = array.array("i", [0])
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none at all
        fcntl.ioctl(cast("socket.socket", raw).fileno(), termios.TIOCOUTQ, size)
    return size[0]
