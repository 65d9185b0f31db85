"""The demo's proof of delivery: what it counts as whole, lost and doubled."""

from __future__ import annotations

import random
import wave
from array import array
from pathlib import Path

import pytest

from agentd.audio.offset import shift
from agentd.demo.report import Delivery, check
from agentd.demo.script import SpokenLine
from live_emulator import Utterance

HZ = 16_000
LINES = (SpokenLine(1.0, ("a",), ""), SpokenLine(3.0, ("b",), ""))
PLACED = [(1.0, 2.0), (3.0, 4.0)]


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    """Five seconds of noise, no two stretches alike."""
    path = tmp_path / "user.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HZ)
        file.writeframes(random.Random(1).randbytes(5 * HZ * 2))
    return path


def heard(microphone: Path, begin_s: float, end_s: float, **changes: object) -> Utterance:
    """Return a stretch of the recording as the service received it."""
    data = microphone.read_bytes()[44:]
    values: dict[str, object] = {
        "session": "s",
        "connection": 1,
        "number": 1,
        "pcm": data[round(begin_s * HZ) * 2 : round(end_s * HZ) * 2],
        "rate_hz": HZ,
        "complete": True,
        "explicit": True,
        "started_s": begin_s,
        "ended_s": end_s,
    }
    return Utterance(**(values | changes))  # type: ignore[arg-type]


def verdicts(microphone: Path, *received: Utterance) -> list[tuple[int, bool]]:
    """Return how often each line arrived, and whether that counts as whole."""
    found: list[Delivery] = check(microphone, PLACED, LINES, received, [])
    return [(item.times, item.whole) for item in found]


def test_both_lines_arrived(microphone: Path) -> None:
    """Pre-roll and hangover around a line do not matter."""
    first, second = heard(microphone, 0.7, 2.6), heard(microphone, 2.7, 4.6)
    assert verdicts(microphone, first, second) == [(1, True), (1, True)]


def test_a_line_twice_is_not_whole(microphone: Path) -> None:
    """A replay on top of a delivery is told."""
    first = heard(microphone, 0.7, 2.6)
    second = heard(microphone, 2.7, 4.6)
    assert verdicts(microphone, first, first, second) == [(2, False), (1, True)]


def test_a_line_without_its_beginning_is_lost(microphone: Path) -> None:
    """A clipped onset is no delivery."""
    first, second = heard(microphone, 1.2, 2.6), heard(microphone, 2.7, 4.6)
    assert verdicts(microphone, first, second) == [(0, False), (1, True)]


def test_a_line_with_a_hole_is_lost(microphone: Path) -> None:
    """One sample missing in the middle: no stretch of the recording matches."""
    whole = heard(microphone, 0.7, 2.6).pcm
    first = heard(microphone, 0.7, 2.6, pcm=whole[:20_000] + whole[20_002:])
    assert verdicts(microphone, first)[0] == (0, False)


def test_an_offset_that_was_taken_out_changes_nothing(tmp_path: Path) -> None:
    """Capture moves each frame by a constant that it is still learning; a sample it never does."""
    path = tmp_path / "calm.wav"
    noise = random.Random(3)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HZ)
        file.writeframes(
            array("h", [noise.randint(-9_000, 9_000) for _ in range(5 * HZ)]).tobytes()
        )
    whole = heard(path, 0.7, 2.6).pcm
    frames = [whole[at : at + 640] for at in range(0, len(whole), 640)]
    moved = b"".join(shift(frame, 40 - number) for number, frame in enumerate(frames))
    assert verdicts(path, heard(path, 0.7, 2.6, pcm=moved))[0] == (1, True)
    one = array("h", moved)
    one[5_000] += 1
    assert verdicts(path, heard(path, 0.7, 2.6, pcm=one.tobytes()))[0] == (0, False)


def test_an_utterance_cut_off_is_not_counted(microphone: Path) -> None:
    """What the service discarded with the connection has not arrived."""
    first = heard(microphone, 0.7, 2.6, complete=False)
    assert verdicts(microphone, first)[0] == (0, False)


def test_an_empty_utterance_is_not_counted(microphone: Path) -> None:
    """No audio is no delivery."""
    assert verdicts(microphone, heard(microphone, 1.0, 1.0))[0] == (0, False)


def test_the_same_word_said_twice_is_found_in_its_place(tmp_path: Path) -> None:
    """Two equal lines and two equal utterances: each belongs to one."""
    path = tmp_path / "twice.wav"
    word = random.Random(2).randbytes(HZ * 2)
    quiet = bytes(HZ * 2)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HZ)
        file.writeframes(quiet + word + quiet + word + quiet)
    first, second = heard(path, 0.8, 2.2), heard(path, 2.8, 4.2)
    found = check(path, PLACED, LINES, [first, second], [])
    assert [item.times for item in found] == [1, 1]
