"""Sessions, their context windows and their handles: what survives a connection.

A *session* is the conversation; *connections* come and go.  Every handle is a snapshot: whoever
resumes an older one goes back to that moment and loses what came later.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from live_emulator.models import AUDIO_TOKENS_PER_S, Backend

SESSIONS_KEPT = 2_000


@dataclass(frozen=True, slots=True)
class HistoryTurn:
    """One turn in the context window."""

    role: str
    text: str = ""
    audio_tokens: int = 0
    text_tokens: int = 0
    video_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Return what the turn costs."""
        return self.audio_tokens + self.text_tokens + self.video_tokens


def text_tokens(text: str) -> int:
    """Estimate tokens of a text: four characters each."""
    return (len(text) + 3) // 4


def audio_tokens(seconds: float) -> int:
    """Count tokens of audio: 25 per second (Live API docs)."""
    return round(seconds * AUDIO_TOKENS_PER_S)


def compress(
    history: tuple[HistoryTurn, ...], overhead_tokens: int, trigger: int, target: int
) -> tuple[HistoryTurn, ...]:
    """Drop the oldest turns once the trigger is passed, down to the target.

    The window is cut at the start of a user turn; the last user turn is always kept, and
    ``overhead_tokens`` (the system instruction) cannot be dropped (Live API docs).
    """
    total = overhead_tokens + sum(turn.tokens for turn in history)
    if total <= trigger:
        return history
    starts = [place for place, turn in enumerate(history) if turn.role == "user"]
    if not starts:
        return history
    cut = 0
    for place in starts:
        total -= sum(turn.tokens for turn in history[cut:place])
        cut = place
        if total <= target:
            break
    return history[cut:]


@dataclass(slots=True)
class OpenUtterance:
    """User audio between activityStart and activityEnd; ``pcm`` only ever grows."""

    number: int
    started_s: float
    rate_hz: int = 16_000
    pcm: bytearray = field(default_factory=bytearray)
    text: str = ""

    @property
    def seconds(self) -> float:
        """Return the audio received so far, in seconds."""
        return len(self.pcm) / (2 * self.rate_hz)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session's state at the moment a handle was issued."""

    history: tuple[HistoryTurn, ...]
    system_instruction: str
    user_turns: int
    partial: tuple[OpenUtterance, int] | None = None
    """Transparent mode: the open utterance, and how many of its bytes were consumed."""


