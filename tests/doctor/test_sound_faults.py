"""Faults of microphone and speaker on real ALSA PCMs, each named with the remedy that works."""

from __future__ import annotations

import asyncio
import math
import random
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentd.audio import formats
from agentd.audio.cards import DeviceInfo
from agentd.audio.devices import CaptureDevice, Deliver, PlaybackDevice
from agentd.audio.echo.policy import ECHO_DOCUMENT
from agentd.audio.opening import open_devices
from agentd.clock import Clock, SystemClock
from agentd.config.settings import Audio, Settings, Vad
from agentd.doctor import hearing, room, sweep
from agentd.doctor.examine import Examination, Host
from agentd.doctor.findings import Finding, Result
from agentd.errors import DeviceBusy
from agentd.state.store import StateStore
from rig.sound import SoundRig


def noise(seconds: float, amplitude: float) -> bytes:
    """Return white noise at 16 kHz: a room."""
    source = random.Random(7)
    return formats.to_pcm(
        [round(source.uniform(-amplitude, amplitude)) for _ in range(round(seconds * 16_000))]
    )


def examine(
    tmp_path: Path, machine: Mapping[str, Any] | None = None, **audio: Any
) -> dict[str, Finding]:
    """Run the sound part of the examination; return the findings by check."""
    settings = Settings.model_validate({"audio": audio, "vad": {"detector": "webrtc"}})
    environ = {"STATE_DIRECTORY": str(tmp_path)}
    examination = Examination(settings, Host(environ=environ, **(machine or {})), _quietly)
    found = asyncio.run(asyncio.wait_for(examination._sound(), 90))
    return {finding.check: finding for finding in found}


def heard(device: str) -> bytes:
    """Return what a microphone hears for some seconds."""
    clock = SystemClock()
    capture, _ = open_devices(Audio(capture_device=device), clock)
    return asyncio.run(listen(capture, clock)).quiet


async def listen(capture: CaptureDevice, clock: Clock) -> room.Room:
    async with asyncio.timeout(60):
        return await room.listen(capture, None, clock)


def _quietly(_finding: Finding) -> None:
    pass


def names(finding: Finding, *words: str, result: Result = Result.FAIL) -> None:
    """Check a finding's result and that it says all of the words, in cause or remedy."""
    assert finding.result is result, finding
    text = f"{finding.cause} → {finding.remedy}"
    for word in words:
        assert word in text, (word, text)


@pytest.mark.rig
def test_a_room_with_an_echo(rig: SoundRig, tmp_path: Path) -> None:
    """Everything works, the microphone hears the speaker 12 dB down: half duplex is told.

    The attenuation is measured through two sound devices, and kept for who wants to know.
    """
    with rig.echo(gain_db=-12.0):
        sound = rig.start_speaking(noise(2.0, 300.0) * 20)
        found = examine(tmp_path, echo_cancellation="off")
        sound.stop()
    assert {name: f.result for name, f in found.items() if name != "echo"} == dict.fromkeys(
        ("cards", "microphone", "level", "voice", "speaker", "mixer"), Result.OK
    )
    names(found["echo"], "half duplex", "cannot interrupt", '= "auto"', result=Result.WARN)
    assert found["echo"].figures["attenuation_db"] == pytest.approx(12.0, abs=3.0)
    store = StateStore(tmp_path, clock=SystemClock(), emit=lambda _event: None)
    kept = store.read(ECHO_DOCUMENT)
    assert kept is not None
    assert kept["attenuation_db"] == found["echo"].figures["attenuation_db"]


@pytest.mark.rig
def test_a_muted_mixer_and_a_silent_microphone(rig: SoundRig, tmp_path: Path) -> None:
    """Both are named; the command that is proposed unmutes the speaker for real."""
    rig.pactl("set-sink-mute", "spk", "1")
    found = examine(tmp_path)
    names(found["level"], "digital silence", "alsamixer")
    names(found["mixer"], "Master is muted", "amixer -D default sset 'Master' unmute")
    names(found["echo"], "does not hear the speaker", result=Result.WARN)
    subprocess.run(shlex.split(found["mixer"].remedy), check=True, env=rig.child_env(), timeout=30)
    assert "Mute: no" in rig.pactl("get-sink-mute", "spk")
    examination = Examination(Settings(), Host(), _quietly)
    assert asyncio.run(examination._mixer()).result is Result.OK


