"""Microphone, gate and speaker as one: what a reload of `[audio]` or `[vad]` replaces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agentd.audio import formats
from agentd.audio.capture import CaptureStats, Microphone
from agentd.audio.devices import CaptureDevice, PlaybackDevice, open_devices, wav_path
from agentd.audio.playback import PlaybackStats, Player
from agentd.audio.shutter import Shutter
from agentd.clock import Clock
from agentd.config import Audio, Settings
from agentd.events import Emit, Event, PlaybackMark, ReplyDrained, ReplyStarted, Speech
from agentd.vad.listener import Listener


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where what is heard and played is reported."""

    emit: Emit
    on_speech: Callable[[Speech], None]
    on_mark: Callable[[PlaybackMark], None]


def is_half_duplex(settings: Audio) -> bool:
    """Say whether the gate must be shut while the speaker plays.

    WAV files share no air, and a speakerphone cancels its own echo.
    """
    if settings.echo_cancellation == "hardware":
        return False
    files = (wav_path(settings.capture_device), wav_path(settings.playback_device))
    return not any(files)


class Sound:
    """The two devices and the gate between them. Call `run` as a task."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        outlets: Outlets,
        devices: tuple[CaptureDevice, PlaybackDevice] | None = None,
    ) -> None:
        capture, playback = devices or open_devices(settings.audio, clock)
        self._clock = clock
        self._half_duplex = is_half_duplex(settings.audio)
        self._tail_s = settings.audio.half_duplex_tail_ms / 1000
        self._shutter = Shutter()
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
            on_frame=self._listener.hear,
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

    def on_event(self, event: Event) -> None:
        """Keep the half-duplex shutter: shut while a reply is heard, and for a tail after it."""
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

    def _set_shutter(self, shutter: Shutter) -> None:
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
