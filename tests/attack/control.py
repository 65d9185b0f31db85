"""Lines on the control socket: refused or answered, and nothing done that was not asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from agentd.clock import FakeClock
from agentd.methods import Requests
from agentd.service import rpc
from agentd.service.control import ControlServer
from agentd.service.peers import Peer
from tests.attack import values
from tests.attack.target import Case, Step, assert_plain

NAMES = (
    "status", "mute", "unmute", "volume", "volume.set", "silence", "say", "instruct",
    "context.add", "forget", "reload", "watch",
)  # fmt: skip
PARAMS: tuple[dict[str, Any], ...] = (
    {}, {"text": "hello"}, {"percent": 30}, {"percent": 30.0}, {"percent": True}, {"text": ""},
)  # fmt: skip
PEER = Peer(pid=1, uid=0, groups=frozenset())


class _Asked:
    """Handlers that only keep what they were asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def table(self) -> dict[str, rpc.Method]:
        """Return the daemon's own table of methods, with other handlers."""
        nobody: Any = None
        return {
            name: rpc.Method(self._handler(name), method.params, method.changing)
            for name, method in Requests(*[nobody] * 6).methods().items()
        }

    def _handler(self, name: str) -> rpc.Handler:
        def handle(params: rpc.Params) -> object:
            self.calls.append((name, params))
            return {"given": params}  # what comes in may come out again

        return handle


class Control:
    """Lines of a client of the control socket."""

    name = "control"
    what = "lines on the control socket"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def make(self, rng: random.Random) -> list[Step]:
        """Return some lines, as latin-1 text: requests with parts replaced, and rubbish."""
        return [_line(rng) for _ in range(rng.choice((1, 4, 12)))]

    def check(self, case: Case) -> int:
        """Let the server answer each of them."""
        lines = [step for step in case if isinstance(step, str)]
        for text in lines:
            line = text.encode("latin-1", "replace")
            if len(line) <= rpc.MAX_LINE_BYTES:  # longer ones never get beyond the reader
                self.check_line(line)
        return len(lines)

    def check_line(self, line: bytes) -> None:
        """Let the server answer one line, and hold the answer against JSON-RPC 2.0."""
        asked = _Asked()
        server = ControlServer(
            Path(tempfile.gettempdir()) / "not-bound.sock",
            asked.table(),
            clock=FakeClock(),
            emit=lambda _event: None,
            status=dict,
        )
        answer, _watches = self._loop.run_until_complete(server.answer(line, PEER))
        for name, params in asked.calls:
            known = asked.table()[name].params
            assert set(params) <= set(known), f"{name} was called with {sorted(params)}"
            assert all(known[key].problem(value) is None for key, value in params.items())
        if answer:
            assert answer.endswith(b"\n")
            assert answer.count(b"\n") == 1
            assert len(answer) < 8 * rpc.MAX_LINE_BYTES
            _check_answer(json.loads(answer.decode("ascii")))


def _check_answer(told: dict[str, Any]) -> None:
    assert told["jsonrpc"] == "2.0"
    assert ("result" in told) != ("error" in told)
    if "error" in told:
        assert_plain(told["error"]["message"], 4000, "the message of an error")


def _line(rng: random.Random) -> str:
    request: Any = {
        "jsonrpc": "2.0",
        "id": rng.choice((1, "a", None, values.number(rng))),
        "method": rng.choice(NAMES),
        "params": dict(rng.choice(PARAMS)),
    }
    if rng.random() < 0.4:
        request[rng.choice((*request, "more"))] = values.anything(rng)
    if rng.random() < 0.4 and isinstance(request.get("params"), dict):
        request["params"][rng.choice(("text", "percent", values.text(rng)))] = values.anything(rng)
    if rng.random() < 0.1:
        request.pop(rng.choice(list(request)))
    written = json.dumps(request, ensure_ascii=rng.random() < 0.7)
    if rng.random() < 0.35:
        written = values.spoilt(written, rng)
    with contextlib.suppress(UnicodeEncodeError):
        return written.encode("utf-8").decode("latin-1")
    return written.encode("utf-8", "surrogatepass").decode("latin-1")
