"""Faults from a program: ``emulator.faults.do("close", code=1011, on="reply 1.0 s")``."""

from __future__ import annotations

from typing import Any, Protocol

from live_emulator.faults import Fault, FaultSchedule, make_fault


class Faulty(Protocol):
    """What can be made to fail."""

    schedule: FaultSchedule

    def add_fault(self, fault: Fault) -> None:
        """Let a fault strike, now or when it is due."""


class Faults:
    """Inject faults into a running emulator."""

    def __init__(self, target: Faulty) -> None:
        self._target = target

    def do(self, action: str, **params: Any) -> None:
        """Inject a fault of :data:`live_emulator.faults.ACTIONS`, with its parameters.

        Every fault takes ``on`` (a moment such as ``"activityStart #2"``) or ``at`` (seconds since
        the start) to strike later, ``times`` (0: for ever) and ``connection``; with neither ``on``
        nor ``at`` it strikes the open connections now.  Those that concern a handshake or a setup
        wait for the next one.

        Raises:
            ValueError: there is no such fault, parameter, moment or duration.
        """
        self._target.add_fault(make_fault({"do": action, **params}))

    def clear(self) -> None:
        """Forget every scheduled fault."""
        self._target.schedule.clear()
