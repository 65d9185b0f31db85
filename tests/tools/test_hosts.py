"""Tool hosts over a real socket: good ones, and those that hang, lie, flood and die."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentd.config.settings import Settings
from agentd.events import (
    CommandRefused,
    Refused,
    ToolHostFailed,
    ToolsDeclared,
    ToolsOffered,
    ToolsWithdrawn,
)
from agentd.live.failures import SETUP_REFUSED
from agentd.service import rpc
from agentd.tools import hosts
from agentd.tools.call_pace import CallPace
from agentd.tools.host_calls import MAX_CALLS, MAX_MISTAKES
from tests.tools.kitchen import DEADLINE_S, LIGHT, STRANGER, Kitchen

Scene = Callable[[Kitchen], Awaitable[None]]


def run(tmp_path: Path, scene: Scene, settings: Settings | None = None) -> Kitchen:
    """Play a scene at a socket that is open."""
    kitchen = Kitchen(tmp_path / "s", settings)

    async def main() -> None:
        async with asyncio.timeout(2 * DEADLINE_S), kitchen.open():
            await scene(kitchen)

    asyncio.run(main())
    return kitchen


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for more hosts here; when it is due has tests of its own."""
    monkeypatch.setattr("agentd.tools.call_pace.SETTLE_S", 0.0)
    monkeypatch.setattr("agentd.tools.call_pace.RETURN_S", 0.0)


def test_a_function_of_a_host_is_called_and_answers(tmp_path: Path) -> None:
    """Offered, declared to the service, called with arguments, answered, and gone with its host."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            answer = await host.offers(LIGHT)
            assert answer["result"] == {
                "host": "kitchen",
                "tools": ["kitchen.light_on"],
                "ignored": [],
                "enabled": True,
            }
            declared = await kitchen.until(ToolsDeclared)
            assert (declared.functions, declared.how) == (1, "context_update")
            called = asyncio.create_task(kitchen.calls("kitchen.light_on", room="hall"))
            request = await host.hears()
            assert request["method"] == "tool.call"
            assert request["params"]["name"] == "light_on"
            assert request["params"]["args"] == {"room": "hall"}
            assert request["params"]["timeout_s"] == 10.0
            host.says(id=request["id"], result={"on": True})
            assert await called == ("answered", {"on": True})
            shown: Any = kitchen.hosts.status()["hosts"]
            shown = shown[0]
            assert (shown["name"], shown["calls"], shown["failed"]) == ("kitchen", 1, 0)
            (listed,) = kitchen.hosts.listing()
            assert (listed["name"], listed["host"]) == ("kitchen.light_on", "kitchen")
        gone = await kitchen.until(ToolsWithdrawn)
        assert (gone.host, gone.tools, gone.cause) == ("kitchen", 1, "it has ended")
        await kitchen.until(ToolsDeclared, 2)
        assert kitchen.declared == [["kitchen.light_on"], []]
        assert (await kitchen.calls("kitchen.light_on"))[0] == "failed"

    kitchen = run(tmp_path, scene)
    assert not kitchen.told(ToolHostFailed)


def test_a_host_says_why_it_could_not(tmp_path: Path) -> None:
    """Its words reach the model as one error."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            called = asyncio.create_task(kitchen.calls("kitchen.light_on"))
            request = await host.hears()
            host.says(id=request["id"], error={"code": 1, "message": "no bulb"})
            assert await called == ("failed", {"error": "no bulb"})
            assert kitchen.hosts.status()["hosts"][0]["failed"] == 1  # type: ignore[index]

    run(tmp_path, scene)


