"""Who may open the gate, why, and until when: one value. Pure.

    muted ─► held ─► half duplex ─► open | asleep ─ word, button ─► open ─ utterance over ─► asleep
                                            ▲                                                  │
                                            └── time is up ── follow-up ◄── reply has drained ─┘

The reasons are asked from the left and the first that holds decides. In mode `open` nothing is
ever asleep; in `wake-word` nothing opens the gate but the word, the button and the time after a
reply; in `push-to-talk` only a finger does. Frames are judged by the time at which they were taken,
so that what was said before the word, or while a reply could still be heard, is not let in later.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace

from agentd.audio.echo.half_duplex import HalfDuplex
from agentd.events import EndReason

NEVER = -math.inf


class Mode(enum.Enum):
    """What opens the gate when nothing forbids it."""

    OPEN = "open"
    WAKE_WORD = "wake-word"
    PUSH_TO_TALK = "push-to-talk"
    DEAF = "deaf"  # nothing does


class Stance(enum.Enum):
    """How the device attends; the names are part of `agentd status --json`."""

    MUTED = "muted"
    HELD = "held"
    HALF_DUPLEX = "half_duplex"
    OPEN = "open"
    FOLLOW_UP = "follow_up"
    ASLEEP = "asleep"


ADMITTING = frozenset((Stance.OPEN, Stance.FOLLOW_UP, Stance.HELD))


@dataclass(frozen=True, slots=True)
class View:
    """The stance at a moment, its reason (a stable short name or a word), and its end if known."""

    stance: Stance
    reason: str
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Manner:
    """How the device is to attend; from the settings."""

    mode: Mode = Mode.OPEN
    listen_s: float = 6.0  # after the word or the button
    follow_up_s: float = 0.0  # after a reply; 0: never
    only_questions: bool = False  # a reply that asks nothing is not followed up
    half_duplex: bool = False
    tail_s: float = 0.3  # half duplex: the room rings on


@dataclass(frozen=True, slots=True)
class Attention:
    """The reasons that hold at the moment; every method returns the next value.

    Times are monotonic seconds.
    """

    manner: Manner = field(default_factory=Manner)
    muted: bool = False
    held: bool = False
    shutter: HalfDuplex = field(default_factory=HalfDuplex)
    speaking: bool = False  # an utterance is under way: it is let in to its end
    by: str = ""  # what opened the gate last: a word, `button`, `answered`, `asked`
    from_s: float = math.inf  # frames from here on are let in
    until_s: float = NEVER
    is_follow_up: bool = False
    asked: bool = False  # the reply asks something
    thanked: bool = False  # the last that was said is a thank you: no follow-up

    # ── questions ─────────────────────────────────────────────────────────────────────────────

    def at(self, at_s: float) -> View:
        """Return how the device attends to a frame taken at `at_s`."""
        if self.muted:
            return View(Stance.MUTED, "muted")
        if self.held:
            return View(Stance.HELD, "button")
        if self.is_shut(at_s):
            playing = self.shutter.reply is not None
            reason = "reply" if playing or at_s < self.shutter.reply_until_s else "sound"
            return View(Stance.HALF_DUPLEX, reason, None if playing else self.shutter.until_s)
        if self.manner.mode is Mode.OPEN:
            return View(Stance.OPEN, "open")
        if at_s >= self.from_s and (self.speaking or at_s < self.until_s):
            stance = Stance.FOLLOW_UP if self.is_follow_up else Stance.OPEN
            return View(stance, self.by, None if self.speaking else self.until_s)
        return View(Stance.ASLEEP, self.manner.mode.value)

    def admits(self, at_s: float) -> bool:
        """Return whether a frame taken at `at_s` may leave the device."""
        return self.at(at_s).stance in ADMITTING

    def spots(self, at_s: float) -> bool:
        """Return whether wake words are listened for in a frame taken at `at_s`.

        In half duplex not in a reply, which may contain the word; an alarm does not.
        """
        if self.manner.mode is not Mode.WAKE_WORD or self.muted or self.held:
            return False
        shutter = self.shutter
        replying = shutter.reply is not None or at_s < shutter.reply_until_s
        return not (self.manner.half_duplex and replying)

    def is_shut(self, at_s: float) -> bool:
        """Return whether half duplex keeps out a frame taken at `at_s`."""
        return self.manner.half_duplex and self.shutter.is_shut(at_s)

    # ── what happens ──────────────────────────────────────────────────────────────────────────

    def behaving(self, manner: Manner) -> Attention:
        """Take another manner; what had opened the gate before does so no more."""
        return replace(self.closed(), manner=manner, speaking=False)

    def mute(self, muted: bool) -> Attention:
        """Take word that the microphone was closed or opened."""
        return replace(self.closed(), muted=muted)

    def hold(self, held: bool) -> Attention:
        """Take word of a finger that holds the button, or lifts."""
        return self if held is self.held else replace(self.closed(), held=held)

    def woken(self, by: str, from_s: float, at_s: float) -> Attention:
        """Take word of a wake word or the button; frames from `from_s` on are let in.

        What is let in already stays so, and an utterance goes on.
        """
        if self.manner.mode is not Mode.WAKE_WORD:
            return self
        earlier = self.from_s if self._lasts(at_s) else math.inf
        return replace(
            self,
            by=by,
            from_s=min(from_s, earlier),
            until_s=at_s + self.manner.listen_s,
            is_follow_up=False,
            asked=False,
            thanked=False,
        )

    def utterance_began(self) -> Attention:
        """Take word of speech that is let in."""
        return replace(self, speaking=True, thanked=False)

    def utterance_ended(self, reason: EndReason) -> Attention:
        """Take word of its end: one utterance for one word, unless it was a click."""
        if reason is EndReason.MAX_LENGTH:  # the next one follows without a gap
            return self
        after = replace(self, speaking=False)
        return after if reason is EndReason.DISCARDED else after.closed()

    def reply_began(self, turn: int) -> Attention:
        """Take word that a reply is heard."""
        after = replace(self, shutter=self.shutter.reply_began(turn))
        return after.closed() if self.is_follow_up and not self.speaking else after

    def reply_ended(self, turn: int, at_s: float, *, heard: bool) -> Attention:
        """Take word that a reply has fallen silent; go on listening for a while."""
        if turn != self.shutter.reply:
            return self
        after = replace(self, shutter=self.shutter.reply_ended(turn, at_s, self.manner.tail_s))
        wanted = heard and not self.thanked and (self.asked or not self.manner.only_questions)
        by = "asked" if self.asked else "answered"
        after = replace(after, asked=False)
        return after.follow_up(by, at_s, self.manner.follow_up_s) if wanted else after

    def confirmation_asked(self, at_s: float, within_s: float) -> Attention:
        """Take word of a question that waits for a yes: a reply that ended asked it."""
        return self.follow_up("asked", at_s, max(within_s, self.manner.follow_up_s))

    def answer(self, *, asks: bool) -> Attention:
        """Take word whether the reply under way, as far as it is known, ends in a question."""
        return replace(self, asked=asks)

    def thanks(self) -> Attention:
        """Take word that the user has said thank you: nobody needs to listen further."""
        after = replace(self, thanked=True)
        return after.closed() if self.is_follow_up and not self.speaking else after

    def stopped(self) -> Attention:
        """Take word that the user has ended the reply: it is not followed up."""
        return replace(self.closed(), thanked=True)

    def sounded(self, at_s: float, length_s: float) -> Attention:
        """Take word of a sound of our own that begins now."""
        return replace(self, shutter=self.shutter.sounded(at_s, length_s, self.manner.tail_s))

    def hushed(self, at_s: float) -> Attention:
        """Take word that all sounds were stopped; a reply goes on."""
        return replace(self, shutter=self.shutter.hushed(at_s, self.manner.tail_s))

    def _lasts(self, at_s: float) -> bool:
        return at_s >= self.from_s and (self.speaking or at_s < self.until_s)

    def follow_up(self, by: str, at_s: float, length_s: float) -> Attention:
        """Go on listening for `length_s`, if the settings want it and nobody has been called."""
        if self.manner.follow_up_s <= 0 or self.manner.mode is not Mode.WAKE_WORD:
            return self
        if self._lasts(at_s) and not self.is_follow_up:
            return self  # the word was said meanwhile
        from_s = at_s + (self.manner.tail_s if self.manner.half_duplex else 0.0)
        if self._lasts(at_s):
            return replace(self, by=by, until_s=max(self.until_s, from_s + length_s))
        return replace(self, by=by, from_s=from_s, until_s=from_s + length_s, is_follow_up=True)

    def closed(self) -> Attention:
        """Return the value in which nothing opens the gate any more but a word or the button."""
        return replace(self, by="", from_s=math.inf, until_s=NEVER, is_follow_up=False)
