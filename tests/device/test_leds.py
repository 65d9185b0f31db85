"""Looks on pins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentd.clock import FakeClock
from agentd.config.settings import GpioPins
from agentd.device.gpio import advise, open_factory
from agentd.device.leds import (
    GpioLights,
    RecordingLights,
    open_lights,
    turn_off,
)
from agentd.device.patterns import LightKind, look
from agentd.device.state import DeviceState
from agentd.errors import GpioError
from agentd.events import Event, GpioUnavailable

LISTENING = look(DeviceState.LISTENING, 0.0, LightKind.RGB)
IDLE = look(DeviceState.IDLE, 0.0, LightKind.RGB)


def level(chip: Any, pin: int) -> float:
    """Return what is on a mock pin."""
    return float(chip.pin(pin).state)


def test_nothing_configured() -> None:
    """No pins: no lights, no complaint, and gpiozero is not even imported."""
    code = (
        "import sys; from agentd.config.settings import GpioPins;"
        "from agentd.device.leds import open_lights, turn_off;"
        "print(type(open_lights(GpioPins(), print)).__name__); turn_off(GpioPins());"
        "print('gpiozero' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["NoLights", "False"]


def test_rgb(chip: Any, events: list[Event]) -> None:
    """Each channel of the colour is on its pin, and dark after close."""
    lights = open_lights(GpioPins(status_rgb=(17, 27, 22)), events.append)
    assert lights.kind is LightKind.RGB
    lights.show(look(DeviceState.OFFLINE, 2.0, lights.kind))
    assert [level(chip, pin) for pin in (17, 27, 22)] == pytest.approx([0.8, 0.36, 0.0])
    pins = [chip.pin(pin) for pin in (17, 27, 22)]
    lights.close()
    assert [pin.function for pin in pins] == ["input"] * 3
    assert events == []


def test_dimmed_led(chip: Any, events: list[Event]) -> None:
    """A single LED is dimmed by PWM."""
    lights = open_lights(GpioPins(status_led=25), events.append)
    assert lights.kind is LightKind.PWM
    lights.show(look(DeviceState.FOLLOW_UP, 0.0, lights.kind))
    assert level(chip, 25) == pytest.approx(0.12)
    lights.show(look(DeviceState.LISTENING, 0.0, lights.kind))
    assert level(chip, 25) == 1.0
    lights.close()


def test_plain_led(chip: Any, plain_chip: Any, events: list[Event]) -> None:
    """With PWM switched off in the configuration the LED is on or off."""
    lights = open_lights(GpioPins(status_led=25, status_pwm=False), events.append)
    assert lights.kind is LightKind.PLAIN
    lights.show(look(DeviceState.FOLLOW_UP, 0.0, lights.kind))
    assert level(plain_chip, 25) == 1.0
    lights.show(look(DeviceState.FOLLOW_UP, 0.5, lights.kind))
    assert level(plain_chip, 25) == 0.0
    lights.close()


def test_pins_without_pwm(plain_chip: Any, events: list[Event]) -> None:
    """Where pins cannot be dimmed, LED and RGB LED are switched, without a complaint."""
    single = open_lights(GpioPins(status_led=25), events.append)
    rgb = open_lights(GpioPins(status_rgb=(17, 27, 22)), events.append)
    assert (single.kind, rgb.kind) == (LightKind.PLAIN, LightKind.PLAIN)
    rgb.show(look(DeviceState.LISTENING, 0.0, rgb.kind))
    assert [level(plain_chip, pin) for pin in (17, 27, 22)] == [0.0, 1.0, 1.0]
    rgb.show(look(DeviceState.OFFLINE, 0.0, rgb.kind))
    assert [level(plain_chip, pin) for pin in (17, 27, 22)] == [1.0, 1.0, 0.0]
    single.close()
    rgb.close()
    assert events == []


def test_active_low(plain_chip: Any, events: list[Event]) -> None:
    """With active_high false the pin is low while the LED is lit."""
    pins = GpioPins(status_led=25, mute_led=24, active_high=False)
    lights = open_lights(pins, events.append)
    assert [level(plain_chip, pin) for pin in (25, 24)] == [1.0, 1.0]
    lights.show(look(DeviceState.LISTENING, 0.0, lights.kind, muted=True))
    assert [level(plain_chip, pin) for pin in (25, 24)] == [0.0, 0.0]
    lights.close()


def test_mute_led_alone(plain_chip: Any, events: list[Event]) -> None:
    """The mute LED is lit while muted, whatever the state."""
    lights = open_lights(GpioPins(mute_led=24), events.append)
    assert lights.kind is LightKind.NONE
    for state in DeviceState:
        lights.show(look(state, 0.0, lights.kind, muted=True))
        assert level(plain_chip, 24) == 1.0
        lights.show(look(state, 0.0, lights.kind))
        assert level(plain_chip, 24) == 0.0
    lights.close()


def test_pin_in_use(chip: Any, events: list[Event]) -> None:
    """A pin that is taken is told with part, cause and remedy; the other LED works."""
    import gpiozero

    taken = gpiozero.LED(25)
    lights = open_lights(GpioPins(status_led=25, mute_led=24), events.append)
    (event,) = events
    assert isinstance(event, GpioUnavailable)
    assert event.part == "status_led"
    assert "25" in event.cause
    assert event.remedy
    lights.show(look(DeviceState.MUTED, 0.0, lights.kind, muted=True))
    assert level(chip, 24) == 1.0
    lights.close()
    taken.close()


def test_no_such_pin(chip: Any, events: list[Event]) -> None:
    """A pin that the board does not have is told, once, and nothing is raised."""
    lights = open_lights(GpioPins(status_led=54), events.append)
    lights.show(LISTENING)
    assert [event.name for event in events] == ["gpio_unavailable"]
    lights.close()


def test_no_chip(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPIO chip: one event for all LEDs with a remedy, and the daemon goes on."""
    if Path("/dev/gpiochip0").exists():
        pytest.skip("this machine has a GPIO chip")
    pytest.importorskip("lgpio")
    import gpiozero

    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    lights = open_lights(GpioPins(status_led=25, mute_led=24, chip=0), events.append)
    lights.show(LISTENING)
    lights.close()
    (event,) = events
    assert isinstance(event, GpioUnavailable)
    assert event.part == "status_led, mute_led"
    assert "gpiochip" in event.cause
    assert "no GPIO chip" in event.cause
    assert "leave [gpio] empty" in event.remedy
    with pytest.raises(GpioError, match="gpiochip0"):
        turn_off(GpioPins(status_led=25, chip=0))


