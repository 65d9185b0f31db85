"""Deleting the conversation from the disk when no daemon runs that could do it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentd.errors import StateError
from agentd.service.client import SERVICE_DIRECTORY
from agentd.service.sole import Place
from agentd.state.envelope import BadEnvelope, decode
from agentd.state.files import DiskFiles
from agentd.state.paths import state_directory
from agentd.text import counted

SERVICE_STATE = Path("/var/lib") / SERVICE_DIRECTORY.name
SESSION, TRANSCRIPT = "session", "transcript"


def directories(
    environ: Mapping[str, str], home: Path, service: Path = SERVICE_STATE
) -> list[Path]:
    """Return where a conversation may lie: the service's directory and the user's own."""
    own = state_directory(environ, home)
    if "STATE_DIRECTORY" in environ:
        return [own]
    return [directory for directory in dict.fromkeys((service, own)) if directory.is_dir()]


def forget_on_disk(directory: Path) -> list[str]:
    """Delete handle, transcript and all copies of them; return what was deleted, in words.

    Raises:
        StateError: something is still there; says what to do.
        AlreadyRunning: a daemon works with it and would write it anew; names its process.
    """
    with Place(directory):
        return _forget(directory)


def _forget(directory: Path) -> list[str]:
    files = DiskFiles(directory)
    try:
        found = [
            text
            for name, what in ((SESSION, _handles), (TRANSCRIPT, _turns))
            for text in _described(directory, name, what(files))
        ]
        for name in (SESSION, TRANSCRIPT):
            files.remove(name)
    except OSError as error:
        raise StateError(
            f"{error.filename or directory}: {error.strerror}; nothing may be taken for deleted. "
            "Run it again as root: sudo agentd forget"
        ) from error
    return found


def _described(directory: Path, name: str, content: str) -> list[str]:
    """Return a line for every file of a document that is there."""
    names = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    told = []
    for file in names:
        if file == f"{name}.json":
            told.append(f"{directory / file} ({content})")
        elif file == f".{name}.json.tmp" or file.startswith(f"{name}.json.bad-"):
            told.append(f"{directory / file} (a damaged copy)")
    return told


def _handles(files: DiskFiles) -> str:
    document = _document(files, SESSION)
    handles = document.get("handles")
    count = len(handles) if isinstance(handles, list) else 0
    instruction = ", the instruction given by word of mouth" if document.get("instruction") else ""
    return f"{counted(count, 'handle')} of the session{instruction}"


def _turns(files: DiskFiles) -> str:
    turns = _document(files, TRANSCRIPT).get("turns")
    count = len(turns) if isinstance(turns, list) else 0
    return f"{counted(count, 'turn')} of transcript"


def _document(files: DiskFiles, name: str) -> Mapping[str, object]:
    data = files.read(name)
    try:
        return {} if data is None else decode(name, data)
    except BadEnvelope:
        return {}
