"""The disk as a power cut would leave it at this moment, looked into without booting it.

The machine stands still while its disk is copied: the copy has what the disk had acknowledged and
nothing of what the kernel still held, exactly as after a cut. The file system's own journal is
played back, as at the next boot.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.machine.qemu import Qemu

STATE: Final = "/var/lib/agentd"


def freeze(qemu: Qemu, disk: Path, copy: Path) -> None:
    """Copy the disk as it is now."""
    qemu.command("stop")
    try:
        shutil.copyfile(disk, copy)
    finally:
        qemu.command("cont")


def state_files(copy: Path) -> dict[str, bytes]:
    """Return the daemon's state files on a frozen disk, by name; the copy is used up."""
    raw = copy.with_suffix(".raw")
    folder = copy.with_suffix(".state")
    folder.mkdir()
    try:
        # A cut leaves clusters that nothing refers to; QEMU opens such a disk as it is.
        _run("qemu-img", "convert", "-O", "raw", copy, raw)
        # 0: clean, 1: mended; anything else would keep a machine from booting.
        done = subprocess.run(["e2fsck", "-p", raw], capture_output=True, text=True, check=False)
        if done.returncode not in {0, 1}:
            raise AssertionError(f"the file system needs a hand: {done.stdout}")
        _run("debugfs", "-R", f"rdump {STATE} {folder}", raw)
        return {path.stem: path.read_bytes() for path in folder.rglob("*.json")}
    finally:
        raw.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
        shutil.rmtree(folder)


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
