"""Watching the daemon over a real socket: events and transcripts, by slow and false readers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.clock import SystemClock
from agentd.events import CommandRefused, Event, Muted, Ready, Speaker, TranscriptText, Unmuted
from agentd.service import feed, rpc
from agentd.service.control import ControlServer
from agentd.service.peers import Access, Peer
from agentd.service.watchers import Watchers

DEADLINE_S = 30
MUTED = Muted(by="button")
SAID = TranscriptText(1, Speaker.USER, "open the window")


class NoMember(Access):
    """A group that nobody who asks is in, not even root."""

    def may(self, peer: Peer) -> bool:
        return False


class Reader:
    """A client that reads line by line, as fast as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def asks(self, **params: Any) -> dict[str, Any]:
        """Ask to watch; return the answer."""
        request = {"jsonrpc": "2.0", "id": 1, "method": "watch", "params": params}
        self.writer.write(json.dumps(request).encode() + b"\n")
        return await self.line()

    async def line(self) -> dict[str, Any]:
        """Return the next line."""
        async with asyncio.timeout(DEADLINE_S):
            found: dict[str, Any] = json.loads(await self.reader.readline())
            return found


class House:
    """A control server whose events are ours."""

    def __init__(self, path: Path, access: Access | None = None) -> None:
        self.path = path
        self.emitted: list[Event] = []
        self.server = ControlServer(
            path,
            {},
            clock=SystemClock(),
            emit=self.emitted.append,
            status=lambda: {"state": "idle"},
            transcripts=access,
        )

    @property
    def watchers(self) -> Watchers:
        return self.server.watchers

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[Reader]:
        """Run the server, and connect."""
        task = asyncio.create_task(self.server.run())
        async with asyncio.timeout(DEADLINE_S):
            while not self.server.bound:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            yield Reader(reader, writer)
        finally:
            writer.transport.abort()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_a_reader_gets_the_status_and_then_every_event(tmp_path: Path) -> None:
    """A snapshot first; then name, level, both times and the fields, numbered without a gap."""

    async def main() -> None:
        house = House(tmp_path / "s")
        async with house.reader() as reader:
            answer = await reader.asks(events=["*"])
            assert answer["result"] == {"state": "idle"}
            house.watchers.on_event(Ready(version="1", backend="developer", model="m"))
            house.watchers.on_event(MUTED)
            first, second = await reader.line(), await reader.line()
        assert first["method"] == second["method"] == "event"
        ready, muted = first["params"], second["params"]
        assert (ready["seq"], ready["name"], ready["level"]) == (1, "ready", "info")
        assert ready["fields"] == {"version": "1", "backend": "developer", "model": "m"}
        assert (muted["seq"], muted["name"], muted["fields"]) == (2, "muted", {"by": "button"})
        assert muted["monotonic_s"] >= ready["monotonic_s"] > 0
        assert muted["unix_s"] >= ready["unix_s"] > 1e9
        assert isinstance(ready["synchronised"], bool)

    asyncio.run(main())


async def gone(house: House) -> bool:
    """Wait until nobody watches."""
    async with asyncio.timeout(DEADLINE_S):
        while house.watchers.count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return True


def test_only_named_events_come(tmp_path: Path) -> None:
    """Numbers count what was asked for; no transcript is among it."""

    async def main() -> None:
        house = House(tmp_path / "s")
        async with house.reader() as reader:
            await reader.asks(events=["muted"])
            house.watchers.on_event(Unmuted(by="button"))
            house.watchers.on_transcript(SAID)
            house.watchers.on_event(MUTED)
            line = await reader.line()
        assert (line["params"]["seq"], line["params"]["name"]) == (1, "muted")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        ({"events": ["mutd"]}, rpc.INVALID_PARAMS, "did you mean muted?"),
        ({"events": [["muted"]]}, rpc.INVALID_PARAMS, "there is no"),
        ({"events": "muted"}, rpc.INVALID_PARAMS, "events: must be a list"),
        ({"events": ["muted"] * 300}, rpc.INVALID_PARAMS, "length must be"),
        ({"event": ["muted"]}, rpc.INVALID_PARAMS, "event: unknown"),
        ({"transcripts": 1}, rpc.INVALID_PARAMS, "transcripts: must be true or false"),
    ],
)
def test_a_wrong_wish_is_refused_with_what_is_wrong(
    tmp_path: Path, params: dict[str, Any], code: int, says: str
) -> None:
    """A slip in a name would otherwise be silence for ever; the connection lives on."""

    async def main() -> None:
        house = House(tmp_path / "s")
        async with house.reader() as reader:
            error = (await reader.asks(**params))["error"]
            assert error["code"] == code
            assert says in error["message"]
            assert house.watchers.count == 0
            assert "result" in await reader.asks(events=["muted"])

    asyncio.run(main())


def test_transcripts_are_for_their_group_alone(tmp_path: Path) -> None:
    """Who may command may not therefore read what is said; the remedy names the group."""

    async def main() -> None:
        house = House(tmp_path / "s", NoMember("agentd-transcripts"))
        async with house.reader() as reader:
            error = (await reader.asks(transcripts=True))["error"]
            assert error["code"] == rpc.NOT_PERMITTED
            assert "agentd-transcripts" in error["message"]
            assert "result" in await reader.asks(events=["*"])
            house.watchers.on_transcript(SAID)
            house.watchers.on_event(MUTED)
            assert (await reader.line())["params"]["name"] == "muted"

    asyncio.run(main())


