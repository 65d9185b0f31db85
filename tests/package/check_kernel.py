"""The package in the first minute of a kernel: without a sound module, until a card comes."""

from __future__ import annotations

import re

from tests.package import figures
from tests.package.debs import Packages
from tests.package.kernel import Pc

# What a unit of these days does without the number: the same names, resolved at its start.
BY_NAME = """\
[Service]
DevicePolicy=closed
DeviceAllow=char-alsa rw
ExecStart=/bin/sh -c 'until [ -c /dev/snd/controlC0 ]; do sleep 0.2; done; sleep 2; \\
    (: <> /dev/snd/controlC0) 2> /run/by-name && echo opened > /run/by-name; sleep infinity'
"""
SETTINGS = """\
[audio]
capture_device = "plughw:CARD=Loopback,DEV=1"
playback_device = "plughw:CARD=Loopback,DEV=0"
"""
SCRIPT = r"""
told() { journalctl -q --no-pager -o cat -u agentd "AGENTD_EVENT=$1"; }
await() { # await SECONDS EVENT
    for _ in $(seq "$1"); do told "$2" | grep -q . && return; sleep 1; done
    echo "never: $2"; journalctl --no-pager -u agentd -n 40
}
classes() { awk '/^Block/ {exit} $2 == "alsa" || $2 == "gpiochip" {print $2}' /proc/devices; }
systemctl start by-name
echo "before: $(classes | xargs)"
await 120 capture_lost
systemctl is-active by-name agentd
modprobe snd-aloop && udevadm settle
echo "after: $(classes | xargs)"
await 60 capture_back
echo "heard: $(told capture_back)"
echo "lost: $(told capture_lost | tail -n 1)"
for _ in $(seq 20); do [ -s /run/by-name ] && break; sleep 1; done
echo "by name: $(cat /run/by-name)"
echo "restarts: $(systemctl show -P NRestarts agentd)"
pid=$(systemctl show -P MainPID agentd)
echo "core: $(awk '/Max core file size/ {print $5}' /proc/$pid/limits)"
group=/sys/fs/cgroup/system.slice/agentd.service
echo "swap: $(cat $group/memory.swap.max)"
echo "memory: $(cat $group/memory.max)"
echo "data: $(awk '/VmData|VmRSS/ {print $1 $2}' /proc/$pid/status | xargs)"
"""


def test_a_card_whose_driver_is_loaded_after_the_daemon_is_heard(
    packages: Packages, suite: str
) -> None:
    """Installed and started without any sound module, agentd opens the first card that comes.

    A unit that names the class of devices alone stays shut out of the same card: systemd looks the
    name up when the unit starts. The class of GPIO chips is there from the kernel's own start.
    """
    files = {
        "/etc/systemd/system/by-name.service": BY_NAME,
        "/etc/agentd/conf.d/90-card.toml": SETTINGS,
    }
    pc = Pc(suite, packages.of("amd64").read_bytes(), files)
    text = pc.run(SCRIPT)
    print(text)
    said = dict(re.findall(r"(?m)^([a-z ]+): (.*)$", text))
    figures.note(suite, "kernel with a sound card that came late", pc.release)
    figures.note(suite, "VmData and RSS there, KiB", said["data"])
    assert said["before"] == "gpiochip"
    assert set(said["after"].split()) == {"alsa", "gpiochip"}
    assert "Operation not permitted" in said["by name"]
    assert "never" not in said
    assert said["heard"]
    assert said["restarts"] == "0"
    assert (said["core"], said["swap"]) == ("0", "0")
    assert int(said["memory"]) > 0
