"""The far end on the microphone's time line: 24 to 16 kHz, aligned, bounded. Needs numpy.

    write(24 kHz, heard at) ──► resampled ──► kept, on a time line of samples ──► read(frame's time)

AEC3 finds the echo by itself anywhere from 0 to some 400 ms after the reference, never before it:
20 ms of reference too late and 35 dB of cancellation become 10. What is read is therefore ahead of
the claimed times by `lead_s`, for sound cards that claim too much latency.

The two clocks drift apart. A difference that lasts is worked off by single samples, which an
adaptive filter can follow; a large one by a jump. Sound that nobody fetches is bounded to `MOST_S`;
the oldest goes first, counted.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from agentd.audio import formats

Samples = NDArray[np.int16]

RATE_HZ = formats.CAPTURE_RATE_HZ
LEAD_S = 0.06
MOST_S = 4.0  # kept; more than any device's buffer
CONTIGUOUS_S = 0.02  # periods whose times fit this well follow each other
JUMP_S = 0.1  # a difference this large is not drift
SLIP_SAMPLES = 96  # a difference of 6 ms is worked off; less is the stamps' own wandering
SMOOTHING = 1 / 50  # of the difference, per frame: 1 s
OFTEN, RECENT = 40, 50  # periods told too late: the lead is more than the device's latency
LEAST_LEAD_S = 0.0  # an echo before its reference cannot be cancelled
TAIL_S = 0.8  # a room's echo, the device's delays, and zeros through the canceller's own buffers


class Downsampler:
    """24 to 16 kHz: three samples in give two out, by a windowed sinc of 48 taps."""

    TAPS = 48

    def __init__(self) -> None:
        # Two phases: at an input sample, and half-way between the next two.
        self._kernels = np.stack([self._kernel(0.0), self._kernel(1.5)], axis=1)
        self._history = np.zeros(self.TAPS - 3, np.float32)
        self._rest = np.zeros(0, np.float32)

    def _kernel(self, offset: float) -> NDArray[np.float32]:
        at = np.arange(self.TAPS) - (self.TAPS // 2 - 1) - offset
        window = np.i0(7.0 * np.sqrt(np.maximum(0.0, 1 - (at / (self.TAPS / 2 + 1)) ** 2)))
        taps = np.sinc(at * (2 / 3) * 0.94) * window
        kernel: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
        return kernel

    @property
    def delay_s(self) -> float:
        """Return by how much the output lags behind."""
        return (self.TAPS // 2 - 2) / formats.PLAYBACK_RATE_HZ

    def feed(self, pcm: bytes) -> Samples:
        """Take int16 at 24 kHz; return the int16 at 16 kHz that it completes."""
        fresh = np.frombuffer(pcm, "<i2").astype(np.float32)
        fresh = np.concatenate((self._rest, fresh))
        whole = len(fresh) - len(fresh) % 3
        self._rest = fresh[whole:]
        data = np.concatenate((self._history, fresh[:whole]))
        self._history = data[whole:]
        step = data.itemsize
        shape = ((len(data) - self.TAPS) // 3 + 1, self.TAPS)
        windows = np.lib.stride_tricks.as_strided(data, shape, (3 * step, step), writeable=False)
        out = np.rint(windows @ self._kernels).reshape(-1)
        values: Samples = np.clip(out, -32_768, 32_767).astype(np.int16)
        return values

    def reset(self) -> None:
        """Start after silence."""
        self._history = np.zeros(self.TAPS - 3, np.float32)
        self._rest = np.zeros(0, np.float32)


class FarEnd:
    """What was played, ready to be asked for by the time of a microphone frame."""

    def __init__(self) -> None:
        self.lead_s = LEAD_S
        self.shifts = self.relocks = self.late_samples = self.dropped_samples = 0
        self._late: deque[int] = deque(maxlen=RECENT)  # samples, per period told
        self._resampler = Downsampler()
        self._data: Samples = np.zeros(0, np.int16)
        self._first = 0  # position of `_data[0]` on the time line of samples
        self._origin_s = 0.0  # when its position 0 is heard
        self._reader: int | None = None
        self._difference = 0.0
        self._slipping = False  # working the difference off
        self._sound_until_s = -math.inf

    @property
    def _end(self) -> int:
        return self._first + len(self._data)

    def is_heard(self, at_s: float) -> bool:
        """Say whether anything that was played can be in the air at `at_s`."""
        return at_s < self._sound_until_s + TAIL_S

    def write(self, pcm: bytes, heard_at_s: float) -> None:
        """Take 24 kHz PCM whose first sample is heard at `heard_at_s`."""
        begin_s = heard_at_s - self._resampler.delay_s
        missing_s = begin_s - (self._origin_s + self._end / RATE_HZ)
        if not len(self._data) or not -CONTIGUOUS_S <= missing_s <= MOST_S:
            self._restart(begin_s)
        elif missing_s > CONTIGUOUS_S:
            self._append(np.zeros(round(missing_s * RATE_HZ), np.int16))
            self._resampler.reset()
        else:
            self._origin_s += missing_s * 0.2
        self._catch_up()
        self._append(self._resampler.feed(pcm))
        self._sound_until_s = self._origin_s + self._end / RATE_HZ

    def _restart(self, begin_s: float) -> None:
        """Begin a new time line; the old one was used up, or its device has gone."""
        if self._reader is not None and len(self._data):
            self.relocks += 1
        self._resampler.reset()
        self._data = np.zeros(0, np.int16)
        self._first = 0
        self._origin_s = begin_s
        self._reader = None

    def _catch_up(self) -> None:
        """Step back if the reader is always here first: the device has less latency than the lead.

        Now and then it is because a busy machine told late. That is a hole; moving the reference
        for it would cost the canceller all that it knows of the way.
        """
        late = 0 if self._reader is None else max(0, self._reader - self._end)
        self.late_samples += late
        self._late.append(late)
        if self._reader is not None and sum(map(bool, self._late)) >= OFTEN:
            usual_s = sorted(self._late)[len(self._late) * 9 // 10] / RATE_HZ
            less_s = min(usual_s, max(0.0, self.lead_s - LEAST_LEAD_S))
            self._reader -= round(less_s * RATE_HZ)
            self.lead_s -= less_s
            self._late.clear()

    def _append(self, values: Samples) -> None:
        self._data = np.concatenate((self._data, values))
        excess = len(self._data) - round(MOST_S * RATE_HZ)
        if excess > 0:
            self.dropped_samples += excess
            self._drop(excess)

    def _drop(self, count: int) -> None:
        self._data = self._data[count:]
        self._first += count

    def read(self, at_s: float, count: int) -> Samples:
        """Return `count` samples for a microphone frame taken at `at_s`; silence where none is."""
        begin = self._position(at_s)
        self._reader = begin + count
        before = begin - self._first
        # The last second stays, for a reader that has to step back.
        if before > RATE_HZ:
            self._drop(min(before - RATE_HZ, len(self._data)))
            before = begin - self._first
        if before >= 0:
            found = self._data[before : before + count]
        else:
            found = self._data[: max(0, before + count)]
            found = np.concatenate((np.zeros(min(count, -before), np.int16), found))
        if len(found) < count:
            found = np.concatenate((found, np.zeros(count - len(found), np.int16)))
        return found

    def _position(self, at_s: float) -> int:
        wanted = (at_s + self.lead_s - self._origin_s) * RATE_HZ
        if self._reader is None:
            self._difference = 0.0
            return round(wanted)
        off = wanted - self._reader
        if abs(off) > JUMP_S * RATE_HZ:
            self.relocks += 1
            self._difference = 0.0
            return round(wanted)
        self._difference += (off - self._difference) * SMOOTHING
        if not self._slipping and abs(self._difference) < SLIP_SAMPLES:
            return self._reader
        self._slipping = abs(self._difference) > 1
        step = 1 if self._difference > 0 else -1
        self._difference -= step
        self.shifts += 1
        return self._reader + step

    def rest(self) -> None:
        """Nothing is heard any more: forget it, and align anew with what comes next."""
        self._data = np.zeros(0, np.int16)
        self._first = 0
        self._reader = None


class OffsetMeter:
    """How far the echo really lags behind the reference, from how their loudness moves together.

    One loudness per frame is enough: it is only to notice clocks that lie by more than AEC3 can
    find. Pure.
    """

    FRAMES = 150  # 3 s
    REACH = 25  # frames to either side: 500 ms
    CLEAR = 0.6  # correlation from which a lag is believed

    def __init__(self) -> None:
        self._near = np.zeros(self.FRAMES)
        self._far = np.zeros(self.FRAMES)
        self._count = 0

    def feed(self, near: Samples, far: Samples) -> int | None:
        """Take a frame of both; every 3 s, return the lag in frames if there is a clear one."""
        self._near[self._count] = _loudness(near)
        self._far[self._count] = _loudness(far)
        self._count += 1
        if self._count < self.FRAMES:
            return None
        self._count = 0
        return self._lag()

    def reset(self) -> None:
        """Begin anew: the frames to come do not follow the last one."""
        self._count = 0

    def _lag(self) -> int | None:
        middle = self._far[self.REACH : -self.REACH]
        best, best_lag = self.CLEAR, None
        for lag in range(-self.REACH, self.REACH + 1):
            near = self._near[self.REACH + lag : self.FRAMES - self.REACH + lag]
            found = _correlation(middle, near)
            if found > best:
                best, best_lag = found, lag
        return best_lag


def _power(values: Samples) -> float:
    wide = values.astype(np.float32)
    return float(np.dot(wide, wide)) / len(values)


def _loudness(values: Samples) -> float:
    return math.log10(_power(values) + 100.0)


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    a, b = left - left.mean(), right - right.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 1e-9 else 0.0
