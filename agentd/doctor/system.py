"""The machine around agentd: state directory, credential, pins, service."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentd.config.credentials import find_credentials
from agentd.config.settings import GpioPins
from agentd.device.gpio import attempt, open_factory
from agentd.doctor.findings import Finding, fail, ok, skipped, warn
from agentd.errors import CredentialError
from agentd.events import Event, GpioUnavailable
from agentd.service.statustext import duration_text, status_sentence

SERVICE_STATE = Path("/var/lib/agentd")
CREDSTORE = Path("/etc/credstore")
ENOUGH_BYTES = 4 << 20  # every document twice, with room to spare
PROBE_BYTES = 64 * 1024
COMMAND_S = 10.0

Run = Callable[[Sequence[str]], str | None]
"""Run a command; return what it printed, or None if it failed or is not there."""


def run_command(command: Sequence[str]) -> str | None:
    """Run a command of the system, bounded."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


# ── state ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StateFacts:
    """What became of an attempt to keep something."""

    directory: Path
    error: int = 0  # errno of the attempt
    free_bytes: int = 0
    mount: str = "/"
    user: str = ""
    quarantined: tuple[str, ...] = ()


def look_at_state(directory: Path) -> StateFacts:
    """Write, sync and remove a file where the state is kept."""
    user = user_name()
    existing = next((p for p in (directory, *directory.parents) if p.exists()), Path("/"))
    mount = str(next(p for p in (existing, *existing.parents) if p.is_mount()))
    number = _try_to_keep(directory)
    free = 0
    aside: tuple[str, ...] = ()
    with contextlib.suppress(OSError):
        free = os.statvfs(existing).f_bavail * os.statvfs(existing).f_frsize
        aside = tuple(sorted(path.name for path in directory.glob("*.bad-*")))
    return StateFacts(directory, number, free, mount, user, aside)