@pytest.mark.rig
def test_a_clipping_microphone(rig: SoundRig, tmp_path: Path) -> None:
    """Full scale is clipping; with the capture volume turned down, as proposed, it is none."""
    shout = formats.to_pcm(
        [max(-32_768, min(32_767, round(60_000 * math.sin(i / 5)))) for i in range(16_000)]
    )
    sound = rig.start_speaking(shout * 40)
    found = examine(tmp_path)
    names(found["level"], "clips", "Lower its capture volume")
    rig.pactl("set-source-volume", "mic.monitor", "-20dB")
    again = hearing.judge_level(heard("default"))
    sound.stop()
    assert again.result is Result.OK, again


@pytest.mark.rig
def test_a_mistyped_device(rig: SoundRig, tmp_path: Path) -> None:
    """The name that was meant is proposed, and it works."""
    found = examine(tmp_path, capture_device="rig_mik", playback_device="rig_spk")
    names(found["microphone"], "rig_mik is not there", 'Set audio.capture_device = "rig_mic"')
    proposed = found["microphone"].remedy.split('"')[1]
    assert heard(proposed)


@pytest.mark.rig
def test_a_microphone_that_has_stalled(rig: SoundRig, tmp_path: Path) -> None:
    """It opens, and nothing comes."""
    rig.suspend("mic")
    found = examine(tmp_path)
    names(found["microphone"], "delivers no sound", "restart its sound server")
    assert found["speaker"].result is Result.OK


@pytest.mark.rig
def test_a_dead_sound_server(rig: SoundRig, tmp_path: Path) -> None:
    """Both devices are missing; neither hangs the doctor."""
    rig.kill_server()
    found = examine(tmp_path)
    assert [found[check].result for check in ("microphone", "speaker")] == [Result.FAIL] * 2
    assert [found[check].result for check in ("level", "voice", "echo")] == [Result.SKIPPED] * 3


@pytest.mark.rig
@pytest.mark.parametrize("plugin", ["plug", "route"])
def test_a_microphone_without_a_clock(rig: SoundRig, tmp_path: Path, plugin: str) -> None:
    """ALSA's null behind a plug-in opens, delivers as fast as it can, and is refused for that."""
    table = "channels 2 } ttable.0.0 1 ttable.1.1 1" if plugin == "route" else "}"
    conf = rig.home / ".asoundrc"
    conf.write_text(
        conf.read_text() + f'pcm.timeless {{ type {plugin} slave {{ pcm "null" {table} }}\n'
    )
    found = examine(tmp_path, capture_device="timeless", playback_device="rig_spk")
    names(found["microphone"], "faster than time passes", "agentd devices")
    assert [found[check].result for check in ("level", "voice")] == [Result.SKIPPED] * 2
    assert found["speaker"].result is Result.OK


@pytest.mark.rig
def test_a_speaker_without_a_clock(rig: SoundRig, tmp_path: Path) -> None:
    """The same as a speaker takes all that it is given; no echo is judged by it."""
    conf = rig.home / ".asoundrc"
    conf.write_text(conf.read_text() + 'pcm.timeless { type plug slave.pcm "null" }\n')
    found = examine(tmp_path, capture_device="rig_mic", playback_device="timeless")
    names(found["speaker"], "takes sound faster than time passes", "agentd devices")
    assert found["microphone"].result is Result.OK
    assert found["echo"].result is Result.SKIPPED


def on_offset(percent: float, amplitude: float) -> bytes:
    """A room on a constant offset, as the converter gives it."""
    values = [value + round(327.68 * percent) for value in formats.samples(noise(2.0, amplitude))]
    return formats.to_pcm([max(-32_768, min(32_767, value)) for value in values])


@pytest.mark.parametrize(
    ("percent", "amplitude", "result", "words"),
    [
        (0.0, 300.0, Result.OK, "-46 dBFS, no clipping"),
        (0.4, 300.0, Result.OK, "-46 dBFS, no clipping"),
        (5.0, 300.0, Result.OK, "-46 dBFS, no clipping; its constant offset of 5.0 % is taken out"),
        (-10.0, 300.0, Result.OK, "its constant offset of -10.0 % is taken out"),
        (5.0, 2.0, Result.WARN, "very quiet (-89 dBFS); its constant offset of 5.0 %"),
        (10.0, 30_000.0, Result.FAIL, "at full scale); its constant offset of 9."),
        (30.0, 300.0, Result.WARN, "a constant offset of 30 % of full scale"),
    ],
)
def test_a_microphone_with_a_constant_offset(
    percent: float, amplitude: float, result: Result, words: str
) -> None:
    """Its size is given, and neither level nor clipping is hidden by it."""
    found = hearing.judge_level(on_offset(percent, amplitude))
    assert found.result is result
    assert words in found.cause
    assert found.figures["offset_percent"] == pytest.approx(percent, abs=1.5)


