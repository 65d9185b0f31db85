"""Microphone, echo canceller, gate and speaker as one.

    Microphone ──► EchoCanceller ──► Listener ──► speech
                        ▲
    Player ── far end ──┘

A reload of `[audio]` or `[vad]` replaces all of it: `SoundStage` holds the one that runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from agentd.audio import formats
from agentd.audio.capture import CaptureStats, Microphone
from agentd.audio.devices import CaptureDevice, PlaybackDevice
from agentd.audio.echo import policy as echo
from agentd.audio.echo.canceller import EchoCanceller, EchoStats
from agentd.audio.echo.half_duplex import HalfDuplex
from agentd.audio.echo.policy import EchoMode, EchoStatus
from agentd.audio.opening import open_devices
from agentd.audio.playback import PlaybackStats, Player
from agentd.clock import Clock
from agentd.config.settings import Audio, Settings
from agentd.events import (
    CaptureLost,
    DetectorMissing,
    EchoHandled,
    EchoUncancelled,
    Emit,
    Event,
    Frame,
    PlaybackMark,
    ReplyDrained,
    ReplyStarted,
    Speech,
)
from agentd.service.watchdog import Evidence
from agentd.stage import Slot, Stage, rounded
from agentd.vad.listener import Listener


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where what is heard and played is reported."""

    emit: Emit
    on_speech: Callable[[Speech], None]
    on_mark: Callable[[PlaybackMark], None]


def is_half_duplex(settings: Audio) -> bool:
    """Say whether the gate must be shut while the speaker plays, as far as can be said at rest."""
    return echo.choose(settings, installed=echo.is_installed()).mode is EchoMode.HALF_DUPLEX


