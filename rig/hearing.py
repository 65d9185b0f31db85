"""Is this speech in that recording? Content, not loudness, and not when.

A sound card, emulated or on a machine that is short of time, runs dry and goes on a little later;
what counts is that the words are there, in their order. So they are looked for piece by piece, each
where the one before ends or a little behind it, and a piece is there if it correlates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.speech import RATE_HZ, Samples

AUDIBLE: Final = 33
"""-60 dBFS."""
PIECE: Final = RATE_HZ * 40 // 1000
SAME: Final = 0.9
"""Correlation from which a piece is the same sound; other speech rarely has it by chance."""
BEHIND: Final = RATE_HZ * 600 // 1000
"""How far behind its place a piece is looked for."""
BEFORE: Final = RATE_HZ // 50


def heard_share(spoken: Samples, recording: Samples) -> float:
    """Return how much of the sounding part of `spoken` is in the recording, in order, 0 to 1.

    Both have one rate; a piece is 40 ms at 16 kHz. Every place of the recording is tried for the
    first words; the best beginning counts.
    """
    pieces = [spoken[i : i + PIECE] for i in range(0, len(spoken) - PIECE + 1, PIECE)]
    sounding = [bool(np.abs(piece).max() > 10 * AUDIBLE) for piece in pieces]
    if not any(sounding) or len(recording) < PIECE:
        return 0.0
    best = max(
        _follow(pieces, sounding, recording, begin)
        for begin in _beginnings(pieces, sounding, recording)
    )
    return best / sum(sounding)


def _beginnings(pieces: list[Samples], sounding: list[bool], recording: Samples) -> list[int]:
    """Return where the recording may begin with these words: where one of the first pieces fits."""
    found = [0]
    first = [i for i, loud in enumerate(sounding) if loud][:8]
    for index in first:
        place, score = best_place(pieces[index], recording)
        if score >= SAME:
            found.append(max(0, place - index * PIECE - BEHIND // 2))
    return found


def _follow(pieces: list[Samples], sounding: list[bool], recording: Samples, begin: int) -> int:
    """Count the pieces that are found one after the other from a place on."""
    at, found = begin, 0
    for piece, loud in zip(pieces, sounding, strict=True):
        if loud:
            low = max(0, at - BEFORE)
            place, score = best_place(piece, recording[low : at + BEHIND + PIECE])
            if score >= SAME:
                found += 1
                at = low + place
        at += PIECE
    return found


def best_place(piece: Samples, recording: Samples) -> tuple[int, float]:
    """Return where a piece fits best and its normalised correlation there."""
    size = len(piece)
    if len(recording) < size:
        return 0, 0.0
    a: NDArray[np.float64] = piece.astype(np.float64)
    b: NDArray[np.float64] = recording.astype(np.float64)
    length = 1 << (len(b) + size).bit_length()
    product = np.fft.irfft(np.fft.rfft(b, length) * np.conj(np.fft.rfft(a, length)), length)
    energy = np.concatenate(([0.0], np.cumsum(b * b)))
    window = energy[size:] - energy[:-size]
    score = product[: len(window)] / np.sqrt(np.maximum(window, 1.0) * float(np.dot(a, a)))
    score[window < AUDIBLE**2 * size] = 0.0
    place = int(np.argmax(score))
    return place, float(score[place])


def last_sound(recording: Samples, seconds: float) -> Samples:
    """Return what sounds at the end of a recording, and so much before it."""
    loud = np.flatnonzero(np.abs(recording) > AUDIBLE)
    if not len(loud):
        return recording[:0]
    end = int(loud[-1]) + 1
    return recording[max(0, end - round(seconds * RATE_HZ)) : end]


def wait_for_sound(
    recording: Callable[[], Samples], samples: int, timeout_s: float = 30.0
) -> Samples:
    """Return the recording once it has so many samples that sound.

    A file that another process writes gives nothing to wait on, so this looks again and again.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        sound = recording()
        if int((np.abs(sound) > AUDIBLE).sum()) >= samples or time.monotonic() > deadline:
            return sound
        time.sleep(0.3)
