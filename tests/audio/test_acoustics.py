"""Canceller, gate and speaker in a room that echoes, on a virtual clock: the same every time.

The room is computed, the words are recorded, everything between is the product. What failed here
before the double-talk decision: a tenth of a second of a dying echo opened the gate.
"""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import replace

import pytest

from agentd.audio.echo import policy as echo
from agentd.events import EndReason
from tests.e2e.sounds import EDGE_S, MIC_HZ, needs_words, samples, words

if not echo.is_installed():
    pytest.skip("extra `aec` is not installed", allow_module_level=True)

import numpy as np

from rig.air import Air, Way, acoustic_settings, scene
from rig.room import synthetic

pytestmark = needs_words

NAMES = ("Front_Left", "Rear_Right", "Front_Center", "Rear_Left", "Side_Left", "Side_Right")
FULL = "AGENTD_ACOUSTIC" in os.environ  # `make acoustic`: many rooms
LEVELS_DB = (0.0, -6.0, -12.0, -20.0)
ROOMS = {"living room": 0.4, "bathroom": 0.7}
# The recorded words have pauses of 0.5 s between them.
SETTINGS = acoustic_settings(vad={"hangover_ms": 1200})
STILL_S = 1.5
SILENT_WITHIN_S = {0.0: 0.8, -6.0: 0.4, -12.0: 0.4, -20.0: 0.4}
"""Of the first sound of a word, which may begin softly. docs/operator/audio.md has the medians."""
MASKING_DB = 0.0
"""An echo as loud as the voice hides the beginning of it in some rooms, not all of it in any."""


def way(seed: int, gain_db: float, reverberation_s: float = 0.4) -> Way:
    """Return a room, and a path as long as in a real one or as in the sound rig."""
    air_s = (0.005, 0.05, 0.15)[seed % 3]
    response = synthetic(seed=seed, reverberation_s=reverberation_s)
    return Way(response=response, gain_db=gain_db, air_s=air_s)


def names(seed: int, count: int) -> list[str]:
    """Return words in an order of this seed."""
    return random.Random(seed).choices(NAMES, k=count)


def a_reply(air: Air, seed: int) -> None:
    """Play one of some seven seconds to its end."""
    air.reply(words(*names(seed, 5), rate_hz=24_000))
    air.pass_s(0.5)
    air.pass_until(lambda: not air.is_playing)
    air.pass_s(STILL_S)


@pytest.mark.parametrize("gain_db", LEVELS_DB)
@pytest.mark.parametrize("seed", range(24) if FULL else (0, 3, 8))
def test_replies_alone_never_open_the_gate(seed: int, gain_db: float) -> None:
    """Neither the first one, before the canceller knows the room, nor those after it."""
    air = Air(way(seed, gain_db), settings=SETTINGS, seed=seed)

    def body() -> None:
        a_reply(air, seed)
        a_reply(air, seed + 100)

    scene(air, body)
    assert air.heard == []
    stats = air.sound.echo
    assert stats is not None
    assert stats.is_settled


@pytest.mark.parametrize("gain_db", LEVELS_DB)
def test_a_room_that_rings_on_does_not_open_it_either(gain_db: float) -> None:
    """What dies away over 0.7 s is longer than AEC3 models."""
    air = Air(way(5, gain_db, ROOMS["bathroom"]), settings=SETTINGS, seed=5)

    def body() -> None:
        a_reply(air, 5)
        a_reply(air, 6)

    scene(air, body)
    assert air.heard == []


@pytest.mark.parametrize("gap_s", [0.02, 0.05, 0.1])
def test_a_way_that_grows_in_mid_reply_does_not_open_it(gap_s: float) -> None:
    """A sound server that ran dry is late from then on; the canceller has to learn anew."""
    longer = replace(way(3, -6.0), gaps=((9.0, gap_s), (13.0, gap_s)))
    air = Air(longer, settings=SETTINGS, seed=3)

    def body() -> None:
        a_reply(air, 3)
        a_reply(air, 4)
        a_reply(air, 5)

    scene(air, body)
    assert air.heard == []


@pytest.mark.parametrize(("seed", "gap_s"), [(11, 0.1), (13, 0.2), (15, 0.2)])
def test_a_speaker_that_ran_dry_does_not_open_it(seed: int, gap_s: float) -> None:
    """A busy machine. In these rooms it did before the canceller was told."""
    starved = replace(way(seed, -6.0), dries=((9.0, gap_s), (13.0, gap_s), (18.0, gap_s)))
    air = Air(starved, settings=SETTINGS, seed=seed)

    def body() -> None:
        for reply in range(3):
            a_reply(air, seed + reply)

    scene(air, body)
    assert air.heard == []


@pytest.mark.parametrize("gain_db", LEVELS_DB)
@pytest.mark.parametrize("seed", range(24) if FULL else (1, 6))
def test_who_speaks_over_a_reply_silences_it(seed: int, gain_db: float) -> None:
    """While still speaking, for good, and what was said is one utterance."""
    air = Air(way(seed, gain_db), settings=SETTINGS, seed=seed)
    over = samples(words(*names(seed + 50, 2)))
    silent_s: list[float] = []

    def body() -> None:
        a_reply(air, seed)
        air.reply(words(*names(seed + 1, 6), rate_hz=24_000))
        air.pass_s(2.5)
        begun_s = air.now_s + int(np.argmax(np.abs(over) > 300)) / MIC_HZ
        air.say(over)
        air.pass_s(len(over) / MIC_HZ + STILL_S)
        silent_s.append(air.last_heard_s() - begun_s)

    scene(air, body)
    if FULL and gain_db >= MASKING_DB:
        assert air.heard
        assert silent_s[0] < len(over) / MIC_HZ
        return
    (heard,) = air.heard
    assert heard.reason is EndReason.HANGOVER
    assert heard.speech_ms / 1000 > len(over) / MIC_HZ - 2 * EDGE_S - 0.5
    assert silent_s[0] < SILENT_WITHIN_S[gain_db]


SILENT = -200.0  # dB: no way at all from the speaker to the microphone
CORNERS = (
    (SILENT, -45.0, "speech"),  # a headset, a speakerphone, a low volume, and a fan
    (SILENT, -45.0, "tone"),
    (SILENT, -70.0, "tone"),
    (-40.0, -45.0, "tone"),
    (-12.0, -70.0, "tone"),
    (6.0, -50.0, "tone"),
    (-40.0, -35.0, "music"),
    (6.0, -70.0, "speech"),
)
GRID = tuple(
    itertools.product(
        (SILENT, -40.0, -20.0, -12.0, -6.0, 0.0, 6.0),
        (-70.0, -60.0, -50.0, -45.0, -40.0, -35.0),
        ("speech", "music", "tone"),
    )
)


def played(kind: str, seconds: float, seed: int) -> bytes:
    """Return a reply of a kind, 24 kHz: words, three notes of changing chords, or one tone."""
    if kind == "speech":
        spoken = b"".join(words(name, rate_hz=24_000) for name in names(seed, 12))
        return spoken[: 2 * round(seconds * 24_000)]
    at_s = np.arange(round(seconds * 24_000)) / 24_000
    if kind == "tone":
        sound = np.sin(2 * np.pi * 440.0 * at_s)
    else:
        dice = np.random.default_rng(seed)
        notes_hz = 220.0 * 2 ** (dice.integers(0, 25, (round(seconds * 4) + 1, 3)) / 12)
        chords = notes_hz[(at_s * 4).astype(int)].T
        phases = 2 * np.pi * np.cumsum(chords, axis=1) / 24_000
        partials = sum(np.sin(k * phases) / k for k in (1, 2, 3, 4))
        sound = np.sum(partials, axis=0) / 4 * np.exp(-3 * (at_s * 4 % 1))
    fade = np.minimum(1.0, np.minimum(at_s, seconds - at_s) / 0.02)
    return (8_000 * sound * fade).astype("<i2").tobytes()


@pytest.mark.parametrize(("gain_db", "noise_dbfs", "kind"), GRID if FULL else CORNERS)
def test_whoever_could_be_heard_interrupts(gain_db: float, noise_dbfs: float, kind: str) -> None:
    """Whatever the echo, the noise and the reply: none at all is no reason not to listen.

    Could be heard: the same words in the same noise open the gate while nothing plays. And the
    reply alone never opens it.
    """
    noisy = replace(way(3, gain_db), noise_rms=32_768 * 10 ** (noise_dbfs / 20))
    air = Air(noisy, settings=SETTINGS, seed=3)
    over = samples(words(*names(53, 2)))

    def interrupts() -> bool:
        before = len(air.heard)
        air.say(over)
        air.pass_s(len(over) / MIC_HZ + 0.2)
        found = len(air.heard) > before
        air.cancel()
        air.pass_s(2.5)
        return found

    alone: list[int] = []
    interrupted: list[bool] = []

    def body() -> None:
        air.reply(played(kind, 5.0, 3))
        air.pass_s(0.5)
        air.pass_until(lambda: not air.is_playing)
        air.pass_s(STILL_S)
        alone.append(len(air.heard))
        for reply in (4, 5):
            air.reply(played(kind, 9.0, reply))
            air.pass_s(2.5)
            alone.append(len(air.heard) - sum(interrupted))
            interrupted.append(interrupts())
        interrupted.append(interrupts())

    scene(air, body)
    *over_replies, in_quiet = interrupted
    assert alone == [0, 0, 0], "the reply opened the gate"
    assert in_quiet or noise_dbfs > -40, "words are heard in such a room"
    assert all(over_replies) or not in_quiet


def test_without_the_canceller_the_same_room_interrupts_every_reply() -> None:
    """The control: full duplex, the room, and nothing against it."""
    settings = acoustic_settings(audio={"echo_cancellation": "hardware"}, vad={"hangover_ms": 1200})
    air = Air(way(2, -6.0), settings=settings, seed=2)
    scene(air, lambda: a_reply(air, 2))
    assert air.heard
