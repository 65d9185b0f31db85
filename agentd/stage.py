"""A stage of the daemon, and a place that holds one of a kind at a time.

A stage is anything with the methods of `Stage`; a class that names `Stage` as its base writes only
those that it needs. Two more are found where they exist: `methods()` for the control socket and
`tools()` for the model (`agentd.stages`).

A reload replaces what a stage holds: the microphone, the button, the network monitor. Devices may
be slow to close, so between the old one and the new one there is time in which anything may be
asked for. `Slot` is for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from agentd.config.settings import Settings
from agentd.events import Event

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Runnable(Protocol):
    """What runs as one task until it is cancelled."""

    async def run(self) -> None:
        """Run until cancelled; when it returns, everything it held is closed."""


class Stage(Runnable, Protocol):
    """What the daemon builds, runs, configures and stops. All methods belong to the loop's thread.

    As a base class every method has a default: nothing to run, nothing to configure, deaf, and
    without a part in the status.
    """

    async def run(self) -> None:
        """Run until cancelled; when it returns, everything it held is closed."""
        return

    async def configure(self, settings: Settings) -> str:
        """Take new settings into use; return how, if there is a word for it in `reloaded`.

        Called for every reload, whatever has changed, and for one at a time. What may fail comes
        before anything is changed: whoever raises has changed nothing.
        """
        del settings
        return ""

    def on_event(self, event: Event) -> None:
        """Take note of an event; never wait. The light shows it already."""
        del event

    def status(self) -> object:
        """Return the stage's part of the status document: plain JSON or a dataclass; None: none."""
        return None


@dataclass(frozen=True, slots=True)
class Configured:
    """What a reload came to: the tables that differ, and how they were taken into use."""

    changed: tuple[str, ...]
    how: str


class Absent:
    """Runs in the place of what is not configured."""

    async def run(self) -> None:
        """Return at once."""


def rounded(value: DataclassInstance) -> dict[str, Any]:
    """Return the fields of a dataclass as the status shows them: figures to one decimal place."""
    return {k: round(v, 1) if isinstance(v, float) else v for k, v in asdict(value).items()}


R = TypeVar("R", bound=Runnable)


class Slot(Generic[R]):
    """Runs one at a time: the next one begins when the one before has ended, never earlier.

    `current` is what runs, or what is ending. `on_begin` is called with each one right before it
    runs, without a pause in between. Call `run` as a task.
    """

    def __init__(self, first: R, on_begin: Callable[[R], None] = lambda _next: None) -> None:
        self.current = first
        self._next: R | None = None
        self._on_begin = on_begin
        self._replace = asyncio.Event()
        self._begun = asyncio.Event()

    async def run(self) -> None:
        """Run what is wanted until cancelled; raise what it raises."""
        while True:
            if self._next is not None:
                self.current, self._next = self._next, None
            self._replace.clear()
            self._on_begin(self.current)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(self.current.run(), name=type(self.current).__name__)
                self._begun.set()
                await self._replace.wait()
                running.cancel()

    async def replace(self, another: R) -> None:
        """End the current one, wait until it has closed what it held, and begin this one.

        Of several at once only the last one begins.
        """
        self._next = another
        self._begun.clear()
        self._replace.set()
        await self._begun.wait()
