"""Whatever the service sends: the daemon lives, and the next question is answered (L8)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from live_emulator import Emulator, EmulatorOptions
from tests.e2e.driver import files, home, run, show, speaking
from tests.e2e.sounds import Room

pytestmark = pytest.mark.slow

QUICK = EmulatorOptions(
    latency_s=0.1, reply="tone", tone_s=0.3, connection_limits=False, handle_on_setup=True
)
Strike = Callable[[Emulator], None]

STRIKES: dict[str, Strike] = {
    "malformed json": lambda e: e.faults.do("malformed_json"),
    "unknown frame": lambda e: e.faults.do("unknown_frame"),
    "unknown field": lambda e: e.faults.do("unknown_field"),
    "error frame": lambda e: e.faults.do("error_frame", code=500),
    "2 MiB frame": lambda e: e.faults.do("oversized_frame"),
    "phantom interrupted": lambda e: e.faults.do("phantom_interrupted"),
    "a list": lambda e: e.faults.do("send_raw", data="[]"),
    "a number": lambda e: e.faults.do("send_raw", data="17"),
    "null": lambda e: e.faults.do("send_raw", data="null"),
    "empty": lambda e: e.faults.do("send_raw", data=""),
    "deep": lambda e: e.faults.do("send_raw", data="[" * 100_000),
    "wrong types": lambda e: e.faults.do(
        "send_raw", data={"serverContent": {"modelTurn": [1, "x"]}}
    ),
    "bad base64": lambda e: e.faults.do(
        "send_raw",
        data={
            "serverContent": {
                "modelTurn": {
                    "parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "%%%"}}]
                }
            }
        },
    ),
    "odd audio": lambda e: e.faults.do(
        "send_raw",
        data={
            "serverContent": {
                "modelTurn": {
                    "parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "AAA="}}]
                }
            }
        },
    ),
    "strange goAway": lambda e: e.faults.do("send_raw", data={"goAway": {"timeLeft": "soon"}}),
    "strange handle": lambda e: e.faults.do(
        "send_raw",
        data={"sessionResumptionUpdate": {"newHandle": "x" * 100_000, "resumable": False}},
    ),
    "strange call": lambda e: e.faults.do(
        "send_raw",
        data={"toolCall": {"functionCalls": [{"name": "rm -rf", "args": {"a": [None]}}]}},
    ),
    "stray cancellation": lambda e: e.faults.do(
        "send_raw", data={"toolCallCancellation": {"ids": ["nobody", ""]}}
    ),
    "usage nonsense": lambda e: e.faults.do(
        "send_raw", data={"usageMetadata": {"promptTokenCount": -5}}
    ),
    "second setupComplete": lambda e: e.faults.do("send_raw", data={"setupComplete": {}}),
    "close of nothing": lambda e: e.faults.do(
        "send_raw", data={"serverContent": {"turnComplete": True}}
    ),
}


def test_every_odd_frame_is_survived(tmp_path: Path) -> None:
    """After each of them a question is asked and answered, and the daemon is the same process."""

    async def main() -> None:
        room = Room(tmp_path / "mic.wav")
        async with Emulator(QUICK) as emulator:
            emulator.faults.do("duplicate_setup_complete", times=0)
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    for name, strike in STRIKES.items():
                        since = speaker.mark()
                        strike(emulator)
                        await speaker.control("say", text="Well?")
                        show(f"after {name}")
                        await speaker.wait_event("turn", since=since, interrupted=False)
                    status = await speaker.control("status")
            session = status["session"]
            show(f"{len(STRIKES)} odd frames: {session['bad_frames']} told as bad,")
            show(f"{session['connections']} connections, {session['turns']} turns")
            assert status["turns"]["count"] >= len(STRIKES)
            assert session["bad_frames"] > 0

    run(main())


def test_frames_fired_while_a_reply_plays_leave_the_reply_whole(tmp_path: Path) -> None:
    """Unknown and malformed frames in the middle of an answer cost nothing of it."""

    async def main() -> None:
        room = Room(tmp_path / "mic.wav")
        async with Emulator(QUICK) as emulator:
            emulator.faults.do("unknown_frame", on="reply 0.2 s")
            emulator.faults.do("malformed_json", on="reply 0.4 s")
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    await speaker.control("say", text="A question of thirty characters.")
                    turn = await speaker.wait_event("turn")
            sent = sum(e.audio_bytes for e in emulator.record.select("audio", direction="out"))
            assert turn["heard_ms"] == pytest.approx(sent / 48, abs=25)
            assert len(speaker.told("unknown_frame")) == 1  # a kind of its own, and no fault
            assert len(speaker.told("bad_frame")) == 1
            assert emulator.info()["connections_total"] == 1

    run(main())
