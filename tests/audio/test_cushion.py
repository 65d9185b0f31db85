"""The elastic buffer: nothing of a reply is lost, and what was heard is counted to the sample."""

from __future__ import annotations

import functools
import itertools
import random
import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.audio import formats
from agentd.audio.jitter import Drained, Gap, JitterBuffer, Note, Progress, Started

PERIOD = 480  # 20 ms


def level(count: int, value: int = 1_000) -> bytes:
    """Return samples that all have one value."""
    return formats.to_pcm([value] * count)


def ms(milliseconds: float, value: int = 1_000) -> bytes:
    """Return so much reply."""
    return level(round(milliseconds * 24), value)


def read(cushion: JitterBuffer, periods: int = 1, latency_s: float = 0.0) -> list[int]:
    """Return the samples of the next periods."""
    return [
        sample
        for _ in range(periods)
        for sample in formats.samples(cushion.read(PERIOD, latency_s))
    ]


def heard(samples: list[int]) -> int:
    """Count samples that are not silence."""
    return sum(1 for sample in samples if sample)


def only(notes: list[Note], kind: type) -> list[Note]:
    """Return the notes of one kind."""
    return [note for note in notes if isinstance(note, kind)]


def test_silence_flows_while_there_is_nothing_to_play() -> None:
    """A device is always fed whole periods."""
    cushion = JitterBuffer(80)
    assert cushion.read(PERIOD, 0.0) == bytes(2 * PERIOD)
    assert (cushion.take_notes(), cushion.is_idle, cushion.playing_turn) == ([], True, None)


def test_a_reply_starts_when_the_cushion_is_full() -> None:
    """60 of 80 ms wait, 80 of 80 ms play."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(60))
    assert heard(read(cushion)) == 0
    cushion.write(1, ms(20))
    assert heard(read(cushion)) == PERIOD
    assert cushion.take_notes() == [Started(1)]
    assert cushion.playing_turn == 1


def test_a_short_reply_starts_when_it_is_complete() -> None:
    """30 ms never fill a cushion."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(30))
    cushion.complete(1)
    assert heard(read(cushion, 3)) == 30 * 24
    assert cushion.take_notes() == [Started(1), Drained(1, 30.0)]


def test_a_reply_that_trickles_in_is_not_kept_waiting_for_ever() -> None:
    """After three cushions of waiting what is there is played."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(40))
    assert heard(read(cushion, 12)) == 0
    assert heard(read(cushion)) == PERIOD


def test_a_whole_reply_at_once_is_played_whole() -> None:
    """Faster than real time is no reason to drop anything."""
    cushion = JitterBuffer(80)
    for _ in range(100):
        assert cushion.write(1, ms(600))
    cushion.complete(1)
    assert heard(read(cushion, 3_010)) == 60 * 24_000
    assert cushion.take_notes()[-1] == Drained(1, 60_000.0)


def test_replies_follow_each_other_without_a_gap() -> None:
    """The second begins in the very period in which the first ends."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(30, 100))
    cushion.complete(1)
    cushion.write(2, ms(90, 200))
    samples = read(cushion, 2)
    assert samples[: 30 * 24] == [100] * 720
    assert samples[30 * 24 :] == [200] * 240


def test_the_budget_refuses_and_says_so() -> None:
    """No silent drop: the caller is told that it was not taken."""
    cushion = JitterBuffer(80, budget_bytes=2_000)
    assert cushion.write(1, bytes(1_500))
    assert not cushion.write(1, bytes(600))
    assert cushion.write(1, bytes(500))
    assert cushion.buffered_bytes == 2_000


