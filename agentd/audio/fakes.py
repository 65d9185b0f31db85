"""A microphone and a speaker that do what a test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agentd.audio import formats
from agentd.audio.devices import Deliver, Source
from agentd.audio.echo.canceller import EchoStats, Known
from agentd.clock import FakeClock
from agentd.errors import AudioError
from agentd.events import Frame
from agentd.waiting import to_its_end


@dataclass
class _Fake:
    name: str
    fails_to_open: AudioError | None = None
    opened: int = 0
    closed: int = 0
    most_open: int = 0  # at once; a device that is shared by several stages shows it
    opening_s: float = 0.0
    closing_s: float = 0.0  # it is open until then
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _broken: asyncio.Future[None] | None = None

    def fail(self, error: AudioError) -> None:
        """Let the open device end with an error."""
        assert self._broken is not None, "the device is not open"
        self._broken.set_exception(error)

    def _on_open(self) -> None:
        """Let a subclass know."""

    @property
    def broken(self) -> bool:
        """Return whether `fail` has been called since it was opened last."""
        return self._broken is not None and self._broken.done()

    @property
    def is_open(self) -> bool:
        """Say whether it is open."""
        return self.opened > self.closed

    async def until(self, opened: int) -> None:
        """Wait until it has been opened so many times."""
        while self.opened < opened:
            self.changed.clear()
            await self.changed.wait()

    async def _stay_open(self) -> None:
        if self.opening_s:
            await asyncio.sleep(self.opening_s)
        if self.fails_to_open is not None:
            raise self.fails_to_open
        self._broken = asyncio.get_running_loop().create_future()
        self.opened += 1
        self.most_open = max(self.most_open, self.opened - self.closed)
        self.changed.set()
        self._on_open()
        try:
            await self._broken
        finally:
            try:
                if self.closing_s:
                    await to_its_end(asyncio.sleep(self.closing_s))
            finally:
                self.closed += 1
                self.changed.set()


@dataclass
class FakeCapture(_Fake):
    """Delivers what `say` is given, while it is open."""

    name: str = "fake microphone"
    has_ended: bool = False
    other_channel: int | None = None
    _deliver: Deliver | None = None

    async def capture(self, deliver: Deliver) -> None:
        """Stay open until `fail` or cancellation."""
        self._deliver = deliver
        await self._stay_open()

    def say(self, pcm: bytes, at_s: float, *, overrun: bool = False) -> None:
        """Deliver PCM that ended at `at_s`."""
        assert self._deliver is not None, "the device was never opened"
        assert self.is_open, "the device is closed"
        self._deliver(pcm, at_s, overrun)


@dataclass
class FakePlayback(_Fake):
    """Plays a period whenever `tick` says so, and keeps what it played."""

    name: str = "fake speaker"
    latency_s: float = 0.0
    ran_dry: int = 0
    played: bytes = b""
    clock: FakeClock | None = None  # moves on by what is played
    speed: float = 1.0  # how much faster than its time it plays
    _source: Source | None = None

    async def play(self, source: Source) -> None:
        """Stay open until `fail` or cancellation."""
        self._source = source
        await self._stay_open()

    def tick(self, periods: int = 1) -> bytes:
        """Play so many 20 ms periods and return them."""
        assert self._source is not None, "the device was never opened"
        assert self.is_open, "the device is closed"
        heard = b"".join(self._period() for _ in range(periods))
        self.played += heard
        return heard

    def _period(self) -> bytes:
        assert self._source is not None
        if self.clock is not None:
            self.clock.advance(formats.FRAME_S / self.speed)
        frames = formats.PLAYBACK_RATE_HZ * formats.FRAME_MS // 1000
        return self._source(frames, self.latency_s)


@dataclass
class FakeCanceller:
    """Keeps what was played and silences frames while that is heard."""

    far_end: list[tuple[bytes, float]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    tears: int = 0

    def torn(self) -> None:
        """Count it."""
        self.tears += 1

    def played(self, pcm: bytes, heard_at_s: float) -> None:
        """Keep it."""
        self.far_end.append((pcm, heard_at_s))

    def clean(self, frame: Frame) -> Frame:
        """Return silence if the frame was taken while something was heard."""
        self.frames.append(frame)
        for pcm, at_s in self.far_end:
            until_s = at_s + formats.duration_ms(pcm, formats.PLAYBACK_RATE_HZ) / 1000
            if at_s < frame.at_s + formats.FRAME_S and frame.at_s < until_s:
                return Frame(frame.index, frame.at_s, bytes(len(frame.pcm)))
        return frame

    @property
    def stats(self) -> EchoStats:
        """Return the number of frames."""
        return EchoStats(len(self.frames), True, Known.CANCELLED, 40.0, -90.0, 0, 0, 0, 0, 0.0)
