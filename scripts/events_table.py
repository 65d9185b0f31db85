#!/usr/bin/env python3
"""Write the table of events in docs/operator/service.md anew, from the events and the catalog.

scripts/events_table.py            rewrite docs/operator/service.md
scripts/events_table.py --check    exit 1 if it is not up to date
"""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agentd.events import event_types  # noqa: E402
from agentd.service.catalog import MESSAGE_IDS  # noqa: E402
from agentd.service.entry import level_name  # noqa: E402

CATALOG = ROOT / "systemd" / "agentd.catalog"
DOCUMENT = ROOT / "docs" / "operator" / "service.md"
BEGIN, END = "<!-- events: begin (scripts/events_table.py) -->", "<!-- events: end -->"
OTHERS = {
    "log": ("warning", ("logger",)),
    "crash": ("critical", ("where", "traceback")),
    "suppressed": ("warning", ("suppressed", "count")),
}


def parse_catalog(text: str) -> dict[str, tuple[str, str]]:
    """Return subject and body by message id."""
    found = {}
    for chunk in re.split(r"^-- ", text, flags=re.MULTILINE)[1:]:
        head, _, body = chunk.partition("\n\n")
        id_, *lines = head.splitlines()
        subject = next(line.removeprefix("Subject: ") for line in lines if "Subject: " in line)
        body = "\n".join(line for line in body.splitlines() if not line.startswith("#"))
        found[id_] = (subject, body.strip())
    return found


def table() -> str:
    """Return the table in Markdown."""
    subjects = parse_catalog(CATALOG.read_text())
    rows = ["| `AGENTD_EVENT` | level | what happened | fields |", "| --- | --- | --- | --- |"]
    shapes = {
        kind.name: (level_name(kind.level), tuple(field.name for field in fields(kind)))
        for kind in event_types()
    } | OTHERS
    for name, (level, names) in shapes.items():
        shown = ", ".join(f"`{field.upper()}`" for field in names)
        rows.append(f"| `{name}` | {level} | {subjects[MESSAGE_IDS[name]][0]} | {shown} |")
    return "\n".join(rows)


def renewed(document: str) -> str:
    """Return `document` with the table in its place."""
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Rewrite the document, or check it."""
    document = DOCUMENT.read_text()
    new = renewed(document)
    if "--check" in sys.argv[1:]:
        return int(new != document)
    DOCUMENT.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
