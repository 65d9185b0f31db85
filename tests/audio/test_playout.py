"""When samples are heard: exact between periods, right in the long run."""

from __future__ import annotations

import random

import pytest

from agentd.audio.echo.playout import PlayoutClock

PERIOD = 720  # 30 ms


def test_claims_that_jitter_give_a_steady_time_line() -> None:
    """10 ms of jitter in, less than 2 ms out."""
    clock, dice = PlayoutClock(), random.Random(1)
    stamps = [clock.stamp(PERIOD, i * 0.03, 0.08 + dice.uniform(-0.01, 0.01)) for i in range(1000)]
    errors = [stamp - (0.08 + i * 0.03) for i, stamp in enumerate(stamps)]
    assert max(abs(error) for error in errors[100:]) < 0.002


def test_a_drifting_device_is_followed() -> None:
    """100 ppm: after five minutes 30 ms, of which hardly any is left."""
    clock = PlayoutClock()
    stamps = [clock.stamp(PERIOD, i * 0.03 * 1.0001, 0.0) for i in range(10_000)]
    assert stamps[-1] == pytest.approx(9_999 * 0.03 * 1.0001, abs=0.001)


@pytest.mark.parametrize("step_s", [-0.03, 0.07])
def test_a_lasting_step_is_believed_soon(step_s: float) -> None:
    """The device ran dry, or dropped something: a quarter of a second later it is known."""
    clock = PlayoutClock()
    for i in range(100):
        clock.stamp(PERIOD, i * 0.03, 0.09)
    stamps = [clock.stamp(PERIOD, i * 0.03, 0.09 + step_s) for i in range(100, 120)]
    assert stamps[8:] == pytest.approx([i * 0.03 + 0.09 + step_s for i in range(108, 120)])


def test_a_device_that_ran_dry_is_believed_at_once() -> None:
    """What is written now cannot be heard in the past, whatever the time line says."""
    clock = PlayoutClock()
    for i in range(100):
        clock.stamp(PERIOD, i * 0.03, 0.08)
    assert clock.stamp(PERIOD, 3.12, 0.0) == pytest.approx(3.12)
    assert clock.stamp(PERIOD, 3.13, 0.02) == pytest.approx(3.15)


def test_a_new_stream_is_believed_at_once() -> None:
    """After a jump, and after the device was closed."""
    clock = PlayoutClock()
    clock.stamp(PERIOD, 1.0, 0.5)
    assert clock.stamp(PERIOD, 9.0, 0.0) == 9.0
    clock.reset()
    assert clock.stamp(PERIOD, 9.05, 0.0) == 9.05
