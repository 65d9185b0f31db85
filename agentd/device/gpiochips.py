"""The GPIO chips of this machine: which is the header's, and why one cannot be opened.

A chip's number is the order in which drivers came; its label is what it is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentd.errors import GpioError
from agentd.text import safe_text

# linux/gpio.h: _IOR(0xB4, 0x01, struct gpiochip_info {char name[32], label[32]; __u32 lines;})
_GET_CHIPINFO: Final = 0x8044B401
_CHIPINFO: Final = struct.Struct("32s32sI")

HEADER_LABELS: Final = ("pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835")
"""Of the 40-pin header: Raspberry Pi 5, 4, and those before (drivers/pinctrl in their kernel)."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One `/dev/gpiochipN`: its label, or the errno of the attempt to read it."""

    number: int
    label: str = ""
    error: int = 0

    def __str__(self) -> str:
        what = self.label or os.strerror(self.error)
        return f"{self.number} ({safe_text(what, 40)})"


def list_chips(dev: Path = Path("/dev")) -> list[Chip]:
    """Return the chips that the kernel shows, by number."""
    names = (re.fullmatch(r"gpiochip(\d+)", path.name) for path in dev.glob("gpiochip*"))
    return [_look(dev, number) for number in sorted(int(name[1]) for name in names if name)]


def _look(dev: Path, number: int) -> Chip:
    try:
        fd = os.open(dev / f"gpiochip{number}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            told = fcntl.ioctl(fd, _GET_CHIPINFO, bytes(_CHIPINFO.size))
        finally:
            os.close(fd)
    except OSError as error:
        return Chip(number, error=error.errno or errno.EIO)
    label = _CHIPINFO.unpack(told)[1].partition(b"\0")[0]
    return Chip(number, label.decode(errors="replace"))


def header_chips(chips: Sequence[Chip], is_pi_5: bool) -> tuple[int, ...]:
    """Return the numbers to try for the header, best first.

    Where no label can be read: on a Raspberry Pi 5 what there is of 4, its number in kernels before
    6.6.45, and 0 (raspberrypi/linux#6144); elsewhere 0.
    """
    for label in HEADER_LABELS:
        for chip in chips:
            if chip.label == label:
                return (chip.number,)
    usual = (4, 0) if is_pi_5 else (0,)
    return tuple(n for n in usual if any(chip.number == n for chip in chips)) or usual


def cannot_open(number: int, chips: Sequence[Chip], *, configured: bool) -> GpioError:
    """Return why chip `number` cannot be opened, with the one thing to do."""
    node = f"/dev/gpiochip{number}"
    chip = next((chip for chip in chips if chip.number == number), None)
    there = ", ".join(map(str, chips))
    if chip is None and not chips:
        return GpioError(
            f"can not open {node}: the kernel has no GPIO chip",
            remedy="Without pins leave [gpio] empty; on a board with pins enable them in its "
            "device tree (`ls /dev/gpiochip*` must show them)",
        )
    if chip is None:
        return GpioError(
            f"can not open {node}: it is not there; chips now: {there}",
            remedy=f"{'Correct' if configured else 'Set'} gpio.chip: one of "
            f"{', '.join(str(one.number) for one in chips)}",
        )
    if chip.error == errno.EPERM:
        return GpioError(
            f"can not open {node}: the service may not (Operation not permitted)",
            remedy="sudo systemctl restart agentd; `systemctl show -p DeviceAllow agentd` must "
            "have char-gpiochip",
        )
    if chip.error == errno.EACCES:
        return GpioError(
            f"can not open {node}: permission denied",
            remedy=f"Add the user to the group gpio; the owner of {node} must be that group",
        )
    return GpioError(
        f"can not open {node} ({os.strerror(chip.error) if chip.error else chip.label})",
        remedy=f"Look for its driver in `dmesg`, or set gpio.chip; chips now: {there}",
    )
