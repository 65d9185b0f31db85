"""The far end on the microphone's time line: resampled, aligned, bounded."""

from __future__ import annotations

import math

import pytest

np = pytest.importorskip("numpy", reason="extra `aec` is not installed")

from agentd.audio.echo.far_end import (  # noqa: E402 - numpy may be missing
    LEAD_S,
    MOST_S,
    RATE_HZ,
    TAIL_S,
    Downsampler,
    FarEnd,
    OffsetMeter,
)

FRAME = 320
PERIOD_S = 0.03
HALF_A_SAMPLE = 8_000 * math.tau * 400 / RATE_HZ * 0.55  # where the tone is steepest


def tone(begin_s: float, length_s: float, hz: float = 400.0, rate_hz: int = 24_000) -> bytes:
    """Return a piece of a tone that runs through all time."""
    at = begin_s + np.arange(round(length_s * rate_hz)) / rate_hz
    return bytes(np.rint(8_000 * np.sin(2 * math.pi * hz * at)).astype("<i2").tobytes())


def expected(at_s: float, hz: float = 400.0) -> object:
    """Return the same tone as a microphone frame at that time."""
    return np.sin(2 * math.pi * hz * (at_s + np.arange(FRAME) / RATE_HZ)) * 8_000


@pytest.mark.parametrize("hz", [100.0, 1_000.0, 4_000.0, 6_500.0])
def test_voices_pass_the_downsampler_whole(hz: float) -> None:
    """In level and time; the pieces may have any length."""
    sampler = Downsampler()
    pcm = tone(0.0, 1.0, hz)
    out = np.concatenate([sampler.feed(pcm[i : i + 1_000]) for i in range(0, len(pcm), 1_000)])
    at = np.arange(len(out)) / RATE_HZ - sampler.delay_s
    wanted = np.sin(2 * math.pi * hz * at) * 8_000
    assert abs(len(out) - RATE_HZ) <= 2
    assert np.max(np.abs(out - wanted)[200:]) < 8_000 * 0.02


def test_what_16_khz_cannot_carry_is_gone() -> None:
    """An alias would be echo that no reference explains."""
    out = Downsampler().feed(tone(0.0, 1.0, 9_500.0))
    assert np.sqrt(np.mean(out[200:].astype(float) ** 2)) < 8


def test_a_frame_gets_what_is_heard_while_it_is_taken() -> None:
    """Ahead by the lead, wherever periods and frames begin."""
    far = FarEnd()
    for i in range(40):
        far.write(tone(7 + i * PERIOD_S, PERIOD_S), 7 + i * PERIOD_S)
    for i in range(20):
        at_s = 7.1003 + i * 0.02
        found = far.read(at_s, FRAME).astype(float)
        wanted = expected(at_s + LEAD_S)
        assert np.max(np.abs(found - wanted)) < HALF_A_SAMPLE


def test_before_and_after_a_reply_there_is_silence() -> None:
    """And it is known when nothing of it can be in the air any more."""
    far = FarEnd()
    assert not far.is_heard(5.0)
    far.write(tone(0, 0.3), 5.0)
    assert not far.read(4.5, FRAME).any()
    assert far.is_heard(5.0)
    assert far.is_heard(5.3 + TAIL_S - 0.1)
    assert not far.is_heard(5.3 + TAIL_S + 0.1)
    for i in range(60):
        far.read(4.52 + i * 0.02, FRAME)
    assert not far.read(5.72, FRAME).any()


def test_pauses_within_a_reply_keep_its_time() -> None:
    """Silence is not told; what follows it is where it belongs."""
    far = FarEnd()
    far.write(tone(3.0, 0.3), 3.0)
    far.write(tone(4.0, 0.6), 4.0)
    assert not far.read(3.6, FRAME).any()
    for i in range(1, 30):
        far.read(3.6 + i * 0.02, FRAME)
    found = far.read(4.2, FRAME).astype(float)
    assert np.max(np.abs(found - expected(4.2 + LEAD_S))) < HALF_A_SAMPLE
    assert far.relocks == 0


