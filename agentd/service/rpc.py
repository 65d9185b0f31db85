"""JSON-RPC 2.0 as the control socket speaks it: one JSON object per line (pure).

jsonrpc.org/specification, without batches: a client that wants two things writes two lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentd.text import safe_text

MAX_LINE_BYTES = 65_536
NAME_CHARS = 40  # of a parameter that nobody knows, in the answer

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
# own, in the range that the specification leaves to servers
REFUSED = -32000  # agentd understood and will not; the message says why
NOT_PERMITTED = -32001
BUSY = -32002
TIMED_OUT = -32003

Id = str | int | float | None
Params = dict[str, Any]
Handler = Callable[[Params], Awaitable[object] | object]


class RpcError(Exception):
    """An error answer."""

    def __init__(self, code: int, message: str, id_: Id = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id_


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request; `id` is meaningless when `notification`."""

    method: str
    params: Params
    id: Id
    notification: bool


@dataclass(frozen=True, slots=True)
class Param:
    """What one parameter of a method may be."""

    kind: type[str | int | float | bool | list[Any]]
    required: bool = True
    low: float = -math.inf
    high: float = math.inf  # of a number, or of the length of a text or list
    choices: tuple[str, ...] = ()

    def problem(self, value: object) -> str | None:
        """Return what is wrong with `value`, or None."""
        if not self._has_kind(value):
            return f"must be {_KINDS[self.kind]}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        has_length = isinstance(value, str | list)
        size = len(value) if isinstance(value, str | list) else value
        if not isinstance(value, bool) and not self.low <= size <= self.high:  # type: ignore[operator]
            what = "length must be" if has_length else "must be"
            return f"{what} {self.low:g} to {self.high:g}"
        return None

    def _has_kind(self, value: object) -> bool:
        # true is an int in Python, and 1 is a float where one is wanted
        if self.kind is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        return type(value) is self.kind


_KINDS: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
}


@dataclass(frozen=True, slots=True)
class Method:
    """What can be called: its handler, its parameters, and whether it changes anything.

    With `for_guests` also by members of a group that may not command.
    """

    handler: Handler
    params: Mapping[str, Param] = field(default_factory=dict)
    changing: bool = False
    for_guests: bool = False


def parse(line: bytes) -> Request:
    """Return the request in `line`; raise `RpcError` with the id as far as it is known."""
    try:
        data = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise RpcError(PARSE_ERROR, "not a JSON text on one line") from None
    if not isinstance(data, dict):
        raise RpcError(INVALID_REQUEST, "not a JSON-RPC request object (batches are not taken)")
    id_ = data.get("id")
    if isinstance(id_, bool) or not isinstance(id_, str | int | float | None):
        raise RpcError(INVALID_REQUEST, "id must be text, a number or null")
    method, params = data.get("method"), data.get("params", {})
    if data.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise RpcError(INVALID_REQUEST, 'needs "jsonrpc": "2.0" and a "method"', id_)
    if not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "parameters are given by name", id_)
    return Request(method, params, id_, "id" not in data)


def find(methods: Mapping[str, Method], request: Request) -> Method:
    """Return the method of `request` if its parameters are right; raise `RpcError`."""
    method = methods.get(request.method)
    if method is None:
        known = ", ".join(sorted(methods))
        raise RpcError(METHOD_NOT_FOUND, f"unknown method; known here: {known}", request.id)
    problems = list(_problems(method.params, request.params))
    if problems:
        raise RpcError(INVALID_PARAMS, "; ".join(problems), request.id)
    return method


def _problems(known: Mapping[str, Param], given: Params) -> list[str]:
    # A client's own words come back to it, and to whoever reads its screen: in plain letters, cut.
    problems = [
        f"{safe_text(name, NAME_CHARS)}: unknown" for name in list(given)[:8] if name not in known
    ]
    for name, param in known.items():
        if name in given:
            problem = param.problem(given[name])
            if problem:
                problems.append(f"{name}: {problem}")
        elif param.required:
            problems.append(f"{name}: missing")
    return problems


def result(id_: Id, value: object) -> bytes:
    """Return the line of a successful answer."""
    return line({"jsonrpc": "2.0", "id": id_, "result": value})


def error(failure: RpcError) -> bytes:
    """Return the line of an error answer."""
    body = {"code": failure.code, "message": failure.message}
    return line({"jsonrpc": "2.0", "id": failure.id, "error": body})


def notification(method: str, params: object) -> bytes:
    """Return the line of a message that nobody asked for by id."""
    return line({"jsonrpc": "2.0", "method": method, "params": params})


def line(message: Mapping[str, object]) -> bytes:
    """Return `message` as one line; numbers that JSON does not know become null."""
    try:
        text = json.dumps(message, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(message))
    return text.encode() + b"\n"


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(name: str) -> object:
    raise ValueError(name)
