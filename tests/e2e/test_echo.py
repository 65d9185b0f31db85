"""The device in a room that echoes: it does not hear itself, and it hears who speaks over it.

The speaker's sink is convolved with a room response and played into the microphone's sink, where
the user speaks too. What is asserted was recorded at the two sinks, or said by the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentd.audio.echo import policy as echo
from live_emulator import Emulator, EmulatorOptions
from rig import room
from rig.recording import Recorder, Track, level_dbfs
from rig.sound import SoundRig
from tests.e2e.driver import Config, Speaker, home, merged, recording, run, show, speaking
from tests.e2e.sounds import MIC_HZ, SPK_HZ, match, needs_words, samples, seconds, word, words

pytestmark = [
    pytest.mark.rig,
    pytest.mark.slow,
    needs_words,
    pytest.mark.skipif(not echo.is_installed(), reason="extra `aec` is not installed"),
]
FULL = "AGENTD_ACOUSTIC" in os.environ  # `make acoustic`: every level

PARROT = EmulatorOptions(latency_s=0.1, connection_limits=False)
SENTENCE = ("Front_Left", "Rear_Right", "Front_Center", "Rear_Left")
CANCEL: Config = {
    "audio": {"echo_cancellation": "on"},
    # The recorded words have pauses of 0.5 s between them.
    "vad": {"detector": "auto", "hangover_ms": 1200},
}


def breathless(*names: str) -> bytes:
    """Return words without a pause in which nothing could be interrupted."""
    spoken = [samples(word(name)) for name in names]
    loud = [np.flatnonzero(np.abs(one) > 500) for one in spoken]
    return b"".join(one[at[0] : at[-1]].tobytes() for one, at in zip(spoken, loud, strict=True))


def hear(rig: SoundRig, main: Coroutine[Any, Any, None]) -> None:
    """Run a scene. One that failed in air that was torn says nothing about the device."""
    try:
        run(main)
    except (AssertionError, TimeoutError) as error:
        if tears := rig.tears():
            pytest.skip(
                f"the machine tore the sound {len(tears)} times ({tears[-1]}): {error!r:.60}"
            )
        raise


def end_s(track: Track) -> float:
    """Return until when a track goes so far."""
    return track.start_s + track.duration_s


@dataclass(frozen=True, slots=True)
class Household:
    """A device that listens in a room that echoes, and recordings of both sinks."""

    rig: SoundRig
    emulator: Emulator
    speaker: Speaker
    tracks: Recorder

    async def speak(self, pcm: bytes) -> None:
        """Say something to its end."""
        await asyncio.to_thread(self.rig.speak, pcm)

    async def record_s(self, name: str, seconds: float) -> None:
        """Let so much more be recorded."""
        await asyncio.to_thread(self.tracks.wait_recorded, name, seconds)


async def starved(speaker: Speaker) -> tuple[int, int]:
    """Return how often the machine did not serve the daemon's devices in time."""
    audio = (await speaker.control("status"))["audio"]
    show(f"{audio['capture']}\n{audio['playback']}\n{audio['echo']}")
    return audio["playback"]["ran_dry"], audio["capture"]["overruns"]


@contextlib.asynccontextmanager
async def household(
    rig: SoundRig, folder: Path, *, gain_db: float, by: str = "canceller", **audio: str
) -> AsyncIterator[Household]:
    """Be at home: the daemon connected and its canceller loaded, the room with this echo."""
    response = folder / "room.npy"
    np.save(response, room.synthetic())  # a living room, 0.4 s of reverberation
    async with Emulator(PARROT) as emulator:
        with home(folder, emulator, merged(CANCEL, {"audio": audio}), rig) as house:
            async with speaking(house) as speaker, recording(rig) as tracks:
                await speaker.wait_event("session_fresh")
                await speaker.wait_event("echo", by=by)
                with rig.echo(gain_db=gain_db, response=response):
                    before = await starved(speaker)
                    try:
                        yield Household(rig, emulator, speaker, tracks)
                    finally:
                        if (after := await starved(speaker)) != before:
                            rig.tear(f"speaker dry, microphone overrun: {before}, then {after}")


