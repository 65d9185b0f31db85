"""Whether a device keeps time: samples against the monotonic clock. Pure.

Sound takes as long as it lasts. ALSA's `null` behind a `plug` delivers as fast as the processor
runs, a clock that is set wrongly delivers half as much, and neither reports an error. What is no
fault: a buffer that is emptied at once after a stall, periods that come in twos, and crystals,
which differ by 0.1 % at the most.

A speaker asks for sound as a microphone delivers it, and `null` asks as fast as it delivers. One
that asks too slowly is not judged: people hear that by themselves, closing it would take the voice
away, and a machine that is too busy to serve a sound server looks the same.
"""

from __future__ import annotations

from typing import Literal

from agentd.audio.supervise import DeviceTrouble

AHEAD_S = 3.0  # so much more than has passed is too much: what a device may hold when it is opened
TOLERANCE = 0.05  # 44,100 for 48,000 Hz are 9 %
STALL_S = 0.25  # a pause by so much longer than its sound may be followed by a burst
CREDIT_S = 120.0  # as long, at most: sound servers keep up to two minutes for a stopped program
CREDIT_KEPT_S = 10.0  # the burst follows within this
WINDOW_S = 10.0  # how much came is looked at so often
SLOW = 0.9  # of the time that has passed; less is too little
SLOW_WINDOWS = 3  # in a row: a machine may be busy for a while
PROOF_S = 2.0  # a device that had not kept time is believed again after so long

_REMEDY = (
    "Choose another from `agentd devices`; if it is a name of /etc/asound.conf, see what stands "
    "behind it"
)
TOO_FAST = DeviceTrouble(
    "it delivers sound faster than time passes, as ALSA's null does: it has no clock", _REMEDY
)
TAKES_TOO_FAST = DeviceTrouble(
    "it takes sound faster than time passes, as ALSA's null does: it has no clock", _REMEDY
)
TOO_SLOW = DeviceTrouble(
    "it delivers less sound than time passes: its clock or its rate is wrong", _REMEDY
)


class Pace:
    """Follows one stream from its opening; `doubt` is why it had been closed the last time."""

    def __init__(
        self, doubt: DeviceTrouble | None = None, way: Literal["capture", "playback"] = "capture"
    ) -> None:
        self._plays = way == "playback"
        # A speaker that ran dry asks for a whole buffer at once, after a pause of that length.
        self._least_s = -STALL_S if self._plays else 0.0
        slow = doubt is TOO_SLOW
        self._proof_s = WINDOW_S + PROOF_S if slow else PROOF_S
        self._patience = 1 if slow else SLOW_WINDOWS
        self._began_s: float | None = None
        self._last_s = 0.0
        self._ahead_s = 0.0
        self._credit_s = 0.0
        self._credit_until_s = 0.0
        self._window_s = 0.0  # its beginning
        self._came_s = 0.0  # within the window
        self._slow = 0

    @property
    def proved(self) -> bool:
        """Return whether it has kept time for long enough to be believed."""
        return self._began_s is not None and self._last_s - self._began_s >= self._proof_s

    def take(
        self, duration_s: float, arrived_s: float, missing_s: float = 0.0
    ) -> DeviceTrouble | None:
        """Take a period and when it came, or was asked for; return what is wrong, if anything is.

        `missing_s` is what an overrun has cost before it: the device was in time, we were not.
        """
        if self._began_s is None:
            self._began_s = self._last_s = self._window_s = arrived_s
            self._ahead_s = 0.0
            return None
        passed_s = max(0.0, arrived_s - self._last_s)
        self._last_s = max(self._last_s, arrived_s)
        if self._is_fast(duration_s, passed_s):
            return TAKES_TOO_FAST if self._plays else TOO_FAST
        slow = not self._plays and self._is_slow(duration_s + missing_s, passed_s)
        return TOO_SLOW if slow else None

    def _is_fast(self, duration_s: float, passed_s: float) -> bool:
        if passed_s > duration_s + STALL_S:
            self._credit_s = min(CREDIT_S, self._credit_s + passed_s - duration_s)
            self._credit_until_s = self._last_s + CREDIT_KEPT_S
        elif self._last_s > self._credit_until_s:
            self._credit_s = 0.0
        ahead_s = self._ahead_s + duration_s - passed_s * (1.0 + TOLERANCE)
        used_s = min(self._credit_s, max(0.0, ahead_s))
        self._credit_s -= used_s
        self._ahead_s = max(self._least_s, ahead_s - used_s)
        return self._ahead_s > AHEAD_S

    def _is_slow(self, duration_s: float, passed_s: float) -> bool:
        if passed_s > WINDOW_S / 2:  # this process, or the machine, had been stopped
            self._window_s, self._came_s, self._slow = self._last_s, 0.0, 0
            return False
        self._came_s += duration_s
        length_s = self._last_s - self._window_s
        if length_s < WINDOW_S:
            return False
        self._slow = self._slow + 1 if self._came_s < SLOW * length_s else 0
        self._window_s, self._came_s = self._last_s, 0.0
        return self._slow >= self._patience
