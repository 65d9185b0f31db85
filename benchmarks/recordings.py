"""Recorded speech, noise and rooms, mixed anew: other scenes than the labelled ones.

The constants of the gate were chosen on the labelled scenes. So here are scenes of what is in none
of those: the clips that they leave out, noises and room responses that they do not use, other
signal-to-noise ratios. Deterministic. Needs numpy, and sox to read FLAC.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agentd.audio import formats
from agentd.events import Frame
from benchmarks.gate_scoring import Interval, Truth

RATE_HZ = formats.CAPTURE_RATE_HZ
ACTIVE_DBFS = -26.0  # of speech, where it is labelled
EDGE_S = 0.2  # kept on both sides of a clip
Wave = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording of speech, cut to its labels."""

    name: str
    wave: Wave
    speech: tuple[Interval, ...]  # from the beginning of the cut


@dataclass(frozen=True, slots=True)
class Plan:
    """What a scene is made of."""

    name: str
    noises: tuple[str, ...]
    snr_db: float = 0.0
    room: str = ""
    is_spoken: bool = True
    jitter_db: float = 4.0


HELD_OUT = (
    Plan("h1 rain, 15 dB", ("rain",), 15),
    Plan("h2 train, 10 dB", ("train_passing",), 10),
    Plan("h3 coffee shop, 10 dB", ("coffee_shop",), 10),
    Plan("h4 kitchen, 20 dB", ("drawers", "knocks_taps"), 20, "kitchen"),
    Plan("h5 far away, 20 dB", ("rain",), 20, "real_distance_far"),
    Plan("h6 hall, 12 dB", ("exercise_bike",), 12, "room_t60_0.6s"),
    Plan(
        "h7 no speech",
        ("exercise_bike", "train_passing", "juicer_blender", "drawers", "rain", "knocks_taps"),
        is_spoken=False,
    ),
)


@cache
def read(path: Path) -> Wave:
    """Read a FLAC file as int16 values."""
    command = ["sox", str(path), "-t", "raw", "-r", str(RATE_HZ), "-e", "signed", "-b", "16"]
    done = subprocess.run([*command, "-c", "1", "-"], stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, "<i2").astype(np.float64)


def unheard_clips(directory: Path) -> list[Clip]:
    """Return the trustworthy clips that are in none of the labelled scenes."""
    labels = json.loads((directory / "speech" / "labels.json").read_text())
    heard = {
        name
        for scene in [*directory.glob("scenes/*.json"), *directory.glob("aec/*.json")]
        for *_, name in json.loads(scene.read_text())["utterances"]
    }
    names = sorted(n for n, label in labels.items() if label["scene"] and n not in heard)
    return [clip(directory, name, labels[name]["segments"]) for name in names]


def clip(directory: Path, name: str, segments: Sequence[Sequence[float]]) -> Clip:
    """Cut a recording to its labels, at the usual level."""
    wave = read(directory / name)
    begin = max(0, round((segments[0][0] - EDGE_S) * RATE_HZ))
    end = round((segments[-1][1] + EDGE_S) * RATE_HZ)
    speech = tuple((a - begin / RATE_HZ, b - begin / RATE_HZ) for a, b in segments)
    cut = wave[begin:end].copy()
    fade = np.sin(np.linspace(0, np.pi / 2, 320)) ** 2
    cut[:320] *= fade
    cut[-320:] *= fade[::-1]
    active = np.concatenate([cut[round(a * RATE_HZ) : round(b * RATE_HZ)] for a, b in speech])
    return Clip(name, cut * (_amplitude(ACTIVE_DBFS) / _rms(active)), speech)


def response(directory: Path, name: str) -> Wave:
    """Return a room response from its direct sound on, with an energy of 1."""
    found = read(directory / "rir" / f"{name}.flac")
    first = int(np.argmax(np.abs(found) > 0.1 * np.abs(found).max()))
    found = found[first:]
    scaled: Wave = found / np.sqrt(np.sum(found**2))
    return scaled


def convolve(wave: Wave, room: Wave) -> Wave:
    """Return the sound in the room, as long as it was."""
    size = 1 << (len(wave) + len(room)).bit_length()
    spectrum = np.fft.rfft(wave, size) * np.fft.rfft(room, size)
    return np.fft.irfft(spectrum, size)[: len(wave)]


def scene(directory: Path, plan: Plan, seed: int) -> tuple[Truth, list[Frame]]:
    """Mix a scene."""
    dice = np.random.default_rng(seed)
    clips = unheard_clips(directory) if plan.is_spoken else []
    wave, speech, utterances = lay(
        [clips[i] for i in dice.permutation(len(clips))], dice, plan.jitter_db
    )
    if not plan.is_spoken:
        wave = np.zeros(120 * RATE_HZ)
    level = _amplitude(-30.0)
    if plan.is_spoken:
        active = np.concatenate([wave[round(a * RATE_HZ) : round(b * RATE_HZ)] for a, b in speech])
        level = _rms(active) / 10 ** (plan.snr_db / 20)
    if plan.room:
        loud = _rms(wave)
        wave = convolve(wave, response(directory, plan.room))
        wave *= loud / _rms(wave)
    wave = wave + _bed(directory, plan.noises, len(wave), level)
    truth = Truth(len(wave) / RATE_HZ, tuple(speech), tuple(utterances))
    return truth, frames(wave)


def lay(
    clips: Sequence[Clip], dice: np.random.Generator, jitter_db: float = 0.0
) -> tuple[Wave, list[Interval], list[Interval]]:
    """Put clips behind each other with 2 to 7 s between; return speech and utterances too."""
    pieces: list[Wave] = [np.zeros(2 * RATE_HZ)]
    speech: list[Interval] = []
    utterances: list[Interval] = []
    at = 2 * RATE_HZ
    for one in clips:
        gain = 10 ** (dice.uniform(-jitter_db, jitter_db) / 20)
        pause = round(dice.uniform(2, 7) * RATE_HZ)
        found = [(at / RATE_HZ + a, at / RATE_HZ + b) for a, b in one.speech]
        speech += found
        utterances.append((found[0][0], found[-1][1]))
        pieces += [one.wave * gain, np.zeros(pause)]
        at += len(one.wave) + pause
    return np.concatenate(pieces), speech, utterances


def frames(wave: Wave, first_s: float = 0.0) -> list[Frame]:
    """Return int16 frames, clipped where needed."""
    pcm = np.clip(np.rint(wave), -32_768, 32_767).astype("<i2").tobytes()
    size = formats.FRAME_BYTES
    return [
        Frame(i, first_s + i * formats.FRAME_S, pcm[i * size : (i + 1) * size])
        for i in range(len(pcm) // size)
    ]


def _bed(directory: Path, noises: Sequence[str], length: int, level: float) -> Wave:
    """Return the noises behind each other, each equally loud, as long as needed."""
    parts = [read(directory / "noise" / f"{name}.flac") for name in noises]
    parts = [part * (level / _rms(part)) for part in parts]
    whole = np.concatenate(parts)
    return np.tile(whole, -(-length // len(whole)))[:length]


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(wave**2))) + 1e-9


def _amplitude(level_dbfs: float) -> float:
    return formats.FULL_SCALE * 10 ** (level_dbfs / 20)
