"""Journald's native protocol: one datagram per entry, a sealed memory file where it does not fit.

Source: systemd.io/JOURNAL_NATIVE_PROTOCOL. No library: systemd-python blocks while journald does
not read, so it needs a thread of its own; here the thread is there only while journald is behind.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping

from agentd.service.entry import JournalEntry, journal_fields

SOCKET = "/run/systemd/journal/socket"
BACKLOG = 2000  # entries; a busy minute
CLOSE_S = 1.0
_TOO_LARGE = {errno.EMSGSIZE, errno.ENOBUFS}  # as sd_journal_sendv takes them
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def datagram(fields: Mapping[str, str]) -> bytes:
    """Return an entry as journald reads it.

    `NAME=value` and a line feed; a value that has line feeds itself is written as the name, a line
    feed, its length (64 bits, little endian), the value and a line feed.
    """
    data = bytearray()
    for name, text in fields.items():
        value = text.encode("utf-8", "replace")
        if b"\n" in value:
            data += name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        else:
            data += name.encode() + b"=" + value + b"\n"
    return bytes(data)


class JournaldOutlet:
    """Sends entries to journald; never blocks, from whichever thread it is called.

    Drop policy: while journald does not read, up to `BACKLOG` entries wait for it; the newest
    beyond them is dropped and counted, and so is what journald is not there to take.
    """

    def __init__(self, path: str = SOCKET) -> None:
        self.dropped = 0
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._waiting: deque[bytes] = deque()  # held to `BACKLOG` in `put`
        self._behind = threading.Condition()

    def put(self, entry: JournalEntry) -> None:
        """Send an entry, or keep it until journald reads again; returns at once."""
        data = datagram(journal_fields(entry))
        with self._behind:
            if self._waiting:
                self._keep(data)
                return
            try:
                self._send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._keep(data)
                threading.Thread(target=self._catch_up, name="agentd journal", daemon=True).start()
            except OSError:
                self.dropped += 1

    def close(self) -> None:
        """Wait until everything kept is with journald, or for `CLOSE_S`."""
        with self._behind:
            self._behind.wait_for(lambda: not self._waiting, CLOSE_S)

    def _keep(self, data: bytes) -> None:
        if len(self._waiting) < BACKLOG:
            self._waiting.append(data)
        else:
            self.dropped += 1

    def _catch_up(self) -> None:
        """Send what waits, as fast as journald takes it; run in a thread of its own."""
        while True:
            with self._behind:
                data = self._waiting[0]
            lost = 0
            try:
                self._send(data, 0)
            except OSError:
                lost = 1
            with self._behind:
                self.dropped += lost
                self._waiting.popleft()
                if not self._waiting:
                    self._behind.notify_all()
                    return

    def _send(self, data: bytes, flags: int) -> None:
        try:
            self._socket.sendto(data, flags, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_file(data, flags)

    def _send_file(self, data: bytes, flags: int) -> None:
        """Send what is too large for a datagram as a memory file that nobody can change."""
        with contextlib.closing(_MemoryFile(data)) as file:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fd]))]
            self._socket.sendmsg([], rights, flags, self._path)


class _MemoryFile:
    def __init__(self, data: bytes) -> None:
        self.fd = os.memfd_create("agentd-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(self.fd, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)

    def close(self) -> None:
        os.close(self.fd)
