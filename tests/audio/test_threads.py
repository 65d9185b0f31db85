"""Calls that may hang: bounded, abandoned, and cleaned up after."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agentd.audio import threads
from agentd.errors import DeviceBusy, DeviceWedged


def test_a_result_and_an_error_come_back() -> None:
    """As from a plain call."""

    async def main() -> None:
        assert await threads.call(lambda: 42, what="answering", deadline_s=30) == 42

        def busy() -> None:
            raise DeviceBusy("taken")

        with pytest.raises(DeviceBusy, match="taken"):
            await threads.call(busy, what="opening", deadline_s=30)

    asyncio.run(main())


def test_a_call_that_hangs_is_abandoned_and_its_late_result_discarded() -> None:
    """A stream that opens after nobody wants it any more is closed."""
    release = threading.Event()
    discarded: list[str] = []
    done = threading.Event()

    def hangs() -> str:
        release.wait(30)
        return "late stream"

    def discard(result: str) -> None:
        discarded.append(result)
        done.set()

    async def main() -> None:
        with pytest.raises(DeviceWedged, match="opening the card has not returned"):
            await threads.call(hangs, what="opening the card", deadline_s=0.01, discard=discard)
        release.set()
        assert await asyncio.to_thread(done.wait, 30)

    asyncio.run(main())
    assert discarded == ["late stream"]


def test_a_caller_that_is_cancelled_leaves_nothing_open() -> None:
    """Stopping in the middle of an open."""
    release, started, done = threading.Event(), threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        release.wait(30)
        return "stream"

    async def main() -> None:
        task = asyncio.create_task(
            threads.call(slow, what="opening", deadline_s=30, discard=lambda _: done.set())
        )
        await asyncio.to_thread(started.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert await asyncio.to_thread(done.wait, 30)

    asyncio.run(main())


def test_a_late_error_is_nobodys_concern() -> None:
    """Nothing was opened, nothing is left to close."""
    release, ended = threading.Event(), threading.Event()

    def fails_late() -> None:
        release.wait(30)
        ended.set()
        raise DeviceBusy("too late")

    async def main() -> None:
        with pytest.raises(DeviceWedged):
            await threads.call(fails_late, what="opening", deadline_s=0.01)
        release.set()
        assert await asyncio.to_thread(ended.wait, 30)

    asyncio.run(main())
