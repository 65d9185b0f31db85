"""Muted means that nothing is heard: not one byte of sound reaches the service."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from live_emulator import Emulator, EmulatorOptions
from rig.sound import SoundRig
from tests.e2e.driver import DEADLINE_S, POLL_S, Speaker, home, run, speaking
from tests.e2e.sounds import match, needs_words, samples, word, words

pytestmark = [pytest.mark.rig, pytest.mark.slow, needs_words]

QUICK = EmulatorOptions(latency_s=0.1, reply="tone", tone_s=0.3, connection_limits=False)
SENTENCE = ("Front_Left", "Front_Right", "Side_Left")


async def heard_again(speaker: Speaker, emulator: Emulator, rig: SoundRig) -> None:
    """Unmute, say a word, and see that it, and nothing before it, was heard."""
    received = len(emulator.received_audio())
    known = len(emulator.utterances)
    await speaker.control("unmute")
    await speaker.hears()
    since = speaker.mark()
    await asyncio.to_thread(rig.speak, word("Rear_Center"))
    await speaker.wait_event("turn", since=since, interrupted=False)
    assert len(emulator.utterances) == known + 1
    pcm = emulator.utterances[-1].pcm
    assert match(samples(word("Rear_Center")), samples(pcm)).likeness > 0.8
    assert len(emulator.received_audio()) - received == len(pcm)


def test_mute_stops_the_stream_in_mid_word(rig: SoundRig, tmp_path: Path) -> None:
    """From the answer to `mute` on no sound arrives, whatever is said, until `unmute`."""

    async def main() -> None:
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    saying = rig.start_speaking(words(*SENTENCE))
                    await emulator.record.wait_for("audio", 60.0, direction="in")
                    assert await speaker.control("mute") == {"muted": True}
                    # What was under way is ended, which is the last that can have carried sound.
                    ended = await emulator.record.wait_for("activityEnd", 60.0)
                    await asyncio.to_thread(saying.wait)
                    status = await speaker.control("status")
                    assert (status["state"], status["muted"]) == ("muted", True)
                    assert not status["audio"]["capture"]["alive"]
                    quiet = emulator.record.last_seq
                    await heard_again(speaker, emulator, rig)
            entries = emulator.record.select("audio", direction="in", since=ended.seq)
            assert [entry for entry in entries if entry.seq <= quiet] == []
            assert speaker.told("muted", by="control")
            assert speaker.told("unmuted", by="control")

    run(main())


def test_mute_outlives_a_restart(rig: SoundRig, tmp_path: Path) -> None:
    """Muted, stopped and started: still muted, and still not a byte."""

    async def main() -> None:
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    await speaker.control("mute")
                async with speaking(house) as again:
                    await again.wait_notified("READY=1")
                    await again.wait_event("session_fresh")
                    assert (await again.state("muted"))["muted"]
                    await asyncio.to_thread(rig.speak, words(*SENTENCE))
                    assert emulator.received_audio() == b""
                    await heard_again(again, emulator, rig)

    run(main())


def microphones(rig: SoundRig) -> int:
    """Return how many streams are open on the sound server's sources."""
    return len(rig.pactl("list", "short", "source-outputs").splitlines())


async def until_open(rig: SoundRig, count: int) -> None:
    """Wait until so many microphones are open."""
    async with asyncio.timeout(DEADLINE_S):
        while await asyncio.to_thread(microphones, rig) != count:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)


def test_after_reloads_at_once_one_microphone_is_open_and_mute_closes_it(
    rig: SoundRig, tmp_path: Path
) -> None:
    """By signal and by socket, with other settings each time; the sound server counts."""

    async def main() -> None:
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    await speaker.hears()
                    asked = []
                    for number in range(6):
                        house.configure({"audio": {"capture_gain_db": number % 2 + 1}})
                        speaker.signal(signal.SIGHUP)
                        asked.append(asyncio.create_task(speaker.control("reload")))
                        await asyncio.sleep(POLL_S)  # each finds other settings
                    assert await asyncio.gather(*asked) == [{"reloaded": True}] * len(asked)
                    await speaker.hears()
                    assert await asyncio.to_thread(microphones, rig) == 1
                    await speaker.control("mute")
                    await until_open(rig, 0)
                    house.configure({"audio": {"capture_gain_db": 3}})
                    await speaker.control("reload")
                    assert await asyncio.to_thread(microphones, rig) == 0
                    await heard_again(speaker, emulator, rig)
                    assert await asyncio.to_thread(microphones, rig) == 1

    run(main())
