"""A card that fails as hardware does, under PortAudio and ALSA themselves.

| row | injected | test |
| --- | --- | --- |
| A1 | missing at the start | test_alsa: a_microphone_missing_at_the_start |
| A1 | unplugged in speech, replugged | here: that_vanishes_in_speech; test_alsa: an_unplugged |
| A1 | replugged as another card | here: comes_back_as_another_card |
| A2 | missing at the start | here: a_speaker_missing_at_the_start |
| A2 | unplugged in a reply | here: vanishes_in_a_reply; test_alsa: a_speaker_unplugged |
| A3 | busy | test_alsa: that_another_program_uses |
| A3 | not permitted | here: nobody_may_open |
| A3 | wrong rate | here: of_another_rate |
| A3 | stops without an error | here: stands_still, not_started_again; test_alsa: stops_without |
| A3 | cannot be closed any more | here: cannot_be_closed; test_alsa: that_hangs |
| A4 | device underrun in a reply | here: runs_dry_in_a_reply |
| A4 | capture overrun | here: overrun_is_counted |
| A4 | reply late, bursty, faster than real time | here: in_bursts, faster_than_it_plays |
"""

from __future__ import annotations

import errno
import os
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from agentd.events import (
    CaptureBack,
    CaptureLost,
    FramesLost,
    PlaybackBack,
    PlaybackLost,
    PlaybackMark,
    ReplyAudio,
    ReplyComplete,
    StreamWedged,
    Underrun,
)
from rig.card import MISSING, REASON, Card
from rig.sound import SoundRig
from rig.waiting import until
from tests.audio.bench import Bench, run, tone

pytestmark = [pytest.mark.rig, pytest.mark.skipif(MISSING, reason=REASON)]

Samples = NDArray[np.int16]
SECOND = 24_000
FADE = 120  # samples that go down before a hole


def counting(begin: int, end: int) -> bytes:
    """Return a reply in which every sample has a value of its own, none of them 0."""
    return np.arange(begin, end, dtype="<i2").tobytes()


def sounding(card: Card) -> Samples:
    """Return what the card was given, without silence."""
    played = card.played
    loud: Samples = played[played != 0]
    return loud


async def reply(bench: Bench, turn: int, pcm: bytes) -> None:
    """Play a reply to its end."""
    bench.player.hear(ReplyAudio(turn, pcm))
    bench.player.hear(ReplyComplete(turn))
    await until(lambda: bench.marks and bench.marks[-1].turn == turn and bench.marks[-1].drained)


# ── A1: the microphone goes and comes ─────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["end", "unplug"])
def test_a1_a_microphone_that_vanishes_in_speech_is_told_and_heard_again(
    how: str, rig: SoundRig, capfd: pytest.CaptureFixture[str]
) -> None:
    """PortAudio runs in circles then; it must not write 100,000 lines into the journal."""
    card = Card(rig.home, "usb")

    async def body(bench: Bench) -> None:
        await bench.both_run()
        await until(lambda: len(bench.frames) >= 25)
        assert bench.loudest_dbfs() > -15
        gone_s = bench.now()
        getattr(card, how)()
        await until(lambda: bench.count(CaptureLost))
        assert bench.microphone.stats.trouble
        assert bench.last(CaptureLost).remedy == bench.microphone.stats.remedy != ""
        print(f"unplugged -> told: {bench.at(CaptureLost) - gone_s:.2f} s")
        heard, back_s = len(bench.frames), bench.now()
        card.work()
        await until(lambda: bench.loudest_dbfs(heard) > -15)
        print(f"plugged in -> heard: {bench.now() - back_s:.2f} s")
        assert not bench.microphone.stats.trouble

    run(rig, body, capture_device="usb")
    assert capfd.readouterr().err == ""


