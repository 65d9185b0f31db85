"""The form of a state file: one JSON object that says what it is and proves that it is whole."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from agentd.clock import WallTime

FORMAT = 1
MAX_BYTES = 4 << 20  # no document of ours comes near; a larger file is not ours

Document = dict[str, Any]


class BadEnvelope(ValueError):
    """A state file is not what it should be; the message is the cause, without its content."""


def canonical(value: object) -> str:
    """Return the one JSON text of `value`, so that equal documents have equal texts.

    Raises:
        ValueError: `value` has no JSON form that reads back as the same value.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        same = json.loads(text) == value
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a JSON document: {error}") from None
    if not same:
        raise ValueError("not a JSON document: tuples and keys other than text change on the way")
    return text


def encode(kind: str, text: str, saved: WallTime) -> bytes:
    """Wrap the canonical `text` of a document of `kind`."""
    saved_at = {"unix_s": round(saved.unix_s, 3), "synchronised": saved.synchronised}
    head = json.dumps({"format": FORMAT, "kind": kind, "saved_at": saved_at}, sort_keys=True)
    checksum = _checksum(kind, text)
    return f'{head[:-1]}, "sha256": "{checksum}", "document": {text}}}\n'.encode()


def decode(kind: str, data: bytes) -> Document:
    """Return the document in `data`.

    Raises:
        BadEnvelope: anything else than a whole file of this format and `kind`.
    """
    if not data:
        raise BadEnvelope("empty")
    if len(data) > MAX_BYTES:
        raise BadEnvelope(f"larger than {MAX_BYTES} bytes")
    try:
        envelope = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadEnvelope("not JSON, torn or damaged") from None
    if not isinstance(envelope, dict) or type(envelope.get("format")) is not int:
        raise BadEnvelope("not a state file")
    if envelope["format"] != FORMAT:
        raise BadEnvelope(f"format {envelope['format']}, this version reads {FORMAT}")
    if envelope.get("kind") != kind:
        raise BadEnvelope("holds something else than its name says")
    document = envelope.get("document")
    if not isinstance(document, dict):
        raise BadEnvelope("holds no document")
    try:
        checksum = _checksum(kind, canonical(document))
    except ValueError:
        raise BadEnvelope("holds a document that this version cannot have written") from None
    if envelope.get("sha256") != checksum:
        raise BadEnvelope("checksum does not match")
    return document


def _checksum(kind: str, text: str) -> str:
    return hashlib.sha256(f"{FORMAT}\n{kind}\n{text}".encode()).hexdigest()


def _refuse_constant(name: str) -> object:
    raise ValueError(name)
