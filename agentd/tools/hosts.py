"""Tool hosts: programs at the control socket that offer functions to the model.

A host is somebody else's program in a process of its own. What it does wrong, or not at all, costs
the model one clear error and nobody else anything: its lines, calls and time are bounded, and when
its connection ends its functions end with it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agentd.clock import Clock
from agentd.config.settings import Settings
from agentd.events import (
    CommandRefused,
    Emit,
    Event,
    Refused,
    ToolHostFailed,
    ToolsDeclared,
    ToolsOffered,
    ToolsWithdrawn,
)
from agentd.live.failures import SETUP_REFUSED
from agentd.live.toolbox import Response, Tool, Toolbox, ToolFailed
from agentd.service import rpc
from agentd.service.peers import Access, Peer
from agentd.service.stay import ClientLine, Door, Stay
from agentd.stage import Stage
from agentd.tools.call_pace import CallPace
from agentd.tools.host_calls import HostAnswer, HostCalls, Misbehaved
from agentd.tools.offers import BadOffer, Offer, OfferedTool, read_offer
from agentd.waiting import wait_for_event

OFFER = "tools.offer"
MAX_HOSTS = 8
MAX_TOOLS = 64  # of all hosts together
LATE_SHARE = 0.9  # of its time: whoever cancels a call then does so because it took too long
MAX_REFUSED = 64  # offers that are remembered because the service did not take them
PARAMS = {"host": rpc.Param(str, low=1, high=64), "tools": rpc.Param(list)}
GONE = "it has ended"
NOT_A_HOST = f"this connection is a tool host; only {OFFER} is answered on it"

Declare = Callable[[], Awaitable[str]]


@dataclass(eq=False, slots=True)
class _Host:
    """One connection that offers functions."""

    offer: Offer
    peer: Peer
    since_s: float
    calls: HostCalls
    line: ClientLine | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)  # its offer is being answered
    waiting: dict[int, asyncio.Future[HostAnswer]] = field(default_factory=dict)
    made: int = 0
    failed: int = 0
    cause: str = GONE

    @property
    def name(self) -> str:
        return self.offer.host


class ToolHosts(Stage):
    """All hosts and what they offer. `run` brings what has changed to the service."""

    def __init__(
        self,
        toolbox: Toolbox,
        settings: Settings,
        *,
        clock: Clock,
        emit: Emit,
        declare: Declare,
    ) -> None:
        """Prepare.

        Args:
            declare: gives the service what the toolbox holds; returns how.
        """
        self._toolbox = toolbox
        self._settings = settings
        self._clock = clock
        self._emit = emit
        self._declare = declare
        self.access = Access(settings.control.tools_group)
        self._hosts: dict[str, _Host] = {}
        self._refused: dict[str, None] = {}  # offers that the service did not take, oldest first
        self._pace = CallPace()
        self._moved = asyncio.Event()
        self._known: list[tuple[object, ...]] | None = self._declared()
        self._how = ""

    # ── at the socket ──

    def door(self) -> Door:
        """Return the method `tools.offer`."""
        return Door(self.open, PARAMS)

    def open(self, params: rpc.Params, peer: Peer) -> Stay:
        """Take an offer; from then on the connection is a tool host's.

        Raises:
            RpcError: the peer may not offer, or the offer cannot be taken.
        """
        if not self.access.may(peer):
            self._emit(CommandRefused(uid=peer.uid, pid=peer.pid, cause=f"not in {self._group}"))
            raise rpc.RpcError(rpc.NOT_PERMITTED, self.access.refusal("offer functions"))
        offer = self._read(params)
        if len(self._hosts) >= MAX_HOSTS:
            raise rpc.RpcError(rpc.BUSY, f"there are {MAX_HOSTS} tool hosts already")
        other = self._hosts.get(offer.host)
        if other is not None:
            what = f"a tool host named {offer.host} is there already (process {other.peer.pid})"
            raise rpc.RpcError(rpc.REFUSED, f"{what}: end it, or choose another name")
        now = self._clock.monotonic()
        host = _Host(offer, peer, now, HostCalls(now))
        self._hosts[offer.host] = host
        self._offer(host)
        return Stay(
            self._result(offer), partial(self._serve, host), partial(self._gone, host), True
        )

    @property
    def _group(self) -> str:
        return f"group {self.access.group}"

    def _read(self, params: rpc.Params, instead_of: _Host | None = None) -> Offer:
        try:
            offer = read_offer(params)
        except BadOffer as error:
            raise rpc.RpcError(rpc.INVALID_PARAMS, str(error)) from None
        if _digest(offer) in self._refused:
            raise rpc.RpcError(rpc.INVALID_PARAMS, TAKEN_BACK)
        others = sum(len(h.offer.tools) for h in self._hosts.values() if h is not instead_of)
        if others + len(offer.tools) > MAX_TOOLS:
            what = f"at most {MAX_TOOLS} functions of all hosts together; others offer {others}"
            raise rpc.RpcError(rpc.REFUSED, what)
        return offer

    def _result(self, offer: Offer) -> dict[str, object]:
        return {
            "host": offer.host,
            "tools": [offer.full_name(tool) for tool in offer.tools],
            "ignored": list(offer.ignored),
            "enabled": self._settings.tools.enabled,
        }

    def _offer(self, host: _Host) -> None:
        for tool in host.offer.tools:
            self._toolbox.add(
                Tool(
                    host.offer.full_name(tool),
                    tool.description,
                    partial(self._call, host, tool),
                    tool.parameters,
                    slow=tool.slow,
                    timeout_s=tool.timeout_s,
                    asks=partial(_question, tool),
                )
            )
        count, peer = len(host.offer.tools), host.peer
        self._emit(ToolsOffered(host=host.name, tools=count, uid=peer.uid, pid=peer.pid))
        self._pace.offered(self._clock.monotonic())
        self._moved.set()

    def _withdraw(self, host: _Host) -> None:
        for tool in host.offer.tools:
            self._toolbox.remove(host.offer.full_name(tool))
        self._pace.withdrawn(self._clock.monotonic())
        self._moved.set()

    # ── one host ──

    async def _serve(self, host: _Host, line: ClientLine) -> None:
        host.line = line
        if host.cause is not GONE:
            return
        host.ready.set()
        try:
            while heard := await line.receive():
                self._hear(host, heard)
        except rpc.RpcError as failure:  # a line without an end
            self._hang_up(host, failure.message)
        except Misbehaved as fault:
            self._hang_up(host, str(fault))

    def _hear(self, host: _Host, line: bytes) -> None:
        heard = host.calls.heard(line, self._clock.monotonic())
        if isinstance(heard, HostAnswer):
            future = host.waiting.get(heard.call)
            if future is not None and not future.done():
                future.set_result(heard)
        elif heard is not None:
            self._answer(host, heard)

    def _answer(self, host: _Host, request: rpc.Request) -> None:
        try:
            answer = rpc.result(request.id, self._offer_anew(host, request))
        except rpc.RpcError as failure:
            answer = rpc.error(rpc.RpcError(failure.code, failure.message, request.id))
        if not request.notification:
            self._put(host, answer)

    def _offer_anew(self, host: _Host, request: rpc.Request) -> dict[str, object]:
        """Replace what a host offers; calls under way go on."""
        if request.method != OFFER:
            raise rpc.RpcError(rpc.METHOD_NOT_FOUND, NOT_A_HOST)
        rpc.find({OFFER: rpc.Method(_nothing, PARAMS)}, request)
        offer = self._read(request.params, instead_of=host)
        if offer.host != host.name:
            raise rpc.RpcError(rpc.INVALID_PARAMS, f"host: this connection is {host.name}'s")
        self._withdraw(host)
        host.offer = offer
        self._offer(host)
        return self._result(offer)

    async def _call(self, host: _Host, tool: OfferedTool, args: Mapping[str, Any]) -> Response:
        """Have a host run a function; being cancelled is passed on to it.

        Raises:
            ToolFailed: with what the model is to know.
        """
        await host.ready.wait()
        if self._hosts.get(host.name) is not host:
            raise ToolFailed(f"{host.name} has gone; nothing was done")
        if host.calls.is_full:
            raise ToolFailed(f"{host.name} is busy with other calls; try again later")
        host.made += 1
        try:
            answer = await self._asked(host, tool, args)
        except ToolFailed:
            host.failed += 1
            raise
        if answer.error:
            host.failed += 1
            raise ToolFailed(answer.error)
        return answer.response

    async def _asked(self, host: _Host, tool: OfferedTool, args: Mapping[str, Any]) -> HostAnswer:
        own_s = tool.timeout_s
        timeout_s = self._settings.tools.timeout_s if own_s is None else own_s
        now = self._clock.monotonic()
        call, line = host.calls.call(tool.name, args, timeout_s=timeout_s, now=now)
        future: asyncio.Future[HostAnswer] = asyncio.get_running_loop().create_future()
        host.waiting[call] = future
        self._put(host, line)
        try:
            return await future
        except asyncio.CancelledError:
            if self._hosts.get(host.name) is host:
                took_s = self._clock.monotonic() - now
                self._cancel(host, call, was_late=took_s >= LATE_SHARE * timeout_s)
            raise
        finally:
            host.waiting.pop(call, None)

    def _cancel(self, host: _Host, call: int, *, was_late: bool) -> None:
        self._put(host, host.calls.cancel(call))
        if not was_late:
            return
        host.failed += 1
        try:
            host.calls.timed_out()
        except Misbehaved as fault:
            self._hang_up(host, str(fault))

    def _put(self, host: _Host, data: bytes) -> None:
        if host.line is not None and data and not host.line.put(data):
            self._hang_up(host, "it does not read what it is sent")

    def _hang_up(self, host: _Host, cause: str, code: int = rpc.REFUSED) -> None:
        """End a host's connection, which withdraws its functions; later causes are none."""
        if host.cause is not GONE or self._hosts.get(host.name) is not host:
            return
        host.cause = cause
        self._emit(ToolHostFailed(host=host.name, cause=cause))
        if host.line is not None:
            host.line.hang_up(rpc.error(rpc.RpcError(code, cause)))

    def _gone(self, host: _Host) -> None:
        del self._hosts[host.name]
        self._withdraw(host)
        for future in host.waiting.values():
            if not future.done():
                future.set_exception(ToolFailed(f"{host.name} has gone; {NOT_KNOWN}"))
        host.ready.set()
        count = len(host.offer.tools)
        self._emit(ToolsWithdrawn(host=host.name, tools=count, cause=host.cause))

    # ── the service ──

    async def run(self) -> None:
        """Bring what has changed to the service, neither too often nor in a hurry."""
        while True:
            due_s = self._pace.due_s
            wait_s = None if due_s is None else due_s - self._clock.monotonic()
            if wait_s is not None and wait_s <= 0:
                await self._bring()
                continue
            self._moved.clear()
            await wait_for_event(self._moved, self._clock, wait_s)

    async def _bring(self) -> None:
        functions = self._declared()
        changed, self._known = functions != self._known, functions
        self._pace.brought(self._clock.monotonic(), changed=changed)
        if changed:
            self._how = await self._declare()
            self._emit(ToolsDeclared(functions=len(functions), how=self._how))

    def _declared(self) -> list[tuple[object, ...]]:
        return [(tool.name, tool.description, tool.parameters, tool.slow) for tool in self._toolbox]

    def on_event(self, event: Event) -> None:
        """Take back the newest offer when the service refuses the setup: it may be the cause.

        A setup carries all functions or none. Taken back one by one, those that are no cause
        come back with their hosts, and the one that is not taken stays away.
        """
        if not isinstance(event, Refused) or event.cause != SETUP_REFUSED:
            return
        offering = [host for host in self._hosts.values() if host.offer.tools]
        if not offering:
            return
        newest = max(offering, key=lambda host: host.since_s)
        self._refused[_digest(newest.offer)] = None
        while len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._hang_up(newest, TAKEN_BACK, rpc.INVALID_PARAMS)
        for tool in newest.offer.tools:
            self._toolbox.remove(newest.offer.full_name(tool))
        self._known = None  # whatever the service knows, it has to hear of them
        self._pace.now(self._clock.monotonic())
        self._moved.set()

    # ── settings and status ──

    async def configure(self, settings: Settings) -> str:
        """Take new settings; who may offer no more is hung up on."""
        self._settings = settings
        if settings.control.tools_group != self.access.group:
            self.access.use(settings.control.tools_group)
        for host in list(self._hosts.values()):
            if not self.access.may(host.peer):
                self._hang_up(host, self.access.refusal("offer functions"), rpc.NOT_PERMITTED)
        return ""

    def methods(self) -> dict[str, rpc.Method]:
        """Return `tools.list`."""
        return {"tools.list": rpc.Method(self.list_tools, for_guests=True)}

    def list_tools(self, _params: rpc.Params) -> object:
        """Return the functions that the model may call."""
        return {"tools": self.listing()}

    def status(self) -> dict[str, object]:
        """Return the `tools` part of the status."""
        now = self._clock.monotonic()
        return {
            "enabled": self._settings.tools.enabled,
            "functions": len(self._toolbox),
            "declared": self._how,
            "pending": self._pace.due_s is not None,
            "group": self.access.group,
            "hosts": [
                {
                    "name": host.name,
                    "uid": host.peer.uid,
                    "pid": host.peer.pid,
                    "connected_s": round(now - host.since_s, 1),
                    "tools": [host.offer.full_name(tool) for tool in host.offer.tools],
                    "calls": host.made,
                    "failed": host.failed,
                }
                for host in self._hosts.values()
            ],
        }

    def listing(self) -> list[dict[str, object]]:
        """Return the functions that the model may call; `host` is empty for the device's own."""
        of_hosts = {
            host.offer.full_name(tool): (host.name, bool(tool.question))
            for host in self._hosts.values()
            for tool in host.offer.tools
        }
        return [
            {
                "name": tool.name,
                "host": of_hosts.get(tool.name, ("", False))[0],
                "description": tool.description,
                "parameters": dict(tool.parameters),
                "slow": tool.slow,
                "timeout_s": tool.timeout_s,
                "confirm": of_hosts.get(tool.name, ("", False))[1],
            }
            for tool in self._toolbox
        ]


NOT_KNOWN = "whether it was done is not known"
TAKEN_BACK = (
    "the service refused the conversation with these functions: change their declarations, or "
    "restart agentd to have them tried again"
)


def _question(tool: OfferedTool, _args: Mapping[str, Any]) -> str:
    return tool.question


def _digest(offer: Offer) -> str:
    return json.dumps([offer.host, [[t.name, t.description, t.parameters] for t in offer.tools]])


def _nothing(_params: rpc.Params) -> None:
    """Stand for a handler where only parameters are checked."""
