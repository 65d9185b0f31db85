"""Who has a place at the control socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.service.places import NoPlace, Places

SIZE = 3


def full(*privileged: int) -> Places[int]:
    """Return places that are all taken, by clients 0, 1, 2; those named are privileged."""
    places: Places[int] = Places(SIZE)
    for client in range(SIZE):
        assert places.enter(client, privileged=client in privileged) is None
    return places


def test_the_one_that_is_idle_longest_goes() -> None:
    """Having asked something makes a client the newest."""
    places = full()
    places.begin(0)
    places.end(0)
    assert places.enter(3, privileged=False) == 1
    assert places.enter(4, privileged=False) == 2
    assert places.enter(5, privileged=False) == 0
    assert len(places) == SIZE


def test_whoever_is_being_served_stays() -> None:
    """Until it has been answered."""
    places = full()
    for client in range(SIZE):
        places.begin(client)
    with pytest.raises(NoPlace):
        places.enter(3, privileged=True)
    places.end(1)
    assert places.enter(3, privileged=False) == 1


def test_root_is_not_sent_away_for_others() -> None:
    """For root it is, the one that is idle longest."""
    places = full(0, 1, 2)
    with pytest.raises(NoPlace):
        places.enter(3, privileged=False)
    assert places.enter(3, privileged=True) == 0
    assert full(0).enter(3, privileged=False) == 1


def test_one_that_was_sent_away_is_not_counted_twice() -> None:
    """Its connection ends later, and perhaps in the middle of an answer."""
    places = full()
    gone = places.enter(3, privileged=False)
    assert gone == 0
    places.begin(gone)
    places.end(gone)
    places.leave(gone)
    assert len(places) == SIZE


@given(st.lists(st.tuples(st.sampled_from(["enter", "begin", "end", "leave"]), st.integers(0, 9))))
def test_there_are_never_more_than_there_are_places(steps: list[tuple[str, int]]) -> None:
    """Whatever comes in whatever order."""
    places: Places[int] = Places(SIZE)
    inside: set[int] = set()
    for what, client in steps:
        if what == "enter" and client not in inside:
            try:
                inside.discard(places.enter(client, privileged=client % 2 == 0))
            except NoPlace:
                continue
            inside.add(client)
        elif what == "leave":
            places.leave(client)
            inside.discard(client)
        elif what in ("begin", "end"):
            getattr(places, what)(client)
        assert len(places) == len(inside) <= SIZE
