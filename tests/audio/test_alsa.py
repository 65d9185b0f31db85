"""PyAudio on real ALSA PCMs of a private sound server, and how they fail (A1-A3).

What a sound server never does, a card of our own does in test_card_faults.py.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import subprocess
import sys

import pytest

from agentd.events import (
    CaptureBack,
    CaptureLost,
    PlaybackBack,
    PlaybackLost,
    PlaybackMark,
    ReplyAudio,
    ReplyCancelled,
    ReplyComplete,
)
from rig import exclusive
from rig.sound import SoundRig
from rig.waiting import until
from tests.audio.bench import Bench, run, tone

pytestmark = pytest.mark.rig


def test_what_is_said_is_heard_and_what_is_replied_is_played(rig: SoundRig) -> None:
    """Through ALSA both ways, at the right level and length."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        with rig.record("spk") as recorder:
            await asyncio.to_thread(rig.speak, tone(0.5, 16_000))
            bench.player.hear(ReplyAudio(1, tone(0.5, 24_000)))
            bench.player.hear(ReplyComplete(1))
            await until(lambda: bench.marks and bench.marks[-1].drained)
            await asyncio.to_thread(recorder.wait_recorded, "spk", 1.0)
            track = recorder.track("spk")
        loud = [sample for sample in track.samples if abs(sample) > 100]
        assert len(loud) == pytest.approx(12_000, rel=0.05)

    bench = run(rig, body)
    assert bench.marks[-1] == PlaybackMark(1, 500.0, True)
    assert bench.loudest_dbfs() == pytest.approx(20 * math.log10(8_000 / 32_768) - 3, abs=1.5)
    assert bench.microphone.stats.overruns == 0


def test_every_captured_sample_is_delivered(rig: SoundRig) -> None:
    """Frame numbers have no hole, and their times keep pace with the clock."""

    async def body(bench: Bench) -> None:
        await until(lambda: len(bench.frames) >= 100)

    frames = run(rig, body).frames
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[-1].at_s - frames[0].at_s == pytest.approx((len(frames) - 1) * 0.02, abs=0.25)


def test_cancelled_is_silent_at_the_sink(rig: SoundRig) -> None:
    """The speaker's own recording shows no second of it."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        with rig.record("spk") as recorder:
            bench.player.hear(ReplyAudio(1, tone(5.0, 24_000)))
            await until(lambda: bench.marks and bench.marks[-1].heard_ms >= 300)
            asked_s = bench.now()
            bench.player.hear(ReplyCancelled(1))
            await until(lambda: bench.marks[-1].drained)
            await asyncio.to_thread(recorder.wait_recorded, "spk", 1.5)
            silent_s = recorder.track("spk").silence(after_s=asked_s)
        assert silent_s is not None
        print(f"cancelled -> silent at the sink: {(silent_s - asked_s) * 1000:.0f} ms")

    bench = run(rig, body)
    assert bench.marks[-1].heard_ms < 5_000


def test_a1_an_unplugged_microphone_is_told_and_comes_back(rig: SoundRig) -> None:
    """In the middle of speech; heard again soon after it is plugged in."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        gone_s = bench.now()
        await asyncio.to_thread(rig.unplug, "mic")
        # The server moves no other source in; the PCM is gone until it is plugged in.
        await until(lambda: bench.count(CaptureLost))
        print(f"unplugged -> told: {bench.at(CaptureLost) - gone_s:.2f} s")
        back_s = bench.now()
        await asyncio.to_thread(rig.plug, "mic")
        await until(lambda: bench.count(CaptureBack) >= 2)
        heard = len(bench.frames)
        await asyncio.to_thread(rig.speak, tone(0.5, 16_000))
        await until(lambda: bench.loudest_dbfs(heard) > -20)
        print(f"plugged in -> frames: {max(0.0, bench.at(CaptureBack) - back_s):.2f} s")

    bench = run(rig, body)
    assert bench.last(CaptureLost).remedy


