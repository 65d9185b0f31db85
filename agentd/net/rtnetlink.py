"""The few questions of rtnetlink(7) that are asked, as bytes, and how the answers are read. Pure.

Sources: netlink(7), rtnetlink(7); linux/netlink.h, rtnetlink.h, if_addr.h, if_link.h. All numbers
are in the machine's own byte order, everything is padded to four bytes.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping

from agentd.net.path import Hop, Link

GETLINK, GETADDR, GETROUTE = 18, 22, 26
REQUEST, DUMP = 0x001, 0x300  # NLM_F_REQUEST; NLM_F_ROOT | NLM_F_MATCH

_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_MULTI, _DUMP_INTR = 0x002, 0x010  # NLM_F_MULTI, NLM_F_DUMP_INTR
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, dst_len, src_len, tos, …, type, flags
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, index
_HEADS = {16: _LINK, 20: _ADDRESS, 24: _ROUTE}  # RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE
_TYPE_BITS = 0x3FFF  # NLA_TYPE_MASK: the two above say how an attribute is nested

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_VIA = 1, 4, 5, 7, 18
IFLA_IFNAME = 3
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8

IFF_UP = 0x1
IFF_RUNNING = 0x40  # it passes packets: set a while after the carrier, or after Wi-Fi has let us in
IFF_LOWER_UP = 0x10000
_USABLE = IFF_UP | IFF_RUNNING | IFF_LOWER_UP
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
_PASSABLE = (1, 2)  # RTN_UNICAST, RTN_LOCAL; the others are unreachable, blackhole, prohibit

ANY_ADDRESS = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)

Answer = tuple[tuple[int, ...], Mapping[int, bytes]]
"""The fields of a message's head, and its attributes by number."""


class KernelRefused(OSError):
    """The kernel answered with an error."""


class DumpInterrupted(OSError):
    """A table changed while it was read: what came of it may be wrong."""


def request(kind: int, flags: int, body: bytes) -> bytes:
    """Return a message of `kind` to the kernel."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def route_body(family: int, destination: bytes) -> bytes:
    """Return the question for the way to an address."""
    head = _ROUTE.pack(family, 8 * len(destination), 0, 0, 0, 0, 0, 0, 0)
    return head + _ATTRIBUTE.pack(_ATTRIBUTE.size + len(destination), RTA_DST) + destination


def link_body(index: int) -> bytes:
    """Return the question for an interface."""
    return _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)


class KernelReply:
    """Collects the datagrams of one reply."""

    def __init__(self) -> None:
        self.is_complete = False
        self._answers: list[Answer] = []
        self._error = 0
        self._interrupted = False

    def feed(self, datagram: bytes) -> None:
        """Take a datagram; what is cut off or of an unknown kind is passed over."""
        for kind, flags, payload in _messages(datagram):
            self._interrupted |= bool(flags & _DUMP_INTR)
            self.is_complete |= kind in (_ERROR, _DONE) or not flags & _MULTI
            head = _HEADS.get(kind)
            if kind == _ERROR and len(payload) >= 4:
                self._error = -struct.unpack_from("=i", payload)[0]
            elif head is not None and len(payload) >= head.size:
                attributes = dict(_attributes(payload[head.size :]))
                self._answers.append((head.unpack_from(payload), attributes))

    def answers(self) -> list[Answer]:
        """Return what came.

        Raises:
            KernelRefused: the kernel's error.
            DumpInterrupted: ask again.
        """
        if self._error:
            raise KernelRefused(self._error, os.strerror(self._error))
        if self._interrupted:
            raise DumpInterrupted
        return self._answers


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    while len(datagram) >= _HEADER.size:
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram)
        if not _HEADER.size <= length <= len(datagram):
            return
        yield kind, flags, datagram[_HEADER.size : length]
        datagram = datagram[_aligned(length) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind & _TYPE_BITS, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def read_hop(head: tuple[int, ...], attributes: Mapping[int, bytes]) -> Hop | None:
    """Return the way out, if packets may go there."""
    family, kind = head[0], head[7]
    index, source = _number(attributes.get(RTA_OIF)), _text(attributes.get(RTA_PREFSRC))
    if kind not in _PASSABLE or not index or not source:
        return None
    # A gateway of the other family (RFC 5549) comes as RTA_VIA, behind its family.
    gateway = attributes.get(RTA_GATEWAY) or attributes.get(RTA_VIA, b"")[2:]
    return Hop(family, index, source, _text(gateway))


def read_link(head: tuple[int, ...], attributes: Mapping[int, bytes]) -> Link:
    """Return an interface."""
    name = attributes.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
    return Link(head[2], name, head[3] & _USABLE == _USABLE)


def read_address(head: tuple[int, ...], attributes: Mapping[int, bytes]) -> tuple[int, str] | None:
    """Return an interface's index and one of its addresses, if that can be used."""
    flags = _number(attributes.get(IFA_FLAGS)) or head[2]
    # On a point-to-point link (a mobile modem) IFA_ADDRESS is the peer's.
    address = _text(attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS))
    if not address or flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED):
        return None
    return head[4], address


def _number(data: bytes | None) -> int:
    return struct.unpack("=I", data)[0] if data is not None and len(data) == 4 else 0


def _text(data: bytes | None) -> str:
    """Return an address as text; nothing for what is none."""
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(data or b""))
    return "" if family is None else socket.inet_ntop(family, data or b"")
