"""The file system under the state store: replace whole files, or leave them as they were."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from agentd.state.envelope import MAX_BYTES

QUARANTINE_SLOTS = 3  # per document; the oldest one makes room
_CHUNK_BYTES = 16_384
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO or a link planted in place of a state file must not make us wait or wander.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Files(Protocol):
    """Named blobs. Every method may raise OSError and then has changed nothing visible."""

    def read(self, name: str) -> bytes | None:
        """Return the blob, or None if there is none."""

    def replace(self, name: str, data: bytes) -> None:
        """Put `data` in the place of the blob; afterwards it survives a power cut."""

    def remove(self, name: str) -> None:
        """Remove the blob and everything that was ever put aside of it."""

    def put_aside(self, name: str) -> str:
        """Move the blob out of the way and return where it is now."""


class MemoryFiles:
    """Blobs in memory that fail on demand: the fake for tests and for runs without a disk."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.aside: dict[str, bytes] = {}
        self.failure: OSError | None = None
        self.writes: list[str] = []

    def read(self, name: str) -> bytes | None:
        """Return the blob, or None if there is none."""
        self._check()
        return self.blobs.get(name)

    def replace(self, name: str, data: bytes) -> None:
        """Put `data` in the place of the blob."""
        self._check()
        self.writes.append(name)
        self.blobs[name] = data

    def remove(self, name: str) -> None:
        """Remove the blob and everything that was put aside of it."""
        self._check()
        self.blobs.pop(name, None)
        self.aside = {k: v for k, v in self.aside.items() if not k.startswith(f"{name}.")}

    def put_aside(self, name: str) -> str:
        """Move the blob out of the way."""
        self._check()
        if name not in self.blobs:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        self.aside[f"{name}.bad-1"] = self.blobs.pop(name)
        return f"{name}.bad-1"

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


class DiskFiles:
    """`NAME.json` files, mode 0600, in one directory, mode 0700.

    A replacement goes to a temporary file in the same directory, is synced, renamed over the
    old one, and the directory is synced: at every moment the name stands for the old or the new
    content. `at_step` is told before each of these steps; a test dies there.
    """

    def __init__(self, directory: Path, *, at_step: Callable[[str], None] | None = None) -> None:
        self._directory = directory
        self._at_step = at_step or (lambda _step: None)

    def read(self, name: str) -> bytes | None:
        """Return the content (at most one byte above `MAX_BYTES`), or None if there is no file."""
        try:
            fd = os.open(self._path(name), _READ)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self._path(name)))
            return file.read(MAX_BYTES + 1)

    def replace(self, name: str, data: bytes) -> None:
        """Write, sync, rename, sync."""
        self._ensure_directory()
        temporary = self._directory / f".{name}.json.tmp"
        temporary.unlink(missing_ok=True)
        self._at_step("create")
        try:
            self._write(temporary, data)
            self._at_step("rename")
            temporary.replace(self._path(name))
        except OSError:
            # What is left of it would keep a full disk full.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._at_step("sync directory")
        self._sync_directory()
        self._at_step("done")

    def remove(self, name: str) -> None:
        """Remove the file, its temporary and what was put aside of it; sync the directory."""
        paths = [self._path(name), self._directory / f".{name}.json.tmp", *self._slots(name)]
        for path in paths:
            # Looked for first: a read-only file system refuses to remove even what is not there.
            with contextlib.suppress(FileNotFoundError):
                path.lstat()
                path.unlink()
        with contextlib.suppress(FileNotFoundError):
            self._sync_directory()

    def put_aside(self, name: str) -> str:
        """Move the file to the first free quarantine slot, or over the oldest one."""
        slots = list(self._slots(name))
        free = [slot for slot in slots if not os.path.lexists(slot)]
        target = free[0] if free else min(slots, key=lambda slot: slot.lstat().st_mtime_ns)
        source = self._path(name)
        source.replace(target)
        with contextlib.suppress(OSError):  # the age that decides is that of the quarantine
            os.utime(target, follow_symlinks=False)
        self._sync_directory()
        return target.name

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _slots(self, name: str) -> Iterator[Path]:
        for slot in range(1, QUARANTINE_SLOTS + 1):
            yield self._directory / f"{name}.json.bad-{slot}"

    def _ensure_directory(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(self._directory.stat().st_mode) & 0o077:
            with contextlib.suppress(OSError):
                self._directory.chmod(0o700)

    def _write(self, path: Path, data: bytes) -> None:
        fd = os.open(path, _NEW_FILE, 0o600)
        try:
            self._give_to_owner(fd)
            view = memoryview(data)
            while view:
                self._at_step("write")
                view = view[os.write(fd, view[:_CHUNK_BYTES]) :]
            self._at_step("sync")
            os.fsync(fd)
        finally:
            os.close(fd)

    def _give_to_owner(self, fd: int) -> None:
        """Let a file that root writes (`sudo agentd doctor`) belong to the directory's owner.

        The daemon could not read it otherwise, and would put it aside.
        """
        if os.geteuid() == 0:
            owner = self._directory.stat()
            if owner.st_uid != 0:
                os.fchown(fd, owner.st_uid, owner.st_gid)

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
