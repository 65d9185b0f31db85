"""The kernel's answers as bytes: what is read of them, and that nothing in them can hurt."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.net import rtnetlink as r
from agentd.net.path import Hop, Link

MULTI, DUMP_INTR = 0x2, 0x10
NEWLINK, NEWADDR, NEWROUTE, ERROR, DONE = 16, 20, 24, 2, 3


def message(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Return a message as the kernel writes it."""
    return (
        struct.pack("=IHHII", 16 + len(payload), kind, flags, 7, 8)
        + payload
        + bytes(-len(payload) % 4)
    )


def attribute(kind: int, data: bytes) -> bytes:
    """Return an attribute, padded."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def ip(text: str) -> bytes:
    """Return an address as bytes."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def read(*datagrams: bytes) -> list[r.Answer]:
    """Return the answers of a reply that is complete."""
    reply = r.KernelReply()
    for datagram in datagrams:
        assert not reply.is_complete
        reply.feed(datagram)
    assert reply.is_complete
    return reply.answers()


def route(kind: int, *attributes: bytes, family: int = socket.AF_INET) -> bytes:
    head = struct.pack("=BBBBBBBBI", family, 32, 0, 0, 254, 2, 0, kind, 0)
    return message(NEWROUTE, head + b"".join(attributes))


def test_questions_are_as_the_kernel_wants_them() -> None:
    """Header, head, and the address to go to."""
    body = r.route_body(socket.AF_INET, ip("8.8.8.8"))
    sent = r.request(r.GETROUTE, r.REQUEST, body)
    assert struct.unpack_from("=IHHII", sent) == (len(sent), 26, 1, 0, 0)
    assert sent[16:18] == bytes([socket.AF_INET, 32])
    assert sent[28:] == attribute(r.RTA_DST, ip("8.8.8.8"))
    assert r.link_body(3)[4:8] == struct.pack("=i", 3)


OUT, SOURCE = attribute(r.RTA_OIF, struct.pack("=I", 3)), attribute(r.RTA_PREFSRC, ip("10.0.0.2"))


@pytest.mark.parametrize(
    ("datagram", "hop"),
    [
        (
            route(1, OUT, attribute(r.RTA_GATEWAY, ip("10.0.0.1")), SOURCE),
            Hop(socket.AF_INET, 3, "10.0.0.2", "10.0.0.1"),
        ),
        (route(2, OUT, SOURCE), Hop(socket.AF_INET, 3, "10.0.0.2", "")),
        (
            route(1, OUT, SOURCE, attribute(r.RTA_VIA, struct.pack("=H", 10) + ip("fe80::1"))),
            Hop(socket.AF_INET, 3, "10.0.0.2", "fe80::1"),
        ),
        (
            route(
                1,
                OUT,
                attribute(r.RTA_PREFSRC, ip("2001:db8::2")),
                family=socket.AF_INET6,
            ),
            Hop(socket.AF_INET6, 3, "2001:db8::2", ""),
        ),
        (route(7, OUT, SOURCE), None),  # unreachable
        (route(1, SOURCE), None),
        (route(1, OUT), None),
        (route(1, OUT, attribute(r.RTA_PREFSRC, b"odd")), None),
    ],
)
def test_the_way_out(datagram: bytes, hop: Hop | None) -> None:
    """Interface, source and gateway of what packets may pass; a gateway may be of either family."""
    ((head, attributes),) = read(datagram)
    assert r.read_hop(head, attributes) == hop


@pytest.mark.parametrize(
    ("flags", "up"), [(0x11043, True), (0x1003, False), (0x11003, False), (0x1043, False)]
)
def test_an_interface_is_up_when_it_passes_packets(flags: int, up: bool) -> None:
    """Up, with a carrier, and let in."""
    head = struct.pack("=BxHiII", 0, 1, 3, flags, 0)
    ((found, attributes),) = read(
        message(NEWLINK, head + attribute(r.IFLA_IFNAME, b"wlan0\0") + attribute(99, b"else"))
    )
    assert r.read_link(found, attributes) == Link(3, "wlan0", up)


def address(*attributes: bytes, flags: int = 0x80) -> bytes:
    head = struct.pack("=BBBBI", socket.AF_INET, 24, flags, 0, 3)
    return message(NEWADDR, head + b"".join(attributes), MULTI)


PEER, LOCAL = attribute(r.IFA_ADDRESS, ip("10.0.0.9")), attribute(r.IFA_LOCAL, ip("10.0.0.2"))
TENTATIVE = attribute(r.IFA_FLAGS, struct.pack("=I", r.IFA_F_TENTATIVE))


@pytest.mark.parametrize(
    ("datagram", "found"),
    [
        (address(PEER, LOCAL), (3, "10.0.0.2")),
        (address(PEER), (3, "10.0.0.9")),
        (address(PEER, TENTATIVE), None),
        (address(PEER, flags=r.IFA_F_DADFAILED), None),
        (address(), None),
    ],
)
def test_addresses_that_can_be_used(datagram: bytes, found: tuple[int, str] | None) -> None:
    """Our own end of a point-to-point link; not one that is still being tried, or is taken."""
    ((head, attributes),) = read(datagram, message(DONE, flags=MULTI))
    assert r.read_address(head, attributes) == found


def test_a_table_comes_in_pieces() -> None:
    """It is over with the message that says so, in whatever datagram."""
    assert len(read(address(PEER) + address(LOCAL), address(PEER), message(DONE, b"", MULTI))) == 3


def test_an_error_is_the_kernels() -> None:
    """With its number; what is cut off is passed over."""
    refusal = message(ERROR, struct.pack("=i", -errno.ENETUNREACH))
    with pytest.raises(r.KernelRefused) as caught:
        read(refusal)
    assert caught.value.errno == errno.ENETUNREACH
    assert read(message(ERROR, b"\0")) == []
    assert read(message(NEWROUTE, b"short")) == []


def test_a_table_that_changed_meanwhile_is_no_answer() -> None:
    """Half of the old and half of the new one would be a path that never was."""
    with pytest.raises(r.DumpInterrupted):
        read(address(PEER), message(DONE, flags=MULTI | DUMP_INTR))


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_any_bytes_are_survived(datagrams: list[bytes]) -> None:
    """Lengths that lie, kinds that nobody knows, attributes that end in the middle."""
    reply = r.KernelReply()
    for datagram in datagrams:
        reply.feed(datagram)
        reply.feed(message(NEWROUTE, datagram) + message(NEWADDR, datagram))
    with contextlib.suppress(r.KernelRefused, r.DumpInterrupted):
        for head, attributes in reply.answers():
            if len(head) == 9:
                r.read_hop(head, attributes)
            elif len(head) == 5:
                r.read_address(head, attributes)
