"""The sound rig itself: what the other tests take for granted about it."""

from __future__ import annotations

import random
import subprocess
import sys
import wave
from array import array
from collections.abc import Iterator
from itertools import pairwise
from math import pi, sin
from pathlib import Path

import pyaudio
import pytest

from tests.rig.recording import Track, level_dbfs
from tests.rig.sound import MIC_RATE_HZ, SPK_RATE_HZ, SoundRig

pytestmark = pytest.mark.rig


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


@pytest.fixture
def portaudio(rig: SoundRig) -> Iterator[pyaudio.PyAudio]:
    """PortAudio, initialised on the rig's devices."""
    instance = pyaudio.PyAudio()
    yield instance
    instance.terminate()


def device_index(portaudio: pyaudio.PyAudio, name: str) -> int:
    """Return the index of a PCM by its name."""
    names = [
        str(portaudio.get_device_info_by_index(i)["name"])
        for i in range(portaudio.get_device_count())
    ]
    return names.index(name)


@pytest.mark.parametrize("pcm", ["default", "rig_mic"])
def test_spoken_wav_arrives_through_pyaudio(
    rig: SoundRig, portaudio: pyaudio.PyAudio, tmp_path: Path, pcm: str
) -> None:
    """A WAV file spoken into the microphone is what a PyAudio stream on it reads."""
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MIC_RATE_HZ)
        file.writeframes(tone(MIC_RATE_HZ, 1.5))
    stream = portaudio.open(
        rate=MIC_RATE_HZ,
        channels=1,
        format=pyaudio.paInt16,
        input=True,
        input_device_index=device_index(portaudio, pcm),
        frames_per_buffer=320,
    )
    speaking = rig.start_speaking(path)
    heard = array("h")
    while len(heard) < 4 * MIC_RATE_HZ and level_dbfs(heard[-8000:]) < -10:
        heard.frombytes(stream.read(320, exception_on_overflow=False))
    speaking.wait()
    stream.close()
    assert level_dbfs(heard[-8000:]) == pytest.approx(-9.2, abs=0.8)


@pytest.mark.parametrize("pcm", ["default", "rig_spk"])
def test_pcm_played_through_pyaudio_is_recorded(
    rig: SoundRig, portaudio: pyaudio.PyAudio, pcm: str
) -> None:
    """A tone that PyAudio plays is on the recording: its length, its level, its pitch."""
    stream = portaudio.open(
        rate=SPK_RATE_HZ,
        channels=1,
        format=pyaudio.paInt16,
        output=True,
        output_device_index=device_index(portaudio, pcm),
        frames_per_buffer=4800,
    )
    with rig.record() as room:
        stream.write(tone(SPK_RATE_HZ, 1.0))
        stream.write(bytes(2 * SPK_RATE_HZ // 2))
        room.wait_for_sound("spk")
        room.wait_for_silence("spk")
        track = room.track("spk")
        assert level_dbfs(room.track("mic").samples) == float("-inf")
    stream.close()
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


def test_child_process_finds_the_devices(rig: SoundRig) -> None:
    """A program started with the rig's environment has the rig's devices as its default ones."""
    code = (
        "import pyaudio; p = pyaudio.PyAudio(); s = p.open(rate=16000, channels=1, format=8,"
        " input=True); print(len(s.read(1600)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=rig.child_env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "3200"
