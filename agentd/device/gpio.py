"""The way to pins: gpiozero, imported only when a pin is configured, its troubles put in words.

gpiozero 1.6.2 (bookworm) and 2.x both work. `GPIOZERO_PIN_FACTORY` is respected (mock, native);
without it lgpio comes first, because it needs nothing but `/dev/gpiochip*`, which is all that the
service may open.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from agentd import environment
from agentd.errors import GpioError
from agentd.events import Emit, GpioUnavailable

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
    ("can not open gpiochip", "Check that /dev/gpiochip0 exists and that the user may open it"),
    ("pin factory", "Check that /dev/gpiochip0 exists and that the user may open it"),
    ("pi revision", "On a board that is no Raspberry Pi set gpio.chip"),
    ("no module named", "Install python3-gpiozero and python3-lgpio"),
)
_OTHER_ADVICE = "Check the pin number (BCM) in [gpio]; `pinctrl` or `gpioinfo` list the pins"


def open_factory(chip: int | None = None) -> Any:
    """Return a gpiozero pin factory; None means gpiozero's own choice.

    Raises:
        GpioError: gpiozero is not installed or the chip cannot be opened.
    """
    with _troubles():
        import gpiozero  # noqa: F401 - the backends below need it complete

        if os.environ.get("GPIOZERO_PIN_FACTORY", "lgpio") != "lgpio":
            return None
        return _lgpio_or_default() if chip is None else _plain_lgpio(chip)


def _mend_lgpio() -> None:
    """Give lgpio the names that gpiozero 1.6.2 (bookworm) knows; lgpio 0.2 has renamed them.

    gpiozero 2 does the same. The library leaves a pipe in its working directory, LG_WD.
    """
    environment.reserve()
    import lgpio

    for before, after in _LGPIO_RENAMED.items():
        if not hasattr(lgpio, before):
            setattr(lgpio, before, getattr(lgpio, after))


def _lgpio_or_default() -> Any:
    try:
        _mend_lgpio()
        from gpiozero.pins.lgpio import LGPIOFactory

        factory = LGPIOFactory()
        _ = factory.pi_info if hasattr(factory, "pi_info") else factory.board_info
    except Exception:  # noqa: BLE001 - lgpio raises its own classes; whatever it was, try the others
        return None
    return factory


def _plain_lgpio(chip: int) -> Any:
    _mend_lgpio()
    from gpiozero.exc import PinUnknownPi
    from gpiozero.pins.lgpio import LGPIOFactory

    class PlainBoardFactory(LGPIOFactory):  # type: ignore[misc]  # gpiozero is untyped
        def _get_revision(self) -> int:
            try:
                return int(super()._get_revision())
            except PinUnknownPi:
                return PLAIN_BOARD_REVISION

    return PlainBoardFactory(chip=chip)


def attempt(part: str, make: Callable[[], _T], emit: Emit) -> _T | None:
    """Return what `make` makes; if a pin is in the way, tell it as an event and return None."""
    try:
        with _troubles():
            return make()
    except GpioError as error:
        cause = str(error)
        emit(GpioUnavailable(part=part, cause=cause, remedy=advise(cause)))
        return None


def advise(cause: str) -> str:
    """Return what to do about `cause`."""
    lowered = cause.lower()
    return next((advice for sign, advice in _ADVICE if sign in lowered), _OTHER_ADVICE)


@contextmanager
def _troubles() -> Iterator[None]:
    """Turn whatever gpiozero and its backends raise or warn into one `GpioError`."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            yield
        except Exception as error:
            # The failure says "no factory"; why each one failed stands in the warnings.
            reasons = [str(warning.message) for warning in told]
            useful = [reason for reason in reasons if "gpiochip" in reason] or reasons[:1]
            text = "; ".join([str(error) or type(error).__name__, *useful])
            raise GpioError(text.strip("'\"").replace("\n", " ")) from error
