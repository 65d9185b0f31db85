"""What the conversation costs, in tokens.

The two backends name the same counts differently (`responseTokenCount` on the Developer API,
`candidatesTokenCount` on Vertex AI); the border has made `Tokens` of both.
"""

from __future__ import annotations

from agentd.live.messages import MAX_COUNT, Tokens


class Usage:
    """Running totals since the start, and since the current turn began; they never overflow."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._turn_prompt = 0
        self._turn_response = 0

    def add(self, tokens: Tokens) -> None:
        """Count one report."""
        for name in ("prompt", "response", "total", "cached", "thoughts", "tool_use"):
            self._count(name, getattr(tokens, name))
        for name, count in tokens.by_modality:
            self._count(name, count)
        self._turn_prompt = _sum(self._turn_prompt, tokens.prompt)
        self._turn_response = _sum(self._turn_response, tokens.response)

    def take_turn(self) -> tuple[int, int]:
        """Return (prompt, response) tokens reported since the last call."""
        taken = self._turn_prompt, self._turn_response
        self._turn_prompt = self._turn_response = 0
        return taken

    def totals(self) -> dict[str, int]:
        """Return all totals by name; what was never reported is left out."""
        return dict(self._totals)

    def _count(self, name: str, count: int) -> None:
        if count > 0:
            self._totals[name] = _sum(self._totals.get(name, 0), count)


def _sum(total: int, count: int) -> int:
    """Return the sum of two counts; it stops at the largest number that JSON carries exactly."""
    return min(total + max(count, 0), MAX_COUNT)