def test_a_torn_sample_is_left_out() -> None:
    """An odd byte would turn everything after it into noise."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(20) + b"\x7f")
    cushion.write(1, ms(20))
    assert heard(read(cushion, 2)) == 960


# ── running dry ───────────────────────────────────────────────────────────────────────────────


def test_a_gap_is_counted_when_the_reply_goes_on() -> None:
    """The period that ran dry counts from its last sample."""
    cushion = JitterBuffer(40)
    cushion.write(1, ms(50))
    read(cushion, 5)
    cushion.write(1, ms(200))
    assert heard(read(cushion)) == PERIOD
    assert only(cushion.take_notes(), Gap) == [Gap(1, 50.0)]
    assert cushion.underruns == 1


def test_the_end_of_a_reply_is_no_gap() -> None:
    """The word that it is complete may come after the last sample was played."""
    cushion = JitterBuffer(40)
    cushion.write(1, ms(50))
    read(cushion, 5)
    cushion.complete(1)
    read(cushion, 2)
    assert cushion.underruns == 0
    assert cushion.take_notes()[-1] == Drained(1, 50.0)


def test_a_torn_end_fades_instead_of_clicking() -> None:
    """The last 5 ms before a hole go down to nothing."""
    cushion = JitterBuffer(40)
    cushion.write(1, ms(50))
    samples = read(cushion, 3)
    assert samples[50 * 24 - 1] < 50
    assert samples[50 * 24 - 121] == 1_000


def test_a_reply_used_up_exactly_runs_dry_with_the_next_period() -> None:
    """No fade is needed where a period was full."""
    cushion = JitterBuffer(40)
    cushion.write(1, ms(40))
    assert heard(read(cushion, 2)) == 960
    assert heard(read(cushion)) == 0
    cushion.write(1, ms(100))
    read(cushion)
    assert only(cushion.take_notes(), Gap) == [Gap(1, 20.0)]


def test_the_cushion_grows_with_gaps_and_shrinks_with_clean_replies() -> None:
    """Jitter costs a stutter once, not in every sentence."""
    cushion = JitterBuffer(40)
    cushion.write(1, ms(40))
    read(cushion, 10)
    cushion.write(1, ms(100))
    cushion.complete(1)
    read(cushion, 10)
    # Half as much again for the gap, and 20 ms to spare next time.
    assert cushion.cushion_ms == 60 + 20
    for turn in range(2, 12):
        cushion.write(turn, ms(40))
        cushion.complete(turn)
        read(cushion, 4)
    assert cushion.cushion_ms == 40


def test_a_reply_that_nearly_ran_dry_enlarges_the_cushion_for_the_next() -> None:
    """10 ms were left where 20 are wanted; nothing was torn."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(80))
    read(cushion, 3)
    cushion.write(1, ms(100))
    read(cushion, 5)  # 20 ms left, and then 10
    cushion.write(1, ms(10))
    read(cushion)
    cushion.write(1, ms(50))
    cushion.complete(1)
    read(cushion, 5)
    assert cushion.underruns == 0
    assert cushion.cushion_ms == 90


def test_what_is_configured_is_the_least() -> None:
    """Also where that is more than would ever be learned."""
    cushion = JitterBuffer(600)
    cushion.write(1, ms(600))
    read(cushion, 30)
    cushion.complete(1)
    read(cushion, 3)
    assert cushion.cushion_ms == 600


def test_a_reply_with_plenty_in_hand_lets_it_shrink_again() -> None:
    """By half of what was too much, and by a tenth at most."""
    cushion = JitterBuffer(80)
    cushion._cushion_ms = 200.0
    shrunk = []
    for turn, plenty_ms in ((1, 60), (2, 400)):
        cushion.write(turn, ms(200 + plenty_ms))
        read(cushion, 10)
        cushion.complete(turn)
        read(cushion, 30)
        shrunk.append(cushion.cushion_ms)
    assert shrunk == [180.0, 162.0]


