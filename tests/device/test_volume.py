"""Louder and softer."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from agentd.device.volume import (
    MixerVolume,
    SoftwareVolume,
    Volume,
    best_control,
    clamp,
    find_control,
    mixer_device,
    playback_controls,
    run_amixer,
)
from agentd.errors import AudioError
from agentd.events import Event, VolumeChanged
from tests.device.memory import MemoryStore
from tests.rig.sound import SoundRig

pytestmark = pytest.mark.anyio

# `amixer scontents` of a USB speakerphone, shortened.
SPEAKERPHONE = """\
Simple mixer control 'Headset',0
  Capabilities: pvolume pvolume-joined pswitch pswitch-joined
  Playback channels: Mono
  Limits: Playback 0 - 11
  Mono: Playback 8 [73%] [-12.00dB] [on]
Simple mixer control 'Mic',0
  Capabilities: cvolume cvolume-joined cswitch cswitch-joined
Simple mixer control 'PCM',1
  Capabilities: pvolume
Simple mixer control 'Sidetone',0
  Capabilities: volume pswitch
Simple mixer control 'Auto Gain Control',0
  Capabilities: pswitch pswitch-joined
"""


class Amixer:
    """What the card was told; refuses commands that contain a forbidden word."""

    def __init__(self, listing: str = SPEAKERPHONE, refuses: str = "\0") -> None:
        self.listing, self.refuses = listing, refuses
        self.commands: list[str] = []

    async def __call__(self, *arguments: str) -> str:
        command = " ".join(arguments)
        if self.refuses in command:
            raise AudioError("refused")
        self.commands.append(command)
        return self.listing


def software() -> tuple[SoftwareVolume, list[int]]:
    """Return the player's gain and what it was set to."""
    gains: list[int] = []
    return SoftwareVolume(gains.append), gains


def test_controls_with_a_playback_volume() -> None:
    """Microphones, switches and second instances are no volume controls."""
    assert playback_controls(SPEAKERPHONE) == ["Headset", "Sidetone"]
    assert playback_controls("") == []


def test_best_control() -> None:
    """The most general of the usual names wins; an unusual one is better than none."""
    assert best_control(["Headphone", "PCM", "Master"]) == "Master"
    assert best_control(["Thing"]) == "Thing"
    assert best_control([]) is None


@pytest.mark.parametrize(
    ("pcm", "device"),
    [
        ("default", "default"),
        ("plughw:CARD=Device,DEV=0", "hw:Device"),
        ("sysdefault:CARD=vc4hdmi", "hw:vc4hdmi"),
        ("hw:1,0", "hw:1"),
        ("plughw:seeed2micvoicec", "hw:seeed2micvoicec"),
        ("pulse", "pulse"),
    ],
)
def test_mixer_device(pcm: str, device: str) -> None:
    """The mixer belongs to the card of the PCM; other PCMs have a mixer of their name."""
    assert mixer_device(pcm) == device


async def test_card_with_a_control() -> None:
    """The card's control is used and the player is left at full: one knob, not two in a row."""
    amixer, (gain, gains) = Amixer(), software()
    control = await find_control("plughw:CARD=Jabra,DEV=0", "auto", gain, amixer)
    await control.set_percent(40)
    assert gains == [100]
    assert amixer.commands == [
        "-D hw:Jabra scontents",
        "-q -M -D hw:Jabra sset Headset,0 40% unmute",
    ]


@pytest.mark.parametrize(
    ("pcm", "wanted", "amixer"),
    [
        ("file:/x.wav", "auto", Amixer()),
        ("default", "software", Amixer()),
        ("default", "auto", Amixer("")),
        ("default", "auto", Amixer(refuses="scontents")),
    ],
)
async def test_software_volume(pcm: str, wanted: str, amixer: Amixer) -> None:
    """A file, a card without a control or without a mixer: the player's gain."""
    gain, gains = software()
    control = await find_control(pcm, wanted, gain, amixer)
    await control.set_percent(40)
    assert gains == [40]


async def test_named_control() -> None:
    """A control named in the configuration is used without asking for others."""
    amixer, (gain, _) = Amixer(), software()
    control = await find_control("default", "Speaker,1", gain, amixer)
    await control.set_percent(5)
    assert amixer.commands == ["-q -M -D default sset Speaker,1 5% unmute"]


async def test_control_without_a_switch() -> None:
    """A control that cannot be unmuted is set all the same."""
    amixer = Amixer(refuses="unmute")
    await MixerVolume("hw:1", "PCM", amixer).set_percent(30)
    assert amixer.commands == ["-q -M -D hw:1 sset PCM,0 30%"]


