"""Faults of the machine and of the daemon itself, each injected for real into the package.

P1 to P3, S2 and C1 of the fault list. Every test begins and ends connected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package import figures
from tests.package.machine import Machine, wait_until
from tests.package.speaker import Speaker

STEPS: dict[str, dict[str, str]] = {"bookworm": {}, "trixie": {"RestartSteps": "0"}}
STATE = "/var/lib/agentd"


@pytest.fixture(autouse=True)
def machine(connected: Speaker) -> Iterator[Machine]:
    """The machine of a speaker that is connected when the test begins."""
    connected.wait_connected()
    yield connected.machine
    connected.unit()


def text_after(machine: Machine, cursor: str) -> str:
    """Return the journal of the unit after a cursor, as text."""
    return machine.run(f"journalctl --no-pager -u agentd -o cat --cursor='{cursor}'")


def wait_abort(machine: Machine, cursor: str) -> None:
    """Wait until the watchdog has ended the daemon."""
    wait_until(
        "the watchdog", lambda: "code=killed, status=6/ABRT" in text_after(machine, cursor), 120
    )


# ── P1 ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_blocked_event_loop_is_ended_with_a_traceback_and_resumes(
    speaker: Speaker, machine: Machine, speech: Path
) -> None:
    """P1: a callback that never returns. The journal shows where the loop stood still."""
    speaker.unit(WatchdogSec="5")
    with speaker.injectable() as inject:
        speaker.keep_a_handle(speech)
        cursor, restarts = machine.cursor(), speaker.restarts
        inject(
            "import asyncio, threading\n"
            "def sit_forever(): threading.Event().wait()\n"
            "asyncio.get_running_loop().call_soon_threadsafe(sit_forever)\n"
        )
        machine.wait_event("ready", after=cursor)
        machine.wait_event("resumed", after=cursor)
        text = text_after(machine, cursor)
        assert speaker.restarts == restarts + 1
    stack = text.partition("Current thread")[2].partition("Extension modules")[0]
    assert "Fatal Python error: Aborted" in text
    assert re.search(r'File "<injected>", line 2 in sit_forever\n.*asyncio/events.py', stack), text


def test_memory_without_end_ends_the_daemon_alone_and_it_resumes(
    speaker: Speaker, machine: Machine, speech: Path, suite: str
) -> None:
    """P1: a leak is stopped by the unit's own limit: the kernel ends this process and no other.

    Where the kernel has no memory controller, the allocation fails instead (LimitDATA=).
    """
    with speaker.injectable() as inject:
        speaker.keep_a_handle(speech)
        cursor, restarts = machine.cursor(), speaker.restarts
        used = machine.run(f"awk '/VmData|VmRSS/ {{print $1 $2}}' /proc/{speaker.pid}/status")
        figures.note(suite, "memory in conversation, KiB", " ".join(used.split()))
        inject("kept = []\nwhile True:\n    kept.append(b'x' * 1048576)\n")
        machine.wait_event("ready", after=cursor)
        machine.wait_event("resumed", after=cursor)
        text = text_after(machine, cursor)
        assert speaker.restarts == restarts + 1
    figures.note(suite, "memory without end", "killed" if "oom-kill" in text else "MemoryError")
    assert "oom-kill" in text or "MemoryError" in text
    assert machine.active("emulator")
    assert machine.active("rig-sound")


def test_a_hung_sound_server_does_not_leave_it_deaf_and_healthy(
    speaker: Speaker, machine: Machine, speech: Path
) -> None:
    """P1: closing the stuck stream hangs as well, so only a restart gets the microphone back."""
    speaker.unit(WatchdogSec="12")
    machine.run("systemctl restart agentd")
    speaker.wait_connected()
    speaker.keep_a_handle(speech)
    cursor = machine.cursor()
    machine.run("systemctl kill -s STOP rig-sound")
    lost = machine.wait_event("capture_lost", after=cursor)
    machine.wait_event("stream_wedged", after=cursor)
    wait_abort(machine, cursor)
    machine.run("systemctl kill -s CONT rig-sound")
    restarted = machine.cursor()
    machine.wait_event("capture_back", after=restarted, timeout_s=120)
    machine.wait_event("resumed", after=cursor)
    assert lost["AGENTD_REMEDY"]
    assert re.search(
        r'agentd/audio/alsa\.py", line \d+ in (close|open)', text_after(machine, cursor)
    )
    speaker.converse(speech)


def test_a_capture_thread_stuck_in_a_read_is_restarted_and_resumes(
    speaker: Speaker, machine: Machine, speech: Path
) -> None:
    """P1: a microphone whose read never returns, as a wedged USB device's does.

    ALSA's `file` plugin reads from a pipe that runs dry: PortAudio's thread sits in read(2).
    """
    speaker.keep_a_handle(speech)
    speaker.unit(WatchdogSec="12")
    card = machine.read("/etc/asound.conf")
    stuck = (
        'pcm.rig_mic { type file slave.pcm { type null } file "/dev/null" '
        'infile "/run/rig/pipe" format raw }\n'
    )
    machine.run("mkfifo -m 666 /run/rig/pipe")
    # Held open for writing, and with five seconds of silence in it.
    feed = "exec 3<>/run/rig/pipe; head -c 160000 /dev/zero >&3; exec sleep infinity"
    machine.run(f"systemd-run --unit=feeder sh -c '{feed}'")
    machine.write("/etc/asound.conf", re.sub(r"(?m)^pcm\.rig_mic .*\n", stuck, card))
    try:
        cursor = machine.cursor()
        machine.run("systemctl restart agentd")
        wait_until("a microphone", lambda: speaker.status()["audio"]["capture"]["frames"] > 50)
        machine.wait_event("capture_lost", after=cursor)
        wait_abort(machine, cursor)
    finally:
        machine.write("/etc/asound.conf", card)
        machine.run("systemctl stop feeder; rm /run/rig/pipe")
    # A start may be under way that still waits for the pipe; the watchdog ends that one too.
    machine.wait_event("capture_back", after=cursor, timeout_s=120)
    machine.wait_event("resumed", after=cursor)
    assert "Fatal Python error: Aborted" in text_after(machine, cursor)
    speaker.wait_connected()
    speaker.converse(speech)


# ── P2 ──────────────────────────────────────────────────────────────────────────────────────────


def test_killed_it_comes_back_with_the_conversation(
    speaker: Speaker, machine: Machine, speech: Path
) -> None:
    """Kill -9: systemd restarts it, the handle on disk resumes the session."""
    speaker.keep_a_handle(speech)
    cursor, count = machine.cursor(), speaker.restarts
    machine.run("systemctl kill -s KILL agentd")
    machine.wait_event("ready", after=cursor)
    machine.wait_event("resumed", after=cursor)
    assert speaker.restarts == count + 1


# In the machine, because asking from outside takes longer than the crash. A start is killed as soon
# as it has a process, or ("active") as soon as it is ready.
CRASH = """
show() {{ systemctl show -P "$1" agentd; }}
for _ in $(seq {count}); do
    until pid=$(show MainPID) && [ "$pid" != 0 ] && [ {when} ]; do sleep 0.05; done
    before=$(show NRestarts)
    kill -KILL "$pid"
    until [ "$(show NRestarts)" -gt "$before" ]; do sleep 0.05; done
