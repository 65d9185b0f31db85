"""The installed daemon under systemd: what it tells, what it survives.

The tests of this file share one machine per suite and leave the daemon connected behind them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package import figures
from tests.package.conftest import UPDATE
from tests.package.machine import Machine, wait_until
from tests.package.speaker import KEY, OTHER_KEY, Speaker

RIG = "/etc/agentd/conf.d/90-rig.toml"
NO_STEPS = {"bookworm": "", "trixie": "RestartSteps=0\n"}
PATIENT = "/etc/systemd/system/agentd.service.d/watchdog.conf"


@pytest.fixture(scope="module")
def speaker(bare: Machine, suite: str) -> Speaker:
    """The package on a machine with sound and a service; no key yet."""
    bare.apt(UPDATE)
    bare.apt("install agentd")
    speaker = Speaker(bare, suite)
    speaker.prepare()
    return speaker


@pytest.fixture(autouse=True)
def told(bare: Machine) -> Iterator[None]:
    """When a test fails, its last journal entries are in the report."""
    yield
    print(
        bare.ask("journalctl --no-pager -u agentd -n 60; systemctl status --no-pager agentd").stdout
    )


def restart_counter(machine: Machine) -> int:
    """Return how often systemd has restarted the daemon by itself."""
    return int(machine.show("agentd", "NRestarts")["NRestarts"])


def logged(machine: Machine) -> str:
    """Return every field of every entry of the daemon, and of systemd about it."""
    return machine.run("journalctl --no-pager -o export -u agentd -u agentd-firstboot")


def crash(machine: Machine) -> None:
    """Kill the daemon as soon as it has a process; return when systemd starts another."""
    pid = wait_until("a process", lambda: int(machine.show("agentd", "MainPID")["MainPID"]))
    count = restart_counter(machine)
    machine.run(f"kill -KILL {pid}")
    wait_until("a restart", lambda: restart_counter(machine) > count)


# ── credentials ─────────────────────────────────────────────────────────────────────────────────


def test_without_a_key_it_runs_and_says_what_to_do(speaker: Speaker) -> None:
    """A missing credential is no failure to start: the daemon lives, and tells where a key goes."""
    machine = speaker.machine
    cursor = machine.cursor()
    machine.run("systemctl restart agentd")
    assert machine.active("agentd")
    machine.wait_event("refused", after=cursor)
    told = " ".join(entry["MESSAGE"] for entry in machine.events(after=cursor))
    assert "gemini-api-key" in told
    assert restart_counter(machine) == 0


def test_a_wrong_key_is_told_without_hammering(speaker: Speaker) -> None:
    """The service refuses the key: one entry says so, and the dials stay few."""
    machine = speaker.machine
    cursor = machine.cursor()
    speaker.set_key(OTHER_KEY)
    machine.wait_event("refused", after=cursor)
    time.sleep(10)  # the time in which nothing may happen
    assert len(machine.events("connecting", after=cursor)) < 10
    assert OTHER_KEY not in logged(machine)


def test_the_right_key_connects(speaker: Speaker) -> None:
    """Storing the key is all that there is to do."""
    speaker.set_key(KEY)
    speaker.wait_connected()


def test_a_rotated_key_is_taken_into_use(speaker: Speaker) -> None:
    """After the service has changed its key, storing the new one brings the conversation back."""
    machine = speaker.machine
    speaker.start_service(OTHER_KEY)
    wait_until("the break", lambda: not speaker.connected())
    speaker.set_key(OTHER_KEY)
    speaker.wait_connected()
    speaker.start_service(KEY)
    cursor = machine.cursor()
    speaker.set_key(KEY)
    speaker.wait_connected()
    assert KEY not in logged(machine)
    assert machine.events("ready", after=cursor)


def test_no_secret_is_in_the_environment_or_the_arguments(speaker: Speaker) -> None:
    """The key is in the daemon's credential directory alone."""
    machine = speaker.machine
    pid = machine.show("agentd", "MainPID")["MainPID"]
    seen = machine.run(f"cat /proc/{pid}/environ /proc/{pid}/cmdline | tr '\\0' '\\n'")
    assert KEY not in seen
    assert KEY not in machine.run("systemctl show agentd")


# ── what it tells ───────────────────────────────────────────────────────────────────────────────


