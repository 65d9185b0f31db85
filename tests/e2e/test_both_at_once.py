"""Speaker and microphone at the same time: interrupting a reply, and not hearing oneself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from live_emulator import Emulator, EmulatorOptions
from rig.sound import SoundRig
from tests.e2e.driver import home, recording, run, show, speaking
from tests.e2e.sounds import needs_words, word

pytestmark = [pytest.mark.rig, pytest.mark.slow, needs_words]

PARROT = EmulatorOptions(latency_s=0.1, connection_limits=False)


def test_speaking_over_a_reply_silences_it_for_good(rig: SoundRig, tmp_path: Path) -> None:
    """The speaker falls silent and stays so until the next answer, though the service sends on."""

    async def main() -> None:
        options = EmulatorOptions(latency_s=0.1, reply="tone", tone_s=8.0, connection_limits=False)
        async with Emulator(options) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker, recording(rig) as room:
                    await speaker.wait_event("session_fresh")
                    emulator.faults.do("audio_after_interrupted", chunks=25)
                    rig.start_speaking(word("Front_Left"))
                    begun_s = await asyncio.to_thread(room.wait_for_sound, "spk", timeout_s=60)
                    rig.start_speaking(word("Front_Center"))
                    stopped = await speaker.wait_event("interrupted")
                    await speaker.wait_event("reply_drained")
                    await speaker.until(lambda: len(speaker.told("reply_started")) == 2, "answer")
                    await asyncio.to_thread(room.wait_recorded, "spk", 0.5)
                    mic, spk = room.track("mic"), room.track("spk")
            over_s = mic.onset(after_s=begun_s)
            assert over_s is not None
            silent_s = spk.silence(after_s=over_s)
            assert silent_s is not None
            show(f"{(silent_s - over_s) * 1000:.0f} ms from the first sound to silence")
            spoken_until_s = mic.silence(after_s=over_s + 1.0)
            answer_s = spk.onset(after_s=silent_s)
            assert spoken_until_s is not None
            assert answer_s is not None
            assert silent_s < spoken_until_s < answer_s
            assert stopped["by"] == "local"
            assert stopped["heard_ms"] < 8000
            (interrupted,) = emulator.record.select("interrupted", direction="out")
            late = emulator.record.select("audio", direction="out", since=interrupted.seq)
            answered = emulator.record.select("activityEnd", since=interrupted.seq)[0].seq
            assert [e for e in late if e.seq < answered], "nothing came late; this shows nothing"

    run(main())


@pytest.mark.parametrize("echo_cancellation", ["off", "hardware"])
def test_half_duplex_does_not_hear_itself(
    echo_cancellation: str, rig: SoundRig, tmp_path: Path
) -> None:
    """In a room that echoes, the reply opens the gate only where nothing shuts it (the control)."""

    async def main() -> None:
        async with Emulator(PARROT) as emulator:
            config = {"audio": {"echo_cancellation": echo_cancellation}}
            with home(tmp_path, emulator, config, rig) as house:
                async with speaking(house) as speaker, recording(rig) as room:
                    await speaker.wait_event("session_fresh")
                    await asyncio.to_thread(rig.speak, word("Front_Center"))
                    with rig.echo(gain_db=-6.0):
                        if echo_cancellation == "hardware":
                            await speaker.wait_event("interrupted")
                            return
                        since = speaker.mark()
                        await speaker.wait_event("turn", interrupted=False)
                        await speaker.state("idle")
                        mic = room.track("mic")
            spoken_s = mic.onset()
            assert spoken_s is not None
            echoed_s = mic.onset(after_s=spoken_s + 2.0, threshold_dbfs=-40.0)
            assert echoed_s is not None, "the room did not echo"
            assert "listening" not in speaker.shown(since)[1:]
            assert len(speaker.told("utterance")) == 1
            assert len(emulator.utterances) == 1

    run(main())
