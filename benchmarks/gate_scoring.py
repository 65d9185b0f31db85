"""Score a voice gate against a labelled scene, in exact intervals.

The figures are those of the scenes' own description: missed speech, clipped onsets, hangover, false
triggers in idle time, share of the scene that was sent on.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

Interval = tuple[float, float]

BEFORE_S = 0.5  # open this long before an utterance, or
AFTER_S = 1.0  # after it, is not a false trigger


@dataclass(frozen=True, slots=True)
class Truth:
    """What is really in a scene."""

    duration_s: float
    speech: tuple[Interval, ...]
    utterances: tuple[Interval, ...]
    background: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """How a gate did on one scene, or on several together. Times in seconds, clipping in ms."""

    duration_s: float
    speech_s: float
    missed_s: float
    sent_s: float
    lost: int
    onsets_ms: tuple[float, ...]
    hangovers_ms: tuple[float, ...]
    idle_s: float
    false_s: float
    openings: int
    background_s: float
    background_open_s: float
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def missed_percent(self) -> float:
        """Return the share of labelled speech that was not sent."""
        return 100 * self.missed_s / self.speech_s if self.speech_s else 0.0

    @property
    def uplink(self) -> float:
        """Return the share of the scene that was sent."""
        return self.sent_s / self.duration_s

    @property
    def false_s_per_h(self) -> float:
        """Return the open time in idle time, per hour of it."""
        return 3600 * self.false_s / self.idle_s if self.idle_s else 0.0

    def onset_ms(self, percentile: int) -> float:
        """Return a percentile of the clipped onsets; 100 is the worst."""
        return _percentile(self.onsets_ms, percentile)

    @property
    def hangover_ms(self) -> float:
        """Return the median time for which the gate stayed open after an utterance."""
        return statistics.median(self.hangovers_ms) if self.hangovers_ms else 0.0


def score(truth: Truth, segments: Sequence[Interval]) -> Score:
    """Compare what was sent with what was said."""
    whole = [(0.0, truth.duration_s)]
    sent = intersect(union(segments), whole)
    speech = union(truth.speech)
    utterances = sorted(truth.utterances)
    near = union([(begin - BEFORE_S, end + AFTER_S) for begin, end in utterances])
    background = union(truth.background)
    away = subtract(whole, near)
    idle, babble = subtract(away, background), intersect(away, background)
    onsets = [_onset(one, sent) for one in utterances]
    return Score(
        duration_s=truth.duration_s,
        speech_s=length(speech),
        missed_s=length(subtract(speech, sent)),
        sent_s=length(sent),
        lost=sum(1 for one in utterances if not intersect([one], sent)),
        onsets_ms=tuple(onsets),
        hangovers_ms=tuple(_hangovers(utterances, sent, truth.duration_s)),
        idle_s=length(idle),
        false_s=length(intersect(idle, sent)),
        openings=sum(1 for begin, _ in sent if contains(idle, begin)),
        background_s=length(babble),
        background_open_s=length(intersect(babble, sent)),
    )


def _onset(utterance: Interval, sent: Sequence[Interval]) -> float:
    """Return what is missing of an utterance's beginning in ms; a lost one misses all."""
    begin, end = utterance
    heard = intersect([utterance], sent)
    return ((heard[0][0] if heard else end) - begin) * 1000


def _hangovers(
    utterances: Sequence[Interval], sent: Sequence[Interval], duration_s: float
) -> list[float]:
    found: list[float] = []
    for index, (_, end) in enumerate(utterances):
        is_last = index + 1 == len(utterances)
        limit = duration_s if is_last else utterances[index + 1][0]
        closes = next((b for a, b in sent if a <= end <= b), None)
        if closes is not None and (closes < limit or is_last):
            found.append((min(closes, limit) - end) * 1000)
    return found


def union(intervals: Sequence[Interval]) -> list[Interval]:
    """Return the intervals sorted, with overlapping ones merged."""
    merged: list[Interval] = []
    for begin, end in sorted(one for one in intervals if one[1] > one[0]):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def intersect(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """Return what lies in both."""
    found = [(max(a, c), min(b, d)) for a, b in left for c, d in right if max(a, c) < min(b, d)]
    return union(found)


def subtract(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """Return what of `left` lies outside `right`."""
    rest = union(left)
    for begin, end in right:
        pieces = [((a, min(b, begin)), (max(a, end), b)) for a, b in rest]
        rest = union([piece for pair in pieces for piece in pair])
    return rest


def length(intervals: Sequence[Interval]) -> float:
    """Return the sum of lengths of disjoint intervals."""
    return sum(end - begin for begin, end in intervals)


def contains(intervals: Sequence[Interval], moment: float) -> bool:
    """Say whether a moment lies in one of the intervals."""
    return any(begin <= moment < end for begin, end in intervals)


def _percentile(values: Sequence[float], percentile: int) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * percentile / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
