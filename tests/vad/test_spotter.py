"""Scores become words, near misses and a histogram; a quiet room costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agentd.audio import formats
from agentd.events import Frame
from agentd.vad.sparks import Sparks
from agentd.vad.spotter import BACKLOG, BUCKETS, CALM, REFRACTORY, Ear, Heard, Spotter, SpotterWord

QUIET_DBFS, LOUD_DBFS = -70.0, -20.0


class Sentry:
    """Takes every frame for a voice; the level decides."""

    def is_speech(self, pcm: bytes) -> bool:
        return True

    def reset(self) -> None:
        pass


@dataclass
class ScriptedNetwork:
    """A score for every frame, from what it is fed."""

    fed: list[float] = field(default_factory=list)

    def take(self, features: Sequence[float]) -> float | None:
        self.fed.append(features[0])
        return features[0] if len(self.fed) % 2 == 0 else None


@dataclass
class Bench:
    """A spotter whose frames carry the score that they shall have, in hundredths."""

    cutoff: float = 0.9
    window: int = 3
    words: int = 1
    index: int = 0
    heard: list[Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spotter = Spotter(Sparks(Sentry(), -60.0))
        self.networks = [ScriptedNetwork() for _ in range(self.words)]
        if self.words:
            self.equip()

    def equip(self) -> None:
        ears = [
            Ear(SpotterWord(f"word{i}", self.cutoff - i / 10, self.window), network)
            for i, network in enumerate(self.networks)
        ]
        self.spotter.equip(lambda pcm: [[pcm[0] / 100], [pcm[0] / 100]], ears)

    def hear(self, *hundredths: int, level_dbfs: float = LOUD_DBFS) -> None:
        for value in hundredths:
            frame = Frame(self.index, self.index * 0.02, bytes([value, 0]) * 320)
            self.heard += self.spotter.hear(frame, level_dbfs)
            self.index += 1

    @property
    def is_awake(self) -> bool:
        return bool(self.spotter.is_awake)

    def rest(self, frames: int = 100) -> None:
        self.hear(*[0] * frames, level_dbfs=QUIET_DBFS)


def test_a_quiet_room_costs_nothing() -> None:
    """The networks are asked nothing at all."""
    bench = Bench()
    bench.rest(1000)
    assert bench.networks[0].fed == []
    assert not bench.is_awake


def test_waking_late_costs_no_word() -> None:
    """The networks hear the last second first, and the word may be in it."""
    bench = Bench()
    bench.rest()
    bench.hear(95, 95, 95, level_dbfs=QUIET_DBFS)
    bench.hear(10)
    assert bench.heard == []
    bench.hear(10)
    (heard,) = bench.heard
    assert (heard.word.name, heard.is_near) == ("word0", False)
    assert heard.score == pytest.approx(0.95)
    assert len(bench.networks[0].fed) == 2 * BACKLOG
    assert heard.at_s == pytest.approx(103 * 0.02)


def test_it_falls_asleep_when_nobody_speaks_any_more() -> None:
    """Not while a score is worth a look."""
    bench = Bench()
    bench.rest()
    bench.hear(0, 0)
    awake = [bench.is_awake]
    bench.hear(*[20] * CALM * 2, level_dbfs=QUIET_DBFS)
    awake.append(bench.is_awake)
    bench.rest(CALM + 3)
    awake.append(bench.is_awake)
    assert awake == [True, True, False]
    assert bench.spotter.means == {"word0": 0.0}


def test_a_word_is_heard_once() -> None:
    """However long its score stays up; and again when it is said again."""
    bench = Bench()
    bench.rest()
    bench.hear(*[99] * 20, *[0] * REFRACTORY, *[99] * 20)
    assert [heard.is_near for heard in bench.heard] == [False, False]
    assert bench.spotter.heard == 2


def test_a_word_said_again_at_once_is_the_same_word() -> None:
    """Two models of one word, or an echo."""
    bench = Bench()
    bench.rest()
    bench.hear(*[99] * 10, *[0] * 10, *[99] * 10)
    assert bench.spotter.heard == 1


def test_a_near_miss_is_told_when_it_is_over() -> None:
    """With its peak, and counted in tenths; what is far off is none."""
    bench = Bench()
    bench.rest()
    bench.hear(*[20] * 5, *[62] * 5, *[0] * 10)
    (near,) = bench.heard
    assert near.is_near
    assert near.score == pytest.approx(0.62)
    assert bench.spotter.near_misses == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert len(bench.spotter.near_misses) == BUCKETS


def test_a_single_score_is_no_word() -> None:
    """The mean counts."""
    bench = Bench()
    bench.rest()
    bench.hear(0, 0, 0, 99, 0, 0, 0)
    assert not any(not heard.is_near for heard in bench.heard)


def test_of_two_words_at_once_the_surer_is_heard() -> None:
    """By how far it is above its own cut-off."""
    bench = Bench(words=2)
    bench.rest()
    bench.hear(*[99] * 10)
    assert [heard.word.name for heard in bench.heard] == ["word1"]
    assert [word.name for word in bench.spotter.words] == ["word0", "word1"]


def test_words_are_kept_until_the_networks_are_there() -> None:
    """They take a moment to load, and somebody may speak at once."""
    bench = Bench(words=0)
    bench.hear(*[95] * 10)
    bench.networks = [ScriptedNetwork()]
    bench.equip()
    bench.hear(95)
    assert [heard.word.name for heard in bench.heard] == ["word0"]


def test_a_hole_in_the_sound_is_no_part_of_a_word() -> None:
    """What comes after lost frames does not follow what came before."""
    bench = Bench(window=10)
    bench.rest()
    bench.hear(*[99] * 8)
    bench.index += 5
    bench.hear(*[99] * 3)
    assert bench.heard == []


def test_sparks_watch_the_room() -> None:
    """Two of four frames; a reset forgets speech, not the room."""
    sparks = Sparks(Sentry(), -60.0)
    silence = formats.to_pcm([0] * 320)
    for _ in range(60):
        sparks.watch(silence, -50.0)
    flying = []
    for level_dbfs in (-49.0, -40.0, -40.0):
        sparks.watch(silence, level_dbfs)
        flying.append(sparks.are_flying)
    sparks.reset()
    flying.append(sparks.are_flying)
    assert flying == [False, False, True, False]
    assert sparks.noise.dbfs == pytest.approx(-50.0, abs=1.0)