def test_nothing_changes_where_just_enough_is_in_hand() -> None:
    """20 ms: no more is wanted, no less is safe."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(80))
    read(cushion, 3)
    cushion.write(1, ms(20))
    cushion.complete(1)
    read(cushion, 3)
    assert cushion.cushion_ms == 80


PIECE_MS = 40
REPLIES = 8


def over_a_link(seed: int, jitter_ms: float, replies: int = REPLIES) -> list[tuple[float, float]]:
    """Play replies of 4 s that arrive at the pace at which they are spoken.

    Return for each the silence inside it and the cushion after it, in ms. Pieces of 40 ms are late
    by up to `jitter_ms` and stay in order, as behind TCP; the device takes 30 ms at a time.
    """
    dice = random.Random(seed)
    cushion = JitterBuffer(80)
    told = []
    for turn in range(1, replies + 1):
        late = [n * PIECE_MS + dice.uniform(0, jitter_ms) for n in range(4_000 // PIECE_MS)]
        due_ms = deque(itertools.accumulate(late, max))
        at_ms, out = dice.uniform(0, 30), bytearray()
        while not any(isinstance(note, Drained) for note in cushion.take_notes()):
            while due_ms and due_ms[0] <= at_ms:
                due_ms.popleft()
                cushion.write(turn, ms(PIECE_MS))
                if not due_ms:
                    cushion.complete(turn)
            out += cushion.read(720, 0.0)
            at_ms += 30
        sounding = [at for at, sample in enumerate(formats.samples(bytes(out))) if sample]
        silent = sounding[-1] - sounding[0] + 1 - len(sounding)
        told.append((silent / 24, cushion.cushion_ms))
    return told


def test_jitter_tears_the_first_replies_and_hardly_any_later_ones() -> None:
    """60 ms of it, 15 links of 8 replies: the cushion has grown by what was missing."""
    links = [over_a_link(seed, 60) for seed in range(15)]
    torn = [sum(link[turn][0] > 5.0 for link in links) for turn in range(REPLIES)]
    print(f"torn replies of 15, first to last: {torn}")
    assert sum(torn[2:]) <= 6
    assert max(after for link in links for _, after in link) < 200


def test_an_even_link_leaves_the_cushion_alone() -> None:
    """However closely a reply arrives at the pace of speech."""
    assert all(link == [(0.0, 80)] * 3 for link in (over_a_link(s, 0, 3) for s in range(10)))


def test_the_cushion_has_an_end() -> None:
    """A dreadful link does not make every answer a second late."""
    cushion = JitterBuffer(300)
    for _ in range(20):
        cushion.write(1, ms(600))
        read(cushion, 100)
    assert cushion.cushion_ms == 500


# ── what was heard ────────────────────────────────────────────────────────────────────────────


def test_heard_lags_by_the_latency_of_the_device() -> None:
    """What is in the device has not been heard."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(1_000))
    read(cushion, 11, latency_s=0.06)  # at the 11th, 10 were handed out and 3 of them not played
    assert only(cushion.take_notes(), Progress)[-1] == Progress(1, 100.0)


def test_drained_means_that_the_device_has_played_it() -> None:
    """Three periods of latency, three more periods."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(40))
    cushion.complete(1)
    read(cushion, 2, latency_s=0.06)
    assert not only(cushion.take_notes(), Drained)
    assert cushion.playing_turn == 1
    assert not cushion.is_idle
    read(cushion, 3, latency_s=0.06)
    assert not only(cushion.take_notes(), Drained)
    read(cushion, 1, latency_s=0.06)
    assert cushion.take_notes() == [Drained(1, 40.0)]
    assert cushion.is_idle


def test_heard_never_goes_back() -> None:
    """A device that reports a jump in its latency does not unplay anything."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(60))
    cushion.complete(1)
    read(cushion, 4, latency_s=0.0)
    read(cushion, 4, latency_s=0.5)
    assert only(cushion.take_notes(), Drained) == [Drained(1, 60.0)]


def test_progress_is_told_at_least_every_200_ms() -> None:
    """So that an interruption knows how much of the sentence was heard."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(2_000))
    cushion.complete(1)
    read(cushion, 110)
    marks = [n.heard_ms for n in only(cushion.take_notes(), Progress) if isinstance(n, Progress)]
    assert all(after - before <= 200 for before, after in itertools.pairwise(marks))
    assert len(marks) >= 10


def test_silence_between_pieces_is_not_counted_as_heard() -> None:
    """Gaps belong to nobody."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(50))
    read(cushion, 10)
    cushion.write(1, ms(50))
    cushion.complete(1)
    read(cushion, 10)
    assert cushion.take_notes()[-1] == Drained(1, 100.0)