def test_who_may_reads_what_is_said(tmp_path: Path) -> None:
    """Pieces of both speakers, bounded, in whole characters."""

    async def main() -> None:
        house = House(tmp_path / "s")
        async with house.reader() as reader:
            await reader.asks(transcripts=True)
            house.watchers.on_event(MUTED)  # was not asked for
            house.watchers.on_transcript(SAID)
            house.watchers.on_transcript(
                TranscriptText(1, Speaker.MODEL, "\ud800" + "y" * 9000, finished=True)
            )
            first, second = await reader.line(), await reader.line()
        assert first["params"] == {
            "seq": 1,
            "turn": 1,
            "speaker": "user",
            "text": "open the window",
            "finished": False,
        }
        assert second["params"]["text"] == "?" + "y" * (feed.TEXT_CHARS - 1)
        assert second["params"]["finished"]

    asyncio.run(main())


def test_a_reader_that_does_not_read_slows_nobody_and_learns_what_it_missed(tmp_path: Path) -> None:
    """Thousands of events while it sleeps: emitting never waits, and the count is exact."""

    async def main() -> None:
        house = House(tmp_path / "s")
        count = 5000
        async with house.reader() as reader:
            await reader.asks(events=["*"])
            for _ in range(count):
                house.watchers.on_event(MUTED)
                await asyncio.sleep(0)  # whatever can be sent is sent
            seen, missed = 0, 0
            while seen + missed < count:
                line = await reader.line()
                assert line["params"]["seq"] == seen + missed + 1
                if line["method"] == "missed":
                    missed += line["params"]["count"]
                else:
                    seen += 1
            assert missed > 0
            assert house.watchers.count == 1
            house.watchers.on_event(MUTED)
            assert (await reader.line())["params"]["seq"] == count + 1

    asyncio.run(main())


def test_a_reader_that_leaves_is_forgotten(tmp_path: Path) -> None:
    """With lines of ours unread, or with a word of its own."""

    async def main() -> None:
        house = House(tmp_path / "s")
        async with house.reader() as reader:
            await reader.asks(events=["*"])
            assert house.watchers.count == 1
            house.watchers.on_event(MUTED)
            reader.writer.close()
            await gone(house)

    asyncio.run(main())


def test_a_request_without_an_id_opens_nothing(tmp_path: Path) -> None:
    """A notification is not answered, so nobody would know that lines are to come."""

    async def main() -> None:
        house = House(tmp_path / "s")
        line = rpc.notification("watch", {"events": ["*"]})
        answer, stay = await house.server.answer(line, Peer(1, os.geteuid(), frozenset()))
        assert (answer, stay, house.watchers.count) == (b"", None, 0)

    asyncio.run(main())


def test_a_group_that_is_not_there_is_named_with_how_to_make_it() -> None:
    """Root and the daemon's own user need none; everybody else reads what to do."""
    access = Access("no-such-group-here")
    assert "groupadd --system no-such-group-here" in access.refusal("offer functions")
    assert access.may(Peer(1, 0, frozenset()))
    assert not access.may(Peer(1, 12345, frozenset({12345})))
    access.use("root")
    assert access.may(Peer(1, 12345, frozenset({0})))
    assert "groupadd" not in access.refusal("offer functions")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a path so short that a socket far below it can have a name (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="doors-") as folder:
        yield Path(folder)


def test_a_group_has_a_socket_of_its_own_for_its_members(short_path: Path) -> None:
    """In a user namespace groups have no names; who can reach a folder of theirs is a member.

    Such a guest may watch, and read what is said, but commands nothing. Another group in the
    settings is another folder.
    """
    doors = short_path / "doors"
    for group in ("agentd-transcripts", "others"):
        (doors / group).mkdir(parents=True)
    emitted: list[Event] = []
    access = OnlyThrough("agentd-transcripts")
    server = ControlServer(
        short_path / "control.sock",
        {"mute": rpc.Method(lambda _params: "muted", changing=True)},
        clock=SystemClock(),
        emit=emitted.append,
        status=dict,
        permit=lambda _peer: False,
        transcripts=access,
        doors_at=doors,
    )

    async def bound(*paths: Path) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while server.bound != set(paths):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def asked(path: Path, method: str, **params: Any) -> Any:
        reader, writer = await asyncio.open_unix_connection(str(path))
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        writer.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(DEADLINE_S):
            answer = json.loads(await reader.readline())
        writer.transport.abort()
        return answer.get("result", answer.get("error", {}).get("code"))

    async def main() -> None:
        task = asyncio.create_task(server.run())
        common, theirs = server._path, doors / "agentd-transcripts" / "control.sock"
        await bound(common, theirs)
        assert await asked(common, "watch", transcripts=True) == rpc.NOT_PERMITTED
        assert await asked(theirs, "watch", transcripts=True) == {}
        assert await asked(theirs, "mute") == rpc.NOT_PERMITTED
        assert [type(event) for event in emitted] == [CommandRefused, CommandRefused]
        access.use("others")
        await bound(common, doors / "others" / "control.sock")
        assert not theirs.exists()
        access.use("nobody-has-a-folder")
        await bound(common)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not server.bound
        assert not common.exists()

    asyncio.run(main())


class OnlyThrough(Access):
    """A group whose members are known by their socket alone."""

    def may(self, peer: Peer) -> bool:
        return peer.came_as == self.group
