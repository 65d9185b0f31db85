"""Faults of the machine, seeded for real where a test machine can: disks, permissions, pins."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from agentd.config.settings import GpioPins
from agentd.doctor import cards, system
from agentd.doctor.findings import Finding, Result
from tests.live.test_vertex_auth import account

KEY = "AIza-this-key-must-never-be-seen"


def names(finding: Finding, *words: str, result: Result = Result.FAIL) -> None:
    """Check a finding's result and that it says all of the words, in cause or remedy."""
    assert finding.result is result, finding
    text = f"{finding.cause} → {finding.remedy}"
    for word in words:
        assert word in text, (word, text)


def follow(remedy: str) -> None:
    """Do what a remedy says, as root: it is a command."""
    subprocess.run(shlex.split(remedy.removeprefix("sudo ")), check=True, timeout=30)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into; pytest closes its own when another run begins."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


# ── disks ─────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def tmpfs(folder: Path, *options: str) -> Iterator[Path]:
    """Mount a file system of our own."""
    folder.mkdir()
    command = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        ",".join(["size=256k", *options]),
        "tmpfs",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def state(directory: Path) -> Finding:
    return system.judge_state(system.look_at_state(directory))


def test_a_read_only_file_system(tmp_path: Path) -> None:
    """The mount point is named, and the command that is proposed makes it writable."""
    with tmpfs(tmp_path / "disk", "ro") as disk:
        found = state(disk / "agentd")
        names(found, "read-only file system", f"remount,rw {disk}")
        follow(found.remedy)
        names(state(disk / "agentd"), "KiB are free", result=Result.WARN)


def test_a_full_disk(tmp_path: Path) -> None:
    """Nothing more can be kept; with space it can, and the little that is left is told."""
    with tmpfs(tmp_path / "disk") as disk:
        (disk / "agentd").mkdir()
        with contextlib.suppress(OSError):
            (disk / "film").write_bytes(bytes(1 << 20))
        found = state(disk / "agentd")
        names(found, "disk is full", f"Free some space on {disk}")
        (disk / "film").unlink()
        names(state(disk / "agentd"), "only", result=Result.WARN)


def test_a_state_directory_of_somebody_else(open_folder: Path) -> None:
    """The user and the command that hands it over are named."""
    directory = open_folder / "state"
    directory.mkdir(mode=0o700)
    facts = as_nobody(f"system.judge_state(system.look_at_state(Path({str(directory)!r})))")
    assert "nobody may not write there → sudo chown -R nobody" in facts
    follow(facts.partition(" → ")[2])
    assert "writable" in as_nobody(
        f"system.judge_state(system.look_at_state(Path({str(directory)!r})))"
    )


def as_nobody(expression: str) -> str:
    """Evaluate a finding in a process of the user nobody; return cause and remedy."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    code = (
        "from pathlib import Path\nfrom agentd.doctor import cards, system\n"
        f"found = {expression}\nprint(found.cause, '→', found.remedy)"
    )
    # The checkout may lie where nobody may look: everything is imported before.
    drop = (
        "import os, sys, agentd.doctor.system, agentd.doctor.cards, agentd.config.settings\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", drop + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_damaged_state_files_are_mentioned(tmp_path: Path) -> None:
    """What the store has put aside is a hint at a dying card."""
    (tmp_path / "session.json.bad-1").write_bytes(b"\0")
    names(state(tmp_path), "damaged", "agentd forget", result=Result.WARN)


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    """No probe file, and no directory that was not there."""
    names(state(tmp_path / "new" / "agentd"), "writable", result=Result.OK)
    assert not (tmp_path / "new" / "agentd").exists()


# ── credential ────────────────────────────────────────────────────────────────────────────────


def credential(environ: dict[str, str], store: Path, backend: str = "developer") -> Finding:
    return system.check_credential(backend, environ, store)


def test_no_key(tmp_path: Path) -> None:
    """None anywhere; stored where the remedy's command stores it, it is found."""
    found = credential({}, tmp_path)
    names(found, "no API key", "agentd-set-key")
    (tmp_path / "gemini-api-key").write_text(KEY)
    found = credential({}, tmp_path)
    names(found, "there is one", result=Result.OK)
    assert KEY not in found.cause


@pytest.mark.parametrize(
    ("text", "word"), [("", "is empty"), ("two words", "blanks"), ("{}", "does not look like")]
)
def test_a_spoilt_key(text: str, word: str, tmp_path: Path) -> None:
    """Empty, pasted with blanks, or another file altogether."""
    (tmp_path / "gemini-api-key").write_text(text)
    names(credential({}, tmp_path), word, "agentd-set-key")


