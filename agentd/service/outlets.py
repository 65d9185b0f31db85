"""Where entries go: journald, a stream of text or JSON lines, or memory.

None of them blocks on journald, raises or grows: what cannot be written is counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TextIO

from agentd.clock import Clock, WallTime
from agentd.service.entry import JournalEntry, json_line, text_line
from agentd.service.journald import JournaldOutlet

Format = Literal["auto", "journal", "text", "json"]


class Outlet(Protocol):
    """Takes entries."""

    dropped: int

    def put(self, entry: JournalEntry) -> None:
        """Write `entry` or count it as dropped; never raise."""

    def close(self) -> None:
        """Bring what is queued to its place, within a bounded time."""


class MemoryOutlet:
    """Keeps entries: the fake for tests."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []
        self.dropped = 0

    def put(self, entry: JournalEntry) -> None:
        """Keep `entry`."""
        self.entries.append(entry)

    def close(self) -> None:
        """Do nothing."""


class StreamOutlet:
    """Writes lines to a stream."""

    def __init__(
        self, stream: TextIO, form: Callable[[JournalEntry, WallTime], str], *, clock: Clock
    ) -> None:
        self.dropped = 0
        self._stream = stream
        self._form = form
        self._clock = clock

    def put(self, entry: JournalEntry) -> None:
        """Write one entry; a closed pipe costs the entry."""
        try:
            self._stream.write(self._form(entry, self._clock.wall()) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += 1

    def close(self) -> None:
        """Do nothing: every entry has been flushed."""


def choose_outlet(
    format_: Format, *, clock: Clock, stream: TextIO, environ: Mapping[str, str]
) -> Outlet:
    """Return the outlet for `log.format`; auto is journald when systemd connected us to it."""
    if format_ == "auto":
        format_ = "journal" if _is_journal(stream, environ) else "text"
    if format_ == "journal":
        return JournaldOutlet()
    return StreamOutlet(stream, json_line if format_ == "json" else text_line, clock=clock)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    # sd_journal_stream_fd(3): the variable names the device and inode of the stream given to us;
    # it is inherited by children whose stderr goes elsewhere.
    try:
        file = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}"
