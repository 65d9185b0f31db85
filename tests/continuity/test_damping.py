"""Flap damping: the first changes are followed at once, a storm of them is waited out."""

from __future__ import annotations

from agentd.live.backoff import FLAP_FREE, FLAP_WINDOW_S, FlapDamper


def test_the_first_changes_are_followed_at_once() -> None:
    """A handover and the way back, each with a moment offline, cost no waiting."""
    damper = FlapDamper()
    assert [damper.delay_s(at_s) for at_s in range(FLAP_FREE)] == [0.0] * FLAP_FREE


def test_a_storm_waits_longer_each_time_up_to_a_bound() -> None:
    """Half a second, one, two, and never more."""
    damper = FlapDamper()
    delays = [damper.delay_s(0.5 * n) for n in range(12)]
    assert delays[FLAP_FREE : FLAP_FREE + 3] == [0.5, 1.0, 2.0]
    assert set(delays[FLAP_FREE + 3 :]) == {2.0}


def test_a_quiet_time_is_forgiven() -> None:
    """After the window the next change is followed at once again."""
    damper = FlapDamper()
    for n in range(10):
        damper.delay_s(0.1 * n)
    assert damper.delay_s(1.0 + FLAP_WINDOW_S) == 0.0
