"""Names that users' scripts rely on: commands, keys, events, journal and status fields, methods.

`tests/outside_names.txt` holds them, one a line. Nothing of it may go or change without a migration
and a line in the changelog; what is new is added by

    .venv/bin/python -m tests.test_outside_names
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from agentd.cli.main import COMMANDS
from agentd.config.fields import walk_fields
from agentd.events import event_types
from agentd.methods import Requests
from agentd.service.entry import JournalEntry, journal_fields, level_name
from tests.test_status import document

LIST = Path(__file__).with_name("outside_names.txt")
NOBODY: Any = None
"""The table of methods asks nothing of the daemon."""


def _status(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _status(inner, f"{path}.{name}" if path else name)
    else:
        yield f"status {path}"


def _event(event: type[Any]) -> Iterator[str]:
    entry = journal_fields(JournalEntry(event.name, event.level, "", {}, ""))
    yield f"event {event.name} {level_name(event.level)} {entry['MESSAGE_ID']}"
    for field in fields(event):
        yield f"field {event.name} AGENTD_{field.name.upper()}"


def present() -> list[str]:
    """Return the names that there are, sorted."""
    found = [f"command {name}" for name in COMMANDS]
    found += [f"key {name}" for name, _ in walk_fields()]
    found += [line for event in event_types() for line in _event(event)]
    for name, method in Requests(*[NOBODY] * 6).methods().items():
        found += [f"method {name}", *(f"parameter {name} {word}" for word in method.params)]
    return sorted([*found, *_status(document())])


def test_no_name_that_users_rely_on_has_gone() -> None:
    """Each is there, letter by letter; an event with its level and its MESSAGE_ID."""
    relied_upon = LIST.read_text(encoding="utf-8").splitlines()
    assert len(relied_upon) > 400
    assert sorted(set(relied_upon) - set(present())) == []


if __name__ == "__main__":
    old = LIST.read_text(encoding="utf-8").splitlines() if LIST.exists() else []
    LIST.write_text("\n".join(sorted({*old, *present()})) + "\n", encoding="utf-8")
