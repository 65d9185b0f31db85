"""Calls into C libraries that may never return, kept off the event loop.

A thread that is stuck in ALSA cannot be cancelled. It is a daemon thread, so that it cannot keep
the process from exiting, and it is abandoned after a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from agentd.errors import DeviceWedged

T = TypeVar("T")


async def call(
    function: Callable[[], T],
    *,
    what: str,
    deadline_s: float,
    discard: Callable[[T], object] | None = None,
) -> T:
    """Run `function` in a thread and return what it returns or raises.

    When the caller has given up, a result that comes late goes to `discard`, in that thread.

    Raises:
        DeviceWedged: it has not returned within `deadline_s`.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    lock = threading.Lock()
    abandoned = False

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            if error is None and discard is not None:
                # The caller left between the result and its delivery.
                threading.Thread(target=discard, args=(result,), daemon=True).start()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as caught:  # noqa: BLE001 - it is raised where it is awaited
            error = caught
        with lock:
            if not abandoned:
                # A closed loop has nobody left to tell.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(settle, result, error)
                    return
        if error is None and discard is not None:
            discard(result)  # type: ignore[arg-type]

    threading.Thread(target=work, name=f"agentd {what}", daemon=True).start()
    try:
        return await asyncio.wait_for(future, deadline_s)
    except TimeoutError:
        raise DeviceWedged(
            f"{what} has not returned for {deadline_s:.0f} s. Unplug and replug the device"
        ) from None
    finally:
        with lock:
            abandoned = not future.done() or future.cancelled()