@pytest.mark.parametrize("ppm", [-300, 300])
def test_a_speaker_whose_clock_drifts_is_followed_by_single_samples(ppm: int) -> None:
    """Over five minutes the reference never leaves the frame by more than 8 ms, without a jump."""
    far, written = FarEnd(), 0
    rate = 1 + ppm * 1e-6
    worst = 0.0
    for i in range(15_000):
        at_s = i * 0.02
        while written * PERIOD_S * rate < at_s + 0.3:
            far.write(tone(written * PERIOD_S, PERIOD_S, 50.0), written * PERIOD_S * rate)
            written += 1
        found = far.read(at_s, FRAME).astype(float)
        if i < 100 or i % 50:
            continue
        phase = 2 * math.pi * 50 * np.arange(FRAME) / RATE_HZ
        angle = math.atan2(float(found @ np.cos(phase)), float(found @ np.sin(phase)))
        played_s = (at_s + LEAD_S) / rate
        off = (angle / (2 * math.pi * 50) - played_s + 0.01) % 0.02 - 0.01
        worst = max(worst, abs(off))
    assert worst < 0.008
    assert far.relocks == 0
    assert far.shifts == pytest.approx(300 * 300e-6 * RATE_HZ, rel=0.1)


def test_a_stream_that_starts_anew_is_aligned_anew() -> None:
    """With another latency: what was not heard of the old one is forgotten."""
    far = FarEnd()
    far.write(tone(0, 1.0), 10.0)
    far.read(10.1, FRAME)
    far.write(tone(10.3, 0.5), 10.3)
    found = far.read(10.32, FRAME).astype(float)
    assert np.max(np.abs(found - expected(10.32 + LEAD_S))) < HALF_A_SAMPLE
    assert far.relocks == 1


def test_a_device_with_less_latency_than_the_lead_gets_less_lead() -> None:
    """Nothing is asked for before it was written; the lead shrinks until it fits."""
    far = FarEnd()
    for i in range(100):
        far.write(tone(i * PERIOD_S, PERIOD_S), i * PERIOD_S)
        at_s = i * PERIOD_S - 0.02
        far.read(at_s, 480)
    assert far.lead_s < LEAD_S
    before = far.late_samples
    assert before > 0
    for i in range(100, 200):
        far.write(tone(i * PERIOD_S, PERIOD_S), i * PERIOD_S)
        far.read(i * PERIOD_S - 0.02, 480)
    assert far.late_samples == before


def test_a_period_that_is_told_late_is_a_hole_and_moves_nothing() -> None:
    """A busy machine, once a second: the reference stays where the canceller has learned it."""
    far = FarEnd()
    written = 0
    for i in range(500):
        ahead_s = 0.12 if i % 50 < 42 else 0.0
        while written * PERIOD_S < i * 0.02 + ahead_s:
            far.write(tone(written * PERIOD_S, PERIOD_S), written * PERIOD_S)
            written += 1
        found = far.read(i * 0.02, FRAME).astype(float)
        if 10 < i % 50 < 42:
            assert np.max(np.abs(found - expected(i * 0.02 + LEAD_S))) < HALF_A_SAMPLE
    assert far.late_samples > 0
    assert far.lead_s == LEAD_S
    assert far.relocks == far.shifts == 0


def test_a_microphone_that_stands_still_does_not_fill_the_memory() -> None:
    """The oldest goes first and is counted."""
    far = FarEnd()
    for i in range(1_000):
        far.write(tone(i * PERIOD_S, PERIOD_S), i * PERIOD_S)
    assert len(far._data) <= MOST_S * RATE_HZ
    assert far.dropped_samples == pytest.approx((30 - MOST_S) * RATE_HZ, rel=0.01)
    found = far.read(29.0, FRAME).astype(float)
    assert np.max(np.abs(found - expected(29.0 + LEAD_S))) < HALF_A_SAMPLE


def test_a_microphone_that_was_away_jumps() -> None:
    """Half a second of frames is missing: no slow drift."""
    far = FarEnd()
    far.write(tone(0, 2.0), 0.0)
    far.read(0.1, FRAME)
    found = far.read(0.7, FRAME).astype(float)
    assert far.relocks == 1
    assert np.max(np.abs(found - expected(0.7 + LEAD_S))) < HALF_A_SAMPLE


def test_the_meter_finds_by_how_much_an_echo_lags() -> None:
    """From loudness alone, also an echo that seems to come first; noise has no lag."""
    dice = np.random.default_rng(3)
    loud = np.repeat(dice.uniform(100, 4_000, 80), 4)
    far = [(dice.standard_normal(FRAME) * level).astype(np.int16) for level in loud]
    for lag in (-4, 0, 3, 15):
        meter, found = OffsetMeter(), []
        for i in range(30, 250):
            near = (far[i - lag] * 0.1).astype(np.int16)
            found.append(meter.feed(near, far[i]))
        assert [one for one in found if one is not None] == [lag]
    meter = OffsetMeter()
    noise = [(dice.standard_normal(FRAME) * 100).astype(np.int16) for _ in range(200)]
    assert [meter.feed(noise[i], far[i]) for i in range(200)] == [None] * 200
    meter.reset()
    assert meter.feed(far[0], far[0]) is None
