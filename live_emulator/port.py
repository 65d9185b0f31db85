"""What a turn engine needs from its connection."""

from __future__ import annotations

from typing import Any, Protocol

from live_emulator.effects import Utterance
from live_emulator.sessions import Snapshot
from live_emulator.wire import JsonObject


class Port(Protocol):
    """One connection, seen from the conversation on it."""

    def emit(self, message: JsonObject) -> None:
        """Send a message to the client."""

    def note(self, kind: str, **detail: Any) -> None:
        """Put something on record."""

    def heard(self, utterance: Utterance) -> None:
        """Hand over the audio of an utterance."""

    def moment(self, kind: str, now: float) -> None:
        """Report a moment that faults may wait for."""

    def position(self, kind: str, position_s: float, now: float) -> None:
        """Report a position within an utterance or a reply."""

    def resumable(self) -> None:
        """Tell the client a new handle."""

    def busy(self, settled: Snapshot) -> None:
        """Tell the client that it cannot resume at this point, or only back to ``settled``."""

    @property
    def closed(self) -> bool:
        """Return whether a fault just ended the connection."""
        ...