done
"""
AT_ONCE = "now"
READY = '"$(show ActiveState)" = active'


def cpu_s(machine: Machine) -> float:
    """Return the CPU time of all runs of the daemon in its slice."""
    return int(machine.show("crashes.slice", "CPUUsageNSec")["CPUUsageNSec"]) / 1e9


def test_a_hundred_crashes_are_survived(speaker: Speaker, machine: Machine, suite: str) -> None:
    """P2: restarted a hundred times in a row, with bounded log and CPU, and then as before.

    Ten of the crashes come when it is ready, which costs the most; the others at once.
    """
    # A slice of its own outlives the runs, and so does its count of CPU time.
    machine.write("/etc/systemd/system/crashes.slice", "[Slice]\nCPUAccounting=yes\n")
    # Not the growing pause of later systemds: a hundred crashes would take two hours.
    speaker.unit(RestartSec="100ms", Slice="crashes.slice", **STEPS[suite])
    machine.run("systemctl start crashes.slice && systemctl restart agentd")
    speaker.wait_connected()
    count, cursor = speaker.restarts, machine.cursor()
    spent = [cpu_s(machine)]
    machine.run(CRASH.format(count=90, when=AT_ONCE), timeout_s=900)
    spent.append(cpu_s(machine))
    machine.run(CRASH.format(count=10, when=READY), timeout_s=900)
    spent.append(cpu_s(machine))
    wait_until("it to be ready again", lambda: machine.active("agentd"), 120)
    crashes = speaker.restarts - count
    lines = len(text_after(machine, cursor).splitlines())
    early_s, late_s = (spent[1] - spent[0]) / 90, (spent[2] - spent[1]) / 10
    figures.note(suite, "journal lines for each of 100 crashes", f"{lines / crashes:.1f}")
    figures.note(
        suite, "CPU of a crash at the start, when ready", f"{early_s:.2f} s, {late_s:.2f} s"
    )
    speaker.wait_connected()
    assert crashes >= 100
    assert lines / crashes < 20
    assert 0 < early_s < late_s < 10


# ── P3 ──────────────────────────────────────────────────────────────────────────────────────────


def freeze(speaker: Speaker) -> None:
    """Let the service neither read nor write from here on."""
    assert speaker.emulator("fault", do="freeze")["ok"]


def stop_s(speaker: Speaker) -> float:
    """Stop the unit; return how long the daemon took to exit. It must have ended well."""
    machine = speaker.machine
    begun_s = float(machine.read("/proc/uptime").split()[0])
    machine.run("systemctl stop agentd")
    exit_us = machine.run("systemctl show -P ExecMainExitTimestampMonotonic agentd")
    assert machine.show("agentd", "Result", "ExecMainStatus") == {
        "Result": "success",
        "ExecMainStatus": "0",
    }
    return int(exit_us) / 1e6 - begun_s


@pytest.mark.parametrize("state", ["idle", "listening", "speaking", "dialling", "deaf"])
def test_sigterm_with_a_dead_peer_ends_in_time_in_any_state(
    speaker: Speaker, machine: Machine, speech: Path, suite: str, state: str
) -> None:
    """P3: `systemctl stop` succeeds in less than five seconds, and the handle is not lost."""
    speaker.keep_a_handle(speech)
    speaker.wait_state("idle")
    match state:
        case "idle":
            freeze(speaker)
            took_s = stop_s(speaker)
        case "listening":
            with speaker.talking(speech):
                speaker.wait_state("listening")
                freeze(speaker)
                took_s = stop_s(speaker)
        case "speaking":
            machine.run(f"agentd say '{'a long answer, please ' * 10}'")
            speaker.wait_state("speaking")
            freeze(speaker)
            took_s = stop_s(speaker)
        case "dialling":
            # The kernel still takes the connection; nobody answers on it.
            machine.run("systemctl kill -s STOP emulator && systemctl restart agentd")
            wait_until("a dial", lambda: speaker.status()["session"]["dials"])
            took_s = stop_s(speaker)
        case _:
            cursor = machine.cursor()
            freeze(speaker)
            machine.run("systemctl kill -s STOP rig-sound")
            machine.wait_event("capture_lost", after=cursor)
            took_s = stop_s(speaker)
            machine.run("systemctl kill -s CONT rig-sound")
    machine.run("systemctl kill -s KILL emulator || :")
    speaker.start_service()
    cursor = machine.cursor()
    machine.run("systemctl start agentd")
    machine.wait_event("resumed", after=cursor)
    figures.note(suite, f"SIGTERM to exit, peer dead, {state}", f"{took_s:.1f} s")
    assert took_s < 5.0


# ── S2 ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trouble", ["full", "read-only", "missing"])
def test_a_state_directory_that_cannot_be_written_does_not_stop_the_conversation(
    speaker: Speaker, machine: Machine, speech: Path, trouble: str
) -> None:
    """S2: told once, by its cause, and the talk goes on."""
    machine.run("systemctl stop agentd")
    if trouble != "missing":
        machine.run(f"mount -t tmpfs -o size=64k,mode=0700,uid=agentd,gid=agentd small {STATE}")
    if trouble == "full":
        machine.ask(f"head -c 1M /dev/zero > {STATE}/ballast")
    cursor = machine.cursor()
    machine.run("systemctl start agentd")
    speaker.wait_connected()
    if trouble == "read-only":
        machine.run(f"mount -o remount,ro {STATE}")
    elif trouble == "missing":
        machine.run(f"rm -r {STATE}")
    turns = [speaker.converse(speech) for _ in range(2)]
    told = machine.wait_event("state_unwritable", after=cursor)
    machine.run(f"systemctl stop agentd; umount -q {STATE} || :; systemctl start agentd")
    speaker.wait_connected()
    assert [turn["AGENTD_EVENT"] for turn in turns] == ["turn", "turn"]
    assert told["AGENTD_CAUSE"]
    assert len(machine.events("state_unwritable", after=cursor)) == 1


# ── C1 ──────────────────────────────────────────────────────────────────────────────────────────

# What a user other than root and agentd looks like from inside of PrivateUsers=.
NOBODY = "65534"
AS = "setpriv --reuid={user} --regid={user} --clear-groups {more} "
KNOCK = """
import json, os, signal, socket
def ask(*lines, read=True):
    link = socket.socket(socket.AF_UNIX); link.settimeout(30)
    try: link.connect("/run/agentd/control.sock")
    except OSError as error: return type(error).__name__
    try:
        for line in lines: link.sendall(line)
    except OSError: pass  # refused at the door: the reason is there to be read
    try: return link.makefile().readline() if read else link
    except OSError as error: return type(error).__name__
