"""The WebSocket under the SDK, opened through websockets' `create_connection` door.

It keeps what the SDK would lose, tells the kernel to notice a dead path, and can be dropped at
once. Imported lazily, together with the SDK.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import socket
import termios
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol


class LiveWebSocket(ClientConnection):
    """A connection whose first frame for the SDK is setupComplete, whatever the peer sends first.

    The SDK takes the first frame for setupComplete without looking (3.4.0). What comes before it,
    and what comes in the same frame, is handed out afterwards.
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
        made(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up once TCP and TLS stand."""
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            watch_socket(raw, self._user_timeout_ms)

    async def recv(self, decode: bool | None = None) -> Any:
        """Return the next frame; the first one is the one with setupComplete."""
        if not self._set_up:
            return await self._recv_setup(decode)
        if self._early:
            return self._early.popleft()
        return await super().recv(decode)

    async def _recv_setup(self, decode: bool | None) -> Any:
        while True:
            frame = cast("bytes", await super().recv(decode))
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
