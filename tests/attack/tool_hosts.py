"""A tool host at the control socket: offers and lines that are nearly right, and rubbish."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from agentd.clock import FakeClock
from agentd.config.settings import Settings
from agentd.events import Event
from agentd.live.capabilities import capabilities
from agentd.live.google.setup import declared
from agentd.live.toolbox import Toolbox
from agentd.service import rpc
from agentd.service.entry import entry_of
from agentd.service.peers import Peer
from agentd.service.stay import Stay
from agentd.tools.hosts import OFFER, ToolHosts
from tests.attack import values
from tests.attack.target import Case, Step, assert_plain

ROOT = Peer(pid=1, uid=0, groups=frozenset())
PLAIN = {
    "name": "light_on",
    "description": "Switch a light on",
    "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
    "slow": False,
    "timeout_s": 5,
    "confirm": True,
}
KEYWORDS = ("type", "properties", "items", "enum", "required", "anyOf", "$ref", "format", "minimum")
CAPABILITIES = [
    capabilities("developer", "gemini-3.8-live"),
    capabilities("developer", "gemini-3.8-live-extended-thinking"),
    capabilities("vertex", "gemini-3.8-live"),
]


class _Line:
    """What the daemon sends; the host reads all of it."""

    def __init__(self, lines: list[bytes]) -> None:
        self.sent: list[bytes] = []
        self._lines = lines

    async def send(self, data: bytes, within_s: float | None = None) -> None:
        """Take it."""
        self.sent.append(data)

    async def receive(self) -> bytes:
        """Return the next line of the case; the loop has its turn before."""
        for _ in range(3):
            await asyncio.sleep(0)
        return self._lines.pop(0) if self._lines else b""

    async def hung_up(self) -> None:
        """Return at once."""

    def put(self, data: bytes) -> bool:
        """Take it."""
        self.sent.append(data)
        return True

    def hang_up(self, last: bytes) -> None:
        """Take it, and say nothing more."""
        self.sent.append(last)
        self._lines.clear()


class OfferingHost:
    """What a tool host offers and answers."""

    name = "tool-host"
    what = "offers and answers of a tool host"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def make(self, rng: random.Random) -> list[Step]:
        """Return an offer and lines after it, as latin-1 text."""
        return [_offer(rng), *(_said(rng) for _ in range(rng.choice((1, 4, 30))))]

    def check(self, case: Case) -> int:
        """Let the daemon take the offer and call every function while it hears the lines."""
        self._loop.run_until_complete(self._check(case))
        return len(case)

    async def _check(self, case: Case) -> None:
        events: list[Event] = []
        toolbox = Toolbox()

        async def declare() -> str:
            return "now"

        hosts = ToolHosts(
            toolbox, Settings(), clock=FakeClock(), emit=events.append, declare=declare
        )
        stay = _taken(hosts, case[0])
        if stay is not None:
            _declarable(toolbox)
            lines = [str(step).encode("latin-1", "replace") for step in case[1:]]
            line = _Line([one for one in lines if 0 < len(one) <= rpc.MAX_LINE_BYTES])
            calls = [
                asyncio.create_task(toolbox.call(tool.name, {"room": "hall"})) for tool in toolbox
            ]
            await stay.run(line)
            stay.close()
            for outcome, response in await asyncio.gather(*calls):
                assert outcome in ("answered", "failed")
                json.dumps(response, allow_nan=False)
            for sent in line.sent:
                assert sent.endswith(b"\n")
                assert isinstance(json.loads(sent), dict)
        assert len(toolbox) == 0, "functions of a host that has gone"
        json.dumps(hosts.status(), allow_nan=False)
        for event in events:
            assert_plain(entry_of(event).message, 1000, "an entry of the journal")


def _taken(hosts: ToolHosts, step: Step) -> Stay | None:
    """Return what an offer opens, or None if it is refused in plain words."""
    try:
        request = rpc.parse(str(step).encode("latin-1", "replace"))
        if request.method != OFFER:
            return None
        door = hosts.door()
        rpc.find({OFFER: rpc.Method(lambda _params: None, door.params)}, request)
        return door.open(request.params, ROOT)
    except rpc.RpcError as refusal:
        assert_plain(refusal.message, 4000, "a refusal")
        return None


def _declarable(toolbox: Toolbox) -> None:
    """Hold that each form of a setup can be made of what was taken."""
    for caps in CAPABILITIES:
        for tool in declared(toolbox, caps):
            json.dumps(tool.model_dump(mode="json", exclude_none=True), allow_nan=False)


def _offer(rng: random.Random) -> str:
    tools = [dict(PLAIN, name=f"t{at}") for at in range(rng.choice((1, 2, 40)))]
    for tool in tools:
        if rng.random() < 0.3:
            tool[rng.choice((*PLAIN, "question", "more"))] = values.anything(rng)
        if rng.random() < 0.4:
            tool["parameters"] = {"type": "object", "properties": {"x": _schema(rng, 3)}}
    params: dict[str, Any] = {"host": "kitchen", "tools": tools}
    if rng.random() < 0.2:
        params[rng.choice(("host", "tools", "more"))] = values.anything(rng)
    return _written({"jsonrpc": "2.0", "id": 1, "method": OFFER, "params": params}, rng, 0.1)


def _schema(rng: random.Random, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": rng.choice(("string", "integer", "array", "object"))}
    for _ in range(rng.choice((0, 1, 3))):
        schema[rng.choice(KEYWORDS)] = values.anything(rng)
    if depth and rng.random() < 0.6:
        inner = _schema(rng, depth - 1)
        schema |= {"items": inner} if rng.random() < 0.5 else {"properties": {"y": inner}}
    return schema


def _said(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return _offer(rng)
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": rng.choice((1, 1, 2, 3, 99, "1", True))}
    message[rng.choice(("result", "result", "error", "method"))] = values.anything(rng)
    if rng.random() < 0.1:
        message["error"] = {"code": 1, "message": values.text(rng)}
    return _written(message, rng, 0.2)


def _written(message: Any, rng: random.Random, spoilt: float) -> str:
    text = json.dumps(message)
    return values.spoilt(text, rng) if rng.random() < spoilt else text