def fake_amixer(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called amixer on the path."""
    program = folder / "amixer"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


async def test_amixer_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What amixer prints is returned; it sees the arguments."""
    fake_amixer(tmp_path, 'echo "got $*"', monkeypatch)
    assert await run_amixer("-D", "hw:1", "scontents") == "got -D hw:1 scontents\n"


async def test_amixer_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its complaint is the cause, with what to do."""
    fake_amixer(tmp_path, 'echo "Invalid card number" >&2; exit 1', monkeypatch)
    with pytest.raises(AudioError, match=r"Invalid card number.*scontrols"):
        await run_amixer("scontents")
    fake_amixer(tmp_path, "exit 1", monkeypatch)
    with pytest.raises(AudioError, match="amixer failed"):
        await run_amixer("scontents")


async def test_amixer_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wedged card does not hold the daemon up, and leaves no process behind."""
    fake_amixer(tmp_path, "exec sleep 60", monkeypatch)
    monkeypatch.setattr("agentd.device.volume.AMIXER_TIMEOUT_S", 0.2)
    async with asyncio.timeout(20):
        with pytest.raises(AudioError, match="does not answer"):
            await run_amixer("scontents")


async def test_amixer_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without alsa-utils the message names the package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match="alsa-utils"):
        await run_amixer("scontents")


def volume(store: MemoryStore, events: list[Event]) -> tuple[Volume, list[int]]:
    """Return a volume on the player's gain."""
    gain, gains = software()
    made = Volume(control=gain, fallback=gain, store=store, emit=events.append, default_percent=70)
    return made, gains


async def test_volume_is_set_told_and_remembered(events: list[Event]) -> None:
    """Set once, heard at once, told once, and there again after a restart without a word."""
    store = MemoryStore()
    knob, gains = volume(store, events)
    assert await knob.set(35, by="control") == 35
    assert events == [VolumeChanged(percent=35, by="control")]
    again, restored = volume(store, events)
    await again.start()
    assert (again.percent, gains, restored, len(events)) == (35, [35], [35], 1)


@pytest.mark.parametrize(("percent", "expected"), [(-5, 0), (0, 0), (101, 100), (10**9, 100)])
async def test_clamp(percent: int, expected: int, events: list[Event]) -> None:
    """Below nothing and above everything are the ends."""
    knob, _ = volume(MemoryStore(), events)
    assert await knob.set(percent, by="voice") == expected == clamp(percent)


async def test_steps(events: list[Event]) -> None:
    """A step is ten per cent, and stops at the end."""
    knob, gains = volume(MemoryStore(), events)
    for steps in (1, 1, 1, 1, -2):
        await knob.step(steps, by="button")
    assert gains == [80, 90, 100, 100, 80]


@pytest.mark.parametrize("saved", ['{"percent": "x"}', '{"percent": true}', "{}"])
async def test_damaged_document(saved: str, events: list[Event]) -> None:
    """A document without sense means the volume of the first start."""
    store = MemoryStore()
    store.texts["volume"] = saved
    assert volume(store, events)[0].percent == 70


async def test_card_refuses(events: list[Event]) -> None:
    """If the card's control goes away, the player's gain takes over."""
    gain, gains = software()
    card = MixerVolume("hw:1", "PCM", Amixer(refuses="sset"))
    knob = Volume(
        control=card, fallback=gain, store=MemoryStore(), emit=events.append, default_percent=70
    )
    await knob.set(20, by="voice")
    assert gains == [20]


async def test_other_card(events: list[Event]) -> None:
    """Another card comes up at the same volume."""
    knob, _ = volume(MemoryStore(), events)
    amixer = Amixer()
    await knob.use(MixerVolume("hw:2", "PCM", amixer))
    assert amixer.commands == ["-q -M -D hw:2 sset PCM,0 70% unmute"]


@pytest.mark.rig
async def test_real_mixer(rig: SoundRig) -> None:
    """The real amixer finds and turns the control of a real ALSA mixer; the server agrees."""
    gain, gains = software()
    control = await find_control("default", "auto", gain)
    assert isinstance(control, MixerVolume)
    assert (control.device, control.control, gains) == ("default", "Master", [100])
    percents = []
    for wanted in (100, 50, 0):
        await control.set_percent(wanted)
        process = await asyncio.create_subprocess_exec(
            "pactl", "get-sink-volume", "spk", stdout=asyncio.subprocess.PIPE
        )
        told = (await process.communicate())[0].decode()
        percents.append(int(told.partition("%")[0].rpartition("/")[2]))
    assert percents == sorted(percents, reverse=True)
    assert (percents[0], percents[-1]) == (100, 0)
