"""Where agentd keeps things: systemd's directories, or the user's own without it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def state_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Return the directory of the state files: `$STATE_DIRECTORY`, else `~/.local/state/agentd`."""
    given = _first(environ.get("STATE_DIRECTORY"))
    return given or _xdg(environ, "XDG_STATE_HOME", home / ".local" / "state") / "agentd"


def runtime_directory(
    environ: Mapping[str, str], home: Path, *, system: Path | None = None
) -> Path:
    """Return the directory of the control socket.

    The daemon finds it in `$RUNTIME_DIRECTORY`. A command typed in a shell has no such variable:
    it passes `system` (the service's directory), which counts when it exists. Without either it
    is a directory of the user's, where a daemon started by hand puts its socket too.
    """
    given = _first(environ.get("RUNTIME_DIRECTORY"))
    if given is not None:
        return given
    if system is not None and system.is_dir():
        return system
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return Path(runtime) / "agentd"
    return state_directory(environ, home) / "run"


def _first(directories: str | None) -> Path | None:
    # systemd lists several directories with colons between them; the first one is ours.
    head = (directories or "").split(":")[0]
    return Path(head) if head.startswith("/") else None


def _xdg(environ: Mapping[str, str], name: str, default: Path) -> Path:
    # The XDG base directory specification: relative values are to be ignored.
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else default
