"""The end of the process, in time, whatever hangs.

Python waits for every thread that it started before it ends: one that stands in the name server's
look-up or in fsync holds up a stop for as long as that takes, and systemd kills the unit before.
So `agentd run` leaves by `os._exit` once its last words are written, and a thread of its own does
the same when the stop has not come that far in time. What is left to libraries by that (PortAudio,
lgpio) the kernel closes; the lights are switched off before, and once more by the unit.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

LATEST_S = 3.0  # after the wish to stop; the last words may take a little more
WORD_S = 0.8  # for each of them; the promise to systemd is 5 s


class Departure:
    """Says the last words once, bounded, and leaves. Methods may be called from any thread."""

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        """Prepare; `leave` ends the process with a status."""
        self._leave = leave
        self._words: list[Callable[[], object]] = []
        self._leaving = threading.Lock()

    def say_at_last(self, word: Callable[[], object]) -> None:
        """Add what must be done before the end, in this order; it may hang, and may fail."""
        self._words.append(word)

    def at_latest(self, after_s: float = LATEST_S) -> None:
        """Leave with status 0 after `after_s` unless the process has ended by then."""
        timer = threading.Timer(after_s, self.now, (0,))
        timer.name = "agentd departure"
        timer.daemon = True
        timer.start()

    def now(self, status: int) -> None:
        """Say the last words and leave; whoever comes second waits for the end."""
        self._leaving.acquire()  # never let go of
        for word in self._words:
            thread = threading.Thread(target=self._say, args=(word,), daemon=True)
            thread.start()
            thread.join(WORD_S)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        self._leave(status)

    @staticmethod
    def _say(word: Callable[[], object]) -> None:
        with contextlib.suppress(Exception):
            word()


def leave_at_once(_signal: int, _frame: object) -> NoReturn:
    """Handle SIGTERM before there is anything to stop: nothing has been begun."""
    os._exit(0)
