"""Netlink messages: what the kernel sends is understood, what nobody sends is refused."""

import contextlib
import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.net import rtnetlink as rt


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, body: bytes, *, flags: int = 0, sequence: int = 7) -> bytes:
    """Return one message, padded."""
    head = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0)
    return head + body + b"\0" * (-len(body) % 4)


def one(data: bytes) -> rt.Message:
    """Return the only message in `data`."""
    (only,) = rt.messages(data)
    return only


def route(family: int, *attributes: bytes, kind: int = 1) -> rt.Message:
    """Return a route answer."""
    body = struct.pack("=BBBBBBBBI", family, 32, 0, 0, 254, 0, 0, kind, 0)
    return one(message(rt.RTM_NEWROUTE, body + b"".join(attributes)))


def packed(address: str) -> bytes:
    """Return an address as on the wire."""
    return ipaddress.ip_address(address).packed


OIF = attribute(4, struct.pack("=I", 3))


def test_a_route_names_interface_source_and_gateway() -> None:
    """Both families are read."""
    v4 = route(2, OIF, attribute(7, packed("192.0.2.7")), attribute(5, packed("192.0.2.1")))
    assert rt.read_route(v4) == rt.Hop(socket.AF_INET, 3, "192.0.2.7", "192.0.2.1")
    v6 = route(10, OIF, attribute(7, packed("2001:db8::7")))
    assert rt.read_route(v6) == rt.Hop(socket.AF_INET6, 3, "2001:db8::7", "")


@pytest.mark.parametrize(
    "answer",
    [
        route(2, OIF, attribute(7, packed("192.0.2.7")), kind=7),  # unreachable
        route(2, OIF),
        route(2, attribute(7, packed("192.0.2.7"))),
        route(2, OIF, attribute(7, b"abc")),
    ],
)
def test_a_route_that_leads_nowhere_is_none(answer: rt.Message) -> None:
    """Unreachable routes and answers without interface or source are no way out."""
    assert rt.read_route(answer) is None


@pytest.mark.parametrize(
    ("flags", "up"), [(0x1, False), (0x10000, False), (0x10001, True), (0x11043, True)]
)
def test_a_link_is_up_with_carrier_only(flags: int, up: bool) -> None:
    """Administratively up is not enough."""
    body = struct.pack("=BxHiII", 0, 1, 3, flags, 0) + attribute(3, b"wlan0\0")
    assert rt.read_link(one(message(rt.RTM_NEWLINK, body))) == rt.Link(3, "wlan0", up)


def address(flags: int, *attributes: bytes) -> tuple[int, str] | None:
    """Read an address answer of interface 3."""
    body = struct.pack("=BBBBI", 2, 24, flags, 0, 3) + b"".join(attributes)
    return rt.read_address(one(message(rt.RTM_NEWADDR, body)))


def test_the_local_end_of_a_point_to_point_link_is_ours() -> None:
    """On a mobile modem IFA_ADDRESS is the other end."""
    peer, local = attribute(1, packed("10.0.0.1")), attribute(2, packed("10.0.0.2"))
    assert address(0, peer, local) == (3, "10.0.0.2")
    assert address(0, peer) == (3, "10.0.0.1")


@pytest.mark.parametrize("flags", [rt.IFA_F_TENTATIVE, rt.IFA_F_DADFAILED])
def test_an_address_under_test_is_not_in_use(flags: int) -> None:
    """Tentative and duplicate IPv6 addresses do not count, nor does a message without any."""
    assert address(flags, attribute(1, packed("10.0.0.1"))) is None
    assert address(0) is None


def test_errors_of_the_kernel_are_raised_and_acknowledgements_are_not() -> None:
    """NLMSG_ERROR with code 0 is an ACK."""
    with pytest.raises(rt.Refusal) as refused:
        rt.check(one(message(rt.NLMSG_ERROR, struct.pack("=i", -101))))
    assert refused.value.errno == 101
    rt.check(one(message(rt.NLMSG_ERROR, struct.pack("=i", 0))))
    rt.check(one(message(rt.NLMSG_DONE, b"")))
    with pytest.raises(rt.MalformedMessage):
        rt.check(one(message(rt.NLMSG_ERROR, b"")))


@pytest.mark.parametrize(
    "data",
    [b"\0", struct.pack("=IHHII", 8, 0, 0, 0, 0), struct.pack("=IHHII", 99, 0, 0, 0, 0)],
)
def test_impossible_lengths_are_refused(data: bytes) -> None:
    """Half headers and lengths beyond the datagram raise."""
    with pytest.raises(rt.MalformedMessage):
        list(rt.messages(data))


@pytest.mark.parametrize("data", [b"\x02\0\0\0", b"\xff\0\0\0"])
def test_impossible_attributes_are_refused(data: bytes) -> None:
    """Attribute lengths below the header or beyond the message raise."""
    with pytest.raises(rt.MalformedMessage):
        rt.read_route(route(2, data))


@given(st.binary(max_size=120))
def test_no_datagram_raises_anything_else(data: bytes) -> None:
    """Random bytes are read or refused, never crash or loop."""
    try:
        for found in rt.messages(data):
            rt.check(found)
            rt.read_route(found)
            rt.read_link(found)
            rt.read_address(found)
    except (rt.MalformedMessage, rt.Refusal):
        pass


@given(st.binary(max_size=80))
def test_no_body_raises_anything_else(body: bytes) -> None:
    """Random bodies are read or refused."""
    for read in (rt.read_route, rt.read_link, rt.read_address):
        with contextlib.suppress(rt.MalformedMessage):
            read(rt.Message(0, 0, 0, body))


def test_questions_carry_the_destination() -> None:
    """A route question is for one address of its family; a dump is asked for as such."""
    asked = one(rt.ask_route(9, "192.0.2.1"))
    assert (asked.type, asked.flags, asked.sequence) == (rt.RTM_GETROUTE, rt.NLM_F_REQUEST, 9)
    assert asked.body[:2] == bytes([socket.AF_INET, 32])
    assert asked.body.endswith(packed("192.0.2.1"))
    assert one(rt.ask_route(9, "::1")).body[:2] == bytes([socket.AF_INET6, 128])
    assert one(rt.ask_addresses(1)).flags & rt.NLM_F_DUMP == rt.NLM_F_DUMP
    assert struct.unpack_from("=i", one(rt.ask_link(1, 42)).body, 4) == (42,)
