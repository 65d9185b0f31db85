"""What the service received, held against what was said."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.service import Entry

WAV_HEADER_BYTES = 44


def mark(pcm: bytes) -> str:
    """Return a short name for a sound that no other has."""
    return hashlib.sha256(pcm).hexdigest()[:16]


@dataclass
class _Delivery:
    """An utterance that arrived whole."""

    sound: str
    answered_s: float | None = None
    """When the service told that its turn was over (and issued a handle after it)."""


@dataclass
class Ledger:
    """Counts deliveries; `feed` it the record of the service as it grows."""

    folder: Path
    said: dict[str, int] = field(default_factory=dict)
    """Utterance number by sound."""
    lost: set[int] = field(default_factory=set)
    """Utterances that the session announced as lost."""
    failed: set[int] = field(default_factory=set)
    """Utterances whose turn the session announced as failed."""
    _whole: dict[str, list[_Delivery]] = field(default_factory=dict)
    _latest: dict[int, _Delivery] = field(default_factory=dict)
    again_too_late: list[int] = field(default_factory=list)
    """Utterances that were delivered again although the service had finished their turn."""
    order: list[int] = field(default_factory=list)
    parts: int = 0
    bytes_up: int = 0
    connects: int = 0

    def say(self, number: int, pcm: bytes) -> None:
        """Note that something is about to be said."""
        self.said[mark(pcm)] = number

    def feed(self, entries: Iterable[Entry]) -> int:
        """Take entries; return the number of the last."""
        last = 0
        for entry in entries:
            last = entry.seq
            if entry.kind == "utterance":
                self._utterance(entry)
            elif entry.kind in ("turnComplete", "interrupted"):
                delivery = self._latest.pop(entry.connection, None)
                if delivery is not None:
                    delivery.answered_s = entry.at_s
            elif entry.kind == "audio" and entry.direction == "in":
                self.bytes_up += entry.audio_bytes
            elif entry.kind == "connect":
                self.connects += 1
        return last

    def _utterance(self, entry: Entry) -> None:
        path = self.folder / str(entry.detail["file"])
        pcm = path.read_bytes()[WAV_HEADER_BYTES:]
        path.unlink()
        if not entry.detail["complete"]:
            self.parts += 1
            return
        sound = mark(pcm)
        if sound not in self.said:
            raise AssertionError(f"an utterance of {len(pcm)} bytes that nobody said like this")
        number = self.said[sound]
        earlier = self._whole.setdefault(sound, [])
        # An answer sent into a dying connection did not arrive: the repetition is right.
        if any(d.answered_s is not None and entry.at_s - d.answered_s > 2.0 for d in earlier):
            self.again_too_late.append(number)
        delivery = _Delivery(sound)
        earlier.append(delivery)
        self._latest[entry.connection] = delivery
        self.order.append(number)

    @property
    def whole(self) -> int:
        """How many utterances arrived whole."""
        return len(self._whole)

    @property
    def repeated(self) -> int:
        """How many deliveries were repetitions of questions whose answer was cut off."""
        return sum(len(deliveries) - 1 for deliveries in self._whole.values())

    def silently_lost(self) -> list[int]:
        """Return utterances that neither arrived nor were announced as lost or failed."""
        return sorted(
            number
            for sound, number in self.said.items()
            if sound not in self._whole and number not in self.lost | self.failed
        )

    def told_failed(self) -> int:
        """Count utterances that did not arrive and whose turn was announced as failed."""
        return sum(
            sound not in self._whole and number in self.failed - self.lost
            for sound, number in self.said.items()
        )

    def announced_and_delivered(self) -> list[int]:
        """Return utterances that were announced as lost although they arrived."""
        return sorted(self.said[sound] for sound in self._whole if self.said[sound] in self.lost)
