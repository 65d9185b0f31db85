"""One exchange, and what the service's closing of it means (pure).

What the service leaves unsaid, and how the rest is inferred, stands in `agentd.live.turns`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agentd.live.failures import Ending, is_known_reason, turn_ending
from agentd.live.messages import DOWNLINK_BYTES_PER_MS

NO_ANSWER = "no answer came"
UNPLAYABLE = "the answer came as sound that cannot be played"
NO_SOUND = "the answer came as text, without sound"
TOO_MANY_CALLS = "the model called functions without end"


@dataclass(slots=True, eq=False)
class Turn:
    """One exchange."""

    number: int
    utterance: int = 0  # the last one of the question, as in TurnFailed
    unrepeatable: bool = False  # the question has become too old to be asked again
    speech_ms: float = 0.0
    spoken_until_s: float | None = None  # end of the user's speech at the gate
    asked_at_s: float | None = None  # delivered whole, or a function's result was sent
    frames: bool = False  # any frame has come since
    life_s: float | None = None  # the last sign of life that belongs to it
    content: bool = False  # it has begun to answer
    heard: bool = False  # audio since the question, the last call, the last result
    written: bool = False  # text or transcription since then
    unplayable: bool = False  # sound of a type that is not played
    unasked: bool = False  # the service speaks up by itself
    telling: bool = False  # not the user's question: a result that outlived its own
    follows: bool = False  # an earlier part of the same answer was heard
    in_progress: bool = False  # the service works in the background
    empty_at_s: float | None = None  # closed by the service without an answer
    called: bool = False  # a function was called for it
    owed: bool = False  # the model has yet to speak of a function's result
    stopped: bool = False  # by the user or by a bound: its functions are not run any more
    reason: str = ""  # turnCompleteReason
    failure: str = ""  # why it has failed, told once it has been played out
    lost: bool = False  # it has failed with its connection: the results of its functions are kept
    first_audio_s: float | None = None
    reply_bytes: int = 0
    heard_ms: float = 0.0
    generation_complete: bool = False
    complete_told: bool = False  # ReplyComplete was delivered
    server_done_s: float | None = None
    drained: bool = False
    cancelled: bool = False
    tokens: tuple[int, int] = (0, 0)
    user_text: str = ""
    model_text: str = ""

    @property
    def reply_ms(self) -> float:
        """Return how much reply has been received."""
        return self.reply_bytes / DOWNLINK_BYTES_PER_MS

    @property
    def unheard(self) -> str:
        """Return why nobody hears the answer that has come, or nothing."""
        if self.unplayable:
            return UNPLAYABLE
        return NO_SOUND if self.written else ""

    @property
    def audible(self) -> bool:
        """Return whether some of its reply may still be at the speaker."""
        return self.reply_bytes > 0 and not self.drained and not self.cancelled

    @property
    def audio_end_s(self) -> float:
        """Estimate when the reply received so far will have been played."""
        return (self.first_audio_s or 0.0) + self.reply_ms / 1000.0


@dataclass(frozen=True, slots=True)
class LastTurn:
    """The figures of the turn that ended last; `first_audio_ms` is None where no answer came."""

    turn: int
    speech_ms: float
    first_audio_ms: float | None
    reply_ms: float
    heard_ms: float
    interrupted: bool
    turn_complete_reason: str = ""


class Settled(enum.Enum):
    """What the end of a turn at the service means for the question."""

    OPEN = "open"  # nothing: the answer is still to come
    PART = "part"  # something was heard, more follows
    ANSWERED = "answered"
    SILENT = "silent"  # the model has nothing (more) to say, by its own word
    FAILED = "failed"


def settle(
    turn: Turn, reason: str, *, silent: bool, in_progress: bool, held_up: bool
) -> tuple[Settled, str]:
    """Return what the service's closing of `turn` means, and the cause of a failure.

    Args:
        reason: its turnCompleteReason.
        silent: the model says that it waits for the user (waitingForInput).
        in_progress: the service says that more of the answer follows.
        held_up: a function that the answer waits for is at work.
    """
    ending, cause = turn_ending(reason)
    if ending is Ending.FAILED and (is_known_reason(reason) or not turn.heard):
        return Settled.FAILED, cause
    if turn.heard:
        return (Settled.PART if in_progress or held_up else Settled.ANSWERED), ""
    if in_progress or held_up:
        return Settled.OPEN, ""
    if silent or ending is Ending.SILENT:
        return Settled.SILENT, ""
    if turn.unheard:
        return Settled.FAILED, turn.unheard
    # of what nobody asked for nothing is owed
    nothing_owed = (turn.follows or turn.unasked) and not turn.owed
    return (Settled.SILENT if nothing_owed else Settled.OPEN), ""
