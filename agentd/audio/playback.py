"""The speaker: replies and sounds through the cushion into a device kept open.

The device asks for its next period on its own thread. All that happens there is a read of the
cushion under a lock; what it notes goes to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agentd.audio import formats
from agentd.audio import jitter as notes
from agentd.audio.devices import PlaybackDevice
from agentd.audio.echo.playout import PlayoutClock
from agentd.audio.health import DeviceHealth
from agentd.audio.jitter import JitterBuffer
from agentd.audio.opening import open_devices
from agentd.audio.supervise import OPENING_S, STALL_S, DeviceSupervisor, DeviceTrouble
from agentd.clock import Clock
from agentd.config.settings import Audio
from agentd.events import (
    Downlink,
    Emit,
    PlaybackBack,
    PlaybackLost,
    PlaybackMark,
    ReplyAudio,
    ReplyCancelled,
    ReplyComplete,
    ReplyDrained,
    ReplyOverflow,
    ReplyStarted,
    StreamWedged,
    Underrun,
)

FarEnd = Callable[[bytes, float], None]
"""Take 24 kHz PCM as it was really played, and the monotonic time at which its first is heard."""

IDLE_S = 2.0  # without keep_alive: the device closes after so much silence


@dataclass(frozen=True, slots=True)
class PlaybackStats:
    """What `agentd status` tells about the speaker."""

    device: str
    underruns: int  # a reply did not arrive in time
    ran_dry: int  # the device was not served in time
    buffered_ms: float
    cushion_ms: float
    playing_turn: int | None
    alive: bool
    late_bytes: int
    wedged: int
    trouble: str = ""  # why it does not work; empty when it does, and when it is closed on purpose
    remedy: str = ""


class Player:
    """Plays what it is given. Call `run` as a task; all other methods are for the event loop.

    `on_far_end` is called there too, for every period that is not silent.
    """

    def __init__(
        self,
        settings: Audio,
        *,
        clock: Clock,
        emit: Emit,
        on_mark: Callable[[PlaybackMark], None],
        on_far_end: FarEnd | None = None,
        device: PlaybackDevice | None = None,
        stall_s: float = STALL_S,
        opening_s: float = OPENING_S,
    ) -> None:
        self._device = device or open_devices(settings, clock)[1]
        self._keep_alive = settings.keep_alive
        self._clock = clock
        self._emit = emit
        self._on_mark = on_mark
        self._on_far_end = on_far_end
        self._on_torn: Callable[[], None] | None = None
        self._ran_dry = 0  # of the device's count, seen
        self._playout = PlayoutClock()
        self._health = DeviceHealth("playback")
        self._lock = threading.Lock()
        self._cushion = JitterBuffer(settings.cushion_ms)
        self._cushion.set_volume(formats.gain_of_percent(settings.volume_percent))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._silent_periods = 0
        self._overflowed_turn: int | None = None
        self._played_ever = False
        self._supervisor = DeviceSupervisor(
            self._play,
            clock=clock,
            on_lost=self._device_lost,
            on_wedged=self._device_wedged,
            stall_s=stall_s,
            opening_s=opening_s,
        )
        if not self._keep_alive:
            self._supervisor.pause()

    async def run(self) -> None:
        """Play until cancelled."""
        await self._supervisor.run()

    # ── for the stages ────────────────────────────────────────────────────────────────────────

    def hear(self, value: Downlink) -> None:
        """Take a piece of a reply, its end, or the order to stop; never blocks."""
        with self._lock:
            accepted = self._apply(value)
            collected = self._cushion.take_notes()
        if isinstance(value, ReplyAudio):
            if not accepted:
                self._tell_overflow(value.turn)
            self._wake()
        self._tell(collected)

    def sound(self, pcm: bytes, *, duck: bool = True) -> None:
        """Play an earcon (int16 mono 24 kHz) at once, over a reply if there is one."""
        if self._health.is_lost:
            return
        with self._lock:
            self._cushion.play(pcm, duck=duck)
        self._wake()

    def hush(self) -> None:
        """Stop earcons and alarms; the reply goes on."""
        with self._lock:
            self._cushion.hush()

    def tell_far_end(self, on_far_end: FarEnd, on_torn: Callable[[], None] | None = None) -> None:
        """Call them from now on: an echo canceller has been loaded.

        `on_torn` is called when the device ran dry: what follows is heard later than it was said.
        """
        self._on_far_end, self._on_torn = on_far_end, on_torn

    def set_volume(self, percent: int) -> None:
        """Set the software volume, 0 to 100."""
        with self._lock:
            self._cushion.set_volume(formats.gain_of_percent(percent))

    @property
    def stats(self) -> PlaybackStats:
        """Return what is known now."""
        trouble = None if self._supervisor.paused else self._health.told
        with self._lock:
            return PlaybackStats(
                device=self._device.name,
                underruns=self._cushion.underruns,
                ran_dry=self._device.ran_dry,
                buffered_ms=self._cushion.buffered_ms,
                cushion_ms=self._cushion.cushion_ms,
                playing_turn=self._cushion.playing_turn,
                alive=not self._health.is_lost and self._played_ever,
                late_bytes=self._cushion.late_bytes,
                wedged=self._health.wedged,
                trouble=trouble.cause if trouble else "",
                remedy=trouble.remedy if trouble else "",
            )

    # ── inside ────────────────────────────────────────────────────────────────────────────────

    def _apply(self, value: Downlink) -> bool:
        match value:
            case ReplyAudio(turn=turn, pcm=pcm):
                accepted = self._cushion.write(turn, pcm)
                if self._health.is_lost:
                    self._cushion.lose()
                return accepted
            case ReplyComplete(turn=turn):
                self._cushion.complete(turn)
                if self._health.is_lost:
                    self._cushion.lose()
            case ReplyCancelled(turn=turn):
                self._cushion.cancel(turn)
            case _:
                pass  # transcripts are not heard
        return True

    def _wake(self) -> None:
        if not self._keep_alive and self._supervisor.paused:
            self._silent_periods = 0
            self._supervisor.resume()

    async def _play(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._playout.reset()
        self._health.opened()
        await self._device.play(self._source)

    def _source(self, frames: int, latency_s: float) -> bytes:
        if not self._keeps_time(frames):
            self._supervisor.beat()
            return bytes(frames * formats.SAMPLE_BYTES)
        with self._lock:
            pcm = self._cushion.read(frames, latency_s)
            collected = self._cushion.take_notes()
            idle = self._cushion.is_idle
        self._silent_periods = self._silent_periods + 1 if idle else 0
        self._report(collected, pcm, latency_s)
        return pcm

    def _keeps_time(self, frames: int) -> bool:
        """Return whether the device may have sound: it keeps time, as far as is known.

        One that was closed because it did not must prove it first; it would swallow a reply.
        """
        duration_s = frames / formats.PLAYBACK_RATE_HZ
        pacing = self._health.take(duration_s, self._clock.monotonic())
        failed = pacing.failed
        if failed:
            self._on_loop(lambda: self._supervisor.fail(failed))
        if pacing.proved:
            self._on_loop(self._supervisor.work)
        return pacing.usable

    def _report(self, collected: list[notes.Note], pcm: bytes, latency_s: float) -> None:
        """Hand over to the loop."""
        self._supervisor.beat()
        changed = self._health.is_lost or not self._played_ever
        done = not self._keep_alive and self._silent_periods * formats.FRAME_S >= IDLE_S
        far_end = self._on_far_end
        torn = self._on_torn if self._has_run_dry() else None
        heard_s = self._playout.stamp(
            len(pcm) // formats.SAMPLE_BYTES, self._clock.monotonic(), latency_s
        )
        # Silence has no echo, and would wake the loop 33 times a second.
        if far_end is not None and pcm.count(0) == len(pcm):
            far_end = None
        if not (collected or changed or done or far_end or torn):
            return

        def tell() -> None:
            if self._health.is_lost or not self._played_ever:
                self._device_back()
            if torn is not None:
                torn()
            if far_end is not None:
                far_end(pcm, heard_s)
            self._tell(collected)
            if done and self._silent_periods * formats.FRAME_S >= IDLE_S:
                self._supervisor.pause()

        self._on_loop(tell)

    def _on_loop(self, call: Callable[[], None]) -> None:
        """Call at once on the loop's thread, later from the device's."""
        if threading.get_ident() == self._loop_thread:
            call()
        elif self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(call)

    def _has_run_dry(self) -> bool:
        """Say whether the device has since the last period; its times begin anew then."""
        before, self._ran_dry = self._ran_dry, self._device.ran_dry
        if before == self._ran_dry:
            return False
        self._playout.reset()
        return True

    def _tell(self, collected: list[notes.Note]) -> None:
        for note in collected:
            match note:
                case notes.Started(turn):
                    self._emit(ReplyStarted(turn=turn))
                    self._on_mark(PlaybackMark(turn, 0.0, False))
                case notes.Progress(turn, heard_ms):
                    self._on_mark(PlaybackMark(turn, heard_ms, False))
                case notes.Gap(turn, gap_ms):
                    self._emit(Underrun(turn=turn, gap_ms=gap_ms))
                case notes.Drained(turn, heard_ms):
                    self._emit(ReplyDrained(turn=turn, heard_ms=heard_ms))
                    self._on_mark(PlaybackMark(turn, heard_ms, True))

    def _tell_overflow(self, turn: int) -> None:
        if turn != self._overflowed_turn:
            self._overflowed_turn = turn
            self._emit(ReplyOverflow(turn=turn, buffered_s=self._cushion.buffered_ms / 1000))

    def _device_back(self) -> None:
        outage_s = self._health.back(self._clock.monotonic())
        self._played_ever = True
        self._emit(PlaybackBack(device=self._device.name, outage_s=outage_s))

    def _device_lost(self, trouble: DeviceTrouble) -> None:
        if self._health.lost(trouble, self._clock.monotonic()):
            self._emit(
                PlaybackLost(device=self._device.name, cause=trouble.cause, remedy=trouble.remedy)
            )
        with self._lock:
            self._cushion.lose()
            collected = self._cushion.take_notes()
        self._tell(collected)

    def _device_wedged(self) -> None:
        self._health.wedged += 1
        self._emit(StreamWedged(device=self._device.name, abandoned=self._health.wedged))
