"""The WebSocket under the SDK: what a peer may make us keep and do, byte by byte.

On virtual time: however long this machine takes, no second passes while there is something to do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import cast

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from agentd.live.google.frames import Excess, UnknownKind, UnusableFrame
from agentd.live.google.websocket import (
    EARLY_BYTES,
    EARLY_FRAMES,
    FRAMES_AT_ONCE,
    MAX_FRAMES_PER_S,
    SLICE_BYTES,
    UNREAD_PONGS,
    LiveWebSocket,
)
from tests.live.device import on_loop

SETUP = b'{"setupComplete": {}}'
EMPTY = b"{}"
SMALLEST = 2 + len(EMPTY)  # of a frame from a server: two bytes of head


class FakeTransport(asyncio.Transport):
    """A socket whose other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self.paused = False
        self.closes = 0
        self.aborted: Callable[[], None] = lambda: None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Count."""
        self.written += len(data)

    def abort(self) -> None:
        """Tell the test."""
        self.aborted()

    def close(self) -> None:
        """Count; the test ends the connection."""
        self.closes += 1

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return self.closes > 0

    def can_write_eof(self) -> bool:
        """Return False, as TLS does."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return 0: everything is taken."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take any."""

    def pause_reading(self) -> None:
        """Note it."""
        self.paused = True

    def resume_reading(self) -> None:
        """Note it."""
        self.paused = False


class Counting(LiveWebSocket):
    """Counts what it has handled."""

    handled = 0

    def process_event(self, event: Event) -> None:
        """Count."""
        self.handled += 1
        super().process_event(event)


def opened() -> tuple[Counting, FakeTransport]:
    """A connection whose handshake is done."""
    protocol = ClientProtocol(parse_uri("wss://service.invalid/"), max_size=1 << 20)
    socket = Counting(protocol, made=lambda _: None, user_timeout_ms=1000, ping_interval=None)
    transport = FakeTransport()

    def abort() -> None:
        asyncio.get_running_loop().call_soon(socket.connection_lost, None)

    transport.aborted = abort
    socket.connection_made(transport)
    protocol.send_request(protocol.connect())
    server = ServerProtocol()
    server.receive_data(b"".join(protocol.data_to_send()))
    (request,) = server.events_received()
    server.send_response(server.accept(cast("Request", request)))
    socket.data_received(b"".join(server.data_to_send()))
    assert socket.response is not None
    socket.handled = 0
    return socket, transport


def wire(*contents: bytes, opcode: Opcode = Opcode.BINARY) -> bytes:
    """Frames as a server sends them."""
    return b"".join(Frame(opcode, content).serialize(mask=False) for content in contents)


async def set_up() -> tuple[Counting, FakeTransport]:
    """A connection on which setupComplete has come."""
    socket, transport = opened()
    socket.data_received(wire(SETUP))
    assert await socket.recv() == SETUP
    socket.handled = 0
    return socket, transport


async def turns_until(so: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    for _ in range(10_000):
        if so():
            return
        await asyncio.sleep(0)
    raise AssertionError("never")


def numbered(count: int) -> list[bytes]:
    """Frames that can be told from each other."""
    return [json.dumps({"goAway": {"timeLeft": str(n)}}).encode() for n in range(count)]


@on_loop
async def test_the_loop_has_its_turn_between_slices() -> None:
    """However many frames the socket hands over at once, few are handled between two turns."""
    socket, _ = await set_up()
    stops: list[int] = []

    async def watch() -> None:
        before = socket.handled
        while True:
            await asyncio.sleep(0)
            stops.append(socket.handled - before)
            before = socket.handled

    async def read() -> None:
        for _ in range(FRAMES_AT_ONCE - 100):
            await socket.recv()

    watcher = asyncio.create_task(watch())
    socket.data_received(wire(EMPTY) * (FRAMES_AT_ONCE - 100))
    await read()
    watcher.cancel()
    assert sum(stops) + SLICE_BYTES >= FRAMES_AT_ONCE - 100
    assert 0 < max(stops) <= SLICE_BYTES // SMALLEST + 1


@on_loop
async def test_nothing_is_lost_or_reordered_by_slices() -> None:
    """Small and large frames arrive whole and in order, and reading pauses meanwhile."""
    socket, transport = await set_up()
    frames = numbered(500)
    frames.insert(250, json.dumps({"goAway": {"timeLeft": "x" * 500_000}}).encode())
    socket.data_received(wire(*frames))
    assert transport.paused
    assert [await socket.recv() for _ in frames] == frames
    await turns_until(lambda: not transport.paused)


@on_loop
async def test_what_came_before_the_end_is_read_before_the_end() -> None:
    """A peer that says much and leaves at once has been heard to the end."""
    socket, _ = await set_up()
    frames = numbered(400)
    socket.data_received(wire(*frames))
    socket.eof_received()
    socket.connection_lost(None)
    assert [await socket.recv() for _ in frames] == frames
    with pytest.raises(ConnectionClosed):
        await socket.recv()


@on_loop
async def test_the_end_comes_although_nobody_reads() -> None:
    """A close must never wait for a reader that is gone."""
    socket, _ = await set_up()
    socket.data_received(wire(EMPTY) * 5_000)
    socket.connection_lost(None)
    await socket.wait_closed()


@on_loop
async def test_frames_that_nobody_reads_stop_the_reading() -> None:
    """What waits for a reader is bounded; the rest stays with the peer."""
    socket, transport = await set_up()
    socket.data_received(wire(EMPTY) * 5_000)
    for _ in range(100):
        await asyncio.sleep(0)
    assert transport.paused
    assert socket.handled <= SLICE_BYTES // SMALLEST + 1


@on_loop
async def test_the_transport_is_closed_once() -> None:
    """The second close would cut asyncio's TLS transport off from its socket."""
    socket, transport = await set_up()
    socket.data_received(wire(b"x" * ((1 << 20) + 1)))  # more than it takes: it closes
    await turns_until(lambda: not socket._backlog)
    socket.eof_received()
    socket.transport.close()
    assert transport.closes == 1
    socket.connection_lost(None)
    with pytest.raises(ConnectionClosed):
        await socket.recv()


