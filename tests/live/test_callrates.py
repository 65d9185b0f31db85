"""How often the model may call."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agentd.live.callrates import WINDOW_S, CallRates, Limits
from agentd.live.commands import Emit
from agentd.live.outputs import Outputs

LIMITS = Limits({"volume": 3, "timer": 4}.get, other=2, total=6)


def test_no_limits_no_bound() -> None:
    """Where none are given."""
    rates = CallRates(None, Outputs())
    assert not any(rates.refusal("volume", 0.0) for _ in range(1000))


def test_a_refusal_says_how_often_and_how_long() -> None:
    """And is reported once until the next call that is run."""
    out = Outputs()
    rates = CallRates(LIMITS, out)
    assert [rates.refusal("volume", 10.0 * n) for n in range(3)] == ["", "", ""]
    assert rates.refusal("volume", 25.0) == (
        "not done: this function may be called 3 times a minute. Do not call again for 35 seconds"
    )
    assert rates.refusal("volume", 59.9)
    assert len(out.take()) == 1
    assert not rates.refusal("volume", 60.0)
    assert rates.refusal("volume", 61.0)
    assert len(out.take()) == 1


def test_names_that_are_no_functions_count_as_one() -> None:
    """A model that makes names up fills no memory, and says no word in the journal."""
    out = Outputs()
    rates = CallRates(LIMITS, out)
    refused = [bool(rates.refusal(f"\x1b[{n}m", 0.0)) for n in range(4)]
    assert refused == [False, False, True, True]
    assert [c.event.message() for c in out.take() if isinstance(c, Emit)] == [
        "tool other is called more than 2 times a minute; it is not run"
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["volume", "timer", "a", "b"]),
            st.sampled_from([0.0, 0.1, 1.0, 7.0, 31.0, 90.0]),
        ),
        max_size=80,
    )
)
def test_no_minute_has_more_than_its_share(calls: list[tuple[str, float]]) -> None:
    """Of any function, of the others together, and of all."""
    rates = CallRates(LIMITS, Outputs())
    now = 0.0
    run: list[tuple[float, str]] = []
    for name, pause_s in calls:
        now += pause_s
        recent = [key for at_s, key in run if at_s > now - WINDOW_S]
        key = name if name in ("volume", "timer") else "other"
        full = len(recent) >= 6 or recent.count(key) >= {"volume": 3, "timer": 4, "other": 2}[key]
        assert bool(rates.refusal(name, now)) is full, "refused if and only if it is too much"
        if not full:
            run.append((now, key))
    assert max(Counter(int(at_s // WINDOW_S) for at_s, _ in run).values(), default=0) <= 6