def test_the_gate_hears_a_room_without_the_offset() -> None:
    """As the daemon does: noise on an offset of 10 % is judged as noise alone."""
    for percent in (0.0, 10.0):
        found = hearing.judge_voice(on_offset(percent, 30.0), Vad(detector="webrtc"), 10.0)
        assert found.result is Result.OK


@pytest.mark.parametrize(("value", "word"), [(0, "digital silence"), (-9, "same value")])
def test_a_microphone_without_sound(value: int, word: str) -> None:
    """Zeros, or any other value again and again; the channel that has sound is named."""
    pcm = formats.to_pcm([value] * 16_000)
    names(hearing.judge_level(pcm), f"the microphone delivers {'the ' * (value < 0)}{word}", "alsa")
    names(hearing.judge_level(pcm, 2), word, "audio.capture_channel = 2")
    assert hearing.judge_level(b"").result is Result.SKIPPED


class BusyMicrophone:
    """A card that somebody else has opened."""

    name = "plughw:CARD=Device"
    has_ended = False
    other_channel: int | None = None

    async def capture(self, deliver: Deliver) -> None:
        raise DeviceBusy(f"{self.name} is in use by another program. Stop it")


def test_a_busy_card(tmp_path: Path) -> None:
    """Who holds it is named by program and pid, from the real /proc."""
    node = tmp_path / "pcmC0D0c"
    node.touch()

    def devices(audio: Audio, clock: Clock) -> tuple[CaptureDevice, PlaybackDevice]:
        return BusyMicrophone(), open_devices(audio, clock)[1]

    child = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(node)!r}); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        found = examine(
            tmp_path,
            {"devices": devices, "dev_snd": tmp_path},
            capture_device="plughw:CARD=Device",
            playback_device=f"file:{tmp_path}/out.wav",
        )
    finally:
        child.kill()
        child.communicate()
    names(found["microphone"], "held by another program", f"(pid {child.pid}", "Stop python")


def test_a_busy_card_of_another_user() -> None:
    """/proc does not tell a stranger: run it as root."""
    trouble = room.RoomTrouble("x is in use", "Stop it", busy=True)
    found = hearing.judge_device("microphone", "audio.capture_device", "x", trouble)
    names(found, "run the doctor as root")


def test_files_in_place_of_devices(tmp_path: Path) -> None:
    """A missing file is told; the speaker's file is left alone."""
    speaker = tmp_path / "out.wav"
    speaker.write_bytes(b"precious")
    found = examine(
        tmp_path,
        capture_device=f"file:{tmp_path}/missing.wav",
        playback_device=f"file:{speaker}",
    )
    names(found["microphone"], "missing.wav", "Name a WAV file")
    assert speaker.read_bytes() == b"precious"
    nowhere = examine(
        tmp_path, capture_device=f"file:{tmp_path}/a.wav", playback_device="file:/nowhere/b.wav"
    )
    names(nowhere["speaker"], "cannot be written", "/nowhere")


# ── judges ────────────────────────────────────────────────────────────────────────────────────


def test_a_very_quiet_microphone() -> None:
    """Not silent, yet too low to be of use; the gain that is proposed lifts it."""
    quiet = noise(2.0, 3.0)
    names(hearing.judge_level(quiet), "very quiet", "capture_gain_db", result=Result.WARN)
    louder = formats.amplify(quiet, formats.gain_of_db(20.0))
    assert hearing.judge_level(louder).result is Result.OK


