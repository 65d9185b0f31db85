"""What `agentd status` tells, assembled from what the stages know.

The names of the JSON fields are relied upon by users' scripts (docs/operator/service.md). Nothing
in here holds a transcript, a handle or a key.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from agentd import __version__
from agentd.events import Event, LinkChanged, TurnEnded, TurnFailed

if TYPE_CHECKING:
    from agentd.audio.capture import CaptureStats
    from agentd.audio.echo.policy import EchoStatus
    from agentd.audio.playback import PlaybackStats
    from agentd.device.state import Derived
    from agentd.live.session import SessionStatus


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


@dataclass(frozen=True, slots=True)
class NetworkLog:
    """The network path as last reported."""

    interface: str = ""
    online: bool | None = None  # None: nobody watches it
    changes: int = 0

    def after(self, event: Event) -> NetworkLog:
        """Return the log once `event` has happened."""
        if not isinstance(event, LinkChanged):
            return self
        return replace(
            self, interface=event.interface, online=event.online, changes=self.changes + 1
        )

    def as_json(self) -> dict[str, object]:
        """Return the `network` part of the status."""
        return {"interface": self.interface, "online": self.online, "changes": self.changes}


def snapshot(
    *,
    state: Derived,
    muted: bool,
    session: SessionStatus,
    capture: CaptureStats,
    playback: PlaybackStats,
    echo: EchoStatus,
    network: NetworkLog,
    turns: TurnLog,
    uptime_s: float,
) -> dict[str, object]:
    """Return the document of `agentd status --json`."""
    return {
        "version": __version__,
        "uptime_s": round(uptime_s, 1),
        "state": state.state.value,
        "cause": state.cause,
        "muted": muted,
        "session": _rounded(session),
        "audio": {
            "capture": _rounded(capture),
            "playback": _rounded(playback),
            "echo": asdict(echo),
        },
        "network": network.as_json(),
        "turns": turns.as_json(),
    }


def _rounded(stats: SessionStatus | CaptureStats | PlaybackStats) -> dict[str, object]:
    return {k: round(v, 1) if isinstance(v, float) else v for k, v in asdict(stats).items()}
