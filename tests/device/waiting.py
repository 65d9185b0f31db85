"""Waiting in tests: on what happened, never for a time."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Told(list[T], Generic[T]):
    """A list that can be waited on."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def append(self, item: T) -> None:
        """Add `item` and wake who waits."""
        super().append(item)
        self._more.set()

    async def until(self, *wanted: T) -> None:
        """Wait until the list is `wanted`; a generous deadline fails the test."""
        async with asyncio.timeout(30):
            while self != list(wanted):
                self._more.clear()
                await self._more.wait()

    async def until_has(self, wanted: T) -> None:
        """Wait until `wanted` is in the list."""
        async with asyncio.timeout(30):
            while wanted not in self:
                self._more.clear()
                await self._more.wait()
