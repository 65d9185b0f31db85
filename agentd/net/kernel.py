"""The kernel behind the network monitor, asked through netlink, and a fake beside it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from agentd.net.path import Hop, Link, Snapshot

# Looked up, never sent to: any address that only a default route reaches will do.
PROBES = ("8.8.8.8", "2001:4860:4860::8888")

# Everything that can move the path: RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE,
# IPV6_IFADDR, IPV6_ROUTE and IPV6_RULE of rtnetlink(7), as the bits of a bind(2) mask.
GROUPS = sum(1 << (group - 1) for group in (1, 5, 7, 8, 9, 11, 19))

# linux/if.h, linux/if_addr.h, linux/rtnetlink.h
IFF_UP = 0x1
IFF_RUNNING = 0x40  # it passes packets: set a while after the carrier, or after Wi-Fi has let us in
IFF_LOWER_UP = 0x10000
_USABLE = IFF_UP | IFF_RUNNING | IFF_LOWER_UP
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
_PASSABLE = (1, 2)  # RTN_UNICAST, RTN_LOCAL; the others are unreachable, blackhole, prohibit

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
    """The real kernel, asked through pyroute2. Needs no privilege, only AF_NETLINK."""

    def __init__(self, probes: Sequence[str] = PROBES) -> None:
        self._probes = tuple(probes)

    def subscribe(self, notify: Callable[[], None]) -> NetlinkSubscription:
        """Watch links, addresses, routes and rules."""
        return NetlinkSubscription(notify)

    def snapshot(self) -> Snapshot:
        """Ask for the way to each probe, the interfaces on it and all addresses."""
        from pyroute2 import IPRoute  # 10 MiB and a second on a Pi: not before the SDK has loaded
        from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

        with IPRoute() as kernel:
            try:
                hops = tuple(hop for probe in self._probes for hop in _hops(kernel, probe))
                indices = sorted({hop.index for hop in hops})
                links = tuple(link for index in indices for link in _links(kernel, index))
                for attempt in range(_DUMP_TRIES):
                    try:
                        return Snapshot(hops, links, frozenset(_addresses(kernel)))
                    except NetlinkDumpInterrupted:  # the table changed in the middle: ask again
                        if attempt == _DUMP_TRIES - 1:
                            raise
            except NetlinkError as error:
                raise OSError(error.code, f"the kernel refuses a route query: {error}") from None
        raise AssertionError("unreachable")


def _hops(kernel: Any, probe: str) -> Iterator[Hop]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        answers = list(kernel.route("get", dst=probe))
    except NetlinkError:  # unreachable, or a family this kernel does not have
        return
    for answer in answers:
        index, source = answer.get("oif"), answer.get("prefsrc")
        if answer["type"] in _PASSABLE and isinstance(index, int) and source:
            yield Hop(answer["family"], index, source, answer.get("gateway") or "")


def _links(kernel: Any, index: int) -> Iterator[Link]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        answers = list(kernel.link("get", index=index))
    except NetlinkError:  # gone since the last question
        return
    for answer in answers:
        up = answer["flags"] & _USABLE == _USABLE
        yield Link(answer["index"], answer.get("ifname") or "", up)


def _addresses(kernel: Any) -> Iterator[tuple[int, str]]:
    for answer in kernel.get_addr():
        flags = answer.get("IFA_FLAGS") or answer["flags"]
        # On a point-to-point link (a mobile modem) IFA_ADDRESS is the peer's.
        address = answer.get("local") or answer.get("address")
        if address and not flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED):
            yield answer["index"], address


def _open(groups: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, _NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock
