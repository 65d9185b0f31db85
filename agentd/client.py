"""A client of the daemon for programs of your own: events, requests, and functions for the model.

Asyncio, and nothing but the standard library. What travels is described in
docs/developer/extending.md; all of it can be had without this module, in any language.

    async for happened in agentd.client.watch("turn", "muted"):
        if isinstance(happened, agentd.client.DaemonEvent):
            print(happened.name, happened.fields)

    host = agentd.client.ToolHost("kitchen")

    @host.tool("Switch a light on or off", {"on": {"type": "boolean"}}, required=["on"])
    async def light(args):
        set_light(args["on"])
        return {"on": args["on"]}

    asyncio.run(host.run())

Both go on when the daemon is restarted: they connect again, with growing waits up to half a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentd.errors import ControlError
from agentd.service.client import CallFailed, NotPermitted, NotRunning, socket_path

DOORS = Path("/run/agentd-doors")
TOOLS_GROUP = "agentd-tools"
TRANSCRIPTS_GROUP = "agentd-transcripts"
MAX_LINE_BYTES = 4 << 20  # of the daemon: a status, or an event
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
NOT_PERMITTED, REFUSED, BUSY = -32001, -32000, -32002

Json = dict[str, Any]
Run = Callable[[Json], Awaitable[object] | object]

__all__ = [
    "CallFailed",
    "ControlError",
    "DaemonConnection",
    "DaemonEvent",
    "Missed",
    "NotPermitted",
    "NotRunning",
    "SpokenText",
    "StatusSnapshot",
    "ToolError",
    "ToolHost",
    "path_for",
    "watch",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """The document of `agentd status --json`; the first thing after each connect."""

    status: Json


@dataclass(frozen=True, slots=True)
class DaemonEvent:
    """Something that happened: an entry of the journal."""

    seq: int
    name: str
    level: str
    monotonic_s: float  # CLOCK_MONOTONIC of this machine
    unix_s: float
    synchronised: bool  # whether `unix_s` can be trusted
    message: str
    fields: Json


@dataclass(frozen=True, slots=True)
class SpokenText:
    """A piece of what was said; never to be logged."""

    seq: int
    turn: int
    speaker: str  # user, model
    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class Missed:
    """`count` events from `seq` on are lost: this program read too slowly."""

    seq: int
    count: int


Happened = StatusSnapshot | DaemonEvent | SpokenText | Missed


class ToolError(Exception):
    """Raise it in a function: the model is told the text."""


def path_for(group: str = "") -> Path:
    """Return where the daemon is reached: at the socket of `group` if we may use it.

    Else at the common one, which is for root, the daemon's own user and the group agentd.
    """
    door = DOORS / group / "control.sock"
    if group and os.access(door, os.W_OK):
        return door
    return socket_path(os.environ, Path.home())


class DaemonConnection:
    """One connection to the daemon; use it as an asynchronous context. One task reads at a time."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or path_for()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._last_id = 0

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            NotRunning: nobody listens there.
            NotPermitted: we may not use the socket.
            ControlError: it cannot be used for another reason.
        """
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(
                str(self._path), limit=MAX_LINE_BYTES
            )
        except PermissionError:
            raise NotPermitted(
                f"you may not use {self._path}: see docs/developer/extending.md"
            ) from None
        except (FileNotFoundError, ConnectionError):
            raise NotRunning(f"the daemon is not running: nobody listens at {self._path}") from None
        except OSError as error:
            raise ControlError(f"{self._path}: {error.strerror or error}") from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None

    async def call(self, method: str, **params: object) -> Any:
        """Return the result of a method (docs/operator/service.md, "Control socket").

        Raises:
            CallFailed: the daemon refused; `code` is that of JSON-RPC, the text says what to do.
            NotPermitted: this user may not.
            NotRunning: the daemon has gone.
        """
        self._last_id += 1
        number = self._last_id
        await self.send({"id": number, "method": method, "params": params})
        while True:
            answer = await self.receive()
            if "error" in answer:
                raise _failure(answer["error"])
            if answer.get("id") == number and "result" in answer:
                return answer["result"]

    async def send(self, message: Mapping[str, object]) -> None:
        """Send one JSON-RPC message; "jsonrpc" is added."""
        if self._writer is None:
            raise ControlError("not connected: use the connection in an `async with` block")
        self._writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # why is there to be read
            await self._writer.drain()

    async def receive(self) -> Json:
        """Return the next message of the daemon.

        Raises:
            NotRunning: the connection has ended.
            ControlError: what listens there is no agentd.
        """
        if self._reader is None:
            raise ControlError("not connected: use the connection in an `async with` block")
        try:
            line = await self._reader.readline()
            found = json.loads(line) if line.endswith(b"\n") else None
        except OSError:
            line, found = b"", None
        except (ValueError, RecursionError):
            line, found = b"?", None
        if not line:
            raise NotRunning("the daemon has closed the connection")
        if not isinstance(found, dict):
            raise ControlError("the answer is not JSON-RPC; is this agentd's socket?")
        return found


async def watch(
    *events: str, transcripts: bool = False, path: Path | None = None, reconnect: bool = True
) -> AsyncGenerator[Happened, None]:
    """Yield a `StatusSnapshot`, and then what happens, for as long as it is asked for.

    Args:
        events: names of events; none, or `*`: all of them.
        transcripts: also what is said, where we may read it.
        path: the socket, if it is not where it usually is.
        reconnect: go on when the daemon is restarted or not there; each time begins with a new
            `StatusSnapshot`, and numbers begin anew. Otherwise `NotRunning` ends it.

    Raises:
        CallFailed: there is no such event.
        NotPermitted: we may not.
    """
    names = list(events or ([] if transcripts else ["*"]))
    retry = _Retry()
    while True:
        try:
            async with DaemonConnection(
                path or path_for(TRANSCRIPTS_GROUP if transcripts else "")
            ) as daemon:
                asked = {"events": names, "transcripts": True} if transcripts else {"events": names}
                yield StatusSnapshot(await daemon.call("watch", **asked))
                retry.worked()
                while True:
                    happened = _happened(await daemon.receive())
                    if happened is not None:
                        yield happened
        except (NotRunning, CallFailed) as error:
            if not reconnect or not _may_pass(error):
                raise
        await retry.wait()


def _happened(message: Json) -> Happened | None:
    kinds: dict[str, Callable[..., Happened]] = {
        "event": DaemonEvent, "transcript": SpokenText, "missed": Missed,
    }  # fmt: skip
    kind, params = kinds.get(str(message.get("method"))), message.get("params")
    if "error" in message:
        raise _failure(message["error"])
    if kind is None or not isinstance(params, dict):
        return None  # a newer daemon has more to say
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: params.get(name) for name in known})


@dataclass(frozen=True, slots=True)
class HostedTool:
    """A function for the model: what `tools.offer` says of it, and what runs."""

    name: str
    run: Run
    declaration: Json


@dataclass
class ToolHost:
    """Functions that the model may call, as HOST.NAME. Declare them with `tool`, then `run`.

    Args:
        name: of the host: lower-case letters, digits, `_` and `-`.
        path: the socket, if it is not where it usually is.
        on_offer: called with the daemon's answer whenever it has taken the offer.
    """

    name: str
    path: Path | None = None
    on_offer: Callable[[Json], None] = lambda _answer: None
    tools: dict[str, HostedTool] = field(default_factory=dict)

    def tool(
        self,
        description: str,
        properties: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        required: Sequence[str] = (),
        name: str = "",
        slow: bool = False,
        timeout_s: float | None = None,
        confirm: bool | str = False,
    ) -> Callable[[Run], Run]:
        """Declare the decorated function, which takes the arguments as a dict and returns JSON.

        It may be `async`; one that is not runs in a thread. It is cancelled when nobody waits for
        its answer any more. What it raises is an error for the model: of a `ToolError` its words,
        else the name of the exception.

        Args:
            description: what the model must know.
            properties: JSON Schema of each argument.
            required: those that cannot be left out.
            name: what it is called, if not like the function.
            slow: the conversation need not wait for it.
            timeout_s: how long it may take, 1 to 120.
            confirm: a person must say yes first; a text is the question ("unlock the door").
        """

        def declare(run: Run) -> Run:
            called = name or str(getattr(run, "__name__", "function"))
            schema: Json = {"type": "object", "properties": dict(properties or {})}
            if required:
                schema["required"] = list(required)
            said: Json = {"name": called, "description": description, "parameters": schema}
            said |= {"slow": slow} if slow else {}
            said |= {} if timeout_s is None else {"timeout_s": timeout_s}
            said |= {"confirm": True} if confirm else {}
            said |= {"question": confirm} if isinstance(confirm, str) and confirm else {}
            self.tools[called] = HostedTool(called, run, said)
            return run

        return declare

    async def run(self) -> None:
        """Offer the functions and answer calls until cancelled; again when the daemon is back.

        Raises:
            CallFailed: the offer was refused as it is; says what is wrong with it.
            NotPermitted: we may not offer functions.
        """
        retry = _Retry()
        while True:
            try:
                async with DaemonConnection(self.path or path_for(TOOLS_GROUP)) as daemon:
                    offered = [tool.declaration for tool in self.tools.values()]
                    answer = await daemon.call("tools.offer", host=self.name, tools=offered)
                    self.on_offer(answer)
                    retry.worked()
                    await self._serve(daemon)
            except (NotRunning, CallFailed) as error:
                if not _may_pass(error):
                    raise
            await retry.wait()

    async def _serve(self, daemon: DaemonConnection) -> None:
        running: dict[object, asyncio.Task[None]] = {}

        async def answer(number: object, params: Json) -> None:
            try:
                await self._answer(daemon, number, params)
            finally:
                running.pop(number, None)

        try:
            while True:
                message = await daemon.receive()
                number, params = message.get("id"), message.get("params") or {}
                if message.get("method") == "tool.call":
                    running[number] = asyncio.create_task(answer(number, params))
                elif message.get("method") == "tool.cancel" and params.get("id") in running:
                    running[params["id"]].cancel()
                elif "error" in message:
                    raise _failure(message["error"])
        finally:
            for task in list(running.values()):
                task.cancel()

    async def _answer(self, daemon: DaemonConnection, number: object, params: Json) -> None:
        outcome: Json
        try:
            outcome = {"result": await self._result(params)}
            json.dumps(outcome)
        except ToolError as error:
            outcome = {"error": {"code": REFUSED, "message": str(error)}}
        except Exception as error:  # noqa: BLE001  a function's fault ends neither host nor daemon
            what = f"the function failed ({type(error).__name__})"
            outcome = {"error": {"code": REFUSED, "message": what}}
        with contextlib.suppress(ControlError):
            await daemon.send({"id": number, **outcome})

    async def _result(self, params: Json) -> object:
        tool = self.tools.get(str(params.get("name")))
        if tool is None:
            raise ToolError("there is no such function")
        args = params.get("args") or {}
        if inspect.iscoroutinefunction(tool.run):
            return await tool.run(args)
        return await asyncio.to_thread(tool.run, args)


class _Retry:
    """Waits between connections: longer each time, and short again after one that lasted."""

    def __init__(self) -> None:
        self._wait_s = FIRST_WAIT_S
        self._since_s: float | None = None

    def worked(self) -> None:
        self._since_s = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        since_s, self._since_s = self._since_s, None
        if since_s is not None and asyncio.get_running_loop().time() - since_s > LONGEST_WAIT_S:
            self._wait_s = FIRST_WAIT_S
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)


def _may_pass(error: ControlError) -> bool:
    """Return whether trying again may help: not against a wrong offer, a name or a right."""
    return isinstance(error, NotRunning) or getattr(error, "code", 0) in (BUSY, REFUSED)


def _failure(error: object) -> ControlError:
    if not isinstance(error, dict):
        return ControlError("the daemon reports an error without saying which")
    code, message = error.get("code"), str(error.get("message"))
    if code == NOT_PERMITTED:
        return NotPermitted(message)
    return CallFailed(message, code if isinstance(code, int) else 0)
