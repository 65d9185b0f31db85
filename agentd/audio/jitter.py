"""The elastic buffer ahead of the speaker. Pure: bytes in, periods and notes out.

    reply ──► gathering ── cushion full, or reply complete, or waited long ──► playing
                  ▲                                                              │
                  └────────────── dry (underrun; the cushion grows) ─────────────┘

A reply may arrive faster than it plays for as long as it likes: the bound is a byte budget far
above any reply, and going over it is reported, never hidden. What was heard is counted in samples
that the device has really played. Earcons and alarms are mixed in, the reply ducked meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agentd.audio import formats

RATE_HZ = formats.PLAYBACK_RATE_HZ
BUDGET_BYTES = 10 * 60 * RATE_HZ * formats.SAMPLE_BYTES
FADE = RATE_HZ * 5 // 1000  # samples; long enough not to click, short enough not to be heard
PROGRESS = RATE_HZ // 10  # samples between two progress notes
PATIENCE = 3  # a reply that trickles in starts after this many cushions of waiting
GROWTH = 1.5
SHRINKING = 0.9
SPARE_MS = 20.0  # a reply that came closer than this to running dry needs a larger cushion
CUSHION_MOST_MS = 500.0
DUCKED = 0.25


@dataclass(frozen=True, slots=True)
class Started:
    """The first sample of a reply went to the device."""

    turn: int


@dataclass(frozen=True, slots=True)
class Progress:
    """So much of a reply has been heard."""

    turn: int
    heard_ms: float


@dataclass(frozen=True, slots=True)
class Gap:
    """A reply went on after the buffer had run dry for `gap_ms`."""

    turn: int
    gap_ms: float


@dataclass(frozen=True, slots=True)
class Drained:
    """The last sample that will ever be heard of a reply has been played."""

    turn: int
    heard_ms: float


Note = Started | Progress | Gap | Drained


@dataclass(slots=True)
class _Reply:
    """One turn's audio: what waits, and what the device has of it."""

    turn: int
    waiting: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0
    complete: bool = False
    started: bool = False
    playing: bool = False
    gathered_since: int | None = None  # device position at which its first waiting byte was seen
    dry_since: int = 0  # device position at which it ran dry
    least: int | None = None  # samples that waited when it came closest to running dry
    spans: deque[tuple[int, int]] = field(default_factory=deque)  # (device position, samples)
    heard: int = 0  # samples, without those of `spans`
    told: int = 0  # heard samples at the last progress note

    def put(self, pcm: bytes) -> None:
        self.waiting.append(pcm)
        self.waiting_bytes += len(pcm)

    def take(self, count: int) -> bytes:
        """Remove and return up to `count` bytes."""
        parts: list[bytes] = []
        while count and self.waiting:
            chunk = self.waiting.popleft()
            if len(chunk) > count:
                self.waiting.appendleft(chunk[count:])
                chunk = chunk[:count]
            parts.append(chunk)
            count -= len(chunk)
        taken = b"".join(parts)
        self.waiting_bytes -= len(taken)
        return taken

    def came_down_to(self, waiting: int) -> None:
        """Note how many samples waited after a period, while more are to come."""
        self.least = waiting if self.least is None else min(self.least, waiting)

    def drop(self) -> None:
        self.waiting.clear()
        self.waiting_bytes = 0
        self.complete = True

    def handed(self, position: int, count: int) -> None:
        """Record that `count` samples went to the device at `position`."""
        if self.spans and sum(self.spans[-1]) == position:
            start, length = self.spans.pop()
            self.spans.append((start, length + count))
        else:
            self.spans.append((position, count))

    def settle(self, played: int) -> int:
        """Return how many samples were heard once the device has played up to `played`."""
        while self.spans and sum(self.spans[0]) <= played:
            self.heard += self.spans.popleft()[1]
        return self.heard + (max(0, played - self.spans[0][0]) if self.spans else 0)


@dataclass(slots=True)
class _Sound:
    """An earcon or alarm on its way out."""

    values: list[int]
    duck: bool
    at: int = 0


