"""The noise floor of the room, by minimum statistics. Pure.

Speech pauses; noise does not. The lowest level of the last seconds, smoothed over 100 ms, is
therefore the noise, whoever speaks in between (R. Martin, 2001, in its simplest form). It follows a
fan that is switched on after `WINDOW` blocks, and one that is switched off at once.
"""

from __future__ import annotations

from collections import deque

SMOOTHING = 5  # frames: 100 ms
BLOCK = 25  # frames: 0.5 s
BLOCKS = 6  # 3 s of memory


class NoiseFloor:
    """Tracks the noise level in dBFS, frame by frame."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        self._minima: deque[float] = deque(maxlen=blocks)
        self._lowest: float | None = None  # of the block under way
        self._count = 0
        self._smoothed: float | None = None

    def update(self, level_dbfs: float) -> None:
        """Take the level of the next frame."""
        if self._smoothed is None:
            self._smoothed = level_dbfs
        self._smoothed += (level_dbfs - self._smoothed) / SMOOTHING
        if self._lowest is None or self._smoothed < self._lowest:
            self._lowest = self._smoothed
        self._count += 1
        if self._count == BLOCK:
            self._minima.append(self._lowest)
            self._lowest = None
            self._count = 0

    @property
    def dbfs(self) -> float | None:
        """Return the floor, or None in the first half second, in which nothing is known."""
        if not self._minima:
            return None
        lowest = min(self._minima)
        return lowest if self._lowest is None else min(lowest, self._lowest)

    def stands_out(self, level_dbfs: float, margin_db: float) -> bool:
        """Say whether a level is above the noise by `margin_db`; True as long as nothing is known.

        Whoever starts the device in mid-sentence wants to be heard.
        """
        floor = self.dbfs
        return floor is None or level_dbfs > floor + margin_db
