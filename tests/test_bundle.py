"""The support bundle: useful, and free of everything private, byte for byte."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentd.cli import bundle
from agentd.cli.bundle import Sources, collect, write
from agentd.clock import SystemClock
from agentd.config.fields import walk_fields
from agentd.config.files import Loaded
from agentd.doctor import findings as f
from agentd.doctor.system import check_credential
from agentd.errors import ControlError
from agentd.state.store import StateStore

KEY = "AIzaSyD-this-key-must-never-be-seen-000"
HANDLE = "Cihoandle-that-opens-the-conversation"
SPOKEN = "my-PIN-is-four-seven-one-one"
INSTRUCTION = "You-know-that-Mira-lives-alone"
PASSWORD = "hunter2-in-a-url"
AUDIO = b"RIFFthis-is-the-sound-of-a-voice"
SECRETS = (KEY, HANDLE, SPOKEN, INSTRUCTION, PASSWORD, AUDIO.decode())


def entry(event: str, **fields: str) -> dict[str, str]:
    return {
        "__REALTIME_TIMESTAMP": "1800000000000000",
        "AGENTD_EVENT": event,
        "MESSAGE": f"{SPOKEN} {KEY} {HANDLE}",
        "_CMDLINE": f"agentd --key {KEY}",
        **{f"AGENTD_{name.upper()}": value for name, value in fields.items()},
    }


JOURNAL = [
    entry("turn", turn="3", first_audio_ms="412.5", transcript=SPOKEN),
    entry("disconnected", connection="2", cause="closed", close_code="1008", reason=HANDLE),
    entry("handle_stored", handle=HANDLE),
    entry("bad_frame", problem=SPOKEN, count="1"),
    entry("log", logger="google.genai", message=KEY),
    entry("crash", where="task", traceback=f"File x: {SPOKEN}"),
    entry("capture_lost", device="plughw:CARD=Device", cause="unplugged", remedy=KEY),
    entry("utterance", utterance=SPOKEN, speech_ms="900.0", reason="hangover"),
    {"MESSAGE": SPOKEN, "_COMM": "another"},
    entry("an_event_of_the_future", words=SPOKEN),
]
STATUS = {
    "version": "1.0",
    "state": "idle",
    "uptime_s": 7.5,
    "transcript": SPOKEN,
    "session": {"connected": True, "handle": HANDLE, "tokens": {"total": 7}, "trouble": ""},
    "turns": {"last": {"first_audio_ms": 412.0, "said": SPOKEN}},
    "words": [SPOKEN],
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device full of secrets: in files, variables, journal and status."""
    state = tmp_path / "state"
    store = StateStore(state, clock=SystemClock(), emit=lambda _event: None)
    store.write("session", {"version": 1, "handles": [{"handle": HANDLE}]})
    store.write("transcript", {"version": 1, "turns": [{"user": SPOKEN, "model": SPOKEN}]})
    store.close()
    (state / "session.json.bad-1").write_text(HANDLE)
    (state / "recording.wav").write_bytes(AUDIO)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "gemini-api-key").write_text(KEY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    (tmp_path / "agentd.toml").write_text(
        f'[live]\nsystem_instruction = "{INSTRUCTION}"\nproject = "{PASSWORD}"\n'
        f'base_url = "https://proxy.example:8443/{HANDLE}?key={KEY}"\n'
    )
    asound = tmp_path / "asound"
    asound.mkdir()
    (asound / "cards").write_text(" 0 [Device ]: USB-Audio - USB Audio\n")
    (tmp_path / "os-release").write_text('PRETTY_NAME="Debian GNU/Linux 12"\n')
    return tmp_path


def run(command: Sequence[str]) -> str | None:
    """Answer for journalctl and systemctl."""
    if command[0] == "journalctl":
        return "\n".join([*(json.dumps(line) for line in JOURNAL), "not json", "[]"])
    return f"ActiveState=active\nNRestarts=2\nEnvironment=GEMINI_API_KEY={KEY}\n"


def examine(_loaded: Loaded) -> list[f.Finding]:
    """Let a real check look at the key, and a peer repeat it."""
    return [
        check_credential("developer", os.environ),
        f.fail("session", f"refused: API key {KEY} not valid", f"key={KEY}"),
    ]


def sources(home: Path, **changes: Any) -> Sources:
    return Sources(
        **{
            "run": run,
            "status": lambda: STATUS,
            "examine": examine,
            "asound": home / "asound",
            "os_release": home / "os-release",
            "state": home / "state",
            **changes,
        }
    )


def unpacked(path: Path) -> Mapping[str, str]:
    parts = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            parts[member.name.removeprefix("agentd-bundle/")] = file.read().decode()
    return parts


def test_nothing_private_is_in_it(home: Path) -> None:
    """Of everything that was planted not a byte is found, raw or unpacked."""
    path = home / "bundle.tar.gz"
    write(path, collect(home / "agentd.toml", sources(home)))
    raw = path.read_bytes()
    plain = gzip.decompress(raw)
    for secret in SECRETS:
        assert secret.encode() not in raw + plain, secret
        assert json.dumps(secret)[1:-1].encode() not in plain
    assert len(unpacked(path)) == 9


def test_a_login_in_an_address_stays_out_of_it(home: Path) -> None:
    """Such settings are refused; the bundle says so, and does not repeat what it refuses."""
    file = home / "agentd.toml"
    file.write_text(f'[live]\nbase_url = "https://mira:{PASSWORD}@proxy.example:8443"\n')
    path = home / "bundle.tar.gz"
    write(path, collect(file, sources(home)))
    assert PASSWORD.encode() not in gzip.decompress(path.read_bytes())
    assert "base_url" in unpacked(path)["doctor.json"]


def test_what_helps_is_in_it(home: Path) -> None:
    """Versions, settings, findings, status, events with their figures, cards, unit, state files."""
    path = home / "bundle.tar.gz"
    names = write(path, collect(home / "agentd.toml", sources(home)))
    parts = unpacked(path)
    assert sorted(parts) == sorted(names)
    assert '"agentd"' in parts["versions.json"]
    assert 'live.base_url = "https://proxy.example:8443"' in parts["config.txt"]
    assert f'live.system_instruction = "<{len(INSTRUCTION)} characters>"' in parts["config.txt"]
    assert "audio.cushion_ms = 80" in parts["config.txt"]
    assert json.loads(parts["doctor.json"])["findings"][1]["check"] == "session"
    assert json.loads(parts["status.json"])["session"] == {
        "connected": True,
        "tokens": {"total": 7},
        "trouble": "",
    }
    events = [json.loads(line) for line in parts["journal.jsonl"].splitlines()]
    assert [e["event"] for e in events] == [
        *("turn", "disconnected", "handle_stored", "bad_frame", "log", "crash", "capture_lost"),
        "utterance",
    ]
    assert events[0]["first_audio_ms"] == "412.5"
    assert events[1]["close_code"] == "1008"
    assert events[6]["device"] == "plughw:CARD=Device"
    assert events[7]["reason"] == "hangover"
    assert "USB Audio" in parts["cards"]
    assert "NRestarts=2" in parts["unit.txt"]
    assert "transcript.json" in parts["state.txt"]
    assert "Debian" in parts["os-release"]


def test_it_is_for_its_owner_only(home: Path) -> None:
    """Mode 0600, and an existing file is not overwritten."""
    path = home / "bundle.tar.gz"
    write(path, [("a", "b")])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write(path, [])


def test_a_device_without_daemon_journal_or_configuration(tmp_path: Path) -> None:
    """What is there is collected; a bad configuration is told as the doctor tells it."""

    def no_status() -> object:
        raise ControlError("not running")

    config = tmp_path / "agentd.toml"
    config.write_text("[vad]\naggressiveness = 9\n")
    lonely = sources(tmp_path, run=lambda _command: None, status=no_status)
    parts = dict(collect(config, lonely))
    assert sorted(parts) == ["doctor.json", "journal.jsonl", "state.txt", "versions.json"]
    (finding,) = json.loads(parts["doctor.json"])["findings"]
    assert "vad.aggressiveness" in finding["cause"]


def test_every_text_of_the_configuration_was_thought_about() -> None:
    """A new free text is told by its length until somebody puts it on the list."""
    assert bundle._config_value("live.something_new", "secret") == "<6 characters>"
    known = {key for key, _ in walk_fields()}
    assert known >= bundle.CONFIG_TEXTS


def test_the_archive_is_plain(home: Path) -> None:
    """Only regular files under one folder: nothing that could surprise who unpacks it."""
    path = home / "bundle.tar.gz"
    write(path, collect(home / "agentd.toml", sources(home)))
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        assert all(m.isreg() and m.name.startswith("agentd-bundle/") for m in archive)
