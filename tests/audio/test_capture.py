"""The microphone stage: frames with true times and numbers, and a device that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agentd.audio import formats
from agentd.audio.capture import Microphone, SampleClock
from agentd.audio.fakes import FakeCapture
from agentd.clock import FakeClock, SystemClock
from agentd.config.settings import Audio
from agentd.errors import CaptureFailed as CaptureLostError
from agentd.errors import DeviceBusy, DeviceNotFound, DeviceWedged
from agentd.events import (
    CaptureBack,
    CaptureHeard,
    CaptureLost,
    CaptureSilent,
    Event,
    Frame,
    FramesLost,
    StreamWedged,
)
from rig.waiting import running, until

FRAME = bytes(formats.FRAME_BYTES)
Body = Callable[["Bench"], Coroutine[Any, Any, None]]


class Bench:
    """A microphone on a fake device."""

    def __init__(self, *, gain_db: float = 0.0, stall_s: float = 60.0) -> None:
        self.clock = FakeClock()
        self.device = FakeCapture()
        self.frames: list[Frame] = []
        self.events: list[Event] = []
        self.microphone = Microphone(
            Audio(capture_gain_db=gain_db),
            clock=self.clock,
            emit=self.events.append,
            on_frame=self.frames.append,
            device=self.device,
            stall_s=stall_s,
        )

    def say(self, frames: int = 1, *, overrun: bool = False) -> None:
        """Deliver frames in time."""
        for _ in range(frames):
            self.clock.advance(formats.FRAME_S)
            self.device.say(FRAME, self.clock.monotonic(), overrun=overrun)

    def named(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def run(body: Body, **options: Any) -> Bench:
    """Run a body beside the stage."""
    bench = Bench(**options)

    async def main() -> None:
        async with running(bench.microphone.run()):
            await bench.device.until(opened=1)
            await body(bench)

    asyncio.run(main())
    return bench


def test_frames_carry_numbers_and_the_time_of_their_first_sample() -> None:
    """20 ms apart, counted from 0."""

    async def body(bench: Bench) -> None:
        bench.say(3)

    bench = run(body)
    assert [frame.index for frame in bench.frames] == [0, 1, 2]
    assert [frame.at_s for frame in bench.frames] == pytest.approx([1000.0, 1000.02, 1000.04])
    assert bench.named(CaptureBack) == [CaptureBack(device="fake microphone", outage_s=0.0)]
    assert bench.device.closed == 1


def test_periods_of_any_length_become_frames() -> None:
    """A device may deliver 50 ms at once, or 5."""

    async def body(bench: Bench) -> None:
        pcm = formats.to_pcm([i if i % 2 else -i for i in range(800)])
        bench.device.say(pcm[:1_500], 1_000.05)
        bench.device.say(pcm[1_500:], 1_000.05)

    bench = run(body)
    assert b"".join(frame.pcm for frame in bench.frames) == formats.to_pcm(
        [i if i % 2 else -i for i in range(640)]
    )


def test_an_overrun_is_counted_told_and_shows_in_the_numbers() -> None:
    """Hiding it would hide lost speech."""

    async def body(bench: Bench) -> None:
        bench.say(2)
        bench.clock.advance(0.1)
        bench.say(1, overrun=True)

    bench = run(body)
    assert [frame.index for frame in bench.frames] == [0, 1, 7]
    assert bench.named(FramesLost) == [FramesLost(frames=5, cause="overrun")]
    stats = bench.microphone.stats
    assert (stats.frames, stats.overruns, stats.lost_frames) == (3, 1, 5)


def test_gain_is_applied_before_anything_else_hears_it() -> None:
    """And limited."""

    async def body(bench: Bench) -> None:
        bench.device.say(formats.to_pcm([100, -100] * 160), bench.clock.monotonic())

    bench = run(body, gain_db=20.0)
    assert max(map(abs, formats.samples(bench.frames[0].pcm))) in {999, 1_000}


def test_level_is_that_of_the_newest_frame() -> None:
    """Digital silence before anything was heard."""

    async def body(bench: Bench) -> None:
        assert bench.microphone.stats.level_dbfs == formats.SILENCE_DBFS
        bench.device.say(formats.to_pcm([16_384, -16_384] * 160), bench.clock.monotonic())
        assert bench.microphone.stats.level_dbfs == pytest.approx(-6.02, abs=0.01)
        assert bench.microphone.stats.alive

    run(body)


def test_a_missing_microphone_is_told_once_and_found_when_it_comes() -> None:
    """A1: no microphone at the start is not fatal."""
    bench = Bench()
    bench.device.fails_to_open = DeviceNotFound("mic is not there. Plug it in")

    async def main() -> None:
        async with running(bench.microphone.run()):
            await until(lambda: len(bench.clock.slept) >= 10)
            assert bench.events == [
                CaptureLost(device="fake microphone", cause="mic is not there", remedy="Plug it in")
            ]
            assert not bench.microphone.stats.alive
            bench.device.fails_to_open = None
            await bench.device.until(opened=1)
            bench.say()

    asyncio.run(main())
    assert isinstance(bench.events[-1], CaptureBack)
    assert bench.events[-1].outage_s > 5.0
    assert max(bench.clock.slept) <= 1.0


def test_a_new_cause_is_told_again() -> None:
    """First missing, then busy: the remedy is another one."""
    bench = Bench()
    bench.device.fails_to_open = DeviceNotFound("gone. Plug it in")

    async def main() -> None:
        async with running(bench.microphone.run()):
            await until(lambda: len(bench.clock.slept) >= 3)
            bench.device.fails_to_open = DeviceBusy("busy. Stop the other program")
            await until(lambda: len(bench.named(CaptureLost)) == 2)

    asyncio.run(main())
    causes = [event.cause for event in bench.events if isinstance(event, CaptureLost)]
    assert causes == ["gone", "busy"]


def test_an_unplugged_microphone_comes_back() -> None:
    """The numbers show how long nothing was heard, so that no utterance is glued together."""

    async def body(bench: Bench) -> None:
        bench.say(2)
        bench.device.fail(CaptureLostError("cable. Check it"))
        await bench.device.until(opened=2)
        bench.clock.advance(1.0)
        bench.say(1)

    bench = run(body)
    assert [type(event) for event in bench.events] == [CaptureBack, CaptureLost, CaptureBack]
    assert bench.frames[2].index - bench.frames[1].index > 50


def test_a_device_that_falls_silent_without_an_error_is_reopened() -> None:
    """PortAudio #930, #1074: the callback stops, nobody says so."""

    async def body(bench: Bench) -> None:
        bench.say(2)
        await bench.device.until(opened=2)
        bench.say(1)

    bench = run(body, stall_s=0.02)
    lost = bench.named(CaptureLost)
    assert len(lost) == 1
    assert "no sign of life" in lost[0].message()
    assert bench.device.opened == 2


