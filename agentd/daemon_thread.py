"""Blocking calls in threads of their own that never hold up the end of the process.

`asyncio.to_thread` shares a handful of threads with the name server's look-ups, so that a few that
hang keep everything else from the disk, and at the end Python waits for every one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def call_in_daemon_thread(function: Callable[[], T], name: str) -> T:
    """Run `function` in a daemon thread; return what it returns or raise what it raises.

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
