"""Frames as they go over the wire: parsing what clients send, shaping what the service sends.

Clients mix camelCase and snake_case in one message and use either base64 alphabet; both are
legal proto3 JSON.  Everything here is plain functions over plain values.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from live_emulator.reasons import INVALID_ARGUMENT

JsonObject = dict[str, Any]

REASON_LIMIT_BYTES = 123
"""RFC 6455: a control frame carries 125 bytes, two of which are the close code."""

PACKAGE = "google.ai.generativelanguage.v1beta"
"""The protobuf package that the service's refusals name."""

INVALID_JSON = "Invalid JSON payload received."

CLIENT_KINDS = ("setup", "clientContent", "realtimeInput", "toolResponse", "contextUpdate")

_OPAQUE = frozenset(
    {
        "args",
        "response",
        "parameters",
        "parametersJsonSchema",
        "responseJsonSchema",
        "responseSchema",
        "labels",
    }
)
"""Keys whose values are the user's own data: their inner names must not be touched."""

_RATE = re.compile(r"(?:^|[;,\s])rate\s*=\s*(\d+)")


class WireError(ValueError):
    """A client frame the service refuses; carries the close code and reason it would use."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """One client frame: its kind, its normalised (camelCase) body, its size on the wire."""

    kind: str
    body: JsonObject
    size: int


def cut_reason(reason: str) -> str:
    """Cut a close reason at 123 bytes, as the real service's reasons are."""
    return reason.encode()[:REASON_LIMIT_BYTES].decode(errors="ignore")


def camel(name: str) -> str:
    """Turn ``snake_case`` into ``camelCase``; leave camelCase alone."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def normalise(value: Any) -> Any:
    """Rename keys to camelCase at every depth, except inside the user's own data."""
    if isinstance(value, dict):
        out: JsonObject = {}
        for key, inner in value.items():
            name = camel(str(key))
            out[name] = inner if name in _OPAQUE else normalise(inner)
        return out
    if isinstance(value, list):
        return [normalise(item) for item in value]
    return value


def parse_client_frame(frame: str | bytes) -> ClientMessage:
    """Parse one frame from a client.

    Raises:
        WireError: the frame is no JSON object, or names no or more than one known kind.
    """
    size = len(frame) if isinstance(frame, bytes) else len(frame.encode())
    try:
        parsed = json.loads(frame)
    except (ValueError, RecursionError) as exc:
        raise WireError(1007, f"{INVALID_JSON} {exc}") from exc
    if not isinstance(parsed, dict):
        raise WireError(1007, f"{INVALID_JSON} Root element must be a message.")
    try:
        body = normalise(parsed)
    except RecursionError as exc:
        raise WireError(1007, f"{INVALID_JSON} Message too deep.") from exc
    unknown = [key for key in body if key not in CLIENT_KINDS]
    if unknown:
        raise WireError(1007, unknown_name(unknown[0]))
    kinds = [key for key in CLIENT_KINDS if key in body]
    if len(kinds) != 1 or not isinstance(body[kinds[0]], dict):
        raise WireError(1007, INVALID_ARGUMENT)
    return ClientMessage(kinds[0], body[kinds[0]], size)


def unknown_name(name: str, where: str = "") -> str:
    """Return the reason Google's JSON front end gives for a field it does not know."""
    place = f" at '{where}'" if where else ""
    return f'{INVALID_JSON} Unknown name "{name}"{place}: Cannot find field.'


def decode_base64(data: object) -> bytes:
    """Decode base64 in either alphabet, padded or not.

    Raises:
        WireError: it is not base64 text.
    """
    if not isinstance(data, str):
        raise WireError(1007, INVALID_ARGUMENT)
    text = data.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise WireError(1007, "Invalid value: Base64 decoding failed.") from exc


def encode_base64(data: bytes) -> str:
    """Encode bytes in the standard alphabet."""
    return base64.b64encode(data).decode("ascii")


def audio_rate_hz(mime_type: object, default_hz: int = 16_000) -> int:
    """Read the sample rate out of ``audio/pcm;rate=16000``."""
    match = _RATE.search(mime_type) if isinstance(mime_type, str) else None
    rate_hz = int(match.group(1)) if match else default_hz
    return rate_hz if 1_000 <= rate_hz <= 192_000 else default_hz


