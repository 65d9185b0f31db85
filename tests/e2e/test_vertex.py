"""Vertex AI with an express key: what was not consumed is sent again, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_emulator import Emulator, EmulatorOptions
from tests.e2e.driver import files, home, merged, run, show, speaking
from tests.e2e.sounds import Room, needs_words

pytestmark = [pytest.mark.slow, needs_words]


def test_unconsumed_messages_are_sent_again_and_complete_the_utterance(tmp_path: Path) -> None:
    """Cut in mid-word with messages under way: the service puts every sample together once."""

    async def main() -> None:
        room = Room(
            tmp_path / "mic.wav", (0.2, ("Front_Center",)), (5.5, ("Rear_Left", "Rear_Right"))
        )
        options = EmulatorOptions(
            latency_s=0.1,
            reply="tone",
            tone_s=0.3,
            connection_limits=False,
            index_interval_s=0.2,
            consume_lag_s=0.3,
        )
        vertex = {"live": {"backend": "vertex"}}
        async with Emulator(options) as emulator:
            emulator.faults.do("reset", on="audio #2 1.5 s")
            config = merged(files(room.path, tmp_path / "spk.wav"), vertex)
            with home(tmp_path, emulator, config) as house:
                async with speaking(house) as speaker:
                    await speaker.until(lambda: len(speaker.told("turn")) == 2, "two answers")
                    (replayed,) = speaker.told("replayed", way="index")
                    (resumed,) = speaker.told("resumed")
            rest_ms = replayed["audio_ms"]
            show(f"resumed in {resumed['gap_ms']:.0f} ms, {rest_ms:.0f} ms of sound sent again")
            assert [len(held) for held in room.whole(emulator.utterances)] == [1, 1]
            # Less than the utterance went over the wire again: the rest of it, not all of it.
            sent = len(emulator.received_audio()) / 32
            once = sum(u.seconds for u in emulator.utterances if u.complete) * 1000
            assert once <= sent < once + 1500
            setups = [entry.message or {} for entry in emulator.record.select("setup")]
            assert [m["setup"]["sessionResumption"].get("transparent") for m in setups] == [
                True
            ] * 2
            assert "aiplatform" in emulator.record.select("connect")[0].detail["path"]
            assert not speaker.told("speech_lost")

    run(main())
