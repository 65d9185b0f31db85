"""One daemon in one place: who comes second learns who is there, and leaves.

Of two daemons with one control socket only the first can be muted from outside, and two with one
state directory overwrite each other's conversation. So `agentd run` takes both before it opens a
microphone. The directory is held by a lock on itself (flock(2)): the kernel lets go of it however
the process ends, no file is left behind, and nobody else can take it, since it is the owner's alone
(0700). The socket is asked: whoever listens there is named by the kernel (unix(7), SO_PEERCRED).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Final, Self

from agentd.errors import AlreadyRunning
from agentd.service.peers import peer_of

LOCKS: Final = Path("/proc/locks")
PATIENCE_S: Final = 1.0
"""`agentd forget` without a daemon has it for a moment, and so has one that is about to end."""
LOOK_S: Final = 0.05
REMEDY: Final = (
    "Talk to that one (agentd status), or stop it first (sudo systemctl stop agentd{kill}). "
    "Two can run side by side only with RUNTIME_DIRECTORY and STATE_DIRECTORY of their own"
)


class Place:
    """The directories of a daemon, held until the process ends or `leave` is called."""

    def __init__(self, state: Path, *, patience_s: float = PATIENCE_S) -> None:
        """Take a state directory.

        One that cannot be locked (none, not ours, a file system without locks) is used all the
        same: what comes of that is reported when it is written to.

        Raises:
            AlreadyRunning: a daemon has it; the message names its process.
        """
        self._held = _locked(state, patience_s)

    @classmethod
    def take(cls, state: Path, control: Path) -> Self:
        """Take a state directory and a control socket; both may still have to be made.

        Raises:
            AlreadyRunning: another daemon has one of them.
        """
        if (pid := listener(control)) is not None:
            raise _taken(control, pid)
        with contextlib.suppress(OSError):
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(state)

    def __enter__(self) -> Self:
        """Hold it for a while."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self.leave()

    def leave(self) -> None:
        """Let go; a second time changes nothing."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)


def listener(control: Path) -> int | None:
    """Return the process that listens on a socket (0: unknown); None: nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(control))
            return peer_of(probe).pid
        except BlockingIOError:
            return 0  # its queue is full: it lives
        except OSError:  # there is none, or nobody listens, or it is not for us
            return None


def _locked(state: Path, patience_s: float) -> int | None:
    """Return a descriptor that holds the directory, or None where it cannot be held."""
    try:
        held = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    latest_s = time.monotonic() + patience_s
    try:
        while not _try_lock(held):
            if time.monotonic() >= latest_s:
                raise _taken(state, _lock_owner(state))
            time.sleep(LOOK_S)
    except OSError:  # a file system without locks
        os.close(held)
        return None
    except AlreadyRunning:
        os.close(held)
        raise
    return held


def _try_lock(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_owner(path: Path) -> int:
    """Return the process that has a lock on a file; 0 where the kernel does not say (proc(5))."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = str(path.stat().st_ino)
        for line in LOCKS.read_text("ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
                return max(0, int(fields[4]))
    return 0


def _taken(path: Path, pid: int) -> AlreadyRunning:
    who = f"process {pid}" if pid else "another process"
    remedy = REMEDY.format(kill=f", or kill {pid}" if pid else "")
    return AlreadyRunning(f"another agentd runs already: {who} has {path}. {remedy}")
