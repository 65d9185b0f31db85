"""One QEMU process: its devices, its monitor, and the wires that a test pulls.

Everything is inside a network namespace of its own, where the address of the service is; QEMU's
user network leads there from both of the machine's network cards. The process ends with the test
run, whatever ends that.

The machine's time is counted in its own instructions, one nanosecond each, and stands still while
it is not emulated; where it would idle, it goes on to the next timer at once. So its sound does not
tear however busy this machine is, and its seconds compare with each other, not with a wall clock's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rig.netns import Namespace
from tests.machine.image import Image

SERVICE: Final = "192.0.2.1"
MEMORY_MB: Final = 1024
SPEAKER_HZ: Final = 48_000
MODEL: Final = (
    "QEMU `virt`, Cortex-A53, 2 cores, 1 GB, software emulation; "
    "one instruction takes 1 ns of the machine's own time"
)
_KERNEL: Final = "console=ttyAMA0 quiet loglevel=5 systemd.show_status=no"
BUTTON_LINE: Final = 5
"""A line of the machine's PL061 that a test presses."""
PINS: Final = 0x0903_03FC
"""Its data register, all eight lines unmasked (ARM DDI 0190, 3.3.1)."""


class QemuFailed(RuntimeError):
    """QEMU did not start, or refused a command."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What may differ from one switching-on to the next."""

    cores: int = 2
    """QEMU emulates them one after the other: one boots in less time."""
    speaker: bool = True
    """Whether there is a USB controller, and the speaker on it."""
    rtc: str = "utc"
    """A date for the clock's battery to have kept, as `-rtc base=`."""
    link: bool = True
    """Whether the mobile link has a carrier from the start."""
    kernel_arguments: str = ""


