"""What was said, bounded, so that a fresh session can know the conversation.

Only text from the service's own transcription is kept, only as long as the privacy settings allow,
and of an interrupted reply only what was actually heard. Nothing here is ever logged.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentd.clock import WallTime
from agentd.live.messages import Content, whole_text
from agentd.live.resumption import wall_from_document

MAX_TEXT_CHARS = 8_000  # of one side of one turn
MAX_TOTAL_CHARS = 64_000
SHORT_TURNS = 10  # up to this many are restored turn by turn
SHORT_CHARS = 4_000
SUMMARY_CHARS = 12_000
VERSION = 1
LOOK_AGAIN_S = 3600.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn: what the user said and what they heard in return."""

    user: str
    model: str
    at: WallTime
    at_s: float | None = None  # monotonic; None after a restart


class Transcript:
    """The newest exchanges of the conversation, bounded by count, age and size."""

    def __init__(self, *, max_turns: int, max_age_s: float, enabled: bool) -> None:
        self._exchanges: deque[Exchange] = deque()
        self._chars = 0
        self.limit(max_turns=max_turns, max_age_s=max_age_s, enabled=enabled)

    def limit(self, *, max_turns: int, max_age_s: float, enabled: bool) -> None:
        """Apply privacy settings; off drops everything at once."""
        self.max_turns = max_turns
        self.max_age_s = max_age_s
        self.enabled = enabled
        if not enabled:
            self.clear()
        self._trim()

    def add(self, user: str, model: str, now: float, wall: WallTime) -> bool:
        """Keep an exchange; True if the journal changed."""
        user, model = _kept(user.strip()), _kept(model.strip())
        if not self.enabled or not (user or model):
            return False
        self._append(Exchange(user, model, wall, now))
        self._trim()
        return True

    def recent(self, now: float, wall: WallTime) -> tuple[Exchange, ...]:
        """Drop what is too old and return the rest, oldest first."""
        while self._exchanges and _age_s(self._exchanges[0], now, wall) > self.max_age_s:
            self._pop()
        return tuple(self._exchanges)

    def next_expiry_s(self, now: float, wall: WallTime) -> float | None:
        """Return when to look again for what has become too old; None if nothing is kept.

        At least once in `LOOK_AGAIN_S`: a clock that is set meanwhile makes an age known.
        """
        if not self._exchanges:
            return None
        left_s = self.max_age_s - _age_s(self._exchanges[0], now, wall)
        return now + min(max(left_s, 0.0) + 1.0, LOOK_AGAIN_S)

    def clear(self) -> None:
        """Forget everything."""
        self._exchanges.clear()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._exchanges)

    def to_document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "version": VERSION,
            "turns": [
                {
                    "user": exchange.user,
                    "model": exchange.model,
                    "at_unix_s": exchange.at.unix_s,
                    "at_synchronised": exchange.at.synchronised,
                }
                for exchange in self._exchanges
            ],
        }

    def load(self, document: object) -> None:
        """Take over what a state file held, which may have been written by anyone."""
        self.clear()
        if not self.enabled or not isinstance(document, Mapping):
            return
        turns = document.get("turns")
        if document.get("version") != VERSION or not isinstance(turns, list):
            return
        for turn in turns[-self.max_turns :]:
            exchange = _exchange_from_document(turn)
            if exchange is not None:
                self._append(exchange)
        self._trim()

    def _append(self, exchange: Exchange) -> None:
        self._exchanges.append(exchange)
        self._chars += len(exchange.user) + len(exchange.model)

    def _pop(self) -> None:
        oldest = self._exchanges.popleft()
        self._chars -= len(oldest.user) + len(oldest.model)

    def _trim(self) -> None:
        while len(self._exchanges) > self.max_turns or self._chars > MAX_TOTAL_CHARS:
            self._pop()


def _age_s(exchange: Exchange, now: float, wall: WallTime) -> float:
    """Return the age, or zero if the clocks cannot tell: nothing goes by a wrong clock."""
    if exchange.at_s is not None:
        return now - exchange.at_s
    if exchange.at.synchronised and wall.synchronised:
        return wall.unix_s - exchange.at.unix_s
    return 0.0


def _kept(text: str) -> str:
    return whole_text(text[:MAX_TEXT_CHARS])


def _exchange_from_document(turn: object) -> Exchange | None:
    if not isinstance(turn, Mapping):
        return None
    user, model = turn.get("user"), turn.get("model")
    at = wall_from_document(turn, "at")
    if not isinstance(user, str) or not isinstance(model, str) or at is None:
        return None
    user, model = _kept(user), _kept(model)
    return Exchange(user, model, at) if user or model else None


def heard_text(text: str, heard_ms: float, reply_ms: float) -> str:
    """Cut a reply's transcript to what was heard, at a word boundary.

    The service does not time its transcript against its audio; the share of the audio that was
    heard is the best estimate there is.
    """
    if reply_ms <= 0 or not math.isfinite(heard_ms) or heard_ms >= reply_ms:
        return text if reply_ms > 0 and heard_ms >= reply_ms else ""
    cut = int(len(text) * max(heard_ms, 0.0) / reply_ms)
    if 0 < cut < len(text) and not text[cut].isspace():
        space = text.rfind(" ", 0, cut)
        cut = max(space, 0)
    kept = text[:cut].rstrip()
    return kept + " …" if kept else ""


def seed(exchanges: Sequence[Exchange]) -> tuple[Content, ...]:
    """Return the conversation as content for a fresh session.

    A short history goes turn by turn. A long one goes as a single message: models answer old
    questions again when many user turns are replayed at them.
    """
    chars = sum(len(exchange.user) + len(exchange.model) for exchange in exchanges)
    if len(exchanges) <= SHORT_TURNS and chars <= SHORT_CHARS:
        return tuple(
            Content(role, text)
            for exchange in exchanges
            for role, text in (("user", exchange.user), ("model", exchange.model))
            if text
        )
    lines = [
        f"{speaker}: {text}"
        for exchange in exchanges
        for speaker, text in (("User", exchange.user), ("You", exchange.model))
        if text
    ]
    told = "\n".join(lines)[-SUMMARY_CHARS:]
    return (
        Content(
            "user",
            "This is the record of our conversation so far. Know it and go on from it;"
            f" do not answer it.\n{told}",
        ),
    )
