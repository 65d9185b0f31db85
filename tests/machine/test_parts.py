"""The parts of the booted machine's checks that need no machine."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speech import ALSA_DIR
from rig.hearing import heard_share, last_sound
from tests.machine.kitchen import recorded, sentence, wav
from tests.machine.report import Section, load, page
from tests.machine.timeserver import reply

needs_words = pytest.mark.skipif(not ALSA_DIR.is_dir(), reason="alsa-utils has the spoken words")


@needs_words
def test_speech_is_found_in_a_recording_with_gaps() -> None:
    """A card that runs dry every 100 ms still plays the words."""
    said = sentence(1, 2.0).samples
    pieces = [said[i : i + 1600] for i in range(0, len(said), 1600)]
    silence = np.zeros(480, np.int16)
    gappy = np.concatenate([part for piece in pieces for part in (piece, silence)])
    assert heard_share(said, said) == 1.0
    assert heard_share(said, gappy) > 0.5


@needs_words
def test_other_speech_is_not_found() -> None:
    """Other words, noise and silence are not the words."""
    said = sentence(1, 1.0).samples
    noise = np.random.default_rng(7).integers(-8000, 8000, len(said)).astype(np.int16)
    assert heard_share(said, sentence(4, 1.0).samples) < 0.3
    assert heard_share(said, noise) < 0.1
    assert heard_share(said, np.zeros(len(said), np.int16)) == 0.0
    assert heard_share(np.zeros(16_000, np.int16), said) == 0.0


def test_the_last_sound_ends_where_the_recording_falls_silent() -> None:
    """Silence after the last sound does not count."""
    sound = np.concatenate([np.full(1600, 500), np.zeros(16_000)]).astype(np.int16)
    assert len(last_sound(sound, 10.0)) == 1600
    assert len(last_sound(sound, 0.05)) == 800
    assert len(last_sound(np.zeros(100, np.int16), 1.0)) == 0


def test_a_recording_of_the_usb_card_is_read_while_it_grows(tmp_path: Path) -> None:
    """48 kHz stereo becomes 16 kHz mono; a missing file and half a frame are nothing."""
    path = tmp_path / "speaker.wav"
    assert len(recorded(path)) == 0
    frames = np.repeat(np.array([[300, 0]], np.int16), 48, axis=0)
    path.write_bytes(wav(np.zeros(0, np.int16))[:44] + frames.tobytes() + b"\x01")
    assert recorded(path).tolist() == [300] * 16


def test_the_time_server_answers_its_client() -> None:
    """The client's own stamp comes back, and the time is that of the server, since 1900."""
    request = bytes([0x23]) + bytes(39) + b"12345678"
    answer = reply(request, 1_000_000_000.5)
    whole, fraction = struct.unpack(">II", answer[40:48])
    assert answer[0] == 0x24
    assert answer[24:32] == b"12345678"
    assert whole == 1_000_000_000 + 2_208_988_800
    assert fraction == 2**31


def test_the_page_says_what_was_not_run(tmp_path: Path) -> None:
    """A check without a result is named; a failure is not hidden."""
    assert load(tmp_path) == []
    section = Section("talk", "Installed", "By apt.", passed=2, failed=1, when="now", package="x 1")
    section.note("exposure | score", "1.3")
    text = page([section])
    assert "1 failed" in text
    assert "| exposure \\| score | 1.3 |" in text
    assert "Not run: light, cards, uplinks, cost, clock, power." in text


def test_a_check_that_was_broken_off_is_not_whole() -> None:
    """A failure is an end and is reported; a test that was not run leaves the page as it was."""
    assert Section("talk", passed=2, failed=1, tests=3).is_whole
    assert not Section("talk", passed=1, failed=1, tests=3).is_whole
