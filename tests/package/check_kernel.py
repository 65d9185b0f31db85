"""The unit's device policy on a release's own kernel: no sound module, until a card comes late."""

from __future__ import annotations

import re

from tests.package import figures
from tests.package.kernel import Pc
from tests.package.roots import PROJECT

PROBE = """\
[Service]
{policy}
ExecStart=/bin/sh -c 'until [ -c /dev/snd/controlC0 ]; do sleep 0.2; done; sleep 2; \\
    (: <> /dev/snd/controlC0) 2> /run/{name} && echo opened > /run/{name}; sleep infinity'
"""
BY_NAME = "DevicePolicy=closed\nDeviceAllow=char-alsa rw"
SCRIPT = r"""
classes() { awk '/^Block/ {exit} $2 == "alsa" || $2 == "gpiochip" {print $2}' /proc/devices; }
echo "before: $(classes | xargs)"
systemctl start by-name shipped
modprobe snd-aloop && udevadm settle
echo "after: $(classes | xargs)"
for _ in 1 2 3 4 5 6 7 8 9; do [ -s /run/by-name ] && [ -s /run/shipped ] && break; sleep 2; done
echo "by name: $(cat /run/by-name)"
echo "shipped: $(cat /run/shipped)"
"""


def test_a_card_whose_driver_is_loaded_after_the_service_is_let_in(suite: str) -> None:
    """Under the shipped policy a service that was there first opens the first card that comes.

    One that names the class of devices alone stays shut out of the same card: systemd looks the
    name up when the unit starts. The class of GPIO chips is there from the kernel's own start.
    """
    unit = (PROJECT / "systemd/agentd.service").read_text(encoding="utf-8")
    policy = "\n".join(re.findall(r"(?m)^Device(?:Policy|Allow)=.*$", unit))
    folder = "/etc/systemd/system"
    pc = Pc(
        suite,
        {
            f"{folder}/by-name.service": PROBE.format(policy=BY_NAME, name="by-name"),
            f"{folder}/shipped.service": PROBE.format(policy=policy, name="shipped"),
        },
    )
    text = pc.run(SCRIPT)
    said = dict(re.findall(r"(?m)^([a-z ]+): (.*)$", text))
    figures.note(suite, "kernel with a sound card that came late", pc.release)
    assert said["before"] == "gpiochip", text
    assert set(said["after"].split()) == {"alsa", "gpiochip"}, text
    assert "Operation not permitted" in said["by name"], text
    assert said["shipped"] == "opened", text
