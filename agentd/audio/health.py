"""The books of a device: since when it is lost, what was reported, whether it keeps time. Pure.

Microphone and speaker keep the same ones; what differs between them is what follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agentd.audio.pace import Pace
from agentd.audio.supervise import DeviceTrouble


@dataclass(frozen=True, slots=True)
class Pacing:
    """What a piece of sound says about the device that brought or took it."""

    usable: bool  # false: it may not be heard
    failed: DeviceTrouble | None = None  # it does not keep time: close it
    proved: bool = False  # it does again, after all


class DeviceHealth:
    """Of one device, over all its openings."""

    def __init__(self, way: Literal["capture", "playback"]) -> None:
        self._way: Literal["capture", "playback"] = way
        self._pace = Pace(way=way)
        self._doubt: DeviceTrouble | None = None  # why it was closed; until it is proved wrong
        self._refused = False  # it is being closed
        self._lost_at_s: float | None = None
        self.told: DeviceTrouble | None = None
        """What was reported of it last; None while it works."""
        self.wedged = 0
        """How many of its threads were given up."""

    @property
    def is_lost(self) -> bool:
        """Return whether it was lost and has not come back."""
        return self._lost_at_s is not None

    def opened(self) -> None:
        """Begin a new opening; what was doubted stays so until it is proved."""
        self._pace = Pace(self._doubt, self._way)
        self._refused = False

    def forget(self) -> None:
        """Forget what was wrong: it was closed on purpose, and is opened again."""
        self._lost_at_s = self.told = self._doubt = None

    def take(self, duration_s: float, at_s: float, missing_s: float = 0.0) -> Pacing:
        """Judge a piece of sound of this opening by its length and the time at which it came."""
        if self._refused:
            return Pacing(usable=False)
        trouble = self._pace.take(duration_s, at_s, missing_s)
        if trouble is not None:
            self._doubt, self._refused = trouble, True
            return Pacing(usable=False, failed=trouble)
        proved = self._doubt is not None and self._pace.proved
        if proved:
            self._doubt = None
        return Pacing(usable=self._doubt is None, proved=proved)

    def lost(self, trouble: DeviceTrouble, at_s: float) -> bool:
        """Note that it does not run; return whether that is news."""
        if self._lost_at_s is None:
            self._lost_at_s = at_s
        news = trouble != self.told
        self.told = trouble
        return news

    def back(self, at_s: float) -> float:
        """Note that it runs; return for how long it was lost, in seconds."""
        outage_s = 0.0 if self._lost_at_s is None else at_s - self._lost_at_s
        self._lost_at_s = self.told = None
        return outage_s
