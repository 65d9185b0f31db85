"""The disk that the machine boots: Debian 12 for arm64, with Raspberry Pi OS's kind of network.

Made from Debian packages only, once per recipe, and kept in the user's cache: a kernel, an
initramfs of busybox and a few modules, and an ext4 image. The kernel package is unpacked, not
installed: its postinst would spend half an hour on an initramfs under an emulated processor.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.package.roots import apt_settings, cache, dependencies, mirror

HERE: Final = Path(__file__).resolve().parent
SUITE: Final = "bookworm"
DISK: Final = "3G"

# The machine itself, then the network as Raspberry Pi OS has it, then an access point to meet.
BASE: Final = (
    "systemd systemd-sysv udev dbus libpam-systemd systemd-timesyncd e2fsprogs kmod procps "
    "ca-certificates alsa-utils "
    "network-manager wpasupplicant wireless-regdb rfkill iw iproute2 iputils-ping "
    "hostapd dnsmasq-base nftables"
).split()

# In the order in which they are loaded.
INITRAMFS: Final = "virtio_pci virtio_blk crc32c_generic ext4".split()
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done < /modules/order
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root || exec /bin/busybox sh
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /sbin/init
"""

# Nothing that wakes up by itself in the middle of a measurement, no login on a line nobody reads,
# and none of what only costs an emulated processor time at every boot.
_MASKED: Final = (
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer "
    "e2scrub_reap.service fstrim.timer serial-getty@ttyAMA0.service getty@tty1.service "
    "NetworkManager-wait-online.service hostapd.service systemd-logind.service "
    "systemd-update-utmp.service systemd-update-utmp-runlevel.service "
    "systemd-user-sessions.service modprobe@drm.service modprobe@fuse.service "
    "modprobe@configfs.service modprobe@efi_pstore.service sys-fs-fuse-connections.mount "
    "sys-kernel-config.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount "
    "proc-sys-fs-binfmt_misc.automount alsa-restore.service alsa-state.service "
    "systemd-pcrphase.service systemd-pcrphase-sysinit.service ldconfig.service"
).split()

_DRIVER_UNIT: Final = """\
[Unit]
Description=Commands from outside
DefaultDependencies=no
After=local-fs.target systemd-udevd.service
[Service]
ExecStart=/usr/bin/python3 -IB /usr/local/lib/driver.py
Restart=always
RestartSec=0
Nice=-10
OOMScoreAdjust=-1000
KillMode=process
[Install]
WantedBy=sysinit.target
"""


# Names as on a Raspberry Pi with a modem; the radio becomes wlan0 by itself.
_FILES: Final = {
    "etc/hostname": "kitchen\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 kitchen\n::1 localhost\n",
    "etc/fstab": "/dev/vda / ext4 rw,noatime 0 0\n",
    "etc/machine-id": hashlib.md5(b"kitchen", usedforsecurity=False).hexdigest() + "\n",
    "etc/resolv.conf": "",
    "etc/systemd/system/driver.service": _DRIVER_UNIT,
    "etc/systemd/journald.conf.d/keep.conf": "[Journal]\nStorage=persistent\n",
    "etc/systemd/timesyncd.conf.d/here.conf": "[Time]\nNTP=192.0.2.1\nFallbackNTP=\n",
    # Modules for devices that this machine shows and nobody here uses.
    "etc/modprobe.d/unused.conf": "".join(
        f"blacklist {name}\n"
        for name in ("drm", "virtio_gpu", "dm_mod", "efi_pstore", "configfs", "fuse", "evdev")
    ),
    "etc/systemd/network/10-mobile.link": (
        "[Match]\nMACAddress=52:54:00:00:00:01\n[Link]\nName=wwan0\n"
    ),
    "etc/systemd/network/10-backhaul.link": (
        "[Match]\nMACAddress=52:54:00:00:00:02\n[Link]\nName=backhaul0\n"
    ),
    "etc/NetworkManager/conf.d/machine.conf": (
        "[main]\nno-auto-default=*\n[keyfile]\nunmanaged-devices=interface-name:backhaul0\n"
    ),
    # Less wanted than Wi-Fi, whose metric is 600: what a modem is to NetworkManager.
    "etc/NetworkManager/system-connections/mobile.nmconnection": (
        "[connection]\nid=mobile\ntype=ethernet\ninterface-name=wwan0\n"
        "[ipv4]\nmethod=auto\nroute-metric=700\nignore-auto-dns=true\n[ipv6]\nmethod=disabled\n"
    ),
    # The microphone is card 0 at every start; the radios are made when a test wants them.
    "etc/modules-load.d/machine.conf": "snd-aloop\n",
    "etc/modprobe.d/machine.conf": (
        "options snd-aloop index=0 pcm_substreams=1\noptions mac80211_hwsim radios=2\n"
    ),
    "usr/local/lib/driver.py": (HERE / "driver.py").read_text(encoding="utf-8"),
}


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU boots."""

    kernel: Path
    initramfs: Path
    disk: Path

    @property
    def release(self) -> str:
        """The kernel's own name for itself."""
        return self.kernel.name.removeprefix("vmlinuz-")


