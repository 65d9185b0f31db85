"""What each state looks like: colour and brightness as functions of the time in the state.

A pattern is a colour and an *envelope* (level 0..1 over time). Every kind of light has its own
envelope for every state, so that a plain LED, which is on or off, tells the same story as a ring:

    RGB     colour and level
    PWM     level of one LED
    PLAIN   one LED, on or off

One meaning is reserved on all of them: full and steady is *listening* and nothing else.
An envelope says when it moves next, so that the shell sleeps in between; what stands still
(idle, listening, muted) needs no timer at all.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from agentd.device.state import DeviceState

PULSE_TICK_S = 0.05  # smooth to the eye for a pulse of a second or two
BREATHE_TICK_S = 0.1  # and for a breath of four
_BORDER_S = 1e-3
LISTENING_FLOOR = 0.4  # a night setting must not hide that audio leaves the device


class LightKind(enum.Enum):
    """What is wired."""

    RGB = "rgb"
    PWM = "pwm"
    PLAIN = "plain"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Steady:
    """One level for as long as the state lasts."""

    level: float

    def at(self, _age_s: float) -> float:
        """Return the level."""
        return self.level

    def next_change_s(self, _age_s: float) -> float | None:
        """Return None: it never moves."""
        return None


@dataclass(frozen=True, slots=True)
class Steps:
    """Levels held for a time each, repeated `times` (0: for ever), then the last one stays."""

    steps: tuple[tuple[float, float], ...]  # (seconds, level)
    times: int = 0

    def at(self, age_s: float) -> float:
        """Return the level `age_s` seconds after the beginning."""
        return self._find(age_s)[0]

    def next_change_s(self, age_s: float) -> float | None:
        """Return the seconds until the next step, None after the last one."""
        return self._find(age_s)[1]

    def _find(self, age_s: float) -> tuple[float, float | None]:
        # A shell that wakes at a border must find itself behind it, or it would spin there.
        reached_s = max(0.0, age_s) + _BORDER_S
        ends_s = list(accumulate(seconds for seconds, _ in self.steps))
        rounds, rest_s = divmod(reached_s, ends_s[-1])
        if self.times and rounds >= self.times:
            return self.steps[-1][1], None
        index = bisect_right(ends_s, rest_s)
        return self.steps[index][1], ends_s[index] - rest_s + _BORDER_S


@dataclass(frozen=True, slots=True)
class Wave:
    """A raised cosine between two levels, beginning at the low one."""

    period_s: float
    low: float
    high: float
    tick_s: float

    def at(self, age_s: float) -> float:
        """Return the level `age_s` seconds after the beginning."""
        phase = math.cos(2.0 * math.pi * age_s / self.period_s)
        return self.low + (self.high - self.low) * (1.0 - phase) / 2.0

    def next_change_s(self, _age_s: float) -> float:
        """Return the time after which the eye would see a step."""
        return self.tick_s


Envelope = Steady | Steps | Wave
Colour = tuple[float, float, float]

RED: Colour = (1.0, 0.0, 0.0)
AMBER: Colour = (1.0, 0.45, 0.0)
CYAN: Colour = (0.0, 1.0, 1.0)
WHITE: Colour = (1.0, 1.0, 1.0)
DARK: Colour = (0.0, 0.0, 0.0)

OFF = Steady(0.0)
FULL = Steady(1.0)


def _blinks(count: int, on_s: float, off_s: float, pause_s: float = 0.0, times: int = 0) -> Steps:
    blink = ((on_s, 1.0), (off_s, 0.0))
    return Steps(blink * count + (((pause_s, 0.0),) if pause_s else ()), times)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One state on every kind of light."""

    colour: Colour
    rgb: Envelope
    pwm: Envelope
    plain: Envelope

    def envelope(self, kind: LightKind) -> Envelope:
        """Return the envelope for what is wired."""
        envelopes = {
            LightKind.RGB: self.rgb,
            LightKind.PWM: self.pwm,
            LightKind.PLAIN: self.plain,
            LightKind.NONE: OFF,
        }
        return envelopes[kind]


_FLASH = Steps(((0.15, 0.0), (0.6, 1.0), (0.15, 0.0), (0.6, 1.0), (0.15, 0.0)), times=1)

