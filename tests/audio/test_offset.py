"""A constant offset of the microphone is taken out; everything else stays as it was."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.audio import formats
from agentd.audio.offset import OffsetFilter, mean, shift

SAMPLES = formats.FRAME_SAMPLES
Int16 = st.integers(-32_768, 32_767)
Edge = Int16 | st.sampled_from([-32_768, -32_767, -1, 0, 1, 32_766, 32_767])
Frames = st.lists(Edge, min_size=32, max_size=32).map(lambda values: values * (SAMPLES // 32))


def noise(frames: int, *, offset: float = 0.0, rms: float = 10.0, seed: int = 1) -> list[bytes]:
    """White noise on an offset, clipped as a converter clips it."""
    source = random.Random(seed)
    return [
        formats.to_pcm(
            [min(32_767, max(-32_768, round(source.gauss(offset, rms)))) for _ in range(SAMPLES)]
        )
        for _ in range(frames)
    ]


def rests(clean: OffsetFilter, frames: list[bytes]) -> list[float]:
    """What is left of the offset in each frame."""
    return [mean(clean.clean(frame)) for frame in frames]


@given(Frames)
def test_the_mean_is_exact(values: list[int]) -> None:
    """As adding up the samples gives it."""
    assert mean(formats.to_pcm(values)) == sum(values) / SAMPLES


@given(Frames, st.integers(-32_768, 32_767))
def test_a_shift_adds_to_every_sample(values: list[int], by: int) -> None:
    """And what leaves int16 stays at full scale instead of coming in again on the other side."""
    expected = [min(32_767, max(-32_768, value + by)) for value in values]
    assert formats.samples(shift(formats.to_pcm(values), by)) == expected


@pytest.mark.parametrize("percent", [0.5, 3.0, 5.0, 10.0, -0.5, -10.0, 40.0])
def test_an_offset_is_gone_from_the_first_frame_on(percent: float) -> None:
    """No step at the start that would click, and none later."""
    offset = percent * 327.68
    clean = OffsetFilter()
    found = rests(clean, noise(200, offset=offset))
    assert max(map(abs, found)) <= 3.0
    assert clean.offset == pytest.approx(offset, abs=1.5)


def test_without_an_offset_nothing_is_touched() -> None:
    """Bit for bit: noise and a tone."""
    tone = [
        formats.to_pcm(
            [round(9_000 * math.sin(math.tau * 400 * (i + at) / 16_000)) for i in range(SAMPLES)]
        )
        for at in range(0, 50 * SAMPLES, SAMPLES)
    ]
    for frames in (noise(500, rms=3.0), tone):
        clean = OffsetFilter()
        assert [clean.clean(frame) for frame in frames] == frames


def test_digital_silence_stays_digital_silence() -> None:
    """A microphone with a noise gate: its zeros are none of the offset's, nor evidence of it."""
    clean = OffsetFilter()
    zero = bytes(formats.FRAME_BYTES)
    assert [clean.clean(zero) for _ in range(50)] == [zero] * 50
    (first, *_) = rests(clean, noise(10, offset=800.0))
    assert abs(first) <= 3.0
    assert clean.clean(zero) == zero


def voice(frames: int, *, offset: float = 0.0, seed: int = 4) -> list[bytes]:
    """Return something like vowels: 90 to 180 Hz with overtones, loud, from the first frame on."""
    source = random.Random(seed)
    values: list[int] = []
    phase = 0.0
    for _ in range(frames):
        hz, loud = source.uniform(90, 180), source.uniform(1_000, 9_000)
        for _ in range(SAMPLES):
            phase += math.tau * hz / 16_000
            wave = sum(math.sin(k * phase + k) / k for k in (1, 2, 3, 4))
            values.append(round(offset + loud * wave / 2))
    return [formats.to_pcm(values[i : i + SAMPLES]) for i in range(0, len(values), SAMPLES)]


def test_a_word_after_digital_silence_stays_as_it_is() -> None:
    """Bit for bit, although nothing was heard before it from which an offset could be known."""
    clean = OffsetFilter()
    zero = bytes(formats.FRAME_BYTES)
    spoken = [zero] * 20 + voice(60) + [zero] * 20 + voice(60, seed=5)
    assert [clean.clean(frame) for frame in spoken] == spoken


def test_an_offset_under_a_voice_is_found_all_the_same() -> None:
    """Somebody speaks from the first frame on, without a pause: within two seconds."""
    clean = OffsetFilter()
    for frame in voice(100, offset=1_638.0):
        clean.clean(frame)
    assert clean.offset == pytest.approx(1_638, abs=200)


def test_loud_speech_does_not_drag_the_estimate_along() -> None:
    """Frames of a deep voice at -10 dBFS have means of several hundred; half a minute of them."""
    clean = OffsetFilter()
    for frame in noise(100, offset=300.0):
        clean.clean(frame)
    source = random.Random(3)
    taken = []
    for _ in range(1_500):
        swing = source.gauss(0.0, 500.0)
        clean.clean(formats.to_pcm([round(300.0 + swing)] * SAMPLES))
        taken.append(clean.offset)
    assert max(abs(offset - 300) for offset in taken) <= 60
    steps = [abs(b - a) for a, b in itertools.pairwise(taken)]
    assert max(steps) <= 4  # -78 dBFS


def test_a_slow_drift_is_followed() -> None:
    """One percent in ten seconds, as a converter does that gets warm."""
    clean = OffsetFilter()
    found = [
        mean(clean.clean(frame))
        for index in range(500)
        for frame in noise(1, offset=500.0 + index * 327.68 / 500, seed=index)
    ]
    assert max(map(abs, found)) <= 25.0  # -62 dBFS


def test_an_offset_that_jumps_is_found_within_two_seconds() -> None:
    """Somebody has turned up the gain; it goes without a step of its own."""
    clean = OffsetFilter()
    rests(clean, noise(100, offset=400.0))
    found = rests(clean, noise(150, offset=2_000.0, seed=2))
    assert max(map(abs, found[100:])) <= 20.0
    assert all(abs(after) <= abs(before) + 5.0 for before, after in itertools.pairwise(found))


def test_sound_that_clips_beside_its_offset_still_does() -> None:
    """What is at full scale comes out at a flat top of its own, not wrapped around."""
    clean = OffsetFilter()
    rests(clean, noise(50, offset=3_277.0))
    values = [round(3_277 + 40_000 * math.sin(math.tau * i / 80)) for i in range(SAMPLES)]
    frame = formats.to_pcm([min(32_767, max(-32_768, value)) for value in values])
    heard = formats.samples(clean.clean(frame))
    assert heard.count(max(heard)) > 50
    assert heard.count(min(heard)) > 50
    assert min(heard) == -32_768
