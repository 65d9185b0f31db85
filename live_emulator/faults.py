"""Faults on demand: what goes wrong, and when.

A fault is a value: an action with its parameters, and a trigger.  Triggers name *moments* that
the core reports as they happen (``setup``, ``activityStart``, a second of reply audio, …) or a
time since the start.  Nothing here does I/O; the server carries the actions out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ACTIONS: dict[str, str] = {
    "go_away": "announce the end: time_left_s, close_after_s (0: never closes by itself)",
    "close": "close the WebSocket: code, reason",
    "reset": "TCP reset, no close handshake",
    "freeze": "stop reading and writing; the TCP connection stays open",
    "thaw": "undo freeze",
    "mute": "accept everything, answer nothing",
    "unmute": "undo mute",
    "refuse_http": "answer the handshake with an HTTP status: status, body",
    "silent_http": "finish TLS, never answer the handshake",
    "silent_setup": "accept the WebSocket, never send setupComplete",
    "delay_setup": "send setupComplete late: delay_s",
    "duplicate_setup_complete": "send setupComplete twice",
    "quota": "setupComplete, then 1011 quota exceeded: delay_s, reason",
    "poison_handles": "resumed connections fail: mode close, mute, reject_1007 or reject_1008",
    "heal_handles": "undo poison_handles",
    "expire_handles": "every handle issued so far is expired",
    "phantom_interrupted": "send interrupted although nobody spoke",
    "audio_after_interrupted": "the next interruption is followed by late audio: chunks",
    "oversized_frame": "send a valid frame above the client's size limit: bytes",
    "malformed_json": "send a frame that is no JSON",
    "unknown_frame": "send a frame with only an unknown top-level key",
    "unknown_field": "send a known frame with unknown fields in and beside it",
    "error_frame": "send a flat {code, status, message} frame",
    "send_raw": "send a frame as given: data",
    "flood": "send a frame again and again: data, count (0: for ever), fill, item, items",
    "send_bytes": "write bytes beside the WebSocket's own: hex, count (0: for ever)",
    "deafen": "stop reading, go on sending",
    "raw_http": "answer the handshake with bytes: data, count, drip_s",
    "certificate": "serve this certificate from now on: kind",
    "refuse_tcp": "close the listening port",
    "accept_tcp": "open the listening port again",
}

PARAMETERS: dict[str, tuple[str, ...]] = {
    "go_away": ("time_left_s", "close_after_s"),
    "close": ("code", "reason"),
    "refuse_http": ("status", "body"),
    "delay_setup": ("delay_s",),
    "quota": ("delay_s", "reason"),
    "poison_handles": ("mode",),
    "audio_after_interrupted": ("chunks",),
    "oversized_frame": ("bytes",),
    "malformed_json": ("data",),
    "error_frame": ("code", "status"),
    "send_raw": ("data",),
    "flood": ("data", "count", "fill", "item", "items", "between"),
    "send_bytes": ("hex", "count"),
    "raw_http": ("data", "count", "drip_s", "fill", "item", "items", "between"),
    "certificate": ("kind",),
}
"""What a fault takes besides its moment; those that are not here take nothing."""

CONNECT_ACTIONS = frozenset({"refuse_http", "silent_http", "raw_http"})
SETUP_ACTIONS = frozenset({"silent_setup", "delay_setup", "duplicate_setup_complete", "quota"})
SERVER_ACTIONS = frozenset(
    {
        "poison_handles",
        "heal_handles",
        "expire_handles",
        "certificate",
        "refuse_tcp",
        "accept_tcp",
    }
)

MOMENTS = (
    "connect",
    "setup",
    "activityStart",
    "activityEnd",
    "audio",
    "text",
    "history",
    "reply",
    "toolCall",
    "toolResponse",
    "interrupted",
    "generationComplete",
    "turnComplete",
    "goAway",
    "closed",
)
"""What a trigger can name.  ``audio`` and ``reply`` carry a position in seconds."""

_TRIGGER = re.compile(
    r"^\s*(?P<kind>[A-Za-z]+)\s*(?:#\s*(?P<count>\d+))?"
    r"(?:\s+(?P<position>\d+(?:\.\d+)?)\s*s)?"
    r"(?:\s+into\s+(?:utterance|reply)\s*#?\s*(?P<into>\d+))?\s*$"
)
_TIME = re.compile(r"^\s*(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min|h)?\s*$")
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, None: 1.0}


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that just happened: its kind, its running number, its position in seconds."""

    kind: str
    count: int
    position_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a fault strikes.  ``count`` None means every one."""

    kind: str
    count: int | None = None
    position_s: float = 0.0

    def matches(self, moment: Moment) -> bool:
        """Tell whether this moment is the one."""
        return (
            moment.kind == self.kind
            and (self.count is None or self.count == moment.count)
            and moment.position_s >= self.position_s
        )


def parse_trigger(text: str) -> Trigger:
    """Parse ``activityStart #2``, ``audio 1.5 s into utterance 2``, ``reply #1 1.0 s``.

    Raises:
        ValueError: with the moments that exist.
    """
    match = _TRIGGER.match(text)
    if match is None or match["kind"] not in MOMENTS:
        raise ValueError(
            f"on = {text!r} names no moment; write one of {', '.join(MOMENTS)}, then optionally "
            "'#2' for the second, then optionally '1.5 s' (audio and reply)"
        )
    if match["position"] and match["kind"] not in ("audio", "reply"):
        raise ValueError(f"on = {text!r}: only audio and reply take a position in seconds")
    count = match["count"] or match["into"]
    return Trigger(match["kind"], int(count) if count else None, float(match["position"] or 0.0))


def parse_seconds(value: object) -> float:
    """Parse ``30``, ``"30s"``, ``"500ms"``, ``"9 min"``, ``"2h"`` into seconds.

    Raises:
        ValueError: it is no duration.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    match = _TIME.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no duration; write seconds, or '30s', '500ms', '9min'")
    return float(match["value"]) * _UNITS[match["unit"]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.  With neither ``trigger`` nor ``at_s`` it strikes now, on open connections."""

    action: str
    params: Mapping[str, Any] = field(default_factory=dict)
    trigger: Trigger | None = None
    at_s: float | None = None
    times: int | None = 1
    """How often it strikes; None is for ever."""
    connection: int | None = None
    """Only this connection (its number); None is any."""

    def __post_init__(self) -> None:
        """Refuse an unknown action."""
        if self.action not in ACTIONS:
            raise ValueError(f"unknown fault {self.action!r}; one of {', '.join(sorted(ACTIONS))}")

    def number(self, name: str, default: float) -> float:
        """Return a numeric parameter."""
        value = self.params.get(name, default)
        if isinstance(value, str):
            return parse_seconds(value)
        return float(value)

    def text(self, name: str, default: str) -> str:
        """Return a text parameter."""
        return str(self.params.get(name, default))


def make_fault(table: Mapping[str, Any]) -> Fault:
    """Read a fault from a scenario table or a control request.

    ``do`` names the action; ``on``, ``at``, ``times`` (0: for ever) and ``connection`` say when
    and where; everything else is a parameter.

    Raises:
        ValueError: a key has no meaning or a wrong value.
    """
    rest = dict(table)
    action = rest.pop("do", None)
    if not isinstance(action, str):
        raise ValueError(  # noqa: TRY004 - one kind of error for a wrong table
            f'a fault needs do = "…"; one of {", ".join(sorted(ACTIONS))}'
        )
    on, at = rest.pop("on", None), rest.pop("at", None)
    times = rest.pop("times", 1)
    connection = rest.pop("connection", None)
    if not isinstance(times, int) or times < 0:
        raise ValueError(f"times = {times!r}: write a count, or 0 for ever")
    if on is not None and at is not None:
        raise ValueError("a fault takes on = … or at = …, not both")
    if on is not None and not isinstance(on, str):
        raise ValueError(f"on = {on!r}: write a moment such as 'setup #2'")
    _check_params(action, rest)
    trigger = parse_trigger(on) if on is not None else None
    _check_place(action, trigger, at)
    if trigger is None and at is None:
        if action in CONNECT_ACTIONS:
            trigger = Trigger("connect")
        elif action in SETUP_ACTIONS:
            trigger = Trigger("setup")
    return Fault(
        action,
        rest,
        trigger,
        None if at is None else parse_seconds(at),
        times or None,
        connection if connection is None else int(connection),
    )


_NUMBERS = frozenset(
    {
        "code",
        "status",
        "bytes",
        "chunks",
        "time_left_s",
        "close_after_s",
        "delay_s",
        "count",
        "fill",
        "items",
        "drip_s",
    }
)
_CHOICES = {
    "poison_handles": ("mode", ("close", "mute", "reject_1007", "reject_1008")),
    "certificate": ("kind", ("valid", "expired", "not_yet_valid", "wrong_host", "unknown_ca")),
}


def _check_params(action: str, params: Mapping[str, Any]) -> None:
    """Refuse parameters that mean nothing, or would only fail once the fault strikes."""
    known = PARAMETERS.get(action, ())
    if unknown := sorted(params.keys() - set(known)):
        takes = f"takes {', '.join(known)}" if known else "takes no parameters"
        raise ValueError(f"do = {action!r} {takes}; {unknown[0]} means nothing to it")
    for name in _NUMBERS & params.keys():
        parse_seconds(params[name])
    if action == "send_bytes":
        bytes.fromhex(str(params.get("hex", "")))
    name, allowed = _CHOICES.get(action, ("", ()))
    if name in params and params[name] not in allowed:
        raise ValueError(f"{name} = {params[name]!r}; one of {', '.join(allowed)}")


def _check_place(action: str, trigger: Trigger | None, at: object) -> None:
    """Refuse a trigger at which the action could do nothing."""
    place = "connect" if action in CONNECT_ACTIONS else ""
    place = "setup" if action in ("silent_setup", "delay_setup") else place
    if place and (at is not None or (trigger is not None and trigger.kind != place)):
        raise ValueError(f"{action} strikes at {place}; write on = '{place}' or '{place} #2'")


class FaultSchedule:
    """The faults still to come; counts moments and hands out the faults they set off."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, int | None]] = []
        self._last_count: dict[int, int] = {}
        self.counts: dict[str, int] = dict.fromkeys(MOMENTS, 0)

    def add(self, fault: Fault) -> None:
        """Schedule a fault that has a trigger."""
        self._waiting.append((fault, fault.times))

    def clear(self) -> None:
        """Forget every scheduled fault."""
        self._waiting.clear()
        self._last_count.clear()

    def __len__(self) -> int:
        return len(self._waiting)

    def happened(self, kind: str, connection: int) -> list[Fault]:
        """Count one more moment of this kind; return the faults it sets off."""
        self.counts[kind] += 1
        return self.match(Moment(kind, self.counts[kind]), connection)

    def position(self, kind: str, connection: int, position_s: float) -> list[Fault]:
        """Report a position inside the current ``audio`` or ``reply``."""
        if not self._waiting:
            return []
        return self.match(Moment(kind, self.counts[kind], position_s), connection)

    def match(self, moment: Moment, connection: int) -> list[Fault]:
        """Return the faults that this moment sets off, and use them up."""
        struck: list[Fault] = []
        kept: list[tuple[Fault, int | None]] = []
        for fault, left in self._waiting:
            trigger = fault.trigger
            hit = (
                trigger is not None
                and trigger.matches(moment)
                and fault.connection in (None, connection)
                and not self._again(fault, moment)
            )
            if hit:
                struck.append(fault)
            remaining = left if left is None or not hit else left - 1
            if remaining != 0:
                kept.append((fault, remaining))
        self._waiting = kept
        return struck

    def _again(self, fault: Fault, moment: Moment) -> bool:
        """Tell whether this fault already struck in this very utterance or reply."""
        if moment.kind not in ("audio", "reply"):
            return False
        last = self._last_count.get(id(fault))
        self._last_count[id(fault)] = moment.count
        return last == moment.count
