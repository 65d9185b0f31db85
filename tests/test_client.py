"""The client for programs of one's own: it watches, offers functions, and outlives the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentd import client
from agentd.client import (
    DaemonConnection,
    DaemonEvent,
    Missed,
    SpokenText,
    StatusSnapshot,
    ToolError,
    ToolHost,
)
from agentd.events import Muted, Speaker, ToolsOffered, ToolsWithdrawn, TranscriptText
from tests.tools.kitchen import DEADLINE_S, Kitchen

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a daemon that is started by the test itself."""
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("agentd.tools.call_pace.SETTLE_S", 0.0)


def run(main: Any) -> None:
    """Run a scene with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(2 * DEADLINE_S):
            await main

    asyncio.run(bounded())


@contextlib.asynccontextmanager
async def running(host: ToolHost) -> AsyncIterator[asyncio.Task[None]]:
    """Run a host."""
    task = asyncio.create_task(host.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_it_needs_nothing_but_the_standard_library() -> None:
    """A bridge in its own environment has no pydantic and no SDK."""
    code = (
        "import sys; before = set(sys.modules); import agentd.client\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "['agentd']"


def test_watching_goes_on_over_a_restart(tmp_path: Path) -> None:
    """A snapshot after each connect; events and what is said as values."""

    async def main() -> None:
        path, seen = tmp_path / "s", []
        watching = client.watch("muted", transcripts=True, path=path)
        for _ in range(2):
            kitchen = Kitchen(path)
            async with kitchen.open():
                seen.append(await anext(watching))
                kitchen.server.watchers.on_event(Muted(by="button"))
                kitchen.server.watchers.on_transcript(TranscriptText(3, Speaker.MODEL, "hello"))
                seen += [await anext(watching), await anext(watching)]
        snapshot, muted, said = seen[:3]
        assert snapshot == StatusSnapshot({}) == seen[3]
        assert isinstance(muted, DaemonEvent)
        assert (muted.seq, muted.name, muted.fields) == (1, "muted", {"by": "button"})
        assert muted.unix_s > 1e9
        assert said == SpokenText(2, 3, "model", "hello", finished=False)
        await watching.aclose()

    run(main())


def test_what_cannot_get_better_ends_it(tmp_path: Path) -> None:
    """An event that does not exist; a daemon that is not there, if that is not to be waited for."""

    async def main() -> None:
        async with Kitchen(tmp_path / "s").open():
            with pytest.raises(client.CallFailed, match="did you mean muted"):
                await anext(client.watch("mutd", path=tmp_path / "s"))
        with pytest.raises(client.NotRunning):
            await anext(client.watch(path=tmp_path / "s", reconnect=False))

    run(main())


def test_words_of_a_newer_daemon_are_passed_over() -> None:
    """What is missed is a value; what is unknown is nothing; an error is raised."""
    assert client._happened({"method": "missed", "params": {"seq": 4, "count": 2}}) == Missed(4, 2)
    assert client._happened({"method": "song", "params": {}}) is None
    assert client._happened({"method": "event", "params": 7}) is None
    with pytest.raises(client.CallFailed, match="made room"):
        client._happened({"error": {"code": client.BUSY, "message": "it made room"}})
    with pytest.raises(client.ControlError, match="without saying which"):
        client._happened({"error": 7})


def test_functions_are_offered_called_and_cancelled(tmp_path: Path) -> None:
    """Coroutines and plain functions, with arguments, errors, and a question for a person."""
    host = ToolHost("kitchen", path=tmp_path / "s")
    began, cancelled = asyncio.Event(), asyncio.Event()

    @host.tool("Switch a light", {"on": {"type": "boolean"}}, required=["on"])
    async def light(args: Mapping[str, Any]) -> object:
        return {"on": args["on"]}

    @host.tool("Read a meter", name="meter", slow=True, timeout_s=60)
    def read_meter(_args: Mapping[str, Any]) -> object:
        return 42

    @host.tool("Open the door", confirm="open the front door")
    async def door(_args: Mapping[str, Any]) -> object:
        raise ToolError("the key is broken")

    @host.tool("Fail", confirm=True)
    def fail(_args: Mapping[str, Any]) -> object:
        raise LookupError("a secret")

    @host.tool("Answer with no JSON")
    async def odd(_args: Mapping[str, Any]) -> object:
        return object()

    @host.tool("Take for ever")
    async def hang(_args: Mapping[str, Any]) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def main() -> None:
        kitchen = Kitchen(tmp_path / "s")
        async with kitchen.open(), running(host):
            await kitchen.until(ToolsOffered)
            call = kitchen.calls
            assert await call("kitchen.light", on=True) == ("answered", {"on": True})
            assert await call("kitchen.meter") == ("answered", {"result": 42})
            assert await call("kitchen.door") == ("failed", {"error": "the key is broken"})
            error = {"error": "the function failed (LookupError)"}
            assert await call("kitchen.fail") == ("failed", error)
            assert await call("kitchen.odd") == (
                "failed",
                {"error": "the function failed (TypeError)"},
            )
            task = asyncio.create_task(call("kitchen.hang"))
            await began.wait()
            task.cancel()
            await cancelled.wait()
            listed = {one["name"]: one for one in kitchen.hosts.listing()}
            assert listed["kitchen.meter"]["slow"]
            assert listed["kitchen.meter"]["timeout_s"] == 60
            assert listed["kitchen.door"]["confirm"]
            rules = kitchen.toolbox.rules()
            assert rules.ask("kitchen.door", {}).text == "open the front door"
            assert rules.ask("kitchen.fail", {}).text == "have fail done"

    run(main())


def test_a_host_is_back_after_a_restart_of_the_daemon(tmp_path: Path) -> None:
    """And says that it was taken, each time."""
    taken: list[Any] = []
    host = ToolHost("kitchen", path=tmp_path / "s", on_offer=taken.append)

    @host.tool("Answer")
    async def answer(_args: Mapping[str, Any]) -> object:
        return "yes"

    async def main() -> None:
        async with running(host) as task:
            for _ in range(2):
                kitchen = Kitchen(tmp_path / "s")
                async with kitchen.open():
                    await kitchen.until(ToolsOffered)
                    outcome = await kitchen.calls("kitchen.answer")
                    assert outcome == ("answered", {"result": "yes"})
            assert not task.done()
        assert [one["tools"] for one in taken] == [["kitchen.answer"]] * 2

    run(main())


def test_a_host_that_was_hung_up_on_comes_back(tmp_path: Path) -> None:
    """What it did may have been a slip."""
    host = ToolHost("kitchen", path=tmp_path / "s")

    @host.tool("Answer")
    async def answer(_args: Mapping[str, Any]) -> object:
        return "yes"

    async def main() -> None:
        kitchen = Kitchen(tmp_path / "s")
        async with kitchen.open(), running(host):
            await kitchen.until(ToolsOffered)
            kitchen.hosts._hang_up(kitchen.hosts._hosts["kitchen"], "a slip")
            await kitchen.until(ToolsWithdrawn)
            await kitchen.until(ToolsOffered, 2)

    run(main())


@pytest.mark.parametrize("name", ["No Name", "kitchen"])
def test_an_offer_that_is_wrong_is_raised(tmp_path: Path, name: str) -> None:
    """Trying again would not help: a name that is none, a function without a description."""
    host = ToolHost(name, path=tmp_path / "s")
    host.tool("" if name == "kitchen" else "Answer")(lambda _args: 1)

    async def main() -> None:
        kitchen = Kitchen(tmp_path / "s")
        async with kitchen.open():
            with pytest.raises(client.CallFailed) as refused:
                await host.run()
            assert "letters" in str(refused.value)

    run(main())


def test_who_may_not_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the group that may."""

    async def main() -> None:
        kitchen = Kitchen(tmp_path / "s")
        monkeypatch.setattr(kitchen.hosts.access, "may", lambda _peer: False)
        async with kitchen.open():
            with pytest.raises(client.NotPermitted, match="agentd-tools"):
                await ToolHost("kitchen", path=tmp_path / "s").run()

    run(main())


