"""Recorded human speech, with labels: where in it somebody speaks.

Utterances come from the spoken channel names that Debian's alsa-utils ships. Whole scenes with
hand-checked labels come from a directory of one's own (`AGENTD_AUDIO_DIR`, or `../shared/audio`
beside the checkout): `scenes/NAME.wav` with `NAME.json` holding `utterances` and `speech` as
`[start_s, end_s, …]`. What is absent is skipped, and the report says so.
"""

from __future__ import annotations

import json
import os
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
ALSA_DIR = Path("/usr/share/sounds/alsa")
ROOT = Path(__file__).resolve().parent.parent
WINDOW = RATE_HZ // 50

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Clip:
    """Sound at 16 kHz and the stretches of it, in seconds, in which somebody speaks."""

    name: str
    samples: Samples
    utterances: tuple[tuple[float, float], ...]
    speech: tuple[tuple[float, float], ...]

    @property
    def pcm(self) -> bytes:
        """Return int16 mono PCM."""
        return self.samples.astype("<i2").tobytes()

    @property
    def duration_s(self) -> float:
        """Return the length."""
        return len(self.samples) / RATE_HZ

    @property
    def speech_s(self) -> float:
        """Return how much of it is speech."""
        return sum(end - begin for begin, end in self.speech)

    def head(self, duration_s: float) -> Clip:
        """Return the beginning, without utterances that it would cut."""

        def within(spans: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
            return tuple(span for span in spans if span[1] + 1.5 < duration_s)

        kept = within(self.utterances)
        last_s = kept[-1][1] if kept else 0.0
        speech = tuple(span for span in self.speech if span[1] <= last_s + 0.01)
        samples = self.samples[: round((last_s + 1.5) * RATE_HZ)]
        return Clip(self.name, samples, kept, speech)


def audio_dir() -> Path | None:
    """Return the directory of labelled scenes, if there is one."""
    named = os.environ.get("AGENTD_AUDIO_DIR")
    path = Path(named) if named else ROOT.parent / "shared" / "audio"
    return path if (path / "scenes").is_dir() else None


def scene(name: str) -> Clip | None:
    """Return a labelled scene, or None if it is not on this machine."""
    folder = audio_dir()
    if folder is None or not (folder / "scenes" / f"{name}.json").is_file():
        return None
    labels = json.loads((folder / "scenes" / f"{name}.json").read_text("utf-8"))

    def spans(key: str) -> tuple[tuple[float, float], ...]:
        return tuple((float(row[0]), float(row[1])) for row in labels[key])

    samples = read_wav(folder / "scenes" / f"{name}.wav")
    return Clip(name, samples, spans("utterances"), spans("speech"))


def read_wav(path: Path) -> Samples:
    """Return a 16-bit WAV of 16 or 48 kHz as mono 16 kHz.

    Raises:
        ValueError: it has another format.
    """
    with wave.open(str(path), "rb") as file:
        channels, width, rate_hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
        data = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    if width != 2 or rate_hz not in (RATE_HZ, 3 * RATE_HZ):
        raise ValueError(f"{path}: {rate_hz} Hz, {8 * width} bit; give 16 or 48 kHz with 16 bit")
    mono = data[::channels].astype(np.float64)
    return _quantise(mono if rate_hz == RATE_HZ else _third(mono))


def _third(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take every third sample behind a low pass (windowed sinc, 97 taps)."""
    taps = np.arange(97) - 48
    kernel = np.sinc(taps / 3 * 0.92) * np.hamming(97)
    filtered = np.convolve(values, kernel / kernel.sum(), mode="same")
    third: NDArray[np.float64] = filtered[::3]
    return third


def _quantise(values: NDArray[np.float64]) -> Samples:
    return np.clip(np.round(values), -32_768, 32_767).astype(np.int16)


def active_span(samples: Samples, *, below_peak_db: float = 35.0) -> tuple[int, int]:
    """Return first and end sample of what is louder than the loudest 20 ms less some decibels."""
    count = len(samples) // WINDOW
    frames = samples[: count * WINDOW].reshape(count, WINDOW).astype(np.float64)
    power = (frames**2).mean(axis=1)
    loud = np.flatnonzero(power >= power.max() * 10 ** (-below_peak_db / 10))
    return int(loud[0]) * WINDOW, int(loud[-1] + 1) * WINDOW


def words() -> list[Samples]:
    """Return the spoken channel names, silence cut off, at -3 dBFS peak; empty without them."""
    found = []
    for path in sorted(ALSA_DIR.glob("*_*.wav")):
        samples = read_wav(path)
        begin, end = active_span(samples)
        voiced = samples[begin:end].astype(np.float64)
        found.append(_quantise(voiced * (23_000 / np.abs(voiced).max())))
    return found


def utterance(number: int, duration_s: float) -> Clip:
    """Return about so much speech without a pause, different for each number."""
    pool = words()
    if not pool:
        raise FileNotFoundError(f"no spoken WAVs in {ALSA_DIR}: apt-get install alsa-utils")
    parts: list[Samples] = []
    while sum(map(len, parts)) < duration_s * RATE_HZ:
        parts.append(pool[(number + len(parts)) % len(pool)])
    samples = np.concatenate(parts)
    span = (0.0, len(samples) / RATE_HZ)
    return Clip(f"words {number}", samples, (span,), (span,))


def built_scene(count: int = 8, pause_s: float = 3.0) -> Clip:
    """Return a scene of spoken words and digital silence, for machines without labelled ones."""
    parts: list[Samples] = []
    spans: list[tuple[float, float]] = []
    at = 0
    silence = np.zeros(round(pause_s * RATE_HZ), dtype=np.int16)
    for number in range(count):
        said = utterance(number, 1.0 + 0.5 * (number % 3)).samples
        parts += [silence, said]
        at += len(silence)
        spans.append((at / RATE_HZ, (at + len(said)) / RATE_HZ))
        at += len(said)
    samples = np.concatenate([*parts, silence])
    return Clip("spoken words and silence", samples, tuple(spans), tuple(spans))
