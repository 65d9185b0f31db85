"""A state directory in memory."""

from __future__ import annotations

import json
from typing import Any


class MemoryStore:
    """Documents by name, as JSON would bring them back."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.writes = 0

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a copy of the document."""
        return json.loads(self.texts[name]) if name in self.texts else None

    def write(self, name: str, document: dict[str, object]) -> None:
        """Keep the document."""
        self.writes += 1
        self.texts[name] = json.dumps(document)
