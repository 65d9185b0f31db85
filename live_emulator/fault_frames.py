"""The frames of those faults that are nothing but an odd frame."""

from __future__ import annotations

import json
from collections.abc import Callable

from live_emulator import wire
from live_emulator.effects import Deafen, Effect, Flood, Send, SendBytes, SendRaw
from live_emulator.faults import Fault

OVERSIZED_BYTES = 2 * 1024 * 1024


def _phantom(_: Fault) -> Send:
    return Send(wire.server_content(interrupted=True))


def _oversized(fault: Fault) -> Send:
    text = "x" * int(fault.number("bytes", OVERSIZED_BYTES))
    return Send(wire.model_part({"text": text, "thought": True}))


def _unknown_frame(_: Fault) -> Send:
    return Send({"futureMessage": {"value": 1}})


def _unknown_field(_: Fault) -> Send:
    return Send({"serverContent": {"futureField": {"value": 1}}, "futureMessage": {}})


def _error(fault: Fault) -> Send:
    code = int(fault.number("code", 429))
    status = fault.text("status", "RESOURCE_EXHAUSTED")
    return Send({"code": code, "status": status, "message": "Resource has been exhausted."})


def _raw(fault: Fault) -> SendRaw:
    data = fault.params.get("data", "{}")
    return SendRaw(data if isinstance(data, str) else json.dumps(data))


def filled(fault: Fault) -> str:
    """Return `data` with `{fill}` made of so many letters, and `{items}` of repeated `item`s."""
    text = _raw(fault).data
    items = [fault.text("item", "")] * int(fault.number("items", 0))
    text = text.replace("{items}", fault.text("between", ",").join(items))
    return text.replace("{fill}", "x" * int(fault.number("fill", 0)))


def _flood(fault: Fault) -> Flood:
    return Flood(filled(fault), int(fault.number("count", 0)) or None)


def _bytes(fault: Fault) -> SendBytes:
    return SendBytes(bytes.fromhex(fault.text("hex", "")), int(fault.number("count", 1)) or None)


def _deafen(_: Fault) -> Deafen:
    return Deafen()


def _malformed(fault: Fault) -> SendRaw:
    return SendRaw(fault.text("data", '{"serverContent": {'), "malformed")


def _setup_complete(_: Fault) -> Send:
    return Send({"setupComplete": {}})


ODD_FRAMES: dict[str, Callable[[Fault], Effect]] = {
    "phantom_interrupted": _phantom,
    "oversized_frame": _oversized,
    "unknown_frame": _unknown_frame,
    "unknown_field": _unknown_field,
    "error_frame": _error,
    "send_raw": _raw,
    "flood": _flood,
    "send_bytes": _bytes,
    "deafen": _deafen,
    "malformed_json": _malformed,
    "duplicate_setup_complete": _setup_complete,
}