def test_a_call_that_is_not_wanted_any_more_is_cancelled(tmp_path: Path) -> None:
    """The host hears of it, and its late answer does no harm."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            called = asyncio.create_task(kitchen.calls("kitchen.light_on"))
            request = await host.hears()
            called.cancel()
            cancel = await host.hears()
            assert (cancel["method"], cancel["params"]) == ("tool.cancel", {"id": request["id"]})
            host.says(id=request["id"], result={})
            assert (await host.offers(LIGHT))["result"]["tools"] == ["kitchen.light_on"]

    assert not run(tmp_path, scene).told(ToolHostFailed)


def test_a_host_may_offer_others(tmp_path: Path) -> None:
    """Its functions change, the connection and a call under way stay."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            called = asyncio.create_task(kitchen.calls("kitchen.light_on"))
            request = await host.hears()
            answer = await host.offers({**LIGHT, "name": "light_off"})
            assert answer["result"]["tools"] == ["kitchen.light_off"]
            host.says(id=request["id"], result="on")
            assert await called == ("answered", {"result": "on"})
            assert [tool.name for tool in kitchen.toolbox] == ["kitchen.light_off"]
            assert (await host.offers(LIGHT, host="hall"))["error"]["code"] == rpc.INVALID_PARAMS
            assert (await host.offers(7))["error"]["code"] == rpc.INVALID_PARAMS  # type: ignore[arg-type]
            host.says(id=9, method="mute")
            assert (await host.hears())["error"]["message"] == hosts.NOT_A_HOST
            host.says(method=hosts.OFFER, params={"host": "kitchen", "tools": []})
            await kitchen.until(ToolsOffered, 3)
            assert len(kitchen.toolbox) == 0

    run(tmp_path, scene)


# ── who may, and how many ──


def test_only_members_of_the_group_offer(tmp_path: Path) -> None:
    """The refusal names the group, and the journal who it was."""
    kitchen = Kitchen(tmp_path / "s")
    params = {"host": "kitchen", "tools": [LIGHT]}
    with pytest.raises(rpc.RpcError, match="agentd-tools") as refused:
        kitchen.hosts.open(params, STRANGER)
    assert refused.value.code == rpc.NOT_PERMITTED
    (told,) = kitchen.told(CommandRefused)
    assert (told.uid, told.pid) == (STRANGER.uid, STRANGER.pid)
    assert len(kitchen.toolbox) == 0


def test_who_may_offer_no_more_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another group in the settings counts from the reload on."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            await kitchen.hosts.configure(Settings())
            assert not kitchen.told(ToolHostFailed)
            monkeypatch.setattr(kitchen.hosts.access, "may", lambda _peer: False)
            await kitchen.hosts.configure(
                Settings.model_validate({"control": {"tools_group": "others"}})
            )
            await kitchen.until(ToolsWithdrawn)
            assert kitchen.hosts.status()["group"] == "others"

    run(tmp_path, scene)


def test_names_and_numbers_are_bounded(tmp_path: Path) -> None:
    """A name is one host's; hosts and functions are so many; nothing of what is refused is left."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as first, kitchen.host() as second:
            await first.offers(LIGHT)
            assert "is there already" in (await second.offers(LIGHT))["error"]["message"]
            error = (await second.offers(LIGHT, LIGHT, host="hall"))["error"]
            assert "is there twice" in error["message"]
            assert (await second.offers({**LIGHT, "parameters": 7}, host="hall"))["error"]
            many = [{**LIGHT, "name": f"t{at}"} for at in range(32)]
            assert (await second.offers(*many, host="hall"))["result"]
            async with kitchen.host() as third:
                error = (await third.offers(*many, host="attic"))["error"]
                assert "at most 64 functions" in error["message"]
            async with contextlib.AsyncExitStack() as stack:
                for at in range(hosts.MAX_HOSTS - 2):
                    other = await stack.enter_async_context(kitchen.host())
                    assert (await other.offers(LIGHT, host=f"h{at}"))["result"]
                last = await stack.enter_async_context(kitchen.host())
                error = (await last.offers(LIGHT, host="last"))["error"]
                assert error["code"] == rpc.BUSY

    run(tmp_path, scene)


def test_a_host_takes_no_place_of_those_who_command(tmp_path: Path) -> None:
    """Hosts stay for years, and must not make room for whoever knocks."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            others = [await asyncio.open_unix_connection(str(kitchen.path)) for _ in range(40)]
            for _, writer in others:
                writer.write(b'{"jsonrpc": "2.0", "id": 1, "method": "watch"}\n')
            await others[-1][0].readline()
            called = asyncio.create_task(kitchen.calls("kitchen.light_on"))
            request = await host.hears()
            host.says(id=request["id"], result={})
            assert (await called)[0] == "answered"
            for _, writer in others:
                writer.transport.abort()

    run(tmp_path, scene)


# ── hostile hosts ──


