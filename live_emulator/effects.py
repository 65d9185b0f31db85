"""What the core asks its shell to do, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from live_emulator.faults import Fault
from live_emulator.wire import JsonObject


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message."""

    message: JsonObject


@dataclass(frozen=True, slots=True)
class SendRaw:
    """Send a frame as it is."""

    data: str
    kind: str = "raw"


@dataclass(frozen=True, slots=True)
class Flood:
    """Send a frame again and again; `{n}` in it is a number that grows, None is for ever."""

    data: str
    count: int | None


@dataclass(frozen=True, slots=True)
class SendBytes:
    """Write bytes beside the WebSocket's own: whatever they are, that is what the client reads."""

    data: bytes
    count: int | None


@dataclass(frozen=True, slots=True)
class Deafen:
    """Read nothing any more, and go on sending."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket with a code and a reason of at most 123 bytes."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Cut the TCP connection with a reset."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop (or resume) reading and writing."""

    frozen: bool


@dataclass(frozen=True, slots=True)
class DropConnections:
    """Cut other connections: their session was taken over."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Serverwide:
    """A fault that concerns the whole server."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Note:
    """Something for the record that is not a frame."""

    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Utterance:
    """User audio as received between its start and its end."""

    session: str
    connection: int
    number: int
    pcm: bytes
    rate_hz: int
    complete: bool
    """False: the connection ended before the utterance did."""
    explicit: bool
    """Framed by activityStart and activityEnd, not by the server's own detection."""
    started_s: float
    ended_s: float
    text: str = ""

    @property
    def seconds(self) -> float:
        """Return the length of the audio."""
        return len(self.pcm) / (2 * self.rate_hz)


Effect = (
    Send
    | SendRaw
    | Flood
    | SendBytes
    | Deafen
    | Close
    | Reset
    | Freeze
    | DropConnections
    | Serverwide
    | Note
    | Utterance
)
