"""Answers to a dial, byte by byte: whoever sits on the port, it fails with a reason."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import os
import random
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

from agentd.config.credentials import Credentials
from agentd.config.settings import Settings
from agentd.live.commands import SetupPlan
from agentd.live.connection import ConnectionFailed
from agentd.live.google.connector import GenaiConnector
from agentd.live.toolbox import Toolbox
from agentd.text import safe_text
from live_emulator.certs import load_pem, make_authority, make_leaf, server_context
from tests.attack import values
from tests.attack.target import Case, Step, assert_harmless

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
STARTS = (
    "HTTP/1.1 101 Switching Protocols", "HTTP/1.1 200 OK", "HTTP/1.1 307 Temporary Redirect",
    "HTTP/1.1 302 Found", "HTTP/1.1 401 \x1b[31mNo", "HTTP/1.1 429 Slow", "HTTP/1.1 503 Later",
    "HTTP/1.1 99999 What", "HTTP/1.1", "HTTP/9.9 101 x", "SSH-2.0-OpenSSH_9.2", "\x00\x00", "",
    "HTTP/1.1 101 " + "x" * 9000,
)  # fmt: skip
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}")
HEADERS = (
    "Sec-WebSocket-Accept: wrong", "Sec-WebSocket-Extensions: permessage-deflate",
    "Sec-WebSocket-Protocol: chat", "Content-Length: 10000000000", "Content-Length: -1",
    "Content-Length: x", "Transfer-Encoding: chunked", "Set-Cookie: " + "c" * 8000,
    "Location: wss://127.0.0.1:1/other", "Location: ws://127.0.0.1:1/", "Location: \x00",
    "Location: //", "Location: https://[::1", "Retry-After: 99999999999", "Retry-After: -1",
    "Retry-After: \u0661", "no colon at all", " folded", ": empty", "X: \x1b[2J",
    "X: " + values.BIDI,
)  # fmt: skip
FRAMES = (
    "\x82\x12" + '{"setupComplete":{}}'[:18], "\x81\x02{}", "\x82\x02{}", "\x89\x00", "\x88\x00",
    "\x88\x02\x03\xf0", "\x88\x7d" + "\x03\xe8" + "x" * 123, "\xc2\x00", "\x83\x00", "\x82\xff",
    "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", "\x80\x00", "\x81\x02\xff\xfe",
    "\x02\x01a\x02\x01b",
    "\x82\x81\x00\x00\x00\x00x", "\x88\x01\x03", "\x88\x02\x00\x00",
)  # fmt: skip


class _Portal:
    """A TLS server that answers every request with the same bytes and closes."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="attack-")
        folder = Path(self._folder.name)
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        authority = make_authority(now)
        self._context = server_context()
        load_pem(self._context, make_leaf(authority, ["127.0.0.1"], now, "valid"), folder)
        self.client = ssl.create_default_context(cadata=authority.pem.decode())

    @contextlib.asynccontextmanager
    async def answering(self, steps: list[str]) -> AsyncIterator[int]:
        """Serve on a free port."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                at = head.lower().find(b"sec-websocket-key:") + len(b"sec-websocket-key:")
                key = head[at : head.find(b"\r\n", at)].strip()
                accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
                for step in steps:
                    writer.write(step.replace("{accept}", accept).encode("latin-1", "replace"))
                await writer.drain()
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self._context)
        async with server:
            yield server.sockets[0].getsockname()[1]


class Handshakes:
    """What a portal, a proxy, another program or an attacker answers to a dial."""

    name = "handshakes"
    what = "answers to a dial"

    def __init__(self) -> None:
        self._portal: _Portal | None = None

    def make(self, rng: random.Random) -> list[Step]:
        """Return an answer in pieces, as latin-1 text."""
        case: list[Step] = [rng.choice(STARTS[:1] * 8 + STARTS) + "\r\n"]
        if rng.random() < 0.7:
            case += [line + "\r\n" for line in UPGRADE]
        for _ in range(rng.choice((0, 0, 1, 3, 140))):
            line = rng.choice(HEADERS).encode("utf-8").decode("latin-1")
            case.insert(rng.randrange(1, len(case) + 1), line + "\r\n")
        case.append(rng.choice(("\r\n", "\r\n", "\r\n", "\n", "")))
        case += [rng.choice(FRAMES) for _ in range(rng.choice((0, 1, 1, 4)))]
        if rng.random() < 0.2:
            case.append("x" * rng.choice((10, 70_000)))
        return case

    def check(self, case: Case) -> int:
        """Dial it once; a link that stands is used until it breaks."""
        if self._portal is None:
            self._portal = _Portal()
        asyncio.run(self._dial(self._portal, [step for step in case if isinstance(step, str)]))
        return 1

    async def _dial(self, portal: _Portal, steps: list[str]) -> None:
        wrong: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: wrong.append(_of_ours(context)))
        await self._try(portal, steps)
        await asyncio.sleep(0)  # what was to be called at the end is called
        assert not any(wrong), next(filter(None, wrong))

    async def _try(self, portal: _Portal, steps: list[str]) -> None:
        async with portal.answering(steps) as port:
            live = {"base_url": f"https://127.0.0.1:{port}", "connect_timeout_s": 5.0}
            settings = Settings.model_validate({"live": {**live, "setup_timeout_s": 5.0}})
            found = Credentials("a test", api_key=values.KEY)
            connector = GenaiConnector(Toolbox(), find=lambda _backend: found)
            connector._tls = portal.client
            with mock.patch.dict(os.environ, {"no_proxy": "127.0.0.1"}):
                try:
                    link = await connector.connect(SetupPlan(settings, None, ""))
                except ConnectionFailed as failed:
                    _check(failed)
                    return
            try:
                for _ in range(20):
                    await link.receive()
            except ConnectionFailed as failed:
                _check(failed)
            finally:
                link.abort()


def _of_ours(context: dict[str, Any]) -> str:
    """Return what failed in a callback on the loop, unless it is the portal's side or a library's.

    websockets leaves a handshake that fails by a line which is too long to a task of its own.
    """
    told = str(context.get("exception") or context["message"])
    return "" if "handle" not in context else f"{told} in {context['handle']!r}"


def _check(failed: ConnectionFailed) -> None:
    assert_harmless(safe_text(failed.failure.reason), 400, "the reason of a failed dial")
    assert failed.failure.code < 2**31
