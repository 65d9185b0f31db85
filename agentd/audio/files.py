"""WAV files as microphone and speaker, in real time and on one time line.

Laid side by side, the file that is captured from and the file that is played into are the room:
sample N of both belongs to the same moment, silence included.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from agentd.audio import formats
from agentd.audio.devices import Deliver, Source
from agentd.audio.resample import Resampler
from agentd.audio.wav import WavFormat, WavWriter, open_wav, read_header
from agentd.clock import Clock
from agentd.errors import CaptureFailed

PERIOD = formats.PLAYBACK_RATE_HZ * formats.FRAME_MS // 1000


class Timeline:
    """When both files began: at the first captured frame."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.began = asyncio.Event()
        self._origin_s = 0.0

    def begin(self) -> None:
        """Start the time line now, unless it runs already."""
        if not self.began.is_set():
            self._origin_s = self.clock.monotonic()
            self.began.set()

    def at_s(self, position_s: float) -> float:
        """Return the monotonic time of a position."""
        return self._origin_s + position_s

    @property
    def position_s(self) -> float:
        """Return how long the time line has run."""
        return self.clock.monotonic() - self._origin_s

    async def reach(self, position_s: float) -> None:
        """Wait until the time line has run for `position_s`; yield in any case."""
        await self.clock.sleep(max(0.0, position_s - self.position_s))


class FileCapture:
    """A WAV file of any PCM format heard once, in real time, then digital silence for ever.

    While capture is closed (mute) the file goes on unheard, as a room does.
    """

    def __init__(self, path: Path, channel: int, timeline: Timeline) -> None:
        self.name = f"file:{path}"
        self._path = path
        self._channel = channel
        self._timeline = timeline
        self.has_ended = False
        self.other_channel: int | None = None

    async def capture(self, deliver: Deliver) -> None:
        """Deliver 20 ms frames on the time line."""
        reader = _Reader(self._path, read_header(self._path), self._channel)
        try:
            self._timeline.begin()
            # A whole frame may miss by a bit.
            done = int(self._timeline.position_s / formats.FRAME_S + 1e-6)
            reader.skip(done * formats.FRAME_SAMPLES)
            while True:
                done += 1
                await self._timeline.reach(done * formats.FRAME_S)
                self.has_ended = reader.has_ended
                deliver(reader.frame(), self._timeline.at_s(done * formats.FRAME_S), False)
        finally:
            reader.close()


class _Reader:
    """The file as 16 kHz int16 mono frames."""

    def __init__(self, path: Path, layout: WavFormat, channel: int) -> None:
        self._layout = layout
        # A recording has the mean of its channels unless it has the one that is asked for.
        self._channel = channel if 0 < channel < layout.channels else None
        self._left = layout.data_bytes // layout.frame_bytes
        self._resampler = Resampler(layout.rate_hz, formats.CAPTURE_RATE_HZ)
        self._lead = round(self._resampler.delay_s * layout.rate_hz)
        self._waiting: list[int] = []
        self._path = path
        self._file = open_wav(path)
        self._file.seek(layout.data_at)

    def skip(self, samples: int) -> None:
        """Leave out so many samples at 16 kHz."""
        frames = min(self._left, samples * self._layout.rate_hz // formats.CAPTURE_RATE_HZ)
        self._file.seek(frames * self._layout.frame_bytes, 1)
        self._left -= frames

    def frame(self) -> bytes:
        """Return the next 20 ms; silence behind the end."""
        while len(self._waiting) < formats.FRAME_SAMPLES:
            # The filter wants some input ahead of the first output.
            count = self._layout.rate_hz * formats.FRAME_MS // 1000 + 1 + self._lead
            self._lead = 0
            self._waiting += self._resampler.feed(self._input(count))
        values = self._waiting[: formats.FRAME_SAMPLES]
        del self._waiting[: formats.FRAME_SAMPLES]
        return formats.to_pcm(values)

    @property
    def has_ended(self) -> bool:
        """Return whether all of it has been read."""
        return not self._left

    def _input(self, count: int) -> list[int]:
        wanted = min(count, self._left)
        try:
            raw = self._file.read(wanted * self._layout.frame_bytes) if wanted else b""
        except OSError as error:
            raise CaptureFailed(f"{self._path}: {error.strerror}. Check its disk") from error
        self._left = self._left - wanted if raw else 0
        values = formats.to_int16(raw, self._layout.width)
        if self._channel is None:
            values = formats.mono(values, self._layout.channels)
        else:
            values = values[self._channel :: self._layout.channels]
        return values + [0] * (count - len(values))

    def close(self) -> None:
        self._file.close()


class FilePlayback:
    """A 24 kHz WAV file that grows in real time, silence included."""

    def __init__(self, path: Path, timeline: Timeline, *, lead: bool) -> None:
        self.name = f"file:{path}"
        self._path = path
        self._timeline = timeline
        self._lead = lead  # no file is captured from: the speaker starts the time line
        self._written = 0  # samples
        self.ran_dry = 0  # a file never does

    async def play(self, source: Source) -> None:
        """Write 20 ms periods on the time line; go on in the same file when opened again."""
        writer = WavWriter(self._path, formats.PLAYBACK_RATE_HZ, after=self._written)
        try:
            if self._lead:
                self._timeline.begin()
            await self._timeline.began.wait()
            self._fill_up(writer)
            while True:
                await self._timeline.reach((writer.samples + PERIOD) / formats.PLAYBACK_RATE_HZ)
                writer.append(source(PERIOD, 0.0))
        finally:
            self._written = writer.samples
            writer.close()

    def _fill_up(self, writer: WavWriter) -> None:
        """Write silence for the time in which the device was closed."""
        due = int(self._timeline.position_s * formats.PLAYBACK_RATE_HZ)
        missing = (due - writer.samples) // PERIOD * PERIOD
        while missing > 0:
            part = min(missing, formats.PLAYBACK_RATE_HZ)
            writer.append(bytes(part * formats.SAMPLE_BYTES))
            missing -= part
