"""What `agentd status` shows of the device as a whole; each stage adds its own part.

The names of the JSON fields are relied upon by users' scripts (docs/operator/service.md). Nothing
in here holds a transcript, a handle or a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentd import __version__
from agentd.device.state import Derived
from agentd.events import Event, TurnEnded, TurnFailed
from agentd.stage import Stage


@dataclass(frozen=True, slots=True)
class TurnLog:
    """How many turns there were, the figures of the last one, and the last that failed."""

    count: int = 0
    interrupted: int = 0
    last: TurnEnded | None = None
    failed: int = 0
    last_failed: TurnFailed | None = None

    def after(self, event: Event) -> TurnLog:
        """Return the log once `event` has happened."""
        if isinstance(event, TurnFailed):
            return replace(self, failed=self.failed + 1, last_failed=event)
        if not isinstance(event, TurnEnded):
            return self
        interrupted = self.interrupted + event.interrupted
        return replace(self, count=self.count + 1, interrupted=interrupted, last=event)

    def as_json(self) -> dict[str, object]:
        """Return the `turns` part of the status."""
        return {
            "count": self.count,
            "interrupted": self.interrupted,
            "last": self.last.fields() if self.last else None,
            "failed": self.failed,
            "last_failed": self.last_failed.fields() if self.last_failed else None,
        }


class TurnCounter(Stage):
    """Keeps the log of turns."""

    def __init__(self) -> None:
        self._log = TurnLog()

    def on_event(self, event: Event) -> None:
        """Count `event`, if it ends a turn."""
        self._log = self._log.after(event)

    def status(self) -> object:
        """Return the `turns` part of the status."""
        return self._log.as_json()


def document(
    parts: Mapping[str, object], *, state: Derived, muted: bool, uptime_s: float
) -> dict[str, object]:
    """Return the document of `agentd status --json`; `parts` are the stages'."""
    head = {
        "version": __version__,
        "uptime_s": round(uptime_s, 1),
        "state": state.state.value,
        "cause": state.cause,
        "muted": muted,
    }
    return head | dict(parts)


def brief(status: Mapping[str, Any]) -> dict[str, object]:
    """Return what the model may know about this device, of the document."""
    return {
        "state": status["state"],
        "muted": status["muted"],
        "volume_percent": status["volume"]["percent"],
        "network": status["network"]["interface"] or "unknown",
        "uptime_s": round(status["uptime_s"]),
    }
