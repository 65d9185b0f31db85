"""Wait: on an event or a clock, for the end of a task, for a call that blocks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
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


async def call_in_daemon_thread(function: Callable[[], T], name: str) -> T:
    """Run `function` in a daemon thread; return what it returns or raise what it raises.

    A blocking call in a thread of its own never holds up the end of the process.
    `asyncio.to_thread` shares a handful of threads with the name server's look-ups, so that a few
    that hang keep everything else from the disk, and at the end Python waits for every one of them.

    When the caller is cancelled, the call goes on and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: T | None = None
        caught: BaseException | None = None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            caught = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, caught)

    threading.Thread(target=work, name=f"agentd {name}", daemon=True).start()
    return await future
