"""Bundled words as espeak-ng says them: `agentd doctor` and the tests let the models hear them."""

from __future__ import annotations

from pathlib import Path

from agentd.audio.wav import open_wav, read_header
from agentd.errors import AudioError

FOLDER = Path(__file__).with_name("said")
MAX_BYTES = 64 * 1024 * 1024  # half an hour


def read_clip(word: str) -> bytes | None:
    """Return the clip of a bundled word as int16 mono 16 kHz, None where there is none."""
    return read_speech(FOLDER / f"{word}.wav") if word.replace("_", "").isalnum() else None


def read_speech(path: Path) -> bytes | None:
    """Return a WAV file of int16 mono 16 kHz, None if it is anything else."""
    try:
        layout = read_header(path)
        if (layout.rate_hz, layout.channels, layout.width) != (16_000, 1, 2):
            return None
        with open_wav(path) as file:
            file.seek(layout.data_at)
            return file.read(min(layout.data_bytes, MAX_BYTES))
    except (AudioError, OSError):
        return None
