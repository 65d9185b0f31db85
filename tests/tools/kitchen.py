"""A control server with tool hosts, and a host that sends what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from agentd.clock import SystemClock
from agentd.config.settings import Settings
from agentd.events import Event
from agentd.live.toolbox import Toolbox
from agentd.service.control import ControlServer
from agentd.service.peers import Peer
from agentd.tools.hosts import OFFER, ToolHosts

DEADLINE_S = 30
LIGHT = {
    "name": "light_on",
    "description": "Switch a light on",
    "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
}


class Host:
    """The other end of a connection, as raw as a test wants it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def says(self, **message: Any) -> None:
        """Send one message."""
        self.writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def hears(self) -> dict[str, Any]:
        """Return the next message; empty at the end."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                line = await self.reader.readline()
            except ConnectionError:
                line = b""
        return json.loads(line) if line else {}

    async def offers(self, *tools: Mapping[str, Any], host: str = "kitchen") -> dict[str, Any]:
        """Offer functions; return the answer."""
        self.says(id="offer", method=OFFER, params={"host": host, "tools": list(tools)})
        return await self.hears()

    async def ended(self) -> list[dict[str, Any]]:
        """Wait for the end of the connection; return what was said before it."""
        last = []
        while heard := await self.hears():
            last.append(heard)
        return last


class Kitchen:
    """The daemon's side: a toolbox, the hosts and the socket; the service is a list."""

    def __init__(self, path: Path, settings: Settings | None = None) -> None:
        self.path = path
        self.events: list[Event] = []
        self.declared: list[list[str]] = []
        self.toolbox = Toolbox()
        self.changed = asyncio.Event()
        self.hosts = ToolHosts(
            self.toolbox,
            settings or Settings(),
            clock=SystemClock(),
            emit=self._emit,
            declare=self._declare,
        )
        self.server = ControlServer(
            path,
            {},
            clock=SystemClock(),
            emit=self._emit,
            status=dict,
            doors={OFFER: self.hosts.door()},
            guests=(self.hosts.access,),
        )

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.hosts.on_event(event)
        self.changed.set()

    async def _declare(self) -> str:
        self.declared.append([tool.name for tool in self.toolbox])
        self.changed.set()
        return "context_update"

    def told(self, kind: type[Event]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[Event], count: int = 1) -> Any:
        """Wait for the first, or another, event of a kind."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.told(kind)) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.told(kind)[count - 1]

    async def calls(self, name: str, **args: Any) -> tuple[str, Mapping[str, Any]]:
        """Call a function as the model's session does."""
        return await self.toolbox.call(name, args)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Kitchen]:
        """Serve."""
        tasks = [asyncio.create_task(one.run()) for one in (self.server, self.hosts)]
        async with asyncio.timeout(DEADLINE_S):
            while not self.server.bound:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def host(self) -> AsyncIterator[Host]:
        """Connect a host."""
        host = Host(*await asyncio.open_unix_connection(str(self.path)))
        try:
            yield host
        finally:
            host.writer.transport.abort()


STRANGER = Peer(pid=7, uid=12345, groups=frozenset({12345}))