def test_a_key_that_may_not_be_read(open_folder: Path) -> None:
    """The file is there, its mode is in the way; the proposed owner can read it."""
    key = open_folder / "gemini-api-key"
    key.write_text(KEY)
    key.chmod(0o600)
    told = as_nobody(f"system.check_credential('developer', {{}}, Path({str(open_folder)!r}))")
    assert "cannot be read (Permission denied)" in told
    assert f"sudo chown $USER {key}" in told
    follow(told.partition(" → ")[2].replace("$USER", "nobody"))
    told = as_nobody(f"system.check_credential('developer', {{}}, Path({str(open_folder)!r}))")
    assert "there is one" in told


def test_a_service_account_that_is_no_json(tmp_path: Path) -> None:
    """Vertex: the file is named, never shown."""
    (tmp_path / "google-application-credentials").write_text("not json")
    found = credential({}, tmp_path, "vertex")
    names(found, "is not JSON")
    (tmp_path / "google-application-credentials").write_text('{"type": "service_account"}')
    names(credential({}, tmp_path, "vertex"), "is no usable Google credential", "client_email")
    whole = json.dumps(account("https://oauth2.example/token"))
    (tmp_path / "google-application-credentials").write_text(whole)
    names(credential({}, tmp_path, "vertex"), "there is one", result=Result.OK)


# ── pins ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def mock_chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    before = gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory = MockFactory()
    yield gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory.reset()
    gpiozero.Device.pin_factory = before


def test_no_gpio_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has none: the doctor names it, whatever gpiozero raises."""
    if Path("/dev/gpiochip0").exists():
        pytest.skip("this machine has a GPIO chip")
    pytest.importorskip("lgpio", reason="no lgpio for this Python: that is named instead")
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    found = system.check_pins(GpioPins(status_led=25, chip=0))
    names(found, "status_led (pin 25)", "no GPIO chip", "leave [gpio] empty")


def test_a_pin_that_is_taken(mock_chip: Any) -> None:
    """Another device holds it; once that lets go, all is well."""
    other = gpiozero.LED(5)
    pins = GpioPins(button=5, status_rgb=(17, 27, 22))
    names(system.check_pins(pins), "button (pin 5)", "in use", "give each its own")
    other.close()
    names(system.check_pins(pins), "button on pin 5", "status_rgb red", result=Result.OK)


def test_looking_at_pins_lets_go_of_them(mock_chip: Any) -> None:
    """They can be claimed again right away."""
    pins = GpioPins(button=5, status_led=25, mute_led=23, mute_switch=6)
    for _ in range(3):
        assert system.check_pins(pins).result is Result.OK


def test_no_pins_are_fine() -> None:
    """A speaker without lights is one."""
    assert system.check_pins(GpioPins()).result is Result.OK


# ── cards ─────────────────────────────────────────────────────────────────────────────────────


def test_no_permission_to_dev_snd(open_folder: Path) -> None:
    """The node, the user and the group that would help are named.

    After the proposed commands only the membership of the group is missing.
    """
    node = open_folder / "controlC0"
    node.touch()
    node.chmod(0o600)
    look = (
        f"cards.judge_cards(cards.look_at_cards('nobody', Path('/x'), Path({str(open_folder)!r})), "
        "sound_works=False)"
    )
    told = as_nobody(look)
    assert f"nobody may not open {node} → sudo chgrp audio {node}" in told
    for command in told.partition(" → ")[2].partition(",")[0].split(" && "):
        follow(command.strip())
    assert f"{node} → sudo usermod -aG audio nobody" in as_nobody(look)


def test_no_card(tmp_path: Path) -> None:
    """The kernel has none; with one it is listed."""
    facts = cards.look_at_cards("pi", tmp_path, tmp_path)
    names(cards.judge_cards(facts, sound_works=False), "no sound card", "dtoverlay")
    names(cards.judge_cards(facts, sound_works=True), "work without", result=Result.OK)
    (tmp_path / "cards").write_text(
        " 1 [Device         ]: USB-Audio - USB Audio Device\n"
        "                      C-Media USB Audio Device at usb-0000:01:00.0-1.2, full speed\n"
    )
    facts = cards.look_at_cards("pi", tmp_path, tmp_path)
    names(cards.judge_cards(facts, sound_works=False), "Device", "C-Media", result=Result.OK)


def test_who_holds_a_card(tmp_path: Path) -> None:
    """A real process with an open PCM node is found by name and pid, until it lets go."""
    node = tmp_path / "pcmC0D0c"
    node.touch()
    child = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(node)!r}); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        (found,) = cards.holders(f"{tmp_path}/pcm")
        assert f"(pid {child.pid}, pcmC0D0c)" in found
    finally:
        child.kill()
        child.communicate()
    deadline = time.monotonic() + 30
    while cards.holders(f"{tmp_path}/pcm"):
        assert time.monotonic() < deadline


# ── service ───────────────────────────────────────────────────────────────────────────────────


def unit(**properties: str) -> dict[str, str]:
    return {"LoadState": "loaded", "NRestarts": "0", "ProtectSystem": "strict", **properties}


@pytest.mark.parametrize(
    ("facts", "result", "words"),
    [
        (
            unit(ActiveState="active", SubState="running"),
            Result.FAIL,
            ("nobody answers", "restart"),
        ),
        (
            unit(ActiveState="failed", SubState="failed", ExecMainStatus="78"),
            Result.FAIL,
            ("wrong configuration", "agentd config check"),
        ),
        (
            unit(ActiveState="failed", SubState="failed"),
            Result.FAIL,
            ("does not stay up", "journal"),
        ),
        (unit(ActiveState="inactive", SubState="dead"), Result.WARN, ("systemctl start agentd",)),
        ({"LoadState": "not-found"}, Result.SKIPPED, ("no unit",)),
        ({}, Result.SKIPPED, ("no unit",)),
    ],
)
def test_a_service_that_does_not_run(
    facts: dict[str, str], result: Result, words: Sequence[str]
) -> None:
    """What systemd says of the unit, when nobody answers at the socket."""
    found = system.judge_service(system.ServiceFacts(None, "not running", unit=facts))
    names(found, *words, result=result)


def test_a_service_that_is_not_ours_to_ask() -> None:
    """The group is named."""
    refusal = "you may not use /run/agentd/control.sock: be root, or a member of the group agentd"
    facts = system.ServiceFacts(None, refusal, not_permitted=True)
    names(system.judge_service(facts), "may not use", "group agentd", result=Result.WARN)


def test_a_service_that_runs() -> None:
    """Its own sentence; many restarts and a loosened sandbox are mentioned."""
    status = {"state": "idle", "uptime_s": 7_200, "session": {"connected": False}}
    for facts, result, word in (
        (unit(ActiveState="active"), Result.OK, "2 h"),
        (unit(ActiveState="active", NRestarts="7"), Result.WARN, "restarted it 7 times"),
        (unit(ActiveState="active", ProtectSystem="no"), Result.WARN, "sandbox was loosened"),
        ({}, Result.OK, "idle"),
    ):
        names(system.judge_service(system.ServiceFacts(status, unit=facts)), word, result=result)


def test_the_units_properties_are_read() -> None:
    """`systemctl show` as systemd prints it; None where there is no systemd."""
    printed = "LoadState=loaded\nActiveState=active\nExecMainStatus=0\n"
    assert system.look_at_unit(lambda _command: printed)["ActiveState"] == "active"
    assert system.look_at_unit(lambda _command: None) == {}


# ── mixer ─────────────────────────────────────────────────────────────────────────────────────

MIXER = """\
Simple mixer control 'Speaker',0
  Capabilities: pvolume pswitch
  Playback channels: Front Left - Front Right
  Limits: Playback 0 - 151
  Mono:
  Front Left: Playback {volume} [{percent}%] [-20.13dB] [{switch}]
  Front Right: Playback {volume} [{percent}%] [-20.13dB] [{switch}]
