"""Token counts."""

from __future__ import annotations

from agentd.live.messages import Tokens
from agentd.live.usage import MODALITIES, Usage


def test_totals_and_turns() -> None:
    """Reports add up in total and per turn; what was never reported is left out."""
    usage = Usage()
    usage.add(Tokens(prompt=10, response=5, total=15, by_modality=(("prompt_audio", 8),)))
    usage.add(Tokens(prompt=1, by_modality=(("prompt_audio", 1),)))
    assert usage.totals() == {"prompt": 11, "response": 5, "total": 15, "prompt_audio": 9}
    assert usage.take_turn() == (11, 5)
    assert usage.take_turn() == (0, 0)


def test_a_mad_server_fills_no_memory() -> None:
    """Negative counts are ignored and the number of modality names is bounded."""
    usage = Usage()
    usage.add(Tokens(prompt=-5, response=-1))
    usage.add(Tokens(by_modality=tuple((f"prompt_{n}", 1) for n in range(1000))))
    assert len(usage.totals()) == MODALITIES
    assert usage.take_turn() == (0, 0)
