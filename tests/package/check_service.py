"""The installed daemon under systemd: what it is given, what it tells, how it is kept.

The tests of this file leave the daemon connected behind them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median

import numpy as np

from agentd.audio.formats import level_dbfs
from live_emulator.audio import resample
from tests.e2e.sounds import match, samples
from tests.package import figures
from tests.package.conftest import DOWNGRADE
from tests.package.debs import NEWER
from tests.package.machine import Machine, wait_until
from tests.package.speaker import CERTIFICATE, KEY, OTHER_KEY, Speaker

RIG = "/etc/agentd/conf.d/90-rig.toml"


def logged(machine: Machine) -> str:
    """Return every field of every entry of the daemon, and of systemd about it."""
    return machine.run("journalctl --no-pager -o export -u agentd -u agentd-firstboot")


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
    assert speaker.restarts == 0


def test_a_wrong_key_is_told_without_hammering(speaker: Speaker) -> None:
    """The service refuses the key: one entry says so, one dial was made, the next is far away."""
    machine = speaker.machine
    cursor = machine.cursor()
    speaker.set_key(OTHER_KEY)
    machine.wait_event("refused", after=cursor)
    wait_until("a plan", lambda: speaker.status()["session"]["retry_in_s"])
    session = speaker.status()["session"]
    assert session["dials"] == 1
    assert session["retry_in_s"] > 60
    assert len(machine.events("refused", after=cursor)) == 1
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


def test_a_key_can_be_encrypted_to_the_machine(speaker: Speaker) -> None:
    """With the drop-in from the examples no plain key is on the disk, a second one included."""
    machine = speaker.machine
    dropin = "/etc/systemd/system/agentd.service.d/encrypted-credentials.conf"
    machine.run(f"cp /usr/share/doc/agentd/examples/encrypted-credentials.conf {dropin}")
    machine.write("/etc/credstore/google-application-credentials", "{}", "0600")
    machine.run("systemctl daemon-reload")
    speaker.set_key()
    speaker.wait_connected()
    plain = machine.run("ls -A /etc/credstore")
    stored = machine.run("cd /etc/credstore.encrypted && stat -c '%n %a %U' *").splitlines()
    readable = machine.ask(f"grep -rlsF {KEY} /etc /var/lib /usr/share").stdout
    machine.run(f"agentd-set-key --remove; rm {dropin}; systemctl daemon-reload")
    speaker.set_key()
    speaker.wait_connected()
    assert plain == ""
    assert readable == ""
    assert {line.split()[0] for line in stored} == {
        "gemini-api-key",
        "google-application-credentials",
    }
    assert "gemini-api-key 600 root" in stored


def test_no_secret_is_in_the_environment_or_the_arguments(speaker: Speaker) -> None:
    """The key is in the daemon's credential directory alone."""
    machine = speaker.machine
    pid = machine.show("agentd", "MainPID")["MainPID"]
    seen = machine.run(f"cat /proc/{pid}/environ /proc/{pid}/cmdline | tr '\\0' '\\n'")
    assert KEY not in seen
    assert KEY not in machine.run("systemctl show agentd")


# ── what it tells ───────────────────────────────────────────────────────────────────────────────


