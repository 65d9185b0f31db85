"""A world that sees who said what when, and judges each call of a guarded function by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd import events as e
from agentd.live import commands as c
from agentd.live.consent import Question
from agentd.live.tool_rules import Rules
from tests.live.world import World, settings

FORGET = "forget_conversation"
GUARDED = (FORGET, "cancel_all")


def ask(name: str, args: Mapping[str, Any]) -> Question:
    """Guard two functions; one knows the argument `kind`."""
    known = {key: value for key, value in args.items() if name == "cancel_all" and key == "kind"}
    return Question(f"{name} it" if name in GUARDED else "", known)


RULES = Rules(None, ask)


class Witness(World):
    """Fails where a guarded function is run without a person."""

    def __init__(self, **config: Any) -> None:
        super().__init__(settings(**config), rules=RULES)
        self.presses = 0
        self.typed = 0
        self.ran = 0
        self.needed: tuple[int, int, int] | None = None  # utterances, texts, presses before it

    def give(self, given: c.Input) -> list[c.Command]:
        """Note what a person does, before it is taken."""
        self.presses += isinstance(given, c.Confirm)
        self.typed += isinstance(given, c.Say)
        return super().give(given)

    def _check_event(self, event: e.Event) -> None:
        super()._check_event(event)
        if isinstance(event, e.ConfirmationNeeded):
            self.needed = (len(self.spoken), self.typed, self.presses)

    def _calls_tool(self, command: c.CallTool) -> None:
        super()._calls_tool(command)
        if command.name in GUARDED:
            assert self.needed is not None, "run at the first call"
            spoken, typed, presses = self.needed
            since = self.spoken[spoken:]
            whole = [s for s in since if s.ended is e.EndReason.HANGOVER and not s.muted]
            done = bool(whole) or self.typed > typed or self.presses > presses
            assert done, "run without a person"
            self.needed = None
            self.ran += 1
