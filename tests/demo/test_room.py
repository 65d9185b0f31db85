"""The demo's WAV files."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from agentd.demo.room import read_mono, write_stereo, write_user
from agentd.demo.script import PAUSE_S, TAIL_S, SpokenLine
from agentd.errors import DeviceNotFound


def write(path: Path, hz: int, values: list[int]) -> None:
    """Write a mono WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(hz)
        file.writeframes(b"".join(value.to_bytes(2, "little", signed=True) for value in values))


def test_words_are_placed_where_the_script_says(tmp_path: Path) -> None:
    """Each line begins at its time; the words of one line are a short pause apart."""
    write(tmp_path / "word.wav", 16_000, [1000] * 8_000)
    lines = (SpokenLine(1.0, ("word",), ""), SpokenLine(3.0, ("word", "word"), ""))
    placed = write_user(tmp_path / "user.wav", tmp_path, lines)
    assert placed == [(1.0, 1.5), (3.0, 4.0 + PAUSE_S)]
    room = read_mono(tmp_path / "user.wav", 16_000)
    assert room[15_999:16_001] == [0, 1000]
    assert len(room) == round((4.0 + PAUSE_S + TAIL_S) * 16_000)


def test_the_room_has_the_user_left_and_the_speaker_right(tmp_path: Path) -> None:
    """The shorter side is filled up with silence."""
    write(tmp_path / "user.wav", 24_000, [100] * 480)
    write(tmp_path / "speaker.wav", 24_000, [200] * 240)
    write_stereo(tmp_path / "room.wav", tmp_path / "user.wav", tmp_path / "speaker.wav")
    with wave.open(str(tmp_path / "room.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 24_000, 480)
        frames = file.readframes(480)
    assert frames[:4] == bytes([100, 0, 200, 0])
    assert frames[-4:] == bytes([100, 0, 0, 0])


def test_missing_speech_is_told_with_the_package_to_install(tmp_path: Path) -> None:
    """The remedy is one command."""
    with pytest.raises(DeviceNotFound, match="sudo apt install alsa-utils"):
        write_user(tmp_path / "user.wav", tmp_path, (SpokenLine(0.0, ("word",), ""),))
