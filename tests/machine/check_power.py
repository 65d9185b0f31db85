"""The plug is pulled.

The machine is killed at random moments of a conversation and switched on again with the same disk.
What its kernel had not yet written is lost, as it would be; what the disk had acknowledged stays.
The state file is copied aside at each boot before agentd starts: it is whole, and its handle is one
that the service gave out; then the conversation goes on. At further moments the machine stands
still while its disk is copied, and the copy is looked into as if the power had been cut there.
Between the cuts the machine starts without NetworkManager and the USB speaker, to save time.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentd.state.envelope import decode
from tests.machine.board import Board
from tests.machine.image import Image
from tests.machine.install import Installed
from tests.machine.kitchen import Kitchen, Service, sentence
from tests.machine.moments import freeze, state_files
from tests.machine.qemu import Hardware, overlay
from tests.machine.report import Section
from tests.rig.netns import Namespace

CUTS = int(os.environ.get("CUTS", "30"))
BUDGET_S = float(os.environ.get("CUTS_BUDGET_S", "1500"))
"""No further cut is begun after this time; the report says how many there were."""
SEED = 7
LOOKS = 4
"""How often the disk is looked at in each conversation, besides the cut that ends it."""
LONGEST_S = 14.0
"""Speech, reply, and the five seconds that agentd lets pass between two writes of a document."""

_SLIM = "NetworkManager wpa_supplicant systemd-timesyncd agentd-firstboot dbus".split()
_SLIM_BOOT = Hardware(
    speaker=False,
    kernel_arguments=" ".join(f"systemd.mask={name}.service" for name in _SLIM)
    + " systemd.mask=dbus.socket",
)
# A USB card costs an emulated processor a good part of its time, and these checks hear nothing.
SETTINGS = '[audio]\nplayback_device = "plughw:CARD=Spare,DEV=0"\n'
_ADDRESS = """\
[Unit]
BindsTo=sys-subsystem-net-devices-wwan0.device
After=sys-subsystem-net-devices-wwan0.device
Before=network.target agentd.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c "ip link set wwan0 up; ip address add 10.64.0.15/24 dev wwan0; \\
    ip route add default via 10.64.0.2"
[Install]
WantedBy=multi-user.target
"""
_ASIDE = """\
[Unit]
After=local-fs.target
Before=agentd.service
[Service]
Type=oneshot
ExecStart=/bin/cp -a /var/lib/agentd /run/state-at-boot
[Install]
WantedBy=multi-user.target
"""


@dataclass
class Tally:
    """What the cuts led to."""

    cuts: int = 0
    ages: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    torn: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    first_words: Counter[str] = field(default_factory=Counter)
    looks: int = 0


@pytest.fixture(scope="module")
def fragile(
    image: Image, product: Installed, namespace: Namespace, alone: None
) -> Iterator[Kitchen]:
    """A machine of its own that has had one conversation, switched off."""
    with tempfile.TemporaryDirectory(prefix="agentd-machine-") as folder:
        work = Path(folder)
        disk = overlay(product.disk, work / "disk.qcow2", "qcow2")
        with (
            Service(namespace, work, "--latency", "0.5") as service,
            Board(image, disk, work, namespace) as board,
        ):
            board.switch_on(Hardware(speaker=False))
            kitchen = Kitchen(board, service)
            kitchen.furnish(SETTINGS)
            board.write("/etc/systemd/system/address.service", _ADDRESS)
            board.write("/etc/systemd/system/aside.service", _ASIDE)
            board.run("systemctl enable -q address aside agentd")
            kitchen.start()
            mark = board.mark()
            kitchen.converse(sentence(1, 1.5))
            board.wait_event("handle_stored", since=mark)
            board.switch_off()
            yield kitchen


def test_no_cut_tears_the_state_and_the_conversation_goes_on(
    fragile: Kitchen, section: Section
) -> None:
    """After every cut: a whole state file with a handle of the service, and a resumed session."""
    tally, chance, begun_s = Tally(), random.Random(SEED), time.monotonic()
    try:
        while tally.cuts < CUTS and time.monotonic() - begun_s < BUDGET_S:
            wake(fragile, tally)
            talk_until_cut(fragile, tally, chance)
        wake(fragile, tally)
        turn = fragile.converse(sentence(2, 2.0))
    finally:
        write(section, tally, begun_s)
    section.excerpt(fragile.board.told())
    assert not tally.torn
    assert not tally.unknown
    assert tally.first_words == {"resumed": tally.cuts + 1}
    assert turn["AGENTD_EVENT"] == "turn"
    assert tally.cuts >= CUTS, f"{tally.cuts} cuts in {BUDGET_S:g} s"


def wake(kitchen: Kitchen, tally: Tally) -> None:
    """Switch on; look at the state as the disk has it; wait for the session."""
    board = kitchen.board
    board.switch_on(_SLIM_BOOT)
    first = board.wait_event("resumed", "session_fresh", timeout_s=900)
    tally.first_words[first["AGENTD_EVENT"]] += 1
    tally.torn += [entry["MESSAGE"] for entry in board.events("state_quarantined")]
    judge(json.loads(board.run(_READ)), handles(kitchen.service), tally)


def judge(files: dict[str, str], given: list[str], tally: Tally) -> None:
    """Decode every state file; tell which of the service's handles is in it."""
    newest = -1
    for name, text in files.items():
        try:
            document = decode(name, text.encode())
        except ValueError as error:
            tally.torn.append(f"{name}: {error}")
            continue
        kept = [entry["handle"] for entry in document.get("handles", [])]
        tally.unknown += [name for handle in kept if handle not in given]
        newest = max([newest, *(given.index(handle) for handle in kept if handle in given)])
    behind = len(given) - 1 - newest
    age = "none" if newest < 0 else "the newest" if behind == 0 else f"{behind} before the newest"
    tally.ages[age] += 1


