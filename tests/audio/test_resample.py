"""Sample rates are changed without shifting, leaking or losing sound."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agentd.audio.resample import Resampler, resample


def tone(hz: float, rate_hz: int, seconds: float = 0.5, amplitude: float = 10_000) -> list[int]:
    """Return a sine that starts at zero."""
    count = round(rate_hz * seconds)
    return [round(amplitude * math.sin(2 * math.pi * hz * i / rate_hz)) for i in range(count)]


def rms(values: list[int]) -> float:
    """Return the root mean square."""
    return math.sqrt(sum(v * v for v in values) / len(values))


@pytest.mark.parametrize("from_hz", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_level_and_place(from_hz: int) -> None:
    """1 kHz at any rate is the same 1 kHz at 16 kHz, to within 1 %, apart from its very ends."""
    expected = tone(1_000, 16_000)
    converted = resample(tone(1_000, from_hz), from_hz, 16_000)
    assert len(converted) == len(expected)
    error = [a - b for a, b in zip(converted, expected, strict=True)][400:-400]
    assert rms(error) < 0.01 * rms(expected)


@pytest.mark.parametrize("hz", [9_500, 12_000, 20_000])
def test_what_16_khz_cannot_hold_does_not_fold_back(hz: float) -> None:
    """Above 8 kHz everything is at least 60 dB down."""
    converted = resample(tone(hz, 48_000), 48_000, 16_000)[400:-400]
    assert 20 * math.log10((rms(converted) + 1e-9) / rms(tone(hz, 48_000))) < -60


def test_speech_band_passes_untouched() -> None:
    """6 kHz loses less than half a decibel on the way from 48 to 16 kHz."""
    converted = resample(tone(6_000, 48_000), 48_000, 16_000)[400:-400]
    assert abs(20 * math.log10(rms(converted) / rms(tone(6_000, 48_000)))) < 0.5


def test_pieces_give_what_the_whole_gives() -> None:
    """A stream may be cut anywhere."""
    whole = tone(700, 44_100, 0.2)
    expected = Resampler(44_100, 16_000).feed(whole)
    pieces = Resampler(44_100, 16_000)
    got: list[int] = []
    for at in range(0, len(whole), 137):
        got += pieces.feed(whole[at : at + 137])
    assert got == expected


@pytest.mark.parametrize(("from_hz", "to_hz"), [(16_000, 24_000), (44_100, 16_000)])
def test_long_silence_is_exact_and_moves_nothing(from_hz: int, to_hz: int) -> None:
    """A word behind zeros of any length is the word alone, as far behind as it was."""
    word = tone(700, from_hz, 0.05)
    for seconds in (0.01, 0.1, 1.0):
        silence = [0] * round(from_hz * seconds)
        converted = resample(silence + word + silence, from_hz, to_hz)
        begins = round(to_hz * seconds)
        near = converted[begins - 20 : begins + 20]
        assert rms(near) > 0
        around = converted[: begins - 100] + converted[-begins + 100 :]
        assert around == [0] * len(around)
        alone = resample([0] * from_hz + word + [0] * from_hz, from_hz, to_hz)[to_hz:]
        assert converted[begins : begins + to_hz // 20] == alone[: to_hz // 20]


class Zero:
    """A sample of silence that counts how often it goes through the filter."""

    filtered = 0

    def __bool__(self) -> bool:
        return False

    def __rmul__(self, tap: float) -> float:
        Zero.filtered += 1
        return 0.0


def test_silence_costs_no_multiplication() -> None:
    """The pauses of a recording are most of it; in plain Python each output costs 48 products."""
    silence: Any = [Zero()] * 16_000
    assert resample(silence, 16_000, 24_000) == [0] * 24_000
    assert Zero.filtered == 0


def test_flush_returns_what_the_filter_still_holds() -> None:
    """Nothing of the end is lost."""
    resampler = Resampler(48_000, 16_000)
    values = tone(1_000, 48_000, 0.1)
    produced = resampler.feed(values) + resampler.flush()
    assert len(produced) >= len(values) // 3


def test_equal_rates_are_passed_through() -> None:
    """No filter, no delay."""
    resampler = Resampler(16_000, 16_000)
    assert (resampler.feed([1, 2, 3]), resampler.delay_s) == ([1, 2, 3], 0.0)


def test_full_scale_does_not_wrap() -> None:
    """A square wave overshoots in any filter; it is clipped, not folded."""
    square = ([32_767] * 50 + [-32_768] * 50) * 20
    converted = resample(square, 48_000, 16_000)
    assert all(-32_768 <= value <= 32_767 for value in converted)
