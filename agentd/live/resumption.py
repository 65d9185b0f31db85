"""Resumption handles: which to try next, which to believe no longer.

    newest handle → previous handle → fresh session with restored context → fresh session

A handle names a state of the conversation at the service. Rules (Live API docs, "Session
resumption"; reports behind them in the issue trackers of LiveKit and google-genai):

* Only an update that is resumable *and* brings a handle is kept. An empty update means "not at
  this moment" and never erases a good handle.
* A handle works only with the backend, project, location, model and endpoint that issued it.
  The rest of the configuration may change on resume.
* A handle lives 2 h (Developer API) or 24 h (Vertex AI) after its session's last connection ended.
  Without a synchronised clock its age is unknown: then it is tried, which costs one dial.
* A handle that lets us in and then kills or ignores us is worse than none: it is demoted, and with
  it what its connection has issued meanwhile. Until that connection has answered a question, its
  handles push nothing off the ladder.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentd.clock import WallTime
from agentd.live.messages import ResumptionUpdate

MAX_HANDLE_CHARS = 16_384  # the longest seen is under 1 kB; this bounds a hostile file or server
MAX_STRIKES = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """What a handle is bound to."""

    backend: str
    project: str
    location: str
    model: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Handle:
    """A resumption handle and what must be known to judge it."""

    value: str
    identity: Identity
    issued: WallTime
    digest: str  # of the configuration it was issued under; for the log
    alive_s: float | None = None  # monotonic: its session was last alive; None after a restart
    alive: WallTime | None = None  # the same by wall clock
    consumed: int | None = None  # messages up to this log position are part of its state

    def age_s(self, now: float, wall: WallTime) -> float | None:
        """Return seconds since its session was last alive, or None if nobody can know."""
        if self.alive_s is not None:
            return max(0.0, now - self.alive_s)
        then = self.alive or self.issued
        if not (then.synchronised and wall.synchronised) or wall.unix_s < then.unix_s:
            return None
        return wall.unix_s - then.unix_s


def fingerprint(value: str) -> str:
    """Return a short name for a handle that reveals nothing of it."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:8]


class Rung(enum.Enum):
    """A step of the ladder."""

    NEWEST = "newest"
    PREVIOUS = "previous"
    RESTORE = "restore"
    FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Choice:
    """How to dial; `why_not` says what kept better rungs from being used."""

    rung: Rung
    handle: Handle | None
    why_not: str = ""


class Ladder:
    """The two newest handles of the conversation, and how much each is trusted.

    While a resumed connection has not proved itself, the handles that it issues count as one with
    the one that it was resumed with, and a third is kept behind them.
    """

    def __init__(self, newest: Handle | None = None, previous: Handle | None = None) -> None:
        self.newest = newest
        self.previous = previous
        self._behind: Handle | None = None  # pushed out by a handle that may be worth nothing
        self._parent = ""  # the handle whose connection has issued `newest` without having answered
        self.resumable = False  # what the last update of the current connection said
        self._strikes: dict[str, int] = {}
        self._why = ""  # why the last handle was lost, told when a fresh session begins

    @property
    def handles(self) -> tuple[Handle, ...]:
        """Return all that may still be used, newest first."""
        kept = (self.newest, self.previous, self._behind)
        return tuple(handle for handle in kept if handle is not None)

    def offer(
        self, update: ResumptionUpdate, template: Handle, parent: Handle | None = None
    ) -> Handle | None:
        """Take an update; return the new handle if one is to be stored.

        Args:
            template: everything but the handle itself.
            parent: what the connection was resumed with, if it has not answered anything yet.
        """
        usable = update.resumable and 0 < len(update.handle) <= MAX_HANDLE_CHARS
        self.resumable = usable
        if not usable:
            return None
        fresh = replace(template, value=update.handle)
        if self.newest is not None and self.newest.value == fresh.value:
            self.newest = fresh
            return None
        self._push(fresh, parent)
        self._prune()
        return fresh

    def _push(self, fresh: Handle, parent: Handle | None) -> None:
        if parent is None:
            self.newest, self.previous, self._behind = fresh, self.newest, None
            self._parent = ""
        elif self._parent == parent.value:
            self.newest = fresh  # in place of its older sister
        else:
            self.newest, self.previous, self._behind = fresh, self.newest, self.previous
            self._parent = parent.value

    def choose(
        self,
        identity: Identity,
        *,
        lifetime_s: float,
        now: float,
        wall: WallTime,
        can_restore: bool,
    ) -> Choice:
        """Return the best way to dial."""
        why = self._why or "no handle"
        for rung, handle in ((Rung.NEWEST, self.newest), (Rung.PREVIOUS, self.previous)):
            if handle is None:
                continue
            problem = _unfit(handle, identity, lifetime_s, now, wall)
            if not problem:
                return Choice(rung, handle)
            why = problem
        return Choice(Rung.RESTORE if can_restore else Rung.FRESH, None, why)

    def touch(self, now: float, wall: WallTime) -> None:
        """Note that the session was alive just now: the lifetime of its handles starts anew."""
        self._keep([replace(handle, alive_s=now, alive=wall) for handle in self.handles])

    def strike(self, handle: Handle) -> bool:
        """Count a connection that broke right after resuming; True if it was one too many."""
        count = self._strikes.get(handle.value, 0) + 1
        self._strikes[handle.value] = count
        return count >= MAX_STRIKES

    def trust(self, handle: Handle) -> None:
        """Clear its strikes: a connection resumed with it has proved healthy."""
        self._strikes.pop(handle.value, None)
        self._parent, self._behind = "", None

    def drop(self, handle: Handle, why: str) -> None:
        """Never use `handle` again, nor what a connection resumed with it has issued."""
        worthless = {handle.value}
        if self._parent == handle.value and self.newest is not None:
            worthless.add(self.newest.value)
        kept = [known for known in self.handles if known.value not in worthless]
        if len(kept) < len(self.handles):
            self._keep(kept)
            self._parent = ""
        self._why = why
        self._prune()

    def explain(self, why: str) -> None:
        """Note why the next session will be a fresh one."""
        self._why = why

    def forget(self, why: str) -> None:
        """Drop everything."""
        self._clear()
        self.resumable = False
        self._why = why

    def began_fresh(self) -> None:
        """Note that a fresh session stands: what went before is explained and over."""
        self._why = ""
        self._clear()

    def _keep(self, handles: list[Handle]) -> None:
        padded: list[Handle | None] = [*handles, None, None, None]
        self.newest, self.previous, self._behind = padded[:3]

    def _clear(self) -> None:
        self.newest = self.previous = self._behind = None
        self._parent = ""
        self._strikes.clear()

    def _prune(self) -> None:
        kept = {handle.value for handle in self.handles}
        self._strikes = {value: n for value, n in self._strikes.items() if value in kept}


