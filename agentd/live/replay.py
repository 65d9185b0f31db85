"""Nothing the user said is lost: what was not answered yet is kept, and sent again exactly once.

Two ways, never both for the same audio:

*Utterance replay* (every backend). The outbox keeps each utterance until it is answered. The
service discards a partial utterance with its connection, so on the next one an unanswered
utterance goes out whole: activityStart → pre-roll and audio → activityEnd.

*Index replay* (Vertex AI with `sessionResumption.transparent`). Every client message is numbered
per connection: setup is 0, the first after it 1 (Google's sample, session_manager). Each handle
states with `lastConsumedClientMessageIndex` how far its state reaches; what came later is sent
again first, in the same order. Where the service sends no index, the outbox takes over.

What is older than the user would remember saying is not sent; the caller announces it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from agentd.config.settings import Settings
from agentd.events import EndReason, UtteranceEnded
from agentd.live.messages import (
    UPLINK_BYTES_PER_MS,
    ActivityEnd,
    ActivityStart,
    ClientMessage,
    RealtimeAudio,
    ToolResponse,
    size_bytes,
)

MAX_FAILURES = 4  # newest handle, previous handle, fresh session, and one for bad luck
MAX_TEXTS = 16
RING_MARGIN_S = 10.0
MAX_INDEXES = 200_000  # messages on a connection, hours of speech; later ones cannot be found


def ring_bytes(settings: Settings) -> int:
    """Return how much speech is kept: the longest utterance, and what may still be replayed."""
    seconds = settings.vad.max_utterance_s + settings.network.replay_max_age_s + RING_MARGIN_S
    return int(seconds * 1000 * UPLINK_BYTES_PER_MS)


@dataclass(slots=True, eq=False)
class Utterance:
    """A gated stretch of speech on its way to the service."""

    number: int
    turn: int
    pcm: bytearray = field(default_factory=bytearray)
    sent: int = 0  # bytes of `pcm` sent on the current connection
    opened: bool = False  # its activity was started on the current connection
    done: bool = False  # it was delivered whole on the current connection
    end: UtteranceEnded | None = None
    ended_at_s: float | None = None
    failures: int = 0  # connections that the service ended while they carried it
    waited: bool = False  # it met a time without a connection

    @property
    def is_question(self) -> bool:
        """Return whether the model is to answer it: all speech is."""
        return True

    @property
    def complete(self) -> bool:
        """Return whether the speaker has finished."""
        return self.end is not None

    @property
    def joins_next(self) -> bool:
        """Return whether speech goes straight on in the next utterance (split by length)."""
        return self.end is not None and self.end.reason is EndReason.MAX_LENGTH

    @property
    def audio_ms(self) -> float:
        """Return the length of its audio."""
        return len(self.pcm) / UPLINK_BYTES_PER_MS


@dataclass(slots=True, eq=False)
class Typed:
    """A text on its way to the service; with `asks` the model answers it."""

    text: str
    asks: bool
    turn: int
    ended_at_s: float
    done: bool = False
    failures: int = 0
    waited: bool = False
    once: bool = False  # leaves the outbox when it is sent

    @property
    def is_question(self) -> bool:
        """Return whether the model is to answer it."""
        return self.asks


Item = Utterance | Typed


@dataclass(frozen=True, slots=True)
class Lost:
    """Speech that will not be delivered."""

    utterance: int
    audio_ms: float
    age_s: float
    cause: str


class Outbox:
    """Everything said and not answered yet, oldest first; bounded by age and by bytes.

    Drop policy: the oldest goes, and is reported.
    """

    def __init__(self, *, max_age_s: float, max_bytes: int) -> None:
        self.max_age_s = max_age_s
        self.max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def open(self) -> Utterance | None:
        """Return the utterance that is being spoken, if any."""
        last = self._items[-1] if self._items else None
        if isinstance(last, Utterance) and not last.complete:
            return last
        # a text typed while somebody speaks stands behind the open utterance
        return next((i for i in self._items if isinstance(i, Utterance) and not i.complete), None)

    def questions(self) -> frozenset[int]:
        """Return the turns whose questions are kept: asked or not, they have no answer yet."""
        return frozenset(item.turn for item in self._items if item.is_question)

    def answered(self, turn: int) -> None:
        """Let go of what has its answer: everything asked up to `turn`."""
        for item in [item for item in self._items if item.done and item.turn <= turn]:
            self.remove(item)

    def renumber(self, before: int, after: int) -> None:
        """Give a question a new turn number."""
        for item in self._items:
            if item.turn == before:
                item.turn = after

    def first_pending(self) -> Item | None:
        """Return the oldest item that is not delivered on the current connection."""
        return next((item for item in self._items if not item.done), None)

    def add(self, item: Item) -> list[Lost]:
        """Append an item; what has to go for it is returned."""
        self._items.append(item)
        if isinstance(item, Utterance):
            self._bytes += len(item.pcm)
        return self._fit()

    @property
    def full_of_texts(self) -> bool:
        """Return whether no more typed text should be taken until some is delivered."""
        return sum(isinstance(i, Typed) and not i.done for i in self._items) >= MAX_TEXTS

    def extend(self, utterance: Utterance, pcm: bytes) -> list[Lost]:
        """Add audio to an utterance of the outbox; what has to go for it is returned."""
        utterance.pcm += pcm
        self._bytes += len(pcm)
        return self._fit()

    def remove(self, item: Item) -> None:
        """Take an item out: answered, lost or not wanted."""
        self._items.remove(item)
        if isinstance(item, Utterance):
            self._bytes -= len(item.pcm)

    def rewind(self) -> None:
        """Prepare for a new connection that knows nothing of what was sent."""
        for item in self._items:
            item.done = False
            item.waited = True
            if isinstance(item, Utterance):
                item.sent = 0
                item.opened = False

    def mark_waiting(self) -> None:
        """Note that what is in the outbox met a gap between connections."""
        for item in self._items:
            item.waited = True

    def expire(self, now: float, *, live: bool) -> tuple[list[Lost], list[Item]]:
        """Remove what is too old; return what is lost by it, and what was delivered but unanswered.

        Args:
            live: there is a connection; what is on its way on it right now is not too old.
        """
        lost: list[Lost] = []
        given_up: list[Item] = []
        for item in list(self._items):
            ends = self._expiry_s(item, live)
            if ends is None or now < ends:
                continue
            self.remove(item)
            if item.done or isinstance(item, Typed):
                given_up.append(item)
            else:
                lost.append(_lost(item, now, "too old to replay"))
        return lost, given_up

    def next_expiry_s(self, *, live: bool) -> float | None:
        """Return when the next item becomes too old, if any will."""
        ends = (self._expiry_s(item, live) for item in self._items)
        return min((end for end in ends if end is not None), default=None)

    def _expiry_s(self, item: Item, live: bool) -> float | None:
        if item.ended_at_s is None:
            return None  # still being said
        if isinstance(item, Typed):
            if not item.asks:
                return None  # context keeps
        elif live and item.opened and not item.done:
            return None  # on its way
        return item.ended_at_s + self.max_age_s

    def blame(self) -> None:
        """Note that the service has ended the connection: what it carried may be the cause."""
        for item in self._items:
            if item.done or (isinstance(item, Utterance) and item.opened):
                item.failures += 1

    def drop_worn(self, now: float) -> tuple[list[Lost], list[Item]]:
        """Remove what the service has ended too many connections on.

        Returns the speech that is lost by it, and the texts.
        """
        worn = [item for item in self._items if item.failures >= MAX_FAILURES]
        for item in worn:
            self.remove(item)
        cause = "the service ended every connection on it"
        spoken = [_lost(item, now, cause) for item in worn if isinstance(item, Utterance)]
        return spoken, [item for item in worn if isinstance(item, Typed)]

    def clear(self, now: float, cause: str) -> list[Lost]:
        """Remove everything; return the speech that was not delivered."""
        lost = [
            _lost(item, now, cause)
            for item in self._items
            if isinstance(item, Utterance) and not item.done
        ]
        self._items.clear()
        self._bytes = 0
        return lost

    def _fit(self) -> list[Lost]:
        lost = []
        while self._bytes > self.max_bytes:
            oldest = next((i for i in self._items if isinstance(i, Utterance) and i.complete), None)
            if oldest is None:
                break  # one open utterance alone; the gate splits it by length
            self.remove(oldest)
            # also if it was sent: without an answer it may still have to be sent again
            lost.append(_lost(oldest, oldest.ended_at_s or 0.0, "too much was said"))
        return lost


def _lost(utterance: Utterance, now: float, cause: str) -> Lost:
    ended = utterance.ended_at_s if utterance.ended_at_s is not None else now
    return Lost(utterance.number, utterance.audio_ms, max(0.0, now - ended), cause)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message in the log: `position` counts over all connections, without repeats."""

    position: int
    message: ClientMessage
    utterance: int | None


