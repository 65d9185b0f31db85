"""Opens microphone and speaker together, listens to the room, and plays sweeps into it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from agentd.audio import formats
from agentd.audio.devices import CaptureDevice, PlaybackDevice
from agentd.audio.pace import TOO_FAST, TOO_SLOW, Pace
from agentd.audio.supervise import DeviceTrouble, trouble_of
from agentd.clock import Clock
from agentd.doctor import sweep
from agentd.errors import AudioError, DeviceBusy

OPENING_S = 6.0
SETTLE_S = 1.0  # PortAudio on a sound server spins and stutters for about as long after opening
LISTEN_S = 2.0
# What it takes in those two seconds is 2 s of sound, give or take a buffer.
FASTEST, SLOWEST = 1.4, 0.67
PLAYING_S = 0.5  # the speaker runs for so long before the sweep
AFTER_S = sweep.LENGTH_S + sweep.LONGEST_DELAY_S + 0.3
SWEEPS = 2  # whatever tears one of them, a busy machine or a door, only makes its echo fainter
_AFTER = round(AFTER_S * formats.CAPTURE_RATE_HZ)


@dataclass(frozen=True, slots=True)
class RoomTrouble:
    """Why a device does not work."""

    cause: str
    remedy: str
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What was heard, and whether the speaker took its samples."""

    microphone: RoomTrouble | None
    speaker: RoomTrouble | None
    quiet: bytes = b""  # int16 mono 16 kHz, before anything was played
    after_sweeps: tuple[bytes, ...] = ()  # each from the moment at which a sweep was written
    overruns: int = 0
    other_channel: int | None = None  # has sound, while the chosen one has none


def device_trouble(error: AudioError) -> RoomTrouble:
    """Return an error of a device as cause and remedy."""
    told: DeviceTrouble = trouble_of(error)
    return RoomTrouble(told.cause, told.remedy, isinstance(error, DeviceBusy))


@dataclass(slots=True)
class _Ear:
    """Takes what the microphone delivers; knows when each sample was taken."""

    clock: Clock
    pcm: bytearray = field(default_factory=bytearray)
    overruns: int = 0
    began_s: float | None = None
    settled: tuple[float, float] | None = None  # how much had been heard, and when
    last_s: float = 0.0
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, pcm: bytes, at_s: float, overrun: bool) -> None:
        """Keep a period; its arrival is late at most, so the earliest one is the truth."""
        self.pcm += pcm
        self.overruns += overrun
        began_s = at_s - len(self.pcm) / 2 / formats.CAPTURE_RATE_HZ
        self.began_s = began_s if self.began_s is None else min(self.began_s, began_s)
        self.last_s = at_s
        if self.settled is None and self.length_s >= SETTLE_S:
            self.settled = (self.length_s, at_s)
        self.grown.set()

    async def reach(self, seconds: float) -> None:
        """Wait until so much has been heard."""
        while len(self.pcm) < seconds * formats.CAPTURE_RATE_HZ * 2:
            self.grown.clear()
            await self.grown.wait()

    @property
    def length_s(self) -> float:
        """Return how much has been heard."""
        return len(self.pcm) / 2 / formats.CAPTURE_RATE_HZ

    def judge_pace(self) -> RoomTrouble | None:
        """Return what is wrong if the sound since it settled took another time than its own."""
        if self.settled is None:
            return None
        before_s, at_s = self.settled
        came_s, took_s = self.length_s - before_s, self.last_s - at_s
        if came_s <= FASTEST * took_s and came_s >= SLOWEST * took_s:
            return None
        found = TOO_FAST if came_s > took_s else TOO_SLOW
        return RoomTrouble(found.cause, found.remedy)

    def after(self, at_s: float) -> bytes:
        """Return what was taken from a moment on, for as long as a sweep is waited for."""
        assert self.began_s is not None
        sample = max(0, round((at_s - self.began_s) * formats.CAPTURE_RATE_HZ))
        return bytes(self.pcm[sample * 2 : (sample + _AFTER) * 2])


