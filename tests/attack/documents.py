"""State files: damaged in every way, read as nothing or as what they were, and put aside."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentd.clock import FakeClock, WallTime
from agentd.events import Event, StateQuarantined
from agentd.service.entry import entry_of, json_line
from agentd.state.envelope import canonical, encode
from agentd.state.store import StateStore
from tests.attack import frames, values
from tests.attack.conversation import saved
from tests.attack.target import Case, Step, assert_plain

NAMES = ("session", "transcript", "echo", "device", "timers")
WALL = WallTime(1_800_000_000.0, synchronised=True)


def _written(name: str, document: Any) -> str:
    try:
        return encode(name, canonical(document), WALL).decode("latin-1")
    except ValueError:
        return json.dumps(document)


def _spoilt_envelope(rng: random.Random) -> str:
    whole: Any = json.loads(_written("session", saved_object(rng)).encode("latin-1"))
    frames.replace_one(whole, rng)
    return json.dumps(whole)


def saved_object(rng: random.Random) -> dict[str, Any]:
    """Return a document as the store takes them, hostile inside."""
    document = saved(rng)
    return document if isinstance(document, dict) else {"value": document}


_KINDS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: _written("session", saved_object(rng)),
    _spoilt_envelope,
    lambda rng: values.spoilt(_written("session", saved_object(rng)), rng),
    lambda rng: json.dumps(values.anything(rng)),
    lambda rng: rng.choice(("", "\x00" * 512, "{" * 5000, "\xff\xfe{}", "[]", "9" * 5000)),
)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 34)  # sparse


ODD_FILES: dict[str, Callable[[Path], None]] = {
    "directory": lambda path: path.mkdir(),
    "fifo": _fifo,
    "link to zero": lambda path: path.symlink_to("/dev/zero"),
    "link in circles": lambda path: path.symlink_to(path.name),
    "sparse 16 GiB": _huge,
}


class Documents:
    """Files in the state directory."""

    name = "state"
    what = "state files"

    def make(self, rng: random.Random) -> list[Step]:
        """Return contents of the five files, or what stands in their place."""
        case: list[Step] = []
        for name in rng.sample(NAMES, rng.choice((1, 2, 5))):
            if rng.random() < 0.1:
                case.append([name, "odd", rng.choice(list(ODD_FILES))])
            else:
                text = rng.choice(_KINDS)(rng).encode("utf-8", "surrogatepass").decode("latin-1")
                case.append([name, "bytes", text])
        return case

    def check(self, case: Case) -> int:
        """Read them all; what cannot be used is put aside, and the next start finds good ones."""
        with tempfile.TemporaryDirectory() as folder:
            return self._check(case, Path(folder))

    def _check(self, case: Case, folder: Path) -> int:
        count = 0
        for step in case:
            match step:
                case [str(name), ("odd" | "bytes") as kind, str(what)] if name in NAMES:
                    path = folder / f"{name}.json"
                    if not os.path.lexists(path):
                        _put(path, kind, what)
                        count += 1
                case _:
                    pass
        first: list[Event] = []
        found = {name: self._store(folder, first).read(name) for name in NAMES}
        for event in first:
            assert_plain(json_line(entry_of(event), WALL), 2000, event.name)
        second: list[Event] = []
        again = {name: self._store(folder, second).read(name) for name in NAMES}
        assert found == again, "another document at the second start"
        assert [e for e in second if isinstance(e, StateQuarantined)] == [], "put aside twice"
        return count

    @staticmethod
    def _store(folder: Path, told: list[Event]) -> StateStore:
        return StateStore(folder, clock=FakeClock(), emit=told.append)


def _put(path: Path, kind: str, what: str) -> None:
    if kind == "bytes":
        path.write_bytes(what.encode("latin-1", "replace"))
    elif what in ODD_FILES:
        ODD_FILES[what](path)
