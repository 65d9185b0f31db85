"""What the session needs of a connection, as two small Protocols, and a fake for tests.

`agentd.live.google.connector.GenaiConnector` is the real one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agentd.errors import LiveError
from agentd.live.commands import SetupPlan
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.messages import ClientMessage, ServerMessage


class ConnectionFailed(LiveError):
    """A dial failed or a connection ended."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(
            f"{failure.phase.value}: {failure.kind.value} {failure.code} {failure.reason}".strip(),
            code=failure.code or None,
        )
        self.failure = failure


class Connection(Protocol):
    """An open connection whose setup is complete."""

    @property
    def local_address(self) -> str | None:
        """Return our IP address on it, if it has one."""

    @property
    def unsent_bytes(self) -> int:
        """Return how much of what was sent has not been acknowledged by the peer's kernel."""

    async def send(self, message: ClientMessage) -> None:
        """Send one message; waits while the socket is full.

        Raises:
            ConnectionFailed: the connection is gone.
        """

    async def receive(self) -> ServerMessage:
        """Return the next frame; frames that cannot be used come with `problem` set.

        Raises:
            ConnectionFailed: the connection is gone.
        """

    async def close(self) -> None:
        """Say goodbye and wait briefly for the peer to do so."""

    def abort(self) -> None:
        """Drop the transport at once."""


class Connector(Protocol):
    """Opens connections, one at a time."""

    async def warm_up(self) -> None:
        """Do what takes long and needs no network, off the loop (importing the SDK)."""

    async def connect(self, plan: SetupPlan) -> Connection:
        """Dial and set up; returns when setupComplete has come.

        Cancelling drops the transport at once.

        Raises:
            ConnectionFailed: it did not work; the failure says how far it came.
        """


CLOSED_BY_US = Failure(Phase.LIVE, Kind.LOCAL)


class FakeConnection:
    """A connection in memory; `deliver` and `fail` play the peer."""

    def __init__(self, plan: SetupPlan) -> None:
        self.plan = plan
        self.sent: list[ClientMessage] = []
        self.closed = False
        self.aborted = False
        self.close_hangs = False  # a peer that never answers our close
        self.send_blocks = False  # a socket that takes nothing
        self.local_address: str | None = None
        self.unsent_bytes = 0
        self._inbox: deque[ServerMessage | Failure] = deque()
        self._changed = asyncio.Event()

    def deliver(self, *messages: ServerMessage) -> None:
        """Let frames arrive."""
        self._inbox.extend(messages)
        self._changed.set()

    def fail(self, failure: Failure) -> None:
        """Let the connection end."""
        self._inbox.append(failure)
        self._changed.set()

    async def send(self, message: ClientMessage) -> None:
        """Keep the message."""
        if self.aborted or self.closed:
            raise ConnectionFailed(CLOSED_BY_US)
        if self.send_blocks:
            await asyncio.Event().wait()
        self.sent.append(message)

    async def receive(self) -> ServerMessage:
        """Return what was delivered, in order."""
        while not self._inbox:
            if self.aborted or self.closed:
                raise ConnectionFailed(CLOSED_BY_US)
            self._changed.clear()
            await self._changed.wait()
        item = self._inbox.popleft()
        if isinstance(item, Failure):
            raise ConnectionFailed(item)
        return item

    async def close(self) -> None:
        """Close, unless the peer hangs."""
        if self.close_hangs:
            await asyncio.Event().wait()
        self.closed = True
        self._changed.set()

    def abort(self) -> None:
        """Close at once."""
        self.aborted = True
        self._changed.set()


class FakeConnector:
    """Hands out `FakeConnection`s; `refuse` makes coming dials fail, `hold` makes them wait."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.plans: list[SetupPlan] = []
        self.warm = False
        self.on_connection: Callable[[FakeConnection], None] | None = None
        self._failures: deque[Failure] = deque()
        self._open = asyncio.Event()
        self._open.set()

    def refuse(self, *failures: Failure) -> None:
        """Let the next dials fail, one by one."""
        self._failures.extend(failures)

    def hold(self) -> None:
        """Let dials hang until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Let dials go through again."""
        self._open.set()

    async def warm_up(self) -> None:
        """Be ready."""
        self.warm = True

    async def connect(self, plan: SetupPlan) -> FakeConnection:
        """Fail or succeed as told."""
        self.plans.append(plan)
        await self._open.wait()
        if self._failures:
            raise ConnectionFailed(self._failures.popleft())
        connection = FakeConnection(plan)
        self.connections.append(connection)
        if self.on_connection is not None:
            self.on_connection(connection)
        return connection
