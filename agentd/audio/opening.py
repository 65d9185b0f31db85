"""From configured names to devices: which kind each is stands in devices.py."""

from __future__ import annotations

from agentd.audio.cards import PACELESS
from agentd.audio.devices import CaptureDevice, PlaybackDevice, pipe_path, wav_path
from agentd.clock import Clock
from agentd.config.settings import Audio


def open_devices(settings: Audio, clock: Clock) -> tuple[CaptureDevice, PlaybackDevice]:
    """Return the two devices that the configuration names; neither is opened yet.

    WAV files on both sides share one time line.
    """
    from agentd.audio.discard import Discard
    from agentd.audio.files import FileCapture, FilePlayback, Timeline
    from agentd.audio.pipes import PipeCapture, PipePlayback

    timeline = Timeline(clock)
    capture_name, playback_name = settings.capture_device, settings.playback_device
    capture: CaptureDevice
    playback: PlaybackDevice
    if capture_file := wav_path(capture_name):
        capture = FileCapture(capture_file, settings.capture_channel, timeline)
    elif capture_pipe := pipe_path(capture_name):
        capture = PipeCapture(capture_pipe, clock)
    else:
        from agentd.audio.alsa import AlsaCapture

        capture = AlsaCapture(capture_name, settings.capture_channel, clock)
    if playback_file := wav_path(playback_name):
        playback = FilePlayback(playback_file, timeline, lead=not capture_file)
    elif playback_pipe := pipe_path(playback_name):
        playback = PipePlayback(playback_pipe, clock)
    elif playback_name in PACELESS:
        playback = Discard(playback_name, clock)
    else:
        from agentd.audio.alsa import AlsaPlayback

        playback = AlsaPlayback(playback_name)
    return capture, playback
