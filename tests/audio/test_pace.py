"""What counts as a device that does not keep time, and what does not."""

from __future__ import annotations

import random
from typing import Literal

import pytest

from agentd.audio.pace import AHEAD_S, TAKES_TOO_FAST, TOO_FAST, TOO_SLOW, Pace
from agentd.audio.supervise import DeviceTrouble

PERIOD_S = 0.04
Way = Literal["capture", "playback"]


class Stream:
    """A device on a clock of its own."""

    def __init__(self, doubt: DeviceTrouble | None = None, way: Way = "capture") -> None:
        self.pace = Pace(doubt, way)
        self.now_s = 500.0
        self.found: list[DeviceTrouble] = []

    def run(self, seconds: float, *, speed: float = 1.0, jitter_s: float = 0.0) -> Stream:
        """Deliver at `speed` for so long, until something is wrong."""
        source = random.Random(1)
        end_s = self.now_s + seconds
        while self.now_s < end_s and not self.found:
            self.now_s += PERIOD_S / speed
            self.take(self.now_s + source.random() * jitter_s)
        return self

    def burst(self, seconds: float) -> Stream:
        """Deliver so much at once."""
        for _ in range(round(seconds / PERIOD_S)):
            self.take(self.now_s)
        return self

    def wait(self, seconds: float) -> Stream:
        """Deliver nothing."""
        self.now_s += seconds
        return self

    def take(self, arrived_s: float, missing_s: float = 0.0) -> None:
        trouble = self.pace.take(PERIOD_S, arrived_s, missing_s)
        if trouble is not None:
            self.found.append(trouble)


@pytest.mark.parametrize("speed", [0.95, 0.999, 1.0, 1.001, 1.04])
def test_a_device_on_a_clock_is_in_order_for_hours(speed: float) -> None:
    """Crystals differ, and arrivals jitter by more than a period."""
    assert not Stream().run(7_200, speed=speed, jitter_s=0.1).found


@pytest.mark.parametrize(
    ("speed", "within_s"), [(360.0, 0.1), (120.0, 0.1), (2.0, 4.0), (1.25, 20.0), (1.09, 80.0)]
)
def test_a_device_that_is_faster_than_time(speed: float, within_s: float) -> None:
    """ALSA's null behind a plug, and 48 for 44.1 kHz."""
    assert Stream().run(within_s, speed=speed).found == [TOO_FAST]
    assert Stream().run(600).run(within_s, speed=speed).found == [TOO_FAST]


@pytest.mark.parametrize("speed", [0.85, 0.5, 0.25])
def test_a_device_that_is_slower_than_time(speed: float) -> None:
    """Half the rate that it says; within half a minute."""
    stream = Stream().run(35, speed=speed)
    assert stream.found == [TOO_SLOW]
    assert Stream().run(600).run(45, speed=speed).found == [TOO_SLOW]


def test_the_backlog_of_a_stall_is_no_fault() -> None:
    """A sound server keeps what a stopped program has not fetched."""
    stream = Stream().run(10)
    for stall_s in (0.5, 2.0, 30.0, 100.0):
        stream.wait(stall_s).burst(stall_s).run(20)
    assert not stream.found


def test_a_stall_is_no_licence() -> None:
    """What follows a long pause for longer than the pause itself is too fast."""
    assert TOO_FAST in Stream().run(10).wait(20).burst(20 + AHEAD_S + 1).found
    assert TOO_FAST in Stream().run(10).wait(60).run(30).burst(AHEAD_S + 1).found


def test_what_a_device_holds_when_it_is_opened_is_no_fault() -> None:
    """Two seconds at once."""
    assert not Stream().burst(2.0).run(60).found


def test_overruns_are_not_the_devices_fault() -> None:
    """Half of the sound is lost because this machine is slow: the device was in time."""
    stream = Stream()
    for _ in range(2_000):
        stream.now_s += 2 * PERIOD_S
        stream.take(stream.now_s, missing_s=PERIOD_S)
    assert not stream.found


def test_a_machine_that_slept_is_no_slow_device() -> None:
    """Suspended for a minute, again and again."""
    stream = Stream()
    for _ in range(20):
        stream.run(8).wait(60)
    assert not stream.found


def test_a_busy_spell_is_no_slow_device() -> None:
    """A window in which little came, then two whole ones."""
    stream = Stream()
    for _ in range(10):
        stream.run(15, speed=0.5).run(25)
    assert not stream.found


def test_time_that_goes_backwards_is_none() -> None:
    """Arrivals out of order do not add up to a fault."""
    stream = Stream().run(5)
    for _ in range(200):
        stream.now_s += PERIOD_S
        stream.take(stream.now_s)
        stream.take(stream.now_s - 0.02)
        stream.now_s += PERIOD_S
    assert not stream.found


def test_belief_is_earned_by_two_seconds_in_time() -> None:
    """More where slowness was the doubt, which shows later, and then at the first look."""
    stream = Stream(TOO_FAST).run(1.5)
    assert not stream.pace.proved
    assert stream.run(1.0).pace.proved
    stream = Stream(TOO_SLOW).run(8)
    assert not stream.pace.proved
    assert stream.run(6).pace.proved
    slow = Stream(TOO_SLOW).run(11.9, speed=0.5)
    assert slow.found == [TOO_SLOW]
    assert not slow.pace.proved
    assert not Pace().proved


# ── a speaker asks instead of delivering ──────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("speed", "within_s"), [(360.0, 0.1), (2.0, 4.0), (1.25, 20.0), (1.09, 90.0)]
)
def test_a_speaker_that_asks_faster_than_time(speed: float, within_s: float) -> None:
    """ALSA's null, and 48 for 44.1 kHz."""
    assert Stream(way="playback").run(within_s, speed=speed).found == [TAKES_TOO_FAST]
    stream = Stream(way="playback").run(600).run(within_s, speed=speed)
    assert stream.found == [TAKES_TOO_FAST]


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.95, 1.0, 1.04])
def test_a_speaker_on_a_clock_or_slower_is_in_order_for_hours(speed: float) -> None:
    """Slower ones are heard to be."""
    assert not Stream(way="playback").run(7_200, speed=speed, jitter_s=0.1).found


@pytest.mark.parametrize("buffer_s", [0.1, 0.24, 0.5, 2.0])
def test_a_speaker_that_runs_dry_again_and_again_is_no_fault(buffer_s: float) -> None:
    """What lay in its buffer is asked for at once: the machine is busy, the device in order."""
    stream = Stream(way="playback").burst(buffer_s)
    for _ in range(600):
        stream.run(0.5).wait(buffer_s).burst(buffer_s)
    assert not stream.found
