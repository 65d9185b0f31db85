"""What a sound device is to the rest of agentd, and what its configured name means.

A device runs inside one coroutine that returns only by an error or by cancellation; leaving it
closes the device. Which kind a name means:

    file:/path.wav           a WAV file (files.py)
    pipe:/path               a named pipe from or to another program (pipes.py)
    null                     no speaker at all (discard.py); it is refused as a microphone
    a card id, usb-…         that card through ALSA's converting `plughw` (alsa.py)
    hw:…  dsnoop:…  dmix:…   the same PCM behind a converting `plug`: 16 kHz is refused raw by many
    anything else            that ALSA PCM: default, plughw:CARD=…, pulse, one's own of asound.conf
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

Deliver = Callable[[bytes, float, bool], None]
"""Take int16 mono 16 kHz PCM, the monotonic time after its last sample, and an overrun flag.

Called on the event loop.
"""

Source = Callable[[int, float], bytes]
"""Return so many int16 mono 24 kHz samples, the first of which is heard in so many seconds.

Called on the device's own thread or on the loop; must not block.
"""


class CaptureDevice(Protocol):
    """A microphone."""

    @property
    def name(self) -> str:
        """Return what the configuration calls it."""

    @property
    def has_ended(self) -> bool:
        """Return whether silence is all that will come, and nothing is wrong: a file's end."""

    @property
    def other_channel(self) -> int | None:
        """Return a channel that has sound while the chosen one has none at all, if one is known."""

    async def capture(self, deliver: Deliver) -> None:
        """Open the device and deliver its sound until cancelled; closed when this ends.

        Raises:
            AudioError: it cannot be opened, or went away.
        """


class PlaybackDevice(Protocol):
    """A speaker."""

    @property
    def name(self) -> str:
        """Return what the configuration calls it."""

    @property
    def ran_dry(self) -> int:
        """Return how often the device was not served in time, since ever: the machine was busy."""

    async def play(self, source: Source) -> None:
        """Open the device and play what `source` returns until cancelled; closed when this ends.

        Raises:
            AudioError: it cannot be opened, or went away.
        """


def wav_path(name: str) -> Path | None:
    """Return the path of a `file:` name, or None for another device."""
    return Path(name.removeprefix("file:")) if name.startswith("file:") else None


def pipe_path(name: str) -> Path | None:
    """Return the path of a `pipe:` name, or None for another device."""
    return Path(name.removeprefix("pipe:")) if name.startswith("pipe:") else None
