"""The way to pins: gpiozero, imported only when a pin is configured, its troubles put in words.

gpiozero 1.6.2 (bookworm) and 2.x both work. `GPIOZERO_PIN_FACTORY` is respected (mock, native);
without it it is lgpio, because that needs nothing but `/dev/gpiochip*`, which is all that the
service may open.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from agentd import environment
from agentd.device.gpiochips import Chip, cannot_open, header_chips, list_chips
from agentd.errors import GpioError
from agentd.events import Emit, GpioUnavailable
from agentd.text import safe_text

FACTORY_VARIABLE: Final = "GPIOZERO_PIN_FACTORY"
# A Raspberry Pi 4: boards that are none get its numbering, in which pin N is line N of the chip.
PLAIN_BOARD_REVISION = 0xC03111

_T = TypeVar("_T")

_LGPIO_RENAMED = {
    "SET_BIAS_DISABLE": "SET_PULL_NONE",
    "SET_BIAS_PULL_UP": "SET_PULL_UP",
    "SET_BIAS_PULL_DOWN": "SET_PULL_DOWN",
}

_ADVICE = (
    ("in use", "Another device of this configuration has the pin; give each its own"),
    ("busy", "Another program or a kernel overlay holds the pin; stop it or use another pin"),
    ("permission", "Add the user to the group gpio and check the owner of /dev/gpiochip*"),
    ("no module named 'gpiozero'", "Install python3-gpiozero and python3-lgpio"),
    ("no module named 'lgpio'", "Install python3-lgpio"),
    ("pi revision", "On a board that is no Raspberry Pi set gpio.chip"),
)
_OTHER_ADVICE = "Check the pin number (BCM) in [gpio]; `pinctrl` or `gpioinfo` list the pins"


def open_factory(chip: int | None = None, *, chips: Callable[[], list[Chip]] = list_chips) -> Any:
    """Return a gpiozero pin factory on `chip`; None means gpiozero's own choice.

    Without a number it is the chip of the header, which is known by its label: its number is 0 or
    4 on a Raspberry Pi 5, by the kernel. gpiozero 2 goes by the board alone there (4), and takes
    no other number (gpiozero#1166).

    Raises:
        GpioError: gpiozero is not installed or the chip cannot be opened; with the remedy.
    """
    with _troubles():
        import gpiozero  # noqa: F401 - the backends below need it complete

        if chosen_factory():
            return None
        try:
            _mend_lgpio()
        except ModuleNotFoundError:
            # Another library may do, where the daemon is not confined to /dev/gpiochip*.
            return None
        return _open_lgpio(chip, chips)


def chosen_factory(environ: Mapping[str, str] = os.environ) -> str:
    """Return the library that GPIOZERO_PIN_FACTORY chooses in place of lgpio; empty if none."""
    name = environ.get(FACTORY_VARIABLE, "")
    return "" if name.lower() == "lgpio" else name


def _mend_lgpio() -> None:
    """Give lgpio the names that gpiozero 1.6.2 (bookworm) knows; lgpio 0.2 has renamed them.

    gpiozero 2 does the same. The library leaves a pipe in its working directory, LG_WD.
    """
    environment.reserve()
    import lgpio

    for before, after in _LGPIO_RENAMED.items():
        if not hasattr(lgpio, before) and hasattr(lgpio, after):
            setattr(lgpio, before, getattr(lgpio, after))


def _open_lgpio(chip: int | None, chips: Callable[[], list[Chip]]) -> Any:
    found = chips()
    wanted = (chip,) if chip is not None else header_chips(found, _is_pi_5())
    failure: Exception | None = None
    for number in wanted:
        try:
            return _make_factory(number, any_board=chip is not None)
        except Exception as error:  # noqa: BLE001 - lgpio raises its own classes
            failure = failure or error
    assert failure is not None
    text = str(failure).strip("'\"")
    if "gpiochip" not in text.lower():
        raise failure
    raise cannot_open(wanted[0], found, configured=chip is not None) from failure


def _make_factory(chip: int, *, any_board: bool) -> Any:
    """Return gpiozero's factory for lgpio on a chip.

    `any_board`: a person has named the chip, so pin N is line N of it also where the board is no
    Raspberry Pi. Otherwise nobody knows what is on the lines of such a board.
    """
    import lgpio
    from gpiozero.exc import PinUnknownPi
    from gpiozero.pins.lgpio import LGPIOFactory, LGPIOPin

    class HeaderFactory(LGPIOFactory):  # type: ignore[misc]  # gpiozero is untyped
        """gpiozero's factory on the chip that it is given, on any board."""

        def __init__(self, chip: int) -> None:
            # Not LGPIOFactory's own: in gpiozero 2 it opens a chip by the board's revision.
            super(LGPIOFactory, self).__init__()
            self._handle = lgpio.gpiochip_open(chip)
            self._chip = chip
            self.pin_class = LGPIOPin

        def _get_revision(self) -> int:
            try:
                return int(super()._get_revision())
            except PinUnknownPi:
                if any_board:
                    return PLAIN_BOARD_REVISION
                raise

    factory = HeaderFactory(chip)
    try:
        _ = factory.pi_info if hasattr(factory, "pi_info") else factory.board_info
    except Exception:
        factory.close()
        raise
    return factory


def _is_pi_5(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the board is of the family 0x17 (Raspberry Pi 5), by its revision code."""
    try:
        found = re.search(r"(?m)^Revision\s*:\s*([0-9a-fA-F]+)", cpuinfo.read_text())
    except (OSError, UnicodeDecodeError):
        return False
    return found is not None and (int(found[1], 16) >> 4) & 0xFF == 0x17


def attempt(part: str, make: Callable[[], _T], emit: Emit) -> _T | None:
    """Return what `make` makes; if a pin is in the way, tell it as an event and return None."""
    try:
        with _troubles():
            return make()
    except GpioError as error:
        emit(GpioUnavailable(part=part, cause=str(error), remedy=error.remedy))
        return None


def advise(cause: str, chosen: str = "") -> str:
    """Return what to do about `cause`; `chosen` is what GPIOZERO_PIN_FACTORY chooses."""
    lowered = cause.lower()
    if chosen and "in use" not in lowered:
        return (
            f"{FACTORY_VARIABLE}={safe_text(chosen, 40)} chooses how pins are reached; remove it "
            "(`systemctl show -p Environment agentd` shows the unit's), agentd then uses lgpio"
        )
    return next((advice for sign, advice in _ADVICE if sign in lowered), _OTHER_ADVICE)


@contextmanager
def _troubles() -> Iterator[None]:
    """Turn whatever gpiozero and its backends raise or warn into one `GpioError`."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            yield
        except GpioError:
            raise
        except Exception as error:
            # The failure says "no factory"; why each one failed stands in the warnings.
            reasons = [str(warning.message) for warning in told]
            # The first one is lgpio, which is what agentd wants.
            text = "; ".join([str(error) or type(error).__name__, *reasons[:1]])
            cause = safe_text(text.strip("'\""))
            raise GpioError(cause, remedy=advise(cause, chosen_factory())) from error