def test_what_is_said_reaches_the_service_and_what_it_answers_is_heard(
    speaker: Speaker, speech: Path, suite: str
) -> None:
    """Under the whole sandbox: the sentence arrives, and its answer comes out of the speaker.

    All that was in the room is in what the service received. The service parrots, so its answer is
    just that, at the loudspeaker's rate, and every sample of it is in the recording of the
    loudspeaker, in order and without a hole.
    """
    machine = speaker.machine
    machine.run("rm -rf /var/tmp/received")
    with speaker.recording("mic", 16_000) as spoken, speaker.recording("spk", 24_000) as heard:
        turn = speaker.converse(speech)
        playback = "the end of the answer"
        wait_until(playback, lambda: not speaker.status()["audio"]["playback"]["buffered_ms"])
        speaker.wait_state("idle")
        room, recorded = samples(spoken()), samples(heard())
    (file,) = machine.run("ls /var/tmp/received/*.wav").split()
    pcm = machine.fetch(file)[44:]
    received, answer = samples(pcm), samples(resample(pcm, 16_000, 24_000))
    # The utterance ends with the hangover, of which the recorder may be short.
    arrived = match(received[: -16_000 // 5], room)
    came_out = match(answer, recorded)
    figures.note(suite, "a turn, as the journal has it", turn["MESSAGE"])
    figures.note(
        suite,
        "likeness: spoken to received, sent to heard",
        f"{arrived.likeness:.3f}, {came_out.likeness:.3f}",
    )
    assert arrived.likeness > 0.99
    missed = np.concatenate([room[: arrived.at], room[arrived.at + len(received) :]])
    assert level_dbfs(missed.tobytes()) < -60 < -30 < level_dbfs(pcm)
    sent = [
        e for e in speaker.emulator("record", kind="audio")["entries"] if e["direction"] == "out"
    ]
    assert sum(entry["audio_bytes"] for entry in sent) == answer.nbytes
    assert came_out.likeness > 0.99
    assert level_dbfs(recorded.tobytes()) > -50


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


def test_the_catalog_speaks_indonesian(speaker: Speaker) -> None:
    """In a machine that has the locale, `journalctl -x` explains in Indonesian."""
    machine = speaker.machine
    machine.apt("--no-install-recommends install locales")
    machine.run("localedef -i id_ID -f UTF-8 id_ID.UTF-8")
    ask = "journalctl --no-pager -x -u agentd -n 1 AGENTD_EVENT=ready"
    text = machine.run(ask, env={"LANG": "id_ID.UTF-8"})
    assert "agentd siap" in text, text
    assert "agentd is ready" in machine.run(ask)


def test_events_can_be_asked_for_by_field(speaker: Speaker) -> None:
    """`journalctl AGENTD_EVENT=…` answers a question."""
    found = speaker.machine.journal("-u", "agentd", "AGENTD_EVENT=ready")
    assert found
    assert all(entry["AGENTD_EVENT"] == "ready" for entry in found)


def test_the_sandbox_is_tight(speaker: Speaker, suite: str) -> None:
    """`systemd-analyze security` finds an exposure of 1.3 or less."""
    text = speaker.machine.run("systemd-analyze security --no-pager agentd")
    score = re.search(r"Overall exposure level.*: ([\d.]+)", text)
    assert score is not None
    figures.note(suite, "exposure (systemd-analyze security)", score[1])
    assert float(score[1]) <= 1.3


def test_nothing_is_denied_to_it(speaker: Speaker) -> None:
    """Under the sandbox no library complains about a call or a path that is closed to it."""
    text = speaker.machine.run("journalctl --no-pager -u agentd -p warning -o cat")
    for complaint in ("Operation not permitted", "Permission denied", "Read-only file system"):
        assert complaint not in text


def test_memory_and_start_figures(speaker: Speaker, suite: str) -> None:
    """What it costs: resident memory, start to ready, start to the first microphone frame."""
    machine = speaker.machine
    status = machine.read(f"/proc/{speaker.pid}/status")
    rss, peak = (re.search(rf"{name}:\s+(\d+)", status) for name in ("VmRSS", "VmHWM"))
    assert rss is not None
    assert peak is not None
    text = f"{int(rss[1]) / 1024:.0f} MiB, at most {int(peak[1]) / 1024:.0f} MiB"
    figures.note(suite, "RSS under the sandbox, after a turn", text)
    figures.note(suite, "exec to first frame and READY", _starts(machine))
    machine.run("find /usr/lib/agentd/lib -name '*.pyc' -delete")
    figures.note(suite, "exec to first frame and READY, no byte code", _starts(machine))
    machine.run("/usr/lib/agentd/bin/python3 -IB -m compileall -q /usr/lib/agentd/lib")
    speaker.wait_connected()


def _starts(machine: Machine) -> str:
    """Start the daemon three times; return the seconds from exec to its first frame and READY."""
    frames, readies = [], []
    for _ in range(3):
        cursor = machine.cursor()
        machine.run("systemctl restart agentd")
        frame = machine.wait_event("capture_back", after=cursor)
        begun, ready = (
            int(machine.run(f"systemctl show -P {name} agentd"))
            for name in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        )
        frames.append((int(frame["__MONOTONIC_TIMESTAMP"]) - begun) / 1e6)
        readies.append((ready - begun) / 1e6)
    assert min(frames) > 0
    return f"{median(frames):.2f} s and {median(readies):.2f} s"


def examined(speaker: Speaker) -> dict[str, dict[str, str]]:
    """Return the doctor's findings by what was looked at."""
    # The unit has the certificate of the rig from its drop-in.
    command = f"SSL_CERT_FILE={CERTIFICATE} agentd doctor --json"
    with speaker.room():
        document = json.loads(speaker.machine.ask(command).stdout)
    return {finding["check"]: finding for finding in document["findings"]}


def test_the_doctor_finds_it_healthy(speaker: Speaker) -> None:
    """`agentd doctor` beside the running daemon, sound and service included: nothing failed."""
    found = examined(speaker)
    assert {name: f for name, f in found.items() if f["result"] == "fail"} == {}
    for check in (
        *("configuration", "service", "state", "credential", "microphone", "level", "speaker"),
        *("tls", "session"),
    ):
        assert found[check]["result"] == "ok", found[check]


def test_the_doctor_examines_the_devices_of_a_daemon_that_is_stopped(speaker: Speaker) -> None:
    """It says how to start the daemon, and opens microphone and speaker by itself."""
    machine = speaker.machine
    machine.run("systemctl stop agentd")
    try:
        found = examined(speaker)
    finally:
        machine.run("systemctl start agentd")
        speaker.wait_connected()
    assert found["service"]["result"] == "warn"
    assert "systemctl start agentd" in found["service"]["remedy"]
    for check in ("microphone", "level", "speaker", "session"):
        assert found[check]["result"] == "ok", found[check]


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


# ── the machine ─────────────────────────────────────────────────────────────────────────────────


def test_an_upgrade_in_mid_conversation_resumes_it(
    speaker: Speaker, speech: Path, newer: str
) -> None:
    """The new version reads the old one's state and takes over the running conversation."""
    machine = speaker.machine
    speaker.keep_a_handle(speech)
    cursor = machine.cursor()
    machine.apt(f"-o Dpkg::Options::=--force-confold install {newer}")
    assert machine.wait_event("ready", after=cursor)["AGENTD_VERSION"] == NEWER
    machine.wait_event("resumed", after=cursor)
    assert machine.events("state_quarantined", after=cursor) == []


def test_after_a_downgrade_it_talks_though_it_cannot_read_the_newer_state(
    speaker: Speaker, speech: Path
) -> None:
    """State of a later format is put aside and told; the conversation begins afresh."""
    machine = speaker.machine
    speaker.keep_a_handle(speech)
    cursor = machine.cursor()
    machine.apt(DOWNGRADE)
    assert machine.wait_event("ready", after=cursor)["AGENTD_VERSION"] != NEWER
    machine.wait_event("session_fresh", after=cursor)
    told = machine.wait_event("state_quarantined", after=cursor)
    assert "format 2" in told["AGENTD_CAUSE"]
    speaker.converse(speech)


def test_the_tests_of_the_source_package_pass(speaker: Speaker, suite: str) -> None:
    """Autopkgtest runs debian/tests against the installed package, in this booted machine.

    The container is the isolation that the test asks for, which the null driver cannot know.
    """
    machine = speaker.machine
    machine.apt("--no-install-recommends install autopkgtest")
    kept = machine.read(RIG)
    machine.run(f"rm {RIG}; systemctl stop emulator; mkdir -p /var/tmp/adt")
    result = machine.ask(
        "autopkgtest --ignore-restrictions=isolation-container --no-built-binaries "
        "--summary-file=/var/tmp/adt/summary /srv/source -- null > /var/tmp/adt/log 2>&1",
        timeout_s=900,
    )
    summary, log = (machine.ask(f"cat /var/tmp/adt/{name}").stdout for name in ("summary", "log"))
    machine.run("systemctl stop agentd-emulator || :")
    machine.run("rm -f /etc/agentd/conf.d/90-test.toml /etc/agentd-test-ca.pem")
    machine.run("rm -f /etc/systemd/system/agentd.service.d/test.conf; systemctl daemon-reload")
    machine.write(RIG, kept)
    speaker.start_service()
    machine.run("systemctl restart agentd")
    speaker.set_key()
    speaker.wait_connected()
    assert result.returncode == 0, log[-5000:]
    assert re.fullmatch(r"installed\s+PASS", summary.strip()), summary


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