def test_a_conversation_is_held(speaker: Speaker, speech: Path, suite: str) -> None:
    """Speech into the sound card comes back as a turn, under the whole sandbox."""
    turn = speaker.converse(speech)
    assert turn["MESSAGE_ID"]
    figures.note(suite, "a turn, as the journal has it", turn["MESSAGE"])
    status = speaker.status()
    assert status["turns"]["count"] >= 1
    assert status["audio"]["capture"]["frames"] > 0


def test_systemctl_status_has_a_sentence(speaker: Speaker) -> None:
    """A person can read in `systemctl status` how things are."""
    sentence = speaker.machine.show("agentd", "StatusText")["StatusText"]
    assert re.search(r"\bsession\b", sentence), sentence
    assert sentence in speaker.machine.run("systemctl status --no-pager agentd")


def test_every_entry_has_an_id_and_every_id_a_text(speaker: Speaker) -> None:
    """`journalctl -x` explains each event that has been seen, in English and in Indonesian."""
    machine = speaker.machine
    events = machine.events()
    assert events
    ids = {entry["MESSAGE_ID"] for entry in events}
    for language in ("C.UTF-8", "id_ID.UTF-8"):
        catalog = machine.run("journalctl --dump-catalog", env={"LANG": language})
        for identifier in ids:
            assert f"-- {identifier}" in catalog
    explained = machine.run("journalctl --no-pager -x -u agentd AGENTD_EVENT=ready")
    assert "Defined-By: agentd" in explained


def test_events_can_be_asked_for_by_field(speaker: Speaker) -> None:
    """`journalctl AGENTD_EVENT=…` answers a question."""
    found = speaker.machine.journal("-u", "agentd", "AGENTD_EVENT=ready")
    assert found
    assert all(entry["AGENTD_EVENT"] == "ready" for entry in found)


def test_the_sandbox_is_tight(speaker: Speaker, suite: str) -> None:
    """`systemd-analyze security` finds an exposure of 1.5 or less."""
    text = speaker.machine.run("systemd-analyze security --no-pager agentd")
    score = re.search(r"Overall exposure level.*: ([\d.]+)", text)
    assert score is not None
    figures.note(suite, "exposure (systemd-analyze security)", score[1])
    assert float(score[1]) <= 1.5


def test_nothing_is_denied_to_it(speaker: Speaker) -> None:
    """Under the sandbox no library complains about a call or a path that is closed to it."""
    text = speaker.machine.run("journalctl --no-pager -u agentd -p warning -o cat")
    for complaint in ("Operation not permitted", "Permission denied", "Read-only file system"):
        assert complaint not in text


def test_memory_and_start_figures(speaker: Speaker, suite: str) -> None:
    """What it costs: resident memory, start to ready, start to the first microphone frame."""
    machine = speaker.machine
    pid = machine.show("agentd", "MainPID")["MainPID"]
    status = machine.read(f"/proc/{pid}/status")
    rss = re.search(r"VmRSS:\s+(\d+)", status)
    assert rss is not None
    figures.note(suite, "RSS, connected, after a turn", f"{int(rss[1]) / 1024:.0f} MiB")
    figures.note(suite, "start to READY, with byte code", f"{_start_s(machine):.1f} s")
    machine.run("find /usr/lib/agentd/lib -name '*.pyc' -delete")
    figures.note(suite, "start to READY, without byte code", f"{_start_s(machine):.1f} s")
    machine.run("/usr/lib/agentd/bin/python3 -IB -m compileall -q /usr/lib/agentd/lib")
    speaker.wait_connected()


def _start_s(machine: Machine) -> float:
    """Restart the daemon; return seconds from exec to READY (a microphone frame has come)."""
    machine.run("systemctl restart agentd")
    times = machine.show(
        "agentd", "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"
    )
    begun, ready = (int(value) for value in times.values())
    return (ready - begun) / 1e6


# ── reload ──────────────────────────────────────────────────────────────────────────────────────


def test_a_good_reload_is_taken_into_use(speaker: Speaker) -> None:
    """`systemctl reload` applies the file, in the same process."""
    machine = speaker.machine
    before, cursor = machine.show("agentd", "MainPID"), machine.cursor()
    machine.run(f"printf '[vad]\\nhangover_ms = 500\\n' >> {RIG} && systemctl reload agentd")
    entry = machine.wait_event("reloaded", after=cursor)
    assert "vad" in json.dumps(entry)
    assert machine.show("agentd", "MainPID") == before
    wait_until("READY after it", lambda: machine.active("agentd"))
    speaker.wait_connected()


