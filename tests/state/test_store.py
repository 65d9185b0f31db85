"""When the store writes, what it remembers and what it tells, on a virtual clock."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentd.clock import FakeClock
from agentd.events import Event, StateQuarantined, StateUnwritable, StateWritable
from agentd.state.envelope import Document, canonical, decode, encode
from agentd.state.files import MemoryFiles
from agentd.state.store import RETRY_MAX_S, TELL_AGAIN_S, StateStore

FULL = OSError(errno.ENOSPC, "No space left on device")


class Bench:
    """A store over memory files, with its events recorded."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.files = MemoryFiles()
        self.events: list[Event] = []
        self.store = self.open()

    def open(self) -> StateStore:
        return StateStore(
            Path("state"), clock=self.clock, emit=self.events.append, files=self.files
        )

    def on_disk(self, name: str = "handle") -> Document:
        return decode(name, self.files.blobs[name])


class StepClock(FakeClock):
    """A virtual clock whose sleepers wait until a test lets time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.moved.clear()
            await self.moved.wait()

    def let_pass(self, seconds: float) -> None:
        self.advance(seconds)
        self.moved.set()


@contextlib.asynccontextmanager
async def running(store: StateStore) -> AsyncIterator[None]:
    """Run the store in the background, its thread the only one: `settled` queues behind it."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
    task = asyncio.create_task(store.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def settled() -> None:
    """Let the worker thread and the loop come to rest."""
    for _ in range(20):
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: None)


def test_a_written_document_is_read_back_before_it_is_on_disk() -> None:
    """Memory is the truth; the disk follows."""
    bench = Bench()
    bench.store.write("handle", {"handle": "a"})
    assert bench.store.read("handle") == {"handle": "a"}
    assert bench.files.blobs == {}


def test_a_returned_document_is_a_copy() -> None:
    """Changing what was read changes nothing in the store."""
    bench = Bench()
    bench.store.write("handle", {"list": [1]})
    document = bench.store.read("handle")
    assert document is not None
    document["list"].append(2)
    assert bench.store.read("handle") == {"list": [1]}


def test_flush_brings_everything_to_disk_and_a_new_store_reads_it() -> None:
    """After flush a restart finds the documents."""
    bench = Bench()
    bench.store.write("handle", {"handle": "a"})
    bench.store.write("device", {"muted": True})
    asyncio.run(bench.store.flush())
    again = bench.open()
    assert (again.read("handle"), again.read("device")) == ({"handle": "a"}, {"muted": True})
    assert bench.events == []


def test_an_unchanged_document_is_not_written_again() -> None:
    """The same content costs no write, not even at flush or after a restart."""
    bench = Bench()

    async def scenario() -> None:
        for _ in range(3):
            bench.store.write("handle", {"b": 1, "a": 2})
            await bench.store.flush()
        again = bench.open()
        assert again.read("handle") == {"a": 2, "b": 1}
        again.write("handle", {"a": 2, "b": 1})
        await again.flush()

    asyncio.run(scenario())
    assert bench.files.writes == ["handle"]


def test_writes_are_coalesced_to_one_per_interval_and_the_last_one_wins() -> None:
    """Of many changes within five seconds the first and the last reach the disk."""

    async def scenario() -> None:
        bench = Bench()
        bench.clock = clock = StepClock()
        store = bench.open()
        async with running(store):
            for number in range(50):
                store.write("handle", {"n": number})
                await settled()
                clock.let_pass(0.1)
            assert len(bench.files.writes) == 1
            clock.let_pass(5.0)
            await settled()
        assert (len(bench.files.writes), bench.on_disk()) == (2, {"n": 49})

    asyncio.run(scenario())


def test_one_document_does_not_wait_for_the_interval_of_another() -> None:
    """The interval counts per document."""

    async def scenario() -> None:
        bench = Bench()
        bench.clock = StepClock()
        store = bench.open()
        async with running(store):
            store.write("handle", {"n": 1})
            await settled()
            store.write("handle", {"n": 2})
            await settled()
            store.write("device", {"muted": True})
            await settled()
        assert bench.files.writes == ["handle", "device"]

    asyncio.run(scenario())


