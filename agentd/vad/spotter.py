"""Hears wake words: scores become words, near misses and a histogram of them. Pure.

    asleep ── sparks: 2 of 4 frames stand out from the room and sound like a voice ──► awake
       ▲                                                                               │
       └────────────────── no spark for `CALM` frames, no score worth a look ──────────┘

On waking the networks first hear the last second, so that they know what led up to this moment: a
late waking costs no word. A word is heard when the mean of its last scores reaches its cut-off, and
not again before the mean has fallen. A mean that came close, and fell again, is a near miss.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agentd.audio.formats import FRAME_S
from agentd.events import Frame
from agentd.vad.sparks import Sparks

BACKLOG = 50  # frames that the networks hear on waking: 1 s
CALM = 40  # frames without a spark until it sleeps again: 0.8 s
ALERT = 0.1  # a mean above this keeps it awake
NEAR = 0.3  # a peak from here up to the cut-off is a near miss
BUCKETS = 10  # of the histogram, each a tenth
REFRACTORY = 50  # frames in which no word is heard again: 1 s
FALLEN = 0.5  # of the cut-off: the word is over

Features = Sequence[float]


class WordNetwork(Protocol):
    """One word's network with its memory."""

    def take(self, features: Features) -> float | None:
        """Take the features of 10 ms; return a score (0..1) when one is due."""


@dataclass(frozen=True, slots=True)
class SpotterWord:
    """What is listened for."""

    name: str
    cutoff: float  # 0..1; the mean that counts as heard
    window: int  # scores in the mean
    stops: bool = False  # ends a reply or an alarm, and never opens the gate


@dataclass(frozen=True, slots=True)
class Heard:
    """A word, or nearly: `is_near` says that the score stayed below the cut-off."""

    word: SpotterWord
    score: float
    at_s: float  # monotonic time after the frame in which it was certain
    is_near: bool = False


class Ear:
    """One word: its network, the mean of its scores, and whether it was heard already."""

    def __init__(self, word: SpotterWord, network: WordNetwork) -> None:
        self.word = word
        self._network = network
        self._scores: deque[float] = deque(maxlen=word.window)
        self._peak = 0.0
        self._fired = False
        self.mean = 0.0

    def take(self, features: Sequence[Features], at_s: float) -> Heard | None:
        """Take the features of a frame; return the word at once, a near miss when it is over."""
        found = None
        for values in features:
            score = self._network.take(values)
            if score is None:
                continue
            self._scores.append(score)
            full = len(self._scores) == self.word.window
            self.mean = sum(self._scores) / self.word.window if full else 0.0
            found = self._judge(at_s) or found
        return found

    def _judge(self, at_s: float) -> Heard | None:
        word = self.word
        if self.mean >= word.cutoff and not self._fired:
            self._fired = True
            return Heard(word, self.mean, at_s)
        if self.mean >= word.cutoff * FALLEN or self.mean >= NEAR:
            self._peak = max(self._peak, self.mean)
            return None
        peak, fired = self._peak, self._fired
        self._peak, self._fired = 0.0, False
        return Heard(word, peak, at_s, is_near=True) if peak >= NEAR and not fired else None

    def forget(self) -> None:
        """Forget the scores: what comes next does not follow them."""
        self._scores.clear()
        self.mean = self._peak = 0.0
        self._fired = False


class Spotter:
    """Listens for words in what the microphone hears, whenever something sounds like a voice.

    Until `equip` brings networks it keeps the last second for them.
    """

    def __init__(self, sparks: Sparks) -> None:
        self._sparks = sparks
        self._extract: Callable[[bytes], Sequence[Features]] | None = None
        self._ears: tuple[Ear, ...] = ()
        self._backlog: deque[Frame] = deque(maxlen=BACKLOG)
        self._calm: int | None = None  # frames without a spark; None: asleep
        self._deaf = 0  # frames in which no word is heard again
        self._next_index: int | None = None
        self.frames = 0  # that the networks were fed
        self.heard = 0
        self.near_misses = [0] * BUCKETS

    @property
    def is_awake(self) -> bool:
        """Return whether the networks run."""
        return self._calm is not None

    @property
    def words(self) -> tuple[SpotterWord, ...]:
        """Return what is listened for."""
        return tuple(ear.word for ear in self._ears)

    @property
    def means(self) -> dict[str, float]:
        """Return the newest mean of every word."""
        return {ear.word.name: ear.mean for ear in self._ears}

    def equip(self, extract: Callable[[bytes], Sequence[Features]], ears: Sequence[Ear]) -> None:
        """Take the features' source and the networks into use."""
        self._extract, self._ears = extract, tuple(ears)

    def hear(self, frame: Frame, level_dbfs: float) -> list[Heard]:
        """Take the next frame; return the word that is certain now, and near misses."""
        if self._next_index not in (None, frame.index):
            self.forget()
        self._next_index = frame.index + 1
        spark = self._sparks.watch(frame.pcm, level_dbfs)
        self._deaf = max(0, self._deaf - 1)
        if self._extract is None or self._calm is None:
            self._backlog.append(frame)
            return self._wake() if self._extract and self._sparks.are_flying else []
        found = self._feed(frame)
        alert = spark or any(ear.mean >= ALERT for ear in self._ears)
        self._calm = 0 if alert else self._calm + 1
        if self._calm >= CALM:
            self._sleep()
        return self._sorted(found)

    def forget(self) -> None:
        """Forget what was heard, not the room: what comes next does not follow it."""
        self._sparks.reset()
        self._sleep()

    def _wake(self) -> list[Heard]:
        self._calm = 0
        for ear in self._ears:
            ear.forget()
        found = []
        for frame in self._backlog:
            found += self._feed(frame)
        self._backlog.clear()
        return self._sorted(found)

    def _feed(self, frame: Frame) -> list[Heard]:
        assert self._extract is not None
        features = self._extract(frame.pcm)
        self.frames += 1
        heard = [ear.take(features, frame.at_s + FRAME_S) for ear in self._ears]
        return [value for value in heard if value is not None]

    def _sorted(self, found: list[Heard]) -> list[Heard]:
        """Count what was found; of several words at once the surest is left."""
        near = [value for value in found if value.is_near]
        for value in near:
            self.near_misses[min(BUCKETS - 1, int(value.score * BUCKETS))] += 1
        words = [value for value in found if not value.is_near]
        if not words or self._deaf:
            return near
        self._deaf = REFRACTORY
        self.heard += 1
        return [max(words, key=_margin), *near]

    def _sleep(self) -> None:
        self._calm = None
        self._backlog.clear()
        self._sparks.clear()


def _margin(heard: Heard) -> float:
    return heard.score - heard.word.cutoff
