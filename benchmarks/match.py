"""Find sound in sound: where a stretch of the microphone is on the wire, and what is missing.

What a program sends may differ from what the microphone heard in gain and by a filter or a
canceller, so the measure is the normalised correlation, not equality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.speech import RATE_HZ, Samples

BLOCK = RATE_HZ // 50
"""20 ms: what is looked for on its own."""
SAME = 0.85
"""Normalised correlation from which two stretches count as the same sound."""
SLACK = 8
"""Samples by which a filter may shift what is sent."""
ANCHOR_BLOCKS = 15
"""Blocks, 300 ms, by which a place is searched: shorter speech is too like itself."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Audio as the service received it: samples, and when each message of them arrived."""

    samples: Samples
    ends: NDArray[np.int64]
    """Index behind the last sample of each message."""
    arrived_s: NDArray[np.float64]

    def arrival_s(self, index: int) -> float:
        """Return when the sample at an index arrived."""
        return float(self.arrived_s[int(np.searchsorted(self.ends, index, side="right"))])

    def between(self, begin_s: float, end_s: float) -> Wire:
        """Return what arrived within a time; the same words said before or after are not in it."""
        first = int(np.searchsorted(self.arrived_s, begin_s))
        last = int(np.searchsorted(self.arrived_s, end_s))
        begin = int(self.ends[first - 1]) if first else 0
        end = int(self.ends[last - 1]) if last else 0
        samples = self.samples[begin : max(begin, end)]
        return Wire(samples, self.ends[first:last] - begin, self.arrived_s[first:last])

    @property
    def duration_s(self) -> float:
        """Return how much audio was received."""
        return len(self.samples) / RATE_HZ


@dataclass(frozen=True, slots=True)
class Found:
    """What of a stretch of speech is on the wire."""

    missing_ms: float
    first_index: int | None
    """Index on the wire of the first block that was found."""
    first_offset: int
    """Where in the stretch that block begins."""


def best_place(needle: Samples, hay: Samples) -> tuple[int, float]:
    """Return where `needle` fits best and its normalised correlation there."""
    size = len(needle)
    if len(hay) < size or not needle.any():
        return 0, 0.0
    a = np.asarray(needle, dtype=np.float64)
    b = np.asarray(hay, dtype=np.float64)
    length = 1 << (len(hay) + size).bit_length()
    product = np.fft.irfft(np.fft.rfft(b, length) * np.conj(np.fft.rfft(a, length)), length)
    energy = np.concatenate(([0.0], np.cumsum(b * b)))
    window = energy[size:] - energy[:-size]
    norm = np.sqrt(np.maximum(window, 1.0) * np.dot(a, a))
    score = product[: len(window)] / norm
    # A quiet window with rounding noise in it would win by its small norm.
    score[window < window.max() * 1e-6] = 0.0
    place = int(np.argmax(score))
    return place, float(score[place])


def likeness(a: Samples, b: Samples) -> float:
    """Return the normalised correlation of two stretches of equal length."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    norm = float(np.sqrt(np.dot(x, x) * np.dot(y, y)))
    return float(np.dot(x, y)) / norm if norm else 0.0


def _at(wire: Samples, block: Samples, place: int) -> int | None:
    """Return where around `place` the block is on the wire, or None."""
    begin: int
    for shift in (0, *range(1, SLACK + 1), *range(-1, -SLACK - 1, -1)):
        begin = place + shift
        if begin < 0 or begin + len(block) > len(wire):
            continue
        if likeness(wire[begin : begin + len(block)], block) >= SAME:
            return begin
    return None


def find(spoken: Samples, wire: Samples) -> Found:
    """Look for a stretch of speech on the wire, block by block and in order.

    Blocks without sound (below -60 dBFS) are not looked for: nothing was said in them.
    """
    blocks = [spoken[i : i + BLOCK] for i in range(0, len(spoken) - BLOCK + 1, BLOCK)]
    sounding = [float(np.abs(block).max()) > 33.0 for block in blocks]
    place: int | None = None  # where on the wire the next block should be
    missing = 0
    first: tuple[int, int] | None = None
    for number, block in enumerate(blocks):
        if not sounding[number]:
            place = None if place is None else place + BLOCK
            continue
        here = None if place is None else _at(wire, block, place)
        if here is None:
            here = _search(spoken, wire, number * BLOCK)
        if here is None:
            missing += 1
            place = None if place is None else place + BLOCK
            continue
        if first is None:
            first = (here, number * BLOCK)
        place = here + BLOCK
    index, offset = first if first is not None else (None, 0)
    return Found(missing * BLOCK * 1000 / RATE_HZ, index, offset)


def _search(spoken: Samples, wire: Samples, offset: int) -> int | None:
    """Search the whole wire for the 300 ms from `offset` on, and check their first block."""
    offset_of_anchor = max(0, min(offset, len(spoken) - ANCHOR_BLOCKS * BLOCK))
    anchor = spoken[offset_of_anchor : offset_of_anchor + ANCHOR_BLOCKS * BLOCK]
    place, score = best_place(anchor, wire)
    if score < SAME / 2:
        return None
    return _at(wire, spoken[offset : offset + BLOCK], place + offset - offset_of_anchor)
