"""Keep a sound device running: notice its end and its silence, and open it again.

A device can fail loudly (an error), or silently: PortAudio's callback has been seen to stop
without any (#930, #1074). So it must show signs of life; without them it is closed and reopened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from agentd.clock import Clock
from agentd.errors import AudioError, DeviceWedged
from agentd.waiting import end

STALL_S = 1.0  # without a sign of life for this long a device has stopped
OPENING_S = 4.0  # a device may take this long to show the first one
LOOKS = 4  # that time is waited for in so many parts
LATE_S = 0.25  # a part that ends so late was our own stall, and says nothing about the device
RETRIES_S = (0.25, 0.5, 1.0)  # the last is repeated
# After `fail`: opening it again costs a burst of what was wrong with it.
FAULT_RETRIES_S = (5.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class DeviceTrouble:
    """Why a device does not run; what to do about it stands in the second part."""

    cause: str
    remedy: str


def trouble_of(error: Exception) -> DeviceTrouble:
    """Split an error's text into cause and remedy, where the sentence ends."""
    cause, _, remedy = str(error).partition(". ")
    return DeviceTrouble(cause, remedy or "See `agentd doctor`")


class DeviceSupervisor:
    """Runs one device for as long as it is wanted."""

    def __init__(
        self,
        run_device: Callable[[], Coroutine[Any, Any, None]],
        *,
        clock: Clock,
        on_lost: Callable[[DeviceTrouble], None],
        on_wedged: Callable[[], None],
        stall_s: float = STALL_S,
        opening_s: float = OPENING_S,
    ) -> None:
        self._run_device = run_device
        self._clock = clock
        self._on_lost = on_lost
        self._on_wedged = on_wedged
        self._stall_s = stall_s
        self._opening_s = opening_s
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._unwanted = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()
        self._beats = 0
        self._fault: DeviceTrouble | None = None
        self._faults = 0  # in a row

    def beat(self) -> None:
        """Count a sign of life."""
        self._beats += 1

    def pause(self) -> None:
        """Close the device until `resume`."""
        self._wanted.clear()
        self._unwanted.set()

    def resume(self) -> None:
        """Open the device again."""
        self._unwanted.clear()
        self._wanted.set()

    def fail(self, trouble: DeviceTrouble) -> None:
        """Close the device, which runs but not as it should; it is tried again, ever less often."""
        if self._fault is None and not self._stopped.is_set():
            self._fault = trouble
            self._unwanted.set()

    def work(self) -> None:
        """Note that the device does what it should: the next fault is a first one."""
        self._faults = 0

    @property
    def paused(self) -> bool:
        """Say whether the device is meant to be closed."""
        return not self._wanted.is_set()

    async def closed(self) -> None:
        """Wait until the device is closed after `pause`."""
        await self._stopped.wait()

    async def run(self) -> None:
        """Run the device, reopening it after failures, until cancelled."""
        failures = 0
        while True:
            await self._wanted.wait()
            self._stopped.clear()
            beats = self._beats
            trouble = await self._attend()
            self._stopped.set()
            fault = self._take_fault()
            if trouble is None:
                failures = 0
                continue
            # Each failure in a row waits longer; having run at all starts over.
            failures = 1 if self._beats != beats else failures + 1
            self._on_lost(trouble)
            waits_s, count = (FAULT_RETRIES_S, self._faults) if fault else (RETRIES_S, failures)
            await self._clock.sleep(waits_s[min(count, len(waits_s)) - 1])

    def _take_fault(self) -> bool:
        """Return whether `fail` has closed the device, and be ready for the next opening."""
        fault, self._fault = self._fault, None
        if fault is None:
            return False
        self._faults += 1
        if not self.paused:
            self._unwanted.clear()
        return True

    async def _attend(self) -> DeviceTrouble | None:
        """Run the device once; return why it ended, or None if that was wanted."""
        device = asyncio.create_task(self._run_device())
        unwanted = asyncio.create_task(self._unwanted.wait())
        try:
            trouble = await self._watch(device, unwanted)
        finally:
            unwanted.cancel()
            try:
                await end(device)
            finally:
                outcome = None if device.cancelled() else device.exception()
                if isinstance(outcome, DeviceWedged):
                    self._on_wedged()
        if self.paused or trouble or device.cancelled():
            return trouble
        if isinstance(outcome, AudioError):
            return trouble_of(outcome)
        if outcome is not None:
            raise outcome
        return DeviceTrouble("the device has ended", "agentd reopens it")

    async def _watch(
        self, device: asyncio.Task[None], unwanted: asyncio.Task[Literal[True]]
    ) -> DeviceTrouble | None:
        """Wait until the device ends, is unwanted, or shows no life; say why it must be reopened.

        An error of the device's own is left to the caller.
        """
        patience_s, quiet = self._opening_s, 0
        time_s = asyncio.get_running_loop().time
        while True:
            seen, since_s, look_s = self._beats, time_s(), patience_s / LOOKS
            await asyncio.wait(
                (device, unwanted), timeout=look_s, return_when=asyncio.FIRST_COMPLETED
            )
            if unwanted.done() or device.done():
                return None if self.paused else self._fault
            if self._beats != seen:
                patience_s, quiet = self._stall_s, 0
            elif time_s() - since_s < look_s + LATE_S:
                quiet += 1
            if quiet == LOOKS:
                return DeviceTrouble(
                    f"no sign of life for {patience_s:.0f} s",
                    "agentd reopens it; if this goes on, replug it or check its power supply",
                )
