"""Louder and softer."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agentd.clock import FakeClock
from agentd.config.settings import Audio, Settings
from agentd.device.volume import (
    MixerBusy,
    MixerVolume,
    SoftwareVolume,
    Volume,
    VolumeControl,
    best_control,
    clamp,
    find_control,
    mixer_device,
    playback_controls,
    run_amixer,
)
from agentd.errors import AudioError
from agentd.events import Event, PlaybackBack, VolumeChanged
from rig.sound import SoundRig
from tests.device.memory import MemoryStore

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


Find = Callable[[Audio], Awaitable[VolumeControl]]
ELSEWHERE = Settings(audio=Audio(playback_device="hw:2"))


def volume(store: MemoryStore, events: list[Event]) -> tuple[Volume, list[int]]:
    """Return a volume on the player's gain."""
    gain, gains = software()
    return knob_on(gain, gain, events, store), gains


def knob_on(
    control: VolumeControl | Find,
    fallback: VolumeControl,
    events: list[Event],
    store: MemoryStore | None = None,
) -> Volume:
    """Return a volume on a control, or on what a search finds."""
    return Volume(
        Audio(volume_percent=70),
        find=control if callable(control) else found(control),
        fallback=fallback,
        store=store or MemoryStore(),
        emit=events.append,
        clock=FakeClock(),
    )


def found(*controls: VolumeControl) -> Find:
    """Return a search that finds the next of `controls`, and the last one ever after."""
    waiting = list(controls)

    async def find(_audio: Audio) -> VolumeControl:
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    return find


async def test_volume_is_set_told_and_remembered(events: list[Event]) -> None:
    """Set once, heard at once, told once, and there again after a restart without a word."""
    store = MemoryStore()
    knob, gains = volume(store, events)
    assert await knob.set(35, by="control") == 35
    assert events == [VolumeChanged(percent=35, by="control")]
    again, restored = volume(store, events)
    await again.configure(ELSEWHERE)
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
    knob = knob_on(found(card, MixerVolume("hw:1", "PCM", Amixer())), gain, events)
    await knob.set(20, by="voice")
    assert gains == [20]
    knob.on_event(PlaybackBack(device="hw:1", outage_s=1.0))
    running = asyncio.create_task(knob.run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    await knob.set(30, by="voice")
    assert gains == [20]


class SlowCard:
    """A control that takes its time, and notes how many ask it at once."""

    def __init__(self) -> None:
        self.at_once = self.most = 0
        self.set_to: list[int] = []

    async def set_percent(self, percent: int) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0.01)
        self.set_to.append(percent)
        self.at_once -= 1


async def test_of_many_changes_at_once_the_card_gets_the_first_and_the_last(
    events: list[Event],
) -> None:
    """64 calls of the model in one message are two programs, one after the other."""
    card = SlowCard()
    knob = knob_on(card, card, events)
    answers = await asyncio.gather(*(knob.set(n, by="voice") for n in range(64)))
    assert answers[-1] == knob.percent == 63
    assert card.set_to in ([63], [0, 63])
    assert card.most == 1
    assert len(events) == 64


async def test_a_caller_that_gives_up_does_not_lose_what_others_want(events: list[Event]) -> None:
    """The tool's deadline ends one call; the newest volume reaches the card all the same."""
    card = SlowCard()
    knob = knob_on(card, card, events)
    first = asyncio.create_task(knob.set(10, by="voice"))
    second = asyncio.create_task(knob.set(20, by="control"))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert card.set_to == [20]


@pytest.mark.parametrize("kind", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
async def test_no_room_for_a_program_is_tried_again_and_the_card_stays(
    kind: int, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork that fails says nothing about the card: its control is not given up for good."""
    asked: list[str] = []
    full = [True]

    async def start(*arguments: str, **_options: object) -> object:
        asked.append(" ".join(arguments))
        if full.pop() if full else False:
            raise OSError(kind, os.strerror(kind))
        return Done()

    class Done:
        returncode = 0

        async def communicate(self) -> tuple[bytes, bytes]:
            return b"", b""

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    gain, gains = software()
    knob = knob_on(MixerVolume("hw:1", "PCM"), gain, events)
    assert await knob.set(20, by="voice") == 20
    assert len(asked) == 1
    running = asyncio.create_task(knob.run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    assert len(asked) > 1
    assert set(asked) == {"amixer -q -M -D hw:1 sset PCM,0 20% unmute"}
    assert gains == []
    assert not knob.fell_back


async def test_a_card_that_cannot_be_looked_at_for_lack_of_room_is_looked_at_again(
    events: list[Event],
) -> None:
    """At the start, when everything is started at once: software volume is not the answer."""
    amixer = Amixer()
    refusals = [MixerBusy("amixer: no room. See what else runs")]

    async def run(*arguments: str) -> str:
        if refusals:
            raise refusals.pop()
        return await amixer(*arguments)

    gain, _ = software()
    knob = knob_on(lambda _audio: find_control("hw:1", "auto", gain, run), gain, events)
    running = asyncio.create_task(knob.run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    assert amixer.commands[-1].startswith("-q -M -D hw:1 sset Headset,0 70%")


async def test_other_card(events: list[Event]) -> None:
    """Another card comes up at the same volume."""
    gain, gains = software()
    amixer = Amixer()
    knob = knob_on(found(gain, MixerVolume("hw:2", "PCM", amixer)), gain, events)
    await knob.set(70, by="control")
    await knob.configure(ELSEWHERE)
    await knob.configure(ELSEWHERE)
    assert gains == [70]
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