class _Mouth:
    """Gives silence to the speaker until it is told to give the sweep."""

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._loop = loop
        self._left = b""
        self._pace = Pace(way="playback")
        self.trouble: DeviceTrouble | None = None  # it does not keep time
        self._began_s: float | None = None
        self.played = 0
        self.running = asyncio.Event()
        self.wrote_s: list[float] = []
        self._wanted = b""

    def play(self, pcm: bytes) -> None:
        """Give `pcm` from the next period on."""
        self._wanted = pcm

    def source(self, samples: int, _latency_s: float) -> bytes:
        """Return the next period; runs on the device's thread."""
        now_s = self._clock.monotonic()
        self._began_s = now_s if self._began_s is None else self._began_s
        seconds = samples / formats.PLAYBACK_RATE_HZ
        self.trouble = self.trouble or self._pace.take(seconds, now_s)
        if self._wanted:
            self._left, self._wanted = self._wanted, b""
            self.wrote_s.append(now_s)
        self.played += samples
        # One without a clock has played this much at once; what is wrong shows a little later.
        runs = min(self.played / formats.PLAYBACK_RATE_HZ, now_s - self._began_s) >= PLAYING_S
        if (runs or self.trouble) and not self.running.is_set():
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self.running.set)
        piece, self._left = self._left[: samples * 2], self._left[samples * 2 :]
        return piece.ljust(samples * 2, b"\0")


async def listen(
    capture: CaptureDevice | None, playback: PlaybackDevice | None, clock: Clock
) -> Room:
    """Use both devices for some seconds. None: leave that one alone."""
    ear, mouth = _Ear(clock), _Mouth(clock, asyncio.get_running_loop())
    hearing = asyncio.create_task(capture.capture(ear.take)) if capture else None
    microphone = None
    if hearing:
        microphone = await _until(ear.reach(SETTLE_S), hearing, OPENING_S, "delivers no sound")
        if microphone is None:
            await _until(ear.reach(SETTLE_S + LISTEN_S), hearing, OPENING_S, "")
            microphone = ear.judge_pace()
        if microphone is not None:
            hearing.cancel()  # what has no clock would fill the memory
    quiet = bytes(ear.pcm[round(SETTLE_S * formats.CAPTURE_RATE_HZ) * 2 :])
    speaking = asyncio.create_task(playback.play(mouth.source)) if playback else None
    speaker = None
    if speaking:
        speaker = await _until(mouth.running.wait(), speaking, OPENING_S, "takes no samples")
        if speaker is None and mouth.trouble is None and hearing and microphone is None:
            microphone = await _sweep(ear, mouth, hearing)
        elif speaker is None and mouth.trouble is None:
            mouth.play(formats.to_pcm(sweep.sweep(formats.PLAYBACK_RATE_HZ)))
            await clock.sleep(sweep.LENGTH_S + 0.2)
        if speaker is None and mouth.trouble is not None:
            speaker = RoomTrouble(mouth.trouble.cause, mouth.trouble.remedy)
    for task in (hearing, speaking):
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    after = tuple(map(ear.after, mouth.wrote_s)) if ear.began_s is not None else ()
    other_channel = capture.other_channel if capture else None
    return Room(microphone, speaker, quiet, after, ear.overruns, other_channel)


async def _sweep(ear: _Ear, mouth: _Mouth, hearing: asyncio.Task[None]) -> RoomTrouble | None:
    """Play the sweeps and hear what comes of them; return why the microphone stopped, if it did."""
    for _ in range(SWEEPS):
        mouth.play(formats.to_pcm(sweep.sweep(formats.PLAYBACK_RATE_HZ)))
        end_s = ear.length_s + AFTER_S
        if trouble := await _until(ear.reach(end_s), hearing, OPENING_S, "fell silent"):
            return trouble
    return None


async def _until(
    fact: object, device: asyncio.Task[None], patience_s: float, otherwise: str
) -> RoomTrouble | None:
    """Wait for a fact while a device runs; return why it did not come."""
    waiter = asyncio.ensure_future(fact)  # type: ignore[call-overload]
    try:
        await asyncio.wait(
            (waiter, device), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
        )
        if waiter.done():
            return None
        if device.done():
            error = device.exception()
            if isinstance(error, AudioError):
                return device_trouble(error)
            if error is not None:
                raise error
            return RoomTrouble("it has ended by itself", "Check its cable and power")
        return RoomTrouble(
            f"it opens, but {otherwise} within {patience_s:.0f} s",
            "Replug it or restart its sound server; if that does not help choose another from "
            "`agentd devices`",
        )
    finally:
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
