"""Audio arithmetic on 16-bit little-endian mono PCM, without numpy."""

from __future__ import annotations

import io
import math
import sys
import wave
from array import array
from pathlib import Path

OUTPUT_HZ = 24_000
_FULL_SCALE = 32_768.0
_SILENCE_DBFS = -120.0


def samples_of(pcm: bytes) -> array[int]:
    """Return int16 samples; an odd trailing byte is dropped."""
    out = array("h")
    out.frombytes(pcm[: len(pcm) & ~1])
    if sys.byteorder == "big":  # pragma: no cover
        out.byteswap()
    return out


def pcm_of(samples: array[int]) -> bytes:
    """Return little-endian PCM."""
    if sys.byteorder == "big":  # pragma: no cover
        samples = array("h", samples)
        samples.byteswap()
    return samples.tobytes()


def _int16(values: list[int]) -> array[int]:
    """Pack samples, clipping only where something overshoots."""
    try:
        return array("h", values)
    except OverflowError:
        return array("h", [max(-32_768, min(32_767, value)) for value in values])


def resample(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    """Convert the sample rate.

    16 → 24 kHz, the parrot's case, is a cubic two-phase interpolation (about 7 ms per second of
    speech); other ratios are linear.
    """
    if from_hz == to_hz:
        return pcm[: len(pcm) & ~1]
    source = samples_of(pcm)
    if not source:
        return b""
    if from_hz * 3 == to_hz * 2:
        return pcm_of(_three_for_two(source))
    count = len(source) * to_hz // from_hz
    last = len(source) - 1
    out = array("h", bytes(2 * count))
    for index in range(count):
        position, rest = divmod(index * from_hz, to_hz)
        here = source[min(position, last)]
        there = source[min(position + 1, last)]
        out[index] = here + (there - here) * rest // to_hz
    return pcm_of(out)


def _three_for_two(source: array[int]) -> array[int]:
    """Upsample by 3/2 with the four-point cubic (Lagrange) at phases 2/3 and 1/3.

    The weights of the four neighbours a third of the way are -5, 60, 30 and -4 of 81; two thirds
    of the way they are mirrored.
    """
    size = len(source)
    padded = array("h", [source[0]]) + source + array("h", [source[-1]] * 4)
    before, here, after, beyond, far = (padded[k::2] for k in range(5))
    out = array("h", bytes(2 * (size * 3 // 2)))
    out[0::3] = here[: len(out[0::3])]
    two_thirds = [
        (30 * b + 60 * c - 4 * a - 5 * d + 40) // 81
        for a, b, c, d in zip(before, here, after, beyond, strict=False)
    ]
    out[1::3] = _int16(two_thirds[: len(out[1::3])])
    third = [
        (60 * b + 30 * c - 5 * a - 4 * d + 40) // 81
        for a, b, c, d in zip(here, after, beyond, far, strict=False)
    ]
    out[2::3] = _int16(third[: len(out[2::3])])
    return out


def amplify(pcm: bytes, gain_db: float) -> bytes:
    """Scale 16-bit PCM by a gain in decibels, clipped at full scale."""
    factor = 10 ** (gain_db / 20)
    return pcm_of(_int16([round(value * factor) for value in samples_of(pcm)]))


def tone(duration_s: float, rate_hz: int = OUTPUT_HZ, hz: float = 440.0) -> bytes:
    """Return a sine at -12 dBFS with 10 ms ramps."""
    count = max(round(duration_s * rate_hz), 0)
    ramp = max(min(rate_hz // 100, count // 2), 1)
    step = 2 * math.pi * hz / rate_hz
    return pcm_of(
        array(
            "h",
            (
                round(8_231 * math.sin(step * n) * min(1.0, n / ramp, (count - n) / ramp))
                for n in range(count)
            ),
        )
    )


def level_dbfs(samples: array[int]) -> float:
    """Return the RMS level; digital silence is -120."""
    if not samples:
        return _SILENCE_DBFS
    power = sum(value * value for value in samples) / len(samples)
    return max(10 * math.log10(power / _FULL_SCALE**2), _SILENCE_DBFS) if power else _SILENCE_DBFS


def read_wav(path: Path) -> bytes:
    """Read a 16-bit PCM WAV of any rate as mono 24 kHz.

    Raises:
        ValueError: the file is not 16-bit PCM.
    """
    with wave.open(str(path), "rb") as reader:
        if reader.getsampwidth() != 2:
            raise ValueError(f"{path}: needs 16-bit PCM; convert it with sox -b 16")
        channels, rate_hz = reader.getnchannels(), reader.getframerate()
        samples = samples_of(reader.readframes(reader.getnframes()))
    return resample(pcm_of(samples[::channels]), rate_hz, OUTPUT_HZ)


def wav_bytes(pcm: bytes, rate_hz: int) -> bytes:
    """Wrap mono PCM in a WAV header."""
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(pcm)
    return out.getvalue()