@dataclass(slots=True)
class Session:
    """One conversation."""

    id: str
    backend: Backend
    model: str
    created_s: float
    history: tuple[HistoryTurn, ...] = ()
    system_instruction: str = ""
    user_turns: int = 0
    partial: OpenUtterance | None = None
    open_connections: set[int] = field(default_factory=set)
    ended_s: float | None = None
    handles: OrderedDict[str, Snapshot] = field(default_factory=OrderedDict)
    compressions: int = 0
    saw_video: bool = False
    """Whether a video frame has come: such sessions end sooner."""

    @property
    def context_tokens(self) -> int:
        """Return the tokens in the window, the system instruction included."""
        return text_tokens(self.system_instruction) + sum(t.tokens for t in self.history)

    def snapshot(self, *, with_partial: bool) -> Snapshot:
        """Freeze the state; without ``with_partial`` an open utterance is not part of it."""
        partial = None
        if with_partial and self.partial is not None:
            partial = (self.partial, len(self.partial.pcm))
        return Snapshot(self.history, self.system_instruction, self.user_turns, partial)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; what came after it is lost."""
        self.history = snapshot.history
        self.system_instruction = snapshot.system_instruction
        self.user_turns = snapshot.user_turns
        self.partial = None
        if snapshot.partial is not None:
            kept, size = snapshot.partial
            self.partial = OpenUtterance(
                kept.number, kept.started_s, kept.rate_hz, kept.pcm[:size], kept.text
            )


class Poison(Enum):
    """How resumed connections fail while handles are poisoned."""

    NONE = "none"
    CLOSE = "close"
    MUTE = "mute"
    REJECT_1007 = "reject_1007"
    REJECT_1008 = "reject_1008"


class HandleState(Enum):
    """What became of a handle."""

    GOOD = "good"
    UNKNOWN = "unknown"
    EXPIRED = "expired"


class SessionStore:
    """Every session the emulator knows, by id and by handle."""

    def __init__(
        self,
        lifetime: Callable[[Backend], float],
        *,
        handles_kept: int = 64,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._lifetime = lifetime
        self._handles_kept = handles_kept
        self._new_id = new_id
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self._by_handle: dict[str, Session] = {}
        self._expired: OrderedDict[str, None] = OrderedDict()
        self.poison = Poison.NONE

    def create(self, backend: Backend, model: str, now: float) -> Session:
        """Start a fresh session."""
        session = Session(self._new_id(), backend, model, now)
        self.sessions[session.id] = session
        while len(self.sessions) > SESSIONS_KEPT:
            others = (s for s in self.sessions.values() if s is not session)
            oldest = next((s for s in others if not s.open_connections), None)
            if oldest is None:
                break
            self._forget(oldest)
        return session

    def _forget(self, session: Session) -> None:
        for handle in session.handles:
            self._by_handle.pop(handle, None)
        del self.sessions[session.id]

    def issue(self, session: Session, snapshot: Snapshot) -> str:
        """Keep a snapshot of the session under a new handle."""
        handle = self._new_id()
        session.handles[handle] = snapshot
        self._by_handle[handle] = session
        while len(session.handles) > self._handles_kept:
            old, _ = session.handles.popitem(last=False)
            self._by_handle.pop(old, None)
            self._mark_expired(old)
        return handle

    def _mark_expired(self, handle: str) -> None:
        self._expired[handle] = None
        while len(self._expired) > 10 * SESSIONS_KEPT:
            self._expired.popitem(last=False)

    def find(self, handle: str, now: float) -> tuple[HandleState, Session | None]:
        """Look a handle up."""
        session = self._by_handle.get(handle)
        if session is None:
            known = handle in self._expired
            return (HandleState.EXPIRED if known else HandleState.UNKNOWN), None
        if session.open_connections or session.ended_s is None:
            return HandleState.GOOD, session
        if now - session.ended_s > self._lifetime(session.backend):
            self._expire(session)
            return HandleState.EXPIRED, None
        return HandleState.GOOD, session

    def _expire(self, session: Session) -> None:
        for handle in session.handles:
            self._by_handle.pop(handle, None)
            self._mark_expired(handle)
        session.handles.clear()

    def expire_all(self) -> int:
        """Expire every handle issued so far; return how many."""
        count = len(self._by_handle)
        for session in self.sessions.values():
            self._expire(session)
        return count

    def resume(self, session: Session, handle: str) -> None:
        """Take the session back to the handle's snapshot."""
        session.restore(session.handles[handle])
        session.ended_s = None

    def connected(self, session: Session, connection: int) -> None:
        """Note an open connection of a session."""
        session.open_connections.add(connection)
        session.ended_s = None

    def disconnected(self, session: Session, connection: int, now: float) -> None:
        """Note the end of a connection; handles live on from here."""
        session.open_connections.discard(connection)
        if not session.open_connections:
            session.ended_s = now
            session.partial = None

    def open_sessions(self) -> int:
        """Count sessions with an open connection."""
        return sum(1 for s in self.sessions.values() if s.open_connections)

    # -- persistence ------------------------------------------------------------------------

    def dump(self, now: float, wall_s: float) -> dict[str, Any]:
        """Return everything a restarted emulator needs, as JSON values."""
        return {
            "version": 1,
            "wall_s": wall_s,
            "expired": list(self._expired)[-1000:],
            "sessions": [
                {
                    "id": s.id,
                    "backend": s.backend.value,
                    "model": s.model,
                    "age_s": now - s.created_s,
                    "saw_video": s.saw_video,
                    "ended_ago_s": 0.0 if s.ended_s is None else now - s.ended_s,
                    "handles": {h: _snapshot_json(snap) for h, snap in s.handles.items()},
                }
                for s in self.sessions.values()
                if s.handles
            ],
        }

    def load(self, data: dict[str, Any], now: float, wall_s: float, scale: float = 1.0) -> None:
        """Take over sessions dumped by an earlier emulator.

        Raises:
            ValueError, KeyError, TypeError: the data is not what ``dump`` writes.
        """
        if data["version"] != 1:
            raise ValueError(f"state version {data['version']!r}; this emulator knows 1")
        away_s = max(0.0, (wall_s - float(data["wall_s"])) * scale)
        for handle in data["expired"]:
            self._mark_expired(str(handle))
        for item in data["sessions"]:
            session = Session(
                str(item["id"]),
                Backend(item["backend"]),
                str(item["model"]),
                now - away_s - float(item["age_s"]),
                ended_s=now - away_s - float(item["ended_ago_s"]),
                saw_video=item.get("saw_video") is True,
            )
            for handle, snap in item["handles"].items():
                session.handles[handle] = _snapshot_from(snap)
                self._by_handle[handle] = session
            self.sessions[session.id] = session
            session.restore(next(reversed(session.handles.values())))


def _snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "system_instruction": snapshot.system_instruction,
        "user_turns": snapshot.user_turns,
        "history": [
            [t.role, t.text, t.audio_tokens, t.text_tokens, t.video_tokens]
            for t in snapshot.history
        ],
    }


def _snapshot_from(data: dict[str, Any]) -> Snapshot:
    return Snapshot(
        tuple(
            HistoryTurn(str(role), str(text), int(audio), int(words), int(video))
            for role, text, audio, words, video in data["history"]
        ),
        str(data["system_instruction"]),
        int(data["user_turns"]),
    )
