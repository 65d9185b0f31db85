"""A time server of one answer, as a household's router may be (SNTP, RFC 4330)."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Self

from rig.netns import Namespace

_SINCE_1900_S = 2_208_988_800


class TimeServer:
    """Tells this machine's time at port 123 of a namespace; a context manager."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 123))
        self.silent = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                request, sender = self._socket.recvfrom(512)
            except OSError:
                return
            if len(request) >= 48 and not self.silent:
                self._socket.sendto(reply(request, time.time()), sender)


def reply(request: bytes, now_s: float) -> bytes:
    """Return the answer to a client's packet: version 4, server, stratum 1."""
    stamp = _stamp(now_s)
    head = struct.pack(">BBbb II4s", 0x24, 1, 6, -20, 0, 0, b"LOCL")
    return head + stamp + request[40:48] + stamp + stamp


def _stamp(now_s: float) -> bytes:
    whole = int(now_s)
    return struct.pack(">II", whole + _SINCE_1900_S & 0xFFFFFFFF, int((now_s - whole) * 2**32))
