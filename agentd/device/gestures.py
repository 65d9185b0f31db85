"""One button: edges and time become gestures, a gesture and the facts become an action.

    edge(pressed, at) ──► Recogniser ──► tap, double tap, hold, press, release ──► decide ──► Action

Pure: the shell in `button.py` brings edges and time.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import Literal

from agentd.device.state import DeviceState, Facts, derive

HOLD_S = 3.0
DOUBLE_TAP_S = 0.4  # from one release to the next press

ButtonMode = Literal["tap", "push-to-talk"]


class Gesture(enum.Enum):
    """What a finger did."""

    PRESS = "press"
    RELEASE = "release"
    TAP = "tap"  # released before it was a hold
    DOUBLE_TAP = "double_tap"  # the second of two taps; the first was a tap of its own
    HOLD = "hold"  # still down after `HOLD_S`


class ButtonAction(enum.Enum):
    """What the device is to do about it."""

    TALK = "talk"  # listen now: reconnect, open the window, say so by light
    STOP_REPLY = "stop_reply"
    SILENCE = "silence"  # the timer or alarm
    CONFIRM = "confirm"  # yes to what the model was told to ask
    MUTE = "mute"
    UNMUTE = "unmute"
    SAY_MUTED = "say_muted"
    TELL = "tell"  # say aloud what is wrong, if anything
    TALK_BEGIN = "talk_begin"  # push to talk: the gate opens
    TALK_END = "talk_end"


@dataclass(frozen=True, slots=True)
class Recogniser:
    """A button between two edges; every method returns the next one."""

    pressed_at_s: float | None = None
    held: bool = False
    is_second: bool = False  # this press followed a tap closely
    tapped_at_s: float = -math.inf  # when the last tap ended

    @property
    def deadline_s(self) -> float | None:
        """Return when to call `tick` although no edge came."""
        if self.pressed_at_s is None or self.held:
            return None
        return self.pressed_at_s + HOLD_S

    def edge(self, pressed: bool, now: float) -> tuple[Recogniser, tuple[Gesture, ...]]:
        """Take an edge; repeated ones (contact bounce, a lost edge) change nothing."""
        if pressed == (self.pressed_at_s is not None):
            return self, ()
        if pressed:
            second = now - self.tapped_at_s <= DOUBLE_TAP_S
            return Recogniser(pressed_at_s=now, is_second=second), (Gesture.PRESS,)
        after, late = self.tick(now)
        return _released(after, now, late)

    def tick(self, now: float) -> tuple[Recogniser, tuple[Gesture, ...]]:
        """Take the time; the press may have become a hold."""
        deadline_s = self.deadline_s
        if deadline_s is None or now < deadline_s:
            return self, ()
        return replace(self, held=True), (Gesture.HOLD,)


def _released(
    button: Recogniser, now: float, before: tuple[Gesture, ...]
) -> tuple[Recogniser, tuple[Gesture, ...]]:
    if button.held:
        return Recogniser(), (*before, Gesture.RELEASE)
    if button.is_second:
        return Recogniser(), (Gesture.RELEASE, Gesture.DOUBLE_TAP)
    return Recogniser(tapped_at_s=now), (Gesture.RELEASE, Gesture.TAP)


def decide(gesture: Gesture, facts: Facts, now: float, mode: ButtonMode) -> ButtonAction | None:
    """Return what `gesture` means now; None: nothing.

    Whatever is on top comes first: a ringing alarm is silenced before anything else is thought of,
    a reply is stopped, then a question that has been heard is answered with yes.
    """
    if mode == "push-to-talk":
        return _push_to_talk(gesture, facts, now)
    if gesture is Gesture.TAP:
        return _tap(facts, now)
    if gesture is Gesture.HOLD:
        return ButtonAction.UNMUTE if facts.muted else ButtonAction.MUTE
    return ButtonAction.TELL if gesture is Gesture.DOUBLE_TAP else None


def _push_to_talk(gesture: Gesture, facts: Facts, now: float) -> ButtonAction | None:
    if gesture is Gesture.RELEASE:
        return ButtonAction.TALK_END
    if gesture is Gesture.DOUBLE_TAP:
        # a press alone is how one speaks, also to say no
        return ButtonAction.CONFIRM if facts.confirms(now) else ButtonAction.TELL
    if gesture is not Gesture.PRESS:
        return None
    return _before_talk(facts) or ButtonAction.TALK_BEGIN


def _tap(facts: Facts, now: float) -> ButtonAction:
    busy = (DeviceState.THINKING, DeviceState.SPEAKING)
    if facts.speaking is not None or derive(facts, now).state in busy:
        # also the question itself: whoever stops it has not said yes to it
        return _before_talk(replace(facts, muted_by="")) or ButtonAction.STOP_REPLY
    if facts.ringing_since_s is None and facts.confirms(now):
        return ButtonAction.CONFIRM
    return _before_talk(facts) or ButtonAction.TALK


def _before_talk(facts: Facts) -> ButtonAction | None:
    if facts.ringing_since_s is not None:
        return ButtonAction.SILENCE
    return ButtonAction.SAY_MUTED if facts.muted else None
