"""Where entries go: journald's socket, a stream of text or JSON lines, or memory.

None of them blocks on journald, raises or grows: what cannot be written is counted.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol, TextIO

from agentd.clock import Clock, WallTime
from agentd.service.entry import Entry, journal_datagram, json_line, text_line

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")

Format = Literal["auto", "journal", "text", "json"]


class Outlet(Protocol):
    """Takes entries."""

    dropped: int

    def put(self, entry: Entry) -> None:
        """Write `entry` or count it as dropped; never raise."""


class MemoryOutlet:
    """Keeps entries: the fake for tests."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.dropped = 0

    def put(self, entry: Entry) -> None:
        """Keep `entry`."""
        self.entries.append(entry)


class JournaldOutlet:
    """Sends entries to journald in its native protocol.

    Without systemd-python, whose `send` blocks the whole event loop while journald is stuck.
    """

    def __init__(self, path: Path = JOURNAL_SOCKET) -> None:
        self.dropped = 0
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def put(self, entry: Entry) -> None:
        """Send one datagram; a full or absent journald costs the entry, not the loop."""
        try:
            self._socket.sendto(journal_datagram(entry), self._path)
        except OSError:
            self.dropped += 1


class StreamOutlet:
    """Writes lines to a stream."""

    def __init__(
        self, stream: TextIO, form: Callable[[Entry, WallTime], str], *, clock: Clock
    ) -> None:
        self.dropped = 0
        self._stream = stream
        self._form = form
        self._clock = clock

    def put(self, entry: Entry) -> None:
        """Write one entry; a closed pipe costs the entry."""
        try:
            self._stream.write(self._form(entry, self._clock.wall()) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += 1


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
