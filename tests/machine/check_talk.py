"""Installed by apt, spoken to, answering.

The package is installed by apt in the booted machine and runs under the unit's sandbox as shipped.
Recorded speech is played into the loopback card that is its microphone; the service is the emulator
outside the machine, which answers with the user's own words; the answer is looked for in the WAV
that QEMU records of the USB speaker, 40 ms by 40 ms, by correlation.
"""

from __future__ import annotations

import re

from benchmarks.speech import RATE_HZ
from rig.hearing import heard_share, last_sound, wait_for_sound
from tests.machine.install import Installed
from tests.machine.kitchen import Kitchen, sentence
from tests.machine.qemu import MODEL
from tests.machine.report import Section

SANDBOX = {
    "DevicePolicy": "closed",
    "ProtectSystem": "strict",
    "PrivateUsers": "yes",
    "NoNewPrivileges": "yes",
    "MemoryDenyWriteExecute": "yes",
    "User": "agentd",
}


def test_apt_installs_it_on_the_booted_machine(
    kitchen: Kitchen, product: Installed, section: Section
) -> None:
    """The package is configured, and the kernel is Debian's own for arm64."""
    board = kitchen.board
    section.note("machine", MODEL)
    section.note("kernel", board.run("uname -srvm"))
    section.note(
        "system", board.run(". /etc/os-release; echo $PRETTY_NAME $(cat /etc/debian_version)")
    )
    section.note("package", product.package)
    assert "Setting up agentd" in product.apt
    assert board.run("uname -m").strip() == "aarch64"
    assert board.run("dpkg-query -W -f='${db:Status-Status}' agentd") == "installed"


def test_it_runs_under_the_sandbox_as_shipped(kitchen: Kitchen, section: Section) -> None:
    """The unit is ready, with every restriction that the package ships."""
    board = kitchen.board
    assert board.show("agentd", *SANDBOX) == SANDBOX
    times = board.show("agentd", "ActiveState", "NRestarts")
    assert times == {"ActiveState": "active", "NRestarts": "0"}
    text = board.run("systemd-analyze security --no-pager agentd")
    score = re.search(r"Overall exposure level.*: ([\d.]+)", text)
    assert score is not None
    section.note("exposure (systemd-analyze security)", score[1])
    assert float(score[1]) <= 1.5


def test_spoken_words_reach_the_service_and_the_answer_the_speaker(
    kitchen: Kitchen, section: Section
) -> None:
    """What was said is what the service heard, and its answer is what the speaker played."""
    board, service = kitchen.board, kitchen.service
    mark, before = board.mark(), len(service.heard())
    clip = sentence(1, 3.0)
    turn = kitchen.converse(clip)
    assert turn["AGENTD_EVENT"] == "turn"
    board.wait_event("reply_drained", since=mark)
    heard = kitchen.heard(before)
    sent = heard_share(clip.samples, heard)
    answer = wait_for_sound(kitchen.reply, len(heard) // 3)
    answer = last_sound(answer, 3 * len(heard) / RATE_HZ)
    said, other = heard_share(heard, answer), heard_share(sentence(5, 3.0).samples, answer)
    section.note("spoken", f"{clip.duration_s:.1f} s of recorded speech")
    section.note("of it found at the service", f"{sent:.1%}")
    section.note("of the service's answer found in the speaker's WAV", f"{said:.1%}")
    section.note("of other words found there", f"{other:.1%}")
    section.note("end of speech to first byte of the answer", f"{turn['AGENTD_FIRST_AUDIO_MS']} ms")
    section.note(
        "overruns, underruns", f"{count(kitchen, 'frames_lost')}, {count(kitchen, 'underrun')}"
    )
    section.excerpt(board.told(mark))
    assert sent > 0.9
    assert said > 0.75
    assert other < 0.3


def test_an_abort_inside_a_library_ends_no_conversation(kitchen: Kitchen, section: Section) -> None:
    """What a failed assertion in C does, in a reply: it is started again, the session resumed."""
    board = kitchen.board
    speech = kitchen.say_until("reply_started", sentence(2, 3.0))
    board.run("systemctl kill -s ABRT agentd")
    aborted_s = board.now_s()
    speech.end()
    back = kitchen.wait_connected(speech.mark)
    section.note("SIGABRT in a reply, to session", f"{back['at_s'] - aborted_s:.1f} s")
    section.note("SIGABRT in a reply, told as", back["MESSAGE"])
    assert back["AGENTD_EVENT"] == "resumed"
    assert kitchen.converse(sentence(3, 2.0))["AGENTD_EVENT"] == "turn"


def test_nothing_is_denied_to_it(kitchen: Kitchen) -> None:
    """Under the sandbox no library complains about a call or a path that is closed to it."""
    text = kitchen.board.run("journalctl --no-pager -b -u agentd -p warning -o cat")
    for complaint in ("Operation not permitted", "Permission denied", "Read-only file system"):
        assert complaint not in text


def count(kitchen: Kitchen, event: str) -> int:
    """Return how often something happened since the boot."""
    return len(kitchen.board.events(event))
