"""Starting, stopping, losing power, coming back: the conversation goes on (P3, S1)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from live_emulator import Emulator, EmulatorOptions
from rig.sound import SoundRig
from tests.e2e.driver import Home, Speaker, files, home, run, show, speaking
from tests.e2e.sounds import Room

pytestmark = pytest.mark.slow

STOP_S = 5.0
"""The promise to systemd; the one bound on wall time that a test may hold against the daemon."""
TONE = EmulatorOptions(latency_s=0.1, reply="tone", connection_limits=False)
LONG = "Tell me a long story. " * 10
"""The emulator answers typed text with a tone as long as its reading takes, here 13 s."""


async def ask(speaker: Speaker, text: str = "Hm?") -> None:
    """Type a question and wait until its answer has been heard."""
    since = speaker.mark()
    await speaker.control("say", text=text)
    await speaker.wait_event("turn", since=since, interrupted=False)


def handles_issued(emulator: Emulator) -> list[str]:
    """Return every handle that the service gave, oldest first."""
    updates = emulator.record.select("sessionResumptionUpdate", direction="out")
    found = [(e.message or {})["sessionResumptionUpdate"].get("newHandle") for e in updates]
    return [handle for handle in found if handle]


def handle_of_setup(emulator: Emulator, connection: int) -> str | None:
    """Return the handle with which a connection was set up."""
    (entry,) = emulator.record.select("setup", connection=connection)
    handle = (entry.message or {})["setup"].get("sessionResumption", {}).get("handle")
    return None if handle is None else str(handle)


def handle_on_disk(house: Home) -> str:
    """Return the newest handle of the state file."""
    text = (house.state / "session.json").read_text(encoding="utf-8")
    return next(handle for handle in _strings(json.loads(text)) if len(handle) == 36)


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.rig
@pytest.mark.parametrize("moment", ["idle", "reply", "frozen"])
def test_sigterm_ends_it_in_time_and_a_restart_goes_on(
    moment: str, rig: SoundRig, tmp_path: Path
) -> None:
    """Exit 0 within 5 s, the newest handle on disk, and the next start resumes with it."""

    async def main() -> None:
        async with Emulator(TONE) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    await ask(speaker)
                    if moment == "reply":
                        since = speaker.mark()
                        await speaker.control("say", text=LONG)
                        await speaker.wait_event("reply_started", since=since)
                    if moment == "frozen":
                        emulator.faults.do("freeze")
                    began_s = time.monotonic()
                    assert await speaker.stop() == 0
                    took_s = time.monotonic() - began_s
                assert "STOPPING=1" in speaker.notified
                assert speaker.shown()[-1] in {"idle", "follow_up"}
                handle = handle_on_disk(house)
                assert handle in handles_issued(emulator)
                (session,) = emulator.store.sessions
                emulator.faults.do("thaw")
                async with speaking(house) as again:
                    resumed = await again.wait_event("resumed")
                    await ask(again)
                assert not again.told("session_fresh")
                connection = max(e.connection for e in emulator.record.select("setup"))
                assert handle_of_setup(emulator, connection) == handle
                assert list(emulator.store.sessions) == [session]
            show(f"{moment}: stopped in {took_s * 1000:.0f} ms, resumed in {resumed['gap_ms']} ms")
            assert took_s <= STOP_S

    run(main())


@pytest.mark.rig
def test_a_power_cut_in_mid_conversation_is_survived(rig: SoundRig, tmp_path: Path) -> None:
    """Kill -9 while a reply is heard; the next start resumes the conversation."""

    async def main() -> None:
        async with Emulator(TONE) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                speaker = Speaker(house)
                await speaker.start()
                await speaker.wait_event("session_fresh")
                await ask(speaker)
                await speaker.wait_event("handle_stored")
                since = speaker.mark()
                await speaker.control("say", text=LONG)
                await speaker.wait_event("reply_started", since=since)
                await speaker.kill()
                handle = handle_on_disk(house)
                async with speaking(house) as again:
                    await again.wait_event("resumed")
                    await ask(again)
                    status = await again.control("status")
                assert handle in handles_issued(emulator)
                assert handle_of_setup(emulator, 2) == handle
                assert len(emulator.store.sessions) == 1
                assert status["session"]["resumes"] == 1
                assert not again.told("state_quarantined")

    run(main())


@pytest.mark.parametrize(
    "garbage", [b"\x00" * 4096, b'{"format": 1, "kind": "session", "doc'], ids=["zeros", "torn"]
)
def test_a_garbage_state_file_is_put_aside_and_told_once(garbage: bytes, tmp_path: Path) -> None:
    """A fresh session begins, the file is kept for whoever wants to look, and it is told once."""

    async def main() -> None:
        async with Emulator(EmulatorOptions(reply="tone", tone_s=0.2)) as emulator:
            room = Room(tmp_path / "mic.wav")
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                (house.state / "session.json").write_bytes(garbage)
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    await ask(speaker)
                told = speaker.told("state_quarantined")
                assert [event["file"] for event in told] == ["session.json"]
                assert (house.state / told[0]["aside"]).read_bytes() == garbage
                async with speaking(house) as again:
                    await again.wait_event("resumed")
                assert not again.told("state_quarantined")

    run(main())
