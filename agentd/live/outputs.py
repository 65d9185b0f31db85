"""What is to be done about one input: the collector that the parts of a conversation share."""

from __future__ import annotations

from agentd.events import Event
from agentd.live.commands import Command, Emit


class Outputs:
    """Collects commands in order, until they are taken."""

    def __init__(self) -> None:
        self._commands: list[Command] = []

    def add(self, command: Command) -> None:
        """Have something done."""
        self._commands.append(command)

    def emit(self, event: Event) -> None:
        """Report what happened."""
        self._commands.append(Emit(event))

    def take(self) -> list[Command]:
        """Return what has been asked for since the last call."""
        taken, self._commands = self._commands, []
        return taken
