"""What the lights show."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.device.patterns import (
    CYAN,
    DARK,
    FULL,
    LISTENING_FLOOR,
    OFF,
    PATTERNS,
    LightKind,
    Look,
    Steady,
    Steps,
    Wave,
    look,
    next_change_s,
)
from agentd.device.state import DeviceState

LIT = [LightKind.RGB, LightKind.PWM, LightKind.PLAIN]
STATES = st.sampled_from(list(DeviceState))
KINDS = st.sampled_from(list(LightKind))
AGES = st.floats(0, 1e5)


def walk(state: DeviceState, kind: LightKind, seconds: float) -> list[tuple[float, Look]]:
    """Return every look within `seconds`, in the way a shell would step through them."""
    age_s, seen = 0.0, []
    while age_s < seconds:
        seen.append((age_s, look(state, age_s, kind)))
        wait_s = next_change_s(state, age_s, kind)
        if wait_s is None:
            break
        age_s += wait_s
    return seen


def test_every_state_has_a_pattern() -> None:
    """No state is left without a look."""
    assert set(PATTERNS) == set(DeviceState)


@pytest.mark.parametrize("kind", LIT)
def test_full_and_steady_is_listening(kind: LightKind) -> None:
    """On each kind of light, full cyan that stands still means listening and nothing else."""
    steady = {
        state
        for state in DeviceState
        if next_change_s(state, 0.0, kind) is None
        and look(state, 0.0, kind).colour == CYAN
        and look(state, 0.0, kind).level == 1.0
    }
    assert steady == {DeviceState.LISTENING}


@pytest.mark.parametrize("kind", [LightKind.PWM, LightKind.PLAIN])
def test_single_led_on_and_steady_is_listening(kind: LightKind) -> None:
    """One LED has no colour: fully on for as long as the state lasts is listening alone."""
    always_full = {
        state
        for state in DeviceState
        if all(shown.level == 1.0 for _, shown in walk(state, kind, 30.0))
    }
    assert always_full == {DeviceState.LISTENING}


@pytest.mark.parametrize("kind", LIT)
def test_states_look_different(kind: LightKind) -> None:
    """No two states share colour and movement."""

    def signature(state: DeviceState) -> object:
        pattern = PATTERNS[state]
        return (pattern.colour if kind is LightKind.RGB else None, pattern.envelope(kind))

    for one, other in itertools.combinations(DeviceState, 2):
        assert signature(one) != signature(other)


@pytest.mark.parametrize("kind", LightKind)
def test_stillness_costs_nothing(kind: LightKind) -> None:
    """Idle and listening need no timer on any light."""
    assert next_change_s(DeviceState.IDLE, 5.0, kind) is None
    assert next_change_s(DeviceState.LISTENING, 5.0, kind) is None


def test_idle_is_dark() -> None:
    """Idle lights nothing."""
    assert look(DeviceState.IDLE, 1.0, LightKind.RGB) == Look(DeviceState.IDLE, DARK, 0.0)


def test_no_light_is_fine() -> None:
    """Without a status LED only the mute LED has something to show."""
    for state in DeviceState:
        assert look(state, 0.0, LightKind.NONE, muted=True) == Look(
            state, look(state, 0.0, LightKind.NONE).colour, 0.0, mute=True
        )
        assert next_change_s(state, 0.0, LightKind.NONE) is None


@pytest.mark.parametrize("kind", [LightKind.RGB, LightKind.PWM])
def test_night_never_hides_streaming(kind: LightKind) -> None:
    """The lowest brightness dims every state but leaves listening well visible."""
    assert look(DeviceState.LISTENING, 0.0, kind, brightness=0.05).level == LISTENING_FLOOR
    assert look(DeviceState.LISTENING, 0.0, kind, brightness=0.7).level == 0.7
    assert look(DeviceState.FOLLOW_UP, 0.0, kind, brightness=0.5).level == pytest.approx(0.06)


def test_volume_shows_its_level() -> None:
    """The white of a volume change is as bright as the volume is loud, and visible at zero."""
    levels = [
        look(DeviceState.VOLUME, 0.5, LightKind.RGB, volume_percent=percent).level
        for percent in (0, 50, 100)
    ]
    assert levels == pytest.approx([0.05, 0.525, 1.0])
    assert look(DeviceState.VOLUME, 0.5, LightKind.RGB).level == 1.0


def test_plain_led_is_on_or_off() -> None:
    """A plain LED gets no level in between, whatever the brightness."""
    for state in DeviceState:
        for _, shown in walk(state, LightKind.PLAIN, 12.0):
            assert shown.level in (0.0, 1.0)
    shown = look(DeviceState.LISTENING, 0.0, LightKind.PLAIN, brightness=0.05)
    assert shown == Look(DeviceState.LISTENING, CYAN, 1.0)


@pytest.mark.parametrize(
    ("state", "blinks", "seconds"),
    [
        (DeviceState.FATAL, 2, 2.5),
        (DeviceState.OFFLINE, 3, 3.5),
        (DeviceState.FAILED, 4, 1.6),
        (DeviceState.MUTED, 1, 5.0),
    ],
)
def test_blink_counts(state: DeviceState, blinks: int, seconds: float) -> None:
    """One LED tells the trouble by the number of blinks before the pause."""
    levels = [shown.level for _, shown in walk(state, LightKind.PLAIN, seconds - 0.001)]
    rises = sum(1 for a, b in itertools.pairwise([0.0, *levels]) if a < b)
    assert rises == blinks


def test_failed_stays_dark_after_its_pulses() -> None:
    """The pulses of a failure are not repeated and need no timer afterwards."""
    assert look(DeviceState.FAILED, 60.0, LightKind.RGB).level == 0.0
    assert next_change_s(DeviceState.FAILED, 60.0, LightKind.RGB) is None


def test_steps_keep_time() -> None:
    """Steps change at their borders and repeat; a clock before the start shows the first."""
    steps = Steps(((1.0, 0.2), (2.0, 0.8)))
    assert [steps.at(t) for t in (-1.0, 0.0, 0.99, 1.0, 2.99, 3.0, 4.5)] == [
        *(0.2, 0.2, 0.2, 0.8, 0.8, 0.2, 0.8)
    ]
    waits_s = [steps.next_change_s(t) for t in (0.0, 0.25, 1.0, 3.5)]
    assert waits_s == pytest.approx([1.0, 0.75, 2.0, 0.5])


def test_steps_do_not_spin_at_a_border() -> None:
    """Who wakes a rounding error before a border is behind it already: no wait below 1 ms."""
    steps = Steps(((0.1, 0.3), (0.2, 0.6)))
    for border_s, level in ((0.1, 0.6), (0.1 + 0.2, 0.3), (0.1 + 0.2 + 0.1, 0.6)):
        age_s = border_s - 1e-12
        assert steps.at(age_s) == level
        wait_s = steps.next_change_s(age_s)
        assert wait_s is not None
        assert wait_s >= 0.099


def test_wave() -> None:
    """A wave begins low, is high after half a period and asks for its tick."""
    wave = Wave(2.0, 0.1, 0.9, 0.05)
    assert [wave.at(t) for t in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([0.1, 0.5, 0.9, 0.1])
    assert wave.next_change_s(7.0) == 0.05


def test_steady() -> None:
    """Steady light never moves."""
    assert (FULL.at(3.0), OFF.at(3.0), Steady(0.5).next_change_s(1.0)) == (1.0, 0.0, None)


@given(STATES, AGES, KINDS, st.integers(0, 100), st.floats(0.05, 1.0))
def test_looks_are_in_range(
    state: DeviceState, age_s: float, kind: LightKind, volume: int, bright: float
) -> None:
    """Whatever the moment, every channel is between 0 and 1 and the mute LED tells the truth."""
    muted = volume % 2 == 1
    shown = look(state, age_s, kind, muted=muted, volume_percent=volume, brightness=bright)
    assert all(0.0 <= channel <= 1.0 for channel in (*shown.colour, shown.level))
    assert shown.mute is muted


@given(STATES, AGES, KINDS, st.floats(0, 0.999))
def test_nothing_moves_before_it_says(
    state: DeviceState, age_s: float, kind: LightKind, part: float
) -> None:
    """A stepped light keeps its level until the announced change; the wait is never zero."""
    wait_s = next_change_s(state, age_s, kind)
    if wait_s is None:
        assert look(state, age_s + 1.0, kind) == look(state, age_s, kind)
        return
    assert wait_s > 0
    if isinstance(PATTERNS[state].envelope(kind), Steps) and wait_s > 0.002:
        between = age_s + (wait_s - 0.002) * part
        assert look(state, between, kind) == look(state, age_s, kind)
