"""The journal and what becomes of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.clock import WallTime
from agentd.live.messages import Content
from agentd.live.transcript import (
    MAX_TEXT_CHARS,
    MAX_TOTAL_CHARS,
    SUMMARY_CHARS,
    Exchange,
    Transcript,
    heard_text,
    seed,
)

NOON = WallTime(1_800_000_000.0, synchronised=True)


def journal(turns: int = 40, age_s: float = 3600.0, *, enabled: bool = True) -> Transcript:
    """A journal."""
    return Transcript(max_turns=turns, max_age_s=age_s, enabled=enabled)


def later(seconds: float, *, synchronised: bool = True) -> WallTime:
    """Wall time after noon."""
    return WallTime(NOON.unix_s + seconds, synchronised)


def test_old_turns_go_first() -> None:
    """By count, and by size."""
    book = journal(turns=3)
    for number in range(5):
        assert book.add(f"question {number}", "answer", 0.0, NOON)
    assert [e.user for e in book.recent(0.0, NOON)] == ["question 2", "question 3", "question 4"]
    big = journal(turns=1000)
    for _ in range(100):
        big.add("x" * 10_000, "", 0.0, NOON)
    assert sum(len(e.user) for e in big.recent(0.0, NOON)) <= MAX_TOTAL_CHARS
    assert all(len(e.user) == MAX_TEXT_CHARS for e in big.recent(0.0, NOON))


def test_age() -> None:
    """Turns are kept for their time; by monotonic time while running, by good clocks after."""
    book = journal(age_s=100.0)
    book.add("a", "b", 0.0, NOON)
    assert len(book.recent(100.0, later(1e6))) == 1
    assert len(book.recent(101.0, NOON)) == 0
    book.add("a", "b", 0.0, NOON)
    restored = journal(age_s=100.0)
    restored.load(json.loads(json.dumps(book.to_document())))
    assert len(restored.recent(0.0, later(101.0, synchronised=False))) == 1
    assert len(restored.recent(0.0, later(101.0))) == 0


def test_off_means_off() -> None:
    """Nothing is taken, nothing is loaded, and turning it off drops what there is."""
    book = journal()
    book.add("a", "b", 0.0, NOON)
    document = book.to_document()
    closed = journal(enabled=False)
    assert not closed.add("a", "b", 0.0, NOON)
    closed.load(document)
    assert len(closed) == 0
    book.limit(max_turns=40, max_age_s=3600.0, enabled=False)
    assert len(book) == 0


def test_empty_exchanges_are_not_kept() -> None:
    """A turn without words is no memory."""
    assert not journal().add("  ", "", 0.0, NOON)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=30))
def test_a_round_trip_through_disk_keeps_everything(turns: list[tuple[str, str]]) -> None:
    """What was kept is what comes back."""
    book, again = journal(), journal()
    for user, model in turns:
        book.add(user, model, 0.0, NOON)
    again.load(json.loads(json.dumps(book.to_document())))
    assert [(e.user, e.model) for e in again.recent(0.0, NOON)] == [
        (e.user, e.model) for e in book.recent(0.0, NOON)
    ]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(
            st.sampled_from(["version", "turns", "user", "model", "at_unix_s", "at_synchronised"]),
            inner,
        ),
    ),
)


@given(JSON, JSON)
def test_no_document_breaks_the_journal(document: object, turn: object) -> None:
    """Anyone may have written it."""
    for hostile in (document, {"version": 1, "turns": document}, {"version": 1, "turns": [turn]}):
        book = journal()
        book.load(hostile)
        seed(book.recent(0.0, NOON))


def test_an_exchange_without_words_in_a_document_is_skipped() -> None:
    """It would restore nothing."""
    book = journal()
    turn = {"user": "", "model": "", "at_unix_s": 0.0, "at_synchronised": False}
    book.load({"version": 1, "turns": [turn]})
    assert len(book) == 0


@pytest.mark.parametrize(
    ("heard_ms", "reply_ms", "expected"),
    [
        (1000.0, 1000.0, "one two three four"),
        (2000.0, 1000.0, "one two three four"),
        (500.0, 1000.0, "one two …"),
        (0.0, 1000.0, ""),
        (-5.0, 1000.0, ""),
        (10.0, 1000.0, ""),
        (500.0, 0.0, ""),
        (float("nan"), 1000.0, ""),
        (390.0, 1000.0, "one two …"),
    ],
)
def test_heard_text(heard_ms: float, reply_ms: float, expected: str) -> None:
    """Of an interrupted reply only what was heard is remembered, at a word boundary."""
    assert heard_text("one two three four", heard_ms, reply_ms) == expected


def exchanges(count: int, words: str = "hello") -> list[Exchange]:
    """Some turns."""
    return [Exchange(f"{words} {n}", f"answer {n}", NOON) for n in range(count)]


def test_a_short_history_goes_turn_by_turn() -> None:
    """With the roles as they were, and nothing where nothing was said."""
    assert seed([*exchanges(1), Exchange("unanswered", "", NOON)]) == (
        Content("user", "hello 0"),
        Content("model", "answer 0"),
        Content("user", "unanswered"),
    )


def test_a_long_history_goes_as_one_message() -> None:
    """Bounded, with the newest kept."""
    (content,) = seed(exchanges(11))
    assert content.role == "user"
    assert "hello 10" in content.text
    (content,) = seed(exchanges(3, "x" * 8000))
    assert len(content.text) < SUMMARY_CHARS + 200
    assert content.text.endswith("answer 2")
