"""Wait on an event or on a clock, whichever comes first."""

from __future__ import annotations

import asyncio

from agentd.clock import Clock


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
