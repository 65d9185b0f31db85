"""Who may open the gate, why, and until when; and that nothing passes that it forbids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from agentd.vad.attention import Attention, Manner, Mode, Stance
from agentd.vad.gate import COMMAND
from agentd.vad.listener import LATE_S, WHOLE_WORD_S, Listener
from agentd.vad.sparks import Sparks
from agentd.vad.spotter import Ear, Heard, Spotter, SpotterWord
from agentd.vad.webrtc import Judgement

WAKE = Manner(mode=Mode.WAKE_WORD, listen_s=6.0, follow_up_s=8.0)
HALF = replace(WAKE, half_duplex=True, tail_s=0.3)
FRAME_S = 0.02


def called(manner: Manner = WAKE, at_s: float = 10.0) -> Attention:
    return Attention(manner).woken("okay_nabu", at_s - 0.24, at_s)


def answered(manner: Manner = WAKE, *, heard: bool = True) -> Attention:
    """A reply that has ended at second 20."""
    return Attention(manner).reply_began(1).reply_ended(1, 20.0, heard=heard)


def test_an_open_device_lets_everybody_in() -> None:
    """As long as nothing is in the way."""
    view = Attention().at(5.0)
    assert (view.stance, view.reason, view.until_s) == (Stance.OPEN, "open", None)


@pytest.mark.parametrize("mode", [Mode.WAKE_WORD, Mode.PUSH_TO_TALK, Mode.DEAF])
def test_every_other_device_is_asleep_at_first(mode: Mode) -> None:
    """It says what it waits for."""
    attention = Attention(Manner(mode=mode))
    assert not attention.admits(5.0)
    assert attention.at(5.0).stance is Stance.ASLEEP
    assert attention.at(5.0).reason == mode.value
    assert attention.spots(5.0) is (mode is Mode.WAKE_WORD)


def test_a_word_opens_from_the_word_on_and_for_a_while() -> None:
    """What was said before it stays at home."""
    attention = called()
    assert not attention.admits(9.75)
    assert attention.admits(9.76)
    assert attention.at(10.0).reason == "okay_nabu"
    assert attention.at(10.0).until_s == 16.0
    assert not attention.admits(16.0)


@pytest.mark.parametrize("mode", [Mode.OPEN, Mode.PUSH_TO_TALK, Mode.DEAF])
def test_a_word_changes_nothing_where_none_is_listened_for(mode: Mode) -> None:
    """The button of another mode is none of its business."""
    attention = Attention(Manner(mode=mode))
    assert attention.woken("button", 1.0, 1.0) == attention


def test_an_utterance_is_let_in_to_its_end_and_none_after_it() -> None:
    """The time to begin is over; what began goes on. One word, one utterance."""
    speaking = called().utterance_began()
    assert speaking.admits(99.0)
    assert speaking.at(99.0).until_s is None
    assert speaking.utterance_ended(EndReason.MAX_LENGTH).admits(99.0)
    assert not speaking.utterance_ended(EndReason.HANGOVER).admits(11.0)
    assert speaking.utterance_ended(EndReason.DISCARDED).admits(11.0)


def test_another_word_in_an_open_window_makes_it_longer() -> None:
    """And takes back nothing."""
    attention = called(at_s=10.0).woken("hey_mycroft", 11.0, 11.2)
    assert attention.admits(9.8)
    assert attention.at(17.0).reason == "hey_mycroft"


def test_a_reply_is_followed_up_for_a_while() -> None:
    """Without the word, from the end of the reply on."""
    attention = answered()
    assert not attention.admits(19.99)
    assert attention.at(20.0).stance is Stance.FOLLOW_UP
    assert attention.at(20.0).reason == "answered"
    assert attention.admits(27.99)
    assert not attention.admits(28.0)


@pytest.mark.parametrize(
    ("manner", "heard"),
    [
        (replace(WAKE, follow_up_s=0.0), True),
        (WAKE, False),
        (replace(WAKE, only_questions=True), True),
        (replace(WAKE, mode=Mode.DEAF), True),
    ],
)
def test_a_reply_is_not_followed_up(manner: Manner, heard: bool) -> None:
    """Switched off; unheard; no question where only those count; deaf."""
    assert not answered(manner, heard=heard).admits(20.5)


def test_a_question_is_followed_up_where_only_those_are() -> None:
    """As the transcript has it by the end of the reply."""
    manner = replace(WAKE, only_questions=True)
    attention = Attention(manner).reply_began(1).answer(asks=True)
    view = attention.reply_ended(1, 20.0, heard=True).at(20.0)
    assert (view.stance, view.reason) == (Stance.FOLLOW_UP, "asked")


def test_a_thank_you_ends_it() -> None:
    """Before the reply that answers it, in it, and after it."""
    asked = called().utterance_began().utterance_ended(EndReason.HANGOVER).thanks()
    assert not asked.reply_began(1).reply_ended(1, 20.0, heard=True).admits(20.5)
    assert not answered().thanks().admits(20.5)
    assert answered().utterance_began().thanks().admits(20.5)


def test_whoever_stops_a_reply_is_done() -> None:
    """No window opens behind it."""
    attention = Attention(WAKE).reply_began(1).stopped()
    assert not attention.reply_ended(1, 20.0, heard=True).admits(20.5)


def test_a_confirmation_may_be_given_without_the_word() -> None:
    """For as long as it is waited for; never where there is no follow-up at all."""
    assert answered().confirmation_asked(20.0, 30.0).at(49.0).reason == "asked"
    never = Attention(replace(WAKE, follow_up_s=0.0)).confirmation_asked(20.0, 30.0)
    assert not never.admits(21.0)


def test_the_end_of_a_reply_does_not_shorten_a_call() -> None:
    """Said into the last word of a reply."""
    attention = Attention(WAKE).reply_began(1).woken("okay_nabu", 19.7, 19.9)
    attention = attention.reply_ended(1, 20.0, heard=True)
    assert attention.at(20.0).stance is Stance.OPEN
    assert attention.at(20.0).until_s == pytest.approx(25.9)


def test_a_reply_ends_the_follow_up_of_the_one_before() -> None:
    """The device speaks; whoever speaks over it says the word."""
    assert not answered().reply_began(2).admits(20.5)
    assert answered().utterance_began().reply_began(2).admits(20.5)


def test_half_duplex_keeps_the_gate_shut_while_something_plays() -> None:
    """Also where somebody was called; a reply without an end in sight, a sound until its end."""
    attention = called(HALF).reply_began(1)
    assert attention.at(12.0).stance is Stance.HALF_DUPLEX
    assert (attention.at(12.0).reason, attention.at(12.0).until_s) == ("reply", None)
    attention = attention.reply_ended(1, 12.0, heard=False)
    assert attention.at(12.2).reason == "reply"
    assert attention.admits(12.3)
    sounding = called(HALF).sounded(12.0, 1.0)
    assert (sounding.at(13.2).reason, sounding.at(13.2).until_s) == ("sound", 13.3)
    assert sounding.hushed(12.5).admits(12.81)


def test_half_duplex_listens_for_the_word_in_an_alarm_but_not_in_a_reply() -> None:
    """A reply may contain it, and drowns it; an alarm does not."""
    assert Attention(HALF).sounded(12.0, 10.0).spots(13.0)
    assert not Attention(HALF).reply_began(1).spots(13.0)
    assert not Attention(HALF).reply_began(1).reply_ended(1, 13.0, heard=True).spots(13.1)
    assert Attention(WAKE).reply_began(1).spots(13.0)


def test_half_duplex_follows_up_after_the_tail() -> None:
    """What the room still says is no answer."""
    attention = answered(HALF)
    assert not attention.admits(20.29)
    assert attention.at(20.3).stance is Stance.FOLLOW_UP
    assert attention.at(20.3).until_s == 28.3


def test_a_finger_goes_through_half_duplex_but_not_through_mute() -> None:
    """Mute is sovereign."""
    held = Attention(HALF).reply_began(1).hold(True)
    assert held.at(5.0).stance is Stance.HELD
    assert held.hold(True) is held
    assert not held.spots(5.0)
    assert held.mute(True).at(5.0).stance is Stance.MUTED
    assert not held.mute(True).spots(5.0)
    assert not held.hold(False).admits(5.0)


def test_unmuting_opens_nothing() -> None:
    """A word from before the mute is forgotten."""
    assert not called().mute(True).mute(False).admits(10.5)
    assert not answered().mute(True).mute(False).admits(20.5)


def test_another_manner_forgets_who_was_called() -> None:
    """The models turned out to be unusable."""
    attention = called().utterance_began().behaving(replace(WAKE, mode=Mode.DEAF))
    assert not attention.admits(10.5)


# ── nothing passes that it forbids ────────────────────────────────────────────────────────────

MOVES = st.one_of(
    st.tuples(st.just("quiet"), st.integers(1, 60)),
    st.tuples(st.just("talk"), st.integers(1, 60)),
    st.tuples(st.just("word"), st.integers(1, 3)),
    st.tuples(st.just("lose"), st.integers(1, 40)),
    *(
        st.tuples(st.just(name), st.just(0))
        for name in (
            *("mute", "unmute", "hold", "release", "reply", "drained", "unheard", "sound", "hush"),
            *("thanks", "asks", "confirm", "button", "cut", "stopped"),
        )
    ),
)


@dataclass
class LoudDetector:
    """Takes everything loud for speech; sure of silence, and late now and then."""

    name: str = "loud"
    calls: int = 0

    def judge(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> Judgement:
        self.calls += 1
        voiced = level_dbfs > -30.0
        return Judgement(voiced, (True,) * (16 if self.calls % 7 == 0 and voiced else 0))

    def reset(self) -> None:
        self.calls = 0


class LoudSentry:
    """Takes everything for a voice."""

    def is_speech(self, pcm: bytes) -> bool:
        return True

    def reset(self) -> None:
        pass


class WordNetwork:
    """Hears the word in frames of one certain value."""

    def take(self, features: Sequence[float]) -> float | None:
        return float(features[0] == 20_000)


@dataclass
class House:
    """A listener with everything that can happen to it, and a ledger of what was forbidden when."""

    manner: Manner
    keep_word: bool = False
    speech: list[Speech] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    forbidden: dict[int, str] = field(default_factory=dict)
    calls_s: list[float] = field(default_factory=list)
    index: int = 0
    turn: int = 0

    def __post_init__(self) -> None:
        spotter = Spotter(Sparks(LoudSentry(), -60.0))
        ear = Ear(SpotterWord("word", 0.5, 1), WordNetwork())
        spotter.equip(lambda pcm: [[int.from_bytes(pcm[:2], "little", signed=True)]], [ear])
        self.spotter = spotter
        self.listener = Listener(
            Vad(hangover_ms=200),
            emit=self.events.append,
            on_speech=self.speech.append,
            detector=LoudDetector(),
            attention=Attention(self.manner),
            spotter=spotter,
            on_heard=self.heard.append,
            keep_word=self.keep_word,
        )

    @property
    def now_s(self) -> float:
        return self.index * FRAME_S

    def frames(self, count: int, value: int) -> None:
        pcm = formats.to_pcm([value] * 320)
        for _ in range(count):
            before = self.listener.attention
            heard = len([heard for heard in self.heard if not heard.is_near])
            self.listener.hear(Frame(self.index, self.now_s, pcm))
            after = self.listener.attention
            if len([heard for heard in self.heard if not heard.is_near]) > heard:
                self.calls_s.append(self.now_s)
            if not (before.admits(self.now_s) or after.admits(self.now_s)):
                self.forbidden[self.index] = before.at(self.now_s).stance.value
            self.index += 1

    def play(self, name: str, count: int) -> None:
        levels = {"quiet": 0, "talk": 8_000, "word": 20_000}
        if name in levels:
            self.frames(count, levels[name])
        elif name == "lose":
            self.index += count
        elif name == "button":
            self.listener.call("button")
        elif name == "cut":
            self.listener.cut()
        else:
            self.listener.attend(self.after(name))

    def after(self, name: str) -> Attention:
        attention, now = self.listener.attention, self.now_s
        if name == "reply":
            self.turn += 1
        steps = {
            "mute": lambda: attention.mute(True),
            "unmute": lambda: attention.mute(False),
            "hold": lambda: attention.hold(True),
            "release": lambda: attention.hold(False),
            "reply": lambda: attention.reply_began(self.turn),
            "drained": lambda: attention.reply_ended(self.turn, now, heard=True),
            "unheard": lambda: attention.reply_ended(self.turn, now, heard=False),
            "sound": lambda: attention.sounded(now, 0.5),
            "hush": lambda: attention.hushed(now),
            "thanks": attention.thanks,
            "asks": lambda: attention.answer(asks=True),
            "confirm": lambda: attention.confirmation_asked(now, 3.0),
            "stopped": attention.stopped,
        }
        return steps[name]()

    @property
    def passed(self) -> list[int]:
        """The indices of the frames that were sent on; filled-in silence is none."""
        found: list[int] = []
        for value in self.speech:
            if isinstance(value, UtteranceStarted | UtteranceAudio) and any(value.pcm):
                first = round(value.at_s / FRAME_S)
                found += range(first, first + len(value.pcm) // 640)
        return found


@given(
    half_duplex=st.booleans(),
    follow_up_s=st.sampled_from([0.0, 1.0]),
    mode=st.sampled_from([Mode.WAKE_WORD, Mode.WAKE_WORD, Mode.DEAF]),
    keep_word=st.booleans(),
    moves=st.lists(MOVES, max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_no_order_of_events_lets_a_frame_pass_that_attention_forbids(
    half_duplex: bool,
    follow_up_s: float,
    mode: Mode,
    keep_word: bool,
    moves: list[tuple[str, int]],
) -> None:
    """But for the word's own end, just before it was certain; and never what was muted or shut."""
    manner = Manner(mode, 1.0, follow_up_s, False, half_duplex, 0.1)
    house = House(manner, keep_word)
    for name, count in moves:
        house.play(name, count)
    back_s = WHOLE_WORD_S if keep_word else LATE_S
    for index in house.passed:
        stance = house.forbidden.get(index)
        if stance is None:
            continue
        at_s = index * FRAME_S
        belongs = any(call_s - back_s <= at_s <= call_s for call_s in house.calls_s)
        assert stance == "asleep", (index, moves)
        assert belongs, (index, moves)
    # Every utterance that began has ended, or goes on; none overlaps another.
    assert len(set(house.passed)) == len(house.passed)
    assert_in_order(house.speech)


