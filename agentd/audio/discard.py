"""`null` as the speaker: none at all, at the pace of one.

ALSA's own has no clock: replies would be over in an instant, and PortAudio serves it on half a
core.
"""

from __future__ import annotations

from agentd.audio import formats
from agentd.audio.devices import Source
from agentd.clock import Clock

PERIOD = formats.PLAYBACK_RATE_HZ * formats.FRAME_MS // 1000
BEHIND_S = 1.0  # later than this a period is not made up for: the machine was stopped


class Discard:
    """Asks for periods of 20 ms and keeps nothing."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.ran_dry = 0  # it has nothing to run dry
        self._clock = clock

    async def play(self, source: Source) -> None:
        """Ask for a period in every 20 ms until cancelled."""
        due_s = self._clock.monotonic()
        while True:
            due_s = max(due_s + formats.FRAME_S, self._clock.monotonic() - BEHIND_S)
            await self._clock.sleep(max(0.0, due_s - self._clock.monotonic()))
            source(PERIOD, 0.0)
