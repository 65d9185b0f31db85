"""The sound rig itself: what the other tests take for granted about it."""

from __future__ import annotations

import random
import subprocess
import sys
import wave
from array import array
from itertools import pairwise
from math import pi, sin
from pathlib import Path
from typing import Any

import pytest

from rig.recording import Track, level_dbfs
from rig.sound import MIC_RATE_HZ, SPK_RATE_HZ, SoundRig

pytestmark = pytest.mark.rig

ROOT = Path(__file__).resolve().parent.parent


def tone(rate_hz: int, duration_s: float, pitch_hz: float = 440.0) -> bytes:
    """Return a tone at -9 dBFS RMS, int16 mono."""
    count = round(rate_hz * duration_s)
    return array(
        "h", [round(16000 * sin(2 * pi * pitch_hz * i / rate_hz)) for i in range(count)]
    ).tobytes()


def noise(rate_hz: int, duration_s: float) -> bytes:
    """Return noise that is like itself at no other offset, int16 mono."""
    chance = random.Random(1)
    count = round(rate_hz * duration_s)
    return array("h", [chance.randint(-8000, 8000) for _ in range(count)]).tobytes()


def sounding(track: Track) -> array[int]:
    """Return what of a track is not silence, so that a gap on a busy machine is no matter."""
    window = track.rate_hz // 100
    return array(
        "h",
        (
            sample
            for begin in range(0, len(track.samples) - window, window)
            if level_dbfs(part := track.samples[begin : begin + window]) > -50
            for sample in part
        ),
    )


def pitch_hz(samples: array[int], rate_hz: int) -> float:
    """Return the pitch of a tone from its zero crossings."""
    crossings = sum(1 for a, b in pairwise(samples) if a < 0 <= b)
    return crossings * rate_hz / len(samples)


def program(rig: SoundRig, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a PyAudio program of its own on the rig's devices."""
    command = [sys.executable, "-m", "rig.pcm", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=rig.child_env(), stderr=subprocess.DEVNULL, **options
    )


@pytest.mark.parametrize("pcm", ["default", "rig_mic"])
def test_spoken_wav_arrives_through_pyaudio(rig: SoundRig, tmp_path: Path, pcm: str) -> None:
    """A WAV file spoken into the microphone is what a PyAudio stream on it reads."""
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MIC_RATE_HZ)
        file.writeframes(tone(MIC_RATE_HZ, 1.0))
    capture = program(rig, "capture", pcm, str(MIC_RATE_HZ), "4", stdout=subprocess.PIPE)
    assert capture.stdout is not None
    first = capture.stdout.read(2)  # it listens
    rig.speak(path)
    output, _ = capture.communicate(timeout=60)
    samples = array("h", first + output)
    heard = sounding(Track(pcm, MIC_RATE_HZ, 0.0, samples))
    assert len(heard) / MIC_RATE_HZ == pytest.approx(1.0, abs=0.05)
    assert level_dbfs(heard) == pytest.approx(-9.2, abs=0.5)
    assert pitch_hz(heard, MIC_RATE_HZ) == pytest.approx(440, abs=5)


@pytest.mark.parametrize("pcm", ["default", "rig_spk"])
def test_pcm_played_through_pyaudio_is_recorded(rig: SoundRig, pcm: str) -> None:
    """A tone that PyAudio plays is on the recording: its length, its level, its pitch."""
    with rig.record() as room:
        play = program(rig, "play", pcm, str(SPK_RATE_HZ), stdin=subprocess.PIPE)
        play.communicate(tone(SPK_RATE_HZ, 1.0), timeout=60)
        room.wait_for_silence("spk")
        track = room.track("spk")
        assert level_dbfs(room.track("mic").samples) == float("-inf")
    assert play.returncode == 0
    heard = sounding(track)
    assert len(heard) / SPK_RATE_HZ == pytest.approx(1.0, abs=0.05)
    assert level_dbfs(heard) == pytest.approx(-9.2, abs=0.5)
    assert pitch_hz(heard, SPK_RATE_HZ) == pytest.approx(440, abs=5)


