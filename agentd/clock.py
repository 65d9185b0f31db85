"""Time, injected.

A Pi has no battery-backed clock: wall time jumps when NTP first answers. Durations therefore use
monotonic time; ages that must survive a reboot carry wall time together with whether the clock
was synchronised when it was read.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from dataclasses import dataclass, field
from typing import Protocol

STA_UNSYNC = 0x0040  # adjtimex(2): the kernel clock is not synchronised


@dataclass(frozen=True, slots=True)
class WallTime:
    """A wall-clock reading and how far it can be trusted."""

    unix_s: float
    synchronised: bool


class Clock(Protocol):
    """Monotonic and wall time, and waiting on the former."""

    def monotonic(self) -> float:
        """Return seconds that never jump; the origin is arbitrary."""

    def wall(self) -> WallTime:
        """Return the wall-clock time and whether it is synchronised."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of this clock's monotonic time."""


class SystemClock:
    """The kernel's clocks; `scale` > 1 makes monotonic time pass faster (soak tests)."""

    def __init__(self, scale: float = 1.0) -> None:
        if scale <= 0:
            raise ValueError(f"time scale {scale} must be above 0")
        self._scale = scale
        self._origin_s = time.monotonic()
        self._wall_origin_s = time.time()

    def monotonic(self) -> float:
        """Return seconds that never jump; the origin is arbitrary."""
        if self._scale == 1.0:
            return time.monotonic()
        return self._origin_s + (time.monotonic() - self._origin_s) * self._scale

    def wall(self) -> WallTime:
        """Return the wall-clock time and whether NTP has set it."""
        now = time.time()
        if self._scale != 1.0:
            now = self._wall_origin_s + (now - self._wall_origin_s) * self._scale
        return WallTime(now, kernel_clock_synchronised())

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of scaled time."""
        await asyncio.sleep(max(0.0, seconds) / self._scale)


@dataclass(slots=True)
class FakeClock:
    """A clock that moves only when told to; waiting is not possible on it."""

    now_s: float = 1_000.0
    unix_s: float = 1_800_000_000.0
    synchronised: bool = True
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Return the virtual monotonic time."""
        return self.now_s

    def wall(self) -> WallTime:
        """Return the virtual wall time."""
        return WallTime(self.unix_s, self.synchronised)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        if seconds < 0:
            raise ValueError("time does not run backwards; set unix_s to make the wall clock jump")
        self.now_s += seconds
        self.unix_s += seconds

    async def sleep(self, seconds: float) -> None:
        """Advance at once and let other tasks run."""
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))
        await asyncio.sleep(0)


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2); only the head is read, the rest is room for the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_long * 40),
    )


def kernel_clock_synchronised() -> bool:
    """Ask the kernel whether something disciplines its clock (timedatectl shows the same bit)."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return False
    return state >= 0 and not timex.status & STA_UNSYNC
