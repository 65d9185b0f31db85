"""rtnetlink messages in bytes: the four questions we ask the kernel, and its answers (pure).

Layouts: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h. A library would do
this too, at 10 MiB of memory for these few structures (docs/dependencies.md).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300

RTM_NEWLINK = 16
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26

# Everything that can move the path: RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE,
# IPV6_IFADDR, IPV6_ROUTE and IPV6_RULE as the bits of a bind(2) mask.
GROUPS = sum(1 << (group - 1) for group in (1, 5, 7, 8, 9, 11, 19))

IFF_UP = 0x1
IFF_LOWER_UP = 0x10000
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct(
    "=BBBBBBBBI"
)  # family, dst_len, src_len, tos, table, proto, scope, type, fl.

_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PREFSRC = 7
_IFLA_IFNAME = 3
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_RTN_UNICAST = 1
_RTN_LOCAL = 2


class MalformedMessage(ValueError):
    """Bytes that no kernel sends."""


class Refusal(OSError):
    """The kernel's error answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, its body still in bytes."""

    type: int
    flags: int
    sequence: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    up: bool  # administratively up and with a carrier


@dataclass(frozen=True, slots=True)
class Hop:
    """The kernel's choice for a destination: out of which interface, from which address."""

    family: int  # socket.AF_INET or AF_INET6
    index: int
    source: str
    gateway: str  # empty when on-link


def ask_route(sequence: int, destination: str) -> bytes:
    """Ask which way a packet to `destination` would take (`ip route get`)."""
    address = ipaddress.ip_address(destination)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    packed = address.packed
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _RTA_DST) + packed
    return _request(RTM_GETROUTE, NLM_F_REQUEST, sequence, body + attribute)


def ask_link(sequence: int, index: int) -> bytes:
    """Ask for one interface."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    return _request(RTM_GETLINK, NLM_F_REQUEST, sequence, body)


def ask_addresses(sequence: int) -> bytes:
    """Ask for all addresses of all interfaces."""
    body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return _request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence, body)


def messages(data: bytes) -> Iterator[Message]:
    """Split a datagram into messages; raise `MalformedMessage`."""
    while data:
        if len(data) < _HEADER.size:
            raise MalformedMessage("half a header")
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            raise MalformedMessage(f"length {length} of {len(data)}")
        yield Message(kind, flags, sequence, data[_HEADER.size : length])
        data = data[_aligned(length) :]


def check(message: Message) -> None:
    """Raise `Refusal` when `message` is the kernel's error, and not its plain acknowledgement."""
    if message.type == NLMSG_ERROR:
        if len(message.body) < 4:
            raise MalformedMessage("half an error")
        (code,) = struct.unpack_from("=i", message.body)
        if code:
            raise Refusal(-code, "the kernel refuses a route query")


def read_route(message: Message) -> Hop | None:
    """Return the way, or None where the kernel says that there is none."""
    head = _unpack(_ROUTE, message)
    if head[7] not in (_RTN_UNICAST, _RTN_LOCAL):  # unreachable, blackhole, prohibit
        return None
    attributes = _attributes(message.body[_ROUTE.size :])
    source = _address(attributes.get(_RTA_PREFSRC))
    index = attributes.get(_RTA_OIF, b"")
    if source is None or len(index) != 4:
        return None
    gateway = _address(attributes.get(_RTA_GATEWAY)) or ""
    return Hop(head[0], int(struct.unpack("=I", index)[0]), source, gateway)


def read_link(message: Message) -> Link:
    """Return the interface."""
    _family, _type, index, flags, _change = _unpack(_LINK, message)
    name = _attributes(message.body[_LINK.size :]).get(_IFLA_IFNAME, b"")
    up = flags & (IFF_UP | IFF_LOWER_UP) == IFF_UP | IFF_LOWER_UP
    return Link(index, name.rstrip(b"\0").decode("ascii", "replace"), up)


def read_address(message: Message) -> tuple[int, str] | None:
    """Return interface index and address; None for one that is not in use (yet)."""
    _family, _prefix, flags, _scope, index = _unpack(_ADDRESS, message)
    if flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED):
        return None
    attributes = _attributes(message.body[_ADDRESS.size :])
    # On a point-to-point link (a mobile modem) IFA_ADDRESS is the peer's.
    address = _address(attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS)))
    return None if address is None else (index, address)


def _request(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def _unpack(form: struct.Struct, message: Message) -> tuple[int, ...]:
    if len(message.body) < form.size:
        raise MalformedMessage("half a body")
    return form.unpack_from(message.body)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            raise MalformedMessage(f"attribute length {length} of {len(data)}")
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _address(packed: bytes | None) -> str | None:
    if packed is None or len(packed) not in (4, 16):
        return None
    return str(ipaddress.ip_address(packed))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
