"""Attacked, on an emulated Cortex-A53.

The service sends frames without end, or frames as heavy as the bounds allow. A stop is the time
between two turns of the daemon's event loop, in which nobody is served: microphone, mute, control
socket, heartbeat. Answers are waited for by a program in the machine itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.attack.services import names
from tests.machine.board import Board
from tests.machine.kitchen import Kitchen
from tests.machine.report import Section

WINDOW_S = 6.0
NO_ATTACK = "no attack"
ATTACKS = (
    NO_ATTACK, "bomb-heaviest", "flood-empty", "flood-texts", "flood-calls", "flood-pings",
    "flood-audio",
)  # fmt: skip
LIBRARIES = "/usr/lib/agentd/lib/python3.*/site-packages"
STOPS = "/run/agentd/stops"

# Every stop of more than 10 ms, as two times of the machine's monotonic clock. In the daemon alone:
# nobody else may write there.
_HOOK = f"""\
import os, selectors, time

_select, _left, _file = selectors.EpollSelector.select, [None], []

def select(self, timeout=None):
    now, left = time.monotonic(), _left[0]
    if left is not None and now - left > 0.01:
        if not _file:
            _file.append(os.open({STOPS!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        os.write(_file[0], b"%f %f\\n" % (left, now))
    found = _select(self, timeout)
    _left[0] = time.monotonic()
    return found

if os.environ.get("RUNTIME_DIRECTORY") == "/run/agentd":
    selectors.EpollSelector.select = select
"""

_OWNER = """\
import json, socket, sys, time

with socket.socket(socket.AF_UNIX) as link:
    link.connect("/run/agentd/control.sock")
    file = link.makefile("rwb")

    def call(method, **params):
        began = time.monotonic()
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        file.write(json.dumps(request).encode() + b"\\n")
        file.flush()
        answer = json.loads(file.readline())["result"]
        return answer, time.monotonic() - began

    def frames():
        status, took = call("status")
        found["status"].append(took)
        return status["audio"]["capture"]["frames"]

    found = {"status": []}
    first = frames()
    found["began"] = began = time.monotonic()
    call("say", text="Will you behave?")
    while time.monotonic() - began < float(sys.argv[1]):
        time.sleep(0.2)
        last = frames()
    found["frames_per_s"] = (last - first) / (time.monotonic() - began)
    muted, found["mute"] = call("mute")
    found["muted"] = call("status")[0]["muted"]
    call("unmute")
    found["ended"] = time.monotonic()
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def watched(kitchen: Kitchen) -> Iterator[Kitchen]:
    """The kitchen with the daemon's stops on record; the friendly service is the emulator's own."""
    board = kitchen.board
    kitchen.furnish(level="info")
    board.run(f"cd {LIBRARIES} && cat > _agentd_stops.py", stdin=_HOOK.encode())
    board.run(f"cd {LIBRARIES} && echo import _agentd_stops > _agentd_stops.pth")
    board.write("/root/owner.py", _OWNER)
    kitchen.start()
    yield kitchen
    board.run(f"cd {LIBRARIES} && rm _agentd_stops.p*")


def longest_stop_s(board: Board, began_s: float, ended_s: float) -> float:
    """Return the longest stop that has anything of a window in it."""
    stops = [map(float, line.split()) for line in board.run(f"cat {STOPS}").splitlines()]
    return max((to - at for at, to in stops if to > began_s and at < ended_s), default=0.0)


@pytest.mark.parametrize("name", ATTACKS)
def test_everybody_is_served_meanwhile(watched: Kitchen, section: Section, name: str) -> None:
    """Answers, frames of the microphone, mute, heartbeat; then the next question is answered."""
    board, service = watched.board, watched.service
    before = board.show("agentd", "MainPID", "NRestarts")
    faults = names()[name].faults if name != NO_ATTACK else ()
    for fault in faults:
        on = {"on": fault.trigger.kind} if fault.trigger is not None else {}
        service.control.request("fault", do=fault.action, **fault.params, **on, times=0)
    found = json.loads(board.run(f"python3 /root/owner.py {WINDOW_S}", timeout_s=900))
    mark = board.mark()
    service.control.request("clear")
    if faults:
        service.control.request("fault", do="reset")
        watched.wait_connected(mark)
    stop_s = longest_stop_s(board, found["began"], found["ended"])
    section.note(
        name,
        f"longest stop {stop_s:.2f} s; slowest status {max(found['status']):.2f} s, "
        f"mute {found['mute']:.2f} s; {found['frames_per_s']:.0f} frames a second "
        "of the microphone's 50",
    )
    assert found["muted"]
    assert found["frames_per_s"] > 0
    mark = board.mark()
    board.run("agentd say 'And now?'", timeout_s=600)
    board.wait_event("turn", since=mark)
    after = board.show("agentd", "MainPID", "NRestarts", "WatchdogTimestampMonotonic")
    fed_s = int(after.pop("WatchdogTimestampMonotonic")) / 1e6
    assert after == before, "the watchdog has struck"
    assert fed_s > found["began"]