@given(
    pieces=st.lists(st.integers(1, 3_000), min_size=1, max_size=12),
    reads_between=st.integers(0, 6),
    latency_ms=st.integers(0, 200),
)
def test_every_sample_is_handed_out_once_and_counted_once(
    pieces: list[int], reads_between: int, latency_ms: int
) -> None:
    """Whatever the jitter: the reply comes out whole, in order, and heard_ms is its length."""
    cushion = JitterBuffer(80)
    out: list[int] = []
    for piece in pieces:
        cushion.write(1, level(piece, 500))
        out += read(cushion, reads_between, latency_ms / 1000)
    cushion.complete(1)
    out += read(cushion, sum(pieces) // PERIOD + 40, latency_ms / 1000)
    # Fades scale samples but leave their number; ramp ends may round to 0.
    drained = only(cushion.take_notes(), Drained)
    assert drained == [Drained(1, sum(pieces) * 1000 / 24_000)]
    gaps = cushion.underruns
    assert sum(pieces) - 130 * (gaps + 1) <= heard(out) <= sum(pieces)
    assert cushion.is_idle


# ── cancelling ────────────────────────────────────────────────────────────────────────────────


def test_cancelled_is_silent_within_one_period_and_fades() -> None:
    """5 ms of fade, then nothing."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(1_000))
    read(cushion, 5)
    cushion.cancel(1)
    samples = read(cushion, 2)
    assert samples[:120] == sorted(samples[:120], reverse=True)
    assert samples[119] < 20
    assert heard(samples[120:]) == 0


def test_cancelled_tells_exactly_what_was_heard() -> None:
    """Five periods and the fade."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(1_000))
    read(cushion, 5)
    cushion.cancel(1)
    read(cushion, 2)
    assert cushion.take_notes()[-1] == Drained(1, 105.0)
    assert cushion.buffered_ms == 0


def test_what_comes_late_of_a_cancelled_turn_is_not_played() -> None:
    """It is counted, the next turn is heard."""
    cushion = JitterBuffer(20)
    cushion.write(3, ms(100))
    cushion.cancel(3)
    assert cushion.write(3, ms(100))
    cushion.complete(3)
    assert heard(read(cushion, 3)) == 0
    assert cushion.late_bytes == len(ms(100))
    cushion.write(4, ms(100))
    assert heard(read(cushion)) == PERIOD


def test_cancelling_a_turn_that_has_no_audio_yet_still_ends_it() -> None:
    """Whoever waits for its end is not left waiting; a second time says nothing."""
    cushion = JitterBuffer(20)
    cushion.cancel(5)
    cushion.cancel(5)
    assert cushion.take_notes() == [Drained(5, 0.0)]


def test_cancelling_a_reply_that_was_gathering_makes_no_sound() -> None:
    """No fade of what was never begun."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(40))
    cushion.cancel(1)
    assert heard(read(cushion, 2)) == 0
    assert cushion.take_notes() == [Drained(1, 0.0)]


def test_cancelling_takes_earlier_turns_along_and_spares_later_ones() -> None:
    """Order of turns is order of time."""
    cushion = JitterBuffer(20)
    for turn in (1, 2, 3):
        cushion.write(turn, ms(40, turn * 100))
        cushion.complete(turn)
    cushion.cancel(2)
    assert set(read(cushion, 3)) == {300, 0}


def test_an_empty_reply_drains() -> None:
    """Complete without any audio: a tool call, say."""
    cushion = JitterBuffer(20)
    cushion.complete(1)
    read(cushion, 2)
    assert cushion.take_notes() == [Drained(1, 0.0)]


def test_a_lost_device_ends_every_reply_with_what_was_heard() -> None:
    """Playing, leaving and waiting ones; sounds are dropped too."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(40))
    cushion.complete(1)
    cushion.write(2, ms(400))
    read(cushion, 5, latency_s=0.05)
    cushion.write(3, ms(10))
    cushion.play(ms(100))
    cushion.take_notes()
    cushion.lose()
    # Four periods were handed out before the fifth, less 50 ms of latency: 30 ms, all of turn 1.
    assert cushion.take_notes() == [Drained(1, 30.0), Drained(2, 0.0), Drained(3, 0.0)]
    assert cushion.is_idle
    cushion.write(2, ms(100))
    assert heard(read(cushion, 3)) == 0


# ── sounds and volume ─────────────────────────────────────────────────────────────────────────


def test_a_sound_is_heard_at_once() -> None:
    """No cushion for what is already here."""
    cushion = JitterBuffer(80)
    cushion.play(ms(30, 700))
    samples = read(cushion, 2)
    assert samples[: 30 * 24] == [700] * 720
    assert heard(samples[720:]) == 0
    assert cushion.is_idle


def test_a_reply_is_ducked_under_a_sound_and_comes_back() -> None:
    """To a quarter, over one period each way."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(400, 8_000))
    read(cushion, 2)
    cushion.play(ms(60, 0))
    periods = [read(cushion) for _ in range(5)]
    assert periods[0][0] == 8_000
    assert periods[1] == periods[2] == [2_000] * PERIOD
    assert periods[4] == [8_000] * PERIOD


def test_a_sound_need_not_duck() -> None:
    """A tick is mixed in."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(100, 1_000))
    cushion.play(ms(20, 500), duck=False)
    assert read(cushion) == [1_500] * PERIOD


def test_a_reply_that_gathers_is_not_playing_yet() -> None:
    """Nobody hears it, so nobody can interrupt it."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(20))
    read(cushion)
    assert cushion.playing_turn is None


def test_hush_stops_sounds_and_not_the_reply() -> None:
    """An alarm ends by a word."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(100, 1_000))
    cushion.play(ms(1_000, 500), duck=False)
    read(cushion)
    cushion.hush()
    assert read(cushion) == [1_000] * PERIOD


def test_volume_moves_over_one_period() -> None:
    """No step, no click."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(200, 1_000))
    read(cushion)
    cushion.set_volume(0.5)
    moving = read(cushion)
    assert moving[0] == 1_000
    assert moving == sorted(moving, reverse=True)
    assert read(cushion) == [500] * PERIOD


def test_the_fade_of_a_cancelled_reply_keeps_the_volume() -> None:
    """It does not jump up to full volume for its last 5 ms."""
    cushion = JitterBuffer(20)
    cushion.set_volume(0.5)
    cushion.write(1, ms(200, 1_000))
    read(cushion, 3)
    cushion.cancel(1)
    assert max(read(cushion)) <= 500


def test_a_sum_beyond_full_scale_is_limited() -> None:
    """Never wraps around."""
    cushion = JitterBuffer(20)
    cushion.write(1, ms(100, 30_000))
    cushion.play(ms(20, 30_000), duck=False)
    assert all(30_000 < sample <= 32_767 for sample in read(cushion))


@pytest.mark.parametrize("frames", [1, 60, 480, 720, 1_024, 4_800])
def test_any_period_length_works(frames: int) -> None:
    """Devices choose their own."""
    cushion = JitterBuffer(80)
    cushion.write(1, ms(1_000))
    cushion.complete(1)
    total = 0
    for _ in range(24_000 // frames + 3):
        pcm = cushion.read(frames, 0.0)
        assert len(pcm) == 2 * frames
        total += heard(formats.samples(pcm))
    assert total == 24_000


def note(calls: list[str], _frame: object, event: str, _arg: object) -> None:
    """Count a call."""
    calls.append(event)


def test_a_period_costs_the_same_however_many_replies_wait() -> None:
    """A service gone mad sends thousands; only the one that is played is looked at."""
    steps = []
    for waiting in (10, 3_000):
        cushion = JitterBuffer(80)
        for turn in range(waiting):
            cushion.write(turn, ms(20))
            cushion.complete(turn)
        calls: list[str] = []
        sys.setprofile(functools.partial(note, calls))
        try:
            for turn in range(5):
                cushion.write(waiting + turn, ms(20))
                cushion.read(480, 0.02)
                assert cushion.playing_turn is not None
                assert cushion.buffered_ms > 0
        finally:
            sys.setprofile(None)
        steps.append(len(calls))
    assert steps[1] < 2 * steps[0]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "complete", "cancel", "read", "lose"]),
        st.integers(0, 6),
        st.integers(0, 2_000),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_what_waits_is_counted_rightly(actions: list[tuple[str, int, int]]) -> None:
    """In any order, also of turns: the sum of what each reply still holds."""
    cushion = JitterBuffer(20)
    for action, turn, size in actions:
        if action == "write":
            cushion.write(turn, bytes(size))
        elif action == "read":
            cushion.read(size, 0.0)
        elif action == "lose":
            cushion.lose()
        else:
            getattr(cushion, action)(turn)
        assert cushion.buffered_bytes == sum(r.waiting_bytes for r in cushion._replies)
        turns = [reply.turn for reply in cushion._replies]
        assert len(turns) == len(set(turns)), "one reply for each turn"
