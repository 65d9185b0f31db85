"""The microphone: a device kept open, its sound cut into numbered frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentd.audio import flatline, formats
from agentd.audio.devices import CaptureDevice
from agentd.audio.flatline import Flatline, SilenceChange
from agentd.audio.health import DeviceHealth
from agentd.audio.offset import OffsetFilter
from agentd.audio.opening import open_devices
from agentd.audio.supervise import OPENING_S, STALL_S, DeviceSupervisor, DeviceTrouble
from agentd.clock import Clock
from agentd.config.settings import Audio
from agentd.events import (
    CaptureBack,
    CaptureHeard,
    CaptureLost,
    CaptureSilent,
    Emit,
    Frame,
    FramesLost,
    StreamWedged,
)

RELOCK_S = 0.2  # a period later than this against the count of samples means missing sound
DRIFT = 0.0003  # a device's clock may run this much slow; also undoes a wrongly early start


@dataclass(frozen=True, slots=True)
class CaptureStats:
    """What `agentd status` tells about the microphone."""

    device: str
    frames: int
    overruns: int
    lost_frames: int
    level_dbfs: float  # of the newest frame
    alive: bool
    wedged: int
    trouble: str = ""  # why it does not work; empty when it does, and when it is closed on purpose
    remedy: str = ""
    offset_percent: float = 0.0  # of full scale; taken out before anything hears it


class SampleClock:
    """When samples were really taken, from when they arrived. Pure.

    Delays only ever make sound arrive late, so its true time is the lower edge of arrivals.
    """

    def __init__(self) -> None:
        self._expected_s: float | None = None

    def stamp(self, arrived_s: float, duration_s: float, overrun: bool) -> tuple[float, float]:
        """Return the time of a period's first sample and how much sound is missing before it.

        `arrived_s` is after its last sample. Being late alone loses nothing (the thread may just
        have been slow); together with an overrun it does.
        """
        first_s = arrived_s - duration_s
        missing_s = 0.0
        if self._expected_s is not None:
            late_s = first_s - self._expected_s
            if overrun:
                missing_s = max(late_s, duration_s)
                first_s = self._expected_s + missing_s
            elif late_s < RELOCK_S:
                first_s = min(first_s, self._expected_s + duration_s * DRIFT)
        self._expected_s = first_s + duration_s
        return first_s, missing_s

    def reset(self) -> None:
        """Forget the past: the device was closed."""
        self._expected_s = None


class Microphone:
    """Captures for as long as it is not paused; a missing device is told and tried again.

    Call `run` as a task. `on_frame` is called on the event loop for every 20 ms.
    """

    def __init__(
        self,
        settings: Audio,
        *,
        clock: Clock,
        emit: Emit,
        on_frame: Callable[[Frame], None],
        device: CaptureDevice | None = None,
        stall_s: float = STALL_S,
        opening_s: float = OPENING_S,
    ) -> None:
        self._device = device or open_devices(settings, clock)[0]
        self._gain = formats.gain_of_db(settings.capture_gain_db)
        self._clock = clock
        self._emit = emit
        self._on_frame = on_frame
        self._samples = SampleClock()
        self._offset = OffsetFilter()
        self._health = DeviceHealth("capture")
        self._flatline = Flatline()
        self._silence: DeviceTrouble | None = None
        self._rest = b""
        self._rest_s = 0.0
        self._frames = 0
        self._lost = 0
        self._index = 0
        self._overruns = 0
        self._newest = b""
        self._silent = True  # since the start, or since it was opened again
        self._reopened = True
        self._capturing = False
        self._supervisor = DeviceSupervisor(
            self._capture,
            clock=clock,
            on_lost=self._device_lost,
            on_wedged=self._device_wedged,
            stall_s=stall_s,
            opening_s=opening_s,
        )

    async def run(self) -> None:
        """Capture until cancelled."""
        await self._supervisor.run()

    def pause(self) -> None:
        """Close the device: muted."""
        self._supervisor.pause()

    def resume(self) -> None:
        """Open the device again."""
        self._health.forget()
        self._silent = self._silent or self._supervisor.paused
        self._supervisor.resume()

    async def closed(self) -> None:
        """Wait until the device is really closed after `pause`."""
        await self._supervisor.closed()

    @property
    def stats(self) -> CaptureStats:
        """Return what is known now; the level is worked out only when asked for."""
        trouble = None if self._supervisor.paused else self._health.told or self._silence
        return CaptureStats(
            device=self._device.name,
            frames=self._frames,
            overruns=self._overruns,
            lost_frames=self._lost,
            level_dbfs=formats.level_dbfs(self._newest),
            alive=not self._health.is_lost and not self._silent and not self._supervisor.paused,
            wedged=self._health.wedged,
            trouble=trouble.cause if trouble else "",
            remedy=trouble.remedy if trouble else "",
            offset_percent=100.0 * self._offset.offset / formats.FULL_SCALE,
        )

    async def _capture(self) -> None:
        self._samples.reset()
        self._offset = OffsetFilter()
        self._health.opened()
        self._flatline.reopened()
        self._rest = b""
        self._reopened = True
        self._capturing = True
        try:
            await self._device.capture(self._take)
        finally:
            self._capturing = False

    def _take(self, pcm: bytes, arrived_s: float, overrun: bool) -> None:
        if self._supervisor.paused or not self._capturing:
            return  # a device that takes its time to close, or opened after we gave up on it
        self._supervisor.beat()
        duration_s = len(pcm) // formats.SAMPLE_BYTES / formats.CAPTURE_RATE_HZ
        first_s, missing_s = self._samples.stamp(arrived_s, duration_s, overrun)
        if not self._keeps_time(duration_s, arrived_s, missing_s):
            return
        if self._health.is_lost or self._silent:
            self._device_back()
        if overrun:
            self._count_lost(missing_s)
        if not self._rest:
            if self._reopened:
                self._skip_outage(first_s)
            self._rest_s = first_s
        self._cut(self._rest + pcm)

    def _keeps_time(self, duration_s: float, arrived_s: float, missing_s: float) -> bool:
        """Return whether what came may be heard: the device keeps time, as far as is known.

        One that was closed because it did not must prove it first.
        """
        pacing = self._health.take(duration_s, arrived_s, missing_s)
        if pacing.failed:
            self._supervisor.fail(pacing.failed)
        if pacing.proved:
            self._supervisor.work()
        return pacing.usable

    def _skip_outage(self, first_s: float) -> None:
        """Let the index show how long the device was closed."""
        self._reopened = False
        if self._frames:
            self._index += max(1, round((first_s - self._rest_s) / formats.FRAME_S))

    def _count_lost(self, missing_s: float) -> None:
        frames = max(1, round(missing_s / formats.FRAME_S))
        self._overruns += 1
        self._lost += frames
        self._index += frames
        self._rest = b""  # half a frame from before the hole belongs to nothing
        self._emit(FramesLost(frames=frames, cause="overrun"))

    def _cut(self, pcm: bytes) -> None:
        at = 0
        while len(pcm) - at >= formats.FRAME_BYTES:
            self._newest = self._cleaned(pcm[at : at + formats.FRAME_BYTES])
            frame = Frame(self._index, self._rest_s, self._newest)
            self._frames += 1
            self._index += 1
            self._rest_s += formats.FRAME_S
            at += formats.FRAME_BYTES
            self._on_frame(frame)
        self._rest = pcm[at:]

    def _cleaned(self, raw: bytes) -> bytes:
        """Return a frame as everybody else hears it; first of all look whether there is sound."""
        change = None if self._device.has_ended else self._flatline.take(raw)
        if change is not None:
            self._report_sound(change)
        return formats.amplify(self._offset.clean(raw), self._gain)

    def _report_sound(self, change: SilenceChange) -> None:
        name = self._device.name
        if change is SilenceChange.SOUND:
            self._silence = None
            self._emit(CaptureHeard(device=name))
            return
        found = flatline.trouble_of(self._flatline.value, self._device.other_channel)
        self._silence = found
        silent_s = self._flatline.silent_s
        self._emit(
            CaptureSilent(device=name, cause=found.cause, silent_s=silent_s, remedy=found.remedy)
        )

    def _device_back(self) -> None:
        outage_s = self._health.back(self._clock.monotonic())
        self._silent = False
        self._emit(CaptureBack(device=self._device.name, outage_s=outage_s))

    def _device_lost(self, trouble: DeviceTrouble) -> None:
        if self._health.lost(trouble, self._clock.monotonic()):
            self._emit(
                CaptureLost(device=self._device.name, cause=trouble.cause, remedy=trouble.remedy)
            )

    def _device_wedged(self) -> None:
        self._health.wedged += 1
        self._emit(StreamWedged(device=self._device.name, abandoned=self._health.wedged))
