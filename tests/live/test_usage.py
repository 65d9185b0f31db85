"""Token counts."""

from __future__ import annotations

from agentd.live.messages import MAX_COUNT, Tokens
from agentd.live.usage import Usage


def test_totals_and_turns() -> None:
    """Reports add up in total and per turn; what was never reported is left out."""
    usage = Usage()
    usage.add(Tokens(prompt=10, response=5, total=15, by_modality=(("prompt_audio", 8),)))
    usage.add(Tokens(prompt=1, by_modality=(("prompt_audio", 1),)))
    assert usage.totals() == {"prompt": 11, "response": 5, "total": 15, "prompt_audio": 9}
    assert usage.take_turn() == (11, 5)
    assert usage.take_turn() == (0, 0)


def test_no_sum_overflows() -> None:
    """Negative counts are ignored; sums stop at the largest number that JSON carries exactly."""
    usage = Usage()
    usage.add(Tokens(prompt=-5, response=-1))
    assert (usage.totals(), usage.take_turn()) == ({}, (0, 0))
    for _ in range(3):
        usage.add(Tokens(prompt=MAX_COUNT, by_modality=(("prompt_audio", MAX_COUNT),)))
    assert usage.totals() == {"prompt": MAX_COUNT, "prompt_audio": MAX_COUNT}
    assert usage.take_turn() == (MAX_COUNT, 0)
