"""What a connection is for once a request has made it something lasting: a watcher, a tool host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agentd.service.peers import Peer
from agentd.service.rpc import Param, Params

WRITE_S = 5.0  # in which an answer is read, or the client is hung up on


class ClientLine(Protocol):
    """The client's end, as whoever serves it for long sees it."""

    async def send(self, data: bytes, within_s: float | None = None) -> None:
        """Send; a client that has not read in time is hung up on.

        Args:
            within_s: how long it may take to read; None: as long as it likes.

        Raises:
            OSError: the client has gone (also as TimeoutError).
        """

    async def receive(self) -> bytes:
        """Return the next line, however long it takes; nothing at the end.

        Raises:
            RpcError: the line is too long. Nothing can be read after it.
            OSError: the client has gone.
        """

    async def hung_up(self) -> None:
        """Return as soon as the client says anything or goes away."""

    def put(self, data: bytes) -> bool:
        """Send without waiting; return whether the client reads what it is sent."""

    def hang_up(self, last: bytes) -> None:
        """Send something last, if the client takes it at once, and end the connection."""


@dataclass(frozen=True, slots=True)
class Stay:
    """What follows a request: `result` is its answer, and then the connection is `run`'s.

    `close` is called exactly once, whatever happens to the connection. One with `own_place` is
    bounded in number by whoever opened it, and makes room for nobody else.
    """

    result: object
    run: Callable[[ClientLine], Awaitable[None]]
    close: Callable[[], None] = lambda: None
    own_place: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """A method that opens a `Stay`; raises `RpcError` for who may not come in."""

    open: Callable[[Params, Peer], Stay]
    params: Mapping[str, Param] = field(default_factory=dict)
    changing: bool = False
