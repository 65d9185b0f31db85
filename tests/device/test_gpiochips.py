"""Which chip is opened for the header, with either gpiozero, and why one cannot be."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentd.device.gpio import advise, chosen_factory
from agentd.device.gpiochips import Chip, cannot_open, header_chips, list_chips

PROJECT = Path(__file__).resolve().parents[2]
GPIOZERO_2 = Path(sys.prefix) / "gpiozero2"

RP1, SOC = "pinctrl-rp1", "gpio-brcmstb@107d508500"
NEW_KERNEL = [Chip(0, RP1), Chip(4, RP1), Chip(10, SOC)]  # 4 is a link
OLD_KERNEL = [Chip(0, SOC), Chip(1, SOC), Chip(4, RP1)]


@pytest.mark.parametrize(
    ("chips", "is_pi_5", "numbers"),
    [
        (NEW_KERNEL, True, (0,)),
        (OLD_KERNEL, True, (4,)),
        ([Chip(0, "pinctrl-bcm2711"), Chip(1, "raspberrypi-exp-gpio")], False, (0,)),
        ([Chip(0, "raspberrypi-exp-gpio"), Chip(1, "pinctrl-bcm2835")], False, (1,)),
        ([], True, (4, 0)),
        ([Chip(0, error=errno.EACCES)], True, (0,)),
        ([], False, (0,)),
        ([Chip(2, "9030000.pl061")], False, (0,)),
    ],
)
def test_the_header_is_known_by_its_label(
    chips: list[Chip], is_pi_5: bool, numbers: tuple[int, ...]
) -> None:
    """Its number depends on the kernel; only where no label can be read the board decides."""
    assert header_chips(chips, is_pi_5) == numbers


@pytest.mark.parametrize(
    ("number", "chips", "configured", "cause", "remedy"),
    [
        (0, [], False, "no GPIO chip", "leave [gpio] empty"),
        (
            4,
            [Chip(0, RP1)],
            True,
            "it is not there; chips now: 0 (pinctrl-rp1)",
            "Correct gpio.chip",
        ),
        (0, [Chip(1, SOC)], False, "it is not there", "Set gpio.chip: one of 1"),
        (0, [Chip(0, error=errno.EACCES)], False, "permission denied", "group gpio"),
        (0, [Chip(0, error=errno.EPERM)], False, "the service may not", "restart agentd"),
        (0, [Chip(0, error=errno.EIO)], True, "Input/output error", "dmesg"),
        (0, [Chip(0, RP1)], True, RP1, "dmesg"),
    ],
)
def test_why_a_chip_cannot_be_opened(
    number: int, chips: list[Chip], configured: bool, cause: str, remedy: str
) -> None:
    """Missing, closed to the user, closed to the service: each has its own remedy."""
    error = cannot_open(number, chips, configured=configured)
    assert f"can not open /dev/gpiochip{number}" in str(error)
    assert cause in str(error)
    assert remedy in error.remedy


def test_chips_are_listed_by_number(tmp_path: Path) -> None:
    """What is no chip says so by its errno, and waits for nobody."""
    for name in ("gpiochip10", "gpiochip2", "gpiochipx"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "gpiochip3")
    found = list_chips(tmp_path)
    assert [chip.number for chip in found] == [2, 3, 10]
    assert all(chip.error for chip in found)
    assert "Inappropriate ioctl" in str(found[0])


@pytest.mark.parametrize(
    ("name", "chosen"), [("", ""), ("lgpio", ""), ("LGPIO", ""), ("pigpio", "pigpio"), ("x", "x")]
)
def test_a_foreign_factory_is_named_by_its_variable(name: str, chosen: str) -> None:
    """Whatever it stumbles over, the variable is what to look at; a pin used twice excepted."""
    assert chosen_factory({"GPIOZERO_PIN_FACTORY": name}) == chosen
    if chosen:
        assert f"GPIOZERO_PIN_FACTORY={chosen}" in advise("can not connect", chosen)
        assert "give each its own" in advise("pin 5 is already in use", chosen)


LGPIO = """
import os
FLAGS = "RISING_EDGE FALLING_EDGE BOTH_EDGES SET_PULL_NONE SET_PULL_UP SET_PULL_DOWN"
for number, name in enumerate(FLAGS.split()): globals()[name] = number
class error(Exception): pass
def gpiochip_open(number):
    print("open", number, flush=True)
    if str(number) not in os.environ["CHIPS"].split(): raise error("can not open gpiochip")
    return number
def gpiochip_close(handle): pass
def gpio_claim_input(*a): return 0
def gpio_claim_output(*a): return 0
def gpio_get_mode(*a): return 2
def gpio_read(*a): return 0
def gpio_write(*a): return 0
def tx_pwm(*a): return 0
def callback(*a): return None
"""
DOCTOR = """
from agentd.config.settings import GpioPins
from agentd.doctor.system import check_pins
import gpiozero.pins.lgpio
found = check_pins(GpioPins(status_led=25, chip={chip}))
print(found.result.value, found.cause, found.remedy)
"""


def on_a_pi_5(
    tmp_path: Path, chip: int | None, chips: str, gpiozero: Path | None, **environment: str
) -> str:
    """Return what the doctor prints, and what lgpio opens, on a board that says it is a Pi 5."""
    (tmp_path / "lgpio.py").write_text(LGPIO)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("Hardware : BCM2835\nRevision : d04170\nModel : Raspberry Pi 5\n")
    path = [str(tmp_path), *([str(gpiozero)] if gpiozero else []), str(PROJECT)]
    (tmp_path / "doctor.py").write_text(DOCTOR.format(chip=chip))
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c"),
            'mount --bind "$1" /proc/cpuinfo && shift && exec "$@"',
            *("sh", cpuinfo, sys.executable, tmp_path / "doctor.py"),
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(path), "CHIPS": chips}
        | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


BOTH = pytest.mark.parametrize(
    "gpiozero",
    [
        None,
        pytest.param(
            GPIOZERO_2,
            marks=pytest.mark.skipif(not GPIOZERO_2.is_dir(), reason="scripts/setup dev"),
        ),
    ],
    ids=["debian", "2.0.1"],
)


@BOTH
@pytest.mark.parametrize(
    ("chip", "chips", "opened", "result"),
    [
        (0, "0", "open 0", "ok"),
        (0, "4", "open 0", "fail"),
        (4, "4", "open 4", "ok"),
        (None, "0", "open 4, open 0", "ok"),
        (None, "4", "open 4", "ok"),
    ],
)
def test_a_pi_5_opens_the_chip_that_is_set_or_the_headers(
    tmp_path: Path, gpiozero: Path | None, *, chip: int | None, chips: str, opened: str, result: str
) -> None:
    """Left to itself gpiozero 2 opens 4 whatever is set, and 1.6 opens 0."""
    if Path("/dev/gpiochip0").exists():
        pytest.skip("this machine has a GPIO chip")
    *told, verdict = on_a_pi_5(tmp_path, chip, chips, gpiozero).splitlines()
    assert ", ".join(told) == opened
    assert verdict.split()[0] == result


@BOTH
@pytest.mark.parametrize("name", ["pigpio", "nonsense"])
def test_the_doctor_names_a_foreign_pin_factory(
    tmp_path: Path, gpiozero: Path | None, name: str
) -> None:
    """Its own complaint is about a daemon or a name that nobody here has heard of."""
    told = on_a_pi_5(tmp_path, None, "0", gpiozero, GPIOZERO_PIN_FACTORY=name)
    assert told.startswith("fail")
    assert f"GPIOZERO_PIN_FACTORY={name}" in told
