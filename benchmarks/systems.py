"""What is measured: agentd and its references, each a process started the same way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
REFERENCES = Path(__file__).resolve().parent / "references"
STOP_S = 8.0

AGENTD_CONFIG = """\
[live]
model = "gemini-3.8-live"
base_url = "{base_url}"

[audio]
echo_cancellation = "{echo_cancellation}"
volume_percent = 100

[sounds]
enabled = false

[log]
format = "json"
"""


@dataclass(frozen=True, slots=True)
class System:
    """A program under test."""

    name: str
    title: str
    echo_cancellation: str = ""
    """Of agentd; empty for the references."""
    recovers: bool = True

    @property
    def is_agentd(self) -> bool:
        """Say whether this is agentd, in whatever configuration."""
        return bool(self.echo_cancellation)

    def command(self, folder: Path, base_url: str) -> list[str]:
        """Return the command line; agentd's configuration is written into `folder`."""
        if not self.is_agentd:
            return [sys.executable, str(REFERENCES / f"{self.name}.py")]
        config = folder / "agentd.toml"
        text = AGENTD_CONFIG.format(base_url=base_url, echo_cancellation=self.echo_cancellation)
        config.write_text(text, "utf-8")
        return [sys.executable, "-m", "agentd", "run", "--config", str(config)]


FLOOR = System("floor", "floor")
QUICKSTART = System("quickstart", "quickstart", recovers=False)
AGENTD = System("agentd", "agentd", echo_cancellation="hardware")
AGENTD_AEC = System("agentd-aec", "agentd + AEC", echo_cancellation="on")
SYSTEMS = {system.name: system for system in (FLOOR, QUICKSTART, AGENTD, AGENTD_AEC)}


def reason_to_skip(system: System) -> str | None:
    """Return why a system cannot be measured here, or None."""
    if system is AGENTD_AEC:
        if find_spec("agentd.audio.echo.policy") is None:
            return "this agentd has no echo canceller yet"
        if find_spec("pywebrtc_audio") is None:
            return "pywebrtc-audio is not installed (the extra `aec`)"
    return None


@dataclass(frozen=True, slots=True)
class Running:
    """A program that was started."""

    process: subprocess.Popen[bytes]
    exec_s: float
    """When it was started, on `time.monotonic()`."""
    folder: Path
    output: Path

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Say whether it still runs."""
        return self.process.poll() is None

    def log_tail(self, size: int = 1500) -> str:
        """Return the end of what it wrote, for error messages."""
        text = self.output.read_text(errors="replace")
        return text[-size:]


@contextlib.contextmanager
def started(
    system: System,
    environment: Mapping[str, str],
    *,
    inside: Sequence[str] = (),
    keep: Path | None = None,
) -> Iterator[Running]:
    """Run a system with a fresh, empty state, and stop it at the end.

    `environment` holds the devices and the service. The state is on disk, not on a tmpfs, so that
    the kernel counts what is written. With `keep` its output is appended there.
    """
    with tempfile.TemporaryDirectory(prefix=f"bench-{system.name}-", dir="/var/tmp") as name:
        folder = Path(name)
        for part in ("state", "run"):
            (folder / part).mkdir(mode=0o700)
        command = [*inside, *system.command(folder, environment["GOOGLE_GEMINI_BASE_URL"])]
        full = {
            **environment,
            "STATE_DIRECTORY": str(folder / "state"),
            "RUNTIME_DIRECTORY": str(folder / "run"),
            "PYTHONPATH": str(ROOT),
        }
        full.pop("NOTIFY_SOCKET", None)
        with _output() as output:
            exec_s = time.monotonic()
            process = subprocess.Popen(
                command,
                env=full,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                yield Running(process, exec_s, folder, Path(output.name))
            finally:
                _stop(process)
                if keep is not None:
                    log = Path(output.name).read_bytes()
                    with keep.open("ab") as kept:
                        kept.write(f"\n=== {system.name} ===\n".encode() + log)


def _output() -> IO[bytes]:
    """Return a file in memory for what a program prints: its log is not its state on disk."""
    memory = Path("/dev/shm")
    return tempfile.NamedTemporaryFile(prefix="bench-", dir=memory if memory.is_dir() else None)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