PATTERNS: dict[DeviceState, Pattern] = {
    DeviceState.LISTENING: Pattern(CYAN, FULL, FULL, FULL),
    DeviceState.FATAL: Pattern(
        RED,
        _blinks(2, 0.4, 0.3, pause_s=1.6),
        _blinks(2, 0.25, 0.25, pause_s=1.5),
        _blinks(2, 0.25, 0.25, pause_s=1.5),
    ),
    DeviceState.VOLUME: Pattern(WHITE, FULL, _FLASH, _FLASH),
    DeviceState.MUTED: Pattern(
        RED, FULL, Steps(((0.1, 1.0), (4.9, 0.0))), Steps(((0.1, 1.0), (4.9, 0.0)))
    ),
    DeviceState.RINGING: Pattern(
        WHITE, Wave(1.0, 0.05, 1.0, PULSE_TICK_S), _blinks(1, 0.15, 0.15), _blinks(1, 0.15, 0.15)
    ),
    DeviceState.OFFLINE: Pattern(
        AMBER,
        Wave(4.0, 0.08, 0.8, BREATHE_TICK_S),
        _blinks(3, 0.25, 0.25, pause_s=2.0),
        _blinks(3, 0.25, 0.25, pause_s=2.0),
    ),
    DeviceState.FAILED: Pattern(
        RED,
        _blinks(2, 0.5, 0.3, times=1),
        _blinks(4, 0.2, 0.2, times=1),
        _blinks(4, 0.2, 0.2, times=1),
    ),
    DeviceState.THINKING: Pattern(
        CYAN,
        Wave(1.6, 0.15, 0.9, PULSE_TICK_S),
        Wave(1.6, 0.1, 0.9, PULSE_TICK_S),
        _blinks(1, 0.5, 0.5),
    ),
    DeviceState.SPEAKING: Pattern(
        CYAN,
        Wave(0.6, 0.45, 0.8, PULSE_TICK_S),
        Wave(0.5, 0.5, 0.8, PULSE_TICK_S),
        Steps(((0.35, 1.0), (0.08, 0.0))),
    ),
    DeviceState.FOLLOW_UP: Pattern(
        CYAN, Steady(0.12), Steady(0.12), Steps(((0.06, 1.0), (0.94, 0.0)))
    ),
    DeviceState.STARTING: Pattern(
        WHITE,
        Wave(4.0, 0.04, 0.5, BREATHE_TICK_S),
        Wave(4.0, 0.04, 0.6, BREATHE_TICK_S),
        _blinks(1, 1.0, 1.0),
    ),
    DeviceState.IDLE: Pattern(DARK, OFF, OFF, OFF),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What the lights are to show now."""

    state: DeviceState
    colour: Colour = DARK  # red, green, blue, 0..1, brightness included
    level: float = 0.0  # of a single LED, 0..1, brightness included; above 0 means on
    mute: bool = False  # the separate mute LED


def look(
    state: DeviceState,
    age_s: float,
    kind: LightKind,
    *,
    muted: bool = False,
    volume_percent: int | None = None,
    brightness: float = 1.0,
) -> Look:
    """Return what `kind` shows `age_s` seconds after `state` began.

    `brightness` (0..1) dims everything, but *listening* never below `LISTENING_FLOOR`.
    """
    pattern = PATTERNS[state]
    level = pattern.envelope(kind).at(age_s)
    if kind is LightKind.PLAIN:
        return Look(state, pattern.colour if level else DARK, 1.0 if level else 0.0, muted)
    if state is DeviceState.VOLUME and volume_percent is not None:
        level *= 0.05 + 0.95 * volume_percent / 100.0
    if state is DeviceState.LISTENING:
        brightness = max(brightness, LISTENING_FLOOR)
    level *= brightness
    red, green, blue = pattern.colour
    return Look(state, (red * level, green * level, blue * level), level, muted)


def next_change_s(state: DeviceState, age_s: float, kind: LightKind) -> float | None:
    """Return the seconds until the look moves by itself; None if it stands still."""
    return PATTERNS[state].envelope(kind).next_change_s(age_s)