def test_a_bad_reload_is_refused_and_named(speaker: Speaker) -> None:
    """A wrong value keeps the old settings; file, key and range are in the journal."""
    machine = speaker.machine
    before, cursor = machine.show("agentd", "MainPID"), machine.cursor()
    good = machine.read(RIG)
    machine.run(
        f"sed -i 's/hangover_ms = 500/hangover_ms = 5/' {RIG}; systemctl reload agentd || true"
    )
    entry = machine.wait_event("config_error", after=cursor)
    machine.write(RIG, good)
    assert entry["AGENTD_KEY"] == "vad.hangover_ms"
    assert entry["AGENTD_FILE"] == RIG
    assert machine.show("agentd", "MainPID") == before
    wait_until("READY after it", lambda: machine.active("agentd"))
    assert speaker.connected()


def test_a_bad_start_exits_78_and_stays_down(speaker: Speaker) -> None:
    """A wrong file at the start names every error; systemd does not try it again and again."""
    machine = speaker.machine
    good = machine.read(RIG)
    machine.write(RIG, good + '[log]\nlevel = "loud"\n[sounds]\nvolume_percent = 300\n')
    cursor = machine.cursor()
    machine.ask("systemctl restart agentd")
    wait_until(
        "the failure", lambda: machine.show("agentd", "ActiveState")["ActiveState"] == "failed"
    )
    assert machine.show("agentd", "ExecMainStatus")["ExecMainStatus"] == "78"
    text = json.dumps(machine.journal("-u", "agentd", after=cursor))
    machine.write(RIG, good)
    assert "log.level" in text
    assert "sounds.volume_percent" in text
    machine.run("systemctl restart agentd")
    speaker.wait_connected()


# ── faults ──────────────────────────────────────────────────────────────────────────────────────


def test_killed_it_comes_back_with_the_conversation(speaker: Speaker, speech: Path) -> None:
    """Kill -9: systemd restarts it, the handle on disk resumes the session."""
    machine = speaker.machine
    speaker.converse(speech)
    wait_until("a handle", lambda: speaker.status()["session"]["handle_age_s"] is not None)
    cursor, count = machine.cursor(), restart_counter(machine)
    machine.run("systemctl kill -s KILL agentd")
    machine.wait_event("ready", after=cursor)
    machine.wait_event("resumed", after=cursor)
    assert restart_counter(machine) == count + 1


def test_a_hung_daemon_is_killed_with_a_traceback_and_resumes(speaker: Speaker) -> None:
    """The watchdog ends a process that does not turn; every thread's stack is in the journal."""
    machine = speaker.machine
    machine.write(PATIENT, "[Service]\nWatchdogSec=5\n")
    machine.run("systemctl daemon-reload && systemctl restart agentd")
    speaker.wait_connected()
    cursor = machine.cursor()
    machine.run("systemctl kill --kill-whom=main -s STOP agentd")
    # systemd lets it go on together with the SIGABRT, or that could not be delivered.
    machine.wait_event("ready", after=cursor)
    machine.wait_event("resumed", after=cursor)
    text = machine.run(f"journalctl --no-pager -u agentd -o cat --after-cursor='{cursor}'")
    machine.run(f"rm {PATIENT} && systemctl daemon-reload && systemctl restart agentd")
    speaker.wait_connected()
    assert "Fatal Python error: Aborted" in text
    assert re.search(r'File ".*/asyncio/.*", line \d+', text)


def test_sigterm_with_a_dead_peer_ends_in_time(speaker: Speaker, suite: str) -> None:
    """The service froze: `systemctl stop` still succeeds, in less than five seconds."""
    machine = speaker.machine
    assert speaker.emulator("fault", do="freeze")["ok"]
    started = time.monotonic()
    machine.run("systemctl stop agentd")
    took_s = time.monotonic() - started
    result = machine.show("agentd", "Result", "ExecMainStatus")
    machine.run("systemctl restart emulator && systemctl start agentd")
    speaker.wait_connected()
    figures.note(suite, "SIGTERM to exit, peer frozen", f"{took_s:.1f} s")
    assert result == {"Result": "success", "ExecMainStatus": "0"}
    assert took_s < 5.0


