"""The kernel behind the network monitor, and a fake beside it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from agentd.net import rtnetlink
from agentd.net.path import Hop, Link, Snapshot

# Looked up, never sent to: any address that only a default route reaches will do.
PROBES = ("8.8.8.8", "2001:4860:4860::8888")

# Everything that can move the path: RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE,
# IPV6_IFADDR, IPV6_ROUTE and IPV6_RULE of rtnetlink(7), as the bits of a bind(2) mask.
GROUPS = sum(1 << (group - 1) for group in (1, 5, 7, 8, 9, 11, 19))

ANSWER_S = 5.0  # the network lock is held for long just when the network changes
_DUMP_TRIES = 5
_DATAGRAM_BYTES = 65_536
_NETLINK_ROUTE = 0


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
        self._socket = _open(GROUPS)
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
    """The real kernel, asked through rtnetlink. Needs no privilege, only AF_NETLINK."""

    def __init__(self, probes: Sequence[str] = PROBES) -> None:
        self._probes = tuple(probes)

    def subscribe(self, notify: Callable[[], None]) -> NetlinkSubscription:
        """Watch links, addresses, routes and rules."""
        return NetlinkSubscription(notify)

    def snapshot(self) -> Snapshot:
        """Ask for the way to each probe, the interfaces on it and all addresses."""
        with _open(0) as sock:
            sock.settimeout(ANSWER_S)
            hops = tuple(hop for probe in self._probes for hop in _hops(sock, probe))
            indices = sorted({hop.index for hop in hops})
            links = tuple(link for index in indices for link in _links(sock, index))
            return Snapshot(hops, links, frozenset(_addresses(sock)))


def _hops(sock: socket.socket, probe: str) -> Iterator[Hop]:
    family = socket.AF_INET6 if ":" in probe else socket.AF_INET
    wanted = socket.inet_pton(family, probe)
    body = rtnetlink.route_body(family, wanted)
    for kind, attributes in _answers(sock, rtnetlink.GETROUTE, body):
        hop = rtnetlink.read_hop(kind, attributes)
        if hop is not None:
            yield hop


def _links(sock: socket.socket, index: int) -> Iterator[Link]:
    for head, attributes in _answers(sock, rtnetlink.GETLINK, rtnetlink.link_body(index)):
        yield rtnetlink.read_link(head, attributes)


def _addresses(sock: socket.socket) -> Iterator[tuple[int, str]]:
    for head, attributes in _dump(sock, rtnetlink.GETADDR, rtnetlink.ANY_ADDRESS):
        found = rtnetlink.read_address(head, attributes)
        if found is not None:
            yield found


def _answers(sock: socket.socket, kind: int, body: bytes) -> list[rtnetlink.Answer]:
    """Return the answer to a question; nothing for what there is not, or is gone since."""
    try:
        return _ask(sock, kind, body, rtnetlink.REQUEST)
    except rtnetlink.KernelRefused:  # unreachable, or a family that this kernel does not have
        return []


def _dump(sock: socket.socket, kind: int, body: bytes) -> list[rtnetlink.Answer]:
    """Return a whole table.

    Raises:
        OSError: the kernel refuses, or the table changed whenever it was read.
    """
    for _ in range(_DUMP_TRIES):
        try:
            return _ask(sock, kind, body, rtnetlink.REQUEST | rtnetlink.DUMP)
        except rtnetlink.DumpInterrupted:  # the table changed in the middle: ask again
            continue
    raise OSError(errno.EINTR, "the kernel's table of addresses does not hold still")


def _ask(sock: socket.socket, kind: int, body: bytes, flags: int) -> list[rtnetlink.Answer]:
    sock.send(rtnetlink.request(kind, flags, body))
    reply = rtnetlink.KernelReply()
    while not reply.is_complete:
        reply.feed(sock.recv(_DATAGRAM_BYTES))
    return reply.answers()


def _open(groups: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, _NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock
