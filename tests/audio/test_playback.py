"""The speaker stage: replies are heard, counted, stopped at once, and survive a lost device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agentd.audio import formats
from agentd.audio.fakes import FakePlayback
from agentd.audio.playback import Player
from agentd.clock import FakeClock
from agentd.config.settings import Audio
from agentd.errors import DeviceNotFound, DeviceWedged
from agentd.errors import PlaybackFailed as PlaybackLostError
from agentd.events import (
    Event,
    PlaybackBack,
    PlaybackLost,
    PlaybackMark,
    ReplyAudio,
    ReplyCancelled,
    ReplyComplete,
    ReplyDrained,
    ReplyOverflow,
    ReplyStarted,
    Speaker,
    StreamWedged,
    TranscriptText,
    Underrun,
)
from rig.waiting import running, until

Body = Callable[["Bench"], Coroutine[Any, Any, None]]


def reply(milliseconds: float, value: int = 1_000) -> bytes:
    """Return so much reply."""
    return formats.to_pcm([value] * round(milliseconds * 24))


class Bench:
    """A player on a fake device, at full volume."""

    def __init__(self, *, far_end: bool = False, stall_s: float = 60.0, **audio: Any) -> None:
        self.clock = FakeClock()
        self.device = FakePlayback(clock=self.clock)
        self.events: list[Event] = []
        self.marks: list[PlaybackMark] = []
        self.far_end: list[tuple[bytes, float]] = []
        self.player = Player(
            Audio(volume_percent=100, **audio),
            clock=self.clock,
            emit=self.events.append,
            on_mark=self.marks.append,
            on_far_end=(lambda pcm, at_s: self.far_end.append((pcm, at_s))) if far_end else None,
            device=self.device,
            stall_s=stall_s,
        )

    def named(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def run(body: Body, **options: Any) -> Bench:
    """Run a body beside the stage."""
    bench = Bench(**options)

    async def main() -> None:
        async with running(bench.player.run()):
            await bench.device.until(opened=1)
            await body(bench)

    asyncio.run(main())
    return bench


def test_a_reply_is_told_when_it_starts_and_when_it_was_heard() -> None:
    """First sample, progress, last sample."""

    async def body(bench: Bench) -> None:
        bench.player.hear(ReplyAudio(1, reply(250)))
        bench.player.hear(ReplyComplete(1))
        bench.device.tick(15)

    bench = run(body)
    assert bench.events == [
        PlaybackBack(device="fake speaker", outage_s=0.0),
        ReplyStarted(turn=1),
        ReplyDrained(turn=1, heard_ms=250.0),
    ]
    assert bench.marks[0] == PlaybackMark(1, 0.0, False)
    assert bench.marks[-1] == PlaybackMark(1, 250.0, True)
    assert bench.device.played.startswith(reply(250))


def test_cancelled_falls_silent_within_one_period() -> None:
    """And tells what was heard of it."""

    async def body(bench: Bench) -> None:
        bench.player.hear(ReplyAudio(1, reply(1_000)))
        bench.device.tick(5)
        bench.player.hear(ReplyCancelled(1))
        bench.device.tick(1)
        assert set(formats.samples(bench.device.tick(3))) == {0}

    bench = run(body)
    assert bench.marks[-1] == PlaybackMark(1, 105.0, True)


def test_a_burst_far_faster_than_real_time_is_played_whole() -> None:
    """A4: 30 s of reply in one go."""

    async def body(bench: Bench) -> None:
        for _ in range(300):
            bench.player.hear(ReplyAudio(1, reply(100)))
        bench.player.hear(ReplyComplete(1))
        assert bench.player.stats.buffered_ms == 30_000
        bench.device.tick(1_502)

    bench = run(body)
    assert bench.marks[-1] == PlaybackMark(1, 30_000.0, True)
    assert bench.player.stats.underruns == 0


def test_underruns_are_counted_and_told() -> None:
    """A4: the speaker ran dry in the middle."""

    async def body(bench: Bench) -> None:
        bench.player.hear(ReplyAudio(1, reply(100)))
        bench.device.tick(10)
        bench.player.hear(ReplyAudio(1, reply(300)))
        bench.device.tick(1)

    bench = run(body)
    assert bench.named(Underrun) == [Underrun(turn=1, gap_ms=100.0)]
    assert bench.player.stats.underruns == 1
    assert bench.player.stats.cushion_ms > 80


def test_a_reply_beyond_all_bounds_is_an_error_told_once() -> None:
    """Ten minutes unheard: dropped, never silently."""

    async def body(bench: Bench) -> None:
        for _ in range(605):
            bench.player.hear(ReplyAudio(1, reply(1_000)))

    bench = run(body)
    assert bench.named(ReplyOverflow) == [ReplyOverflow(turn=1, buffered_s=600.0)]


def test_transcripts_are_not_heard() -> None:
    """They share the way down."""

    async def body(bench: Bench) -> None:
        bench.player.hear(TranscriptText(1, Speaker.MODEL, "hello"))
        assert set(bench.device.tick(3)) == {0}

    run(body)


def test_the_far_end_is_what_was_really_played() -> None:
    """After volume, with sounds, at the time at which it is heard; silence is not told."""

    async def body(bench: Bench) -> None:
        bench.device.latency_s = 0.06
        bench.player.set_volume(50)
        bench.device.tick(2)
        bench.player.sound(reply(40, 800))
        bench.device.tick(2)

    bench = run(body, far_end=True)
    assert b"".join(pcm for pcm, _ in bench.far_end) == bench.device.played[2 * 960 :]
    assert set(formats.samples(bench.far_end[0][0])) == {100}
    assert bench.far_end[0][1] == pytest.approx(1_000.0 + 3 * 0.02 + 0.06)


def test_a_device_that_ran_dry_is_told_to_the_canceller_once() -> None:
    """Also where only silence was played; its times begin anew."""

    async def body(bench: Bench) -> None:
        tears: list[int] = []
        bench.player.tell_far_end(lambda _pcm, _at_s: None, lambda: tears.append(1))
        bench.device.tick(2)
        assert tears == []
        bench.device.ran_dry += 1
        bench.device.tick(2)
        assert tears == [1]
        assert bench.player.stats.ran_dry == 1

    run(body)


def test_sounds_can_be_hushed() -> None:
    """An alarm ends by a press."""

    async def body(bench: Bench) -> None:
        bench.player.sound(reply(10_000))
        bench.device.tick(1)
        bench.player.hush()
        assert set(bench.device.tick(2)) == {0}

    run(body)


def test_a_speaker_lost_in_a_reply_ends_the_reply_and_the_next_is_heard() -> None:
    """A2: the session is told that nothing more is heard, so nobody waits for ever."""

    async def body(bench: Bench) -> None:
        bench.player.hear(ReplyAudio(1, reply(1_000)))
        bench.device.tick(6)
        bench.device.fail(PlaybackLostError("speaker has ended. Check its cable"))
        await until(lambda: bench.named(PlaybackLost))
        assert bench.marks[-1] == PlaybackMark(1, 100.0, True)
        await bench.device.until(opened=2)
        bench.player.hear(ReplyAudio(1, reply(1_000)))
        bench.device.tick(3)
        bench.player.hear(ReplyAudio(2, reply(100)))
        bench.player.hear(ReplyComplete(2))
        bench.device.tick(8)

    bench = run(body)
    assert bench.marks[-1] == PlaybackMark(2, 100.0, True)
    assert bench.named(PlaybackLost) == [
        PlaybackLost(device="fake speaker", cause="speaker has ended", remedy="Check its cable")
    ]
    assert len(bench.named(PlaybackBack)) == 2


def test_without_a_speaker_replies_end_unheard_at_once() -> None:
    """A2: missing from the start; the conversation goes on."""
    bench = Bench()
    bench.device.fails_to_open = DeviceNotFound("speaker is not there. Plug it in")

    async def main() -> None:
        async with running(bench.player.run()):
            await until(lambda: bench.named(PlaybackLost))
            bench.player.sound(reply(100))
            bench.player.hear(ReplyAudio(7, reply(100)))
            bench.player.hear(ReplyComplete(7))
            bench.player.hear(ReplyComplete(8))
            assert bench.marks == [PlaybackMark(7, 0.0, True), PlaybackMark(8, 0.0, True)]
            bench.device.fails_to_open = None
            await bench.device.until(opened=1)
            assert set(bench.device.tick(5)) == {0}

    asyncio.run(main())
    assert not bench.player.stats.underruns
    assert bench.player.stats.alive


def test_a_speaker_that_asks_for_nothing_is_reopened() -> None:
    """It stalls without an error."""

    async def body(bench: Bench) -> None:
        bench.device.tick(1)
        await bench.device.until(opened=2)

    bench = run(body, stall_s=0.02)
    assert "no sign of life" in bench.named(PlaybackLost)[0].message()


def test_a_wedged_stream_is_told() -> None:
    """PortAudio #1037."""

    async def body(bench: Bench) -> None:
        bench.device.tick(1)
        bench.device.fail(DeviceWedged("closing has not returned. Replug it"))
        await bench.device.until(opened=2)

    bench = run(body)
    assert bench.named(StreamWedged) == [StreamWedged(device="fake speaker", abandoned=1)]
    assert bench.player.stats.wedged == 1


def test_without_keep_alive_the_device_opens_for_sound_and_closes_after_silence() -> None:
    """For batteries, and cards that hiss."""
    bench = Bench(keep_alive=False)

    async def main() -> None:
        async with running(bench.player.run()):
            for _ in range(10):
                await asyncio.sleep(0)
            assert bench.device.opened == 0
            bench.player.hear(ReplyAudio(1, reply(100)))
            bench.player.hear(ReplyComplete(1))
            await bench.device.until(opened=1)
            bench.device.tick(110)
            await until(lambda: not bench.device.is_open)
            assert bench.marks[-1] == PlaybackMark(1, 100.0, True)
            bench.player.sound(reply(20, 700))
            await bench.device.until(opened=2)
            assert 700 in formats.samples(bench.device.tick(1))

    asyncio.run(main())
    assert not bench.named(PlaybackLost)


def test_the_device_may_ask_from_a_thread_of_its_own() -> None:
    """As PortAudio does; notes arrive on the loop."""

    async def body(bench: Bench) -> None:
        bench.player.hear(ReplyAudio(1, reply(100)))
        bench.player.hear(ReplyComplete(1))
        await asyncio.to_thread(bench.device.tick, 8)
        await until(lambda: bench.marks and bench.marks[-1].drained)

    bench = run(body)
    assert bench.marks[-1] == PlaybackMark(1, 100.0, True)


