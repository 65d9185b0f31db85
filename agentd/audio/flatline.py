"""Whether a microphone that delivers samples delivers sound. Pure.

A real one is never without any noise: the same value again and again means that it is switched off
in the mixer, that nothing is wired to that channel, or that the driver has nothing to give. Nothing
says so by an error. But some USB microphones have a noise gate and deliver zeros in a quiet room,
so it is a notice and no more, and one that was mistaken waits longer the next time.
"""

from __future__ import annotations

import enum

from agentd.audio import formats
from agentd.audio.supervise import DeviceTrouble

NEVER_S = 10.0  # without any sound since it was opened
ONCE_S = 60.0  # after it had some
MOST_S = 3600.0


class SilenceChange(enum.Enum):
    """What a frame has changed."""

    SILENT = enum.auto()
    SOUND = enum.auto()


def is_flat(pcm: bytes) -> bool:
    """Return whether all samples (int16) are the same; nothing is flat, too."""
    return pcm == pcm[: formats.SAMPLE_BYTES] * (len(pcm) // formats.SAMPLE_BYTES)


def sounding_channel(pcm: bytes, channels: int) -> int | None:
    """Return the first channel of interleaved int16 PCM that is not flat."""
    lanes = (formats.pick_channel(pcm, channels, channel) for channel in range(channels))
    return next((channel for channel, lane in enumerate(lanes) if not is_flat(lane)), None)


def trouble_of(value: int, other_channel: int | None) -> DeviceTrouble:
    """Return what to say of a microphone all of whose samples are `value`."""
    what = "digital silence" if value == 0 else f"the same value again and again ({value})"
    if other_channel is not None:
        remedy = f"Channel {other_channel} has sound: set audio.capture_channel = {other_channel}"
    else:
        remedy = (
            "Switch capture on (`alsamixer -V capture`, Space), check its wiring and "
            "audio.capture_channel, or choose another device from `agentd devices`"
        )
    return DeviceTrouble(f"it delivers {what}", remedy)


class Flatline:
    """Looks at every frame of a stream."""

    def __init__(self) -> None:
        self._flat = 0  # frames in a row
        self._patience_s = NEVER_S
        self.silent = False
        self.value = 0  # of the samples, while they are all the same

    @property
    def silent_s(self) -> float:
        """Return for how long there has been no sound."""
        return self._flat * formats.FRAME_S

    def take(self, frame: bytes) -> SilenceChange | None:
        """Take 20 ms as they came from the device; return what that changes."""
        if not is_flat(frame):
            return self._heard()
        self._flat += 1
        self.value = formats.samples(frame[: formats.SAMPLE_BYTES])[0]
        if self.silent or self._flat < round(self._patience_s / formats.FRAME_S):
            return None
        self.silent = True
        return SilenceChange.SILENT

    def _heard(self) -> SilenceChange | None:
        self._flat = 0
        mistaken, self.silent = self.silent, False
        if mistaken:
            self._patience_s = min(MOST_S, max(ONCE_S, self._patience_s * 2))
            return SilenceChange.SOUND
        self._patience_s = max(ONCE_S, self._patience_s)
        return None

    def reopened(self) -> None:
        """Count anew: the device was closed in between."""
        self._flat = 0
