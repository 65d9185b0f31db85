"""One journal entry and its three forms: journald fields, a text line, a JSON line (pure)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from agentd.clock import WallTime
from agentd.events import Event
from agentd.service.catalog import MESSAGE_IDS
from agentd.text import VALUE_LIMIT, filled, json_text, safe_text

MESSAGE_LIMIT = 1000
DETAIL_LIMIT = 16_384

Value = str | int | float | bool | None

PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_FINGERPRINT = re.compile(r"[0-9a-f]{0,16}")


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What is logged. All text in it is safe; `detail` (a traceback) may have several lines."""

    name: str
    level: int
    message: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    detail: str = ""


def entry_of(event: Event) -> JournalEntry:
    """Return the entry of an event."""
    fields = {name: safe_value(name, value) for name, value in event.fields().items()}
    message = safe_text(filled(event.wording, fields), MESSAGE_LIMIT)
    return JournalEntry(event.name, event.level, message, fields)


def safe_value(name: str, value: object) -> Value:
    """Return `value` as it may be logged under `name`."""
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return round(value, 3)
    text = safe_text(str(value), VALUE_LIMIT)
    if name == "handle" and not _FINGERPRINT.fullmatch(text):
        # Whoever holds a handle can continue the conversation: a slip must not log one.
        return sha256(str(value).encode("utf-8", "replace")).hexdigest()[:8]
    return text


def level_name(level: int) -> str:
    """Return the level in lower case."""
    return logging.getLevelName(level).lower()


def journal_fields(entry: JournalEntry) -> dict[str, str]:
    """Return the fields of the journal entry."""
    fields = {
        "MESSAGE": entry.message,
        "PRIORITY": str(PRIORITIES.get(entry.level, 5)),
        "SYSLOG_IDENTIFIER": "agentd",
        "AGENTD_EVENT": entry.name,
    }
    if entry.name in MESSAGE_IDS:
        fields["MESSAGE_ID"] = MESSAGE_IDS[entry.name]
    for name, value in entry.fields.items():
        if value is not None:
            fields[f"AGENTD_{name.upper()}"] = _journal_text(value)
    if entry.detail:
        fields["AGENTD_TRACEBACK"] = entry.detail
    return fields


def text_line(entry: JournalEntry, now: WallTime) -> str:
    """Return the entry as a person reads it in a terminal."""
    # Some sentences begin with the name, because the journal shows them without it.
    message = entry.message.removeprefix(f"{entry.name}: ")
    line = f"{_iso(now)} {level_name(entry.level):8} {entry.name}: {message}"
    return "\n    ".join([line, *entry.detail.splitlines()])


def json_line(entry: JournalEntry, now: WallTime) -> str:
    """Return the entry as one JSON object."""
    head: dict[str, Value] = {
        "time": _iso(now),
        "level": level_name(entry.level),
        "event": entry.name,
        "message": entry.message,
    }
    detail = {"traceback": entry.detail} if entry.detail else {}
    return json_text(head | dict(entry.fields) | detail)


def _journal_text(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _iso(now: WallTime) -> str:
    return datetime.fromtimestamp(now.unix_s, UTC).isoformat(timespec="milliseconds")