def test_a_steady_noise_that_holds_the_gate_open() -> None:
    """A drone that swells and ebbs: the floor that is proposed closes the gate."""
    drone = formats.to_pcm(
        [
            round(
                (1.0 if i // 1_600 % 2 else 0.4)
                * sum(1_500 / k * math.sin(2 * math.pi * 150 * k * i / 16_000) for k in range(1, 9))
            )
            for i in range(32_000)
        ]
    )
    settings = Vad(detector="webrtc", aggressiveness=0)
    found = hearing.judge_voice(drone, settings)
    names(found, "open all the time", "vad.level_floor_dbfs = ", result=Result.WARN)
    floor = float(found.remedy.split("= ")[1].split(";")[0])
    fixed = settings.model_copy(update={"level_floor_dbfs": floor})
    assert hearing.judge_voice(drone, fixed).result is Result.OK


def test_a_device_that_does_not_cancel_its_echo() -> None:
    """It was said to; the setting that is proposed makes it half duplex instead."""
    echo = sweep.Echo(True, 8.0, 120.0)
    claims = Audio(echo_cancellation="hardware")
    found = hearing.judge_echo(echo, claims, cancels=False, half_duplex=False)
    names(found, "would answer itself", 'audio.echo_cancellation = "auto"')
    fixed = hearing.judge_echo(echo, Audio(), cancels=False, half_duplex=True)
    assert fixed.result is Result.WARN


@pytest.mark.parametrize(
    ("attenuation_db", "cancels", "mode", "result", "word"),
    [
        (45.0, False, "auto", Result.OK, "45 dB"),
        (10.0, True, "auto", Result.OK, "cancelled"),
        (10.0, False, "off", Result.WARN, '"auto"'),
        (10.0, False, "auto", Result.WARN, "agentd[aec]"),
    ],
)
def test_echo(attenuation_db: float, cancels: bool, mode: Any, result: Result, word: str) -> None:
    """Loud or faint, cancelled or not."""
    echo = sweep.Echo(True, attenuation_db, 90.0)
    audio = Audio(echo_cancellation=mode)
    found = hearing.judge_echo(echo, audio, cancels=cancels, half_duplex=not cancels)
    names(found, word, result=result)


@pytest.mark.parametrize("attenuation_db", [0.0, 12.0, 30.0, 40.0])
def test_the_sweep_is_found_in_noise(attenuation_db: float) -> None:
    """To within a decibel and a millisecond, down to far below the noise."""
    recorded = formats.samples(noise(2.6, 200.0))
    gain = 10 ** (-attenuation_db / 20)
    for at, value in enumerate(sweep.sweep(16_000)):
        recorded[at + 3_200] += round(value * gain)
    echo = sweep.find(recorded)
    assert echo.heard
    assert echo.attenuation_db == pytest.approx(attenuation_db, abs=1.0)
    assert echo.delay_ms == pytest.approx(200.0, abs=1.0)


def test_a_stutter_in_the_sweep_costs_little() -> None:
    """30 ms were swallowed in its middle: the rest is still found, and its level is right."""
    recorded = formats.samples(noise(2.6, 100.0))
    played = sweep.sweep(16_000)
    del played[4_000:4_480]
    for at, value in enumerate(played):
        recorded[at + 3_200] += value // 10
    echo = sweep.find(recorded)
    assert echo.heard
    assert echo.attenuation_db == pytest.approx(20.0, abs=2.0)


def test_of_two_sweeps_the_louder_echo_is_believed() -> None:
    """What tears one of them makes it fainter, or unheard."""
    whole, torn = sweep.Echo(True, 12.0, 90.0), sweep.Echo(True, 18.8, 95.0)
    unheard = sweep.Echo(False, 3.0, 400.0)
    assert sweep.loudest([torn, whole]) == sweep.loudest([whole, unheard]) == whole
    assert not sweep.loudest([]).heard


def test_no_sweep_is_found_where_none_is() -> None:
    """In noise, in silence, and in nothing."""
    assert not sweep.find(formats.samples(noise(2.6, 200.0))).heard
    assert not sweep.find([0] * 40_000).heard
    assert not sweep.find([]).heard


def test_suggestions_lead_to_sound() -> None:
    """A close name first, else a card; never a plugin that leads nowhere."""

    def info(name: str) -> DeviceInfo:
        return DeviceInfo(name, "", True, True)

    listed = [info(name) for name in ("default", "lavrate", "null", "plughw:CARD=Pro", "Pro")]
    assert hearing.suggest("plughw:CARD=Por", listed) == "plughw:CARD=Pro"
    assert hearing.suggest("kitchen", listed) == "Pro"
    assert hearing.suggest("kitchen", [info("lavrate"), info("default")]) == "default"
    assert hearing.suggest("default", [info("lavrate")]) == ""
