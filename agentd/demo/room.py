"""The demo's room as WAV files: what the user says before it, both sides after it."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

from agentd.audio import formats
from agentd.audio.resample import resample
from agentd.audio.wav import read_header
from agentd.demo.script import PAUSE_S, TAIL_S, SpokenLine
from agentd.errors import DeviceNotFound

MICROPHONE_HZ = formats.CAPTURE_RATE_HZ
SPEAKER_HZ = formats.PLAYBACK_RATE_HZ


def write_user(
    path: Path, speech_directory: Path, lines: Sequence[SpokenLine]
) -> list[tuple[float, float]]:
    """Write what the user says, pauses included, at 16 kHz; return begin and end of each line.

    Raises:
        DeviceNotFound: the recorded speech is not installed.
    """
    placed: list[tuple[float, float]] = []
    room: list[int] = []
    for line in lines:
        room += [0] * (round(line.at_s * MICROPHONE_HZ) - len(room))
        begin = len(room)
        for index, name in enumerate(line.sounds):
            room += [0] * (round(PAUSE_S * MICROPHONE_HZ) if index else 0)
            room += read_mono(speech_directory / f"{name}.wav", MICROPHONE_HZ)
        placed.append((begin / MICROPHONE_HZ, len(room) / MICROPHONE_HZ))
    room += [0] * round(TAIL_S * MICROPHONE_HZ)
    _write(path, room, MICROPHONE_HZ, channels=1)
    return placed


def write_stereo(path: Path, left: Path, right: Path) -> None:
    """Lay two mono recordings that began together side by side, at 24 kHz."""
    a, b = read_mono(left, SPEAKER_HZ), read_mono(right, SPEAKER_HZ)
    mixed = [0] * (2 * max(len(a), len(b)))
    mixed[0 : 2 * len(a) : 2] = a
    mixed[1 : 2 * len(b) : 2] = b
    _write(path, mixed, SPEAKER_HZ, channels=2)


def read_mono(path: Path, rate_hz: int) -> list[int]:
    """Read a PCM WAV file as mono samples at `rate_hz`.

    Raises:
        DeviceNotFound: it is not there.
    """
    try:
        layout = read_header(path)
    except DeviceNotFound:
        raise DeviceNotFound(
            f"{path} is missing; the demo's speech comes with Debian's alsa-utils. "
            "Run: sudo apt install alsa-utils"
        ) from None
    raw = path.read_bytes()[layout.data_at : layout.data_at + layout.data_bytes]
    values = formats.mono(formats.to_int16(raw, layout.width), layout.channels)
    return resample(values, layout.rate_hz, rate_hz)


def _write(path: Path, values: list[int], rate_hz: int, *, channels: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(formats.SAMPLE_BYTES)
        file.setframerate(rate_hz)
        file.writeframes(formats.to_pcm(values))
