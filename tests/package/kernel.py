"""A PC on a Debian release's own kernel: boots once, runs one script, and is gone.

Containers share the kernel below them, with the modules that happen to be loaded there. What
depends on a kernel at its first minute needs one of its own: the container's root on a disk, that
release's kernel beside it, no module loaded but what the disk takes. The processor is
emulated: a boot takes a minute or two.
"""

from __future__ import annotations

import fcntl
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.package.bareroot import BareRoot
from tests.package.roots import apt_settings, base_root, cache, mirror

MEMORY_MB: Final = 1024
TIMEOUT_S: Final = 1500.0
"""For a boot, an installation and the script: generous, it ends a test that has failed."""

_PACKAGES: Final = ("linux-image-amd64", "busybox-static")
_MODULES: Final = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
_END: Final = "= the end ="
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done < /modules/order
/bin/busybox mount -t ext4 -o rw /dev/vda /root || exec /bin/busybox sh
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /sbin/init
"""
_UNIT: Final = """\
[Service]
Type=oneshot
ExecStart=-/bin/sh /srv/script
ExecStopPost=/bin/sh -c 'sync; echo o > /proc/sysrq-trigger'
StandardOutput=file:/dev/ttyS1
StandardError=inherit
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What boots, and the modules of the same build."""

    image: Path
    modules: Path
    busybox: Path

    @property
    def release(self) -> str:
        """Return the kernel's own name for itself."""
        return self.image.name.removeprefix("vmlinuz-")


def debian_kernel(suite: str) -> Kernel:
    """Return the kernel of `suite`, unpacked from its package once and kept in the cache."""
    folder = cache() / "kernels" / f"{suite}-amd64"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            fresh = folder.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            command = [
                *("mmdebstrap", "--quiet", "--mode=root", "--format=directory"),
                *("--variant=extract", "--architectures=amd64"),
                *(f"--include={','.join(_PACKAGES)}", *apt_settings()),
                *(suite, str(fresh), *mirror(suite)),
            ]
            subprocess.run(command, check=True)
            fresh.rename(folder)
    (image,) = (folder / "boot").glob("vmlinuz-*")
    usr = folder / "usr"
    modules = next(p for p in (usr / "lib/modules", folder / "lib/modules") if p.is_dir())
    busybox = next(p for p in (usr / "bin/busybox", folder / "bin/busybox") if p.exists())
    return Kernel(image, modules, busybox)


class Pc:
    """A disk with files on it that is booted once."""

    def __init__(self, suite: str, files: Mapping[str, str]) -> None:
        self._suite = suite
        self._kernel = debian_kernel(suite)
        self._files = files
        self.release = self._kernel.release

    def run(self, script: str) -> str:
        """Boot, run a shell script as root, switch off; return what the script printed.

        Raises:
            AssertionError: the machine did not come to the end; with the end of its console.
        """
        with tempfile.TemporaryDirectory(prefix="agentd-pc-") as name:
            work = Path(name)
            self._make_initramfs(work)
            self._make_disk(work, script)
            try:
                command = self._machine(work)
                subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
                raise AssertionError(f"{error}\n{error.stderr!r}\n{_tail(work)}") from None
            text = (work / "answers").read_text(errors="replace").replace("\r\n", "\n")
            if _END not in text:
                raise AssertionError(f"the script did not come to its end:\n{text}\n{_tail(work)}")
            return text.replace(_END, "")

    def _machine(self, work: Path) -> list[str]:
        return [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
            # Not KVM: where machines run in machines it is there and boots nothing. Time is counted
            # in instructions, a nanosecond each: no time-out of the unit depends on this machine.
            *("-accel", "tcg,tb-size=256", "-icount", "shift=0,sleep=off", "-cpu", "Nehalem"),
            *("-M", "pc", "-m", str(MEMORY_MB), "-nodefaults", "-display", "none"),
            *("-no-reboot", "-nic", "none"),
            *("-kernel", str(self._kernel.image), "-initrd", str(work / "initramfs")),
            *("-drive", f"file={work / 'disk'},format=raw,if=virtio,cache=unsafe"),
            *("-append", "console=ttyS0 loglevel=5 systemd.unit=script.service"),
            *("-serial", f"file:{work / 'console'}", "-serial", f"file:{work / 'answers'}"),
        ]

    def _make_disk(self, work: Path, script: str) -> None:
        files = {
            "/etc/systemd/system/script.service": _UNIT,
            "/etc/fstab": "/dev/vda / ext4 rw 0 0\n",
            "/srv/script": f"{script}\necho {_END}\n",
            **self._files,
        }
        with BareRoot(base_root(self._suite)) as root:
            for path, content in files.items():
                root.write(path, content)
            modules = self._kernel.modules / self.release
            root.add(modules, f"/usr/lib/modules/{self.release}")
            root.make_disk(work / "disk", "3G")

    def _make_initramfs(self, work: Path) -> None:
        ram = work / "ram"
        for name in ("bin", "dev", "modules", "root"):
            (ram / name).mkdir(parents=True)
        shutil.copy2(self._kernel.busybox, ram / "bin/busybox")
        (ram / "init").write_text(_INIT, encoding="utf-8")
        (ram / "init").chmod(0o755)
        order: list[str] = []
        for file in self._needed():
            # Debian 13 packs its modules; busybox unpacks none.
            data = file.read_bytes()
            name = file.name.removesuffix(".xz")
            (ram / "modules" / name).write_bytes(
                lzma.decompress(data) if name != file.name else data
            )
            order.append(name)
        (ram / "modules/order").write_text("".join(f"{name}\n" for name in order))
        with (work / "initramfs").open("wb") as archive:
            subprocess.run(
                "find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0",
                shell=True, cwd=ram, stdout=archive, check=True,
            )  # fmt: skip

    def _needed(self) -> list[Path]:
        """Return the modules of the disk in the order in which they are loaded."""
        found: list[Path] = []
        base = self._kernel.modules.parent.parent
        subprocess.run(["depmod", "-b", base, self.release], check=True)
        for module in _MODULES:
            listed = subprocess.run(
                ["modprobe", "-d", base, "-S", self.release, "--show-depends", module],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            for line in listed.splitlines():
                kind, _, rest = line.partition(" ")
                file = Path(rest.split()[0]) if kind == "insmod" else None
                if file and file not in found:
                    found.append(file)
        return found


def _tail(work: Path) -> str:
    return (work / "console").read_text(errors="replace")[-4000:]
