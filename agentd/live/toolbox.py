"""Functions that the model may call.

A tool is an async function from its arguments to a JSON object. Its deadline and its cancellation
are kept by the session; whatever it raises becomes an error that the model is told.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agentd.errors import AgentdError
from agentd.live.callrates import Limits
from agentd.live.consent import Question
from agentd.live.tool_rules import Rules

logger = logging.getLogger(__name__)

MAX_RESPONSE_CHARS = 32_000  # a tool must not fill the model's context
TOTAL_PER_MINUTE = 60  # of all functions together
OTHER_PER_MINUTE = 10  # of names that are none
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")

Response = Mapping[str, Any]
NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}


class ToolFailed(AgentdError):
    """A tool could not do it; the model is told these words."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with what the model must know of it; `parameters` is a JSON schema."""

    name: str
    description: str
    run: Callable[[Mapping[str, Any]], Awaitable[Response]]
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(NO_ARGUMENTS))
    slow: bool = False  # declared NON_BLOCKING where the backend allows: the talk goes on meanwhile
    per_minute: int = 20
    timeout_s: float | None = None  # how long a call may take; None: `tools.timeout_s`
    asks: Callable[[Mapping[str, Any]], str] = lambda _args: ""
    """What a person must have confirmed before a call with these arguments is run ("delete this
    conversation"); an empty text: nothing."""

    @property
    def declared(self) -> frozenset[str]:
        """Return the names of the arguments that it knows."""
        return frozenset(self.parameters.get("properties", {}))


class Toolbox:
    """The tools that are offered."""

    def __init__(self, tools: tuple[Tool, ...] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """Offer one more tool.

        Raises:
            ValueError: the name is taken or not allowed by the API.
        """
        if not _NAME.fullmatch(tool.name):
            raise ValueError(f"tool name {tool.name!r}: letters, digits, _ . - only, at most 64")
        if tool.name in self._tools:
            raise ValueError(f"tool {tool.name!r} exists already")
        self._tools[tool.name] = tool

    def remove(self, name: str) -> None:
        """Offer a tool no more; one that is not there is no error."""
        self._tools.pop(name, None)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def is_slow(self, name: str) -> bool:
        """Tell whether `name` is a tool that the conversation need not wait for."""
        tool = self._tools.get(name)
        return tool is not None and tool.slow

    def rules(self) -> Rules:
        """Return how often which function may be called, and which only after a person's yes."""
        limits = Limits(self._per_minute, OTHER_PER_MINUTE, TOTAL_PER_MINUTE)
        return Rules(limits, self._ask, self._timeout_s)

    def _timeout_s(self, name: str) -> float | None:
        tool = self._tools.get(name)
        return None if tool is None else tool.timeout_s

    def _per_minute(self, name: str) -> int | None:
        tool = self._tools.get(name)
        return None if tool is None else tool.per_minute

    def _ask(self, name: str, args: Mapping[str, Any]) -> Question:
        tool = self._tools.get(name)
        if tool is None:
            return Question()
        known = {key: value for key, value in args.items() if key in tool.declared}
        try:
            return Question(tool.asks(known), known)
        except Exception:  # whatever the arguments are: if in doubt a person is asked
            logger.exception("what %s is to ask is not known", name)
            return Question(f"call {name}", known)

    async def call(self, name: str, args: Mapping[str, Any]) -> tuple[str, Response]:
        """Run a tool; return (`answered` or `failed`, what to tell the model)."""
        tool = self._tools.get(name)
        if tool is None:
            return "failed", {"error": f"there is no function {name}"}
        try:
            response = dict(await tool.run(args))
            size = len(json.dumps(response))
        except ToolFailed as error:
            return "failed", {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - a tool's fault must not end the conversation
            return "failed", {"error": f"{type(error).__name__}: {error}"[:500]}
        if size > MAX_RESPONSE_CHARS:
            return "failed", {"error": f"the answer is too long ({size} characters)"}
        return "answered", response


def builtin_tools(
    device_status: Callable[[], Mapping[str, Any]],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> tuple[Tool, ...]:
    """Return the tools that every device has: the time, and how the device is doing."""

    async def get_time(args: Mapping[str, Any]) -> Response:
        zone_name = args.get("time_zone")
        moment = now().astimezone()
        if isinstance(zone_name, str) and zone_name:
            try:
                moment = moment.astimezone(ZoneInfo(zone_name))
            except (ZoneInfoNotFoundError, ValueError, OSError):
                return {"error": f"unknown time zone {zone_name}; use one like Europe/Berlin"}
        return {"time": moment.isoformat(timespec="seconds"), "weekday": f"{moment:%A}"}

    async def get_device_status(args: Mapping[str, Any]) -> Response:
        del args
        return dict(device_status())

    return (
        Tool(
            "get_time",
            "Tell the present date, weekday and time, here or in another time zone.",
            get_time,
            {
                "type": "object",
                "properties": {
                    "time_zone": {
                        "type": "string",
                        "description": "IANA name such as Asia/Jakarta; leave out for local time",
                    }
                },
            },
        ),
        Tool(
            "device_status",
            "Tell how this speaker is doing: network, volume, microphone, uptime.",
            get_device_status,
        ),
    )