Simple mixer control 'Mic',0
  Capabilities: pvolume pvolume-joined cvolume cvolume-joined pswitch pswitch-joined cswitch
  Playback channels: Mono
  Capture channels: Mono
  Limits: Playback 0 - 127 Capture 0 - 16
  Mono: Playback 0 [0%] [0.00dB] [off] Capture {capture} [{capture_percent}%] [8.00dB] [{mic}]
Simple mixer control 'Auto Gain Control',0
  Capabilities: pswitch pswitch-joined
  Playback channels: Mono
  Mono: Playback [on]
"""
GOOD = {
    "volume": 75,
    "percent": 50,
    "switch": "on",
    "capture": 8,
    "capture_percent": 50,
    "mic": "on",
}


@pytest.mark.parametrize(
    ("changes", "result", "words"),
    [
        ({}, Result.OK, ("Speaker is at 50 %",)),
        ({"switch": "off"}, Result.FAIL, ("Speaker is muted", "sset 'Speaker' unmute")),
        ({"percent": 0}, Result.FAIL, ("Speaker is at 0 %", "sset 'Speaker' 70%")),
        ({"mic": "off"}, Result.FAIL, ("Mic is off (microphone)", "sset 'Mic' cap")),
        ({"capture_percent": 0}, Result.FAIL, ("Mic is at 0 %", "sset 'Mic' 60%")),
    ],
)
def test_the_mixer_of_a_usb_card(
    changes: dict[str, object], result: Result, words: Sequence[str]
) -> None:
    """A USB card's controls as amixer prints them; the sidetone, off, is not complained about."""
    listing = MIXER.format(**{**GOOD, **changes})
    found = cards.judge_mixer(
        listing, device="hw:Device", wanted="auto", capture_device="hw:Device"
    )
    names(found, *words, result=result)


def test_no_mixer_is_fine() -> None:
    """Many I2S DACs have none."""
    assert cards.judge_mixer(None, device="x", wanted="auto").result is Result.OK
    only_a_switch = (
        "Simple mixer control 'IEC958',0\n  Capabilities: pswitch\n  Mono: Playback [on]\n"
    )
    assert cards.judge_mixer(only_a_switch, device="x", wanted="auto").result is Result.OK