def assert_in_order(speech: Sequence[Speech]) -> None:
    under_way = 0
    for value in speech:
        under_way += isinstance(value, UtteranceStarted) - isinstance(value, UtteranceEnded)
        assert under_way in (0, 1)


@given(follow_up_s=st.sampled_from([0.0, 1.0]), moves=st.lists(MOVES, max_size=60))
@settings(max_examples=200, deadline=None)
def test_without_word_button_and_reply_nothing_ever_passes(
    follow_up_s: float, moves: list[tuple[str, int]]
) -> None:
    """Whatever else happens, and however loud it is."""
    house = House(Manner(Mode.WAKE_WORD, 1.0, follow_up_s))
    openers = {"word", "button", "hold", "drained", "confirm"}
    for name, count in moves:
        if name not in openers:
            house.play(name, count)
    assert house.speech == []


@given(moves=st.lists(MOVES, max_size=60))
@settings(max_examples=200, deadline=None)
def test_every_opening_has_a_cause_that_is_not_over(moves: list[tuple[str, int]]) -> None:
    """By a ledger of its own: a word or the button 1 s ago, a reply or a question, a finger."""
    house = House(Manner(Mode.WAKE_WORD, 1.0, 1.0))
    until_s = -math.inf
    held = False
    for name, count in moves:
        calls = len(house.calls_s)
        house.play(name, count)
        held = name == "hold" or (held and name != "release")
        length_s = {"button": 1.0, "drained": 1.0, "confirm": 3.0}.get(name, 0.0)
        if length_s:
            until_s = max(until_s, house.now_s + length_s)
        if len(house.calls_s) > calls:
            until_s = max(until_s, house.calls_s[-1] + 1.0 + 2 * FRAME_S)
        attention = house.listener.attention
        if attention.admits(house.now_s) and not attention.speaking:
            assert held or house.now_s <= until_s, (name, moves)