class Qemu:
    """A machine that is on from the constructor until `off`."""

    def __init__(
        self,
        image: Image,
        disk: Path,
        work: Path,
        namespace: Namespace,
        hardware: Hardware | None = None,
    ) -> None:
        self.work = work
        self.hardware = hardware or Hardware()
        self._plugs = itertools.count(1)
        self._asking = threading.Lock()
        self._recordings = [work / f"speaker-{number}.wav" for number in range(12)]
        for path in (*self._recordings, work / "driver", work / "qmp", work / "qtest"):
            path.unlink(missing_ok=True)
        command = [
            *("nice", "-n", "5", "setpriv", "--pdeathsig", "KILL", "qemu-system-aarch64"),
            *self._board(image, disk),
            *self._sound(),
            *self._network(),
        ]
        self.started_s = time.monotonic()
        with (work / "qemu.log").open("ab") as log:
            self.process = namespace.popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.driver = self._connect("driver")
        self._qtest = _Lines(self._connect("qtest"))
        self._monitor = _Lines(self._connect("qmp"))
        self._monitor.read()  # the greeting
        self.command("qmp_capabilities")
        self._release_button()
        self.set_link(up=self.hardware.link)

    def _board(self, image: Image, disk: Path) -> list[str]:
        work = self.work
        return [
            *("-M", "virt", "-cpu", "cortex-a53", "-m", str(MEMORY_MB)),
            *("-smp", str(self.hardware.cores), "-nodefaults", "-display", "none"),
            *("-accel", "tcg,tb-size=256", "-icount", "shift=0,sleep=off"),
            *("-rtc", f"base={self.hardware.rtc}"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initramfs)),
            *("-append", f"{_KERNEL} {self.hardware.kernel_arguments}"),
            *("-serial", f"file:{work}/console"),
            *("-drive", f"file={disk},if=none,id=disk,format=qcow2,cache=none"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-device", "virtio-serial-pci", "-device", "virtio-rng-pci"),
            *("-chardev", f"socket,id=driver,path={work}/driver,server=on,wait=off"),
            *("-device", "virtserialport,chardev=driver,name=driver"),
            *("-qmp", f"unix:{work}/qmp,server=on,wait=off"),
            # Only for a pin that a test moves; the processor is emulated as always.
            *("-qtest", f"unix:{work}/qtest,server=on,wait=off", "-qtest-log", "none"),
        ]

    def _sound(self) -> list[str]:
        """Return a USB controller, and a recorder for every time that a speaker is plugged in."""
        if not self.hardware.speaker:
            return []
        form = f"out.frequency={SPEAKER_HZ},out.channels=2,out.format=s16"
        arguments = ["-device", "qemu-xhci,id=usb"]
        for number, path in enumerate(self._recordings):
            arguments += ["-audiodev", f"wav,id=room{number},path={path},{form}"]
        return [*arguments, "-device", "usb-audio,bus=usb.0,audiodev=room0,id=speaker"]

    def _network(self) -> list[str]:
        return [
            *("-netdev", "user,id=mobile,net=10.64.0.0/24,ipv6=off"),
            *("-device", "virtio-net-pci,netdev=mobile,mac=52:54:00:00:00:01,romfile="),
            *("-netdev", "user,id=backhaul,net=10.65.0.0/24,ipv6=off"),
            *("-device", "virtio-net-pci,netdev=backhaul,mac=52:54:00:00:00:02,romfile="),
        ]

    def _connect(self, name: str) -> socket.socket:
        deadline = time.monotonic() + 30
        while True:
            link = socket.socket(socket.AF_UNIX)
            try:
                link.connect(str(self.work / name))
            except OSError:
                link.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = (self.work / "qemu.log").read_text(errors="replace")[-2000:]
                    raise QemuFailed(f"QEMU did not start:\n{log}") from None
                time.sleep(0.02)
            else:
                return link

    # ── the monitor ─────────────────────────────────────────────────────────────────────────────

    def command(self, execute: str, **arguments: Any) -> Any:
        """Run a monitor command and return its result."""
        with self._asking:
            self._monitor.write(json.dumps({"execute": execute, "arguments": arguments}))
            while True:
                answer = json.loads(self._monitor.read())
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise QemuFailed(f"{execute}: {answer['error']['desc']}")

    def unplug_speaker(self) -> None:
        """Pull the USB speaker out."""
        self.command("device_del", id="speaker")

    def plug_speaker(self) -> int:
        """Put the USB speaker in again; return the number of its new recording."""
        number = next(self._plugs)
        self.command(
            "device_add", driver="usb-audio", bus="usb.0", audiodev=f"room{number}", id="speaker"
        )
        return number

    def recording(self, number: int = 0) -> Path:
        """Return the WAV of what the speaker plays since it was plugged in for the n-th time."""
        return self._recordings[number]

    def set_link(self, *, up: bool) -> None:
        """Give the mobile link a carrier, or take it."""
        self.command("set_link", name="mobile", up=up)

    # ── pins ────────────────────────────────────────────────────────────────────────────────────

    def _release_button(self) -> None:
        self.set_pin(BUTTON_LINE, high=True)

    def set_pin(self, line: int, *, high: bool) -> None:
        """Put a level onto an input line of the machine's GPIO chip."""
        self._qtest.write(f"set_irq_in {self._chip()} unnamed-gpio-in {line} {int(high)}")
        answer = self._qtest.read()
        if not answer.startswith("OK"):
            raise QemuFailed(f"pin {line}: {answer}")

    def pins(self) -> int:
        """Return the levels of the chip's eight lines, from its data register."""
        text = self.command("human-monitor-command", **{"command-line": f"xp /1xb {PINS:#x}"})
        return int(text.rpartition(":")[2], 16)

    def _chip(self) -> str:
        for item in self.command("qom-list", path="/machine/unattached"):
            if item["type"] == "child<pl061>":
                return f"/machine/unattached/{item['name']}"
        raise QemuFailed("the machine has no PL061")

    # ── power ───────────────────────────────────────────────────────────────────────────────────

    def power_button(self) -> None:
        """Press the power key: line 3 of the GPIO chip."""
        self.command("system_powerdown")

    def cut_power(self) -> None:
        """End the process at once: nothing that the machine holds in memory reaches the disk."""
        self.process.kill()
        self._close()

    def off(self, timeout_s: float = 90.0) -> None:
        """Wait for the machine to have switched itself off; cut the power after the time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        self.cut_power()

    def _close(self) -> None:
        self.process.wait()
        for link in (self.driver, self._qtest.link, self._monitor.link):
            link.close()


class _Lines:
    """Lines over a socket."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        link.settimeout(30)
        self._file = link.makefile("r", encoding="utf-8")

    def read(self) -> str:
        line = self._file.readline()
        if not line:
            raise QemuFailed("QEMU is gone")
        return line

    def write(self, text: str) -> None:
        self.link.sendall(text.encode() + b"\n")


def overlay(base: Path, path: Path, form: str = "raw") -> Path:
    """Make a disk that has what `base` has and takes all writes itself."""
    path.unlink(missing_ok=True)
    command: Sequence[str | Path] = [
        *("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", form, path)
    ]
    subprocess.run(command, check=True)
    return path
