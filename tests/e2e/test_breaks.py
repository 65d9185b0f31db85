"""Whatever ends a connection, whenever it does: no word is lost and none arrives twice (L1-L4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_emulator import Emulator, EmulatorOptions
from tests.e2e.driver import Speaker, files, home, run, show, speaking
from tests.e2e.sounds import Room, needs_words

pytestmark = pytest.mark.slow

CLOSES = (1000, 1001, 1006, 1008, 1011, 1012, 1013)
RESET = 0
SIDES = ("Center", "Left", "Right")
QUICK = EmulatorOptions(
    latency_s=0.1, reply="tone", tone_s=0.3, connection_limits=False, handle_on_setup=True
)


def end_connection(emulator: Emulator, code: int, **when: str) -> None:
    """Let the service close with a code, or the network reset the connection."""
    if code == RESET:
        emulator.faults.do("reset", **when)
    else:
        emulator.faults.do("close", code=code, **when)


def user_turns(emulator: Emulator) -> int:
    """Return how many questions the one conversation holds, as the service remembers it."""
    (session,) = emulator.store.sessions.values()
    return sum(turn.role == "user" for turn in session.history)


def gaps(speaker: Speaker) -> str:
    """Return what was measured of every resumption."""
    return ", ".join(f"{event['gap_ms']:.0f}" for event in speaker.told("resumed")) + " ms"


@needs_words
def test_every_sample_arrives_once_whenever_the_connection_ends(tmp_path: Path) -> None:
    """Reset when idle, GoAway in mid-word, reset in mid-word, reset in mid-reply: four resumptions.

    Only the question whose answer was cut is asked again, and the service remembers it once.
    """

    async def main() -> None:
        room = Room(
            tmp_path / "mic.wav",
            (0.2, ("Front_Center",)),
            (5.5, ("Front_Left",)),
            (11.0, ("Front_Right",)),
            (16.5, ("Rear_Center",)),
            (23.5, ("Side_Right",)),
        )
        options = EmulatorOptions(latency_s=0.1, connection_limits=False)
        async with Emulator(options) as emulator:
            emulator.faults.do("go_away", time_left_s=6.0, on="audio #2 0.5 s")
            emulator.faults.do("reset", on="audio #3 0.9 s")
            emulator.faults.do("reset", on="reply #4 0.5 s")
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("turn")
                    emulator.faults.do("reset")
                    await speaker.until(lambda: len(answers(speaker)) == 5, "five answers")
                    await speaker.until(lambda: len(speaker.told("resumed")) == 4, "resumptions")
            show(f"resumed in {gaps(speaker)}")
            assert [len(held) for held in room.whole(emulator.utterances)] == [1, 1, 1, 2, 1]
            assert user_turns(emulator) == 5
            assert len(speaker.told("session_fresh")) == 1
            assert not speaker.told("speech_lost")
            assert not speaker.told("turn_failed")

    run(main())


def answers(speaker: Speaker) -> list[object]:
    """Return the turns that were answered to their end."""
    return [turn for turn in speaker.told("turn") if not turn["interrupted"]]


@needs_words
def test_every_close_code_in_mid_word_loses_nothing(tmp_path: Path) -> None:
    """One utterance for each code, closed half a second into it: whole, once, in one session."""

    async def main() -> None:
        codes = (*CLOSES, RESET)
        names = [f"{where}_{side}" for where in ("Front", "Rear") for side in SIDES]
        names += ["Side_Left", "Side_Right"]
        room = Room(tmp_path / "mic.wav", *((0.3 + 3.4 * i, (n,)) for i, n in enumerate(names)))
        async with Emulator(QUICK) as emulator:
            for number, code in enumerate(codes):
                # Every cut is followed by a repetition, which counts as an utterance too.
                end_connection(emulator, code, on=f"audio #{2 * number + 1} 0.5 s")
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    # On a busy machine the next word may come into a late answer, and stop it.
                    await speaker.until(lambda: len(speaker.told("turn")) >= len(codes), "turns")
            show(f"{codes} resumed in {gaps(speaker)}")
            held = dict(zip(codes, room.whole(emulator.utterances), strict=True))
            assert {code: len(times) for code, times in held.items()} == dict.fromkeys(codes, 1)
            assert len(speaker.told("resumed")) == len(codes)
            assert user_turns(emulator) == len(codes)
            assert len(speaker.told("session_fresh")) == 1
            assert not speaker.told("speech_lost")

    run(main())


@pytest.mark.parametrize("phase", ["idle", "setup", "reply"])
def test_every_close_code_at_other_times_is_survived(phase: str, tmp_path: Path) -> None:
    """Each question gets its answer, whatever code ends the connection before or within it."""

    async def main() -> None:
        silence = Room(tmp_path / "mic.wav")
        async with Emulator(QUICK) as emulator:
            with home(tmp_path, emulator, files(silence.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    for number, code in enumerate((*CLOSES, RESET)):
                        await ask_over_a_break(speaker, emulator, phase, code)
                        assert len(answers(speaker)) == number + 1
                    status = await speaker.control("status")
            show(f"{phase}: resumed in {gaps(speaker)}; {status['session']['dials']} dials")
            assert not speaker.told("turn_failed")
            assert not speaker.told("speech_lost")
            assert emulator.info()["connections_total"] == status["session"]["dials"]

    run(main())


async def ask_over_a_break(speaker: Speaker, emulator: Emulator, phase: str, code: int) -> None:
    """Type a question, end the connection in a phase, and wait for the answer."""
    since, seq = speaker.mark(), emulator.record.last_seq
    if phase == "reply":
        end_connection(emulator, code, on="reply 0.1 s")
    else:
        if phase == "setup":
            end_connection(emulator, code, on="setup")
        end_connection(emulator, code)
        await emulator.record.wait_for("closed", 30.0, since=seq)
    await speaker.control("say", text="Is somebody there?")
    await speaker.until(
        lambda: [t for t in speaker.told("turn", since=since) if not t["interrupted"]],
        f"answer over a close {code} in {phase}",
    )
    assert speaker.told("disconnected", since=since)