def test_recording_is_bit_exact(rig: SoundRig) -> None:
    """Nothing resamples or scales on the way: samples spoken are samples recorded."""
    spoken = array("h", noise(MIC_RATE_HZ, 1.0))
    with rig.record("mic") as room:
        rig.speak(spoken.tobytes())
        room.wait_for_silence("mic")
        heard = room.track("mic").samples.tobytes()
    begin = heard.find(spoken[:64].tobytes())
    assert heard[begin : begin + len(spoken) * 2] == spoken.tobytes()


def test_two_recordings_agree_on_the_clock(rig: SoundRig) -> None:
    """Two recorders of one device, started apart, place a sample within 5 ms of each other."""
    spoken = noise(MIC_RATE_HZ, 0.5)
    with rig.record() as first, rig.record("mic") as second:
        rig.speak(spoken)
        for room in (first, second):
            room.wait_for_silence("mic")
        tracks = [first.track("mic"), second.track("mic")]
    when_s = [t.start_s + t.samples.tobytes().find(spoken[:128]) / 2 / MIC_RATE_HZ for t in tracks]
    assert when_s[0] == pytest.approx(when_s[1], abs=0.005)


def test_both_devices_are_on_one_clock(rig: SoundRig) -> None:
    """A sound sent to both devices at once is at the same time on the two tracks.

    Within 15 ms, of which the combined device that sends it takes up to 6.
    """
    rig.pactl("load-module", "module-combine-sink", "sink_name=both", "slaves=mic,spk")
    with rig.record() as room:
        rig.speak(noise(MIC_RATE_HZ, 0.5), device="both")
        room.wait_for_silence("mic")
        room.wait_for_silence("spk")
        onsets = [room.track(name).onset(window_ms=2) for name in ("mic", "spk")]
    assert None not in onsets
    assert onsets[0] == pytest.approx(onsets[1], abs=0.015)


def test_echo_is_heard_later_and_softer(rig: SoundRig) -> None:
    """With an echo path the microphone hears the speaker, attenuated, after the delay."""
    with rig.echo(gain_db=-12, delay_ms=60), rig.record() as room:
        rig.speak(tone(SPK_RATE_HZ, 1.0), rate_hz=SPK_RATE_HZ, device="spk")
        room.wait_for_silence("spk")
        room.wait_for_silence("mic")
        mic, spk = room.track("mic"), room.track("spk")
    direct_s, echo_s = spk.onset(), mic.onset()
    assert direct_s is not None
    assert echo_s is not None
    assert 0.02 < echo_s - direct_s < 0.2
    softer_db = level_dbfs(sounding(mic)) - level_dbfs(sounding(spk))
    assert softer_db == pytest.approx(-12, abs=2)


def test_unplugged_device_vanishes_and_comes_back(rig: SoundRig) -> None:
    """A pulled device ends its streams and is on no list; plugged in again it works."""
    with rig.record() as room:
        rig.unplug("mic")
        room.wait_ended("mic")
        assert "mic" not in rig.pactl("list", "short", "sinks").split()
        assert not room.ended("spk")
    rig.plug("mic")
    with rig.record() as room:
        rig.speak(tone(MIC_RATE_HZ, 0.3))
        room.wait_for_sound("mic")


def test_suspended_device_stalls_without_ending(rig: SoundRig) -> None:
    """A stalled device gives no sample and no error; afterwards it goes on."""
    with rig.record() as room:
        rig.suspend("mic")
        room.wait_recorded("spk", 0.2)
        before = len(room.track("mic").samples)
        room.wait_recorded("spk", 1.0)
        assert len(room.track("mic").samples) - before < MIC_RATE_HZ // 10
        assert not room.ended("mic")
        rig.resume("mic")
        room.wait_recorded("mic", 0.3)


def test_server_dies_and_returns(rig: SoundRig) -> None:
    """A killed sound server ends every stream; a new one is found at the same place."""
    with rig.record() as room:
        rig.kill_server()
        room.wait_ended("mic")
        room.wait_ended("spk")
    rig.start_server()
    assert rig.sink_samples("spk", 0.2).duration_s >= 0.2


def test_rigs_do_not_hear_each_other(rig: SoundRig) -> None:
    """Two rigs at once are two rooms."""
    with SoundRig() as other, rig.record("mic") as here, other.record("mic") as there:
        other.speak(tone(MIC_RATE_HZ, 0.3))
        there.wait_for_sound("mic")
        here.wait_recorded("mic", 0.3)
        assert level_dbfs(here.track("mic").samples) == float("-inf")
