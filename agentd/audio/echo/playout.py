"""When a sample is heard, from when it was written and what the device claims of its latency. Pure.

Each claim is off by as much as a thread was late and a sound server guesses. Samples are exact. So
the time line is one of samples, pulled towards the claims slowly enough that an echo canceller sees
a steady delay, and quickly enough to follow a clock that drifts.
"""

from __future__ import annotations

from agentd.audio import formats

RELOCK_S = 0.15  # a claim this far off is a new stream or a lost one, not a guess
DRY_S = 0.01  # a time line that lies this far behind the present: the device ran dry
STEP_S = 0.006  # claims that are all off by this much, on one side,
STEP_PERIODS = 8  # for so long, are right: the device ran dry and has more in hand now
SETTLING = 30  # periods whose mean is trusted
PULL = 1 / 100  # of the difference, per period, after that


class PlayoutClock:
    """Smooths the times at which periods are heard."""

    def __init__(self) -> None:
        self._next_s: float | None = None
        self._periods = 0
        self._off = 0  # periods in a row that were off, negative: too early

    def stamp(self, samples: int, now_s: float, latency_s: float) -> float:
        """Return when the first of the next `samples` is heard; the device claims `latency_s`."""
        claimed_s = now_s + latency_s
        if (
            self._next_s is None
            or abs(claimed_s - self._next_s) > RELOCK_S
            or self._next_s < now_s - DRY_S
        ):
            self._begin(claimed_s)
        expected_s = claimed_s if self._next_s is None else self._next_s
        difference_s = claimed_s - expected_s
        if self._stepped(difference_s):
            self._begin(claimed_s)
            expected_s, difference_s = claimed_s, 0.0
        self._periods += 1
        pull = 1 / self._periods if self._periods <= SETTLING else PULL
        heard_s = expected_s + difference_s * pull
        self._next_s = heard_s + samples / formats.PLAYBACK_RATE_HZ
        return heard_s

    def _begin(self, claimed_s: float) -> None:
        self._next_s, self._periods, self._off = claimed_s, 0, 0

    def _stepped(self, difference_s: float) -> bool:
        if abs(difference_s) < STEP_S:
            self._off = 0
        elif difference_s > 0:
            self._off = max(self._off, 0) + 1
        else:
            self._off = min(self._off, 0) - 1
        return abs(self._off) >= STEP_PERIODS

    def reset(self) -> None:
        """Forget the past: the device was closed."""
        self._next_s = None