def talk_until_cut(kitchen: Kitchen, tally: Tally, chance: random.Random) -> None:
    """Say something, and pull the plug at a random moment of what follows.

    On the way the disk is looked at as it would have been left at other moments.
    """
    board = kitchen.board
    mark = board.mark()
    kitchen.say(sentence(chance.randrange(8), 2.0))
    board.wait_event("uplink_opened", since=mark)
    begun_s = time.monotonic()
    moments = sorted(chance.uniform(0, LONGEST_S) for _ in range(LOOKS + 1))
    copies = []
    for number, moment_s in enumerate(moments):
        # The moment is the experiment.
        time.sleep(max(0.0, begun_s + moment_s - time.monotonic()))
        if number < LOOKS:
            copy = board.work / f"moment-{number}.qcow2"
            freeze(board.qemu, board.disk, copy)
            copies.append((copy, handles(kitchen.service)))
    state = [entry["AGENTD_AFTER"] for entry in board.events("state")]
    board.cut_power()
    tally.moments[state[-1] if state else "?"] += 1
    tally.cuts += 1
    for copy, given in copies:
        tally.looks += 1
        files = {name: text.decode(errors="replace") for name, text in state_files(copy).items()}
        judge(files, given, tally)


def handles(service: Service) -> list[str]:
    """Return every handle that the service has given out, oldest first."""
    updates = service.record("sessionResumptionUpdate")
    messages = [entry["message"]["sessionResumptionUpdate"] for entry in updates]
    return [message["newHandle"] for message in messages if message.get("newHandle")]


_READ = """python3 -IB -c "
import json, pathlib
files = pathlib.Path('/run/state-at-boot').glob('*.json')
print(json.dumps({path.stem: path.read_text(errors='replace') for path in files}))
"
"""


def write(section: Section, tally: Tally, begun_s: float) -> None:
    """Report."""
    section.note(
        "cuts", f"{tally.cuts} in {(time.monotonic() - begun_s) / 60:.0f} min, seed {SEED}"
    )
    section.note("further moments at which the disk was looked at", str(tally.looks))
    section.note("state of the device when it was cut", counted(tally.moments))
    section.note("state files torn or put aside", str(len(tally.torn)))
    section.note("handle on the disk, of those the service had given out", counted(tally.ages))
    section.note("handles that the service never gave out", str(len(tally.unknown)))
    section.note("first word of the session after the boot", counted(tally.first_words))


def counted(counter: Counter[str]) -> str:
    """Return what was counted, most often first."""
    return ", ".join(f"{count} × {what}" for what, count in counter.most_common())
