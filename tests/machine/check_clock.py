"""A clock without a battery.

The machine is switched on in 1970 and without a network, as a Raspberry Pi without a clock is.
systemd puts such a clock to the date of its own making, still before the service's certificate.
Then the link comes up, later the time: handles are kept, TLS is refused for the right reason and
works by itself when the time is known (rows S3 and L9).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.machine.board import Board
from tests.machine.image import Image
from tests.machine.install import Installed
from tests.machine.kitchen import Kitchen, own_kitchen, sentence
from tests.machine.qemu import SERVICE, Hardware
from tests.machine.report import Section
from tests.machine.timeserver import TimeServer

# The last known time is kept by timesyncd too; here it has never run.
_BEFORE = Hardware(kernel_arguments="systemd.mask=systemd-timesyncd.service")
_AFTER = Hardware(rtc="1970-01-01T00:00:00", link=False)


@pytest.fixture(scope="module")
def stopped(image: Image, product: Installed, alone: None) -> Iterator[Kitchen]:
    """A machine that has had one conversation at the right time, switched off."""
    with own_kitchen(image, product.disk) as kitchen:
        board = kitchen.board
        board.switch_on(_BEFORE)
        board.wait_booted()
        kitchen.furnish()
        board.run("rm -f /var/lib/systemd/timesync/clock; systemctl enable -q agentd")
        kitchen.start()
        mark = board.mark()
        kitchen.converse(sentence(1, 1.5))
        board.wait_event("handle_stored", since=mark)
        board.switch_off()
        yield kitchen


@pytest.fixture
def time_server(stopped: Kitchen) -> Iterator[TimeServer]:
    """A server that knows the time, where the service is."""
    with TimeServer(stopped.board.namespace, SERVICE) as server:
        yield server


def test_it_waits_for_the_time_and_goes_on_where_it_was(
    stopped: Kitchen, time_server: TimeServer, section: Section
) -> None:
    """No handle is dropped for a wrong date; after the synchronisation the session is resumed."""
    board = stopped.board
    time_server.silent = True
    board.switch_on(_AFTER)
    ready = board.wait_event("ready", timeout_s=600)
    board.wait_booted()
    section.note("clock at start, no network", date(board))
    section.note("power on to READY", f"{ready['at_s']:.0f} s after the kernel's start")
    board.qemu.set_link(up=True)
    refused = board.wait_event("refused", "disconnected", timeout_s=600)
    section.note("link up, time unknown, told as", refused["MESSAGE"])
    dials = len(board.events("connecting"))
    time_server.silent = False
    began_s = board.now_s()
    # timesyncd asks again in half a minute; whoever connects it by hand does not wait either.
    board.run("systemctl restart systemd-timesyncd")
    resumed = board.wait_event("resumed", "session_fresh", timeout_s=900)
    turn = stopped.converse(sentence(2, 1.5))
    section.note("clock after the synchronisation", date(board))
    section.note("time known to session", f"{resumed['at_s'] - began_s:.1f} s")
    section.note("session", resumed["MESSAGE"])
    section.note("dials before the time was known", str(dials))
    section.excerpt(board.told())
    off_s = abs(float(board.run("date +%s")) - time.time())
    assert resumed["AGENTD_EVENT"] == "resumed"
    assert not board.events("handle_dropped")
    assert turn["AGENTD_EVENT"] == "turn"
    # The machine's seconds are not ours, so what was right when it was told is minutes off by now.
    assert off_s < 3600


def date(board: Board) -> str:
    """Return the machine's date."""
    moment = datetime.fromtimestamp(int(board.run("date +%s")), UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"
