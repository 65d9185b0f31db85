"""Spoken to, not overheard: what reaches the service with a wake word, from its own record."""

from __future__ import annotations

import asyncio
import signal
import wave
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agentd.vad.clips import read_clip
from agentd.vad.words import package_folder
from live_emulator import Emulator, EmulatorOptions
from tests.e2e.driver import Config, Home, Speaker, files, home, merged, run, speaking
from tests.e2e.sounds import match, needs_words, samples, seconds, word, words

pytestmark = [
    pytest.mark.slow,
    needs_words,
    pytest.mark.skipif(package_folder() is None, reason="the extra wake is not installed"),
]

QUICK = EmulatorOptions(latency_s=0.1, reply="tone", tone_s=0.3, connection_limits=False)
WAKE: Config = {"attention": {"mode": "wake-word", "follow_up_s": 0.0, "listen_s": 3.0}}
SENTENCE = ("Front_Left", "Front_Right", "Side_Left")
NABU = read_clip("okay_nabu") or b""
SOUND_END_S = 0.22  # of the clip: silence behind the word


def room(path: Path, *parts: tuple[float, bytes]) -> Path:
    """Write a microphone of these sounds, each after so many seconds of a quiet room."""
    sound = b"".join(bytes(2 * round(gap_s * 16_000)) + pcm for gap_s, pcm in parts)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(sound + bytes(32_000))
    return path


def house_of(
    tmp_path: Path, emulator: Emulator, microphone: Path, config: Config
) -> AbstractContextManager[Home]:
    """Make a home of files whose daemon waits for the word."""
    return home(tmp_path, emulator, merged(files(microphone, tmp_path / "spk.wav"), WAKE, config))


async def through(speaker: Speaker, microphone: Path) -> None:
    """Wait until the daemon has heard the whole file, and a while of silence behind it."""
    frames = len(await asyncio.to_thread(microphone.read_bytes)) // 640 + 25

    async def heard() -> bool:
        return int((await speaker.control("status"))["audio"]["capture"]["frames"]) > frames

    async with asyncio.timeout(90):
        while not await heard():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


def test_without_the_word_not_a_byte_leaves(tmp_path: Path) -> None:
    """Through a reload, a break, and mute off and on; the journal says so, too."""

    async def main() -> None:
        spoken = words(*SENTENCE)
        microphone = room(tmp_path / "mic.wav", *[(0.4, spoken)] * 6)
        async with Emulator(QUICK) as emulator:
            with house_of(tmp_path, emulator, microphone, {}) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("wake_ready")
                    await speaker.wait_event("session_fresh")
                    emulator.faults.do("reset")
                    await speaker.wait_event("disconnected")
                    since = speaker.mark()
                    await speaker.control("mute")
                    await speaker.control("unmute")
                    house.configure({"live": {"voice": "Puck"}, "attention": {"listen_s": 4.0}})
                    speaker.signal(signal.SIGHUP)
                    await speaker.wait_event("reloaded", since=since)
                    await through(speaker, microphone)
                    status = await speaker.control("status")
            assert emulator.received_audio() == b""
            assert speaker.told("uplink_opened") == []
            assert speaker.told("utterance") == []
            assert status["attention"]["stance"] == "asleep"
            assert status["attention"]["words"] == {"okay_nabu": 0.85}

    run(main())


@pytest.mark.parametrize("gap_s", [0.0, 0.8])
def test_the_command_arrives_whole_in_one_breath(tmp_path: Path, gap_s: float) -> None:
    """From the end of the word on: right behind it and after a pause. What is said later is not."""

    async def main() -> None:
        command = words(*SENTENCE)
        parts: Sequence[tuple[float, bytes]] = [
            (0.5, word("Rear_Center")),
            (1.5, NABU[: -round(SOUND_END_S * 32_000) // 2 * 2]),
            (gap_s, command),
            (3.0, words("Rear_Left", "Rear_Right")),
        ]
        microphone = room(tmp_path / "mic.wav", *parts)
        async with Emulator(QUICK) as emulator:
            with house_of(tmp_path, emulator, microphone, {}) as house:
                async with speaking(house) as speaker:
                    wake = await speaker.wait_event("wake")
                    turn = await speaker.wait_event("turn")
                    await through(speaker, microphone)
            assert wake["word"] == "okay_nabu"
            assert turn["interrupted"] is False
            (utterance,) = emulator.utterances
            found = match(samples(command), samples(utterance.pcm))
            assert found.likeness > 0.99
            # No more of the word than the decision was late, and nothing from before it.
            assert found.at / 16_000 - gap_s < 0.45
            assert utterance.seconds - gap_s < seconds(command) + 0.45 + 0.7
            assert len(emulator.received_audio()) == len(utterance.pcm)
            named = [event.name for event in speaker.events]
            assert named.index("wake") < named.index("uplink_opened")
            shown = speaker.shown()
            assert shown[shown.index("listening") - 1] in {"follow_up", "starting", "idle"}

    run(main())


def test_a_released_connection_is_dialled_at_the_word(tmp_path: Path) -> None:
    """And the command that was said meanwhile is whole."""

    async def main() -> None:
        command = words(*SENTENCE)
        microphone = room(tmp_path / "mic.wav", (6.0, NABU), (0.0, command), (4.0, b""))
        release: Config = {"live": {"idle_release_min": 0.02}}
        async with Emulator(QUICK) as emulator:
            with house_of(tmp_path, emulator, microphone, release) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("released")
                    since = speaker.mark()
                    await speaker.wait_event("wake", since=since)
                    await speaker.wait_event("turn", since=since)
            utterance = emulator.utterances[0]
            assert match(samples(command), samples(utterance.pcm)).likeness > 0.99

    run(main())


def test_a_word_without_a_command_asks_nothing_for_long(tmp_path: Path) -> None:
    """The light goes off again and the device sleeps."""

    async def main() -> None:
        microphone = room(tmp_path / "mic.wav", (1.0, NABU), (4.0, words(*SENTENCE)))
        async with Emulator(QUICK) as emulator:
            with house_of(tmp_path, emulator, microphone, {}) as house:
                async with speaking(house) as speaker:
                    ended = await speaker.wait_event("utterance")
                    await through(speaker, microphone)
            assert ended["reason"] == "discarded"
            assert len(speaker.told("utterance")) == 1
            assert seconds(emulator.received_audio()) < 4.0

    run(main())


def test_without_its_model_the_device_is_not_open(tmp_path: Path) -> None:
    """The cause and the remedy are told, and nothing is sent."""

    async def main() -> None:
        microphone = room(tmp_path / "mic.wav", (0.5, NABU), (0.2, words(*SENTENCE)))
        config: Config = {"attention": {"words": ["hey_house"], "models": str(tmp_path / "none")}}
        async with Emulator(QUICK) as emulator:
            with house_of(tmp_path, emulator, microphone, config) as house:
                async with speaking(house) as speaker:
                    missing = await speaker.wait_event("wake_unavailable")
                    refused = speaker.told("wake_model_refused")
                    await through(speaker, microphone)
            assert "only the button" in missing["instead"]
            assert "hey_house" in missing["cause"]
            assert "okay_nabu" in refused[0]["remedy"]
            assert emulator.received_audio() == b""

    run(main())