class SentLog:
    """Client messages that no handle is known to contain, by position (index replay).

    Bounded by bytes: when it is full the oldest go, and handles older than them cannot be used
    for index replay any more.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._sent: deque[Sent] = deque()
        self._bytes = 0
        self._next = 1
        self._floor = 0  # everything up to this position is gone
        self._by_index: list[int] = [0]  # position by message index of this connection; 0 = setup

    @property
    def end(self) -> int:
        """Return the position of the newest message."""
        return self._next - 1

    def begin_connection(self, consumed: int) -> None:
        """Start counting anew: index 0 is the setup, whose state reaches `consumed`."""
        self._by_index = [consumed]

    def record(self, message: ClientMessage, utterance: int | None) -> None:
        """Note a new message, sent just now."""
        self._note_index(self._next)
        self._sent.append(Sent(self._next, message, utterance))
        self._bytes += size_bytes(message)
        self._next += 1
        while self._bytes > self.max_bytes:
            self._drop_first()

    def record_again(self, sent: Sent) -> None:
        """Note that a message of the log was sent again on this connection."""
        self._note_index(sent.position)

    def _note_index(self, position: int) -> None:
        if len(self._by_index) < MAX_INDEXES:
            self._by_index.append(position)

    def position(self, index: int | None) -> int | None:
        """Translate an index of this connection; None if it is not one."""
        if index is None or not 0 <= index < len(self._by_index):
            return None
        return self._by_index[index]

    def forget_until(self, position: int) -> None:
        """Drop what every handle in use contains."""
        while self._sent and self._sent[0].position <= position:
            self._drop_first()
        self._floor = max(self._floor, position)

    def after(self, position: int | None) -> list[Sent] | None:
        """Return what must follow a resume at `position`; None if the log does not reach back.

        Tool responses are left out: a resumed session ignores results of calls it did not make.
        """
        if position is None or position < self._floor:
            return None
        return [
            sent
            for sent in self._sent
            if sent.position > position and not isinstance(sent.message, ToolResponse)
        ]

    def drop_audio(self) -> None:
        """Take all audio out, but leave what frames it: no activity must stay open."""
        self._sent = deque(
            sent for sent in self._sent if not isinstance(sent.message, RealtimeAudio)
        )
        self._bytes = sum(size_bytes(sent.message) for sent in self._sent)

    def clear(self) -> None:
        """Forget all messages; no handle issued before now can be used for index replay."""
        self._sent.clear()
        self._bytes = 0
        self._floor = self._next - 1

    def _drop_first(self) -> None:
        first = self._sent.popleft()
        self._bytes -= size_bytes(first.message)
        self._floor = first.position


def settled(pending: list[Sent], waiting: set[int]) -> set[int]:
    """Return the utterances of the log that nobody waits for: answered, lost or unwanted.

    The state of an older handle may lack them all the same. Asking an answered question again would
    have the device speak out of the blue.
    """
    return {sent.utterance for sent in pending if sent.utterance is not None} - waiting


def without_stale(pending: list[Sent], stale: set[int]) -> list[Sent]:
    """Leave out the speech of `stale` utterances but never leave an activity open.

    Their activityEnd stays if their activityStart is already part of the resumed state. (Speech
    that was split by length starts its activity under one number and ends it under another.)
    """
    kept = []
    start_dropped = False
    for sent in pending:
        if sent.utterance in stale:
            if isinstance(sent.message, ActivityStart):
                start_dropped = True
                continue
            if isinstance(sent.message, RealtimeAudio):
                continue
            if isinstance(sent.message, ActivityEnd) and start_dropped:
                start_dropped = False
                continue
        kept.append(sent)
    return kept
