"""The relay that makes bad links: what the other tests take for granted about it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from rig.relay import Quality, Relay

DEADLINE_S = 20.0


class Echo:
    """A TCP server that returns what it gets, and remembers how each connection ended."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.endings: list[str] = []
        self.changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        ending = "eof"
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except ConnectionResetError:
                ending = "reset"
        with self.changed:
            self.endings.append(ending)
            self.changed.notify_all()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()

    def wait_ending(self) -> str:
        with self.changed:
            assert self.changed.wait_for(lambda: bool(self.endings), DEADLINE_S)
            return self.endings.pop(0)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def relay(echo: Echo) -> Iterator[Relay]:
    with Relay(echo.port) as link:
        yield link


def connect(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), DEADLINE_S)


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(65536)
        assert more, "closed too early"
        data += more
    return data


def test_bytes_pass_untouched(relay: Relay) -> None:
    """What goes in comes out, in order, both ways, however much it is."""
    sent = bytes(range(256)) * 2000
    with connect(relay) as connection:
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        received = receive(connection, len(sent))
        sender.join()
    assert received == sent
    # Bytes are counted after they have been passed on.
    relay.wait_for(lambda r: (r.bytes_up, r.bytes_down) == (len(sent), len(sent)))


def test_closing_passes_through(relay: Relay, echo: Echo) -> None:
    """A clean close arrives as a clean close, and the relay lets the connection go."""
    with connect(relay) as connection:
        connection.sendall(b"x")
        receive(connection, 1)
    assert echo.wait_ending() == "eof"
    relay.wait_for(lambda r: r.active == 0)


def test_delay_is_a_least_delay(relay: Relay) -> None:
    """Nothing arrives before the delay of both directions has passed."""
    relay.set_quality(up=Quality(delay_s=0.05), down=Quality(delay_s=0.05))
    with connect(relay) as connection:
        began = time.monotonic()
        connection.sendall(b"ping")
        assert receive(connection, 4) == b"ping"
        assert time.monotonic() - began >= 0.1


def test_rate_limits_throughput(relay: Relay) -> None:
    """40 kB at 200 kB/s take a fifth of a second at least."""
    relay.set_quality(up=Quality(rate_bytes_s=200_000))
    with connect(relay) as connection:
        began = time.monotonic()
        connection.sendall(bytes(40_000))
        receive(connection, 40_000)
        assert time.monotonic() - began >= 0.19


def test_stall_chance_holds_and_keeps_order(relay: Relay) -> None:
    """A lost packet holds everything behind it; nothing is lost or reordered."""
    relay.set_quality(up=Quality(stall_chance=1.0, stall_s=0.1))
    with connect(relay) as connection:
        began = time.monotonic()
        connection.sendall(b"one")
        assert receive(connection, 3) == b"one"
        assert time.monotonic() - began >= 0.1


def test_stall_passes_nothing_until_resumed(relay: Relay) -> None:
    """During a stall nothing comes and nothing closes; afterwards everything arrives."""
    with connect(relay) as connection:
        connection.sendall(b"a")
        receive(connection, 1)
        relay.stall()
        connection.sendall(b"b")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(DEADLINE_S)
        relay.resume()
        assert receive(connection, 1) == b"b"


def test_new_connections_hang_during_a_stall(relay: Relay) -> None:
    """A stalled link takes a connection and says nothing on it until it is resumed."""
    relay.stall()
    with connect(relay) as connection:
        connection.sendall(b"hello")
        relay.wait_for(lambda r: r.connections == 1)
        assert relay.bytes_up == 0
        relay.resume()
        assert receive(connection, 5) == b"hello"


def test_vanished_connection_stays_dead_while_new_ones_work(relay: Relay) -> None:
    """A half-open connection never ends by itself, not even when the link is resumed."""
    with connect(relay) as old:
        old.sendall(b"a")
        receive(old, 1)
        relay.vanish()
        relay.resume()
        old.sendall(b"b")
        with connect(relay) as new:
            new.sendall(b"c")
            assert receive(new, 1) == b"c"
        old.settimeout(0.2)
        with pytest.raises(TimeoutError):
            old.recv(1)


def test_reset_reaches_both_sides(relay: Relay, echo: Echo) -> None:
    """RST arrives as RST at the client and at the server."""
    with connect(relay) as connection:
        connection.sendall(b"a")
        receive(connection, 1)
        relay.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert echo.wait_ending() == "reset"
    relay.wait_for(lambda r: r.active == 0)


def test_vanished_connection_can_be_reset(relay: Relay) -> None:
    """The RST that a half-open connection gets in the end reaches it."""
    with connect(relay) as connection:
        connection.sendall(b"a")
        receive(connection, 1)
        relay.vanish()
        relay.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_refused_port_comes_back_as_the_same(relay: Relay) -> None:
    """A closed port refuses; opened again it has the same number, and old connections lived on."""
    with connect(relay) as old:
        old.sendall(b"a")
        receive(old, 1)
        relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(relay)
        relay.accept()
        with connect(relay) as new:
            new.sendall(b"b")
            assert receive(new, 1) == b"b"
        old.sendall(b"c")
        assert receive(old, 1) == b"c"


def test_unreachable_target_is_a_reset(echo: Echo) -> None:
    """When nobody listens behind the relay the client is reset, not left waiting."""
    echo.close()
    with (
        Relay(echo.port) as link,
        pytest.raises(ConnectionResetError),  # the reset may be there before connect returns
        connect(link) as connection,
    ):
        connection.recv(1)
