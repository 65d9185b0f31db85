"""Calls to one tool host, and what its lines mean (pure).

The host is somebody else's program. Whatever it sends is an answer to a call of ours, a request of
its own, or a mistake; too many mistakes or lines, and it is hung up on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentd.service import rpc
from agentd.text import safe_text

MAX_CALLS = 8  # at once
LINES_AT_ONCE = 64
LINES_PER_S = 8.0  # a model calls once a second at most, over a minute
MAX_MISTAKES = 8
MAX_TIMEOUTS = 3  # in a row: nobody is there
MAX_DEPTH = 32  # of an answer
ERROR_CHARS = 300

CALL = "tool.call"
CANCEL = "tool.cancel"


class Misbehaved(Exception):
    """The host is to be hung up on; says why."""


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """What a call has come to: a JSON object for the model, or with `error` a sentence instead."""

    call: int
    response: Mapping[str, Any]
    error: str = ""


Heard = HostAnswer | rpc.Request | None


class HostCalls:
    """The calls of one host that are under way, by a number that is never used again."""

    def __init__(self, now: float) -> None:
        self._pending: dict[int, str] = {}  # the function, by number
        self._last = 0
        self._room = float(LINES_AT_ONCE)
        self._heard_s = now
        self._mistakes = 0
        self._timeouts = 0

    @property
    def is_full(self) -> bool:
        """Return whether no more calls may be made for now."""
        return len(self._pending) >= MAX_CALLS

    def call(
        self, name: str, args: Mapping[str, Any], *, timeout_s: float, now: float
    ) -> tuple[int, bytes]:
        """Begin a call; return its number and the line for the host."""
        self._last += 1
        self._pending[self._last] = name
        params = {
            "name": name,
            "args": args,
            "timeout_s": round(timeout_s, 3),
            "deadline_s": round(now + timeout_s, 3),
        }
        request = {"jsonrpc": "2.0", "id": self._last, "method": CALL, "params": params}
        return self._last, rpc.line(request)

    def cancel(self, call: int) -> bytes:
        """End a call that is not wanted any more; return the line for the host, if it runs."""
        if self._pending.pop(call, None) is None:
            return b""
        return rpc.notification(CANCEL, {"id": call})

    def timed_out(self) -> None:
        """Note that a call got no answer in time.

        Raises:
            Misbehaved: it is one of several in a row.
        """
        self._timeouts += 1
        if self._timeouts >= MAX_TIMEOUTS:
            raise Misbehaved(f"it has not answered {self._timeouts} calls in a row")

    def heard(self, line: bytes, now: float) -> Heard:
        """Return what a line of the host means; None for nothing.

        Raises:
            Misbehaved: it is one line, or one mistake, too many.
        """
        self._count_line(now)
        try:
            found = json.loads(line.decode("utf-8"), parse_constant=_refuse)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self._mistake("a line that is no JSON object")
            return None
        return self._request(line) if "method" in found else self._answer(found)

    def _request(self, line: bytes) -> Heard:
        try:
            return rpc.parse(line)
        except rpc.RpcError as failure:
            self._mistake(f"a request that is none ({failure.message})")
            return None

    def _answer(self, found: dict[str, Any]) -> Heard:
        call = found.get("id")
        if not isinstance(call, int) or isinstance(call, bool) or not 1 <= call <= self._last:
            self._mistake("an answer to a call that was never made")
            return None
        name = self._pending.pop(call, None)
        if name is None:
            return None  # it was cancelled, or was too late
        self._timeouts = 0
        if ("result" in found) == ("error" in found):
            return self._wrong(call, name, "neither a result nor an error")
        if "error" in found:
            return HostAnswer(call, {}, _reason(found["error"]))
        if _is_deeper(found["result"], MAX_DEPTH):
            return self._wrong(call, name, "nested too deeply")
        result = found["result"]
        return HostAnswer(call, result if isinstance(result, dict) else {"result": result})

    def _wrong(self, call: int, name: str, what: str) -> HostAnswer:
        self._mistake(f"an answer that is {what}")
        return HostAnswer(call, {}, f"the answer of {name} is {what}")

    def _count_line(self, now: float) -> None:
        self._room = min(LINES_AT_ONCE, self._room + (now - self._heard_s) * LINES_PER_S)
        self._heard_s = now
        self._room -= 1
        if self._room < 0:
            raise Misbehaved(f"it sends more than {LINES_PER_S:g} lines a second")

    def _mistake(self, what: str) -> None:
        self._mistakes += 1
        if self._mistakes > MAX_MISTAKES:
            raise Misbehaved(f"it makes mistake after mistake, at last {what}")


def _reason(error: object) -> str:
    """Return the words of a JSON-RPC error, or of what stands in its place."""
    message = error.get("message") if isinstance(error, dict) else error
    text = safe_text(message, ERROR_CHARS) if isinstance(message, str) else ""
    return text or "it failed without saying why"


def _is_deeper(value: object, most: int) -> bool:
    """Return whether lists and objects are nested more than `most` levels deep."""
    level = [value]
    for _ in range(most):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _refuse(name: str) -> object:
    raise ValueError(name)
