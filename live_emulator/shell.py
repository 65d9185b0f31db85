"""One WebSocket: carries frames into the core and the core's effects out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from live_emulator.clock import ServiceClock
from live_emulator.connection import LiveConnection
from live_emulator.effects import (
    Close,
    Deafen,
    DropConnections,
    Effect,
    Flood,
    Freeze,
    Note,
    Reset,
    Send,
    SendBytes,
    SendRaw,
    Serverwide,
    Utterance,
)
from live_emulator.faults import Fault
from live_emulator.options import EmulatorOptions
from live_emulator.record import Record, describe_inbound

logger = logging.getLogger(__name__)

SEND_STALL_S = 120.0
"""Real seconds after which a client that reads nothing is cut off."""
FLOOD_FRAMES = 200
"""Of a flood, before what else is to be done gets its turn."""
WRITE_AHEAD_BYTES = 1 << 18


class Keeper(Protocol):
    """What outlives a connection, and is told of what happens on it."""

    options: EmulatorOptions
    record: Record

    def keep_audio(self, shell: ConnectionShell, pcm: bytes) -> None:
        """Keep audio that came, as far as memory is meant for it."""

    def keep_utterance(self, utterance: Utterance) -> None:
        """Keep an utterance, and put it on record."""

    def strike_server(self, fault: Fault) -> None:
        """Carry out a fault that concerns more than one connection."""

    def drop(self, numbers: Iterable[int]) -> None:
        """Cut connections, by number."""

    def save_state(self) -> None:
        """Write sessions and handles, if a state file was asked for."""


class ConnectionShell:
    """A live connection of the emulator."""

    def __init__(
        self, ws: ServerConnection, core: LiveConnection, owner: Keeper, clock: ServiceClock
    ) -> None:
        self.ws = ws
        self.core = core
        self._owner = owner
        self._clock = clock
        self._record: Record = owner.record
        self._wake = asyncio.Event()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._gone = False
        self._outbox: deque[Effect] = deque()
        self._flooded = 0
        self.audio = bytearray()
        """Every byte of PCM received, in order."""

    @property
    def number(self) -> int:
        """Return the connection's number, counted from 1."""
        return self.core.number

    @property
    def session_id(self) -> str:
        """Return the session, once there is one."""
        return self.core.session.id if self.core.session is not None else ""

    @property
    def frozen(self) -> bool:
        """Tell whether a fault stopped this connection."""
        return not self._thawed.is_set()

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._collect()
        reader = asyncio.create_task(self._read(), name=f"emulator-read-{self.number}")
        try:
            await self._pump()
        except ConnectionClosed:
            pass
        finally:
            self._gone = True
            self._thawed.set()
            if self.ws.protocol.close_code is None:
                self.ws.transport.abort()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._finish()

    def _finish(self) -> None:
        self.core.disconnected(self._clock.now())
        self._collect()
        for effect in self._outbox:
            if isinstance(effect, Note | Utterance | Serverwide):
                self._keep(effect)
        self._outbox.clear()
        self._event(
            "closed", code=self.ws.protocol.close_code, reason=self.ws.protocol.close_reason or ""
        )

    async def _read(self) -> None:
        try:
            while True:
                await self._thawed.wait()
                frame = await self.ws.recv()
                await self._thawed.wait()
                self._arrived(frame)
                self._wake.set()
        except ConnectionClosed:
            pass
        finally:
            self._gone = True
            self._wake.set()

    def _arrived(self, frame: str | bytes) -> None:
        inbound = describe_inbound(frame)
        self._owner.keep_audio(self, inbound.pcm)
        self._record.add(
            self.number,
            self.session_id,
            "in",
            inbound.kind,
            frame="text" if isinstance(frame, str) else "binary",
            size=len(frame) if isinstance(frame, bytes) else len(frame.encode()),
            audio_bytes=len(inbound.pcm),
            message=inbound.message,
        )
        self._guard(lambda: self.core.receive(frame, self._clock.now()))

    def _guard(self, step: Callable[[], None]) -> None:
        """Run a step of the core; a bug in it ends this connection, never the server."""
        try:
            step()
        except Exception as exc:
            logger.exception("emulator core failed")
            self._event("core_error", error=repr(exc))
            self.core.apply(Fault("close"), self._clock.now())
        self._collect()

    def strike(self, fault: Fault) -> None:
        """Let a fault strike this connection now."""
        self._guard(lambda: self.core.apply(fault, self._clock.now()))
        self._wake.set()

    def cut(self) -> None:
        """Cut the TCP connection with a reset."""
        transport = self.ws.transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._gone = True
        self._thawed.set()
        transport.abort()
        self._wake.set()

    # -- effects ----------------------------------------------------------------------------

    def _collect(self) -> None:
        """Move the core's effects to the outbox; what cannot wait happens at once."""
        for effect in self.core.take():
            if isinstance(effect, Reset):
                self.cut()
            elif isinstance(effect, Freeze):
                self._freeze(effect.frozen)
            elif isinstance(effect, Deafen):
                self.ws.transport.pause_reading()
            elif isinstance(effect, Note | Utterance | Serverwide | DropConnections):
                self._keep(effect)
            else:
                self._outbox.append(effect)

    def _freeze(self, frozen: bool) -> None:
        if frozen:
            self._thawed.clear()
            self.ws.transport.pause_reading()
        else:
            self._thawed.set()
            self.ws.transport.resume_reading()

    def _keep(self, effect: Effect) -> None:
        if isinstance(effect, Note):
            self._event(effect.kind, **effect.detail)
        elif isinstance(effect, Utterance):
            self._owner.keep_utterance(effect)
        elif isinstance(effect, Serverwide):
            self._owner.strike_server(effect.fault)
        elif isinstance(effect, DropConnections):
            self._owner.drop(effect.numbers)

    def _event(self, kind: str, **detail: object) -> None:
        self._record.add(self.number, self.session_id, "event", kind, detail=detail)

    async def _pump(self) -> None:
        """Send what the core wants sent; run its timers."""
        loop = asyncio.get_running_loop()
        while not self._gone:
            self._wake.clear()
            self._guard(lambda: self.core.tick(self._clock.now()))
            while self._outbox and not self.frozen and not self._gone:
                if not await self._carry_out(self._outbox.popleft()):
                    return
            if self._wake.is_set() or self._gone:
                continue
            deadline = self.core.deadline()
            if deadline is None:
                await self._wake.wait()
                continue
            left_s = self._clock.real_s(deadline - self._clock.now())
            timer = loop.call_later(max(0.0, left_s), self._wake.set)
            await self._wake.wait()
            timer.cancel()

    async def _carry_out(self, effect: Effect) -> bool:
        """Send or close; return False when the connection is over."""
        if isinstance(effect, Close):
            self._event("closing", code=effect.code, reason=effect.reason)
            if effect.code in (1005, 1006, 1015) or not 1000 <= effect.code < 5000:
                self.cut()  # codes that no close frame may carry: the link just ends
                return False
            await self.ws.close(effect.code, effect.reason)
            return False
        if isinstance(effect, Flood):
            await self._flood(effect)
        elif isinstance(effect, SendBytes):
            await self._write(effect)
        elif isinstance(effect, Send):
            if "sessionResumptionUpdate" in effect.message:
                self._owner.save_state()
            text = json.dumps(effect.message, ensure_ascii=False, separators=(",", ":"))
            data = text.encode(errors="replace")  # a client's lone surrogate may come back
            await self._send(data)
            self._record.sent(
                self.number, self.session_id, effect.message, self._frame_type, len(data)
            )
        elif isinstance(effect, SendRaw):
            data = effect.data.encode(errors="replace")
            await self._send(data)
            self._record.add(
                self.number,
                self.session_id,
                "out",
                effect.kind,
                frame=self._frame_type,
                size=len(data),
            )
        return True

    async def _flood(self, effect: Flood) -> None:
        """Send some of a flood; the rest waits behind what else is to be sent."""
        count = FLOOD_FRAMES if effect.count is None else min(effect.count, FLOOD_FRAMES)
        for _ in range(count):
            self._flooded += 1
            await self._send(effect.data.replace("{n}", str(self._flooded)).encode())
        left = None if effect.count is None else effect.count - count
        if left != 0:
            self._outbox.append(Flood(effect.data, left))
        await asyncio.sleep(0)

    async def _write(self, effect: SendBytes) -> None:
        """Write bytes past the WebSocket, as fast as they are taken, in large pieces."""
        most = max(1, WRITE_AHEAD_BYTES // max(1, len(effect.data)))
        count = most if effect.count is None else min(effect.count, most)
        self.ws.transport.write(effect.data * count)
        left = None if effect.count is None else effect.count - count
        if left != 0:
            self._outbox.append(SendBytes(effect.data, left))
        if not self._gone:
            await self.ws.drain()
        await asyncio.sleep(0)

    @property
    def _frame_type(self) -> str:
        return "text" if self._owner.options.text_frames else "binary"

    async def _send(self, data: bytes) -> None:
        frame = data.decode() if self._owner.options.text_frames else data
        try:
            async with asyncio.timeout(SEND_STALL_S):
                await self.ws.send(frame)
        except TimeoutError:
            self._event("stalled")
            self.cut()
