"""From microphone frames to utterances: level, detector, gate, and the half-duplex shutter."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agentd.audio import formats
from agentd.config import Vad
from agentd.events import Emit, Frame, Speech, UtteranceEnded, UtteranceHeard
from agentd.vad.gate import Gate, GateSettings
from agentd.vad.webrtc import Detector, WebrtcDetector


class Listener:
    """Feeds frames to the gate and its speech onward, all in the caller's stack.

    Half duplex (no echo canceller): the shutter is shut while the speaker plays and for a tail
    after it, so that the device does not answer itself.
    """

    def __init__(
        self,
        settings: Vad,
        *,
        emit: Emit,
        on_speech: Callable[[Speech], None],
        detector: Detector | None = None,
    ) -> None:
        self._emit = emit
        self._on_speech = on_speech
        self._detector = detector or WebrtcDetector(
            settings.aggressiveness, settings.level_floor_dbfs
        )
        self._gate = Gate(
            GateSettings.from_ms(
                onset_ms=settings.onset_ms,
                hangover_ms=settings.hangover_ms,
                pre_roll_ms=settings.pre_roll_ms,
                min_utterance_ms=settings.min_utterance_ms,
                max_utterance_s=settings.max_utterance_s,
            )
        )
        self._shut = False
        self._shut_until_s = 0.0

    @property
    def detector(self) -> str:
        """Return the name of the detector in use."""
        return self._detector.name

    @property
    def is_open(self) -> bool:
        """Say whether an utterance is under way."""
        return self._gate.is_open

    def hear(self, frame: Frame) -> None:
        """Take the next frame from the microphone."""
        if self._shut or frame.at_s < self._shut_until_s:
            return
        level_dbfs = formats.level_dbfs(frame.pcm)
        voiced = self._detector.is_speech(frame, level_dbfs, is_open=self._gate.is_open)
        self._pass_on(self._gate.feed(frame, voiced))

    def cut(self) -> None:
        """End an open utterance now: muted, capture lost, stopping."""
        self._pass_on(self._gate.cut())
        self._detector.reset()

    def shut(self) -> None:
        """Close the half-duplex shutter: the speaker plays."""
        if not self._shut:
            self._shut = True
            self.cut()

    def unshut(self, at_s: float) -> None:
        """Open the shutter for frames from `at_s` on: the reply has drained, plus a tail."""
        self._shut = False
        self._shut_until_s = at_s

    def _pass_on(self, speech: Iterable[Speech]) -> None:
        for value in speech:
            self._on_speech(value)
            if isinstance(value, UtteranceEnded):
                self._emit(
                    UtteranceHeard(
                        utterance=value.utterance,
                        speech_ms=value.speech_ms,
                        reason=value.reason,
                    )
                )
