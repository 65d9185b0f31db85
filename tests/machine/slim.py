"""The machine started for power cuts: all that agentd needs of a boot, and nothing besides.

Most of a boot under an emulated processor is udev going through every device and NetworkManager;
neither has a part in what a power cut does to a file. What is left out is left out of these starts
only, by the kernel's arguments; disk, file system, journal and the unit are as always.
"""

from __future__ import annotations

from typing import Final

from tests.machine.kitchen import KEY, Kitchen
from tests.machine.moments import put
from tests.machine.qemu import Hardware

_OUT: Final = (
    "NetworkManager.service wpa_supplicant.service systemd-timesyncd.service dbus.service "
    "dbus.socket agentd-firstboot.service getty.target systemd-udev-trigger.service "
    "systemd-modules-load.service kmod-static-nodes.service systemd-tmpfiles-setup-dev.service "
    "systemd-tmpfiles-setup.service systemd-remount-fs.service systemd-sysctl.service "
    "systemd-sysusers.service systemd-random-seed.service systemd-update-done.service "
    "systemd-binfmt.service modprobe@dm_mod.service modprobe@loop.service "
    "sys-kernel-debug.mount"
).split()
SLIM: Final = Hardware(
    cores=1,
    speaker=False,
    kernel_arguments=" ".join(
        [*(f"systemd.mask={unit}" for unit in _OUT), "systemd.wants=slim.service"]
    ),
)

# The state as the disk has it is put aside before agentd sees it. Drivers first: udev would find
# them by going through all devices.
_UNIT: Final = """\
[Unit]
DefaultDependencies=no
Wants=systemd-udevd.service
After=systemd-udevd.service local-fs.target
Before=agentd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/cp -a /var/lib/agentd /run/state-at-boot
ExecStart=/sbin/modprobe -a virtio_console virtio_net snd-aloop
ExecStart=/bin/udevadm trigger --action=add --subsystem-match=gpio
ExecStart=/bin/udevadm settle
ExecStart=/bin/sh -c "ip link set wwan0 up; ip address add 10.64.0.15/24 dev wwan0; \\
    ip route add default via 10.64.0.2"
"""
STATE_AT_BOOT: Final = "/run/state-at-boot"

# A USB card and the neural detector would cost this processor a good part of its time; these checks
# hear nothing.
SETTINGS: Final = """\
[audio]
playback_device = "plughw:CARD=Spare,DEV=0"
[vad]
detector = "webrtc"
"""


def prepare(kitchen: Kitchen) -> None:
    """Make the disk one that can be started slim, with agentd."""
    files = kitchen.files(SETTINGS) | {
        "/etc/credstore/gemini-api-key": KEY.encode(),
        "/etc/systemd/system/slim.service": _UNIT.encode(),
    }
    wants = "/etc/systemd/system/multi-user.target.wants/agentd.service"
    put(kitchen.board.disk, files, {wants: "/lib/systemd/system/agentd.service"})
