"""Clocks: real, scaled and virtual."""

from __future__ import annotations

import asyncio

import pytest

from agentd.clock import FakeClock, SystemClock, kernel_clock_synchronised


def test_the_system_clock_never_runs_backwards() -> None:
    """Two readings in a row are in order, on both scales."""
    for clock in (SystemClock(), SystemClock(60.0)):
        first = clock.monotonic()
        assert clock.monotonic() >= first


def test_a_scaled_clock_lets_minutes_pass_in_seconds() -> None:
    """At scale 1000 ten virtual seconds are waited for in ten milliseconds of real time."""
    clock = SystemClock(1000.0)
    monotonic, wall = clock.monotonic(), clock.wall().unix_s
    asyncio.run(clock.sleep(10.0))
    assert clock.monotonic() - monotonic >= 10.0
    assert clock.wall().unix_s - wall >= 9.0


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_that_stops_time_is_refused(scale: float) -> None:
    """Time must go forward."""
    with pytest.raises(ValueError, match="above 0"):
        SystemClock(scale)


def test_the_wall_clock_says_whether_it_is_synchronised() -> None:
    """The answer is the kernel's."""
    assert SystemClock().wall().synchronised is kernel_clock_synchronised()


def test_without_a_c_library_the_clock_counts_as_not_synchronised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be asked is not trusted."""

    def no_library(*_args: object, **_kwargs: object) -> object:
        raise OSError("no libc")

    monkeypatch.setattr("ctypes.CDLL", no_library)
    assert kernel_clock_synchronised() is False


def test_a_fake_clock_moves_only_when_told() -> None:
    """Monotonic and wall time advance together; the wall clock may jump alone."""
    clock = FakeClock(now_s=10.0, unix_s=1000.0)
    clock.advance(2.5)
    clock.unix_s -= 86_400
    assert clock.monotonic() == 12.5
    assert clock.wall().unix_s == 1002.5 - 86_400


def test_a_fake_clock_does_not_run_backwards() -> None:
    """A mistake in a test is told."""
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)


def test_waiting_on_a_fake_clock_advances_it() -> None:
    """`sleep` returns at once and is remembered."""
    clock = FakeClock(now_s=0.0)
    asyncio.run(clock.sleep(3.0))
    assert (clock.monotonic(), clock.slept) == (3.0, [3.0])