@on_loop
async def test_a_flood_ends_the_connection() -> None:
    """Frames of any kind, pings too, beyond what a service may send at once."""
    for opcode in (Opcode.BINARY, Opcode.PING, Opcode.PONG):
        socket, _ = await set_up()
        reader = asyncio.create_task(drain(socket))
        socket.data_received(wire(EMPTY, opcode=opcode) * (FRAMES_AT_ONCE + 10_000))
        await socket.wait_closed()
        assert socket.excess == "more than 2000 frames a second"
        with pytest.raises(ConnectionClosed):
            await reader


async def drain(socket: LiveWebSocket) -> None:
    """Read to the end."""
    while True:
        await socket.recv()


@on_loop
async def test_as_many_frames_over_some_time_are_no_flood() -> None:
    """A path that hung delivers what it kept back, and the bound has room again after a while."""
    socket, _ = await set_up()
    reader = asyncio.create_task(drain(socket))
    for _ in range(3):
        socket.data_received(wire(EMPTY) * (FRAMES_AT_ONCE - 100))
        await turns_until(lambda: socket.handled % (FRAMES_AT_ONCE - 100) == 0)
        await asyncio.sleep(FRAMES_AT_ONCE / MAX_FRAMES_PER_S)
    assert not socket.excess
    reader.cancel()


@on_loop
async def test_pings_whose_answers_are_not_read_end_the_connection() -> None:
    """The pongs would wait with us."""
    socket, transport = await set_up()
    socket.pause_writing()  # the transport holds as much as it may
    before = transport.written
    socket.data_received(wire(b"x" * 125, opcode=Opcode.PING) * (UNREAD_PONGS + 500))
    await socket.wait_closed()
    assert socket.excess == "pings whose answers are not read"
    assert transport.written - before <= (UNREAD_PONGS + SLICE_BYTES // 127 + 1) * (125 + 6)


@on_loop
async def test_a_peer_that_reads_in_time_may_ping_again() -> None:
    """Only answers that nobody takes are counted."""
    socket, _ = await set_up()
    for _ in range(3):
        socket.pause_writing()
        socket.data_received(wire(b"x", opcode=Opcode.PING) * (UNREAD_PONGS - 100))
        await turns_until(lambda: socket.handled % (UNREAD_PONGS - 100) == 0)
        socket.resume_writing()
    assert not socket.excess


@pytest.mark.parametrize(
    "early", [[EMPTY] * (EARLY_FRAMES + 1), [b" " * (EARLY_BYTES // 2)] * 3], ids=["many", "large"]
)
@on_loop
async def test_little_may_come_before_the_setup_is_complete(early: list[bytes]) -> None:
    """More is no service; the connection is given up, with the reason."""
    socket, _ = opened()
    socket.data_received(wire(*early, SETUP))
    with pytest.raises(Excess, match="before the setup is complete"):
        await socket.recv()
    await socket.wait_closed()


@on_loop
async def test_a_flood_before_the_setup_has_its_reason_too() -> None:
    """Pings are no messages, but a flood of them ends the attempt."""
    socket, _ = opened()
    socket.data_received(wire(b"", opcode=Opcode.PING) * (FRAMES_AT_ONCE + 10_000))
    with pytest.raises(Excess, match="frames a second"):
        await socket.recv()


@on_loop
async def test_a_loss_before_the_setup_is_a_loss() -> None:
    """Nothing else is made of it."""
    socket, _ = opened()
    socket.connection_lost(None)
    with pytest.raises(ConnectionClosed):
        await socket.recv()


@on_loop
async def test_what_came_early_is_screened_like_the_rest() -> None:
    """Held back is not let through."""
    socket, _ = opened()
    socket.data_received(wire(b"[]", b'{"newKind": 1}', b'{"interactionStatus": "IDLE"}', SETUP))
    assert await socket.recv() == SETUP
    with pytest.raises(UnusableFrame):
        await socket.recv()
    with pytest.raises(UnknownKind):
        await socket.recv()
    assert json.loads(await socket.recv()) == {"serverContent": {"interactionStatus": "IDLE"}}
