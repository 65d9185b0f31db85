"""Wait on an event or on a clock, whichever comes first; wait for the end of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from agentd.clock import Clock

T = TypeVar("T")


async def wait_for_event(event: asyncio.Event, clock: Clock, seconds: float | None) -> bool:
    """Wait until `event` is set or `seconds` of `clock` have passed; return whether it is set.

    `asyncio.timeout` counts the loop's time, which an injected clock does not move.
    """
    if seconds is None:
        await event.wait()
        return True
    if event.is_set() or seconds <= 0:
        return event.is_set()
    waiters = {asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds))}
    try:
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
    return event.is_set()


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it has ended, however often we are cancelled meanwhile."""
    task.cancel()
    await _until_done(task)


async def to_its_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine`; being cancelled meanwhile takes effect after it.

    For closing what must not stay open: whoever comes next would find the device taken.
    """
    task = asyncio.ensure_future(coroutine)
    await _until_done(task)
    return task.result()


async def _until_done(task: asyncio.Task[Any]) -> None:
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not task.cancelled():
            task.exception()  # retrieved; being cancelled is what counts now
        raise asyncio.CancelledError
