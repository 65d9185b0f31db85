"""The loop that jumps: for whom its time stands still, and for whom it does not."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from agentd.waiting import call_in_daemon_thread
from tests import virtual
from tests.virtual import run_virtually


def test_time_jumps_to_the_next_timer() -> None:
    """An hour takes no time."""

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == 3600


def test_a_time_that_was_rounded_down_is_reached_all_the_same() -> None:
    """Waiting for no time at all takes some, however little."""

    async def main() -> int:
        loop, looks = asyncio.get_running_loop(), 0
        await asyncio.sleep(1e6)
        due_s = math.nextafter(loop.time(), math.inf)
        reached = asyncio.Event()

        def look() -> None:
            nonlocal looks
            looks += 1
            if loop.time() >= due_s:
                reached.set()
            elif looks < 1000:
                loop.call_later((due_s - loop.time()) / 100, look)

        look()
        async with asyncio.timeout(1.0):
            await reached.wait()
        return looks

    assert run_virtually(main()) == 2


def test_it_stands_still_while_a_blocking_call_runs() -> None:
    """What a thread is about to say comes before the timer."""
    go = threading.Event()

    async def main() -> float:
        asyncio.get_running_loop().call_soon(go.set)
        async with asyncio.timeout(0.001):
            await call_in_daemon_thread(go.wait, "test")
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == 0


def test_it_stands_still_while_a_thread_of_asyncio_works() -> None:
    """Those threads have other names, and stay when they have nothing to do."""
    go = threading.Event()

    async def main() -> float:
        asyncio.get_running_loop().call_soon(go.set)
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(go.wait)
        await asyncio.sleep(1.0)
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == 1.0


def test_what_is_on_its_way_between_two_sockets_arrives_before_time_goes_on() -> None:
    """A whole conversation over TCP takes no time at all."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def main() -> float:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for number in range(100):
            async with asyncio.timeout(60.0):
                writer.write(f"{number}\n".encode())
                assert await reader.readline() == f"{number}\n".encode()
        writer.close()
        server.close()
        await server.wait_closed()
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == 0


def test_a_thread_that_an_earlier_test_left_behind_holds_up_nobody() -> None:
    """Some calls hang for ever on purpose, and their threads live as long as the process."""
    go = threading.Event()
    left_behind = threading.Thread(target=go.wait, name=f"{virtual.THREADS}left behind")
    left_behind.start()
    try:
        assert run_virtually(asyncio.sleep(1.0, "through")) == "through"
    finally:
        go.set()
        left_behind.join()


def test_a_call_that_never_returns_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a test that hangs until somebody kills it."""
    monkeypatch.setattr(virtual, "LONGEST_CALL_S", 0.0)
    go = threading.Event()

    async def main() -> None:
        async with asyncio.timeout(1.0):
            await call_in_daemon_thread(go.wait, "hung disk")

    try:
        with pytest.raises(RuntimeError, match="agentd hung disk"):
            run_virtually(main())
    finally:
        go.set()


def test_waiting_for_nothing_is_an_error() -> None:
    """Nobody will ever set that event."""
    with pytest.raises(RuntimeError, match="never happen"):
        run_virtually(asyncio.Event().wait())