def _unfit(
    handle: Handle, identity: Identity, lifetime_s: float, now: float, wall: WallTime
) -> str:
    """Say why `handle` cannot be used, or nothing."""
    if handle.identity.model != identity.model:
        return "handle of another model"
    if handle.identity != identity:
        return "handle of another backend or project"
    age = handle.age_s(now, wall)
    if age is not None and age > lifetime_s:
        return "handle too old"
    return ""


# ── on disk ───────────────────────────────────────────────────────────────────────────────────


def handle_to_document(handle: Handle) -> dict[str, Any]:
    """Return the JSON form of a handle. Monotonic times stay behind: they mean nothing later."""
    alive = handle.alive or handle.issued
    identity = handle.identity
    return {
        "handle": handle.value,
        "issued_unix_s": handle.issued.unix_s,
        "issued_synchronised": handle.issued.synchronised,
        "alive_unix_s": alive.unix_s,
        "alive_synchronised": alive.synchronised,
        "backend": identity.backend,
        "project": identity.project,
        "location": identity.location,
        "model": identity.model,
        "endpoint": identity.endpoint,
        "digest": handle.digest,
    }


def handle_from_document(document: object) -> Handle | None:
    """Read a handle that may have been written by anyone; None if it is not one."""
    if not isinstance(document, Mapping):
        return None
    texts = {}
    for key in ("handle", "backend", "project", "location", "model", "endpoint", "digest"):
        value = document.get(key)
        if not isinstance(value, str) or len(value) > MAX_HANDLE_CHARS:
            return None
        texts[key] = value
    issued = wall_from_document(document, "issued")
    alive = wall_from_document(document, "alive")
    if not texts["handle"] or issued is None or alive is None:
        return None
    identity = Identity(
        *(texts[key] for key in ("backend", "project", "location", "model", "endpoint"))
    )
    return Handle(texts["handle"], identity, issued, texts["digest"], alive=alive)


def wall_from_document(document: Mapping[Any, Any], prefix: str) -> WallTime | None:
    """Read `<prefix>_unix_s` and `<prefix>_synchronised`; None if they are not a time."""
    unix_s = document.get(f"{prefix}_unix_s")
    synchronised = document.get(f"{prefix}_synchronised")
    if isinstance(unix_s, bool) or not isinstance(unix_s, int | float):
        return None
    if not isinstance(synchronised, bool) or not abs(unix_s) < 1e12:
        return None
    return WallTime(float(unix_s), synchronised)
