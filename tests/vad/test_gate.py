"""The gate: when it opens and closes, and exactly which samples pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.audio.formats import FRAME_BYTES, FRAME_S
from agentd.events import (
    EndReason,
    Frame,
    Speech,
    UtteranceAudio,
    UtteranceEnded,
    UtteranceStarted,
)
from agentd.vad.gate import Gate, GateSettings

SMALL = GateSettings(onset=3, onset_window=5, hangover=4, pre_roll=2, least=4, most=50)


def frame(index: int) -> Frame:
    """Return a frame whose samples tell its number."""
    return Frame(index, index * FRAME_S, (index % 30_000 + 1).to_bytes(2, "little") * 320)


def feed(gate: Gate, pattern: str, start: int = 0) -> list[Speech]:
    """Feed frames from `start` on: `x` is voiced, anything else is not, a space is a lost frame."""
    out: list[Speech] = []
    for offset, mark in enumerate(pattern):
        if mark != " ":
            out += gate.feed(frame(start + offset), mark == "x")
    return out


def passed(speech: list[Speech]) -> list[int]:
    """Return the numbers of the frames that were sent on; -1 is filled-in silence."""
    numbers: list[int] = []
    for value in speech:
        if not isinstance(value, UtteranceEnded):
            heads = [value.pcm[at : at + 2] for at in range(0, len(value.pcm), FRAME_BYTES)]
            numbers += [int.from_bytes(head, "little") - 1 for head in heads]
    return numbers


def ends(speech: list[Speech]) -> list[UtteranceEnded]:
    """Return the ends."""
    return [value for value in speech if isinstance(value, UtteranceEnded)]


def test_silence_passes_nothing() -> None:
    """The usual case."""
    gate = Gate(SMALL)
    assert feed(gate, "." * 100) == []
    assert not gate.is_open


def test_the_gate_opens_with_the_frame_that_proves_speech() -> None:
    """Three voiced frames; the start carries the pre-roll and the onset."""
    (started,) = feed(Gate(SMALL), ".....xxx")
    assert isinstance(started, UtteranceStarted)
    assert passed([started]) == [3, 4, 5, 6, 7]
    assert started.at_s == pytest.approx(3 * FRAME_S)
    assert started.onset_s == pytest.approx(5 * FRAME_S)


def test_an_onset_may_have_a_hole() -> None:
    """Three of five: a plosive is not one stretch of voice."""
    (started,) = feed(Gate(SMALL), ".....x.x.x")
    assert passed([started]) == [3, 4, 5, 6, 7, 8, 9]


def test_clicks_do_not_open_it() -> None:
    """Two of five, for ever."""
    assert feed(Gate(SMALL), "xx...." * 20) == []


def test_the_pre_roll_is_what_there_is_at_the_very_start() -> None:
    """Nobody spoke before the first frame."""
    assert passed(feed(Gate(SMALL), ".xxx")) == [0, 1, 2, 3]


def test_it_closes_after_the_hangover() -> None:
    """Four frames without voice; their sound is sent too."""
    speech = feed(Gate(SMALL), "..xxxxx....")
    assert passed(speech) == list(range(11))
    (end,) = ends(speech)
    assert (end.utterance, end.reason) == (1, EndReason.HANGOVER)
    assert [end.at_s, end.speech_ms] == pytest.approx([11 * FRAME_S, 100.0])


def test_a_pause_shorter_than_the_hangover_does_not_split() -> None:
    """People breathe."""
    speech = feed(Gate(SMALL), "..xxxx..xx....")
    assert len(ends(speech)) == 1
    assert ends(speech)[0].speech_ms == pytest.approx(160.0)


def test_a_single_voiced_frame_does_not_renew_the_hangover() -> None:
    """Two of three must be voiced: a creak every 60 ms does not hold the gate open."""
    speech = feed(Gate(SMALL), "xxxx..x.")
    assert [end.reason for end in ends(speech)] == [EndReason.HANGOVER]


def test_a_click_that_opened_the_gate_is_discarded() -> None:
    """60 ms of voice where 80 are the least."""
    speech = feed(Gate(SMALL), "..xxx....")
    assert [end.reason for end in ends(speech)] == [EndReason.DISCARDED]
    assert [end.reason for end in ends(feed(Gate(SMALL), "..xxxx...."))] == [EndReason.HANGOVER]


def test_utterances_are_numbered() -> None:
    """And never share a frame: the second's pre-roll begins after the first's end."""
    gate = Gate(SMALL)
    speech = feed(gate, "xxxxx....xxxxx....")
    assert [value.utterance for value in ends(speech)] == [1, 2]
    assert passed(speech) == list(range(18))


def test_a_long_utterance_is_split_without_a_gap() -> None:
    """The next one begins with the very next frame, and is never too short."""
    gate = Gate(GateSettings(hangover=4, pre_roll=0, most=10, least=6))
    speech = feed(gate, "x" * 10)
    assert ends(speech)[0].reason is EndReason.MAX_LENGTH
    assert gate.is_open
    speech += feed(gate, "x....", start=10)
    assert passed(speech) == list(range(15))
    assert [end.reason for end in ends(speech)] == [EndReason.MAX_LENGTH, EndReason.HANGOVER]
    starts = [value for value in speech if isinstance(value, UtteranceStarted)]
    assert [value.at_s for value in starts] == pytest.approx([0.0, 10 * FRAME_S])


def test_cut_ends_what_is_open_and_forgets_the_ring() -> None:
    """What was said before a mute is not in the next pre-roll."""
    gate = Gate(SMALL)
    feed(gate, ".xxxx")
    (end,) = gate.cut()
    assert isinstance(end, UtteranceEnded)
    assert end.reason is EndReason.CUT
    assert end.speech_ms == pytest.approx(80.0)
    assert passed(feed(gate, "xxx", start=9)) == [9, 10, 11]


def test_cut_when_closed_says_nothing_and_still_forgets() -> None:
    """Two voiced frames before, one after: no onset."""
    gate = Gate(SMALL)
    feed(gate, "..xx")
    assert gate.cut() == []
    assert feed(gate, "x", start=4) == []


def test_cut_after_a_split_ends_nothing_twice() -> None:
    """The first part has ended, the second has not begun."""
    gate = Gate(GateSettings(hangover=4, most=10))
    feed(gate, "x" * 10)
    assert gate.cut() == []
    assert not gate.is_open


def test_lost_frames_become_silence_inside_an_utterance() -> None:
    """The stream keeps its length; a hole is not skipped."""
    speech = feed(Gate(SMALL), "xxxx  xx....")
    assert passed(speech) == [0, 1, 2, 3, -1, -1, 6, 7, 8, 9, 10, 11]
    times = [value.at_s for value in speech if isinstance(value, UtteranceAudio)]
    assert times == pytest.approx([i * FRAME_S for i in range(3, 12)])


def test_lost_frames_count_as_quiet() -> None:
    """A hole at the end closes the gate as silence does."""
    speech = feed(Gate(SMALL), "xxxx    xxx")
    assert [end.reason for end in ends(speech)] == [EndReason.HANGOVER]


def test_a_long_hole_cuts() -> None:
    """Longer than the hangover: what follows is another utterance, its pre-roll from behind it."""
    speech = feed(Gate(SMALL), "xxxx" + " " * 20 + ".xxx")
    assert [end.reason for end in ends(speech)] == [EndReason.CUT]
    assert passed(speech) == [0, 1, 2, 3, 24, 25, 26, 27]


def test_an_index_that_runs_backwards_cuts() -> None:
    """The device was reopened and counts anew."""
    gate = Gate(SMALL)
    feed(gate, "xxxx", start=100)
    assert [end.reason for end in ends(gate.feed(frame(3), True))] == [EndReason.CUT]


def test_a_hangover_may_be_set_frame_by_frame() -> None:
    """An adaptive one closes sooner where silence is certain."""
    gate = Gate(SMALL)
    feed(gate, "xxxxx")
    assert ends(gate.feed(frame(5), False, hangover=2)) == []
    assert len(ends(gate.feed(frame(6), False, hangover=2))) == 1


def test_hindsight_opens_the_gate_where_the_word_began() -> None:
    """A detector that wakes late tells what it thinks of the frames before."""
    gate = Gate(SMALL)
    feed(gate, "." * 20)
    (started,) = gate.feed(frame(20), True, hindsight=[False, True, True, True, False, True])
    assert passed([started]) == list(range(13, 21))
    assert isinstance(started, UtteranceStarted)
    assert started.onset_s == pytest.approx(15 * FRAME_S)


def test_hindsight_beyond_what_is_kept_is_left_out() -> None:
    """The ring has an end, and at the very start there is nothing behind."""
    gate = Gate(SMALL)
    feed(gate, "..")
    (started,) = gate.feed(frame(2), True, hindsight=[True] * 30)
    assert passed([started]) == [0, 1, 2]


def test_a_trace_of_voice_well_before_the_onset_is_not_part_of_it() -> None:
    """More than a window away: a click, not a beginning."""
    (started,) = feed(Gate(SMALL), "........x.......xxx")
    assert passed([started])[0] == 14


def test_lengths_in_time_become_frames() -> None:
    """The defaults of the configuration."""
    settings = GateSettings.from_ms(
        onset_ms=60, hangover_ms=600, pre_roll_ms=300, min_utterance_ms=120, max_utterance_s=60
    )
    assert settings == GateSettings(
        onset=3, onset_window=5, hangover=30, pre_roll=15, least=6, most=3_000
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"onset": 0},
        {"onset": 6},
        {"sustain": 0},
        {"sustain": 4},
        {"hangover": 0},
        {"most": 0},
        {"pre_roll": -1},
        {"least": -1},
    ],
)
def test_lengths_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    """Rather than never opening, or never closing."""
    with pytest.raises(ValueError, match="must"):
        GateSettings(**wrong)


@given(
    pattern=st.text(alphabet="xxx... ", max_size=300),
    cuts=st.sets(st.integers(0, 300), max_size=3),
)
def test_any_pattern_gives_well_formed_utterances(pattern: str, cuts: set[int]) -> None:
    """Start, audio in order without holes, one end, next number; whatever is fed."""
    gate = Gate(SMALL)
    speech: list[Speech] = []
    for index, mark in enumerate(pattern):
        if index in cuts:
            speech += gate.cut()
        if mark != " ":
            speech += gate.feed(frame(index), mark == "x")
    speech += gate.cut()
    opened = 0
    next_s: float | None = None
    last_s = -1.0
    for value in speech:
        if isinstance(value, UtteranceStarted):
            assert next_s is None
            assert value.utterance == opened + 1
            assert value.at_s > last_s - FRAME_S / 2
            opened += 1
            next_s = value.at_s
        assert next_s is not None
        assert value.utterance == opened
        assert value.at_s == pytest.approx(next_s)
        if isinstance(value, UtteranceEnded):
            last_s, next_s = value.at_s, None
        else:
            next_s += len(value.pcm) / FRAME_BYTES * FRAME_S
    assert next_s is None