# ── the word and the command ──────────────────────────────────────────────────────────────────


def sent_ms(house: House) -> float:
    return len(house.passed) * 20.0


def test_one_breath() -> None:
    """The command follows the word without a pause: the utterance begins at the word's end."""
    house = House(WAKE)
    house.frames(100, 100)
    house.frames(3, 20_000)
    (started, *_) = house.speech
    assert isinstance(started, UtteranceStarted)
    assert started.at_s == pytest.approx(102 * FRAME_S - LATE_S, abs=1.5 * FRAME_S)
    house.frames(2, 20_000)
    house.frames(50, 8_000)
    house.frames(30, 0)
    (ended,) = [value for value in house.speech if isinstance(value, UtteranceEnded)]
    assert ended.reason is EndReason.HANGOVER
    assert house.passed == list(range(house.passed[0], house.passed[-1] + 1))
    house.frames(100, 8_000)
    assert sum(isinstance(value, UtteranceStarted) for value in house.speech) == 1


def test_a_pause_after_the_word_is_waited_for() -> None:
    """Whoever looks for the light first is heard, as one utterance."""
    house = House(WAKE)
    house.frames(100, 100)
    house.frames(1, 20_000)
    house.frames(4, 8_000)  # what is left of the word
    house.frames(40, 100)
    house.frames(20, 8_000)
    house.frames(30, 100)
    (ended,) = [value for value in house.speech if isinstance(value, UtteranceEnded)]
    assert ended.reason is EndReason.HANGOVER
    assert ended.speech_ms == pytest.approx(400, abs=60)


