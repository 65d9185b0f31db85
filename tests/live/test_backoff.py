"""When to dial next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentd.live.backoff import WINDOW_S, Backoff, DialBudget


def test_the_first_retry_is_immediate_and_the_ceiling_doubles() -> None:
    """Most losses are passing; those that are not are met with growing patience up to the cap."""
    backoff = Backoff(1.0, 8.0, lambda: 1.0)
    assert [backoff.next_delay_s() for _ in range(6)] == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0]
    backoff.reset()
    assert backoff.next_delay_s() == 0.0


def test_a_floor_holds_for_the_first_delay_too() -> None:
    """A quota is never met with an immediate retry."""
    backoff = Backoff(10.0, 300.0, lambda: 0.0, floor_s=5.0)
    assert [backoff.next_delay_s() for _ in range(3)] == [5.0, 5.0, 5.0]


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=200))
def test_delays_stay_within_bounds(draws: list[float]) -> None:
    """Whatever the dice say, however long it lasts."""
    rolls = iter(draws)
    backoff = Backoff(0.5, 60.0, lambda: next(rolls, 0.0))
    for _ in range(len(draws)):
        assert 0.0 <= backoff.next_delay_s() <= 60.0


@given(st.integers(1, 30), st.lists(st.floats(0.0, 20.0), max_size=200))
def test_never_more_dials_than_the_budget(limit: int, pauses: list[float]) -> None:
    """Dialling whenever it is allowed never exceeds the limit in any 60 s."""
    budget = DialBudget(limit)
    now, dials = 0.0, []
    for pause in pauses:
        now = max(now + pause, budget.earliest_s(now + pause))
        budget.spend(now)
        dials.append(now)
    for moment in dials:
        assert sum(moment <= other < moment + WINDOW_S for other in dials) <= limit


def test_a_lowered_limit_counts_at_once() -> None:
    """After a reload to fewer dials the window of the old ones still counts."""
    budget = DialBudget(10)
    for moment in range(5):
        budget.spend(float(moment))
    budget.limit = 2
    assert budget.earliest_s(5.0) == 3.0 + WINDOW_S
