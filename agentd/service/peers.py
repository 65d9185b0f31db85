"""Who is at the other end of a Unix socket, and whether they may command the daemon."""

from __future__ import annotations

import array
import asyncio
import contextlib
import grp
import os
import socket
import struct
from dataclasses import dataclass

GROUP = "agentd"
DOORS = "/run/agentd-doors"  # where groups have sockets of their own, each in its folder
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Linux 4.13
_UCRED = struct.Struct("=iII")
_MAX_GROUPS_BYTES = 1024  # what Python's getsockopt takes: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    """A client process, as the kernel saw it when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]
    came_as: str = ""  # the group through whose own socket it came; empty: the common one


def peer_of(sock: socket.socket, came_as: str = "") -> Peer:
    """Return the process that connected `sock`; raise OSError if it cannot be known."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    groups = array.array("I")
    with contextlib.suppress(OSError):  # an old kernel, or more groups than fit
        groups.frombytes(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES))
    return Peer(pid, uid, frozenset((gid, *groups)), came_as)


def group_id(name: str = GROUP) -> int | None:
    """Return the id of a group, if it exists; by default of those who may command the daemon."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, OSError, ValueError):  # ValueError: a name that no group can have
        return None


def may_command(peer: Peer, *, own_uid: int | None = None, group: int | None = None) -> bool:
    """Return whether `peer` is root, the daemon's own user, or a member of `group`."""
    own = os.geteuid() if own_uid is None else own_uid
    return peer.uid in (0, own) or (group is not None and group in peer.groups)


class Access:
    """Who may do what takes a group of its own; besides root and the daemon's own user.

    A member is known by its groups as the kernel names them, or because it came through the
    group's own socket, which only members can reach. The latter is for the service: in a user
    namespace (PrivateUsers=) all groups but its own look alike (user_namespaces(7)).

    The group is looked up when it is named, not when somebody knocks: a name service may be slow.
    """

    def __init__(self, group: str) -> None:
        self.changed = asyncio.Event()  # set by `use`; whoever waits clears it
        self.group = group
        self._id = group_id(group)

    def use(self, group: str) -> None:
        """Take another group; one that does not exist has no members."""
        self.group = group
        self._id = group_id(group)
        self.changed.set()

    def may(self, peer: Peer) -> bool:
        """Return whether `peer` is a member, root or the daemon's own user."""
        return peer.came_as == self.group or may_command(peer, group=self._id)

    def refusal(self, what: str) -> str:
        """Return what is said to those who may not, with what to do about it."""
        make = "" if self._id is not None else f"sudo groupadd --system {self.group}; "
        return (
            f"not permitted to {what}: be root, or a member of the group {self.group} who comes "
            f"through {DOORS}/{self.group} ({make}sudo usermod -aG {self.group} USER, "
            "then log in again)"
        )
