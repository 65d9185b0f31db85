"""What the benchmarks conclude from sound is true of sound made for the purpose."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

from benchmarks.match import BLOCK, Wire, best_place, find
from benchmarks.measure_breaks import silent_ms_inside
from benchmarks.speech import RATE_HZ, Clip, Samples, active_span
from rig.recording import Track


def noise(seconds: float, seed: int = 1, amplitude: float = 3000.0) -> Samples:
    """Return sound that is like itself at no other place."""
    values = np.random.default_rng(seed).normal(0.0, amplitude, round(seconds * RATE_HZ))
    return np.clip(values, -32_768, 32_767).astype(np.int16)


def wire_of(samples: Samples, message: int = 960, begin_s: float = 100.0) -> Wire:
    """Return samples as received in messages of 60 ms, one every 60 ms."""
    ends = np.arange(message, len(samples) + 1, message, dtype=np.int64)
    return Wire(samples[: ends[-1]], ends, begin_s + ends / RATE_HZ)


def test_place_is_found_in_noise() -> None:
    """A stretch is found where it is, also when half the power around it is something else."""
    hay = noise(5.0)
    needle = hay[20_000:24_000]
    disturbed = (hay.astype(np.float64) * 0.7 + noise(5.0, 2) * 0.3).astype(np.int16)
    assert best_place(needle, hay)[0] == 20_000
    place, score = best_place(needle, disturbed)
    assert place == 20_000
    assert 0.85 < score < 0.97


def test_nothing_is_like_silence() -> None:
    """Digital silence is found nowhere and finds nothing."""
    assert best_place(np.zeros(100, dtype=np.int16), noise(0.1)) == (0, 0.0)
    assert best_place(noise(0.1), np.zeros(8_000, dtype=np.int16))[1] == pytest.approx(0.0)


def test_speech_that_arrived_whole_misses_nothing() -> None:
    """All of an utterance is found behind other audio, at another level, and where it began."""
    spoken = noise(2.0, 3)
    wire = np.concatenate([noise(0.5, 4), (spoken * 0.5).astype(np.int16), noise(0.2, 5)])
    found = find(spoken, wire)
    assert found.missing_ms == 0.0
    assert (found.first_index, found.first_offset) == (8_000, 0)


def test_a_hole_is_missing_and_what_follows_is_found() -> None:
    """200 ms cut out of an utterance are 200 ms missing, wherever the rest has moved to."""
    spoken = noise(2.0, 3)
    hole = 10 * BLOCK
    wire = np.concatenate([spoken[:16_000], spoken[16_000 + hole :]])
    assert find(spoken, wire).missing_ms == 200.0


def test_a_late_start_is_missing_and_tells_where_it_began() -> None:
    """Without its first 100 ms an utterance misses these, and its first block found is later."""
    spoken = noise(1.5, 6)
    found = find(spoken, spoken[5 * BLOCK :])
    assert found.missing_ms == 100.0
    assert (found.first_index, found.first_offset) == (0, 5 * BLOCK)


def test_words_sent_twice_are_there() -> None:
    """An utterance that broke off and was sent again whole misses nothing."""
    spoken = noise(2.0, 7)
    wire = np.concatenate([spoken[:16_000], spoken])
    assert find(spoken, wire).missing_ms == 0.0


def test_other_speech_is_no_speech_of_ours() -> None:
    """Of an utterance that was never sent everything is missing."""
    spoken = noise(1.0, 8)
    found = find(spoken, noise(3.0, 9))
    assert found.missing_ms == 1000.0
    assert found.first_index is None


def test_silence_in_speech_is_not_missed() -> None:
    """Nothing was said in a silent pause, so nothing of it can be missing."""
    pause = np.zeros(5 * BLOCK, dtype=np.int16)
    spoken = np.concatenate([noise(0.5, 10), pause, noise(0.5, 11)])
    wire = np.concatenate([noise(0.5, 10), noise(0.5, 11)])
    assert find(spoken, wire).missing_ms == 0.0


def test_arrival_is_that_of_the_message() -> None:
    """A sample arrived when the message that holds it did."""
    wire = wire_of(noise(1.2))
    assert wire.arrival_s(0) == pytest.approx(100.06)
    assert wire.arrival_s(959) == pytest.approx(100.06)
    assert wire.arrival_s(960) == pytest.approx(100.12)


def test_between_keeps_whole_messages() -> None:
    """A time cut out of the wire holds the messages that arrived in it, and their times."""
    wire = wire_of(noise(1.2))
    part = wire.between(100.12, 100.30)
    assert part.duration_s == pytest.approx(0.18)
    assert np.array_equal(part.samples, wire.samples[960 : 960 * 4])
    assert part.arrival_s(0) == pytest.approx(100.12)


def test_active_span_leaves_silence_out() -> None:
    """Silence and faint noise around speech are not speech."""
    faint = noise(0.3, 12, amplitude=5.0)
    samples = np.concatenate([faint, noise(0.5, 13), faint])
    begin, end = active_span(samples)
    assert (begin, end) == (round(0.3 * RATE_HZ), round(0.8 * RATE_HZ))


def test_head_cuts_between_utterances() -> None:
    """The beginning of a scene holds whole utterances only, and a tail behind the last."""
    spans = ((1.0, 2.0), (4.0, 6.0), (8.0, 9.0))
    clip = Clip("scene", noise(12.0), spans, spans)
    head = clip.head(8.0)
    assert head.utterances == spans[:2]
    assert head.speech_s == 3.0
    assert head.duration_s == 7.5


def test_a_gap_in_a_reply_is_seen() -> None:
    """50 ms of silence in a tone are 50 ms; silence before and after it is not counted."""
    tone = (8000 * np.sin(np.arange(24_000) * 0.1)).astype(np.int16)
    silence = np.zeros(12_000, dtype=np.int16)
    played = np.concatenate([silence, tone, silence[:1_200], tone, silence])
    track = Track("spk", 24_000, 10.0, array("h", played.tobytes()))
    assert silent_ms_inside(track, 10.0, 14.0) == 50.0