def test_a1_a_microphone_missing_at_the_start_is_told_and_found(rig: SoundRig) -> None:
    """By name, with the remedy; the daemon starts all the same."""
    home_conf = rig.home / ".asoundrc"

    async def body(bench: Bench) -> None:
        await until(lambda: bench.count(CaptureLost))
        told = bench.last(CaptureLost)
        assert "late_mic" in told.cause
        assert "agentd devices" in told.remedy
        text = home_conf.read_text()
        home_conf.write_text(text + text.splitlines()[0].replace("rig_mic", "late_mic") + "\n")
        await until(lambda: bench.frames)

    run(rig, body, capture_device="late_mic")


def test_a2_a_speaker_unplugged_in_a_reply_does_not_hold_up_the_next(rig: SoundRig) -> None:
    """The cut reply ends, the next one is heard at the sink."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        bench.player.hear(ReplyAudio(1, tone(20.0, 24_000)))
        await until(lambda: bench.marks and bench.marks[-1].heard_ms > 100)
        await asyncio.to_thread(rig.unplug, "spk")
        await until(lambda: bench.count(PlaybackLost))
        assert bench.marks[-1].drained
        await asyncio.to_thread(rig.plug, "spk")
        await until(lambda: bench.count(PlaybackBack) >= 2)
        with rig.record("spk") as recorder:
            bench.player.hear(ReplyAudio(2, tone(0.5, 24_000)))
            bench.player.hear(ReplyComplete(2))
            await until(lambda: bench.marks[-1].turn == 2 and bench.marks[-1].drained)
            await asyncio.to_thread(recorder.wait_recorded, "spk", 1.0)
            assert recorder.track("spk").onset() is not None

    bench = run(rig, body)
    assert bench.marks[-1] == PlaybackMark(2, 500.0, True)


def test_a3_a_microphone_that_stops_without_an_error_is_noticed(rig: SoundRig) -> None:
    """The PCM stays open and no sample moves, as after PortAudio #930."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        await asyncio.to_thread(rig.suspend, "mic")
        await until(lambda: bench.count(CaptureLost))
        assert "no sign of life" in bench.last(CaptureLost).cause
        await asyncio.to_thread(rig.resume, "mic")
        await until(lambda: bench.count(CaptureBack) >= 2)

    run(rig, body)


@pytest.mark.skipif(exclusive.COMPILER is None, reason="no C compiler: apt-get install gcc")
def test_a3_a_microphone_that_another_program_uses_is_told_and_taken_when_free(
    rig: SoundRig,
) -> None:
    """EBUSY from ALSA itself: who is asked to let go, and what shares."""
    busy = exclusive.Exclusive(rig.home, "one_client", "rig_mic")

    async def body(bench: Bench) -> None:
        await until(lambda: bench.count(CaptureLost))
        told = bench.last(CaptureLost)
        assert "one_client is in use by another program" in told.cause
        assert "fuser -v /dev/snd/*" in told.remedy
        assert "dsnoop" in told.remedy
        assert bench.frames == []
        bench.player.hear(ReplyAudio(1, tone(0.2, 24_000)))
        bench.player.hear(ReplyComplete(1))
        await until(lambda: bench.marks and bench.marks[-1].drained)

    async def scene(bench: Bench) -> None:
        with busy.taken():
            await body(bench)
        await until(lambda: bench.frames)

    bench = run(rig, scene, capture_device="one_client")
    assert bench.count(CaptureBack) == 1
    assert bench.count(CaptureLost) == 1


@pytest.mark.skipif(exclusive.COMPILER is None, reason="no C compiler: apt-get install gcc")
def test_a3_a_speaker_that_another_program_uses_is_told_and_taken_when_free(rig: SoundRig) -> None:
    """The microphone works meanwhile; a reply that nobody can hear ends at once."""
    busy = exclusive.Exclusive(rig.home, "one_client", "rig_spk")

    async def scene(bench: Bench) -> None:
        with busy.taken():
            await until(lambda: bench.count(PlaybackLost) and bench.frames)
            assert "in use by another program" in bench.last(PlaybackLost).cause
            bench.player.hear(ReplyAudio(1, tone(0.2, 24_000)))
            bench.player.hear(ReplyComplete(1))
            await until(lambda: bench.marks and bench.marks[-1].drained)
        await until(lambda: bench.count(PlaybackBack))
        bench.player.hear(ReplyAudio(2, tone(0.2, 24_000)))
        bench.player.hear(ReplyComplete(2))
        await until(lambda: bench.marks[-1] == PlaybackMark(2, 200.0, True))

    run(rig, scene, playback_device="one_client")


