"""webrtcvad behind the `Detector` protocol: cheap, quick, and easily fooled by noise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from agentd.audio.formats import CAPTURE_RATE_HZ
from agentd.events import Frame


class Detector(Protocol):
    """Decides frame by frame whether somebody speaks. Keeps its own memory between frames."""

    @property
    def name(self) -> str:
        """Return what `agentd status` and the documents call it."""

    def is_speech(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> bool:
        """Judge the next frame; `is_open` says whether the gate is open at the moment."""

    def reset(self) -> None:
        """Forget what was heard: capture was cut."""


class WebrtcDetector:
    """webrtcvad on every frame above a level floor.

    Digital silence and frames below the floor are never speech, whatever the model thinks; that
    also spares its work in a quiet room.
    """

    def __init__(self, aggressiveness: int, level_floor_dbfs: float) -> None:
        import webrtcvad

        self.name = f"webrtcvad {aggressiveness}"
        self._floor_dbfs = level_floor_dbfs
        self._make: Callable[[], Any] = functools.partial(webrtcvad.Vad, aggressiveness)
        self._vad = self._make()

    def is_speech(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> bool:  # noqa: ARG002
        """Judge the next frame."""
        if level_dbfs < self._floor_dbfs:
            return False
        return bool(self._vad.is_speech(frame.pcm, CAPTURE_RATE_HZ))

    def reset(self) -> None:
        """Start with a new model; it adapts to the noise it has heard."""
        self._vad = self._make()
