"""What it costs on an emulated Cortex-A53.

Processor seconds of the daemon per minute, memory, and start, beside the same figures of the
smallest google-genai and PyAudio script (`benchmarks/references/quickstart.py`) in the same machine
with the same libraries, microphone, speaker and service. Emulated: compare the two, not with a Pi.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.machine.board import Board
from tests.machine.kitchen import KEY, MICROPHONE, PORT, SPEAKER, Kitchen, sentence
from tests.machine.qemu import SERVICE
from tests.machine.report import Section
from tests.package.roots import PROJECT

WINDOW_S = 40.0
TALK_S = 8.0
START = {
    "first frame": ("capture_back",),
    "READY": ("ready",),
    "session": ("session_fresh", "resumed"),
}
PYTHON = "/usr/lib/agentd/bin/python3"

_ASOUND = f"""\
pcm.!default {{
    type asym
    capture.pcm "{MICROPHONE}"
    playback.pcm "{SPEAKER}"
}}
"""
_UNIT = f"""\
[Service]
ExecStart={PYTHON} /root/quickstart.py
Environment=GEMINI_API_KEY={KEY} SSL_CERT_FILE=/etc/agentd/service-ca.pem
Environment=GOOGLE_GEMINI_BASE_URL=https://{SERVICE}:{PORT}
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took in one window."""

    seconds: float
    cpu_s: float

    @property
    def per_minute(self) -> str:
        """Processor seconds per minute."""
        return f"{self.cpu_s / self.seconds * 60:.1f} s/min"


@pytest.fixture(scope="module")
def quiet(kitchen: Kitchen) -> Kitchen:
    """The kitchen as a household has it: echo cancellation as shipped, journal at info."""
    kitchen.furnish('[audio]\necho_cancellation = "auto"\n', level="info")
    kitchen.start()
    return kitchen


def test_the_daemon(quiet: Kitchen, section: Section) -> None:
    """Idle, and in a conversation; memory after it; start."""
    board = quiet.board
    times = board.show("agentd", "ExecMainStartTimestampMonotonic", "MainPID")
    exec_s, pid = int(times["ExecMainStartTimestampMonotonic"]) / 1e6, times["MainPID"]
    for what, names in START.items():
        first = next(e for e in board.events(*names) if e["_PID"] == pid)
        section.note(f"agentd: exec to {what}", f"{first['at_s'] - exec_s:.1f} s")
    section.note("agentd: processor, idle", idle(board, pid).per_minute)
    mark = board.mark()
    begun_s, before = board.now_s(), cpu_s(board, pid)
    speech = quiet.say(sentence(1, TALK_S))
    heard = board.wait_event("utterance", since=mark)
    middle = cpu_s(board, pid)
    turn = board.wait_event("turn", "turn_failed", since=mark)
    after, ended_s = cpu_s(board, pid), board.now_s()
    speech.end()
    listening = Cost(heard["at_s"] - begun_s, middle - before)
    speaking = Cost(ended_s - heard["at_s"], after - middle)
    section.note("agentd: processor, listening", listening.per_minute)
    section.note("agentd: processor, thinking and speaking", speaking.per_minute)
    section.note("agentd: memory, resident", memory(board, pid))
    assert turn["AGENTD_EVENT"] == "turn"
    assert after > before


def test_the_smallest_script(quiet: Kitchen, section: Section) -> None:
    """The same windows for the quickstart; its microphone always streams."""
    board, service = quiet.board, quiet.service
    board.run("systemctl stop agentd", timeout_s=300)
    board.write(
        "/root/quickstart.py", (PROJECT / "benchmarks/references/quickstart.py").read_bytes()
    )
    board.write("/etc/asound.conf", _ASOUND)
    board.write("/run/systemd/system/quickstart.service", _UNIT)
    wire = service.mark()
    try:
        board.run("systemctl daemon-reload; systemctl start quickstart")
        service.wait("audio", wire, 300, direction="in")
        now_s, times = board.now_s(), board.show("quickstart", "ExecMainStartTimestampMonotonic")
        begun_s = int(times["ExecMainStartTimestampMonotonic"]) / 1e6
        section.note("quickstart: exec to first audio sent, at most", f"{now_s - begun_s:.1f} s")
        pid = board.show("quickstart", "MainPID")["MainPID"]
        wire = service.mark()
        section.note("quickstart: processor, idle (streaming)", idle(board, pid).per_minute)
        sent = [e for e in service.record("audio", wire) if e["direction"] == "in"]
        section.note("quickstart: audio sent meanwhile", f"{len(sent)} messages in {WINDOW_S:g} s")
        assert sent
        begun_s, before = board.now_s(), cpu_s(board, pid)
        wire = service.mark()
        speech = quiet.say(sentence(1, TALK_S))
        service.wait("turnComplete", wire, 300)
        speech.end()
        talk = Cost(board.now_s() - begun_s, cpu_s(board, pid) - before)
        section.note("quickstart: processor, one question and answer", talk.per_minute)
        section.note("quickstart: memory, resident", memory(board, pid))
    finally:
        print(board.ask("journalctl --no-pager -u quickstart -n 40").stdout)
        board.run("systemctl stop quickstart; rm /etc/asound.conf")


def idle(board: Board, pid: str) -> Cost:
    """Return what a process takes when nobody speaks."""
    begun_s, before = board.now_s(), cpu_s(board, pid)
    board.run(f"sleep {WINDOW_S}")  # the window itself, by the machine's own clock
    return Cost(board.now_s() - begun_s, cpu_s(board, pid) - before)


def cpu_s(board: Board, pid: str) -> float:
    """Return the processor time that a process has taken."""
    text = board.run(f"cat /proc/{pid}/stat; getconf CLK_TCK")
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / int(fields[-1])


def memory(board: Board, pid: str) -> str:
    """Return the resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", board.run(f"cat /proc/{pid}/status"))
    assert found is not None
    return f"{int(found[1]) / 1024:.0f} MiB"