def test_a_full_disk_does_not_stop_the_conversation(speaker: Speaker, speech: Path) -> None:
    """No byte can be written into the state directory: it is told once, and the talk goes on."""
    machine = speaker.machine
    machine.run("systemctl stop agentd && cp -a /var/lib/agentd /var/tmp/state")
    machine.run("mount -t tmpfs -o size=64k,mode=0700 full /var/lib/agentd")
    machine.run("chown agentd:agentd /var/lib/agentd")
    machine.ask("head -c 1M /dev/zero > /var/lib/agentd/ballast")
    cursor = machine.cursor()
    machine.run("systemctl start agentd")
    speaker.wait_connected()
    turn = speaker.converse(speech)
    told = machine.events("state_unwritable", after=cursor)
    machine.run("systemctl stop agentd && umount /var/lib/agentd && systemctl start agentd")
    speaker.wait_connected()
    assert turn["AGENTD_EVENT"] == "turn"
    assert len(told) == 1


def test_strangers_do_not_reach_the_control_socket(speaker: Speaker) -> None:
    """A user outside the group agentd gets nothing from the daemon."""
    machine = speaker.machine
    machine.run("id stranger 2>/dev/null || useradd stranger")
    ask = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/agentd/control.sock')"
    result = machine.ask(
        f'setpriv --reuid=stranger --regid=stranger --clear-groups python3 -c "{ask}"'
    )
    assert result.returncode != 0
    assert "PermissionError" in result.stderr
    assert machine.ask(
        "setpriv --reuid=stranger --regid=stranger --clear-groups agentd mute"
    ).returncode


def test_a_hundred_crashes_are_survived(speaker: Speaker, suite: str) -> None:
    """It is restarted a hundred times in a row, with a bounded log, and then works as before."""
    machine = speaker.machine
    quick = "/etc/systemd/system/agentd.service.d/quick.conf"
    # Not the growing pause of later systemds: a hundred crashes would take two hours.
    machine.write(quick, f"[Service]\nRestartSec=100ms\n{NO_STEPS[suite]}")
    machine.run("systemctl daemon-reload && systemctl restart agentd")
    count, cursor = restart_counter(machine), machine.cursor()
    for _ in range(100):
        crash(machine)
    wait_until("it to be ready again", lambda: machine.active("agentd"), 120)
    crashes = restart_counter(machine) - count
    lines = int(
        machine.run(f"journalctl --no-pager -q -u agentd --after-cursor='{cursor}' | wc -l")
    )
    machine.run(f"rm {quick} && systemctl daemon-reload")
    figures.note(suite, "journal lines for each of 100 crashes", f"{lines / crashes:.1f}")
    assert crashes >= 100
    assert lines / crashes < 20
    speaker.wait_connected()


# ── the machine ─────────────────────────────────────────────────────────────────────────────────


def test_an_upgrade_in_mid_conversation_resumes_it(speaker: Speaker, speech: Path) -> None:
    """The new version takes over the running conversation."""
    machine = speaker.machine
    speaker.converse(speech)
    cursor = machine.cursor()
    machine.apt("-o Dpkg::Options::=--force-confold install /srv/newer/agentd_9.0_amd64.deb")
    machine.wait_event("ready", after=cursor)
    machine.wait_event("resumed", after=cursor)


def test_after_a_reboot_it_listens_and_resumes(speaker: Speaker, suite: str) -> None:
    """Switched off and on, the device speaks on where it was."""
    machine = speaker.machine
    machine.run("systemctl enable --runtime emulator 2>/dev/null || true")
    machine.run("cp /run/systemd/system/emulator.service /etc/systemd/system/")
    machine.run(
        "printf '[Install]\\nWantedBy=multi-user.target\\n' >> /etc/systemd/system/emulator.service"
    )
    machine.run("systemctl daemon-reload && systemctl enable emulator")
    machine.reboot()
    assert machine.active("agentd")
    machine.wait_event("resumed")
    times = machine.show("agentd", "ActiveEnterTimestampMonotonic")
    userspace = machine.run("systemctl show -P UserspaceTimestampMonotonic")
    ready_s = (int(times["ActiveEnterTimestampMonotonic"]) - int(userspace)) / 1e6
    figures.note(suite, "start of systemd to READY, container", f"{ready_s:.1f} s")
