"""The two uplinks: what the other tests take for granted about them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from rig.netns import SERVICE_V4, SERVICE_V6, Uplinks

pytestmark = pytest.mark.netns

RTMGRP_LINK = 1


@contextlib.contextmanager
def service(net: Uplinks, address: str) -> Iterator[int]:
    """Echo on the service's address; gives the port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with net.router.entered():
        listener = socket.create_server((address, 0), family=family)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(connection.recv(100))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ask(net: Uplinks, address: str, port: int, timeout_s: float = 10) -> str:
    """Say something to the service; return the address that it was said from."""
    with net.speaker.entered():
        connection = socket.create_connection((address, port), timeout_s)
    with connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        return str(connection.getsockname()[0])


def test_wifi_is_preferred(uplinks: Uplinks) -> None:
    """With both links up the way to the service is wlan0."""
    with service(uplinks, SERVICE_V4) as port:
        assert uplinks.interface_to_service() == "wlan0"
        assert ask(uplinks, SERVICE_V4, port) == uplinks.wlan0.address


def test_mobile_takes_over_when_wifi_goes_down(uplinks: Uplinks) -> None:
    """With wlan0 down the service is reached over wwan0; with wlan0 up again, over wlan0."""
    with service(uplinks, SERVICE_V4) as port:
        uplinks.wlan0.down()
        assert ask(uplinks, SERVICE_V4, port) == uplinks.wwan0.address
        uplinks.wlan0.up()
        assert ask(uplinks, SERVICE_V4, port) == uplinks.wlan0.address


def test_without_any_link_the_service_is_unreachable(uplinks: Uplinks) -> None:
    """With both links down the kernel knows no way, at once."""
    uplinks.wlan0.down()
    uplinks.wwan0.down()
    assert uplinks.interface_to_service() is None
    with pytest.raises(OSError, match="unreachable"):
        ask(uplinks, SERVICE_V4, 9)


def test_dropped_route_leaves_the_link_up(uplinks: Uplinks) -> None:
    """A route can go and come back while its link stays."""
    uplinks.wlan0.drop_route()
    assert uplinks.interface_to_service() == "wwan0"
    assert "state UP" in uplinks.speaker.run("ip", "link", "show", "wlan0")
    uplinks.wlan0.restore_route()
    assert uplinks.interface_to_service() == "wlan0"


def test_lost_carrier_is_not_link_down(uplinks: Uplinks) -> None:
    """Without carrier the interface is up and not running, as Wi-Fi out of reach."""
    uplinks.wlan0.lose_carrier()
    assert "NO-CARRIER" in uplinks.speaker.run("ip", "link", "show", "wlan0")
    uplinks.wlan0.restore_carrier()
    assert "NO-CARRIER" not in uplinks.speaker.run("ip", "link", "show", "wlan0")
    with service(uplinks, SERVICE_V4) as port:
        assert ask(uplinks, SERVICE_V4, port) == uplinks.wlan0.address


def test_swallowed_answers_leave_no_trace(uplinks: Uplinks) -> None:
    """Packets can vanish while link, route and address stay as they were."""
    with service(uplinks, SERVICE_V4) as port:
        before = uplinks.speaker.run("ip", "address") + uplinks.speaker.run("ip", "route")
        uplinks.wlan0.swallow()
        with pytest.raises(TimeoutError):
            ask(uplinks, SERVICE_V4, port, timeout_s=0.3)
        after = uplinks.speaker.run("ip", "address") + uplinks.speaker.run("ip", "route")
        assert after == before
        uplinks.wlan0.pass_again()
        assert ask(uplinks, SERVICE_V4, port) == uplinks.wlan0.address


def test_addresses_come_and_go(uplinks: Uplinks) -> None:
    """A lease that ends takes its routes along; the next one brings another address."""
    uplinks.wlan0.remove_address(f"{uplinks.wlan0.address}/24")
    assert uplinks.interface_to_service() == "wwan0"
    uplinks.wlan0.add_address("10.55.1.9/24")
    uplinks.wlan0.restore_route()
    with service(uplinks, SERVICE_V4) as port:
        assert ask(uplinks, SERVICE_V4, port) == "10.55.1.9"


def test_ipv6_takes_the_same_ways(uplinks: Uplinks) -> None:
    """The service has an IPv6 address behind both links, too."""
    if not uplinks.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    with service(uplinks, SERVICE_V6) as port:
        assert ask(uplinks, SERVICE_V6, port) == uplinks.wlan0.address_v6
        uplinks.wlan0.down()
        assert ask(uplinks, SERVICE_V6, port) == uplinks.wwan0.address_v6


def test_link_events_are_seen_inside(uplinks: Uplinks) -> None:
    """A netlink socket made inside hears of a link that goes down."""
    with uplinks.speaker.entered():
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with events:
        events.settimeout(20)
        events.bind((0, RTMGRP_LINK))
        uplinks.wlan0.down()
        heard = b""
        while b"wlan0\0" not in heard:
            heard = events.recv(65536)
    assert heard


def test_processes_run_inside(uplinks: Uplinks) -> None:
    """A program started inside sees the uplinks and nothing of the machine."""
    code = "import socket; print(*sorted(name for _, name in socket.if_nameindex()))"
    process = uplinks.speaker.popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=60)
    assert output.split() == ["lo", "wlan0", "wwan0"]


def test_two_nets_do_not_meet(uplinks: Uplinks) -> None:
    """Two of these at once, with the same names and addresses, are two worlds."""
    with Uplinks() as other:
        other.wlan0.down()
        assert uplinks.interface_to_service() == "wlan0"
        assert other.interface_to_service() == "wwan0"


def test_thread_is_home_again_afterwards(uplinks: Uplinks) -> None:
    """Being inside ends with the block."""
    before = {name for _, name in socket.if_nameindex()}
    with uplinks.speaker.entered():
        assert {name for _, name in socket.if_nameindex()} == {"lo", "wlan0", "wwan0"}
    assert {name for _, name in socket.if_nameindex()} == before
