"""Change the sample rate of a stream: a windowed-sinc polyphase filter in plain Python.

For WAV devices and far-end references, not for sound cards (ALSA's `plug` converts there).
`soxr` would be faster, but needs numpy, which the base install does without; a second of
48 kHz costs about 80 ms here, and digital silence next to nothing. Pass band to 0.8 of the lower
Nyquist frequency, images and aliases about 70 dB down.
"""

from __future__ import annotations

import math
from operator import mul

ZERO_CROSSINGS = 24  # on each side; sets the width of the transition band
KAISER_BETA = 7.0  # 70 dB of stop band
CUTOFF = 0.92  # of the lower of the two Nyquist frequencies
BLOCK = 512  # inputs that are looked at together: the pauses of a recording are zeros


class Resampler:
    """Convert samples from one rate to another, keeping the filter's memory between calls.

    Output lags behind input by half the filter (`delay_s`); `flush` returns what is still inside.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        common = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._identity = from_hz == to_hz
        stretch = max(1.0, from_hz / to_hz)  # in input samples per zero crossing
        self._half = 0 if self._identity else math.ceil(ZERO_CROSSINGS * stretch)
        self._bandwidth = CUTOFF / stretch
        self._kernels: dict[int, list[float]] = {}
        self._history: list[int] = [0] * (self._half - 1)
        self._phase = 0  # position of the next output between two inputs, in 1/up
        self.delay_s = self._half / from_hz

    def feed(self, values: list[int]) -> list[int]:
        """Take input samples and return the output samples that they complete."""
        if self._identity:
            return values
        data = self._history + values
        taps = 2 * self._half
        produced: list[int] = []
        at, last = 0, len(data) - taps
        while at <= last:
            stop = min(last, at + BLOCK - 1)
            count = -((self._phase - (stop + 1 - at) * self._up) // self._down)
            if any(data[at : stop + taps]):
                produced += self._convolve(data, at, count)
            else:
                produced += [0] * count
            position = self._phase + count * self._down
            at += position // self._up
            self._phase = position % self._up
        self._history = data[at:]
        return produced

    def _convolve(self, data: list[int], at: int, count: int) -> list[int]:
        """Return `count` outputs, the first from the taps at `data[at]`."""
        taps, phase = 2 * self._half, self._phase
        produced: list[int] = []
        for _ in range(count):
            kernel = self._kernels.get(phase) or self._make_kernel(phase)
            value = round(sum(map(mul, kernel, data[at : at + taps])))
            produced.append(-32_768 if value < -32_768 else min(value, 32_767))
            phase += self._down
            at += phase // self._up
            phase %= self._up
        return produced

    def flush(self) -> list[int]:
        """Push the rest out with silence."""
        return self.feed([0] * self._half)

    def _make_kernel(self, phase: int) -> list[float]:
        """Return the taps for an output that lies `phase`/up behind an input sample."""
        offset = self._half - 1 + phase / self._up
        taps = [self._tap(i - offset) for i in range(2 * self._half)]
        total = sum(taps)  # every phase passes DC alike
        self._kernels[phase] = [tap / total for tap in taps]
        return self._kernels[phase]

    def _tap(self, x: float) -> float:
        window = 1.0 - (x / self._half) ** 2
        if window <= 0.0:
            return 0.0
        return _sinc(x * self._bandwidth) * _bessel_i0(KAISER_BETA * math.sqrt(window))


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(math.pi * x) / (math.pi * x)


def _bessel_i0(x: float) -> float:
    total = term = 1.0
    for k in range(1, 25):  # plenty for the arguments of a Kaiser window
        term *= (x / (2 * k)) ** 2
        total += term
    return total


def resample(values: list[int], from_hz: int, to_hz: int) -> list[int]:
    """Convert a whole recording; the result starts with it and lasts as long."""
    resampler = Resampler(from_hz, to_hz)
    lag = round(resampler.delay_s * from_hz)
    length = -(-len(values) * to_hz // from_hz)
    # The first `lag` inputs only fill the filter, so the output starts at input 0 already.
    return (resampler.feed(values) + resampler.feed([0] * (lag + 1)))[:length]
