"""The credential store that the unit reads: one file for each secret, plain or encrypted.

A new secret is in place, synced, before anything old is touched; what fails leaves the old one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agentd.config.credentials import API_KEY, MAX_BYTES, SERVICE_ACCOUNT
from agentd.errors import AgentdError
from agentd.named_files import FileRefused, read_bytes
from agentd.provision.disk import Disk

NAMES: Final = (API_KEY, SERVICE_ACCOUNT)
COMMAND_S: Final = 60.0

Run = Callable[[Sequence[str], bytes], bytes]
"""Run a command with input; return its output. Raises CommandFailed."""


class CommandFailed(AgentdError):
    """A program of the system could not do what was asked; the message has its own words."""


class StoreFailed(AgentdError):
    """A secret was not stored; what was there before is there still."""


def run_command(command: Sequence[str], data: bytes) -> bytes:
    """Run a program of the system, bounded."""
    try:
        done = subprocess.run(
            list(command), input=data, capture_output=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"{command[0]}: {error}") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        raise CommandFailed(f"{command[0]}: {words}")
    return done.stdout


class KeyStore:
    """`/etc/credstore`, or `/etc/credstore.encrypted` where the unit asks for that."""

    def __init__(
        self,
        disk: Disk,
        *,
        root: Path = Path("/"),
        run: Run = run_command,
    ) -> None:
        self._disk = disk
        self._run = run
        self.plain = root / "etc/credstore"
        self.encrypted = root / "etc/credstore.encrypted"
        self._systemd = root / "run/systemd/system"

    @property
    def encrypts(self) -> bool:
        """Return whether the unit takes encrypted credentials.

        Such a unit does not start beside a plain one (systemd decrypts whatever it finds).
        """
        if not self._systemd.is_dir():
            return False
        try:
            unit = self._run(["systemctl", "cat", "agentd.service"], b"").decode(errors="replace")
        except CommandFailed:
            return False
        return any(line.startswith("LoadCredentialEncrypted=") for line in unit.splitlines())

    def known(self) -> tuple[str, ...]:
        """Return the API key that is stored in the clear, if there is one."""
        try:
            content = read_bytes(self.plain / API_KEY, MAX_BYTES)
        except FileRefused:
            return ()
        return (content.decode(errors="replace").strip(),) if content.strip() else ()

    def put(self, name: str, secret: bytes) -> Path:
        """Store a secret and return where.

        Raises:
            StoreFailed: it is not stored, and nothing is changed.
        """
        encrypts = self.encrypts
        folder = self.encrypted if encrypts else self.plain
        try:
            data = self._encrypt(name, secret) if encrypts else secret
            self._disk.make_folder(folder, 0o700)
            self._disk.replace(folder / name, data, 0o600)
        except (CommandFailed, OSError) as error:
            raise StoreFailed(f"{name} could not be stored: {_words(error)}") from None
        return folder / name

    def retire_plain(self) -> None:
        """Where the unit takes encrypted credentials, leave no plain one behind.

        A plain one that has no encrypted counterpart yet is encrypted first.

        Raises:
            StoreFailed: one is still there, and works as well as it did before.
        """
        if not self.encrypts:
            return
        for name in NAMES:
            self._retire(name)

    def _retire(self, name: str) -> None:
        path = self.plain / name
        if not path.exists():
            return
        try:
            if not (self.encrypted / name).exists():
                secret = read_bytes(path, MAX_BYTES)
                self._disk.make_folder(self.encrypted, 0o700)
                self._disk.replace(self.encrypted / name, self._encrypt(name, secret), 0o600)
            self._disk.remove(path)
        except (CommandFailed, FileRefused, OSError) as error:
            raise StoreFailed(f"{path} is still there, in the clear: {_words(error)}") from None

    def _encrypt(self, name: str, secret: bytes) -> bytes:
        command = ["systemd-creds", "encrypt", f"--name={name}", "-", "-"]
        data = self._run(command, secret)
        if not data.strip():
            raise CommandFailed("systemd-creds encrypted to nothing")
        return data

    def remove_all(self) -> tuple[Path, ...]:
        """Remove every secret; return the files that were there.

        Raises:
            StoreFailed: naming those that are still there.
        """
        removed, problems = [], []
        for folder in (self.plain, self.encrypted):
            for name in NAMES:
                try:
                    if self._disk.remove(folder / name):
                        removed.append(folder / name)
                except OSError as error:
                    problems.append(f"{folder / name} ({_words(error)})")
        if problems:
            raise StoreFailed(f"still there: {', '.join(problems)}")
        return tuple(removed)

    def restart_daemon(self) -> None:
        """Have a running daemon take what is stored now.

        Raises:
            CommandFailed: systemd did not do it.
        """
        if self._systemd.is_dir():
            self._run(["systemctl", "try-restart", "agentd.service"], b"")


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