@pytest.mark.parametrize("gain_db", [-6.0, -20.0] if FULL else [-6.0])
def test_a_reply_alone_never_opens_the_gate(gain_db: float, rig: SoundRig, tmp_path: Path) -> None:
    """Not even the first one, before the canceller knows the room."""

    async def main() -> None:
        async with household(rig, tmp_path, gain_db=gain_db) as at_home:
            speaker = at_home.speaker
            for turn in (1, 2):
                since = speaker.mark()
                await at_home.speak(words(*SENTENCE))
                await speaker.wait_event("turn", since=since)
                # The room still holds the last word.
                await at_home.record_s("mic", 1.0)
                assert len(speaker.told("utterance")) == turn, speaker.last_words()
            mic, spk = at_home.tracks.track("mic"), at_home.tracks.track("spk")
        assert speaker.told("interrupted") == []
        assert len(at_home.emulator.utterances) == 2
        replied_s = spk.onset()
        assert replied_s is not None
        heard_s = mic.onset(after_s=replied_s, threshold_dbfs=-50.0)
        assert heard_s is not None, "the room did not echo"
        assert heard_s - replied_s < 0.5, "the room did not echo"

    hear(rig, main())


@pytest.mark.parametrize("gain_db", [0.0, -6.0, -12.0, -20.0] if FULL else [-12.0])
def test_who_speaks_over_a_reply_silences_it(gain_db: float, rig: SoundRig, tmp_path: Path) -> None:
    """While still speaking, and what comes late of the old reply is never heard."""
    over = breathless("Rear_Center", "Side_Right", "Rear_Center")

    async def main() -> None:
        async with household(rig, tmp_path, gain_db=gain_db) as at_home:
            speaker = at_home.speaker
            at_home.emulator.faults.do("audio_after_interrupted", chunks=25)
            await at_home.speak(breathless(*SENTENCE))
            await speaker.wait_event("turn")
            since = speaker.mark()
            await at_home.speak(breathless(*SENTENCE))
            await speaker.wait_event("reply_started", since=since)
            await at_home.record_s("spk", 1.5)
            spoken_from_s = end_s(at_home.tracks.track("mic"))
            rig.start_speaking(over)
            await speaker.wait_event("turn", since=since, interrupted=True)
            await speaker.wait_event("turn", since=since, interrupted=False)
            mic, spk = at_home.tracks.track("mic"), at_home.tracks.track("spk")
        heard = match(samples(over), samples(mic.between(spoken_from_s, end_s(mic))))
        assert heard.likeness > 0.3, "the user was not heard in the room"
        over_s = spoken_from_s + heard.at / MIC_HZ
        words_said = speaker.last_words()
        assert level_dbfs(spk.between(over_s - 0.1, over_s)) > -50, f"no reply then\n{words_said}"
        # Until the answer, which waits for the end of what was said and for the hangover.
        late = spk.between(over_s, over_s + seconds(over) + 0.5)
        loud = np.flatnonzero(np.abs(samples(late)) > 30)
        assert len(loud), f"silent before anything was said\n{words_said}"
        silent_s = (loud[-1] + 1) / SPK_HZ
        show(f"echo {gain_db:.0f} dB: silent {silent_s * 1000:.0f} ms after the first sound")
        assert silent_s < seconds(over)
        assert spk.onset(after_s=over_s + seconds(over)) is not None, "no answer"
        assert len(speaker.told("utterance")) == 3, speaker.last_words()

    hear(rig, main())


@pytest.mark.skipif(not FULL, reason="make acoustic; in make test the same room is a computed one")
def test_a_room_without_echo_lets_a_reply_be_interrupted(rig: SoundRig, tmp_path: Path) -> None:
    """A headset and some noise: the canceller finds nothing to cancel, and is in nobody's way."""
    over = breathless("Rear_Center", "Side_Right", "Rear_Center")
    hum = np.random.default_rng(3).standard_normal(60 * MIC_HZ) * 100  # -50 dBFS

    async def main() -> None:
        async with household(rig, tmp_path, gain_db=-200.0) as at_home:
            speaker = at_home.speaker
            rig.start_speaking(hum.astype("<i2").tobytes())
            await at_home.speak(breathless(*SENTENCE))
            await speaker.wait_event("turn")
            for _ in range(3):
                since = speaker.mark()
                await at_home.speak(breathless(*SENTENCE))
                await speaker.wait_event("reply_started", since=since)
                await at_home.record_s("spk", 1.0)
                rig.start_speaking(over)
                await speaker.wait_event("turn", since=since, interrupted=True)
                await speaker.wait_event("turn", since=since, interrupted=False)
            status = await speaker.control("status")
        assert status["audio"]["echo"]["canceller"]["is_settled"]

    hear(rig, main())


def test_without_the_canceller_the_same_room_ends_every_reply(
    rig: SoundRig, tmp_path: Path
) -> None:
    """The control: full duplex, the room, and nothing against it."""

    async def main() -> None:
        async with household(
            rig, tmp_path, gain_db=-6.0, by="none needed", echo_cancellation="hardware"
        ) as at_home:
            await at_home.speak(words(*SENTENCE))
            await at_home.speaker.wait_event("interrupted")

    hear(rig, main())
