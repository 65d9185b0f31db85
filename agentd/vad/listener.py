"""From microphone frames to utterances: level, detector, gate, and half duplex."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from agentd.audio import formats
from agentd.config.settings import Vad
from agentd.events import Emit, Frame, Speech, UtteranceEnded, UtteranceHeard
from agentd.vad.choose import choose_detector
from agentd.vad.gate import Gate, GateSettings
from agentd.vad.webrtc import Detector, Judgement

SURE = 2 / 3  # of the hangover, when the detector is certain that nobody speaks
HINDSIGHT = 32  # frames on which a detector may change its mind; more than any does


class Listener:
    """Feeds frames to the gate and its speech onward, all in the caller's stack.

    Half duplex (no echo canceller): the gate is shut while the speaker plays and for a tail
    after it, so that the device does not answer itself. With a canceller, frames that are only what
    it left of the reply do not open the gate, however much they sound like speech.
    """

    def __init__(
        self,
        settings: Vad,
        *,
        emit: Emit,
        on_speech: Callable[[Speech], None],
        detector: Detector | None = None,
        push_to_talk: bool = False,
    ) -> None:
        self._emit = emit
        self._on_speech = on_speech
        self.warning = ""  # why the detector is not the one that was asked for
        if detector is None:
            detector, self.warning = choose_detector(settings)
        self._detector = detector
        self._gate = Gate(
            GateSettings.from_ms(
                onset_ms=settings.onset_ms,
                hangover_ms=settings.hangover_ms,
                pre_roll_ms=settings.pre_roll_ms,
                min_utterance_ms=settings.min_utterance_ms,
                max_utterance_s=settings.max_utterance_s,
            )
        )
        # Silence beyond doubt needs less patience than a murmur that may be a word.
        self._sure_hangover = max(1, round(settings.hangover_ms * SURE / formats.FRAME_MS))
        self._echoes: deque[bool] = deque([False], maxlen=HINDSIGHT)
        self._shut = False
        self._shut_until_s = 0.0
        self._push_to_talk = push_to_talk
        self._held = False

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
        if self._held or self._push_to_talk:
            # Nobody is asked: a finger decides. What is heard before it is the pre-roll.
            if self._held or not self._is_shut(frame):
                self._pass_on(self._gate.feed(frame, self._held))
            return
        if self._is_shut(frame):
            return
        level_dbfs = formats.level_dbfs(frame.pcm)
        is_open = self._gate.is_open
        judged = self._detector.judge(frame, level_dbfs, is_open=is_open)
        self._echoes.append(frame.is_echo)
        if not is_open and any(self._echoes):
            judged = self._without_echo(judged)
        self._pass_on(
            self._gate.feed(
                frame,
                judged.voiced,
                hindsight=judged.hindsight,
                hangover=self._sure_hangover if judged.is_certain else None,
            )
        )

    def _without_echo(self, judged: Judgement) -> Judgement:
        echoes = list(self._echoes)
        before = echoes[-1 - len(judged.hindsight) : -1]
        hindsight = tuple(
            voiced and not is_echo
            for voiced, is_echo in zip(judged.hindsight, before, strict=False)
        )
        return replace(judged, voiced=judged.voiced and not echoes[-1], hindsight=hindsight)

    def hold(self) -> None:
        """Push to talk: pass on everything as one utterance, through half duplex too."""
        self._held = True

    def release(self) -> None:
        """End what `hold` began; if the gate is anyone's again, it listens as before."""
        if self._held:
            self._held = False
            self._pass_on(self._gate.finish())

    def _is_shut(self, frame: Frame) -> bool:
        return self._shut or frame.at_s < self._shut_until_s

    def cut(self) -> None:
        """End an open utterance now: muted, capture lost, stopping."""
        self._pass_on(self._gate.cut())
        self._detector.reset()

    def shut(self) -> None:
        """Shut the gate for half duplex: the speaker plays."""
        if not self._shut:
            self._shut = True
            if not self._held:
                self.cut()

    def unshut(self, at_s: float) -> None:
        """Open it again for frames from `at_s` on: the reply has drained, plus a tail."""
        self._shut = False
        self._shut_until_s = at_s

    def _pass_on(self, speech: Iterable[Speech]) -> None:
        for value in speech:
            if isinstance(value, UtteranceEnded):
                self._emit(
                    UtteranceHeard(
                        utterance=value.utterance,
                        speech_ms=value.speech_ms,
                        reason=value.reason,
                    )
                )
            self._on_speech(value)  # after the event: what comes of it is an effect
