"""A sweep through the speaker, found again in what the microphone heard. Pure.

A matched filter on a rising tone: the echo of it stands out from noise and speech by about 29 dB.
It is looked for at 4 kHz, where pure Python does it in less than a second; what remains is a band
that the smallest speakers still play.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from agentd.audio import formats
from agentd.audio.resample import resample

LOW_HZ, HIGH_HZ = 300.0, 1_800.0
LENGTH_S = 0.6
FADE_S = 0.02
PEAK = 8_192  # -12 dBFS
SEARCH_HZ = 4_000
LONGEST_DELAY_S = 1.5
PARTS, SLACK_S = 6, 0.06  # a sound server that stutters shifts one part against another
CLEAR = 8.0  # how far above the rest of the correlation an echo must stand


@dataclass(frozen=True, slots=True)
class Echo:
    """What came back of the sweep."""

    heard: bool
    attenuation_db: float  # from what was written to the speaker to what the microphone gave
    delay_ms: float  # from writing to hearing, both devices' buffers included


def sweep(rate_hz: int) -> list[int]:
    """Return the sweep at `rate_hz`, faded at both ends."""
    count = round(LENGTH_S * rate_hz)
    fade = round(FADE_S * rate_hz)
    values = []
    for i in range(count):
        t = i / rate_hz
        phase = 2 * math.pi * (LOW_HZ * t + (HIGH_HZ - LOW_HZ) / (2 * LENGTH_S) * t * t)
        edge = min(1.0, (i + 1) / fade, (count - i) / fade)
        values.append(round(PEAK * edge * math.sin(phase)))
    return values


def find(recorded: list[int]) -> Echo:
    """Look for the sweep in int16 mono 16 kHz that was recorded from when it was written on."""
    heard = resample(recorded, formats.CAPTURE_RATE_HZ, SEARCH_HZ)
    reference = sweep(SEARCH_HZ)
    lags = min(len(heard) - len(reference), round(LONGEST_DELAY_S * SEARCH_HZ))
    energy = sum(map(mul, reference, reference))
    found = [
        abs(sum(map(mul, reference, heard[lag : lag + len(reference)])))
        for lag in range(max(0, lags))
    ]
    if not found or not any(found):
        return Echo(False, math.inf, 0.0)
    best = max(range(len(found)), key=found.__getitem__)
    rest = found[: max(0, best - 40)] + found[best + 40 :]
    noise = math.sqrt(sum(value * value for value in rest) / max(1, len(rest)))
    attenuation_db = -20 * math.log10(_in_parts(reference, heard, best) / energy)
    clear = found[best] > CLEAR * noise
    return Echo(clear, attenuation_db, best * 1000 / SEARCH_HZ)


def loudest(echoes: Sequence[Echo]) -> Echo:
    """Return the echo that came back loudest, of those that were heard if any was."""
    nothing = Echo(False, math.inf, 0.0)
    return min(echoes, key=lambda echo: (not echo.heard, echo.attenuation_db), default=nothing)


def _in_parts(reference: list[int], heard: list[int], lag: int) -> float:
    """Return the correlation near `lag`, each part of the sweep at its own best place.

    As one piece, a gap of a few milliseconds in the middle would look like 10 dB less echo.
    """
    size = len(reference) // PARTS
    slack = round(SLACK_S * SEARCH_HZ)
    total = 0.0
    for start in range(0, len(reference), size):
        part = reference[start : start + size]
        begin = max(0, lag + start - slack)
        end = min(len(heard) - len(part), lag + start + slack)
        places = range(begin, max(begin, end) + 1)
        total += max(abs(sum(map(mul, part, heard[at : at + len(part)]))) for at in places)
    return total
