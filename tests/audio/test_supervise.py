"""What counts as a device that has stopped, and what does not."""

from __future__ import annotations

import asyncio
import time

from agentd.audio.supervise import LATE_S, DeviceSupervisor, DeviceTrouble
from agentd.clock import SystemClock

STALL_S = 0.2


class Device:
    """Opens, and shows signs of life only when told to."""

    def __init__(self) -> None:
        self.lost: list[DeviceTrouble] = []
        self.opened = asyncio.Event()
        self.reported = asyncio.Event()
        self.supervisor = DeviceSupervisor(
            self._run,
            clock=SystemClock(),
            on_lost=self._on_lost,
            on_wedged=lambda: None,
            stall_s=STALL_S,
            opening_s=STALL_S,
        )

    async def _run(self) -> None:
        self.opened.set()
        await asyncio.Event().wait()

    def _on_lost(self, trouble: DeviceTrouble) -> None:
        self.lost.append(trouble)
        self.reported.set()


def stand_still(seconds: float) -> None:
    """Inject the fault: nothing in this process runs for a while."""
    time.sleep(seconds)


async def live(device: Device, scene: asyncio.Task[None]) -> None:
    running = asyncio.create_task(device.supervisor.run())
    try:
        async with asyncio.timeout(30.0):
            await scene
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_machine_that_stood_still_does_not_blame_the_device() -> None:
    """Swap, a frozen container, a starved Pi: nobody ran, so nobody could show life."""

    async def main() -> None:
        device = Device()

        async def scene() -> None:
            await device.opened.wait()
            device.supervisor.beat()
            for _ in range(3):
                stand_still(STALL_S + LATE_S)
                for _ in range(5):
                    await asyncio.sleep(0)  # the supervisor gets to judge before the device beats
            device.supervisor.beat()

        await live(device, asyncio.create_task(scene()))
        assert device.lost == []

    asyncio.run(main())


def test_a_silent_device_is_found_out_all_the_same() -> None:
    """The loop turns, the device does not."""

    async def main() -> None:
        device = Device()

        async def scene() -> None:
            await device.opened.wait()
            device.supervisor.beat()
            await device.reported.wait()

        await live(device, asyncio.create_task(scene()))
        assert "no sign of life" in device.lost[0].cause

    asyncio.run(main())
