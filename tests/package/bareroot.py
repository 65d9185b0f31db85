"""The least Debian that apt works in: no init, no service, no sound, no network; not booted."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Self

from rig.guest import ENVIRONMENT, Guest

_APART: Final = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
# A layer over the root for each command; what was written stays in `upper`.
_ENTER: Final = """\
set -e
mount --make-rprivate /
cd {work}
mount -t overlay overlay -o lowerdir={lower},upperdir={work}/upper,workdir={work}/work root
mount -t proc proc root/proc
mount -t tmpfs -o mode=755 tmpfs root/dev
for node in null zero full random urandom; do
    touch root/dev/$node
    mount --bind /dev/$node root/dev/$node
done
mkdir -p root/dev/shm root/dev/pts root/run
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
ip link set lo up
exec chroot root /bin/bash -c "$1"
"""


class BareRoot(Guest):
    """A throw-away layer over a cached root; use as a context manager."""

    def __init__(self, root: Path) -> None:
        self._lower = root
        self._folder = tempfile.TemporaryDirectory(prefix="agentd-bare-")
        self._work = Path(self._folder.name)

    def __enter__(self) -> Self:
        for name in ("upper", "work", "root"):
            (self._work / name).mkdir()
        self._work.chmod(0o755)  # for users of the root
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def add(self, source: Path, target: str) -> None:
        """Copy a folder of this machine into the root."""
        place = self._work / "upper" / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--reflink=auto", source, place], check=True)

    def make_disk(self, disk: Path, size: str) -> None:
        """Write all that is in the root to an ext4 image."""
        script = (
            "mount --make-rprivate / && mount -t overlay overlay "
            f"-o lowerdir={self._lower},upperdir={self._work}/upper,workdir={self._work}/work "
            f"{self._work}/root && mke2fs -q -F -t ext4 -d {self._work}/root {disk} {size}"
        )
        subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True, capture_output=True)

    def ask(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root; return status and output whatever they are."""
        user, timeout_s = options.get("user", ""), options.get("timeout_s", 600.0)
        environment = {**ENVIRONMENT, **options.get("env", {})}
        words = " ".join(f"{k}={shlex.quote(v)}" for k, v in environment.items())
        become = "setpriv --reuid=nobody --regid=nogroup --clear-groups " if user else ""
        inside = f"exec {become}env -i {words} bash -c {shlex.quote(script)}"
        enter = _ENTER.format(work=self._work, lower=self._lower)
        data = options.get("stdin", b"")
        done = subprocess.run(
            [*_APART, "bash", "-c", enter, "enter", inside],
            input=data,
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
        return subprocess.CompletedProcess(
            script,
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )
