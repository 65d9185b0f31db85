"""The rules by which the model's calls are run: how often, and which only after a person's yes."""

from __future__ import annotations

from dataclasses import dataclass

from agentd.live.callrates import Limits
from agentd.live.consent import Ask, Question


@dataclass(frozen=True, slots=True)
class Rules:
    """What a toolbox demands of its callers; without limits every call is run."""

    limits: Limits | None
    ask: Ask


NO_RULES = Rules(None, lambda _name, _args: Question())