def test_what_python_and_crashes_say_still_reaches_stderr(
    rig: SoundRig, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only C's stream is silent: descriptor 2 is where it was."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        print("a traceback", file=sys.stderr, flush=True)
        os.write(2, b"last words\n")

    run(rig, body)
    assert capfd.readouterr().err == "a traceback\nlast words\n"


def test_a1_a_microphone_that_comes_back_as_another_card_is_found_by_its_name(
    rig: SoundRig,
) -> None:
    """The name is looked up at each opening, in ALSA's files as they are then."""
    first, second = Card(rig.home, "card1"), Card(rig.home, "card2", level=1_000)
    conf = rig.home / ".asoundrc"
    text = conf.read_text()
    conf.write_text(text + 'pcm.kitchen "card1"\n')

    async def body(bench: Bench) -> None:
        await until(lambda: bench.loudest_dbfs() > -15)
        first.unplug()
        await until(lambda: bench.count(CaptureLost))
        heard = len(bench.frames)
        conf.write_text(text + 'pcm.kitchen "card2"\n')
        await until(lambda: len(bench.frames) >= heard + 10)
        assert bench.loudest_dbfs(heard) == pytest.approx(-30.3, abs=0.5)

    run(rig, body, capture_device="kitchen")
    assert second.opened > 0


# ── A2: the speaker goes and comes ────────────────────────────────────────────────────────────


def test_a2_a_speaker_missing_at_the_start_is_told_and_found(rig: SoundRig) -> None:
    """The microphone works meanwhile, and a reply that nobody can hear ends at once."""
    card = Card(rig.home, "usb")
    card.refuse(errno.ENODEV)

    async def body(bench: Bench) -> None:
        await until(lambda: bench.count(PlaybackLost) and bench.frames)
        assert "usb is not there" in bench.player.stats.trouble
        assert "Plug it in" in bench.player.stats.remedy
        await reply(bench, 1, tone(1.0, SECOND))
        assert bench.marks[-1] == PlaybackMark(1, 0.0, True)
        card.work()
        await until(lambda: bench.count(PlaybackBack))
        assert not bench.player.stats.trouble
        await reply(bench, 2, counting(1, 12_001))

    bench = run(rig, body, playback_device="usb")
    assert bench.marks[-1] == PlaybackMark(2, 500.0, True)
    assert sounding(card).tobytes() == counting(1, 12_001)


@pytest.mark.parametrize("how", ["end", "unplug"])
def test_a2_a_speaker_that_vanishes_in_a_reply_does_not_hold_up_the_next(
    how: str, rig: SoundRig, capfd: pytest.CaptureFixture[str]
) -> None:
    """The cut reply ends with what was heard of it; the next one is whole."""
    card = Card(rig.home, "usb")

    async def body(bench: Bench) -> None:
        await bench.both_run()
        bench.player.hear(ReplyAudio(1, tone(20.0, SECOND)))
        await until(lambda: bench.marks and bench.marks[-1].heard_ms > 100)
        getattr(card, how)()
        await until(lambda: bench.count(PlaybackLost))
        assert bench.marks[-1].drained
        assert bench.marks[-1].heard_ms < 10_000
        before = len(sounding(card))
        card.work()
        await until(lambda: bench.count(PlaybackBack) >= 2)
        await reply(bench, 2, counting(1, 12_001))
        assert sounding(card)[before:].tobytes() == counting(1, 12_001)

    bench = run(rig, body, playback_device="usb")
    assert bench.marks[-1] == PlaybackMark(2, 500.0, True)
    assert capfd.readouterr().err == ""


# ── A3: it is there and does not work ─────────────────────────────────────────────────────────


def test_a3_a_card_that_nobody_may_open_names_the_group(rig: SoundRig) -> None:
    """EACCES from ALSA itself."""
    card = Card(rig.home, "usb")
    card.refuse(errno.EACCES)

    async def body(bench: Bench) -> None:
        await until(lambda: bench.count(CaptureLost))
        assert "group audio" in bench.last(CaptureLost).remedy
        card.work()
        await until(lambda: bench.frames)

    run(rig, body, capture_device="usb")


def test_a3_a_card_of_another_rate_is_told_with_what_converts_it(rig: SoundRig) -> None:
    """Raw it refuses 16 and 24 kHz; behind the plug that the remedy names it works."""
    mic, spk = Card(rig.home, "mic48", rate_hz=48_000), Card(rig.home, "spk48", rate_hz=48_000)

    async def refused(bench: Bench) -> None:
        await until(lambda: bench.count(CaptureLost) and bench.count(PlaybackLost))
        for told, rate_hz in ((CaptureLost, 16_000), (PlaybackLost, 24_000)):
            assert f"{rate_hz} Hz" in bench.last(told).cause
            assert "plug" in bench.last(told).remedy

    async def converted(bench: Bench) -> None:
        await bench.both_run()
        await until(lambda: len(bench.frames) >= 10)
        assert bench.loudest_dbfs() == pytest.approx(-12.2, abs=1.0)
        await reply(bench, 1, tone(1.0, SECOND))

    run(rig, refused, capture_device="mic48", playback_device="spk48")
    assert mic.opened > 0
    assert len(spk.played) == 0
    run(rig, converted, capture_device="plug:mic48", playback_device="plug:spk48")
    # One channel: agentd opens two only behind what is named as hardware. The crossings are quiet.
    assert np.count_nonzero(np.abs(spk.played) > 100) == pytest.approx(48_000, rel=0.03)


@pytest.mark.parametrize("direction", ["capture", "playback"])
def test_a3_a_card_that_stands_still_is_noticed_and_reopened(direction: str, rig: SoundRig) -> None:
    """No error, no sample: PortAudio #930."""
    card = Card(rig.home, "usb")
    lost, back = (
        (CaptureLost, CaptureBack) if direction == "capture" else (PlaybackLost, PlaybackBack)
    )

    async def body(bench: Bench) -> None:
        await bench.both_run()
        still_s = bench.now()
        card.stall()
        await until(lambda: bench.count(lost))
        assert "no sign of life" in bench.last(lost).cause
        print(f"{direction} stands still -> told: {bench.at(lost) - still_s:.2f} s")
        card.work()
        await until(lambda: bench.count(back) >= 2)

    run(rig, body, **{f"{direction}_device": "usb"})


def test_a3_a_capture_that_is_not_started_again_after_an_overrun_is_reopened(
    rig: SoundRig,
) -> None:
    """PortAudio prepares a stream without mapped buffers and forgets to start it."""
    card = Card(rig.home, "server", mapped=False)

    async def body(bench: Bench) -> None:
        await bench.both_run()
        await until(lambda: len(bench.frames) >= 10)
        card.xrun()
        await until(lambda: bench.count(CaptureLost))
        heard = len(bench.frames)
        await until(lambda: len(bench.frames) >= heard + 10)

    run(rig, body, capture_device="server")


@pytest.mark.parametrize("direction", ["capture", "playback"])
def test_a3_a_stream_that_cannot_be_closed_is_abandoned_and_another_opened(
    direction: str, rig: SoundRig
) -> None:
    """PortAudio #1037, for good: the call never returns while the test lasts."""
    card = Card(rig.home, "usb")
    lost, back = (
        (CaptureLost, CaptureBack) if direction == "capture" else (PlaybackLost, PlaybackBack)
    )

    async def body(bench: Bench) -> None:
        await bench.both_run()
        held_s = bench.now()
        card.hold()
        await until(lambda: bench.count(back) >= 2)
        assert "no sign of life" in bench.last(lost).cause
        assert bench.count(StreamWedged) == 1
        print(f"{direction} held -> works again: {bench.at(back) - held_s:.2f} s")
        # The other direction can be reopened as well.
        other = bench.microphone if direction == "playback" else None
        if other is not None:
            other.pause()
            await other.closed()
            heard = len(bench.frames)
            other.resume()
            await until(lambda: len(bench.frames) > heard)
        card.work()

    try:
        run(rig, body, **{f"{direction}_device": "usb"})
    finally:
        card.work()


# ── A4: late, and too fast ────────────────────────────────────────────────────────────────────


def test_a4_a_speaker_that_runs_dry_in_a_reply_loses_nothing_of_what_follows(
    rig: SoundRig,
) -> None:
    """The device was not served in time: counted, and every sample is handed over once."""
    card = Card(rig.home, "usb")

    async def body(bench: Bench) -> None:
        await bench.both_run()
        dry = bench.player.stats.ran_dry
        bench.player.hear(ReplyAudio(1, counting(1, SECOND + 1)))
        bench.player.hear(ReplyComplete(1))
        await until(lambda: bench.marks and bench.marks[-1].heard_ms >= 300)
        card.xrun()
        await until(lambda: bench.marks[-1].drained)
        assert bench.player.stats.ran_dry > dry

    bench = run(rig, body, playback_device="usb")
    assert sounding(card).tobytes() == counting(1, SECOND + 1)
    assert bench.marks[-1] == PlaybackMark(1, 1_000.0, True)


def test_a4_an_overrun_is_counted_and_leaves_a_hole_in_the_numbers(rig: SoundRig) -> None:
    """What the card took and nobody fetched is lost, and told."""
    card = Card(rig.home, "usb")

    async def body(bench: Bench) -> None:
        await bench.both_run()
        await until(lambda: len(bench.frames) >= 10)
        card.xrun()
        await until(lambda: bench.count(FramesLost))
        heard = len(bench.frames)
        await until(lambda: len(bench.frames) >= heard + 10)

    bench = run(rig, body, capture_device="usb")
    stats = bench.microphone.stats
    assert stats.overruns == bench.count(FramesLost) >= 1
    assert stats.lost_frames == sum(e.frames for e in bench.events if isinstance(e, FramesLost))
    assert bench.frames[-1].index == len(bench.frames) - 1 + stats.lost_frames
    assert bench.count(CaptureLost) == 0


def test_a4_a_reply_that_comes_faster_than_it_plays_is_whole(rig: SoundRig) -> None:
    """At once, in two hundred pieces: not a sample dropped, doubled or out of order."""
    card = Card(rig.home, "usb")
    pcm = counting(1, 30_001)

    async def body(bench: Bench) -> None:
        await bench.both_run()
        for at in range(0, len(pcm), 300):
            bench.player.hear(ReplyAudio(1, pcm[at : at + 300]))
        bench.player.hear(ReplyComplete(1))
        await until(lambda: bench.marks and bench.marks[-1].drained)

    bench = run(rig, body, playback_device="usb")
    assert sounding(card).tobytes() == pcm
    assert bench.player.stats.underruns == 0


def test_a4_a_reply_in_bursts_with_holes_between_is_whole_and_the_holes_are_counted(
    rig: SoundRig,
) -> None:
    """Each burst waits until the speaker has run out of the one before."""
    card = Card(rig.home, "usb")
    pieces = [counting(begin, begin + 4_800) for begin in (1, 5_001, 10_001)]

    async def body(bench: Bench) -> None:
        await bench.both_run()
        for piece in pieces:
            bench.player.hear(ReplyAudio(1, piece))
            await until(lambda: not bench.player.stats.buffered_ms)
            await until(lambda: len(card.played) and not card.played[-2_400:].any())
        bench.player.hear(ReplyComplete(1))
        await until(lambda: bench.marks and bench.marks[-1].drained)

    bench = run(rig, body, playback_device="usb")
    assert bench.player.stats.underruns == bench.count(Underrun) == 2
    assert bench.marks[-1] == PlaybackMark(1, 600.0, True)
    played = set(sounding(card).tolist())
    for begin in (1, 5_001, 10_001):
        # The last 5 ms before a hole fade.
        assert set(range(begin, begin + 4_800 - FADE)) <= played
