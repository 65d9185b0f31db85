"""What a frame of the service may be, decided before the SDK builds its objects from it.

The SDK (3.4 to 3.6) takes a frame of any size and shape: 700,000 parts are 19 s of work, and a
frame with nothing but a kind that it does not know ends its stream with a bare `TypeError`. The
bounds stand far above every frame that the service is known to send: a reply comes in pieces of
some kB, one or two parts each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from agentd.errors import LiveError
from agentd.live.failures import safe_reason

MAX_VALUES = 5_000  # of JSON in a frame, about 50 ms of work on a small PC
MAX_DIGITS = 1_000  # in a row: what a number costs grows with the square of them
MAX_PARTS = 256
MAX_CALLS = 64
MAX_CANCELLED = 256

KINDS = frozenset(
    {
        "setupComplete",
        "serverContent",
        "toolCall",
        "toolCallCancellation",
        "usageMetadata",
        "goAway",
        "sessionResumptionUpdate",
        "voiceActivityDetectionSignal",
        "voiceActivity",
    }
)
"""Top-level keys of a server message (Live API reference, `BidiGenerateContentServerMessage`)."""

STATUS = "interactionStatus"
OTHER_KIND = "other"
_DIGITS = bytes.maketrans(b"0123456789", b"0" * 10)
_TOO_LONG = b"0" * (MAX_DIGITS + 1)
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}", re.ASCII)

# kind, its list, the most that may be in it, and what to call them
_LISTS = (
    ("serverContent", ("modelTurn", "parts"), MAX_PARTS, "parts"),
    ("toolCall", ("functionCalls",), MAX_CALLS, "calls"),
    ("toolCallCancellation", ("ids",), MAX_CANCELLED, "cancelled calls"),
)


class Excess(LiveError):
    """A peer sends more than any service would; its connection is given up."""


class UnusableFrame(LiveError):
    """A frame that says nothing or too much; it is skipped."""


class UnknownKind(LiveError):
    """A frame of a kind that this version does not know; it is skipped, and no fault."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"frame of the unknown kind {kind}")
        self.kind = kind


def screened(frame: bytes) -> bytes:
    """Return the frame as the SDK is to read it.

    `interactionStatus` at the top level, which the SDK drops, is put into `serverContent`.

    Raises:
        UnusableFrame: it is no JSON object, an error, or larger than any frame has reason to be.
        UnknownKind: nothing in it is known.
    """
    values = frame.count(b",") + frame.count(b"[") + frame.count(b"{")
    if values > MAX_VALUES:
        raise UnusableFrame(f"frame with more than {MAX_VALUES} values")
    if _TOO_LONG in frame.translate(_DIGITS):
        raise UnusableFrame(f"frame with more than {MAX_DIGITS} digits in a row")
    parsed = _object(frame)
    moved = _move_status(parsed)
    known = [kind for kind in KINDS.intersection(parsed) if parsed[kind] is not None]
    if not known:
        return _nothing_known(parsed)
    for kind, path, most, name in _LISTS:
        count = _length(parsed.get(kind), path)
        if count > most:
            raise UnusableFrame(f"frame with {count} {name}, more than {most}")
    return json.dumps(parsed).encode() if moved else frame


def _object(frame: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(frame) if frame else {}
    except (ValueError, RecursionError):
        raise UnusableFrame("frame that is no JSON") from None
    if not isinstance(parsed, dict):
        raise UnusableFrame("frame that is no JSON object")
    return parsed


def _move_status(parsed: dict[str, Any]) -> bool:
    """Put a top-level `interactionStatus` where the SDK looks for it."""
    content = parsed.get("serverContent")
    if STATUS not in parsed or not isinstance(content, dict | None):
        return False
    status = parsed.pop(STATUS)
    if isinstance(status, str):
        parsed["serverContent"] = {STATUS: status} | (content or {})
    return True


def _nothing_known(parsed: Mapping[str, Any]) -> bytes:
    """Judge a frame without anything that can be used."""
    strange = [kind for kind, value in parsed.items() if kind not in KINDS and value is not None]
    if not strange:
        return b"{}"
    error = parsed.get("error")
    if error is not None or "code" in parsed:
        told = error if isinstance(error, dict) else parsed
        words = (told.get(key) for key in ("code", "status"))
        named = [str(word)[:40] for word in words if isinstance(word, str | int)]
        raise UnusableFrame(safe_reason(" ".join(["error frame", *named])))
    raise UnknownKind(strange[0] if _KIND.fullmatch(strange[0]) else OTHER_KIND)


def _length(value: object, path: tuple[str, ...]) -> int:
    """Return how long a nested list is; the SDK takes its names in either spelling."""
    for name in path:
        if not isinstance(value, dict):
            return 0
        value = value.get(name) or value.get(_snake(name))
    return len(value) if isinstance(value, list) else 0


def _snake(name: str) -> str:
    return re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", name)


# ── one call ──────────────────────────────────────────────────────────────────────────────────

MAX_NAME_CHARS = 64  # of a function: the API's own bound on what we declare
MAX_ID_CHARS = 256  # `function-call-<20 digits>` is the longest seen
MAX_ARGS_CHARS = 16_384
MAX_ARGS_DEPTH = 16


def call_problem(name: str, args: Mapping[str, Any]) -> str:
    """Return why a call cannot be one of our functions, or nothing."""
    if len(name) > MAX_NAME_CHARS:
        return f"no function has a name of {len(name)} characters"
    if not _shallow(args, MAX_ARGS_DEPTH):
        return f"arguments nested deeper than {MAX_ARGS_DEPTH}"
    size = len(json.dumps(args, default=str))
    return f"arguments of {size} characters" if size > MAX_ARGS_CHARS else ""


def _shallow(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    if depth == 0:
        return False
    inner = value.values() if isinstance(value, dict) else value
    return all(_shallow(item, depth - 1) for item in inner)


# ── how many ──────────────────────────────────────────────────────────────────────────────────


class Gauge:
    """Counts what comes against a bound: so many at once, and so many in every second after."""

    def __init__(self, *, at_once: int, per_s: float) -> None:
        self._at_once = at_once
        self._per_s = per_s
        self._level = 0.0
        self._read_s = 0.0

    def is_over(self, now_s: float) -> bool:
        """Count one more; return whether that is more than the bound allows."""
        leaked = max(0.0, now_s - self._read_s) * self._per_s
        self._level = max(0.0, self._level - leaked) + 1.0
        self._read_s = now_s
        return self._level > self._at_once
