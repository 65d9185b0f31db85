"""Where the conversation is kept between runs: two small JSON documents.

`agentd.state.store.StateStore` is the real one. What is in the documents, and how much of them is
believed, is decided in `resumption` and `transcript`; a store only carries them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol


class ConversationStore(Protocol):
    """Named JSON documents; writes return at once."""

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the document, or None if there is none that can be used."""

    def write(
        self, name: str, document: dict[str, Any], *, on_stored: Callable[[], None] | None = None
    ) -> None:
        """Keep `document`; call `on_stored` when it is safe."""

    def delete(self, name: str) -> None:
        """Forget the document at once."""

    def put_aside(self, name: str) -> None:
        """Move the document out of the way: read no more, kept until the name is deleted."""

    async def flush(self) -> Mapping[str, str]:
        """Bring everything to safety now; return what failed: names of documents, and why."""


class MemoryStore:
    """A store that forgets with the process; for tests, the demo and the doctor."""

    def __init__(self, documents: dict[str, dict[str, Any]] | None = None) -> None:
        self.documents = documents if documents is not None else {}
        self.aside: dict[str, dict[str, Any]] = {}
        self.writes = 0

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a copy of the document."""
        return copy.deepcopy(self.documents.get(name))

    def write(
        self, name: str, document: dict[str, Any], *, on_stored: Callable[[], None] | None = None
    ) -> None:
        """Keep a copy."""
        self.documents[name] = copy.deepcopy(document)
        self.writes += 1
        if on_stored is not None:
            on_stored()

    def delete(self, name: str) -> None:
        """Drop the document."""
        self.documents.pop(name, None)
        self.aside.pop(name, None)

    def put_aside(self, name: str) -> None:
        """Take the document out of the way."""
        if name in self.documents:
            self.aside[name] = self.documents.pop(name)

    async def flush(self) -> Mapping[str, str]:
        """Do nothing: memory is as safe as it gets."""
        return {}