def test_a_host_that_hangs_is_given_up_after_a_few_calls(tmp_path: Path) -> None:
    """Each is cancelled at its deadline, as the session does; then its functions go."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers({**LIGHT, "timeout_s": 1})
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(kitchen.calls("kitchen.light_on"), 1.0)
            failed = await kitchen.until(ToolHostFailed)
            assert failed.cause == "it has not answered 3 calls in a row"
            await kitchen.until(ToolsWithdrawn)
            assert len(kitchen.toolbox) == 0

    run(tmp_path, scene)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (b"x" * (10 << 20) + b"\n", "a line is at most 65536 bytes"),
        (b'{"id": 99, "result": {}}\n' * (MAX_MISTAKES + 1), "a call that was never made"),
        (b"[]\n" * (MAX_MISTAKES + 1), "no JSON object"),
        (b'{"id": 1, "result": {}}\n' * 1000, "lines a second"),
    ],
)
def test_a_host_that_lies_or_floods_is_hung_up_on(tmp_path: Path, said: bytes, cause: str) -> None:
    """The call under way gets one clear error or its answer; the journal has one entry."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            called = asyncio.create_task(kitchen.calls("kitchen.light_on"))
            await host.hears()
            host.writer.write(said)
            outcome, response = await called
            failed = await kitchen.until(ToolHostFailed)
            assert cause in failed.cause
            assert outcome == "answered" or "kitchen has gone" in response["error"]
            await kitchen.until(ToolsWithdrawn)
            assert len(kitchen.toolbox) == 0

    assert len(run(tmp_path, scene).told(ToolHostFailed)) == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"result": 1, "error": 2}, "neither a result nor an error"),
        ({"result": "x" * 40_000}, "too long"),
    ],
)
def test_a_wrong_answer_is_an_error_and_no_end(
    tmp_path: Path, said: dict[str, Any], told: str
) -> None:
    """One slip is told to the model, and the host goes on."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            called = asyncio.create_task(kitchen.calls("kitchen.light_on"))
            request = await host.hears()
            host.says(id=request["id"], **said)
            outcome, response = await called
            assert outcome == "failed"
            assert told in response["error"]
            assert (await host.offers(LIGHT))["result"]

    run(tmp_path, scene)


def test_a_host_that_dies_leaves_one_error(tmp_path: Path) -> None:
    """With calls under way; all of them end at once."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            calls = [asyncio.create_task(kitchen.calls("kitchen.light_on")) for _ in range(3)]
            for _ in calls:
                await host.hears()
        for outcome, response in await asyncio.gather(*calls):
            assert outcome == "failed"
            assert response["error"] == "kitchen has gone; whether it was done is not known"

    assert not run(tmp_path, scene).told(ToolHostFailed)


def test_a_busy_host_gets_no_more_calls(tmp_path: Path) -> None:
    """The model is told, and those under way go on."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            calls = [
                asyncio.create_task(kitchen.calls("kitchen.light_on")) for _ in range(MAX_CALLS)
            ]
            requests = [await host.hears() for _ in calls]
            outcome, response = await kitchen.calls("kitchen.light_on")
            assert outcome == "failed"
            assert "busy" in response["error"]
            for request in requests:
                host.says(id=request["id"], result={})
            assert {(await call)[0] for call in calls} == {"answered"}

    run(tmp_path, scene)


def test_a_host_that_does_not_read_is_hung_up_on(tmp_path: Path) -> None:
    """What waits for it is bounded."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            host.writer.transport.pause_reading()  # type: ignore[attr-defined]
            args = {"room": "x" * 60_000}
            while not kitchen.told(ToolHostFailed):
                call = asyncio.create_task(kitchen.toolbox.call("kitchen.light_on", args))
                await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            (failed,) = kitchen.told(ToolHostFailed)
            assert failed.cause == "it does not read what it is sent"
            await kitchen.until(ToolsWithdrawn)

    run(tmp_path, scene)


# ── what the service does not take ──


