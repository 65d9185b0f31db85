"""A finger instead of a detector: push to talk."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentd.audio import formats
from agentd.config.settings import Vad
from agentd.events import (
    EndReason,
    Event,
    Frame,
    Speech,
    UtteranceAudio,
    UtteranceEnded,
    UtteranceStarted,
)
from agentd.vad.attention import Attention, Manner, Mode
from agentd.vad.listener import Listener


@dataclass
class Bench:
    """A listener in push-to-talk mode; every frame is loud unless it says otherwise."""

    speech: list[Speech] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    index: int = 0

    def __post_init__(self) -> None:
        self.listener = Listener(
            Vad(hangover_ms=100, detector="webrtc"),
            emit=self.events.append,
            on_speech=self.speech.append,
            attention=Attention(Manner(mode=Mode.PUSH_TO_TALK, half_duplex=True)),
        )

    def hear(self, frames: int, level: int = 8_000) -> None:
        for _ in range(frames):
            pcm = formats.to_pcm([level, -level] * 160)
            self.listener.hear(Frame(self.index, self.index * 0.02, pcm))
            self.index += 1

    def hold(self, held: bool) -> None:
        self.listener.attend(self.listener.attention.hold(held))

    def shut(self) -> None:
        self.listener.attend(self.listener.attention.reply_began(1))

    @property
    def heard_ms(self) -> float:
        parts = [v.pcm for v in self.speech if isinstance(v, UtteranceStarted | UtteranceAudio)]
        return sum(formats.duration_ms(pcm, 16_000) for pcm in parts)


def test_nothing_leaves_while_the_button_is_up() -> None:
    """However loud it is."""
    bench = Bench()
    bench.hear(500)
    assert bench.speech == []
    assert not bench.listener.is_open


def test_everything_held_is_one_utterance_with_its_pre_roll() -> None:
    """Pauses longer than the hangover do not end it; the release does, at once."""
    bench = Bench()
    bench.hear(50)
    bench.hold(True)
    bench.hear(20)
    bench.hear(200, level=0)
    bench.hear(20)
    assert sum(isinstance(v, UtteranceEnded) for v in bench.speech) == 0
    bench.hold(False)
    ended = [v for v in bench.speech if isinstance(v, UtteranceEnded)]
    assert [v.reason for v in ended] == [EndReason.HANGOVER]
    assert ended[0].speech_ms == 240 * 20
    assert bench.heard_ms == 240 * 20 + 300
    bench.hear(100)
    assert not bench.listener.is_open


def test_a_touch_is_no_word() -> None:
    """Less than the shortest utterance is discarded."""
    bench = Bench()
    bench.hold(True)
    bench.hear(4)
    bench.hold(False)
    (ended,) = [v for v in bench.speech if isinstance(v, UtteranceEnded)]
    assert ended.reason is EndReason.DISCARDED


def test_holding_goes_through_the_shutter() -> None:
    """Who presses in a reply is heard from the press on, and the reply before it is not."""
    bench = Bench()
    bench.shut()
    bench.hear(50)
    bench.hold(True)
    bench.hear(50)
    bench.shut()
    bench.hear(50)
    bench.hold(False)
    assert bench.heard_ms == 100 * 20


def test_a_release_without_a_press_changes_nothing() -> None:
    """A button that was down when the device started."""
    bench = Bench()
    bench.hold(False)
    bench.hold(False)
    assert bench.speech == []


def test_a_split_utterance_ends_with_the_release() -> None:
    """Held for longer than the longest utterance, it goes on in parts until the finger lifts."""
    bench = Bench()
    bench.hold(True)
    bench.hear(3_000)
    bench.hold(False)
    bench.hear(10)
    assert not bench.listener.is_open
    reasons = [v.reason for v in bench.speech if isinstance(v, UtteranceEnded)]
    assert reasons == [EndReason.MAX_LENGTH]
