"""From frames to utterances, with the shutter of half duplex."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from agentd.audio import formats
from agentd.config.settings import Vad
from agentd.events import (
    EndReason,
    Event,
    Frame,
    Speech,
    UtteranceEnded,
    UtteranceHeard,
    UtteranceStarted,
)
from agentd.vad.attention import Attention, Manner
from agentd.vad.listener import Listener
from agentd.vad.webrtc import Judgement


@dataclass
class LoudDetector:
    """Takes everything above -30 dBFS for speech."""

    name: str = "loud"
    resets: int = 0

    def judge(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> Judgement:
        return Judgement(level_dbfs > -30.0, is_certain=level_dbfs < -100.0)

    def reset(self) -> None:
        self.resets += 1


@dataclass
class Bench:
    """A listener and what came out of it."""

    speech: list[Speech] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    detector: LoudDetector = field(default_factory=LoudDetector)
    index: int = 0

    def __post_init__(self) -> None:
        self.listener = Listener(
            Vad(hangover_ms=150),
            emit=self.events.append,
            on_speech=self.speech.append,
            detector=self.detector,
            attention=Attention(Manner(half_duplex=True, tail_s=0.3)),
        )

    @property
    def attention(self) -> Attention:
        return self.listener.attention

    def attend(self, attention: Attention) -> None:
        self.listener.attend(attention)

    def hear(
        self, frames: int, *, loud: bool = False, level: int = 0, is_echo: bool = False
    ) -> None:
        pcm = formats.to_pcm([8_000 if loud else level] * 320)
        for _ in range(frames):
            self.listener.hear(Frame(self.index, self.index * 0.02, pcm, is_echo))
            self.index += 1

    def onsets_s(self) -> list[float]:
        return [value.onset_s for value in self.speech if isinstance(value, UtteranceStarted)]

    def reasons(self) -> list[EndReason]:
        return [value.reason for value in self.speech if isinstance(value, UtteranceEnded)]


def test_an_utterance_is_told_once_it_ended() -> None:
    """Its length and the reason, never its sound."""
    bench = Bench()
    bench.hear(10, loud=True)
    opened = bench.listener.is_open
    assert opened
    bench.hear(5, loud=False)
    (event,) = bench.events
    assert isinstance(event, UtteranceHeard)
    assert (event.utterance, event.reason) == (1, EndReason.HANGOVER)
    assert event.speech_ms == pytest.approx(200.0)
    assert not bench.listener.is_open
    assert bench.listener.detector == "loud"


def test_certain_silence_ends_an_utterance_sooner() -> None:
    """Two thirds of the hangover; a murmur gets all of it."""
    certain, murmur = Bench(), Bench()
    certain.hear(10, loud=True)
    certain.hear(5, loud=False)
    assert certain.reasons() == [EndReason.HANGOVER]
    murmur.hear(10, loud=True)
    murmur.hear(7, level=100)
    assert murmur.reasons() == []
    murmur.hear(1, level=100)
    assert murmur.reasons() == [EndReason.HANGOVER]


def test_mute_cuts_and_the_detector_forgets() -> None:
    """Nothing from before is carried over."""
    bench = Bench()
    bench.hear(10, loud=True)
    bench.listener.cut()
    assert bench.reasons() == [EndReason.CUT]
    assert bench.detector.resets == 1


def test_nothing_is_heard_while_the_shutter_is_shut() -> None:
    """Half duplex: the device does not answer itself."""
    bench = Bench()
    bench.hear(10, loud=True)
    bench.attend(bench.attention.reply_began(1))
    bench.attend(bench.attention.reply_began(2))
    bench.hear(50, loud=True)
    assert bench.reasons() == [EndReason.CUT]
    assert bench.detector.resets == 1


def test_the_tail_is_deaf_too() -> None:
    """The room still rings when the speaker has fallen silent."""
    bench = Bench()
    bench.attend(bench.attention.reply_began(1))
    bench.hear(10, loud=True)
    bench.attend(bench.attention.reply_ended(1, 0.1, heard=True))
    bench.hear(10, loud=True)
    assert bench.speech == []
    bench.hear(10, loud=True)
    (started, *_) = bench.speech
    assert started.at_s == pytest.approx(20 * 0.02)


def test_what_is_left_of_a_reply_does_not_open_the_gate() -> None:
    """However much it sounds like speech; a voice in it does."""
    bench = Bench()
    bench.hear(50, loud=True, is_echo=True)
    assert bench.onsets_s() == []
    bench.hear(5, loud=True)
    assert bench.onsets_s() == [pytest.approx(1.0)]


def test_an_open_gate_is_held_as_ever() -> None:
    """Whose words began over a reply is heard to the end."""
    bench = Bench()
    bench.hear(10, loud=True)
    bench.hear(30, loud=True, is_echo=True)
    assert bench.reasons() == []
    bench.hear(10)
    assert bench.reasons() == [EndReason.HANGOVER]


def test_second_thoughts_do_not_make_speech_of_a_reply() -> None:
    """A detector that wakes late calls its whole backlog speech; the echoes in it stay echoes."""

    @dataclass
    class LateDetector(LoudDetector):
        heard: int = 0

        def judge(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> Judgement:
            self.heard += 1
            return Judgement(self.heard == 12, hindsight=(True,) * 11 * (self.heard == 12))

    bench = Bench(detector=LateDetector())
    bench.hear(8, loud=True, is_echo=True)
    bench.hear(4, loud=True)
    assert bench.onsets_s() == [pytest.approx(8 * 0.02)]