def _try_to_keep(directory: Path) -> int:
    probe = directory / f".doctor-{os.getpid()}"
    existed = directory.exists()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(fd, bytes(PROBE_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
            probe.unlink()
            if not existed:
                directory.rmdir()
    except OSError as error:
        return error.errno or errno.EIO
    return 0 if written == PROBE_BYTES else errno.ENOSPC


def user_name() -> str:
    """Return who runs this."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def judge_state(facts: StateFacts) -> Finding:
    """Judge whether handle and transcript can be kept."""
    where = facts.directory
    if facts.error:
        return _state_fails(facts)
    if facts.quarantined:
        return warn(
            "state",
            f"{where}: {len(facts.quarantined)} damaged file(s) were put aside",
            f"Check the disk and power supply; then `agentd forget` or rm {where}/*.bad-*",
        )
    if facts.free_bytes < ENOUGH_BYTES:
        return warn(
            "state",
            f"{where}: only {facts.free_bytes >> 10} KiB are free",
            f"Free some space on {facts.mount}",
        )
    return ok("state", f"{where}: writable, {facts.free_bytes >> 20} MiB free")


def _state_fails(facts: StateFacts) -> Finding:
    where, mount = facts.directory, facts.mount
    match facts.error:
        case errno.EROFS:
            cause, remedy = "read-only file system", f"sudo mount -o remount,rw {mount}"
        case errno.ENOSPC | errno.EDQUOT:
            cause = "the disk is full"
            remedy = (
                f"Free some space on {mount}; `sudo du -xh {mount} | sort -h | tail` "
                "shows where it went"
            )
        case errno.EACCES | errno.EPERM:
            cause = f"{facts.user} may not write there"
            remedy = f"sudo chown -R {facts.user} {where}"
        case number:
            cause, remedy = os.strerror(number), "Check the disk (`dmesg`)"
    return fail("state", f"{where}: {cause}", remedy)


# ── credential ────────────────────────────────────────────────────────────────────────────────


def credential_environment(
    environ: Mapping[str, str], store: Path = CREDSTORE
) -> Mapping[str, str]:
    """Return the environment with the place from which the unit gets its credentials."""
    if "CREDENTIALS_DIRECTORY" in environ or not store.is_dir():
        return environ
    return {**environ, "CREDENTIALS_DIRECTORY": str(store)}


def check_credential(
    backend: str,
    environ: Mapping[str, str],
    store: Path = CREDSTORE,
    *,
    own_endpoint: bool = False,
) -> Finding:
    """Look for the credential as a dial would, as far as that goes without a token."""
    if "CREDENTIALS_DIRECTORY" not in environ and store.is_dir() and not os.access(store, os.X_OK):
        return skipped(
            "credential", f"{user_name()} may not look into {store}", "Run it as root: `sudo …`"
        )
    env = credential_environment(environ, store)
    try:
        found = find_credentials(backend, env, own_endpoint=own_endpoint)
        if found.api_key is None:
            from agentd.live.google.login import google_credentials

            google_credentials(found, env)
    except CredentialError as error:
        cause, _, told = str(error).partition(". ")
        if "cannot be read" in cause and "Permission" in cause:
            path = cause.partition(" cannot")[0]
            return fail("credential", cause, f"sudo chown $USER {path}")
        by_key = backend == "developer" or "API key" in cause
        remedy = "Store the key: `sudo agentd-set-key`" if by_key or not told else told
        return fail("credential", cause, remedy)
    if found.source in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        return ok("credential", f"there is one (variable {found.source})")
    return ok("credential", f"there is one ({found.source})")


# ── pins ──────────────────────────────────────────────────────────────────────────────────────


def check_pins(pins: GpioPins) -> Finding:
    """Claim each configured pin and let go of it."""
    wanted = configured_pins(pins)
    if not wanted:
        return ok("gpio", "no light, button or switch is configured")
    troubles: list[Event] = []
    claimed = []
    for name, pin in wanted:
        device = attempt(name, lambda n=name, p=pin: _claim(n, p, pins.chip), troubles.append)  # type: ignore[misc]
        if device is not None:
            claimed.append(device)
    for device in claimed:
        device.close()
    for trouble in troubles:
        if isinstance(trouble, GpioUnavailable):
            pin = dict(wanted)[trouble.part]
            return fail("gpio", f"{trouble.part} (pin {pin}): {trouble.cause}", trouble.remedy)
    return ok("gpio", ", ".join(f"{name} on pin {pin}" for name, pin in wanted))


def configured_pins(pins: GpioPins) -> list[tuple[str, int]]:
    """Return name and number of every pin in use."""
    found: list[tuple[str, int]] = []
    for name in ("status_led", "mute_led", "button", "mute_switch"):
        value = getattr(pins, name)
        if value is not None:
            found.append((name, value))
    for colour, pin in zip(("red", "green", "blue"), pins.status_rgb or (), strict=False):
        found.append((f"status_rgb {colour}", pin))
    return found


def _claim(name: str, pin: int, chip: int | None) -> Any:
    factory = open_factory(chip)
    import gpiozero

    if name in ("button", "mute_switch"):
        return gpiozero.Button(pin, pull_up=True, pin_factory=factory)
    return gpiozero.LED(pin, initial_value=None, pin_factory=factory)


# ── service ───────────────────────────────────────────────────────────────────────────────────

_PROPERTIES = (
    "LoadState,ActiveState,SubState,ExecMainStatus,NRestarts,ProtectSystem,NoNewPrivileges"
)


def look_at_unit(run: Run = run_command) -> dict[str, str]:
    """Return what systemd knows of the unit; empty without systemd."""
    told = run(["systemctl", "show", "agentd.service", f"--property={_PROPERTIES}"]) or ""
    return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """The daemon as seen from outside: its status if it answers, else why not; its unit."""

    status: Mapping[str, Any] | None
    refusal: str = ""
    not_permitted: bool = False
    unit: Mapping[str, str] | None = None


def judge_service(facts: ServiceFacts) -> Finding:
    """Judge whether the daemon runs, and as what."""
    unit = facts.unit or {}
    if facts.status is not None:
        return _running(facts.status, unit)
    if facts.not_permitted:
        cause, _, remedy = facts.refusal.partition(": ")
        return warn("service", cause, remedy)
    if unit.get("LoadState") != "loaded":
        return skipped("service", "no daemon runs, and systemd has no unit agentd.service")
    return _down(unit)


def _down(unit: Mapping[str, str]) -> Finding:
    state = unit.get("ActiveState", "")
    told = f"({state}, {unit.get('SubState')})"
    if state == "active":
        return fail(
            "service",
            "the unit is active, but nobody answers at the control socket",
            "sudo systemctl restart agentd",
        )
    if unit.get("ExecMainStatus") == "78":
        return fail(
            "service",
            "the unit stopped at a wrong configuration (status 78)",
            "Correct what `agentd config check` names, then: sudo systemctl restart agentd",
        )
    if state in ("activating", "failed"):
        return fail("service", f"the unit does not stay up {told}", "journalctl -u agentd -e -x")
    return warn("service", f"the unit does not run {told}", "sudo systemctl start agentd")


def _running(status: Mapping[str, Any], unit: Mapping[str, str]) -> Finding:
    up = duration_text(status.get("uptime_s", 0))
    restarts = unit.get("NRestarts", "0")
    cause = f"runs since {up}; {status_sentence(status)}"
    if restarts.isdecimal() and int(restarts) >= 3:
        return warn(
            "service",
            f"{cause}; systemd restarted it {restarts} times",
            "journalctl -u agentd -p err",
        )
    if unit.get("ActiveState") == "active" and unit.get("ProtectSystem") not in ("strict", None):
        return warn(
            "service",
            f"{cause}; its sandbox was loosened",
            "systemctl cat agentd shows by which file",
        )
    return ok("service", cause)
