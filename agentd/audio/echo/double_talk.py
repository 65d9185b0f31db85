"""Whether somebody speaks over the reply, or the room still holds it. Pure. Needs numpy.

What a canceller leaves of an echo is speech to every voice detector: before it knows the room, in
the room's dying sound after a loud word, and whenever the way through the air changes. But nothing
of that rest is anywhere louder than the echo itself can be. Speech is: it has its own pitch and
pauses, so that even a talker as loud as the reply stands above it in some bands at some moments.

    far end ── per band: loudest of the last 300 ms, then dying away ── + what the room adds ──┐
    microphone ── per band ──► louder than that? ◄─────────────────────────────────────────────┘
                                    │
    canceller's rest ── weighed ────┴──► share of it that no echo explains

What the room adds is learned per band: the level that a seventh of the frames exceed. Frames in
which somebody clearly speaks teach little. Bands in which the far end has nothing teach the level
of the noise there, and of what a loudspeaker makes of its own.

A far end of one or two bands (a ringing tone) is a case of its own. AEC3 cannot tell its echo from
anything else and takes all bands down with it, 30 dB of a voice included, while the echo of a tone
is a tone: what the microphone hears in the other bands is not the reply's (`Without`).
"""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np
from numpy.typing import NDArray

from agentd.audio import formats

Samples = NDArray[np.int16]
Bands = NDArray[np.float64]

EDGES_HZ = (150, 300, 450, 600, 800, 1000, 1300, 1700, 2200, 2800, 3600, 4600, 6000, 7500)
COUNT = len(EDGES_HZ) - 1
BIN_HZ = formats.CAPTURE_RATE_HZ // formats.FRAME_SAMPLES
HOLD = 15  # frames: an echo comes as late as this after its reference
DECAY_DB = 1.2  # per frame after that: a room whose sound dies by 60 dB in 1 s
EXCEEDED = 0.15  # of the frames are louder than what is learned of the room
STEP_DB, FIRST_STEP_DB, FIRST = 0.3, 1.0, 50  # quick for a second, then slow
MARGIN_DB = 4.0
LOUD_DB = 10.0  # a far end that teaches, in a band
FAINT_DB = 15.0  # a far end that is fainter in every band has no echo
FLOOR_DB = 0.0  # of a silent room
NARROW = 4  # bands, with what a tone between two of them spills over
WINDOW = 5  # frames
SHARE = 0.08  # of the rest that must be new


class DoubleTalk:
    """Follow far end, microphone and rest frame by frame. Levels are dB per bin of 50 Hz."""

    def __init__(self) -> None:
        self._window = np.hanning(formats.FRAME_SAMPLES)
        self._frames = np.zeros((3, formats.FRAME_SAMPLES))
        self._to_bands = np.zeros((formats.FRAME_SAMPLES // 2 + 1, COUNT))
        for band, (low_hz, high_hz) in enumerate(itertools.pairwise(EDGES_HZ)):
            bins = slice(low_hz // BIN_HZ, high_hz // BIN_HZ)
            width = bins.stop - bins.start
            self._to_bands[bins, band] = 1 / width / formats.FRAME_SAMPLES**2
        self._recent_db = np.full((HOLD, COUNT), -30.0)  # a ring of the far end
        self._at = 0
        self._far_db = np.full(COUNT, -30.0)
        self._room_db = np.zeros(COUNT)
        self._taught = np.zeros(COUNT, np.int64)
        self._step_db = np.full(COUNT, FIRST_STEP_DB)
        self._is_young = True
        self._floor_db = np.full(COUNT, FLOOR_DB)
        self.is_narrow = False
        """Whether the far end lately held a few bands only."""
        self.kept: NDArray[np.bool_] = np.ones(COUNT, np.bool_)
        """The bands of the microphone that are not the far end's."""
        self._new: deque[float] = deque(maxlen=WINDOW)
        self._rest: deque[float] = deque(maxlen=WINDOW)

    def feed(self, near: Samples, far: Samples, rest: Samples) -> bool:
        """Take a frame of each; say whether somebody may be speaking."""
        power = self._power(near, far, rest)
        near_db, played_db = 10 * np.log10(power[:2] + 1e-3)
        self._follow(played_db)
        loud = self._far_db > LOUD_DB
        explained_db = np.maximum(self._far_db + self._room_db, self._floor_db) + MARGIN_DB
        is_new = near_db > explained_db
        self.kept = is_new | ~loud
        self.is_narrow = 0 < int(loud.sum()) <= NARROW
        left = power[0] * self.kept if self.is_narrow else power[2]
        self._new.append(float(left @ is_new))
        self._rest.append(float(left.sum()))
        self._learn(near_db - self._far_db, loud)
        self._learn_floor(near_db, loud)
        if float(self._far_db.max()) < FAINT_DB:
            return True
        return sum(self._new) >= SHARE * sum(self._rest)

    def _power(self, *frames: Samples) -> Bands:
        self._frames[0], self._frames[1], self._frames[2] = frames
        spectra = np.fft.rfft(self._frames * self._window, axis=1)
        power: Bands = (spectra.real**2 + spectra.imag**2) @ self._to_bands
        return power

    def _follow(self, played_db: Bands) -> None:
        self._recent_db[self._at] = played_db
        self._at = (self._at + 1) % HOLD
        self._far_db = np.maximum(self._recent_db.max(axis=0), self._far_db - DECAY_DB)

    def _learn(self, room_db: Bands, loud: NDArray[np.bool_]) -> None:
        if self._is_young:
            self._begin(room_db, loud)
        step = self._step_db * loud
        self._room_db += step * ((room_db > self._room_db) - EXCEEDED)

    def _begin(self, room_db: Bands, loud: NDArray[np.bool_]) -> None:
        """Take what is heard first for the truth, and learn quickly at first."""
        first = loud & (self._taught == 0)
        self._room_db[first] = room_db[first]
        self._taught += loud
        self._step_db = np.where(self._taught < FIRST, FIRST_STEP_DB, STEP_DB)
        self._is_young = bool(self._taught.min() < FIRST)

    def _learn_floor(self, near_db: Bands, loud: NDArray[np.bool_]) -> None:
        """Follow the noise where the far end has nothing."""
        self._floor_db = self._floor_db + STEP_DB * ~loud * ((near_db > self._floor_db) - EXCEEDED)


class Without:
    """The microphone without some of its bands, by overlapping spectra: 20 ms late."""

    def __init__(self) -> None:
        size = formats.FRAME_SAMPLES
        self._window = np.sin(np.pi * (np.arange(2 * size) + 0.5) / (2 * size))
        self._before = np.zeros(size)
        self._tail = np.zeros(size)
        self._of_bin = np.full(size + 1, COUNT)
        for band, (low_hz, high_hz) in enumerate(itertools.pairwise(EDGES_HZ)):
            self._of_bin[2 * low_hz // BIN_HZ : 2 * high_hz // BIN_HZ] = band

    def feed(self, near: Samples, kept: NDArray[np.bool_]) -> Samples:
        """Take a frame and the bands to keep; return the one before it with just these."""
        size = formats.FRAME_SAMPLES
        spectrum = np.fft.rfft(np.concatenate((self._before, near)) * self._window)
        self._before = near.astype(np.float64)
        gains = np.append(kept, False)[self._of_bin]
        out = np.fft.irfft(spectrum * gains) * self._window
        whole = self._tail + out[:size]
        self._tail = out[size:]
        return np.clip(np.rint(whole), -32_768, 32_767).astype(np.int16)
