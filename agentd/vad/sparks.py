"""The cheap first stage: frames that stand out from the room and sound like a voice. Pure.

A quiet room makes no sparks, so that what comes behind them (a neural detector, the models of wake
words) costs nothing there.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from agentd.vad.floor import NoiseFloor
from agentd.vad.webrtc import MARGIN_DB

SPARKS, SPARK_WINDOW = 2, 4


class Sentry(Protocol):
    """The cheap detector."""

    def is_speech(self, pcm: bytes) -> bool:
        """Judge a frame of 20 ms."""

    def reset(self) -> None:
        """Forget what was heard."""


class Sparks:
    """Watches the room; `noise` knows its level."""

    def __init__(self, sentry: Sentry, level_floor_dbfs: float) -> None:
        self._sentry = sentry
        self._floor_dbfs = level_floor_dbfs
        self._recent: deque[bool] = deque(maxlen=SPARK_WINDOW)
        self.noise = NoiseFloor()

    @property
    def are_flying(self) -> bool:
        """Return whether there were enough of them just now to look closer."""
        return sum(self._recent) >= SPARKS

    def watch(self, pcm: bytes, level_dbfs: float) -> bool:
        """Take the next frame (int16 mono 16 kHz, 20 ms); return whether it is a spark."""
        self.noise.update(level_dbfs)
        spark = (
            level_dbfs >= self._floor_dbfs
            and self.noise.stands_out(level_dbfs, MARGIN_DB)
            and self._sentry.is_speech(pcm)
        )
        self._recent.append(spark)
        return spark

    def clear(self) -> None:
        """Forget the sparks, not the room."""
        self._recent.clear()

    def reset(self) -> None:
        """Forget speech, not the room."""
        self._sentry.reset()
        self.clear()