def test_an_offer_that_the_service_refuses_is_taken_back(tmp_path: Path) -> None:
    """The newest one first; it may not come back as it is, and everything else may."""
    refused = Refused(cause=SETUP_REFUSED, remedy="")

    async def scene(kitchen: Kitchen) -> None:
        kitchen._emit(refused)  # without a host it is not the hosts' fault
        kitchen._emit(Refused(cause="bad key", remedy=""))
        assert not kitchen.declared
        async with kitchen.host() as old, kitchen.host() as new:
            await old.offers(LIGHT, host="hall")
            await new.offers(LIGHT)
            await kitchen.until(ToolsDeclared)
            kitchen._emit(Refused(cause="bad key", remedy=""))
            assert not kitchen.told(ToolHostFailed)
            kitchen._emit(refused)
            gone = await kitchen.until(ToolsWithdrawn)
            assert gone.host == "kitchen"
            await kitchen.until(ToolsDeclared, 2)
            assert kitchen.declared[-1] == ["hall.light_on"]
            async with kitchen.host() as again:
                assert (await again.offers(LIGHT))["error"]["message"] == hosts.TAKEN_BACK
                assert (await again.offers({**LIGHT, "description": "Light"}))["result"]

    run(tmp_path, scene)


def test_refused_offers_are_remembered_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host may make up any number of them."""
    monkeypatch.setattr(hosts, "MAX_REFUSED", 1)
    kitchen = Kitchen(tmp_path / "s")
    peer = STRANGER.__class__(1, 0, frozenset())
    for name in ("one", "two"):
        stay = kitchen.hosts.open({"host": name, "tools": [LIGHT]}, peer)
        kitchen._emit(Refused(cause=SETUP_REFUSED, remedy=""))
        stay.close()
    assert len(kitchen.hosts._refused) == 1
    assert kitchen.hosts.open({"host": "one", "tools": [LIGHT]}, peer).result


def test_a_host_that_is_hung_up_on_before_it_is_served_hears_nothing(tmp_path: Path) -> None:
    """Its offer was taken and withdrawn before its connection came to serve."""
    kitchen = Kitchen(tmp_path / "s")
    peer = STRANGER.__class__(1, 0, frozenset())

    async def main() -> None:
        stay = kitchen.hosts.open({"host": "one", "tools": [LIGHT]}, peer)
        call = asyncio.create_task(kitchen.calls("one.light_on"))
        await asyncio.sleep(0)
        kitchen._emit(Refused(cause=SETUP_REFUSED, remedy=""))
        line: Any = None
        await stay.run(line)
        stay.close()
        assert await call == ("failed", {"error": "one has gone; nothing was done"})

    asyncio.run(main())


def test_what_comes_back_at_once_is_not_declared_again(tmp_path: Path) -> None:
    """A host that is started anew costs the conversation nothing."""

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as host:
            await host.offers(LIGHT)
            await kitchen.until(ToolsDeclared)
            assert (await host.offers(LIGHT))["result"]
            assert (await host.offers({**LIGHT, "timeout_s": 30}))["result"]
            assert (await host.offers({**LIGHT, "slow": True}))["result"]
            await kitchen.until(ToolsDeclared, 2)
        assert len(kitchen.declared) == 2

    run(tmp_path, scene)


def test_dangerous_functions_ask(tmp_path: Path) -> None:
    """What a person is asked is the host's question, whatever the arguments."""
    kitchen = Kitchen(tmp_path / "s")
    peer = STRANGER.__class__(1, 0, frozenset())
    door = {**LIGHT, "name": "unlock", "confirm": True, "question": "unlock the front door"}
    kitchen.hosts.open({"host": "house", "tools": [door, LIGHT]}, peer)
    rules = kitchen.toolbox.rules()
    assert rules.ask("house.unlock", {"room": "hall"}).text == "unlock the front door"
    assert rules.ask("house.light_on", {}).text == ""
    assert [one["confirm"] for one in kitchen.hosts.listing()] == [True, False]
    assert json.dumps(kitchen.hosts.status())


def test_hosts_that_start_together_are_declared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment is waited for more, so a house of hosts is one change."""
    monkeypatch.setattr("agentd.tools.call_pace.SETTLE_S", 0.3)
    assert CallPace().due_s is None

    async def scene(kitchen: Kitchen) -> None:
        async with kitchen.host() as first, kitchen.host() as second:
            await first.offers(LIGHT)
            await second.offers(LIGHT, host="hall")
            await kitchen.until(ToolsDeclared)
            assert kitchen.declared == [["kitchen.light_on", "hall.light_on"]]

    run(tmp_path, scene)