class Sound:
    """The two devices and the gate between them. Call `run` as a task."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        outlets: Outlets,
        devices: tuple[CaptureDevice, PlaybackDevice] | None = None,
        attenuation_db: float | None = None,
        installed: Callable[[], bool] = echo.is_installed,
        load: Callable[[Audio], EchoCanceller] = echo.load,
        settled: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Prepare; `attenuation_db` is what `agentd doctor` has measured of the echo.

        What takes long to import waits for `settled`, so as not to hold up the first connection.
        """
        capture, playback = devices or open_devices(settings.audio, clock)
        self._clock = clock
        self._emit = outlets.emit
        self._audio = settings.audio
        self._load = load
        self._settled = settled
        self._plan = echo.choose(
            settings.audio, installed=installed(), attenuation_db=attenuation_db
        )
        self._canceller: EchoCanceller | None = None
        # Until the canceller is there the gate is shut during replies.
        self._half_duplex = self._plan.mode is not EchoMode.OPEN
        self._tail_s = settings.audio.half_duplex_tail_ms / 1000
        self._shutter = HalfDuplex()
        self._listener = Listener(
            settings.vad,
            emit=outlets.emit,
            on_speech=outlets.on_speech,
            push_to_talk=settings.gpio.button_mode == "push-to-talk",
        )
        self._microphone = Microphone(
            settings.audio,
            clock=clock,
            emit=outlets.emit,
            on_frame=self._hear,
            device=capture,
        )
        self.player = Player(
            settings.audio,
            clock=clock,
            emit=outlets.emit,
            on_mark=outlets.on_mark,
            device=playback,
        )

    async def run(self) -> None:
        """Capture and play until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._microphone.run(), name="microphone")
            tasks.create_task(self.player.run(), name="speaker")
            tasks.create_task(self._prepare(), name="echo")

    async def _prepare(self) -> None:
        """Load what may be slow or missing, beside devices that work already; say what was found.

        The canceller's imports take as long as everything else of the start together.
        """
        if self._listener.warning:
            cause, _, remedy = self._listener.warning.partition(". ")
            self._emit(
                DetectorMissing(detector=self._listener.detector, cause=cause, remedy=remedy)
            )
        if self._plan.mode is EchoMode.CANCEL:
            if self._settled:
                await self._settled()
            try:
                canceller = await asyncio.to_thread(self._load, self._audio)
            except (ImportError, OSError) as error:
                self._plan = echo.without_canceller(self._audio, str(error))
            else:
                self._cancel_with(canceller)
        plan = self._plan
        if plan.is_degraded:
            self._emit(EchoUncancelled(cause=plan.cause, remedy=plan.remedy))
        else:
            self._emit(EchoHandled(by=plan.mode.value, cause=plan.cause))

    def _cancel_with(self, canceller: EchoCanceller) -> None:
        self._canceller = canceller
        self.player.tell_far_end(canceller.played, canceller.torn)
        self._half_duplex = False
        self._set_shutter(HalfDuplex())

    def _hear(self, frame: Frame) -> None:
        self._listener.hear(self._canceller.clean(frame) if self._canceller else frame)

    def on_event(self, event: Event) -> None:
        """Keep the half-duplex shutter: shut while a reply is heard, and for a tail after it."""
        if isinstance(event, CaptureLost):
            self._listener.cut()
        if not self._half_duplex:
            return
        now = self._clock.monotonic()
        if isinstance(event, ReplyStarted):
            self._set_shutter(self._shutter.reply_began(event.turn))
        elif isinstance(event, ReplyDrained):
            self._set_shutter(self._shutter.reply_ended(event.turn, now, self._tail_s))

    def play(self, pcm: bytes) -> None:
        """Play an earcon (int16 mono 24 kHz); half duplex: unheard by the gate."""
        if self._half_duplex:
            length_s = len(pcm) / formats.SAMPLE_BYTES / formats.PLAYBACK_RATE_HZ
            now = self._clock.monotonic()
            self._set_shutter(self._shutter.sounded(now, length_s, self._tail_s))
        self.player.sound(pcm)

    def hush(self) -> None:
        """Stop earcons and alarms; a reply goes on."""
        self.player.hush()
        self._set_shutter(self._shutter.hushed(self._clock.monotonic(), self._tail_s))

    def _set_shutter(self, shutter: HalfDuplex) -> None:
        self._shutter = shutter
        if shutter.is_shut(self._clock.monotonic()):
            self._listener.shut()
        if shutter.reply is None:
            self._listener.unshut(shutter.until_s)

    def hold(self) -> None:
        """Push to talk: from here on everything is one utterance, whatever else plays."""
        self._listener.hold()

    def release(self) -> None:
        """End what `hold` began."""
        self._listener.release()

    def cut(self) -> None:
        """End an open utterance now."""
        self._listener.cut()

    def close_microphone(self) -> None:
        """Mute: nothing more is heard; the device is closed."""
        self._microphone.pause()
        self._listener.cut()

    def open_microphone(self) -> None:
        """Unmute."""
        self._microphone.resume()

    @property
    def capture(self) -> CaptureStats:
        """Return what is known of the microphone."""
        return self._microphone.stats

    @property
    def playback(self) -> PlaybackStats:
        """Return what is known of the speaker."""
        return self.player.stats

    @property
    def echo(self) -> EchoStats | None:
        """Return what is known of the canceller, if there is one."""
        return self._canceller.stats if self._canceller else None

    @property
    def echo_status(self) -> EchoStatus:
        """Return what is done about echo, why, and how well."""
        return EchoStatus(self._plan.mode.value, self._plan.cause, self.echo)


class SoundStage(Stage):
    """Holds the sound that runs; another one after a reload, so nobody else may keep it."""

    def __init__(self, settings: Settings, make: Callable[[Settings], Sound]) -> None:
        """Prepare; `make` builds the sound of some settings, and may fail."""
        self._settings = settings
        self._make = make
        self._closed = False
        self._gain_percent: int | None = None
        self._sounds = Slot(make(settings), self._begins)

    @property
    def current(self) -> Sound:
        """Return the sound that runs, or is ending."""
        return self._sounds.current

    async def run(self) -> None:
        """Capture and play until cancelled."""
        await self._sounds.run()

    async def configure(self, settings: Settings) -> str:
        """Close the devices and open those of the new settings, if any of these is about sound."""
        before = self._settings
        if _concerns_sound(settings) == _concerns_sound(before):
            return ""
        sound = self._make(settings)
        self._settings = settings
        self.current.cut()
        await self._sounds.replace(sound)
        return ""

    def on_event(self, event: Event) -> None:
        """Let the gate know of replies and of the microphone."""
        self.current.on_event(event)

    def status(self) -> object:
        """Return the `audio` part of the status."""
        sound = self.current
        return audio_status(sound.capture, sound.playback, sound.echo_status)

    def _begins(self, sound: Sound) -> None:
        # Mute and stop may have come, and the volume changed, while the one before was closing.
        if self._closed:
            sound.close_microphone()
        if self._gain_percent is not None:
            sound.player.set_volume(self._gain_percent)

    def close_microphone(self) -> None:
        """Mute: nothing more is heard, of this sound and of the next; the device is closed."""
        self._closed = True
        self.current.close_microphone()

    def open_microphone(self) -> None:
        """Unmute."""
        self._closed = False
        self.current.open_microphone()

    def hold(self) -> None:
        """Push to talk: from here on everything is one utterance, whatever else plays."""
        self.current.hold()

    def release(self) -> None:
        """End what `hold` began."""
        self.current.release()

    def set_gain(self, percent: int) -> None:
        """Set the volume of the player, 0 to 100."""
        self._gain_percent = percent
        self.current.player.set_volume(percent)

    def play(self, pcm: bytes) -> None:
        """Play an earcon (int16 mono 24 kHz)."""
        self.current.play(pcm)

    def hush(self) -> None:
        """Stop earcons and alarms; a reply goes on."""
        self.current.hush()

    def evidence(self, *, muted: bool, told_lost: bool) -> Evidence:
        """Return what speaks for the watchdog: frames that came, or why none can."""
        capture = self.current.capture
        return Evidence(capture.frames, muted=muted, told_lost=told_lost, wedged=capture.wedged)


def audio_status(
    capture: CaptureStats, playback: PlaybackStats, echo: EchoStatus
) -> dict[str, object]:
    """Return the `audio` part of the status."""
    return {"capture": rounded(capture), "playback": rounded(playback), "echo": asdict(echo)}


def _concerns_sound(settings: Settings) -> tuple[object, ...]:
    return settings.audio, settings.vad, settings.gpio.button_mode
