"""webrtcvad behind the `Detector` protocol: cheap, quick, and easily fooled by noise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from agentd.audio.formats import CAPTURE_RATE_HZ
from agentd.events import Frame
from agentd.vad.floor import NoiseFloor

MARGIN_DB = 4.0  # closed: a frame must stand out from the noise by this much
OPEN_MARGIN_DB = 2.0  # open: endings are softer
LONG_MEMORY = 16  # blocks of 0.5 s: somebody may speak for seconds without a real pause


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a detector thinks of the newest frame, and on second thoughts of those before it."""

    voiced: bool
    hindsight: tuple[bool, ...] = ()  # of the frames just before, oldest first
    is_certain: bool = False  # not voiced, beyond doubt: the hangover may be shorter


class Detector(Protocol):
    """Decides frame by frame whether somebody speaks. Keeps its own memory between frames."""

    @property
    def name(self) -> str:
        """Return what `agentd status` and the documents call it."""

    def judge(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> Judgement:
        """Judge the next frame; `is_open` says whether the gate is open at the moment."""

    def reset(self) -> None:
        """Forget what was heard: capture was cut."""


VOICED, UNVOICED = Judgement(True), Judgement(False)


class WebrtcModel:
    """webrtcvad itself: int16 mono 16 kHz frames of 20 ms in, voiced or not out."""

    def __init__(self, aggressiveness: int) -> None:
        import webrtcvad

        self._make: Callable[[], Any] = functools.partial(webrtcvad.Vad, aggressiveness)
        self._vad = self._make()

    def is_speech(self, pcm: bytes) -> bool:
        """Judge a frame."""
        return bool(self._vad.is_speech(pcm, CAPTURE_RATE_HZ))

    def reset(self) -> None:
        """Start with a new model; it adapts to the noise it has heard."""
        self._vad = self._make()


class WebrtcDetector:
    """webrtcvad on frames that stand out from the noise of the room.

    Frames below a fixed floor are never speech, whatever the model thinks; steady noise is not
    either, however much it sounds like a voice. Quiet frames cost nothing.
    """

    def __init__(self, aggressiveness: int, level_floor_dbfs: float) -> None:
        self.name = f"webrtcvad {aggressiveness} above the noise floor"
        self._floor_dbfs = level_floor_dbfs
        self._noise = NoiseFloor(LONG_MEMORY)
        self._model = WebrtcModel(aggressiveness)

    def judge(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> Judgement:
        """Judge the next frame."""
        self._noise.update(level_dbfs)
        margin_db = OPEN_MARGIN_DB if is_open else MARGIN_DB
        if level_dbfs < self._floor_dbfs or not self._noise.stands_out(level_dbfs, margin_db):
            return UNVOICED
        return VOICED if self._model.is_speech(frame.pcm) else UNVOICED

    def reset(self) -> None:
        """Forget speech, not the room."""
        self._model.reset()
