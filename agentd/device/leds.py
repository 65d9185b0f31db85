"""Lights: what takes a `Look` and makes it visible.

`show` returns when the pin is set, so that a light is on before the first byte of audio leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from agentd.clock import Clock
from agentd.config.settings import GpioPins
from agentd.device.gpio import attempt, open_factory
from agentd.device.patterns import LightKind, Look
from agentd.device.state import DeviceState
from agentd.errors import GpioError
from agentd.events import Emit, GpioUnavailable


class Lights(Protocol):
    """Something that can show a look."""

    @property
    def kind(self) -> LightKind:
        """Return what is wired, which decides the pattern."""

    def show(self, look: Look) -> None:
        """Make `look` visible before returning; never raise."""

    def close(self) -> None:
        """Turn everything off and let go of the pins."""


class NoLights:
    """Nothing configured, which is fine."""

    kind = LightKind.NONE

    def show(self, look: Look) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(slots=True)
class RecordingLights:
    """Lights that remember what they showed and when."""

    clock: Clock
    kind: LightKind = LightKind.RGB
    shown: list[tuple[float, Look]] = field(default_factory=list)
    closed: bool = False

    def show(self, look: Look) -> None:
        """Remember `look` and the monotonic time."""
        self.shown.append((self.clock.monotonic(), look))

    def close(self) -> None:
        """Remember that the lights are off."""
        self.closed = True

    @property
    def states(self) -> list[DeviceState]:
        """Return the states shown, each once in a row."""
        states = [look.state for _, look in self.shown]
        return [s for i, s in enumerate(states) if i == 0 or s is not states[i - 1]]


@dataclass(slots=True)
class _Part:
    """One LED on its pins and how a look is put on it."""

    name: str
    device: Any
    put: Callable[[Any, Look], None]


def _put_colour(device: Any, look: Look) -> None:
    device.value = look.colour


def _put_plain_colour(device: Any, look: Look) -> None:
    device.value = tuple(1 if channel >= 0.4 else 0 for channel in look.colour)


def _put_level(device: Any, look: Look) -> None:
    device.value = look.level


def _put_on(device: Any, look: Look) -> None:
    device.value = look.level > 0


def _put_mute(device: Any, look: Look) -> None:
    device.value = look.mute


class GpioLights:
    """LEDs on pins: one plain, dimmed or RGB status LED and a mute LED, as far as configured.

    What cannot be driven is told once and left out; the rest goes on.
    """

    def __init__(self, pins: GpioPins, emit: Emit) -> None:
        self._emit = emit
        self._kind = LightKind.NONE
        self._parts: list[_Part] = []
        self._open(pins)

    @property
    def kind(self) -> LightKind:
        """Return what is wired and works."""
        return self._kind

    def show(self, look: Look) -> None:
        """Set the pins."""
        for part in tuple(self._parts):
            if attempt(part.name, partial(self._put, part, look), self._emit) is None:
                self._drop(part)

    def close(self) -> None:
        """Turn the LEDs off and let go of the pins."""
        for part in self._parts:
            attempt(part.name, partial(self._off, part), lambda _event: None)
        self._parts = []
        self._kind = LightKind.NONE

    def _open(self, pins: GpioPins) -> None:
        wired = {"status_led": pins.status_led, "status_rgb": pins.status_rgb}
        wired["mute_led"] = pins.mute_led
        names = [name for name, pin in wired.items() if pin is not None]
        if not names:
            return
        opened = attempt(", ".join(names), lambda: (open_factory(pins.chip),), self._emit)
        if opened is None:
            return
        for name in names:
            made = attempt(name, partial(_make, name, pins, opened[0]), self._emit)
            if made is not None:
                kind, part = made
                self._parts.append(part)
                self._kind = kind or self._kind

    @staticmethod
    def _put(part: _Part, look: Look) -> bool:
        part.put(part.device, look)
        return True

    @staticmethod
    def _off(part: _Part) -> None:
        part.device.off()
        part.device.close()

    def _drop(self, part: _Part) -> None:
        self._parts.remove(part)
        if part.name != "mute_led":
            self._kind = LightKind.NONE


def _make(name: str, pins: GpioPins, factory: Any) -> tuple[LightKind | None, _Part]:
    """Claim the pins of one LED; where a pin cannot be dimmed it is switched."""
    import gpiozero

    common = {"active_high": pins.active_high, "pin_factory": factory}
    if name == "mute_led":
        return None, _Part(name, gpiozero.LED(pins.mute_led, **common), _put_mute)
    if name == "status_rgb":
        assert pins.status_rgb is not None
        try:
            device = gpiozero.RGBLED(*pins.status_rgb, **common)
        except gpiozero.PinPWMUnsupported:
            device = gpiozero.RGBLED(*pins.status_rgb, pwm=False, **common)
            return LightKind.PLAIN, _Part(name, device, _put_plain_colour)
        return LightKind.RGB, _Part(name, device, _put_colour)
    if pins.status_pwm:
        try:
            device = gpiozero.PWMLED(pins.status_led, **common)
        except gpiozero.PinPWMUnsupported:
            pass
        else:
            return LightKind.PWM, _Part(name, device, _put_level)
    return LightKind.PLAIN, _Part(name, gpiozero.LED(pins.status_led, **common), _put_on)


def open_lights(pins: GpioPins, emit: Emit) -> Lights:
    """Return the lights of this configuration; what cannot be driven is told through `emit`."""
    configured = (pins.status_led, pins.status_rgb, pins.mute_led)
    if all(pin is None for pin in configured):
        return NoLights()
    return GpioLights(pins, emit)


def turn_off(pins: GpioPins) -> None:
    """Turn every configured LED off: for `ExecStopPost`, where a crash left a pin driven.

    Raises:
        GpioError: a pin could not be reached; says which, why and what to do.
    """
    problems: list[GpioUnavailable] = []

    def note(event: object) -> None:
        assert isinstance(event, GpioUnavailable)
        problems.append(event)

    open_lights(pins, note).close()
    if problems:
        raise GpioError("; ".join(problem.message() for problem in problems))