def base_image() -> Image:
    """Return the image of this recipe, made if there is none yet."""
    recipe = [SUITE, DISK, *BASE, *dependencies(), _INIT, *INITRAMFS, *_MASKED]
    recipe += [*_FILES, *_FILES.values(), "2"]
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
    folder = cache() / "machine" / f"{SUITE}-arm64-{digest}"
    with _lock(folder):
        if not folder.is_dir():
            fresh = folder.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            _make(fresh)
            fresh.rename(folder)
    (kernel,) = folder.glob("vmlinuz-*")
    return Image(kernel, folder / "initramfs", folder / "disk.raw")


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path) -> None:
    root = _debian_root()
    _say("kernel, initramfs, disk")
    tree = folder / "tree"
    _run("cp", "-a", "--reflink=auto", root, tree)
    release = _kernel(tree, folder)
    _initramfs(tree, release, folder / "initramfs")
    _personality(tree)
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", tree, folder / "disk.raw", DISK)
    shutil.rmtree(tree)


def _debian_root() -> Path:
    """Return the root with every package but the kernel; its maintainer scripts run under qemu."""
    recipe = [SUITE, *BASE, *dependencies(), "2"]
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
    root = cache() / "machine" / f"root-{SUITE}-arm64-{digest}"
    if root.is_dir():
        return root
    _say("an arm64 root under an emulated processor: some ten minutes, once")
    _emulate_arm64()
    fresh = root.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    kernel = (
        '--customize-hook=cd "$1" && mkdir -p kernel && cd kernel && '
        'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && '
        'image=$(apt-cache depends linux-image-arm64 | sed -n "s/.*Depends: //p") && '
        'apt-get -qq download "$image" busybox-static'
    )
    command = [
        *("nice", "-n", "15", "mmdebstrap", "--quiet", "--mode=root", "--format=directory"),
        *("--variant=minbase", "--architectures=arm64"),
        *(f"--include={','.join([*BASE, *dependencies()])}", *apt_settings()),
        *(kernel, SUITE, str(fresh), *mirror(SUITE)),
    ]
    _run(*command)
    fresh.rename(root)
    return root


def _emulate_arm64() -> None:
    """Have the kernel hand arm64 programs to qemu-user, as its package does on a booted machine."""
    registry = Path("/proc/sys/fs/binfmt_misc")
    if not (registry / "register").exists():
        _run("mount", "-t", "binfmt_misc", "binfmt_misc", registry)
    if not (registry / "qemu-aarch64").exists():
        rule = Path("/usr/lib/binfmt.d/qemu-aarch64.conf").read_text(encoding="utf-8")
        (registry / "register").write_text(rule, encoding="utf-8")


def _kernel(tree: Path, folder: Path) -> str:
    packages = tree / "kernel"
    (package,) = packages.glob("linux-image-*.deb")
    unpacked = folder / "kernel"
    _run("dpkg-deb", "-x", package, unpacked)
    (image,) = (unpacked / "boot").glob("vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    shutil.copy2(image, folder / image.name)
    shutil.copytree(unpacked / "lib/modules", tree / "usr/lib/modules", symlinks=True)
    _run("depmod", "-b", tree, release)
    (busybox,) = packages.glob("busybox-static_*.deb")
    _run("dpkg-deb", "-x", busybox, folder / "busybox")
    shutil.rmtree(unpacked)
    shutil.rmtree(packages)
    return release


def _initramfs(tree: Path, release: str, path: Path) -> None:
    work = path.parent / "ram"
    for name in ("bin", "dev", "modules", "root"):
        (work / name).mkdir(parents=True)
    busybox = path.parent / "busybox"
    shutil.copy2(next(busybox.glob("*bin/busybox")), work / "bin/busybox")
    shutil.rmtree(busybox)
    (work / "init").write_text(_INIT, encoding="utf-8")
    (work / "init").chmod(0o755)
    order: list[str] = []
    for module in INITRAMFS:
        listed = subprocess.run(
            ["modprobe", "-d", tree, "-S", release, "--show-depends", module],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for line in listed.splitlines():
            kind, _, rest = line.partition(" ")
            file = Path(rest.split()[0]) if kind == "insmod" else None
            if file and file.name not in order:
                shutil.copy2(file, work / "modules" / file.name)
                order.append(file.name)
    (work / "modules/order").write_text("".join(f"{name}\n" for name in order), encoding="utf-8")
    with path.open("wb") as archive:
        subprocess.run(
            "find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -1",
            shell=True, cwd=work, stdout=archive, check=True,
        )  # fmt: skip
    shutil.rmtree(work)


def _personality(tree: Path) -> None:
    """Give the machine a name, a disk table, a journal that survives, and the driver."""
    for name, content in _FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(content, encoding="utf-8")
        path.chmod(0o600 if name.endswith(".nmconnection") else 0o644)
    (tree / "var/log/journal").mkdir(parents=True, exist_ok=True)
    for unit in _MASKED:
        link = tree / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    wants = tree / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "driver.service").symlink_to("../driver.service")


def _run(*command: str | Path) -> None:
    subprocess.run([os.fspath(word) for word in command], check=True)


def _say(text: str) -> None:
    print(f"machine image: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(base_image().disk)
