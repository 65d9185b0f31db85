"""The frames of those faults that are nothing but an odd frame."""

from __future__ import annotations

import json
from collections.abc import Callable

from agentd.emulator import wire
from agentd.emulator.effects import Send, SendRaw
from agentd.emulator.faults import Fault

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


def _malformed(fault: Fault) -> SendRaw:
    return SendRaw(fault.text("data", '{"serverContent": {'), "malformed")


def _setup_complete(_: Fault) -> Send:
    return Send({"setupComplete": {}})


ODD_FRAMES: dict[str, Callable[[Fault], Send | SendRaw]] = {
    "phantom_interrupted": _phantom,
    "oversized_frame": _oversized,
    "unknown_frame": _unknown_frame,
    "unknown_field": _unknown_field,
    "error_frame": _error,
    "send_raw": _raw,
    "malformed_json": _malformed,
    "duplicate_setup_complete": _setup_complete,
}
