"""All stages of the daemon as one: configured together or not at all, and asked together.

A new stage is a class in a file of its own and one line in `agentd.daemon`. The name under which it
stands there is the name of its task and of its part of the status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Protocol, runtime_checkable

from agentd.config.settings import Settings
from agentd.events import Event
from agentd.live.toolbox import Tool
from agentd.service.rpc import Method
from agentd.stage import Configured, Stage, rounded

_log = logging.getLogger("agentd.stages")


@runtime_checkable
class HasMethods(Protocol):
    """A stage that can be asked for something over the control socket."""

    def methods(self) -> Mapping[str, Method]:
        """Return what can be asked for, by name (docs/operator/service.md)."""


@runtime_checkable
class HasTools(Protocol):
    """A stage with functions that the model may call."""

    def tools(self) -> Iterable[Tool]:
        """Return the functions."""


class Stages:
    """The stages in the order in which they begin, are configured and hear of events."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stages: dict[str, Stage] = {}
        self._lock = asyncio.Lock()

    @property
    def settings(self) -> Settings:
        """Return the settings in force."""
        return self._settings

    def add(self, name: str, stage: Stage) -> None:
        """Take one more stage, after all others.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._stages:
            raise ValueError(f"there is a stage {name} already")
        self._stages[name] = stage

    def __iter__(self) -> Iterator[tuple[str, Stage]]:
        return iter(self._stages.items())

    def on_event(self, event: Event) -> None:
        """Let every stage hear of `event`."""
        for stage in self._stages.values():
            stage.on_event(event)

    async def configure(self, settings: Settings) -> Configured:
        """Take new settings into use in every stage; one call at a time.

        Raises:
            Exception: what a stage raised; all others have the settings of before again.
        """
        async with self._lock:
            before = self._settings
            how = await self._configure_all(settings)
            self._settings = settings
            names = type(settings).model_fields
            changed = tuple(n for n in names if getattr(settings, n) != getattr(before, n))
            return Configured(changed, how)

    async def _configure_all(self, settings: Settings) -> str:
        how = ""
        configured: list[Stage] = []
        try:
            for stage in self._stages.values():
                how = await stage.configure(settings) or how
                configured.append(stage)
        except Exception:
            for stage in reversed(configured):
                await self._take_back(stage)
            raise
        return how

    async def _take_back(self, stage: Stage) -> None:
        try:
            await stage.configure(self._settings)
        except Exception as error:  # noqa: BLE001 - the others are owed theirs
            _log.error("%s did not take its settings back", type(stage).__name__, exc_info=error)

    def methods(self) -> dict[str, Method]:
        """Return what can be asked for over the control socket.

        Raises:
            ValueError: two stages have the same name for something.
        """
        found: dict[str, Method] = {}
        for name, stage in self._stages.items():
            methods = stage.methods() if isinstance(stage, HasMethods) else {}
            if twice := found.keys() & methods.keys():
                raise ValueError(f"stage {name}: there is a method {min(twice)} already")
            found |= methods
        return found

    def tools(self) -> Iterator[Tool]:
        """Yield the functions that the model may call."""
        for stage in self._stages.values():
            if isinstance(stage, HasTools):
                yield from stage.tools()

    def status(self) -> dict[str, object]:
        """Return the part of each stage that has one, under the stage's name, as plain JSON."""
        parts = {name: stage.status() for name, stage in self._stages.items()}
        return {name: _plain(part) for name, part in parts.items() if part is not None}


def _plain(part: object) -> object:
    return rounded(part) if is_dataclass(part) and not isinstance(part, type) else part
