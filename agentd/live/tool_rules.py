"""The rules by which the model's calls are run: how often, and which only after a person's yes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentd.live.callrates import Limits
from agentd.live.consent import Ask, Question


@dataclass(frozen=True, slots=True)
class Rules:
    """What a toolbox demands of its callers; without limits every call is run.

    `timeout_s` is a function's own deadline; None: that of the settings.
    """

    limits: Limits | None
    ask: Ask
    timeout_s: Callable[[str], float | None] = lambda _name: None


NO_RULES = Rules(None, lambda _name, _args: Question())
