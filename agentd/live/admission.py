"""Whether a function that the model calls is run: by how often, then by a person's yes (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd.live.callrates import CallRates
from agentd.live.consent import Consent
from agentd.live.messages import FunctionCall
from agentd.live.outputs import Outputs
from agentd.live.tool_rules import Rules


class Admission:
    """Stands before every call that would run something."""

    def __init__(self, rules: Rules, consent: Consent, out: Outputs) -> None:
        self._rates = CallRates(rules.limits, out)
        self._consent = consent

    def instead(self, asked: FunctionCall, turn: int, now: float) -> Mapping[str, Any] | None:
        """Return what the model is answered in place of running a function; None: it is run."""
        if refusal := self._rates.refusal(asked.name, now):
            return {"error": refusal}
        return self._consent.admit(asked.name, asked.args, turn, now)
