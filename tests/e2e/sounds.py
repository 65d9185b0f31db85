"""Recorded human speech, rooms made of it, and finding it again in what was received or heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agentd.audio.wav import read_header
from agentd.demo.room import read_mono, write_user
from agentd.demo.script import SPEECH_DIRECTORY, SpokenLine
from live_emulator import Utterance
from rig.hearing import best_place

MIC_HZ = 16_000
SPK_HZ = 24_000
EDGE_S = 0.06  # the recordings begin and end with a little silence

Samples = NDArray[np.int16]

needs_words = pytest.mark.skipif(
    not (SPEECH_DIRECTORY / "Front_Center.wav").exists(),
    reason="no recorded speech: apt-get install alsa-utils",
)


@cache
def word(name: str, rate_hz: int = MIC_HZ) -> bytes:
    """Return one of Debian's spoken channel names as int16 mono."""
    values = read_mono(SPEECH_DIRECTORY / f"{name}.wav", rate_hz)
    return np.array(values, dtype="<i2").tobytes()


def words(*names: str, rate_hz: int = MIC_HZ) -> bytes:
    """Return several in one breath: the pauses between them are shorter than any hangover."""
    pause = bytes(2 * round(0.18 * rate_hz))
    return pause.join(word(name, rate_hz) for name in names)


def seconds(pcm: bytes, rate_hz: int = MIC_HZ) -> float:
    """Return the length of int16 mono sound."""
    return len(pcm) / 2 / rate_hz


def samples(pcm: bytes | Sequence[int]) -> Samples:
    """Return int16 samples as an array."""
    return np.frombuffer(pcm, "<i2") if isinstance(pcm, bytes) else np.array(pcm, dtype=np.int16)


@dataclass(frozen=True, slots=True)
class Match:
    """Where one sound is in another, and how alike they are there (1: equal but for loudness)."""

    at: int
    likeness: float


def match(needle: Samples, hay: Samples) -> Match:
    """Find a sound in another by normalised correlation."""
    return Match(*best_place(needle, hay))


class Room:
    """A WAV file for a `file:` microphone, and where in it each line is spoken."""

    def __init__(self, path: Path, *lines: tuple[float, tuple[str, ...]]) -> None:
        """Write `lines`: when each is spoken, in seconds, and the words of it."""
        self.path = path
        self.lines = [SpokenLine(at_s, names, "") for at_s, names in lines]
        self.placed = write_user(path, SPEECH_DIRECTORY, self.lines)
        self._pcm = path.read_bytes()[read_header(path).data_at :]

    def spoken(self, line: int) -> bytes:
        """Return the sound of a line."""
        begin_s, end_s = self.placed[line]
        return self._pcm[2 * round(begin_s * MIC_HZ) : 2 * round(end_s * MIC_HZ)]

    def whole(self, received: Sequence[Utterance]) -> list[list[Utterance]]:
        """Return, for every line, the complete utterances that hold all of it.

        An utterance counts only if it is one uncut stretch of what the microphone heard: every
        sample, in order, once.
        """
        held: list[list[Utterance]] = [[] for _ in self.lines]
        for utterance in received:
            if not utterance.complete or not utterance.pcm:
                continue
            at_s = self._pcm.find(utterance.pcm) / 2 / MIC_HZ
            for number, (begin_s, end_s) in enumerate(self.placed):
                covers = at_s <= begin_s + EDGE_S and at_s + utterance.seconds >= end_s - EDGE_S
                if at_s >= 0 and covers:
                    held[number].append(utterance)
        return held
