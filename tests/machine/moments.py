"""A disk looked into, or written to, without booting it.

The disk as a power cut would leave it at a moment: the machine stands still while it is copied, so
the copy has what the disk had acknowledged and nothing of what the kernel still held, exactly as
after a cut. The file system's own journal is played back, as at the next boot.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
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
    folder = copy.with_suffix(".state")
    folder.mkdir()
    try:
        with _raw(copy) as image:
            # 0: clean, 1: mended; anything else would keep a machine from booting.
            done = subprocess.run(["e2fsck", "-p", image], capture_output=True, check=False)
            if done.returncode not in {0, 1}:
                raise AssertionError(f"the file system needs a hand: {done.stdout.decode()}")
            command = ["debugfs", "-R", f"rdump {STATE} {folder}", str(image)]
            subprocess.run(command, check=True, capture_output=True)
        return {path.stem: path.read_bytes() for path in folder.rglob("*.json")}
    finally:
        copy.unlink(missing_ok=True)
        shutil.rmtree(folder)


def put(disk: Path, files: dict[str, bytes], links: dict[str, str]) -> None:
    """Write files and symbolic links, root's own, onto the disk of a machine that is off."""
    with _raw(disk) as image, tempfile.TemporaryDirectory() as folder:
        commands = []
        for number, (path, content) in enumerate(files.items()):
            source = Path(folder) / str(number)
            source.write_bytes(content)
            source.chmod(0o600 if path.startswith("/etc/credstore/") else 0o644)
            above = list(Path(path).parents)[-2::-1]
            # What is there already is refused or taken away; both are what is wanted.
            commands += [*(f"mkdir {parent}" for parent in above), f"rm {path}"]
            commands.append(f"write {source} {path}")
        commands += [f"symlink {path} {target}" for path, target in links.items()]
        script = Path(folder) / "script"
        script.write_text("\n".join(commands) + "\n", encoding="utf-8")
        subprocess.run(["debugfs", "-w", "-f", script, image], check=True, capture_output=True)
        subprocess.run(["e2fsck", "-fp", image], check=True, capture_output=True)


@contextlib.contextmanager
def _raw(disk: Path) -> Iterator[Path]:
    """Show what a qcow2 file holds as a file of its own; a conversion would take seconds."""
    image = disk.with_suffix(".raw")
    image.touch()
    command = [
        "qemu-storage-daemon",
        *("--blockdev", f"driver=file,filename={disk},node-name=file"),
        *("--blockdev", "driver=qcow2,file=file,node-name=disk"),
        *("--export", f"type=fuse,id=raw,node-name=disk,mountpoint={image},writable=on"),
    ]
    server = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command])
    try:
        deadline = time.monotonic() + 30
        while not image.stat().st_size:  # a mount in another process tells nobody
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("qemu-storage-daemon serves no disk; is there /dev/fuse?")
            time.sleep(0.01)
        yield image
    finally:
        server.terminate()
        server.wait()
        image.unlink(missing_ok=True)
