"""What a canceller is to the rest of agentd."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from agentd.events import Frame


class Known(StrEnum):
    """What a canceller knows of the room (agentd.audio.echo.settling)."""

    NOTHING = "learning"
    CANCELLED = "cancelled"
    NO_ECHO = "no echo"  # to be heard, at least
    BY_LEVEL = "by level"  # not cancelled by much: only what is louder than the echo gets through


@dataclass(frozen=True, slots=True)
class EchoStats:
    """What `agentd status` tells about the canceller."""

    frames: int  # that went through it
    is_settled: bool  # what it leaves of a reply is fit for the gate
    known: Known  # why it is, or that it is not yet
    erle_db: float  # how much of the microphone's sound it takes away, lately
    left_dbfs: float  # how loud what it leaves of the reply is, the room's noise apart
    shifts: int  # single samples dropped or inserted: two clocks drift
    relocks: int  # jumps to a new alignment
    late_samples: int  # of the far end that came after their time
    dropped_samples: int  # of the far end that nobody fetched in time
    lead_ms: float


class EchoCanceller(Protocol):
    """Takes the far end out of the near end. All of it is called on the event loop."""

    def played(self, pcm: bytes, heard_at_s: float) -> None:
        """Take 24 kHz PCM as it was written to the device, and when its first sample is heard.

        Silence need not be told.
        """

    def torn(self) -> None:
        """Know that the speaker ran dry: from here on the way through the air is another one."""

    def clean(self, frame: Frame) -> Frame:
        """Return the frame without what was played; the same one if nothing was.

        `is_echo` is set where nobody's voice is in it, and while the room is not known well enough:
        half duplex for a moment, bounded in time.
        """

    @property
    def stats(self) -> EchoStats:
        """Return what is known now."""