def test_a_stream_that_cannot_be_closed_is_told_and_replaced() -> None:
    """PortAudio #1037: crash-only, but sound goes on."""

    async def body(bench: Bench) -> None:
        bench.say(1)
        bench.device.fail(DeviceWedged("closing has not returned. Replug it"))
        await bench.device.until(opened=2)
        bench.say(1)

    bench = run(body)
    assert bench.named(StreamWedged) == [StreamWedged(device="fake microphone", abandoned=1)]
    assert bench.microphone.stats.wedged == 1


def test_pause_really_closes_the_device() -> None:
    """Mute is sovereign: no frame is even captured. It is no outage, and its end is told."""

    async def body(bench: Bench) -> None:
        bench.say(1)
        bench.microphone.pause()
        await bench.microphone.closed()
        assert not bench.device.is_open
        assert not bench.microphone.stats.alive
        bench.microphone.resume()
        await bench.device.until(opened=2)
        bench.say(1)

    bench = run(body)
    told = CaptureBack(device="fake microphone", outage_s=0.0)
    assert bench.events == [told, told]


def test_paused_before_the_start_never_opens() -> None:
    """Muted survives a restart."""
    bench = Bench()
    bench.microphone.pause()

    async def main() -> None:
        async with running(bench.microphone.run()):
            for _ in range(20):
                await asyncio.sleep(0)
            assert bench.device.opened == 0
            bench.microphone.resume()
            await bench.device.until(opened=1)

    asyncio.run(main())


