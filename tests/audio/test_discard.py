"""`null` as the speaker: replies last as long as they would, and nobody hears them."""

from __future__ import annotations

import asyncio

import pytest

from agentd.audio.discard import PERIOD, Discard
from agentd.audio.opening import open_devices
from agentd.clock import FakeClock
from agentd.config.settings import Audio
from rig.waiting import running, until


class Stage:
    """What a device asks for, and when."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.device = Discard("null", self.clock)
        self.asked_s: list[float] = []

    def source(self, samples: int, latency_s: float) -> bytes:
        """Give silence."""
        assert (samples, latency_s) == (PERIOD, 0.0)
        self.asked_s.append(self.clock.monotonic())
        return bytes(2 * samples)

    async def play(self, periods: int) -> None:
        """Let so many more be asked for."""
        wanted = len(self.asked_s) + periods
        async with running(self.device.play(self.source)):
            await until(lambda: len(self.asked_s) >= wanted)


def test_a_second_of_sound_takes_a_second() -> None:
    """Fifty periods, 20 ms apart."""
    stage = Stage()
    asyncio.run(stage.play(50))
    gaps = [b - a for a, b in zip(stage.asked_s[:50], stage.asked_s[1:50], strict=False)]
    assert gaps == pytest.approx([0.02] * len(gaps))


def test_a_machine_that_was_stopped_does_not_make_up_for_an_hour() -> None:
    """At most a second's worth of periods comes at once."""
    stage = Stage()

    async def main() -> None:
        async with running(stage.device.play(stage.source)):
            await until(lambda: len(stage.asked_s) >= 5)
            stage.clock.advance(3_600.0)
            woke_s, before = stage.clock.monotonic(), len(stage.asked_s)
            await until(lambda: stage.asked_s[-1] > woke_s + 0.1)
            assert sum(at_s <= woke_s for at_s in stage.asked_s[before:]) <= 51

    asyncio.run(main())


def test_the_name_means_this_device() -> None:
    """PortAudio is not asked, which serves ALSA's own without a pause."""
    settings = Audio(playback_device="null")
    assert isinstance(open_devices(settings, FakeClock())[1], Discard)