def test_default_factory_without_a_chip(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to gpiozero's own choice, each LED says why it stays dark."""
    if Path("/dev/gpiochip0").exists():
        pytest.skip("this machine has a GPIO chip")
    import gpiozero

    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    lights = open_lights(GpioPins(status_led=25), events.append)
    assert lights.kind is LightKind.NONE
    (event,) = events
    assert isinstance(event, GpioUnavailable)
    assert "python3-lgpio" in event.remedy or "leave [gpio] empty" in event.remedy


def test_chip_lost_while_running(chip: Any, events: list[Event]) -> None:
    """A pin that fails while running is told once and left alone; the other goes on."""
    lights = open_lights(GpioPins(status_led=25, mute_led=24), events.append)
    assert isinstance(lights, GpioLights)
    lights._parts[0].device.close()
    for _ in range(3):
        lights.show(look(DeviceState.MUTED, 0.0, lights.kind, muted=True))
    assert [event.fields()["part"] for event in events] == ["status_led"]
    assert lights.kind is LightKind.NONE
    lights._parts[0].device.close()
    lights.show(IDLE)
    assert [event.fields()["part"] for event in events] == ["status_led", "mute_led"]


def test_turn_off_after_a_crash(plain_chip: Any) -> None:
    """`turn_off` leaves a pin that a crash left driven as an input."""
    pin = plain_chip.pin(25)
    pin.function = "output"
    pin.state = True
    turn_off(GpioPins(status_led=25, status_pwm=False))
    assert pin.function == "input"


def test_environment_chooses_the_factory(chip: Any) -> None:
    """With GPIOZERO_PIN_FACTORY set the choice is left to gpiozero."""
    assert open_factory() is None


@pytest.mark.parametrize(
    ("cause", "word"),
    [
        ("pin 5 is already in use by <gpiozero.LED>", "own"),
        ("'GPIO busy'", "Another program"),
        ("[Errno 13] Permission denied: '/dev/gpiochip0'", "group gpio"),
        ("unable to locate Pi revision in /proc/device-tree", "gpio.chip"),
        ("No module named 'gpiozero'", "Install python3-gpiozero"),
        (
            "Unable to load any pin factory!; Falling back from lgpio: No module named 'lgpio'",
            "Install python3-lgpio",
        ),
        ("something else", "BCM"),
    ],
)
def test_advice(cause: str, word: str) -> None:
    """Each known cause has its own remedy."""
    assert word in advise(cause)


def test_recording_lights() -> None:
    """The fake tells what was shown, when, and each state once in a row."""
    clock = FakeClock()
    lights = RecordingLights(clock)
    for shown in (IDLE, LISTENING, LISTENING, IDLE):
        lights.show(shown)
        clock.advance(1.0)
    assert [at for at, _ in lights.shown] == [1000.0, 1001.0, 1002.0, 1003.0]
    assert lights.states == [DeviceState.IDLE, DeviceState.LISTENING, DeviceState.IDLE]
    lights.close()
    assert lights.closed


class Lines:
    """The lgpio calls of a chip: what was claimed and written on each line."""

    def __init__(self) -> None:
        self.levels: dict[int, int] = {}
        self.inputs: set[int] = set()

    def gpiochip_open(self, number: int) -> int:
        return number

    def gpiochip_close(self, handle: int) -> int:
        return 0

    def gpio_claim_input(self, handle: int, line: int, flags: int = 0) -> int:
        self.inputs.add(line)
        return 0

    def gpio_claim_output(self, handle: int, line: int, level: int = 0, flags: int = 0) -> int:
        self.inputs.discard(line)
        self.levels[line] = level
        return 0

    def gpio_free(self, handle: int, line: int) -> int:
        return 0

    def gpio_get_mode(self, handle: int, line: int) -> int:
        return 0 if line in self.inputs else 2

    def gpio_write(self, handle: int, line: int, level: int) -> int:
        self.levels[line] = int(level)
        return 0

    def gpio_read(self, handle: int, line: int) -> int:
        return self.levels.get(line, 0)


def test_board_that_is_no_pi(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """With gpio.chip, pin N is line N of that chip, on a board that gpiozero does not know."""
    lgpio = pytest.importorskip("lgpio")
    if Path("/proc/device-tree/system/linux,revision").exists():
        pytest.skip("this is a Raspberry Pi")
    lines = Lines()
    for name in (name for name in vars(Lines) if name.startswith("gpio")):
        monkeypatch.setattr(lgpio, name, getattr(lines, name))
    lights = open_lights(GpioPins(status_led=7, status_pwm=False, chip=2), events.append)
    lights.show(look(DeviceState.LISTENING, 0.0, lights.kind))
    assert (events, lines.levels) == ([], {7: 1})
    lights.show(look(DeviceState.IDLE, 0.0, lights.kind))
    assert lines.levels == {7: 0}
    lights.close()
    assert lines.inputs == {7}