def test_pausing_while_the_microphone_is_missing_stops_the_complaints() -> None:
    """Nobody needs a microphone that is muted."""
    bench = Bench()
    bench.device.fails_to_open = DeviceNotFound("gone. Plug it in")

    async def main() -> None:
        async with running(bench.microphone.run()):
            await until(lambda: bench.events)
            bench.microphone.pause()
            await bench.microphone.closed()
            bench.device.fails_to_open = None
            bench.microphone.resume()
            await bench.device.until(opened=1)
            bench.say(1)

    asyncio.run(main())
    assert isinstance(bench.events[-1], CaptureBack)


# ── what is wrong with a device that delivers ─────────────────────────────────────────────────

NOISE = formats.to_pcm([3, -3] * (formats.FRAME_SAMPLES // 2))
ON_OFFSET = formats.to_pcm([1_641, 1_635] * (formats.FRAME_SAMPLES // 2))


def test_a_constant_offset_is_taken_out_before_gain_and_level() -> None:
    """Five percent of full scale would be -26 dBFS, and with 20 dB of gain all of it."""

    async def body(bench: Bench) -> None:
        for _ in range(5):
            bench.clock.advance(formats.FRAME_S)
            bench.device.say(ON_OFFSET, bench.clock.monotonic())
        assert bench.microphone.stats.offset_percent == pytest.approx(5.0, abs=0.01)
        assert bench.microphone.stats.level_dbfs == pytest.approx(-60.8, abs=0.3)

    bench = run(body, gain_db=20.0)
    assert {abs(v) for frame in bench.frames for v in formats.samples(frame.pcm)} <= {29, 30}


@pytest.mark.parametrize("frame", [FRAME, formats.to_pcm([-9] * formats.FRAME_SAMPLES)])
def test_a_microphone_without_sound_is_reported_and_still_heard(frame: bytes) -> None:
    """In the journal and the status, with a remedy; it is not lost, and the first sound ends it."""

    async def body(bench: Bench) -> None:
        for _ in range(600):
            bench.clock.advance(formats.FRAME_S)
            bench.device.say(frame, bench.clock.monotonic())
        stats = bench.microphone.stats
        assert stats.alive
        assert "it delivers" in stats.trouble
        assert "alsamixer" in stats.remedy
        assert stats.frames == 600
        bench.microphone.pause()
        assert not bench.microphone.stats.trouble
        bench.microphone.resume()
        bench.clock.advance(formats.FRAME_S)
        bench.device.say(NOISE, bench.clock.monotonic())
        assert not bench.microphone.stats.trouble

    bench = run(body)
    (silent,) = bench.named(CaptureSilent)
    assert isinstance(silent, CaptureSilent)
    assert silent.silent_s == pytest.approx(10.0)
    assert "alsamixer" in silent.remedy
    assert bench.named(CaptureHeard) == [CaptureHeard(device="fake microphone")]
    assert not bench.named(CaptureLost)


def test_the_channel_that_works_is_named() -> None:
    """Of an array whose chosen channel is dead."""

    async def body(bench: Bench) -> None:
        bench.device.other_channel = 3
        bench.say(600)

    (silent,) = run(body).named(CaptureSilent)
    assert "audio.capture_channel = 3" in silent.message()


def test_a_file_that_has_ended_is_silent_by_right() -> None:
    """For as long as it likes."""

    async def body(bench: Bench) -> None:
        bench.device.has_ended = True
        bench.say(3_000)

    bench = run(body)
    assert not bench.named(CaptureSilent)
    assert not bench.microphone.stats.trouble


def rush(bench: Bench, periods: int, *, speed: float) -> None:
    """Deliver at a speed that is not that of time."""
    for _ in range(periods):
        bench.clock.advance(formats.FRAME_S / speed)
        bench.device.say(NOISE, bench.clock.monotonic())


def test_a_device_without_a_clock_is_closed_and_tried_again_calmly() -> None:
    """Its sound is not heard, nor said to be back, until it has kept time for two seconds."""
    bench = Bench()

    async def main() -> None:
        async with running(bench.microphone.run()):
            for opened in range(1, 7):
                await bench.device.until(opened=opened)
                rush(bench, 400, speed=200.0)
                await until(lambda: bench.device.closed == opened)  # noqa: B023
            heard = bench.microphone.stats.frames
            assert heard < 200
            assert "faster than time" in bench.microphone.stats.trouble
            assert not bench.microphone.stats.alive
            await bench.device.until(opened=7)
            rush(bench, 99, speed=1.0)
            assert bench.microphone.stats.frames == heard
            rush(bench, 50, speed=1.0)
            assert bench.microphone.stats.frames > heard
            assert isinstance(bench.events[-1], CaptureBack)
            rush(bench, 400, speed=200.0)
            await bench.device.until(opened=8)

    asyncio.run(main())
    kinds = [type(event) for event in bench.events]
    assert kinds == [CaptureBack, CaptureLost, CaptureBack, CaptureLost]
    assert bench.clock.slept == [5.0, 15.0, 30.0, 60.0, 60.0, 60.0, 5.0]


def test_a_device_that_is_too_slow_is_closed_and_doubted_for_longer() -> None:
    """Half the rate: reported within half a minute; the next time at the first look."""
    bench = Bench()

    async def main() -> None:
        async with running(bench.microphone.run()):
            await bench.device.until(opened=1)
            rush(bench, 800, speed=0.5)
            await bench.device.until(opened=2)
            heard = bench.microphone.stats.frames
            rush(bench, 300, speed=0.5)
            await bench.device.until(opened=3)
            assert bench.microphone.stats.frames == heard
            rush(bench, 700, speed=1.0)
            assert bench.microphone.stats.frames > heard

    asyncio.run(main())
    kinds = [type(event) for event in bench.events]
    assert kinds == [CaptureBack, CaptureLost, CaptureBack]
    assert "less sound than time" in bench.events[1].message()


def test_a_mute_forgets_the_doubt() -> None:
    """Who unmutes wants to be heard at once."""
    bench = Bench()

    async def main() -> None:
        async with running(bench.microphone.run()):
            await bench.device.until(opened=1)
            rush(bench, 400, speed=200.0)
            await bench.device.until(opened=2)
            bench.microphone.pause()
            await bench.microphone.closed()
            bench.microphone.resume()
            await bench.device.until(opened=3)
            before = bench.microphone.stats.frames
            rush(bench, 1, speed=1.0)
            assert bench.microphone.stats.frames == before + 1

    asyncio.run(main())


# ── when samples were taken ───────────────────────────────────────────────────────────────────


def test_jitter_of_arrivals_does_not_move_the_samples() -> None:
    """Late is late; the sound itself is evenly spaced."""
    clock = SampleClock()
    lateness = [0.0, 0.03, 0.005, 0.05, 0.0, 0.04]
    firsts = [
        clock.stamp(100.0 + 0.02 * (i + 1) + late, 0.02, False)[0]
        for i, late in enumerate(lateness)
    ]
    assert firsts == pytest.approx([100.0 + 0.02 * i for i in range(6)], abs=0.001)


def test_an_early_arrival_corrects_a_late_start() -> None:
    """The lower edge of arrivals is the truth."""
    clock = SampleClock()
    clock.stamp(100.07, 0.02, False)
    assert clock.stamp(100.04, 0.02, False)[0] == pytest.approx(100.02)


def test_a_slow_device_clock_is_followed() -> None:
    """300 ppm slow: after a minute still within 10 ms."""
    clock = SampleClock()
    now = 0.0
    first = 0.0
    for _ in range(3_000):
        now += 0.02 * 1.0003
        first, _ = clock.stamp(now, 0.02, False)
    assert first == pytest.approx(now - 0.02, abs=0.01)


def test_a_stretch_that_arrives_far_too_late_relocks() -> None:
    """The device stood still and said nothing."""
    clock = SampleClock()
    clock.stamp(100.02, 0.02, False)
    assert clock.stamp(105.0, 0.02, False)[0] == pytest.approx(104.98)


def test_the_real_devices_are_made_from_the_settings(tmp_path: Any) -> None:
    """The name in the configuration is the name in the status."""
    settings = Audio(capture_device=f"file:{tmp_path}/a.wav", playback_device=f"file:{tmp_path}/b")

    async def main() -> Microphone:
        return Microphone(
            settings, clock=SystemClock(), emit=lambda _: None, on_frame=lambda _: None
        )

    assert asyncio.run(main()).stats.device == settings.capture_device