def test_a3_a_sound_server_that_dies_and_returns(rig: SoundRig) -> None:
    """Both devices at once."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        await asyncio.to_thread(rig.kill_server)
        await until(lambda: bench.count(CaptureLost) and bench.count(PlaybackLost))
        await asyncio.to_thread(rig.start_server)
        await until(lambda: bench.count(CaptureBack) >= 2 and bench.count(PlaybackBack) >= 2)

    run(rig, body)


def test_mute_closes_the_pcm(rig: SoundRig) -> None:
    """The server itself sees no recording stream any more."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        assert rig.pactl("list", "short", "source-outputs")
        bench.microphone.pause()
        await bench.microphone.closed()
        await until(lambda: not rig.pactl("list", "short", "source-outputs"))
        bench.microphone.resume()
        heard = len(bench.frames)
        await until(lambda: len(bench.frames) > heard)

    run(rig, body)


def test_opening_prints_nothing(rig: SoundRig, capfd: pytest.CaptureFixture[str]) -> None:
    """Not one of the hundreds of lines of ALSA and JACK."""

    async def body(bench: Bench) -> None:
        await bench.both_run()

    run(rig, body)
    assert capfd.readouterr().err == ""


FATAL = """
import ctypes
from agentd.audio.alsa import silence_libraries
libc = ctypes.CDLL(None)
silence_libraries()
noise = ctypes.c_void_p.in_dll(libc, "stderr")
for _ in range(3):
    libc.fputs(b"noise\\n", noise)
    libc.fflush(noise)
ctypes.pythonapi.Py_FatalError(b"last words")
"""


def test_c_libraries_are_silent_and_the_last_words_of_a_crash_are_not() -> None:
    """On a socket, as the journal is: what Python says of its own end goes to descriptor 2."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # In a process of its own, which dies of it.
        done = subprocess.run([sys.executable, "-c", FATAL], stderr=theirs.fileno(), check=False)
        ours.setblocking(False)
        said = ours.recv(65_536).decode()
    assert done.returncode == -signal.SIGABRT
    assert "last words" in said
    assert "noise" not in said


def test_only_two_names_are_ever_shown_to_portaudio(rig: SoundRig) -> None:
    """So its frozen list of devices never matters."""
    from agentd.audio.alsa import PortAudio

    async def body(bench: Bench) -> None:
        await bench.both_run()

    run(rig, body)
    assert {"agentd_capture", "agentd_playback"} <= set(PortAudio.get()._index)
    assert os.environ["ALSA_CONFIG_PATH"].endswith("alsa.conf")


def test_a_sound_server_that_hangs_is_told_and_sound_returns_with_it(rig: SoundRig) -> None:
    """Every call into it hangs; neither the loop nor the other stages do."""

    async def body(bench: Bench) -> None:
        await bench.both_run()
        with rig.frozen():
            await until(lambda: bench.count(CaptureLost) and bench.count(PlaybackLost))
        await until(lambda: bench.count(CaptureBack) >= 2 and bench.count(PlaybackBack) >= 2)
        print(f"wedged: {bench.microphone.stats.wedged} and {bench.player.stats.wedged}")

    run(rig, body)


@pytest.mark.parametrize("plugin", ["plug", "route"])
def test_a_speaker_without_a_clock_is_lost_while_the_microphone_goes_on(
    rig: SoundRig, plugin: str
) -> None:
    """ALSA's null behind a plug-in asks for hours of sound every second."""
    table = "channels 2 } ttable.0.0 1 ttable.1.1 1" if plugin == "route" else "}"
    conf = rig.home / ".asoundrc"
    conf.write_text(
        conf.read_text() + f'pcm.timeless {{ type {plugin} slave {{ pcm "null" {table} }}\n'
    )

    async def body(bench: Bench) -> None:
        await until(lambda: bench.count(PlaybackLost))
        heard = len(bench.frames)
        await until(lambda: len(bench.frames) >= heard + 50)

    bench = run(rig, body, capture_device="rig_mic", playback_device="timeless")
    assert "takes sound faster than time" in bench.last(PlaybackLost).cause
    assert bench.player.stats.trouble == bench.last(PlaybackLost).cause
    assert not bench.count(CaptureLost)