def test_the_end_of_a_word_is_no_command() -> None:
    """Called and nothing said: the utterance is discarded when the patience is over."""
    house = House(WAKE)
    house.frames(100, 100)
    house.frames(1, 20_000)
    house.frames(COMMAND - 1, 8_000)
    house.frames(290, 100)
    assert house.listener.is_open
    house.frames(20, 100)
    (ended,) = [value for value in house.speech if isinstance(value, UtteranceEnded)]
    assert ended.reason is EndReason.DISCARDED


def test_the_word_is_kept_if_the_settings_want_it() -> None:
    """From its beginning on, and nothing older than that."""
    house = House(WAKE, keep_word=True)
    house.frames(150, 100)
    house.frames(2, 20_000)
    assert sent_ms(house) == pytest.approx(WHOLE_WORD_S * 1000, abs=20)


def test_a_word_in_an_alarm_opens_when_it_has_fallen_silent() -> None:
    """Half duplex: the word is heard, what is said over the alarm is not."""
    house = House(HALF)
    house.frames(50, 100)
    house.play("sound", 0)
    house.frames(2, 20_000)
    assert len(house.heard) == 1
    house.play("hush", 0)
    house.frames(14, 8_000)
    assert house.speech == []
    house.frames(20, 8_000)
    (first, *_) = house.speech
    assert isinstance(first, UtteranceStarted)
    assert first.at_s >= 52 * FRAME_S + 0.3 - FRAME_S


def test_a_reply_does_not_say_the_word() -> None:
    """What the canceller left of it is nobody's voice."""
    house = House(WAKE)
    house.frames(60, 100)
    for value in [100] * 60 + [20_000] * 60:
        pcm = formats.to_pcm([value] * 320)
        house.listener.hear(Frame(house.index, house.now_s, pcm, is_echo=True))
        house.index += 1
    assert house.speech == []


def test_a_stop_word_opens_nothing() -> None:
    """It is reported, and that is all."""
    house = House(WAKE)
    ear = Ear(SpotterWord("stop", 0.5, 1, stops=True), WordNetwork())
    house.spotter.equip(lambda pcm: [[int.from_bytes(pcm[:2], "little", signed=True)]], [ear])
    house.frames(60, 100)
    house.frames(3, 20_000)
    house.frames(60, 8_000)
    assert [heard.word.name for heard in house.heard] == ["stop"]
    assert house.speech == []
