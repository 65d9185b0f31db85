"""Who has a place at the control socket, and who goes when all are taken (pure)."""

from __future__ import annotations

from typing import Generic, TypeVar

C = TypeVar("C")


class NoPlace(Exception):
    """Everybody inside is being served, or may not be sent away for this one."""


class Places(Generic[C]):
    """A bounded number of clients. Whoever has been idle longest makes room for a new one.

    Idle is who waits for nothing from us: between two requests, watching, or saying nothing. So
    clients that only hold their place, or poll, never keep the owner from muting. Root and the
    daemon's own user (`privileged`) are not sent away for anybody else.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: dict[C, bool] = {}  # privileged or not; the one idle longest comes first
        self._busy: dict[C, bool] = {}

    def __len__(self) -> int:
        """Return how many are inside."""
        return len(self._idle) + len(self._busy)

    def enter(self, client: C, *, privileged: bool) -> C | None:
        """Give `client` a place; return who has lost theirs to it.

        Raises:
            NoPlace: all are taken.
        """
        displaced = None
        if len(self) >= self._size:
            displaced = self._who_goes(privileged=privileged)
            self.leave(displaced)
        self._idle[client] = privileged
        return displaced

    def begin(self, client: C) -> None:
        """Note that a request of this client is being served."""
        if client in self._idle:
            self._busy[client] = self._idle.pop(client)

    def end(self, client: C) -> None:
        """Note that it has been answered."""
        if client in self._busy:
            self._idle[client] = self._busy.pop(client)

    def leave(self, client: C) -> None:
        """Take the place back; one who has none is no error."""
        self._idle.pop(client, None)
        self._busy.pop(client, None)

    def _who_goes(self, *, privileged: bool) -> C:
        for client, is_privileged in self._idle.items():
            if not is_privileged:
                return client
        if privileged and self._idle:
            return next(iter(self._idle))
        raise NoPlace
