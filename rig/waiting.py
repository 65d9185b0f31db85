"""Waiting for a fact instead of sleeping."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

DEADLINE_S = 30.0


async def until(fact: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
    """Let the loop run until `fact()` is true."""
    async with asyncio.timeout(deadline_s):
        while not fact():  # noqa: ASYNC110 - a fact is no event
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def running(*stages: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run stages while the body runs; a stage that fails fails the test."""
    tasks = [asyncio.create_task(stage) for stage in stages]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
