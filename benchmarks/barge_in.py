"""Speak over replies in many rooms: does the echo open the gate, and how soon is there silence?

    python -m benchmarks.barge_in [ROOMS]

The real stages on a virtual clock (rig/air.py), so a figure has no noise of the machine in it
and the device is charged only for what it does: 40 ms captured at a time, the decision, 30 ms
played at a time, and 80 ms that the speaker's device has in hand. Needs numpy, the canceller and
Debian's spoken words.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentd.audio.echo import policy as echo
from benchmarks.speech import words as has_words
from rig.air import Air, Way, acoustic_settings, scene
from rig.room import synthetic
from tests.e2e.sounds import MIC_HZ, Samples, samples, words

LEVELS_DB = (0.0, -6.0, -12.0, -20.0)
ROOMS = 12
NAMES = ("Front_Left", "Rear_Right", "Front_Center", "Rear_Left", "Side_Left", "Side_Right")
REVERBERATIONS_S = (0.2, 0.4, 0.6)
WAYS_S = (0.005, 0.05, 0.15)
HANGOVER_MS = 1200  # the recorded words have pauses of 0.5 s between them
BEGINS = 300  # the first sample of a word that is louder counts as its sound
HEAD = (
    "echo at the microphone", "replies alone", "gate opened by them", "ERLE dB", "interruptions",
    "onset → decided ms p50/p90", "onset → silence ms p50/p90",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interruption:
    """What became of two replies, the second of which somebody spoke over."""

    false_openings: int
    erle_db: float
    decided_ms: float | None  # None: never heard
    silent_ms: float


def interruption(seed: int, gain_db: float) -> Interruption:
    """Play a reply alone, and another one that is interrupted."""
    way = Way(
        response=synthetic(seed=seed, reverberation_s=REVERBERATIONS_S[seed % 3]),
        gain_db=gain_db,
        air_s=WAYS_S[seed // 3 % 3],
    )
    settings = acoustic_settings(vad={"hangover_ms": HANGOVER_MS})
    air = Air(way, settings=settings, seed=seed)
    dice = random.Random(seed)
    over = breathless(dice.choices(NAMES, k=3))
    told: list[Interruption] = []

    def body() -> None:
        air.reply(words(*dice.choices(NAMES, k=5), rate_hz=24_000))
        air.pass_s(0.5)
        air.pass_until(lambda: not air.is_playing)
        air.pass_s(1.5)
        air.reply(words(*dice.choices(NAMES, k=6), rate_hz=24_000))
        air.pass_s(2.5)
        false = len(air.heard)
        stats = air.sound.echo
        onset_s = air.now_s + int(np.argmax(np.abs(over) > BEGINS)) / MIC_HZ
        air.say(over)
        air.pass_s(len(over) / MIC_HZ + 1.5)
        heard = air.heard[false:]
        told.append(
            Interruption(
                false,
                stats.erle_db if stats else 0.0,
                1000 * (heard[0].decided_s - onset_s) if heard else None,
                1000 * max(0.0, air.last_heard_s() - onset_s),
            )
        )

    scene(air, body)
    return told[0]


def breathless(names: Sequence[str]) -> Samples:
    """Return words that follow each other without a pause."""
    spoken = [samples(words(name)) for name in names]
    loud = [np.flatnonzero(np.abs(one) > BEGINS) for one in spoken]
    return np.concatenate([one[at[0] : at[-1]] for one, at in zip(spoken, loud, strict=True)])


def table(rooms: int = ROOMS) -> list[tuple[str, ...]]:
    """Return the rows, the head first; only a reason if it cannot be measured."""
    if not echo.is_installed() or not has_words():
        return [("barge-in over an echo", "needs the extra aec and alsa-utils' spoken words")]
    return [HEAD, *(_row(gain_db, rooms) for gain_db in LEVELS_DB)]


def _row(gain_db: float, rooms: int) -> tuple[str, ...]:
    found = [interruption(seed, gain_db) for seed in range(rooms)]
    heard = [one for one in found if one.decided_ms is not None]
    return (
        f"{gain_db:.0f} dB",
        str(rooms),
        str(sum(one.false_openings for one in found)),
        f"{np.median([one.erle_db for one in found]):.0f}",
        f"{len(heard)}/{rooms}",
        _places([one.decided_ms or 0.0 for one in heard]),
        _places([one.silent_ms for one in heard]),
    )


def _places(values: Sequence[float]) -> str:
    return "/".join(f"{np.percentile(values, at):.0f}" for at in (50, 90)) if values else "-"


def main() -> int:
    """Print the table."""
    head, *rest = table(int(sys.argv[1]) if len(sys.argv) > 1 else ROOMS)
    for cells in (head, ("---",) * len(head), *rest):
        print("| " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
