"""Named JSON documents that survive a restart, written seldom and never torn.

`write` returns at once and keeps the document in memory; `run` brings it to disk, at most once
per `min_interval_s` for each document (SD cards wear), and only when it changed. What cannot be
written stays in memory and is tried again; the conversation does not depend on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agentd.clock import Clock
from agentd.events import Emit, StateQuarantined, StateUnwritable, StateWritable
from agentd.stage import Stage
from agentd.state.envelope import BadEnvelope, Document, canonical, decode, encode
from agentd.state.files import DiskFiles, Files
from agentd.waiting import call_in_daemon_thread, wait_for_event

RETRY_FIRST_S = 5.0
RETRY_MAX_S = 300.0
TELL_AGAIN_S = 3600.0  # a disk that stays full is told once an hour
CLOSE_TIMEOUT_S = 1.0  # for a write that hangs in the kernel while we stop

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_UNKNOWN = "?"  # not a JSON text of any document: what the disk holds before we know


@dataclass(slots=True)
class _Entry:
    """One document: what it should be and what the disk holds; None means absent."""

    name: str
    wanted: str | None
    stored: str | None
    purge: bool = False  # first remove what the disk holds of it, quarantined copies as well
    aside: bool = False  # first move it out of the way, with `rest` as its content
    rest: str | None = None
    not_before_s: float = -math.inf
    on_stored: Callable[[], None] | None = None

    @property
    def dirty(self) -> bool:
        return self.purge or self.aside or self.wanted != self.stored


class StateStore(Stage):
    """The documents of one directory. All methods belong to the loop's thread."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        emit: Emit,
        min_interval_s: float = 5.0,
        files: Files | None = None,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._emit = emit
        self._min_interval_s = min_interval_s
        self._files: Files = files or DiskFiles(directory)
        self._entries: dict[str, _Entry] = {}
        self._wake = asyncio.Event()
        self._disk = threading.Lock()  # one write at a time, also when its waiter was cancelled
        self._failures = 0
        self._failing_since_s: float | None = None
        self._told_s = -math.inf

    def read(self, name: str) -> Document | None:
        """Return a copy of the document, or None if there is none that can be used.

        An unusable file is put aside and told. Blocks for the length of a small file; meant for
        the start.
        """
        entry = self._entries.get(_checked(name))
        if entry is None:
            entry = self._entries[name] = self._load(name)
        return None if entry.wanted is None else json.loads(entry.wanted)

    def write(
        self, name: str, document: Document, *, on_stored: Callable[[], None] | None = None
    ) -> None:
        """Keep `document` from now on; call `on_stored` when it (not a later one) is on disk.

        Raises:
            ValueError: `document` is not plain JSON.
        """
        self._want(name, canonical(document), on_stored)

    def delete(self, name: str) -> None:
        """Forget the document and what was put aside of it; on disk without delay."""
        entry = self._want(name, None, None)
        entry.purge = True  # also when a later write overtakes this one on its way to disk
        entry.aside, entry.rest = False, None
        entry.not_before_s = -math.inf
        self._told_s = -math.inf  # somebody waits for this one: a failure is reported at once
        self._wake.set()

    def put_aside(self, name: str) -> None:
        """Move the document out of the way: read no more, kept until the name is deleted."""
        known = self._entries.get(_checked(name))
        rest = None if known is None else known.wanted
        entry = self._want(name, None, None)
        entry.aside, entry.rest = True, rest or entry.rest
        entry.not_before_s = -math.inf
        self._wake.set()

    async def run(self) -> None:
        """Write what is due until cancelled."""
        while True:
            if await wait_for_event(self._wake, self._clock, self._until_due_s()):
                self._wake.clear()
            now_s = self._clock.monotonic()
            for entry in [e for e in self._entries.values() if e.dirty and e.not_before_s <= now_s]:
                await self._store(entry)

    async def flush(self) -> dict[str, str]:
        """Write everything that changed, now; return what failed and why, by document.

        That is reported as an event, too, and stays for a later try.
        """
        failed = {}
        for entry in list(self._entries.values()):
            error = await self._store(entry)
            if error is not None:
                failed[entry.name] = _described(error, self._directory / f"{entry.name}.json")
        return failed

    def close(self) -> None:
        """Write everything that changed, from any state, without a loop; the last act of a stop.

        Returns within `CLOSE_TIMEOUT_S`, whatever the disk does; may be called again.
        """
        dirty = [entry for entry in self._entries.values() if entry.dirty]
        outcomes: list[OSError | None] = []

        def write() -> None:
            for entry in dirty:
                outcomes.append(self._commit(entry, CLOSE_TIMEOUT_S))  # noqa: PERF401 - read meanwhile

        thread = threading.Thread(target=write, name="agentd last state", daemon=True)
        thread.start()
        thread.join(CLOSE_TIMEOUT_S)
        for entry, error in zip(dirty, list(outcomes), strict=False):
            self._settle(entry, error)
        if thread.is_alive():
            self._tell(TimeoutError(f"a write has not returned for {CLOSE_TIMEOUT_S:g} s"))

    def _load(self, name: str) -> _Entry:
        try:
            data = self._files.read(name)
            text = None if data is None else canonical(decode(name, data))
        except BadEnvelope as error:
            cause = str(error)
        except OSError as error:
            cause = error.strerror or type(error).__name__
        else:
            return _Entry(name, wanted=text, stored=text)
        try:
            aside = self._files.put_aside(name)
        except OSError as error:
            self._tell(error)
        else:
            self._emit(StateQuarantined(file=f"{name}.json", cause=cause, aside=aside))
        return _Entry(name, wanted=None, stored=None)

    def _want(self, name: str, text: str | None, on_stored: Callable[[], None] | None) -> _Entry:
        entry = self._entries.get(_checked(name))
        if entry is None:
            entry = self._entries[name] = _Entry(name, wanted=None, stored=_UNKNOWN)
        entry.wanted = text
        entry.on_stored = on_stored
        if entry.dirty:
            self._wake.set()
        else:
            _told(entry)
        return entry

    def _until_due_s(self) -> float | None:
        due_s = [entry.not_before_s for entry in self._entries.values() if entry.dirty]
        return max(0.0, min(due_s) - self._clock.monotonic()) if due_s else None

    async def _store(self, entry: _Entry) -> OSError | None:
        error = None
        if entry.dirty:
            error = await call_in_daemon_thread(lambda: self._commit(entry), "state")
            self._settle(entry, error)
        else:
            _told(entry)
        return error

    def _commit(self, entry: _Entry, timeout_s: float = -1) -> OSError | None:
        """Bring the newest wish to disk; runs in a worker thread.

        The wish is read under the lock: an abandoned worker that comes late writes the newest
        content too, or finds nothing to do.
        """
        if not self._disk.acquire(timeout=timeout_s):
            return TimeoutError(f"a write has not returned for {timeout_s:g} s")
        try:
            if entry.purge:
                self._files.remove(entry.name)
                entry.purge, entry.stored = False, None
            if entry.aside:
                self._move(entry)
            wanted = entry.wanted
            if wanted == entry.stored:
                return None
            if wanted is None:
                self._files.remove(entry.name)
            else:
                self._files.replace(entry.name, encode(entry.name, wanted, self._clock.wall()))
            entry.stored = wanted
        except OSError as error:
            return error
        finally:
            self._disk.release()
        return None

    def _move(self, entry: _Entry) -> None:
        if entry.rest is not None and entry.rest != entry.stored:
            self._files.replace(entry.name, encode(entry.name, entry.rest, self._clock.wall()))
        with contextlib.suppress(FileNotFoundError):
            self._files.put_aside(entry.name)
        entry.aside, entry.rest, entry.stored = False, None, None

    def _settle(self, entry: _Entry, error: OSError | None) -> None:
        now_s = self._clock.monotonic()
        if error is not None:
            self._failures += 1
            retry_s = min(RETRY_FIRST_S * 2.0 ** min(self._failures - 1, 16), RETRY_MAX_S)
            entry.not_before_s = now_s + retry_s
            self._tell(error)
            return
        if self._failing_since_s is not None and not any(e.dirty for e in self._entries.values()):
            self._emit(StateWritable(outage_s=now_s - self._failing_since_s))
            self._failures, self._failing_since_s, self._told_s = 0, None, -math.inf
        entry.not_before_s = now_s + self._min_interval_s
        if not entry.dirty:
            _told(entry)

    def _tell(self, error: OSError) -> None:
        now_s = self._clock.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if now_s - self._told_s >= TELL_AGAIN_S:
            self._told_s = now_s
            self._emit(StateUnwritable(cause=_described(error, self._directory)))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"document name {name!r}: lower-case letters, digits and hyphens only")
    return name


def _described(error: OSError, otherwise: Path) -> str:
    """Return the file that an error is about, and what it was."""
    where = error.filename if isinstance(error.filename, str) else otherwise
    return f"{where}: {error.strerror or str(error) or type(error).__name__}"


def _told(entry: _Entry) -> None:
    callback, entry.on_stored = entry.on_stored, None
    if callback is not None:
        callback()