def test_stored_is_told_for_the_document_that_is_on_disk() -> None:
    """`on_stored` runs after the write, once, and not for a document that was replaced before."""
    bench = Bench()
    told: list[str] = []

    async def scenario() -> None:
        bench.store.write("handle", {"n": 1}, on_stored=lambda: told.append("first"))
        bench.store.write("handle", {"n": 2}, on_stored=lambda: told.append("second"))
        assert told == []
        await bench.store.flush()
        await bench.store.flush()
        assert told == ["second"]
        bench.store.write("handle", {"n": 2}, on_stored=lambda: told.append("known"))

    asyncio.run(scenario())
    assert told == ["second", "known"]


def test_a_write_that_overtakes_a_delete_leaves_no_copy_behind() -> None:
    """Forgotten and at once written anew: what was put aside of the old one goes all the same."""

    async def main() -> None:
        bench = Bench()
        bench.files.aside["handle.bad-1"] = b"old"
        bench.store.write("handle", {"value": 1})
        await bench.store.flush()
        bench.store.delete("handle")
        bench.store.write("handle", {"value": 2})
        await bench.store.flush()
        assert bench.on_disk() == {"value": 2}
        assert bench.files.aside == {}

    asyncio.run(main())


def test_delete_removes_the_document_and_its_quarantine_at_once() -> None:
    """`forget` leaves nothing behind, also no damaged copy."""

    async def scenario() -> None:
        bench = Bench()
        bench.files.blobs["handle"] = b"garbage"
        store = bench.open()
        assert store.read("handle") is None
        assert list(bench.files.aside) == ["handle.bad-1"]
        async with running(store):
            store.write("handle", {"n": 1})
            await settled()
            store.delete("handle")
            await settled()
        assert (bench.files.blobs, bench.files.aside) == ({}, {})
        assert store.read("handle") is None

    asyncio.run(scenario())


def test_deleting_what_was_never_read_reaches_the_disk() -> None:
    """A document of an earlier run is deleted without being read first."""
    bench = Bench()
    bench.files.blobs["handle"] = encode("handle", canonical({}), bench.clock.wall())
    bench.store.delete("handle")
    bench.store.close()
    assert bench.files.blobs == {}


@pytest.mark.parametrize("flushed", [True, False])
def test_a_document_that_is_put_aside_is_read_no_more(flushed: bool) -> None:
    """As it was wanted last, on disk or not yet; what is written next stands beside it."""
    bench = Bench()
    bench.store.write("handle", {"handle": "old"})
    asyncio.run(bench.store.flush())
    bench.store.write("handle", {"handle": "a"})
    if flushed:
        asyncio.run(bench.store.flush())
    bench.store.put_aside("handle")
    assert bench.store.read("handle") is None
    asyncio.run(bench.store.flush())
    assert bench.files.blobs == {}
    assert decode("handle", bench.files.aside["handle.bad-1"]) == {"handle": "a"}
    bench.store.write("handle", {"handle": "b"})
    asyncio.run(bench.store.flush())
    assert bench.on_disk() == {"handle": "b"}
    bench.store.delete("handle")
    asyncio.run(bench.store.flush())
    assert bench.files.aside == {}


def test_putting_aside_what_is_not_there() -> None:
    """Nothing happens, and nothing is told."""
    bench = Bench()
    bench.store.put_aside("handle")
    asyncio.run(bench.store.flush())
    assert (bench.files.aside, bench.events) == ({}, [])


def test_a_document_is_put_aside_as_soon_as_the_disk_takes_it() -> None:
    """A full disk is told; a delete meanwhile wins."""
    bench = Bench()
    bench.store.write("handle", {"handle": "a"})
    asyncio.run(bench.store.flush())
    bench.files.failure = FULL
    bench.store.put_aside("handle")
    asyncio.run(bench.store.flush())
    bench.files.failure = None
    asyncio.run(bench.store.flush())
    assert list(bench.files.aside) == ["handle.bad-1"]
    bench.store.write("handle", {"handle": "b"})
    bench.store.put_aside("handle")
    bench.store.delete("handle")
    asyncio.run(bench.store.flush())
    assert (bench.files.blobs, bench.files.aside) == ({}, {})


