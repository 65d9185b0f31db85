"""The kernel behind the network monitor: an rtnetlink socket, and a fake beside it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from agentd.net import rtnetlink as rt
from agentd.net.path import Snapshot

# Looked up, never sent to: any address that only a default route reaches will do.
PROBES = ("8.8.8.8", "2001:4860:4860::8888")

_TIMEOUT_S = 2.0
_DUMP_TRIES = 5
_DATAGRAM_BYTES = 65_536
_NETLINK_ROUTE = 0
_T = TypeVar("_T")


class Subscription(Protocol):
    """A running stream of notifications."""

    @property
    def alive(self) -> bool:
        """Say whether notifications can still come."""

    def close(self) -> None:
        """End it; may be called twice."""


class Kernel(Protocol):
    """Tells that something changed, and answers what is."""

    def subscribe(self, notify: Callable[[], None]) -> Subscription:
        """Call `notify` in the running loop after every change; raise OSError if impossible."""

    def snapshot(self) -> Snapshot:
        """Return what is now. Blocks for a moment; raise OSError if the kernel does not answer."""


class FakeKernel:
    """A kernel whose network changes when told to."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.now = snapshot or Snapshot()
        self.failure: OSError | None = None
        self.snapshots = 0
        self._alive = False
        self._notify: Callable[[], None] = lambda: None

    @property
    def alive(self) -> bool:
        """Say whether somebody is subscribed."""
        return self._alive

    def subscribe(self, notify: Callable[[], None]) -> Subscription:
        """Notify on `change`."""
        if self.failure is not None:
            raise self.failure
        self._notify, self._alive = notify, True
        return self

    def snapshot(self) -> Snapshot:
        """Return what was set."""
        self.snapshots += 1
        if self.failure is not None:
            raise self.failure
        return self.now

    def change(self, snapshot: Snapshot | None = None) -> None:
        """Make `snapshot` true (or only say that something happened)."""
        self.now = snapshot or self.now
        self._notify()

    def close(self) -> None:
        """End the subscription."""
        self._alive = False


class NetlinkSubscription:
    """A multicast netlink socket in the event loop.

    Messages are only counted as a knock at the door: their content may be lost to a full buffer
    at any time (ENOBUFS), so what is true is asked anew after each.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self.overruns = 0
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self._socket = _open(rt.GROUPS)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._knock)

    @property
    def alive(self) -> bool:
        """Say whether the socket still works."""
        return self._socket.fileno() >= 0

    def close(self) -> None:
        """Close the socket."""
        if self.alive:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _knock(self) -> None:
        try:
            while True:
                self._socket.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self.overruns += 1
            else:
                self.close()  # a socket that is readable and broken would spin the loop
        self._notify()


class NetlinkKernel:
    """The real kernel. Needs no privilege, only AF_NETLINK."""

    def __init__(self, probes: Sequence[str] = PROBES) -> None:
        self._probes = tuple(probes)

    def subscribe(self, notify: Callable[[], None]) -> NetlinkSubscription:
        """Watch links, addresses, routes and rules."""
        return NetlinkSubscription(notify)

    def snapshot(self) -> Snapshot:
        """Ask for the way to each probe, the interfaces on it and all addresses."""
        with _open(0) as sock:
            sock.settimeout(_TIMEOUT_S)
            query = _Query(sock)
            hops = tuple(hop for probe in self._probes if (hop := query.route(probe)))
            links = tuple(
                link for index in sorted({h.index for h in hops}) if (link := query.link(index))
            )
            return Snapshot(hops, links, query.addresses())


class _Query:
    """Questions and answers over one socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sequence = itertools.count(1)

    def route(self, destination: str) -> rt.Hop | None:
        try:
            return rt.read_route(self._one(rt.ask_route, destination))
        except rt.Refusal:  # unreachable, or a family this kernel does not have
            return None

    def link(self, index: int) -> rt.Link | None:
        try:
            return rt.read_link(self._one(rt.ask_link, index))
        except rt.Refusal:  # gone since the last question
            return None

    def addresses(self) -> frozenset[tuple[int, str]]:
        answer: list[rt.Message] = []
        for _ in range(_DUMP_TRIES):
            sequence = next(self._sequence)
            answer = list(self._answers(rt.ask_addresses(sequence), sequence))
            if not any(message.flags & rt.NLM_F_DUMP_INTR for message in answer):
                break  # else the table changed in the middle: ask again
        found = (rt.read_address(m) for m in answer if m.type == rt.RTM_NEWADDR)
        return frozenset(pair for pair in found if pair is not None)

    def _one(self, ask: Callable[[int, _T], bytes], about: _T) -> rt.Message:
        sequence = next(self._sequence)
        return next(self._answers(ask(sequence, about), sequence))

    def _answers(self, request: bytes, sequence: int) -> Iterator[rt.Message]:
        """Yield the answers up to the end of a dump; a single answer needs one `next` only."""
        self._socket.sendto(request, (0, 0))
        while True:
            data, (port, _groups) = self._socket.recvfrom(_DATAGRAM_BYTES)
            if port != 0:
                continue  # not from the kernel
            try:
                for message in rt.messages(data):
                    if message.sequence != sequence:
                        continue
                    rt.check(message)
                    if message.type == rt.NLMSG_DONE:
                        return
                    yield message
            except rt.MalformedMessage as error:
                raise OSError(errno.EBADMSG, f"unreadable netlink message: {error}") from None


def _open(groups: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    sock = socket.socket(socket.AF_NETLINK, kind, _NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock
