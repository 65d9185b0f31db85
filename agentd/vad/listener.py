"""From microphone frames to utterances: level, wake word, detector, gate, as attention allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from agentd.audio import formats
from agentd.audio.formats import FRAME_MS, FRAME_S
from agentd.config.settings import Vad
from agentd.events import (
    Emit,
    Frame,
    Speech,
    UtteranceEnded,
    UtteranceHeard,
    UtteranceStarted,
)
from agentd.vad.attention import Attention, Mode
from agentd.vad.choose import choose_detector
from agentd.vad.gate import Gate, GateSettings
from agentd.vad.spotter import Heard, Spotter
from agentd.vad.webrtc import Detector, Judgement

SURE = 2 / 3  # of the hangover, when the detector is certain that nobody speaks
HINDSIGHT = 32  # frames on which a detector may change its mind; more than any does
KEPT = 100  # frames from before a word: 2 s
PREPARE = 25  # of them the detector hears when a word was heard: it knows the room then
# A word is certain 60 ms after its end at the median, 190 ms at the latest
# (docs/developer/voice-gate.md): what follows it without a pause is whole if this much is kept.
LATE_S = 0.24
WHOLE_WORD_S = 1.3  # the longest of the bundled words, slowly, and some
OWN_VOICE = 40  # frames in which somebody else must have been heard, not only our own reply
OTHERS_SHARE = 1 / 3  # of them


class Listener:
    """Feeds frames to the gate and its speech onward, all in the caller's stack.

    Which frames may reach the gate is for `Attention` to say: the listener asks it for every one.
    With an echo canceller, frames that are only what it left of a reply do not open the gate,
    however much they sound like speech, and a reply does not say the word.
    """

    def __init__(
        self,
        settings: Vad,
        *,
        emit: Emit,
        on_speech: Callable[[Speech], None],
        detector: Detector | None = None,
        attention: Attention | None = None,
        spotter: Spotter | None = None,
        on_heard: Callable[[Heard], None] = lambda _heard: None,
        keep_word: bool = False,
    ) -> None:
        self._emit = emit
        self._on_speech = on_speech
        self._on_heard = on_heard
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
        self._sure_hangover = max(1, round(settings.hangover_ms * SURE / FRAME_MS))
        self._echoes: deque[bool] = deque([False], maxlen=OWN_VOICE)
        self._attention = attention or Attention()
        self._spotter = spotter
        self._before: deque[Frame] = deque(maxlen=KEPT)
        self._back_s = WHOLE_WORD_S if keep_word else LATE_S
        self._now_s = -1.0  # after the newest frame

    @property
    def detector(self) -> str:
        """Return the name of the detector in use."""
        return self._detector.name

    @property
    def is_open(self) -> bool:
        """Return whether an utterance is under way."""
        return self._gate.is_open

    @property
    def attention(self) -> Attention:
        """Return who may open the gate."""
        return self._attention

    def attend(self, attention: Attention) -> None:
        """Take another attention; what is under way ends now where it is not let in any more."""
        before, self._attention = self._attention, attention
        if before.held and not attention.held and not attention.muted:
            self._pass_on(self._gate.finish())
        closes = attention.muted or (
            not attention.held
            and attention.is_shut(self._now_s)
            and not before.is_shut(self._now_s)
        )
        if closes or (self._gate.is_open and not attention.admits(self._now_s)):
            self.cut()

    def hear(self, frame: Frame) -> None:
        """Take the next frame from the microphone."""
        self._now_s = frame.at_s + FRAME_S
        level_dbfs = formats.level_dbfs(frame.pcm)
        self._echoes.append(frame.is_echo)
        if self._spotter is not None and self._attention.spots(frame.at_s):
            self._before.append(frame)
            if self._spot(self._spotter, frame, level_dbfs):
                return
        attention = self._attention
        if attention.muted:
            self._gate.cut()
        elif attention.held or attention.manner.mode is Mode.PUSH_TO_TALK:
            # Nobody is asked: a finger decides. What is heard before it is the pre-roll.
            if attention.held or not attention.is_shut(frame.at_s):
                self._pass_on(self._gate.feed(frame, attention.held))
        elif attention.admits(frame.at_s):
            self._judge(frame, level_dbfs)
        elif self._gate.is_open:
            self.cut()
        else:
            self._gate.cut()  # nothing from before is the pre-roll of what is let in later

    def _judge(self, frame: Frame, level_dbfs: float) -> None:
        is_open = self._gate.is_open
        judged = self._detector.judge(frame, level_dbfs, is_open=is_open)
        if not is_open and any(list(self._echoes)[-HINDSIGHT:]):
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

    def _spot(self, spotter: Spotter, frame: Frame, level_dbfs: float) -> bool:
        """Look for a word; return whether it has opened the gate, with this frame."""
        for heard in spotter.hear(frame, level_dbfs):
            if heard.is_near or not self._is_our_own_voice():
                self._on_heard(heard)
                if not heard.is_near and not heard.word.stops:
                    return self.call(heard.word.name, heard.at_s - self._back_s)
        return False

    def _is_our_own_voice(self) -> bool:
        others = sum(not is_echo for is_echo in self._echoes)
        return others < len(self._echoes) * OTHERS_SHARE

    def call(self, by: str, from_s: float | None = None) -> bool:
        """Open the gate from `from_s` on (now, if left out), because of a word or the button.

        Return whether it is open with the newest frame in it. Where half duplex still keeps it
        shut it opens by voice afterwards.
        """
        now_s = self._now_s if from_s is None else from_s
        self._attention = self._attention.woken(by, now_s, self._now_s)
        attention = self._attention
        frames = self._admitted()
        if attention.manner.mode is not Mode.WAKE_WORD or self._gate.is_open or not frames:
            return False
        self._detector.reset()
        for frame in self._last(PREPARE):
            self._detector.judge(frame, formats.level_dbfs(frame.pcm), is_open=False)
        self._pass_on(self._gate.admit(frames, round(attention.manner.listen_s / FRAME_S)))
        return True

    def _admitted(self) -> list[Frame]:
        """Return the newest frames that may be sent, without a gap between them."""
        frames = list(self._before)
        first = len(frames)
        while first and self._attention.admits(frames[first - 1].at_s):
            if first < len(frames) and frames[first].index != frames[first - 1].index + 1:
                break
            first -= 1
        return frames[first:]

    def _last(self, count: int) -> Sequence[Frame]:
        return list(self._before)[-count:]

    def cut(self) -> None:
        """End an open utterance now: muted, capture lost, half duplex, stopping."""
        self._pass_on(self._gate.cut())
        self._detector.reset()
        self._before.clear()
        if self._spotter is not None:
            self._spotter.forget()

    def _pass_on(self, speech: Iterable[Speech]) -> None:
        for value in speech:
            if isinstance(value, UtteranceStarted):
                self._attention = self._attention.utterance_began()
            elif isinstance(value, UtteranceEnded):
                self._attention = self._attention.utterance_ended(value.reason)
                self._emit(
                    UtteranceHeard(
                        utterance=value.utterance,
                        speech_ms=value.speech_ms,
                        reason=value.reason,
                    )
                )
            self._on_speech(value)  # after the event: what comes of it is an effect
