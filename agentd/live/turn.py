"""One exchange, and what the service's closing of it means (pure).

What the service leaves unsaid stands in `agentd.live.markers`; what is inferred of a close is this.

1. A marker settles a question only if something of its answer was heard since the question was
   asked, a function was called, or a function's result was sent, whichever was last. (On Vertex AI
   an empty turn follows the call or its result: recorded traffic, livekit/agents#3192. Elsewhere an
   empty turn is a fault of the service: googleapis/python-genai#2117, livekit/agents-js#1450.) The
   question stays open, is asked again if the connection breaks, and no moment before that is quiet.
2. Unless its `turnCompleteReason` says so: `agentd.live.failures.turn_ending` is the table. An
   answer in text alone is heard by nobody and fails (response modality is AUDIO, so it never comes
   on purpose).
3. `interactionStatus: IN_PROGRESS` and a function still at work keep the question open beyond an
   audible turn; the rest of the answer is a turn of its own. IDLE, with `turnComplete` or alone,
   ends that (google-gemini/gemini-skills#81), and then an empty rest is no failure.
4. What closes nothing is waited for: an answer that is on its way behind an empty turn has
   `EMPTY_S`, one behind a function's result `live.reply_timeout_s`, background work
   `IN_PROGRESS_S`. After that the question is asked again once, or has failed.
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


class Hearing(enum.IntEnum):
    """The most that has come of an answer, from least to most."""

    NOTHING = 0
    TEXT = 1  # text or transcription, which nobody hears
    UNPLAYABLE = 2  # sound of a type that is not played
    SOUND = 3


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
    hearing: Hearing = Hearing.NOTHING  # since the question, the last call, the last result
    unasked: bool = False  # the service speaks up by itself
    telling: bool = False  # not the user's question: a result that outlived its own
    follows: bool = False  # an earlier part of the same answer was heard
    in_progress: bool = False  # the service works in the background
    empty_at_s: float | None = None  # closed by the service without an answer
    call_closed: bool = False  # the service has closed the call's own turn; nothing has come since
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
    def heard(self) -> bool:
        """Return whether sound has come since the question, the last call or the last result."""
        return self.hearing is Hearing.SOUND

    def hears(self, what: Hearing) -> None:
        """Note that this has come of the answer."""
        self.hearing = max(self.hearing, what)

    @property
    def audible(self) -> bool:
        """Return whether some of its reply may still be at the speaker."""
        return self.reply_bytes > 0 and not self.drained and not self.cancelled

    @property
    def audio_end_s(self) -> float:
        """Estimate when the reply received so far will have been played."""
        return (self.first_audio_s or 0.0) + self.reply_ms / 1000.0


UNHEARD = {
    Hearing.NOTHING: "",
    Hearing.TEXT: NO_SOUND,
    Hearing.UNPLAYABLE: UNPLAYABLE,
    Hearing.SOUND: "",
}
"""Why nobody hears the answer that has come."""


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


class Came(enum.Enum):
    """What has come of an answer when the service closes it."""

    SOUND = "sound"
    UNHEARD = "unheard"  # only what nobody hears
    NOTHING = "nothing"
    NOT_OWED = "not owed"  # nothing, and of what nobody asked for nothing is owed


class Said(enum.Enum):
    """What the service says with it."""

    NOTHING = "nothing"
    SILENT = "silent"  # it waits for the user, by waitingForInput or by a turnCompleteReason
    FAILED = "failed"  # by a reason that is known
    DOUBTFUL = "doubtful"  # by a reason that this version does not know


_D, _C, _E = Said, Came, Settled

SETTLEMENT: dict[tuple[Said, Came], tuple[Settled, Settled]] = {
    (_D.NOTHING, _C.SOUND): (_E.ANSWERED, _E.PART),
    (_D.NOTHING, _C.UNHEARD): (_E.FAILED, _E.OPEN),
    (_D.NOTHING, _C.NOTHING): (_E.OPEN, _E.OPEN),
    (_D.NOTHING, _C.NOT_OWED): (_E.SILENT, _E.OPEN),
    (_D.SILENT, _C.SOUND): (_E.ANSWERED, _E.PART),
    (_D.SILENT, _C.UNHEARD): (_E.SILENT, _E.OPEN),
    (_D.SILENT, _C.NOTHING): (_E.SILENT, _E.OPEN),
    (_D.SILENT, _C.NOT_OWED): (_E.SILENT, _E.OPEN),
    (_D.FAILED, _C.SOUND): (_E.FAILED, _E.FAILED),
    (_D.FAILED, _C.UNHEARD): (_E.FAILED, _E.FAILED),
    (_D.FAILED, _C.NOTHING): (_E.FAILED, _E.FAILED),
    (_D.FAILED, _C.NOT_OWED): (_E.FAILED, _E.FAILED),
    (_D.DOUBTFUL, _C.SOUND): (_E.ANSWERED, _E.PART),
    (_D.DOUBTFUL, _C.UNHEARD): (_E.FAILED, _E.FAILED),
    (_D.DOUBTFUL, _C.NOTHING): (_E.FAILED, _E.FAILED),
    (_D.DOUBTFUL, _C.NOT_OWED): (_E.FAILED, _E.FAILED),
}
"""What a close means where no more of the answer follows, and where more does (rule 3)."""


def settle(turn: Turn, reason: str, *, silent: bool, more: bool) -> tuple[Settled, str]:
    """Return what the service's closing of `turn` means, and the cause of a failure.

    Args:
        reason: its turnCompleteReason.
        silent: the model says that it waits for the user (waitingForInput).
        more: the service works in the background, or a function that the answer waits for does.
    """
    ending, cause = turn_ending(reason)
    if ending is Ending.FAILED:
        said = Said.FAILED if is_known_reason(reason) else Said.DOUBTFUL
    else:
        said = Said.SILENT if silent or ending is Ending.SILENT else Said.NOTHING
    settled = SETTLEMENT[said, came_of(turn)][more]
    if settled is not Settled.FAILED:
        return settled, ""
    return settled, UNHEARD[turn.hearing] if said is Said.NOTHING else cause


def came_of(turn: Turn) -> Came:
    """Return what has come of an answer until now."""
    if turn.heard:
        return Came.SOUND
    if turn.hearing:
        return Came.UNHEARD
    return Came.NOT_OWED if (turn.follows or turn.unasked) and not turn.owed else Came.NOTHING
