"""What a test can do with a Debian it has root in, however its commands get there."""

from __future__ import annotations

import shlex
import subprocess
from abc import ABC, abstractmethod
from typing import Any, Final

ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "cat",
}
"""Of every command in it."""


class CommandFailed(AssertionError):
    """A command in the guest failed; the message has what it printed."""


class Guest(ABC):
    """A system of its own: a container, or a machine."""

    @abstractmethod
    def ask(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root; return status and output whatever they are."""

    def run(self, script: str, **options: Any) -> str:
        """Run a shell script as root; return its standard output; fail when it fails."""
        return checked(self.ask(script, **options))

    def write(self, path: str, content: str | bytes, mode: str = "0644") -> None:
        """Write a file."""
        data = content.encode() if isinstance(content, str) else content
        quoted = shlex.quote(path)
        self.run(
            f'mkdir -p "$(dirname {quoted})" && cat > {quoted} && chmod {mode} {quoted}', stdin=data
        )

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit."""
        text = self.run(f"systemctl show {unit} -p {','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def checked(result: subprocess.CompletedProcess[str]) -> str:
    """Return the standard output of a script; fail when it failed."""
    if result.returncode:
        raise CommandFailed(
            f"exit {result.returncode} from: {result.args}\n{result.stdout}\n{result.stderr}"
        )
    return result.stdout