def invalid_value(where: str, kind: str, value: object) -> WireError:
    """Return the refusal that Google's JSON front end gives for a value of the wrong kind."""
    shown = json.dumps(redact(value), ensure_ascii=False)
    return WireError(1007, f"Invalid value at '{where}' ({kind}), {shown}")


def as_int(value: object) -> int | None:
    """Read an int64, which JSON may carry as a number or a string.

    Raises:
        WireError: it is neither, or not whole.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise WireError(1007, INVALID_ARGUMENT)
    try:
        number = int(value)
    except (ValueError, OverflowError) as exc:
        raise WireError(1007, INVALID_ARGUMENT) from exc
    if isinstance(value, float) and number != value:
        raise WireError(1007, INVALID_ARGUMENT)
    return number


def as_bool(value: object, where: str) -> bool:
    """Read a bool; Google's parser takes the words in quotes as well, absent means false.

    Raises:
        WireError: it is neither true nor false.
    """
    if value in (None, False, "false"):
        return False
    if value is not True and value != "true":
        raise invalid_value(where, "TYPE_BOOL", value)
    return True


def as_enum(value: object, known: Collection[str], where: str, kind: str) -> str:
    """Read an enum in any case, as Google's parser does; absent is the first of ``known``.

    Raises:
        WireError: it is none of them.
    """
    if value is None:
        return next(iter(known))
    if isinstance(value, str) and value.upper() in known:
        return value.upper()
    raise invalid_value(where, f"type.googleapis.com/{PACKAGE}.{kind}", value)


def as_object(value: object) -> JsonObject:
    """Read a message field; absent means empty.

    Raises:
        WireError: it is something other than an object.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WireError(1007, INVALID_ARGUMENT)
    return value


def as_list(value: object) -> list[Any]:
    """Read a repeated field; absent means empty, and a bare value is a list of one.

    Google's parser takes the bare value: its own live-api-web-console sends
    ``responseModalities: "audio"``.
    """
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def duration(seconds: float) -> str:
    """Write a protobuf duration: ``"50s"``, ``"9.500s"``."""
    seconds = max(seconds, 0.0)
    if abs(seconds - round(seconds)) < 0.0005:
        return f"{round(seconds)}s"
    return f"{seconds:.3f}s"


def content_text(content: object, where: str) -> str:
    """Join the text parts of a ``Content``.

    Raises:
        WireError: it is no ``Content``; a bare string is none.
    """
    if content is not None and not isinstance(content, dict):
        raise invalid_value(where, f"type.googleapis.com/{PACKAGE}.Content", content)
    parts = as_list(as_object(content).get("parts"))
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def redact(message: Any) -> Any:
    """Return the message with inline audio replaced by its length, fit for a log."""
    if isinstance(message, dict):
        return {
            key: f"<{len(value)} base64 characters>"
            if key == "data" and isinstance(value, str)
            else redact(value)
            for key, value in message.items()
        }
    if isinstance(message, list):
        return [redact(item) for item in message]
    return message


# -- server messages ------------------------------------------------------------------------


def server_content(**fields: Any) -> JsonObject:
    """Return a ``serverContent`` message."""
    return {"serverContent": fields}


def model_part(part: JsonObject, *, role: bool = True) -> JsonObject:
    """Return a ``modelTurn`` with one part."""
    turn: JsonObject = {"role": "model", "parts": [part]} if role else {"parts": [part]}
    return server_content(modelTurn=turn)


def message_kind(message: JsonObject) -> str:
    """Name a server message by its most telling field, for the record."""
    content = message.get("serverContent")
    if isinstance(content, dict):
        turn = content.get("modelTurn")
        if isinstance(turn, dict):
            parts = turn.get("parts") or [{}]
            return "audio" if "inlineData" in parts[0] else "text"
        for key in ("interrupted", "generationComplete", "turnComplete"):
            if content.get(key):
                return key
        for key in content:
            return str(key)
        return "serverContent"
    return next(iter(message), "empty")
