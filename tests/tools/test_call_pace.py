"""When other functions are brought to the service."""

from __future__ import annotations

from agentd.tools.call_pace import MOST, RETURN_S, SETTLE_S, WINDOW_S, CallPace


def test_nothing_is_due_when_nothing_changed() -> None:
    """From the start, and after it was brought."""
    pace = CallPace()
    assert pace.due_s is None
    pace.offered(100.0)
    pace.brought(101.0, changed=True)
    assert pace.due_s is None


def test_hosts_that_start_together_are_one_change() -> None:
    """The first one sets the time."""
    pace = CallPace()
    pace.offered(100.0)
    pace.offered(100.5)
    assert pace.due_s == 100.0 + SETTLE_S


def test_a_host_that_has_gone_may_come_back() -> None:
    """A restart takes longer than hosts that start together; when it is back that counts."""
    pace = CallPace()
    pace.withdrawn(100.0)
    assert pace.due_s == 100.0 + RETURN_S
    pace.offered(103.0)
    assert pace.due_s == 103.0 + SETTLE_S


def test_a_host_that_comes_and_goes_does_not_wear_out_the_conversation() -> None:
    """So many changes in five minutes; what came to nothing counts for nothing."""
    pace = CallPace()
    for at in range(MOST):
        pace.offered(100.0 + at)
        pace.brought(100.0 + at, changed=True)
    for at in range(5):
        pace.offered(110.0)
        pace.brought(110.0 + at, changed=False)
    pace.offered(120.0)
    assert pace.due_s == 100.0 + WINDOW_S
    pace.brought(100.0 + WINDOW_S, changed=True)
    pace.offered(500.0)
    assert pace.due_s == 501.0


def test_a_conversation_that_stands_still_waits_for_nothing() -> None:
    """However often something was brought before."""
    pace = CallPace()
    for _ in range(MOST):
        pace.offered(100.0)
        pace.brought(100.0, changed=True)
    pace.now(100.0)
    assert pace.due_s == 100.0
