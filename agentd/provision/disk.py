"""Files that must survive a power cut.

Writing is done when it returns: content and name are on the disk. `at_step` is told before each
step; a test pulls the plug there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

_WRITE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = _WRITE | os.O_CREAT | os.O_EXCL


class Disk:
    """Writes for good."""

    def __init__(self, at_step: Callable[[str], None] | None = None) -> None:
        self._at_step = at_step or (lambda _step: None)

    def replace(self, path: Path, content: bytes, mode: int) -> None:
        """Put `content` at `path` in one step: at every moment there is the old or the new one."""
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        self._at_step(f"create {fresh.name}")
        try:
            fd = os.open(fresh, _NEW, mode)
            try:
                with contextlib.suppress(PermissionError):  # FAT has no modes
                    os.fchmod(fd, mode)
                self._fill(fd, fresh.name, content)
            finally:
                os.close(fd)
            self._at_step(f"rename {fresh.name}")
            fresh.replace(path)
        except OSError:
            # What is left of it would keep a full disk full, and a key where it should not be.
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        self._sync(path.parent)

    def overwrite(self, path: Path, content: bytes) -> None:
        """Write over the bytes of `path` where they are; a new file would leave the old ones."""
        self._at_step(f"overwrite {path.name}")
        fd = os.open(path, _WRITE)
        try:
            self._fill(fd, path.name, content)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name in its folder."""
        self._at_step(f"rename {source.name}")
        source.replace(target)
        self._sync(target.parent)

    def remove(self, path: Path) -> bool:
        """Remove a file; return whether there was one."""
        self._at_step(f"remove {path.name}")
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        self._sync(path.parent)
        return True

    def make_folder(self, path: Path, mode: int) -> None:
        """Make a folder, and those above it, unless it is there."""
        if not path.is_dir():
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            self._sync(path.parent)

    def _fill(self, fd: int, name: str, content: bytes) -> None:
        self._at_step(f"write {name}")
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        self._at_step(f"sync {name}")
        os.fsync(fd)

    def _sync(self, folder: Path) -> None:
        self._at_step(f"sync folder {folder.name}")
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
