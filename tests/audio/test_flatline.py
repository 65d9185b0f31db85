"""A microphone that delivers samples and no sound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.audio import formats
from agentd.audio.flatline import (
    MOST_S,
    NEVER_S,
    ONCE_S,
    Flatline,
    SilenceChange,
    is_flat,
    sounding_channel,
    trouble_of,
)

ZERO = bytes(formats.FRAME_BYTES)
STUCK = formats.to_pcm([-7] * formats.FRAME_SAMPLES)
SOUND = formats.to_pcm([0, 1] * (formats.FRAME_SAMPLES // 2))


def flat_for(line: Flatline, frame: bytes = ZERO) -> float:
    """After how many seconds of it silence is reported."""
    for count in range(1, 200_000):
        if line.take(frame) is SilenceChange.SILENT:
            return count * formats.FRAME_S
    raise AssertionError("it never is")


@given(st.lists(st.integers(-32_768, 32_767), max_size=6))
def test_flat_means_that_all_samples_are_the_same(values: list[int]) -> None:
    """Whatever their value."""
    assert is_flat(formats.to_pcm(values)) == (len(set(values)) <= 1)


@pytest.mark.parametrize(("frame", "value"), [(ZERO, 0), (STUCK, -7)])
def test_silence_is_reported_once_and_sound_ends_it(frame: bytes, value: int) -> None:
    """After ten seconds if there never was any sound."""
    line = Flatline()
    assert flat_for(line, frame) == pytest.approx(NEVER_S)
    assert line.silent_s == pytest.approx(NEVER_S)
    assert line.value == value
    assert {line.take(frame) for _ in range(10_000)} == {None}
    assert line.take(SOUND) is SilenceChange.SOUND
    assert line.take(SOUND) is None
    assert line.silent_s == 0.0


def test_a_single_frame_of_sound_begins_the_count_anew() -> None:
    """And after any sound a minute is waited."""
    line = Flatline()
    line.take(SOUND)
    for _ in range(round(ONCE_S / formats.FRAME_S) - 1):
        assert line.take(ZERO) is None
    assert line.take(SOUND) is None
    assert flat_for(line) == pytest.approx(ONCE_S)


def test_a_noise_gate_is_learnt() -> None:
    """Each mistake doubles the patience, up to an hour."""
    line = Flatline()
    line.take(SOUND)
    waited = []
    for _ in range(8):
        waited.append(round(flat_for(line)))
        line.take(SOUND)
    assert waited == [60, 120, 240, 480, 960, 1920, 3600, MOST_S]


def test_a_mistake_at_the_start_counts_as_well() -> None:
    """Ten seconds, then a minute."""
    line = Flatline()
    assert [flat_for(line), line.take(SOUND), flat_for(line)] == [
        pytest.approx(NEVER_S),
        SilenceChange.SOUND,
        pytest.approx(ONCE_S),
    ]


def test_time_in_which_the_device_was_closed_does_not_count() -> None:
    """A mute of an hour is no silence of the microphone."""
    line = Flatline()
    for _ in range(400):
        line.take(ZERO)
    line.reopened()
    assert flat_for(line) == pytest.approx(NEVER_S)


def test_the_channel_that_has_sound() -> None:
    """The first one of an array, if any has."""
    array = [value for i in range(40) for value in (0, 5, i, -i)]
    assert sounding_channel(formats.to_pcm(array), 4) == 2
    assert sounding_channel(bytes(320), 4) is None


@pytest.mark.parametrize(
    ("value", "other", "cause", "remedy"),
    [
        (0, None, "it delivers digital silence", "Switch capture on"),
        (-7, None, "it delivers the same value again and again (-7)", "Switch capture on"),
        (0, 2, "it delivers digital silence", "set audio.capture_channel = 2"),
    ],
)
def test_what_is_said_of_it(value: int, other: int | None, cause: str, remedy: str) -> None:
    """The cause, and the one thing to do."""
    found = trouble_of(value, other)
    assert found.cause == cause
    assert remedy in found.remedy
