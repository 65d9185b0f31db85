"""Who is at the other end of a Unix socket, and whether they may command the daemon."""

from __future__ import annotations

import array
import contextlib
import grp
import os
import socket
import struct
from dataclasses import dataclass

GROUP = "agentd"
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Linux 4.13
_UCRED = struct.Struct("=iII")
_MAX_GROUPS_BYTES = 1024  # what Python's getsockopt takes: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    """A client process, as the kernel saw it when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]


def peer_of(sock: socket.socket) -> Peer:
    """Return the process that connected `sock`; raise OSError if it cannot be known."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    groups = array.array("I")
    with contextlib.suppress(OSError):  # an old kernel, or more groups than fit
        groups.frombytes(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES))
    return Peer(pid, uid, frozenset((gid, *groups)))


def control_group() -> int | None:
    """Return the id of the group whose members may command the daemon, if it exists."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def may_command(peer: Peer, *, own_uid: int | None = None, group: int | None = None) -> bool:
    """Say whether `peer` is root, the daemon's own user, or a member of `group`."""
    own = os.geteuid() if own_uid is None else own_uid
    return peer.uid in (0, own) or (group is not None and group in peer.groups)