"""
HOSTILE = (
    KNOCK
    + """
answers = [ask(line) for line in (
    b"\\xff\\xfe\\x00 not text\\n", b"x" * 200_000 + b"\\n", b"[" * 50_000 + b"\\n", b"{}\\n",
    b'[{"jsonrpc":"2.0","id":1,"method":"forget"}]\\n',
    b'{"jsonrpc":"2.0","id":1,"method":"__class__"}\\n',
    b'{"jsonrpc":"2.0","id":1,"method":"volume","params":{"percent":1e999}}\\n',
    b'{"jsonrpc":"2.0","id":1,"method":"volume","params":{"percent":101}}\\n',
    b'{"jsonrpc":"2.0","id":1,"method":"volume","params":[50]}\\n',
    b'{"jsonrpc":"2.0","id":1,"method":"say","params":{"text":"' + b"a" * 60_000 + b'"}}\\n',
    b'{"jsonrpc":"2.0","id":{"a":1},"method":"mute"}\\n',
)]
idle = [ask(b'{"jsonrpc":', read=False) for _ in range(64)]  # half a request each, for ever
watchers = [ask(b'{"jsonrpc":"2.0","id":1,"method":"watch"}\\n', read=False) for _ in range(8)]
open("/var/tmp/answers.new", "w").write(json.dumps(answers))
os.rename("/var/tmp/answers.new", "/var/tmp/answers")
signal.pause()
"""
)


def kept(speaker: Speaker) -> dict[str, object]:
    """Return what a command could change."""
    status = speaker.status()
    volume = speaker.machine.run("agentd volume").strip()
    return {"muted": status["muted"], "volume": volume, "pid": speaker.pid}


def test_strangers_are_refused_at_the_door_and_inside(speaker: Speaker, machine: Machine) -> None:
    """C1: the folder is closed to other users; one who gets in all the same is known and refused.

    A member of the group agentd may command. Both are in the journal; the number of their user is
    hidden from the daemon by its sandbox.
    """
    machine.run(
        "id stranger 2>/dev/null || useradd stranger; id friend 2>/dev/null || useradd friend"
    )
    before, cursor = kept(speaker), machine.cursor()
    stranger = AS.format(user="stranger", more="")
    outside = machine.ask(f"{stranger} python3 -", stdin=(KNOCK + "print(ask())").encode())
    assert outside.stdout.strip() == "PermissionError"
    assert machine.ask(f"{stranger} agentd mute").returncode != 0
    # A right that opens every folder, and still not root.
    burglar = AS.format(
        user="stranger", more="--inh-caps=+dac_override --ambient-caps=+dac_override"
    )
    request = b'{"jsonrpc":"2.0","id":1,"method":"mute"}\n'
    inside = machine.run(f"{burglar} python3 -", stdin=f"{KNOCK}print(ask({request!r}))".encode())
    assert json.loads(inside)["error"]["code"] == -32001
    refused = machine.wait_event("command_refused", after=cursor)
    assert refused["AGENTD_UID"] == NOBODY
    assert kept(speaker) == before
    machine.run("usermod -aG agentd friend")
    friend = "setpriv --reuid=friend --regid=friend --init-groups agentd"
    machine.run(f"{friend} mute")
    assert kept(speaker)["muted"]
    machine.run(f"{friend} unmute")
    commanded = machine.wait_event("command", after=cursor)
    assert commanded["AGENTD_UID"] == NOBODY
    wait_until("hearing", lambda: speaker.status()["audio"]["capture"]["alive"])
    assert kept(speaker) == before


def test_hostile_requests_change_nothing(speaker: Speaker, machine: Machine, speech: Path) -> None:
    """C1: rubbish, floods and requests without an end are answered or cut off; the talk goes on."""
    before = kept(speaker)
    machine.write("/var/tmp/hostile.py", HOSTILE)
    machine.run("systemd-run --unit=hostile python3 /var/tmp/hostile.py")
    wait_until("the answers", lambda: machine.exists("/var/tmp/answers"))
    answers = json.loads(machine.read("/var/tmp/answers"))
    turn = speaker.converse(speech)
    machine.run("systemctl stop hostile")
    for answer in answers:
        told = json.loads(answer)["error"] if answer.startswith("{") else answer
        assert isinstance(told, str) or told["code"] < -32000, answer
    assert len(answers) == 11
    assert turn["AGENTD_EVENT"] == "turn"
    assert kept(speaker) == before
    assert "Traceback" not in machine.run(
        "journalctl --no-pager -u agentd -p warning -n 50 -o export"
    )
