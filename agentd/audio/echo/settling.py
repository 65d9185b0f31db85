"""Whether what the canceller leaves of a reply is fit for the gate, and why. Pure. Needs numpy.

Until AEC3 knows the room, and the double-talk decision its levels, the rest of a reply sounds like
somebody speaking, so nothing opens the gate. Three things end that:

* the echo is taken away by 15 dB, or the rest of it is too faint to open the gate;
* what is left is not the far end's: its loudness does not follow that of the reply. That is a room
  without an echo (a headset, a quiet volume) and a room whose noise hides one, where no amount of
  cancelling could ever show;
* time: after three seconds of loud reply the double-talk decision has learned how loud the echo can
  be, whatever AEC3 makes of it (a pure tone, a driver that distorts).

How much of a signal is the far end's is read from powers, 20 ms at a time: the share of its mean
that rises and falls with the reply, at the delay at which it does so most. Waveforms would have to
be aligned to a fraction of a sample first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from agentd.audio.echo.canceller import Known

Samples = NDArray[np.int16]
Powers = NDArray[np.float64]

LOUD = 100.0**2  # mean square of a far end that can be heard: -50 dBFS
FAINT = 30.0**2  # of a rest that cannot open the gate: -61 dBFS
ENOUGH_DB = 15.0
LEAST_FRAMES = 90  # loud ones, before anything but time is believed: 1.8 s
MOST_FRAMES = 150  # in which nothing opens the gate: 3 s
LINGERS_FRAMES = 20  # an echo is heard for so long after the far end was loud: 400 ms
LITTLE = 0.1  # a share of the rest that the noise around it hides
MEMORY = 1 / 40  # of a power, per loud frame
LAGS = range(0, LINGERS_FRAMES, 2)


class Settling:
    """Follow far end, microphone and rest, frame by frame, until the room is known."""

    def __init__(self) -> None:
        self.known = Known.NOTHING
        self._near = _Share()
        self._rest = _Share()
        self._far = np.zeros(LAGS.stop)  # powers, newest first
        self._loud = 0
        self._doubtful = 0
        self._quiet_for = LINGERS_FRAMES

    @property
    def is_settled(self) -> bool:
        """Return whether the rest of a reply is fit for the gate."""
        return self.known is not Known.NOTHING

    @property
    def is_doubtful(self) -> bool:
        """Return whether the frame taken last may hold an echo that nothing is known of."""
        return not self.is_settled and self._quiet_for < LINGERS_FRAMES

    @property
    def erle_db(self) -> float:
        """Return how much is taken away."""
        return 10 * math.log10((self._near.mean + 1.0) / (self._rest.mean + 1.0))

    @property
    def left_dbfs(self) -> float:
        """Return how loud what is left of the far end is, noise apart."""
        return 10 * math.log10((self._rest.of_far + 1.0) / 32_768.0**2)

    def feed(self, near: Samples, far: Samples, rest: Samples) -> bool:
        """Take a frame of each; return `is_settled`."""
        self._far[1:] = self._far[:-1]
        self._far[0] = power(far)
        is_loud = bool(self._far[0] > LOUD)
        self._quiet_for = 0 if is_loud else self._quiet_for + 1
        if self._quiet_for < LINGERS_FRAMES:
            lagged = self._far[LAGS.start :: LAGS.step]
            self._near.feed(power(near), lagged)
            self._rest.feed(power(rest), lagged)
            self._loud += is_loud
            self._doubtful += 1
            if not self.is_settled:
                self.known = self._judge()
        return self.is_settled

    def _judge(self) -> Known:
        if self._loud >= LEAST_FRAMES:
            if self.erle_db >= ENOUGH_DB:
                return Known.CANCELLED
            if self._near.is_not_fars:
                return Known.NO_ECHO
            if self._rest.is_not_fars:
                return Known.CANCELLED
        return Known.BY_LEVEL if self._doubtful >= MOST_FRAMES else Known.NOTHING


class _Share:
    """How much of a signal's power rises and falls with the far end's."""

    def __init__(self) -> None:
        self.mean = 0.0
        self._far: Powers = np.zeros(len(LAGS))
        self._variance: Powers = np.zeros(len(LAGS))
        self._covariance: Powers = np.zeros(len(LAGS))
        self._count = 0

    def feed(self, value: float, far: Powers) -> None:
        """Take the power of a frame, and the far end's by lag."""
        self._count += 1
        pull = max(MEMORY, 1 / self._count)
        off, off_far = value - self.mean, far - self._far
        self.mean += off * pull
        self._far = self._far + off_far * pull
        self._variance = (1 - pull) * (self._variance + pull * off_far**2)
        self._covariance = (1 - pull) * (self._covariance + pull * off * off_far)

    @property
    def of_far(self) -> float:
        """Return the mean power of what is the far end's."""
        slope = self._covariance / (self._variance + 1.0)
        return float(np.clip(np.max(slope * self._far), 0.0, self.mean))

    @property
    def is_not_fars(self) -> bool:
        """Return whether what is the far end's is too faint, or hidden by the rest."""
        return self.mean < FAINT or self.of_far < max(FAINT, LITTLE * self.mean)


def power(values: Samples) -> float:
    """Return the mean square."""
    wide = values.astype(np.float32)
    return float(np.dot(wide, wide)) / len(values)
