"""Handles and the ladder."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.clock import WallTime
from agentd.live.messages import ResumptionUpdate
from agentd.live.resumption import (
    MAX_HANDLE_CHARS,
    MAX_STRIKES,
    Choice,
    Handle,
    Identity,
    Ladder,
    Rung,
    fingerprint,
    handle_from_document,
    handle_to_document,
)

ME = Identity("developer", "", "", "gemini-3.8-live", "")
NOON = WallTime(1_800_000_000.0, synchronised=True)
HOUR = 3600.0


def handle(value: str, **changes: object) -> Handle:
    """A handle issued at noon."""
    return replace(Handle(value, ME, NOON, "digest", alive_s=0.0, alive=NOON), **changes)  # type: ignore[arg-type]


def choose(ladder: Ladder, *, me: Identity = ME, restore: bool = True, now: float = 0.0) -> Choice:
    """Choose at `now`."""
    return ladder.choose(me, lifetime_s=2 * HOUR, now=now, wall=NOON, can_restore=restore)


def good(value: str) -> ResumptionUpdate:
    """An update that brings a handle."""
    return ResumptionUpdate(value, resumable=True)


def filled() -> Ladder:
    """A ladder with two handles."""
    ladder = Ladder()
    ladder.offer(good("one"), handle(""))
    ladder.offer(good("two"), handle(""))
    return ladder


def test_the_ladder_goes_down_step_by_step() -> None:
    """Newest, previous, fresh with context, fresh."""
    ladder = filled()
    for rung, value in ((Rung.NEWEST, "two"), (Rung.PREVIOUS, "one")):
        choice = choose(ladder)
        assert choice.handle is not None
        assert choice.handle.value == value
        # what was the previous handle is the only one left, and so the newest
        assert choice.rung in (rung, Rung.NEWEST)
        ladder.drop(choice.handle, "refused")
    assert choose(ladder) == Choice(Rung.RESTORE, None, "refused")
    assert choose(ladder, restore=False).rung is Rung.FRESH


@pytest.mark.parametrize(
    "update",
    [
        ResumptionUpdate(),
        ResumptionUpdate("three", resumable=False),
        ResumptionUpdate("", resumable=True),
        ResumptionUpdate("x" * (MAX_HANDLE_CHARS + 1), resumable=True),
    ],
)
def test_an_empty_update_erases_nothing(update: ResumptionUpdate) -> None:
    """Not resumable at this moment is no reason to forget what was good a moment ago."""
    ladder = filled()
    assert ladder.offer(update, handle("")) is None
    assert not ladder.resumable
    assert [h.value for h in (ladder.newest, ladder.previous) if h] == ["two", "one"]


@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=30))
def test_the_newest_good_handle_is_chosen(updates: list[int | None]) -> None:
    """Whatever mixture of empty and good updates comes."""
    ladder, last = Ladder(), ""
    for number in updates:
        ladder.offer(ResumptionUpdate() if number is None else good(f"h{number}"), handle(""))
        last = last if number is None else f"h{number}"
    found = choose(ladder).handle
    assert (found.value if found else "") == last
    if ladder.previous is not None and ladder.newest is not None:
        assert ladder.previous.value != ladder.newest.value


def test_the_same_handle_again_is_not_stored_again() -> None:
    """But what is new about it (its consumed index) is kept."""
    ladder = filled()
    assert ladder.offer(good("two"), handle("", consumed=7)) is None
    assert ladder.newest is not None
    assert ladder.newest.consumed == 7
    assert ladder.previous is not None
    assert ladder.previous.value == "one"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "other"}, "handle of another model"),
        ({"backend": "vertex"}, "handle of another backend or project"),
        ({"project": "p"}, "handle of another backend or project"),
        ({"endpoint": "https://x"}, "handle of another backend or project"),
    ],
)
def test_a_handle_of_another_place_is_not_used(changes: dict[str, str], why: str) -> None:
    """And the fresh session says why."""
    choice = choose(filled(), me=replace(ME, **changes))
    assert (choice.rung, choice.why_not) == (Rung.RESTORE, why)


def test_the_lifetime_counts_from_the_last_sign_of_life() -> None:
    """Two hours after the session was last alive it is not tried, just before it is."""
    ladder = filled()
    assert choose(ladder, now=2 * HOUR).handle is not None
    assert choose(ladder, now=2 * HOUR + 1).why_not == "handle too old"
    ladder.touch(2 * HOUR, NOON)
    assert choose(ladder, now=4 * HOUR).handle is not None
    Ladder().touch(0.0, NOON)


@pytest.mark.parametrize("synchronised", [True, False])
@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0, -NOON.unix_s])
def test_a_jump_of_the_wall_clock_costs_no_handle_while_running(
    jump_s: float, synchronised: bool
) -> None:
    """S3: while the process runs, only monotonic time counts."""
    wall = WallTime(NOON.unix_s + jump_s, synchronised)
    choice = filled().choose(ME, lifetime_s=2 * HOUR, now=60.0, wall=wall, can_restore=False)
    assert choice.rung is Rung.NEWEST


@pytest.mark.parametrize(
    ("then", "now", "used"),
    [
        (NOON, WallTime(NOON.unix_s + HOUR, True), True),
        (NOON, WallTime(NOON.unix_s + 3 * HOUR, True), False),
        (NOON, WallTime(NOON.unix_s + 3 * HOUR, False), True),
        (WallTime(0.0, False), NOON, True),
        (NOON, WallTime(NOON.unix_s - HOUR, True), True),
    ],
)
def test_after_a_restart_age_counts_only_between_two_good_clocks(
    then: WallTime, now: WallTime, used: bool
) -> None:
    """S3: a clock that starts at 1970 deletes nothing; trying costs one dial."""
    document = json.loads(json.dumps(handle_to_document(handle("h", issued=then, alive=then))))
    restored = handle_from_document(document)
    assert restored is not None
    choice = Ladder(restored).choose(ME, lifetime_s=2 * HOUR, now=5.0, wall=now, can_restore=False)
    assert (choice.handle is not None) is used


def test_strikes() -> None:
    """A broken network speaks against a handle only when it insists; trust wipes the slate."""
    ladder = filled()
    two = ladder.newest
    assert two is not None
    assert [ladder.strike(two) for _ in range(MAX_STRIKES)] == [False, False, True]
    ladder.trust(two)
    assert not ladder.strike(two)
    ladder.drop(two, "x")
    assert not ladder.strike(two), "strikes of dropped handles are forgotten"


def test_dropping_the_previous_or_an_unknown_handle() -> None:
    """Only the one that is meant goes."""
    ladder = filled()
    ladder.drop(handle("one"), "x")
    assert ladder.previous is None
    ladder.drop(handle("unknown"), "x")
    assert ladder.newest is not None


def values(ladder: Ladder) -> list[str]:
    """The handles on the ladder, newest first."""
    return [known.value for known in ladder.handles]


def test_handles_of_an_unproved_connection_push_nothing_off_the_ladder() -> None:
    """Resumed with two, it issues a and b; none of them has led to an answer yet."""
    ladder = filled()
    two = ladder.newest
    for value in ("a", "b"):
        ladder.offer(good(value), handle(""), parent=two)
    assert values(ladder) == ["b", "two", "one"]
    ladder.touch(5.0, NOON)
    assert values(ladder) == ["b", "two", "one"]


def test_what_a_bad_connection_has_issued_goes_with_its_handle() -> None:
    """They name the same spoilt state; trying them one by one would cost a question each."""
    ladder = filled()
    two = ladder.newest
    assert two is not None
    for value in ("a", "b"):
        ladder.offer(good(value), handle(""), parent=two)
    ladder.drop(two, "it kills the first question")
    assert values(ladder) == ["one"]


def test_a_connection_that_answers_vouches_for_what_it_issued() -> None:
    """Then two are enough again."""
    ladder = filled()
    two = ladder.newest
    assert two is not None
    ladder.offer(good("a"), handle(""), parent=two)
    ladder.trust(two)
    assert values(ladder) == ["a", "two"]
    ladder.offer(good("b"), handle(""))
    assert values(ladder) == ["b", "a"]
    ladder.drop(two, "x")
    assert values(ladder) == ["b", "a"]


def test_a_network_that_breaks_unproved_connections_costs_no_context() -> None:
    """A child of a child: each was the newest when its connection broke."""
    ladder = filled()
    for value in ("a", "b", "c"):
        ladder.offer(good(value), handle(""), parent=ladder.newest)
    assert values(ladder) == ["c", "b", "a"]
    newest = ladder.newest
    assert newest is not None
    ladder.drop(newest, "refused")
    assert values(ladder) == ["b", "a"]


def test_forgetting_and_beginning_afresh() -> None:
    """Nothing of the old session is ever used again, and the reason is told once."""
    ladder = filled()
    ladder.forget("forgotten")
    assert choose(ladder, restore=False) == Choice(Rung.FRESH, None, "forgotten")
    ladder.began_fresh()
    assert choose(ladder, restore=False).why_not == "no handle"


def test_a_fingerprint_reveals_nothing() -> None:
    """Short, stable, different."""
    assert fingerprint("secret") == fingerprint("secret") != fingerprint("other")
    assert "secret" not in fingerprint("secret")
    assert len(fingerprint("\ud800")) == 8


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
        lambda inner: st.one_of(
            st.lists(inner),
            st.dictionaries(st.sampled_from(list(handle_to_document(handle("h")))), inner),
        ),
    )
)
def test_no_document_breaks_the_reader(document: object) -> None:
    """Anyone may have written it."""
    found = handle_from_document(document)
    assert found is None or found.value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("handle", ""),
        ("handle", 7),
        ("handle", "x" * (MAX_HANDLE_CHARS + 1)),
        ("model", None),
        ("issued_unix_s", "noon"),
        ("issued_unix_s", True),
        ("issued_unix_s", float("nan")),
        ("alive_unix_s", 1e300),
        ("alive_synchronised", "yes"),
    ],
)
def test_spoilt_documents_are_no_handles(key: str, value: object) -> None:
    """One wrong field is enough."""
    document = handle_to_document(handle("h", alive=None))
    assert handle_from_document(document) is not None
    assert handle_from_document({**document, key: value}) is None
