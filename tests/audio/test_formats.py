"""Levels, gains and sample formats."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.audio import formats

sample = st.integers(-32_768, 32_767)


def test_a_full_scale_square_wave_is_zero_dbfs() -> None:
    """The reference of every level in the product."""
    assert formats.level_dbfs(struct.pack("<hh", -32_768, -32_768) * 160) == pytest.approx(0.0)


def test_a_full_scale_sine_is_three_decibels_below() -> None:
    """RMS, not peak."""
    wave = [round(32_767 * math.sin(2 * math.pi * i / 32)) for i in range(320)]
    assert formats.level_dbfs(formats.to_pcm(wave)) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("pcm", [b"", bytes(640), b"\x01"])
def test_nothing_and_digital_silence_have_a_finite_level(pcm: bytes) -> None:
    """Never minus infinity, which JSON cannot carry."""
    assert formats.level_dbfs(pcm) == formats.SILENCE_DBFS


def test_one_quiet_sample_in_a_second_is_not_below_silence() -> None:
    """The scale ends at SILENCE_DBFS."""
    assert formats.dbfs(1e-9) == formats.SILENCE_DBFS


@given(st.lists(sample))
def test_samples_survive_packing(values: list[int]) -> None:
    """`to_pcm` and `samples` are each other's inverse."""
    assert formats.samples(formats.to_pcm(values)) == values


@given(st.lists(st.integers(-200_000, 200_000)))
def test_the_limiter_keeps_int16_order_and_sign(values: list[int]) -> None:
    """Loud stays louder than less loud, and nothing wraps around."""
    limited = formats.limit(values)
    assert all(-32_768 <= v <= 32_767 for v in limited)
    pairs = sorted(zip(values, limited, strict=True))
    assert [b for _, b in pairs] == sorted(limited)


@given(st.lists(st.integers(-formats.KNEE, formats.KNEE)))
def test_the_limiter_leaves_what_is_not_loud_alone(values: list[int]) -> None:
    """Below the knee it is no effect at all."""
    assert formats.limit(values) == values


def test_a_loud_sample_does_not_change_its_quiet_neighbours() -> None:
    """It bends samples, it does not pump."""
    assert formats.limit([100, 40_000, -100, -40_000])[0::2] == [100, -100]


@given(st.lists(sample), st.floats(0.0, 1.0))
def test_a_gain_below_one_never_grows_a_sample(values: list[int], gain: float) -> None:
    """Within one unit of rounding."""
    for before, after in zip(values, formats.scale(values, gain), strict=True):
        assert abs(after) <= abs(before) + 1


def test_gain_one_is_the_identity() -> None:
    """Full volume costs nothing."""
    pcm = formats.to_pcm([1, 2, 3])
    assert formats.amplify(pcm, 1.0) is pcm


def test_amplifying_beyond_full_scale_is_limited() -> None:
    """Never wraps."""
    (value,) = formats.samples(formats.amplify(formats.to_pcm([30_000]), 4.0))
    assert 30_000 < value <= 32_767


def test_the_knob_runs_from_silence_to_unchanged() -> None:
    """0 is off, 100 is the recording as it is, 50 is about -18 dB; beyond is clamped."""
    assert [formats.gain_of_percent(p) for p in (-5, 0, 50, 100, 150)] == [0, 0, 0.125, 1, 1]


def test_decibels_become_factors() -> None:
    """20 dB is ten times."""
    assert formats.gain_of_db(20.0) == pytest.approx(10.0)
    assert formats.gain_of_db(-6.0206) == pytest.approx(0.5, abs=1e-4)


def test_a_ramp_goes_straight_from_start_to_end() -> None:
    """First sample at the start gain, steps alike."""
    assert formats.ramp([100] * 4, 1.0, 0.0) == [100, 75, 50, 25]
    assert formats.ramp([], 1.0, 0.0) == []


def test_adding_keeps_the_longer_tail() -> None:
    """The shorter stretch counts as followed by silence, whichever side it is on."""
    assert formats.add([1, 2, 3], [10]) == [11, 2, 3]
    assert formats.add([10], [1, 2, 3]) == [11, 2, 3]


def test_a_channel_is_picked_from_interleaved_sound() -> None:
    """Torn last frames are left out."""
    pcm = formats.to_pcm([1, 10, 100, 2, 20, 200])
    assert formats.samples(formats.pick_channel(pcm + b"\x01\x00", 3, 1)) == [10, 20]
    assert formats.pick_channel(pcm, 1, 0) is pcm


@pytest.mark.parametrize(
    ("width", "raw", "values"),
    [
        (1, b"\x00\x80\xff", [-32_768, 0, 32_512]),
        (2, struct.pack("<hh", -5, 7), [-5, 7]),
        (3, b"\xff\x01\x02" + b"\x00\x00\x80", [0x0201, -32_768]),
        (4, struct.pack("<ii", 0x12345678, -65_536), [0x1234, -1]),
    ],
)
def test_every_pcm_width_becomes_int16(width: int, raw: bytes, values: list[int]) -> None:
    """8 bits unsigned, the rest signed, upper bits kept."""
    assert formats.to_int16(raw, width) == values


def test_an_unknown_width_is_refused() -> None:
    """There is no 40-bit PCM."""
    with pytest.raises(ValueError, match="40 bits"):
        formats.to_int16(b"", 5)


def test_mono_is_the_mean_of_all_channels() -> None:
    """A torn last frame is left out; one channel is passed on as it is."""
    assert formats.mono([10, 20, -30, -50, 7], 2) == [15, -40]
    assert formats.mono([1, 2], 1) == [1, 2]


def test_durations_count_samples() -> None:
    """640 bytes at 16 kHz are 20 ms."""
    assert formats.duration_ms(bytes(formats.FRAME_BYTES), 16_000) == 20.0
