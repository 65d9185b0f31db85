"""Half duplex: why the gate must be shut, and until when. Pure.

Two things shut it: a reply at the speaker, from its first sample until a tail after its last, and
sounds of our own, each for its length and a tail. They overlap in any order (an earcon in the
middle of a reply, a reply that begins during an alarm), and the gate opens only when none is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class HalfDuplex:
    """The reasons that hold at the moment; every method returns the next value."""

    reply: int | None = None  # the turn whose reply is at the speaker
    until_s: float = -math.inf  # sounds and tails are over then
    reply_until_s: float = -math.inf  # the part of it that belongs to replies

    def reply_began(self, turn: int) -> HalfDuplex:
        """Take word that a reply is heard."""
        return replace(self, reply=turn)

    def reply_ended(self, turn: int, at_s: float, tail_s: float) -> HalfDuplex:
        """Take word that a reply has fallen silent; one that is not the latest changes nothing."""
        if turn != self.reply:
            return self
        end_s = at_s + tail_s
        return HalfDuplex(None, max(self.until_s, end_s), max(self.reply_until_s, end_s))

    def sounded(self, at_s: float, length_s: float, tail_s: float) -> HalfDuplex:
        """Take word of a sound that begins now."""
        return replace(self, until_s=max(self.until_s, at_s + length_s + tail_s))

    def hushed(self, at_s: float, tail_s: float) -> HalfDuplex:
        """Take word that all sounds were stopped; a reply goes on."""
        end_s = max(self.reply_until_s, at_s + tail_s)
        return replace(self, until_s=min(self.until_s, end_s))

    def is_shut(self, at_s: float) -> bool:
        """Say whether a frame taken at `at_s` must not be heard."""
        return self.reply is not None or at_s < self.until_s