def test_an_unusable_file_is_put_aside_and_told() -> None:
    """Garbage yields None, one event and a quarantined copy; the next write works."""
    bench = Bench()
    bench.files.blobs["handle"] = b"garbage"
    assert bench.store.read("handle") is None
    assert bench.store.read("handle") is None
    assert bench.events == [
        StateQuarantined(
            file="handle.json", cause="not JSON, torn or damaged", aside="handle.bad-1"
        )
    ]
    bench.store.write("handle", {"n": 1})
    bench.store.close()
    assert bench.on_disk() == {"n": 1}


def test_a_full_disk_is_told_once_and_retried_until_it_has_room() -> None:
    """S2: the document stays in memory, one entry, ever longer pauses, then the write."""

    async def scenario() -> None:
        bench = Bench()
        bench.clock = clock = StepClock()
        store = bench.open()
        bench.files.failure = FULL
        async with running(store):
            for number in range(20):
                store.write("handle", {"n": number})
                clock.let_pass(60.0)
                await settled()
            assert store.read("handle") == {"n": 19}
            assert [type(event) for event in bench.events] == [StateUnwritable]
            bench.files.failure = None
            clock.let_pass(RETRY_MAX_S)
            await settled()
        assert bench.on_disk() == {"n": 19}
        assert [type(event) for event in bench.events] == [StateUnwritable, StateWritable]
        assert bench.events[1].fields()["outage_s"] == pytest.approx(20 * 60 + RETRY_MAX_S, abs=61)

    asyncio.run(scenario())


def test_a_disk_that_stays_full_is_told_once_an_hour() -> None:
    """The entry is repeated, at a pace that fills no journal."""

    async def scenario() -> None:
        bench = Bench()
        bench.files.failure = FULL
        bench.store.write("handle", {"n": 1})
        for _ in range(100):
            await bench.store.flush()
            bench.clock.advance(TELL_AGAIN_S / 40)
        assert len(bench.events) == 3

    asyncio.run(scenario())


def test_an_unreadable_directory_is_told_and_the_daemon_goes_on() -> None:
    """A read that fails, and whose file cannot be moved either, yields None."""
    bench = Bench()
    bench.files.failure = PermissionError(errno.EACCES, "Permission denied")
    assert bench.store.read("handle") is None
    assert bench.events == [StateUnwritable(cause="state: Permission denied")]


def test_close_writes_without_a_loop() -> None:
    """The last act of a stop needs no event loop."""
    bench = Bench()
    bench.store.write("handle", {"n": 1})
    bench.store.close()
    assert bench.on_disk() == {"n": 1}


def test_close_does_not_wait_for_a_disk_that_hangs() -> None:
    """A write stuck in the kernel is told; closing returns."""
    bench = Bench()
    bench.store.write("handle", {"n": 1})
    bench.store.write("device", {"n": 1})
    bench.store._disk.acquire()
    bench.store.close()
    assert [type(event) for event in bench.events] == [StateUnwritable]


def test_a_cancelled_flush_neither_tears_nor_loses_the_newest_document() -> None:
    """The abandoned worker and the next one write in order; the last wish is on disk."""

    async def scenario() -> None:
        bench = Bench()
        bench.store._disk.acquire()
        bench.store.write("handle", {"n": 1})
        stuck = asyncio.create_task(bench.store.flush())
        await asyncio.sleep(0)
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        bench.store.write("handle", {"n": 2})
        bench.store._disk.release()
        await bench.store.flush()
        assert bench.on_disk() == {"n": 2}

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", ".hidden", "x" * 41])
def test_a_name_cannot_leave_the_directory(name: str) -> None:
    """Names are plain words."""
    with pytest.raises(ValueError, match="document name"):
        Bench().store.read(name)
