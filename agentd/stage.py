"""A stage of the daemon, and a place that holds one of a kind at a time.

A reload replaces a stage: the microphone, the button, the network monitor. Devices may be slow to
close, so between the old one and the new one there is time in which anything may be asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Stage(Protocol):
    """What runs as one task of the daemon until it is cancelled."""

    async def run(self) -> None:
        """Run until cancelled; when it returns, everything it held is closed."""


class Absent:
    """The stage of what is not configured."""

    async def run(self) -> None:
        """Return at once."""


S = TypeVar("S", bound=Stage)


class Slot(Generic[S]):
    """Runs one stage at a time: the next one begins when the one before has ended, never earlier.

    `current` is the stage that runs, or the one that is ending. `on_begin` is called with each one
    right before it runs, without a pause in between. Call `run` as a task.
    """

    def __init__(self, first: S, on_begin: Callable[[S], None] = lambda _stage: None) -> None:
        self.current = first
        self._next: S | None = None
        self._on_begin = on_begin
        self._replace = asyncio.Event()
        self._begun = asyncio.Event()

    async def run(self) -> None:
        """Run the stage that is wanted until cancelled; raise what a stage raises."""
        while True:
            if self._next is not None:
                self.current, self._next = self._next, None
            self._replace.clear()
            self._on_begin(self.current)
            async with asyncio.TaskGroup() as tasks:
                stage = tasks.create_task(self.current.run(), name=type(self.current).__name__)
                self._begun.set()
                await self._replace.wait()
                stage.cancel()

    async def replace(self, stage: S) -> None:
        """End the current stage, wait until it has closed what it held, and begin this one.

        Of several at once only the last one begins.
        """
        self._next = stage
        self._begun.clear()
        self._replace.set()
        await self._begun.wait()