class JitterBuffer:
    """Gather replies, hand out periods for the device, and note what is heard.

    Not thread-safe; the caller holds a lock when producer and device are different threads.
    """

    def __init__(self, cushion_ms: float, *, budget_bytes: int = BUDGET_BYTES) -> None:
        self._base_ms = cushion_ms
        self._cushion_ms = cushion_ms
        self._budget_bytes = budget_bytes
        # Only the first one is played: nothing that is done in every period looks at the others,
        # of which a service gone mad may send thousands.
        self._replies: deque[_Reply] = deque()
        self._buffered = 0  # bytes that wait in all of them
        self._newest_turn = -1
        self._leaving: list[_Reply] = []  # cancelled or played out, but not yet heard to the end
        self._sounds: list[_Sound] = []
        self._position = 0  # samples handed to the device since ever
        self._played = 0  # of these, played
        self._closed_turn = -1  # turns up to this one are over: what still comes of them is late
        self._volume = 1.0
        self._gain = 1.0  # of the reply, as the last period left it
        self._fading = b""
        self._notes: list[Note] = []
        self.underruns = 0
        self.late_bytes = 0

    # ── producer ──────────────────────────────────────────────────────────────────────────────

    def write(self, turn: int, pcm: bytes) -> bool:
        """Add reply audio; return False if the budget is used up and it was dropped."""
        if turn <= self._closed_turn:
            self.late_bytes += len(pcm)
            return True
        if self.buffered_bytes + len(pcm) > self._budget_bytes:
            return False
        whole = pcm[: len(pcm) & ~1]
        self._reply(turn).put(whole)
        self._buffered += len(whole)
        return True

    def complete(self, turn: int) -> None:
        """Note that no more audio will come for `turn`."""
        if turn > self._closed_turn:
            self._reply(turn).complete = True

    def cancel(self, turn: int) -> None:
        """Drop what was not handed to the device of `turn` and all before it, with a short fade."""
        known = any(reply.turn == turn for reply in self._replies)
        if turn > self._closed_turn and not known:
            self._notes.append(Drained(turn, 0.0))
        while self._replies and self._replies[0].turn <= turn:
            reply = self._replies.popleft()
            self._buffered -= reply.waiting_bytes
            if reply.playing:
                faded = formats.scale(formats.samples(reply.take(2 * FADE)), self._gain)
                self._fading = formats.to_pcm(formats.ramp(faded, 1.0, 0.0))
                reply.handed(self._position, len(faded))
            reply.drop()
            self._leaving.append(reply)
        self._closed_turn = max(self._closed_turn, turn)

    def lose(self) -> None:
        """Give up everything that waits: the device has gone and nothing more is heard."""
        for reply in [*self._leaving, *self._replies]:
            self._closed_turn = max(self._closed_turn, reply.turn)
            self._notes.append(Drained(reply.turn, _ms(reply.settle(self._played))))
        self._leaving.clear()
        self._replies.clear()
        self._buffered = 0
        self._sounds.clear()
        self._fading = b""

    def play(self, pcm: bytes, *, duck: bool = True) -> None:
        """Mix a sound in from the next period on; replies are ducked under it if `duck`."""
        self._sounds.append(_Sound(formats.samples(pcm), duck))

    def hush(self) -> None:
        """Stop all sounds, not the reply."""
        self._sounds.clear()

    def set_volume(self, gain: float) -> None:
        """Set the gain of everything, reached over the next period."""
        self._volume = gain

    # ── what is known ─────────────────────────────────────────────────────────────────────────

    @property
    def buffered_bytes(self) -> int:
        """Return how many bytes of replies wait."""
        return self._buffered

    @property
    def buffered_ms(self) -> float:
        """Return how much reply waits."""
        return _ms(self.buffered_bytes // formats.SAMPLE_BYTES)

    @property
    def cushion_ms(self) -> float:
        """Return how much is gathered before a reply starts; grows with jitter, shrinks after."""
        return self._cushion_ms

    @property
    def playing_turn(self) -> int | None:
        """Return the turn at the device, or None: also while its last samples are in the device."""
        return next((reply.turn for reply in self._heard if reply.started), None)

    @property
    def _heard(self) -> list[_Reply]:
        """Return the replies of which the device may have something, oldest first."""
        return [*self._leaving, self._replies[0]] if self._replies else self._leaving

    @property
    def is_idle(self) -> bool:
        """Say whether only silence would be handed out and nothing is left to be heard."""
        return not (self._replies or self._leaving or self._sounds or self._fading)

    def take_notes(self) -> list[Note]:
        """Return what happened since the last call, in order."""
        notes, self._notes = self._notes, []
        return notes

    # ── device ────────────────────────────────────────────────────────────────────────────────

    def read(self, frames: int, latency_s: float) -> bytes:
        """Return the next `frames` samples; the first will be heard in `latency_s`."""
        self._settle(self._position - round(latency_s * RATE_HZ))
        reply = self._next_reply_audio(frames)
        if not self._sounds and self._gain == self._target() == 1.0 and not self._fading:
            out = reply
        else:
            out = self._mix(reply, frames)
        self._position += frames
        missing = frames * formats.SAMPLE_BYTES - len(out)
        return out + bytes(missing) if missing else out

    def _target(self) -> float:
        ducked = any(sound.duck for sound in self._sounds)
        return self._volume * (DUCKED if ducked else 1.0)

    def _mix(self, reply: bytes, frames: int) -> bytes:
        target = self._target()
        values = formats.samples(reply)
        if self._gain == target:
            values = formats.scale(values, target)
        else:
            values = formats.ramp(values, self._gain, target)
            self._gain = target
        if self._fading:
            values = formats.add(values, formats.samples(self._fading)[:frames])
            self._fading = self._fading[frames * formats.SAMPLE_BYTES :]
        for sound in self._sounds:
            piece = sound.values[sound.at : sound.at + frames]
            sound.at += frames
            values = formats.add(values, formats.scale(piece, self._volume))
        self._sounds = [sound for sound in self._sounds if sound.at < len(sound.values)]
        return formats.to_pcm(formats.limit(values))

    def _next_reply_audio(self, frames: int) -> bytes:
        out = b""
        wanted = frames * formats.SAMPLE_BYTES
        while self._replies and len(out) < wanted:
            reply = self._replies[0]
            if not reply.playing and not self._may_start(reply):
                break
            out += self._take(reply, wanted - len(out), len(out) // formats.SAMPLE_BYTES)
            if not reply.complete:
                reply.came_down_to(reply.waiting_bytes // formats.SAMPLE_BYTES)
            if reply.waiting_bytes:
                break
            if not reply.complete:
                out = self._run_dry(reply, out, frames)
                break
            self._leaving.append(self._replies.popleft())
            self._closed_turn = max(self._closed_turn, reply.turn)
            self._cushion_ms = self._learned_ms(reply)
        return out

    def _learned_ms(self, reply: _Reply) -> float:
        """Return the cushion for the next reply: large enough for what has jittered in this one."""
        spare_ms = 2 * SPARE_MS if reply.least is None else _ms(reply.least)
        if spare_ms < SPARE_MS:
            wanted_ms = self._cushion_ms + SPARE_MS - spare_ms
            return max(self._cushion_ms, min(CUSHION_MOST_MS, wanted_ms))
        less_ms = max(self._cushion_ms * SHRINKING, self._cushion_ms - (spare_ms - SPARE_MS) / 2)
        return max(self._base_ms, less_ms)

    def _take(self, reply: _Reply, count: int, offset: int) -> bytes:
        pcm = reply.take(count)
        self._buffered -= len(pcm)
        if pcm:
            reply.handed(self._position + offset, len(pcm) // formats.SAMPLE_BYTES)
        return pcm

    def _may_start(self, reply: _Reply) -> bool:
        """Decide whether a gathering reply plays from this period on."""
        if not reply.waiting_bytes:
            return reply.complete  # nothing (more) of it: let it leave
        if reply.gathered_since is None:
            reply.gathered_since = self._position
        waited_ms = _ms(self._position - reply.gathered_since)
        gathered_ms = _ms(reply.waiting_bytes // formats.SAMPLE_BYTES)
        if not (
            reply.complete
            or gathered_ms >= self._cushion_ms
            or waited_ms >= PATIENCE * self._cushion_ms
        ):
            return False
        reply.playing = True
        reply.gathered_since = None
        if not reply.started:
            reply.started = True
            self._notes.append(Started(reply.turn))
        else:
            self._count_gap(reply)
        return True

    def _count_gap(self, reply: _Reply) -> None:
        gap_ms = _ms(self._position - reply.dry_since)
        self.underruns += 1
        self._cushion_ms = max(
            self._cushion_ms,
            min(CUSHION_MOST_MS, self._cushion_ms * GROWTH, self._base_ms + gap_ms),
        )
        self._notes.append(Gap(reply.turn, gap_ms))

    def _run_dry(self, reply: _Reply, out: bytes, frames: int) -> bytes:
        """Stop playing until the cushion is full again; fade what there is of a torn period.

        Whether it was an underrun or the end shows later: only audio that still comes makes a gap.
        """
        whole = len(out) == frames * formats.SAMPLE_BYTES
        if whole:
            return out  # exactly used up; the next period decides
        reply.playing = False
        reply.dry_since = self._position + len(out) // formats.SAMPLE_BYTES
        body, tail = out[: -2 * FADE], out[-2 * FADE :]
        return body + formats.to_pcm(formats.ramp(formats.samples(tail), 1.0, 0.0))

    def _settle(self, played: int) -> None:
        """Move the heard position on and note progress and draining."""
        self._played = max(self._played, played)
        left = []
        for reply in self._leaving:
            heard = reply.settle(self._played)
            if reply.spans:
                left.append(reply)
            else:
                self._notes.append(Drained(reply.turn, _ms(heard)))
        self._leaving = left
        for reply in self._heard:
            heard = reply.settle(self._played)
            if heard - reply.told >= PROGRESS:
                reply.told = heard
                self._notes.append(Progress(reply.turn, _ms(heard)))

    def _reply(self, turn: int) -> _Reply:
        if turn <= self._newest_turn:
            for reply in reversed(self._replies):
                if reply.turn == turn:
                    return reply
        self._newest_turn = max(self._newest_turn, turn)
        self._replies.append(_Reply(turn))
        return self._replies[-1]


def _ms(samples: int) -> float:
    return samples * 1000.0 / RATE_HZ