def rush(bench: Bench, periods: int, *, speed: float) -> bytes:
    """Let the device ask at a speed that is not that of time; return what it got."""
    bench.device.speed = speed
    return bench.device.tick(periods)


def test_a_device_without_a_clock_gets_no_reply_and_is_tried_again_calmly() -> None:
    """It is lost with a cause, and not said to be back until it has kept time for two seconds."""
    bench = Bench()

    async def main() -> None:
        async with running(bench.player.run()):
            for opened in range(1, 7):
                await bench.device.until(opened=opened)
                rush(bench, 400, speed=200.0)
                await until(lambda: bench.device.closed == opened)  # noqa: B023
            assert "takes sound faster than time" in bench.player.stats.trouble
            assert "agentd devices" in bench.player.stats.remedy
            assert not bench.player.stats.alive
            await bench.device.until(opened=7)
            rush(bench, 99, speed=1.0)
            assert not isinstance(bench.events[-1], PlaybackBack)
            rush(bench, 50, speed=1.0)
            assert isinstance(bench.events[-1], PlaybackBack)
            assert not bench.player.stats.trouble
            bench.player.hear(ReplyAudio(2, reply(500)))
            bench.player.hear(ReplyComplete(2))
            rush(bench, 60, speed=1.0)
            rush(bench, 400, speed=200.0)
            await bench.device.until(opened=8)

    asyncio.run(main())
    kinds = [type(event) for event in bench.events]
    assert kinds == [
        PlaybackBack, PlaybackLost, PlaybackBack, ReplyStarted, ReplyDrained, PlaybackLost,
    ]  # fmt: skip
    assert bench.clock.slept == [5.0, 15.0, 30.0, 60.0, 60.0, 60.0, 5.0]


def test_a_reply_to_a_device_in_doubt_is_not_swallowed_unseen() -> None:
    """It ends as unheard, as with any lost device; nothing of it goes to the device."""
    bench = Bench()

    async def main() -> None:
        async with running(bench.player.run()):
            await bench.device.until(opened=1)
            rush(bench, 400, speed=200.0)
            await bench.device.until(opened=2)
            bench.player.hear(ReplyAudio(1, reply(500)))
            bench.player.hear(ReplyComplete(1))
            assert not any(rush(bench, 40, speed=1.0))

    asyncio.run(main())
    assert not bench.named(ReplyStarted)
    assert bench.player.stats.playing_turn is None


def test_a_device_that_asks_from_its_own_thread_is_judged_there() -> None:
    """As PortAudio does, without a pause."""
    bench = Bench()

    async def main() -> None:
        async with running(bench.player.run()):
            await bench.device.until(opened=1)
            await asyncio.to_thread(rush, bench, 400, speed=200.0)
            await bench.device.until(opened=2)
            await asyncio.to_thread(rush, bench, 150, speed=1.0)
            await until(lambda: bench.player.stats.alive)

    asyncio.run(main())
    assert [type(event) for event in bench.events] == [PlaybackBack, PlaybackLost, PlaybackBack]


def test_a_slow_speaker_goes_on() -> None:
    """People hear that by themselves; silence would be worse."""

    async def body(bench: Bench) -> None:
        rush(bench, 2_000, speed=0.5)

    assert not run(body).named(PlaybackLost)
