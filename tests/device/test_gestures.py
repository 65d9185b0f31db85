"""What a finger on the button means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd import events as e
from agentd.device.gestures import (
    DOUBLE_TAP_S,
    HOLD_S,
    ButtonAction,
    ButtonMode,
    Gesture,
    Recogniser,
    decide,
)
from agentd.device.state import Facts
from tests.device.builders import (
    ASKED,
    CONFIRMED,
    LAPSED,
    MUTED,
    READY,
    RINGING,
    drained,
    opened,
    reply,
    started,
)

NOW = 1_000.0


def gestures(*edges: tuple[bool, float]) -> list[Gesture]:
    """Return the gestures of these edges, with the ticks that a shell would make."""
    button = Recogniser()
    seen: list[Gesture] = []
    for pressed, at_s in edges:
        if button.deadline_s is not None and button.deadline_s <= at_s:
            button, more = button.tick(button.deadline_s)
            seen += more
        button, more = button.edge(pressed, at_s)
        seen += more
    return seen


def facts_after(*happened: e.Event) -> Facts:
    """Return the facts of a device that is up and to which this happened."""
    facts = Facts().after(READY, NOW)
    for event in happened:
        facts = facts.after(event, NOW)
    return facts


def test_tap() -> None:
    """Down and up again is a tap."""
    assert gestures((True, 0.0), (False, 0.2)) == [Gesture.PRESS, Gesture.RELEASE, Gesture.TAP]


def test_long_press_below_hold_is_a_tap() -> None:
    """A thoughtful finger still taps."""
    assert gestures((True, 0.0), (False, HOLD_S - 0.01))[-1] is Gesture.TAP


def test_hold_is_told_while_the_finger_is_down() -> None:
    """A hold comes after three seconds, not at the release, and is no tap."""
    button, _ = Recogniser().edge(True, 10.0)
    assert button.deadline_s == 10.0 + HOLD_S
    assert button.tick(12.9) == (button, ())
    button, seen = button.tick(13.0)
    assert seen == (Gesture.HOLD,)
    assert button.deadline_s is None
    assert button.tick(20.0) == (button, ())
    assert button.edge(False, 21.0)[1] == (Gesture.RELEASE,)


def test_late_tick_does_not_lose_a_hold() -> None:
    """If the loop was too busy to tick, the release still tells of the hold."""
    button, _ = Recogniser().edge(True, 0.0)
    assert button.edge(False, 4.0)[1] == (Gesture.HOLD, Gesture.RELEASE)


def test_double_tap() -> None:
    """Two quick taps: the first acts at once, the second is the double tap."""
    seen = gestures((True, 0.0), (False, 0.1), (True, 0.1 + DOUBLE_TAP_S), (False, 0.7))
    taps = [g for g in seen if g in (Gesture.TAP, Gesture.DOUBLE_TAP)]
    assert taps == [Gesture.TAP, Gesture.DOUBLE_TAP]


def test_slow_second_tap_is_a_tap() -> None:
    """Two taps further apart are two taps."""
    seen = gestures((True, 0.0), (False, 0.1), (True, 0.6), (False, 0.7))
    assert seen.count(Gesture.TAP) == 2


def test_third_tap_begins_anew() -> None:
    """After a double tap the next quick tap is a first one."""
    edges = [(down, 0.1 * i) for i, down in enumerate([True, False] * 3)]
    assert [g for g in gestures(*edges) if g in (Gesture.TAP, Gesture.DOUBLE_TAP)] == [
        *(Gesture.TAP, Gesture.DOUBLE_TAP, Gesture.TAP)
    ]


def test_tap_and_hold_is_a_hold() -> None:
    """A hold right after a tap is a hold."""
    assert gestures((True, 0.0), (False, 0.1), (True, 0.2), (False, 4.0))[-2:] == [
        *(Gesture.HOLD, Gesture.RELEASE)
    ]


def test_repeated_edges_are_nothing() -> None:
    """Bounce and lost edges: the same level again is no gesture."""
    assert gestures((False, 0.0), (True, 0.1), (True, 0.11))[1:] == []


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=20))
def test_presses_and_releases_alternate(edges: list[tuple[bool, float]]) -> None:
    """In any rain of edges, every press has one release and one meaning."""
    at_s, timed = 0.0, []
    for pressed, pause_s in edges:
        at_s += pause_s
        timed.append((pressed, at_s))
    seen = gestures(*timed)
    down_up = [g for g in seen if g in (Gesture.PRESS, Gesture.RELEASE)]
    assert down_up == [Gesture.PRESS, Gesture.RELEASE] * (len(down_up) // 2) + (
        [Gesture.PRESS] if len(down_up) % 2 else []
    )
    meanings = [g for g in seen if g in (Gesture.TAP, Gesture.DOUBLE_TAP, Gesture.HOLD)]
    assert down_up.count(Gesture.RELEASE) <= len(meanings) <= down_up.count(Gesture.PRESS)


@pytest.mark.parametrize(
    ("happened", "gesture", "action"),
    [
        ([], Gesture.TAP, ButtonAction.TALK),
        ([opened()], Gesture.TAP, ButtonAction.TALK),
        ([reply(), drained()], Gesture.TAP, ButtonAction.TALK),
        ([reply()], Gesture.TAP, ButtonAction.STOP_REPLY),
        ([started()], Gesture.TAP, ButtonAction.STOP_REPLY),
        ([RINGING], Gesture.TAP, ButtonAction.SILENCE),
        ([RINGING, MUTED], Gesture.TAP, ButtonAction.SILENCE),
        ([RINGING, reply()], Gesture.TAP, ButtonAction.SILENCE),
        ([MUTED], Gesture.TAP, ButtonAction.SAY_MUTED),
        ([MUTED, reply()], Gesture.TAP, ButtonAction.STOP_REPLY),
        ([], Gesture.HOLD, ButtonAction.MUTE),
        ([MUTED], Gesture.HOLD, ButtonAction.UNMUTE),
        ([], Gesture.DOUBLE_TAP, ButtonAction.TELL),
        ([], Gesture.PRESS, None),
        ([], Gesture.RELEASE, None),
        ([ASKED], Gesture.TAP, ButtonAction.CONFIRM),
        ([reply(), ASKED, drained()], Gesture.TAP, ButtonAction.CONFIRM),
        ([MUTED, ASKED], Gesture.TAP, ButtonAction.CONFIRM),
        ([RINGING, ASKED], Gesture.TAP, ButtonAction.SILENCE),
        ([ASKED, reply()], Gesture.TAP, ButtonAction.STOP_REPLY),
        ([ASKED, started()], Gesture.TAP, ButtonAction.STOP_REPLY),
        ([ASKED, CONFIRMED], Gesture.TAP, ButtonAction.TALK),
        ([ASKED, LAPSED], Gesture.TAP, ButtonAction.TALK),
        ([ASKED], Gesture.HOLD, ButtonAction.MUTE),
        ([ASKED], Gesture.DOUBLE_TAP, ButtonAction.TELL),
    ],
)
def test_tap_mode(happened: list[e.Event], gesture: Gesture, action: ButtonAction | None) -> None:
    """In tap mode a gesture means what is on top of the ladder."""
    assert decide(gesture, facts_after(*happened), NOW, "tap") is action


@pytest.mark.parametrize(
    ("happened", "gesture", "action"),
    [
        ([], Gesture.PRESS, ButtonAction.TALK_BEGIN),
        ([reply()], Gesture.PRESS, ButtonAction.TALK_BEGIN),
        ([], Gesture.RELEASE, ButtonAction.TALK_END),
        ([MUTED], Gesture.RELEASE, ButtonAction.TALK_END),
        ([RINGING], Gesture.PRESS, ButtonAction.SILENCE),
        ([MUTED], Gesture.PRESS, ButtonAction.SAY_MUTED),
        ([], Gesture.TAP, None),
        ([], Gesture.HOLD, None),
        ([], Gesture.DOUBLE_TAP, ButtonAction.TELL),
        ([ASKED], Gesture.PRESS, ButtonAction.TALK_BEGIN),
        ([ASKED], Gesture.TAP, None),
        ([ASKED], Gesture.DOUBLE_TAP, ButtonAction.CONFIRM),
        ([ASKED, LAPSED], Gesture.DOUBLE_TAP, ButtonAction.TELL),
    ],
)
def test_push_to_talk(
    happened: list[e.Event], gesture: Gesture, action: ButtonAction | None
) -> None:
    """Push to talk: the gate is open while the finger is down, and a hold does not mute."""
    mode: ButtonMode = "push-to-talk"
    assert decide(gesture, facts_after(*happened), NOW, mode) is action


def test_the_button_is_a_yes_only_while_it_is_asked_for() -> None:
    """Afterwards it means what it always means."""
    facts = facts_after(ASKED)
    assert decide(Gesture.TAP, facts, NOW + 29.9, "tap") is ButtonAction.CONFIRM
    assert decide(Gesture.TAP, facts, NOW + 30.0, "tap") is ButtonAction.TALK