def test_requests_and_their_failures(tmp_path: Path) -> None:
    """A result, a refusal with its code, nobody there, and somebody who is no daemon."""

    async def strange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        writer.write(b"HTTP/1.1 400\n" if b"status" in line else b"")
        writer.close()

    async def main() -> None:
        async with Kitchen(tmp_path / "s").open(), DaemonConnection(tmp_path / "s") as daemon:
            with pytest.raises(client.CallFailed) as refused:
                await daemon.call("sing")
            assert refused.value.code == -32601
        with pytest.raises(client.NotRunning, match="nobody listens"):
            await DaemonConnection(tmp_path / "none").__aenter__()
        with pytest.raises(client.ControlError):
            await DaemonConnection(tmp_path / ("x" * 200)).__aenter__()
        with pytest.raises(client.ControlError, match="async with"):
            await DaemonConnection(tmp_path / "s").call("status")
        async with await asyncio.start_unix_server(strange, str(tmp_path / "t")):
            async with DaemonConnection(tmp_path / "t") as daemon:
                with pytest.raises(client.ControlError, match="not JSON-RPC"):
                    await daemon.call("status")
            async with DaemonConnection(tmp_path / "t") as daemon:
                with pytest.raises(client.NotRunning, match="closed"):
                    await daemon.call("mute")

    run(main())


def test_a_member_goes_to_the_socket_of_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it may; everybody else to the common one."""
    monkeypatch.setattr(client, "DOORS", tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/x")
    common = Path("/run/x/control.sock")
    assert client.path_for() == client.path_for("agentd-tools") == common
    door = tmp_path / "agentd-tools" / "control.sock"
    door.parent.mkdir()
    door.touch()
    assert client.path_for("agentd-tools") == door
    assert client.path_for("agentd-transcripts") == common
