"""What the parts of a conversation share: the present moment, and where their commands go."""

from __future__ import annotations

import math

from agentd.clock import WallTime
from agentd.events import Event
from agentd.live.commands import CancelTimer, Command, Emit, SetTimer


class Outputs:
    """Collects the commands of one input, in order; knows the time and the timers that are set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wall = WallTime(0.0, synchronised=False)
        self._commands: list[Command] = []
        self._timers: dict[str, float] = {}

    def begin(self, now: float, wall: WallTime) -> None:
        """Begin with an input that came at `now`."""
        self.now, self.wall = now, wall

    def take(self) -> list[Command]:
        """Return what has been asked for since the last call."""
        taken, self._commands = self._commands, []
        return taken

    def add(self, command: Command) -> None:
        """Have something done."""
        self._commands.append(command)

    def emit(self, event: Event) -> None:
        """Tell what happened."""
        self.add(Emit(event))

    def set_timer(self, name: str, at_s: float) -> None:
        """Have a timer fire at `at_s`, and not at another time."""
        self._timers[name] = at_s
        self.add(SetTimer(name, at_s))

    def due_by(self, name: str, at_s: float | None) -> None:
        """Have a timer fire at `at_s` or before; one that fires early does no harm."""
        if at_s is not None and at_s < self._timers.get(name, math.inf):
            self.set_timer(name, at_s)

    def cancel_timer(self, name: str) -> None:
        """Take a timer back, if it is set."""
        if self._timers.pop(name, None) is not None:
            self.add(CancelTimer(name))

    def timer_fired(self, name: str) -> None:
        """Note that a timer is over."""
        self._timers.pop(name, None)

    def cancel_all_timers(self) -> None:
        """Take all timers back."""
        for name in list(self._timers):
            self.cancel_timer(name)
