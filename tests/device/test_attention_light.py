"""The dim light follows attention where the gate opens by a word, and replies where it is open."""

from __future__ import annotations

from agentd import events as e
from agentd.device.facts import CALLED_MAX_S, FOLLOW_UP_S, Facts


def attention(stance: str, reason: str, for_s: float = 0.0) -> e.AttentionChanged:
    return e.AttentionChanged(stance=stance, reason=reason, for_s=for_s)


def replied(facts: Facts) -> Facts:
    facts = facts.after(e.ReplyStarted(turn=1), 9.0)
    return facts.after(e.ReplyDrained(turn=1, heard_ms=500.0), 10.0)


def test_a_call_lights_up_and_sleep_darkens() -> None:
    """For as long as is known, or until what is said must be over."""
    facts = Facts().after(attention("open", "okay_nabu", 6.0), 10.0)
    assert (facts.follow_up_until_s, facts.follow_up_by) == (16.0, "okay_nabu")
    assert (
        facts.after(attention("open", "okay_nabu"), 11.0).follow_up_until_s == 11.0 + CALLED_MAX_S
    )
    asleep = facts.after(attention("asleep", "wake-word"), 12.0)
    assert asleep.follow_up_until_s < 12.0
    assert replied(asleep).follow_up_until_s < 10.0
    assert replied(asleep).speaking is None


def test_an_open_gate_follows_up_every_reply() -> None:
    """As before; half duplex in between changes nothing."""
    facts = (
        Facts().after(attention("asleep", "wake-word"), 1.0).after(attention("open", "open"), 2.0)
    )
    assert facts.after(attention("half_duplex", "reply"), 3.0) == facts
    assert replied(facts).follow_up_until_s == 10.0 + FOLLOW_UP_S
