"""What a marker of the service means, as a table (pure).

What the service does not say. None of its markers names the question it belongs to: there is no
turn id in `BidiGenerateContentServerContent`. `turnComplete` comes for an answer, for an answer
that was broken off, for the model's own function call (Vertex AI, before the result or after it),
for an input that was ignored, and for nothing at all. `generationComplete` means that no more audio
will come, but is sent for empty turns as well; `turnComplete` follows when the service thinks that
the reply has been played, seconds later; the speaker has its own opinion (`PlaybackMark`).
`interrupted` may come before any audio, after generationComplete, or after turnComplete. So what a
marker means is inferred from what came before it, from who has the `Floor`:

              asked                content                 sound, text
    QUIET ──────────────► ASKED ─────────────► THINKING ─────────────► SPEAKING
      ▲                   ▲   ▲ ◄──────────── call, result ────────────── │ │
      │ closed            │   └───────────── closed in part ──────────────┘ │
      │                   │ closed, or content                 interrupted, │
    CLOSING ──asked──► OVERLAP          asked ┌──► LATE ◄─── barge-in ──────┘
      ▲                   ▲                   └──────┘ │
      └───────────────────┴────── generated ───────────┘

QUIET     nothing is asked and nothing is owed by the service
ASKED     a question is out and nothing of its answer has come
THINKING  something has come, but nothing to be heard since the question, the last call or result
SPEAKING  sound has come since then, or what should have been sound
CLOSING   the turn before is over for us; its `turnComplete` is still to come
OVERLAP   likewise, and the next question is out
LATE      what still comes of the turn before is ignored, and then its end; whether or not the next
          question is out

`MEANING` has a row for each of these with each marker: what is done, where it can lead, and where
that is known from. `settle` is the table of what the closing of an answer means.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agentd.live.messages import Interaction, ServerMessage


class Floor(enum.Enum):
    """Who has the floor, as seen from here."""

    QUIET = "quiet"
    ASKED = "asked"
    THINKING = "thinking"
    SPEAKING = "speaking"
    CLOSING = "closing"
    OVERLAP = "overlap"
    LATE = "late"


class Marker(enum.Enum):
    """What the service says of a turn, beside its content; in the order in which it is taken."""

    INTERRUPTED = "interrupted"
    STATUS = "interactionStatus"
    GENERATED = "generationComplete"
    CLOSED = "turnComplete"
    CLOSED_BECAUSE = "turnComplete with a turnCompleteReason"
    IDLE = "interactionStatus IDLE without turnComplete"
    WAITING = "waitingForInput without turnComplete"


class Act(enum.Enum):
    """What follows from a marker."""

    IGNORE = "ignore"
    SILENCE = "silence"  # the speaker, if it plays; nothing that is asked is concerned
    BREAK_OFF = "break off"  # the answer is over, and what still comes of it is ignored
    NOTE_STATUS = "note status"
    LIVE_ON = "live on"  # a sign of life, and no more
    ALL_SENT = "all sent"  # of this answer no more will come
    SETTLE = "settle"  # see `agentd.live.turn.settle`
    NOTHING_TO_SAY = "nothing to say"
    OLD_ALL_SENT = "old all sent"  # of the turn before nothing but its close is to come
    OLD_CLOSED = "old closed"  # the turn before is closed


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row: what to do, where it can lead, and where that is known from."""

    act: Act
    after: frozenset[Floor]
    source: str


_S, _M, _A = Floor, Marker, Act

NO_TURN_ID = "no turn id in the server's messages (Live API reference, BidiGenerateContent)"
OUR_CANCEL = "the service reports in its own time what was spoken over here (guide, Interruptions)"
LATE_CLOSE = "after a barge-in the old turn is still closed, and that close is not the new one's"
EMPTY = (
    "empty turns follow a call or its result (livekit/agents#3192, googleapis/python-genai#2117)"
)
REASONED = "a turnCompleteReason is about the newest input (Live API reference, TurnCompleteReason)"
PHANTOM = "`interrupted` comes without any audio as well (observed; livekit/agents-js#1450)"
IN_WORK = "turnComplete no longer means idle (google-gemini/gemini-skills#81)"
PROACTIVE = "waitingForInput: nothing is generated until the user says more (Live API reference)"
NOT_PLAYED = "generationComplete precedes turnComplete by the time of playing (guide, Live API)"


def _rows(
    floor: Floor, act: Act, after: str, source: str, *markers: Marker
) -> dict[tuple[Floor, Marker], Meaning]:
    floors = frozenset(Floor(name) for name in after.split())
    return {(floor, marker): Meaning(act, floors, source) for marker in markers}


MEANING: dict[tuple[Floor, Marker], Meaning] = {
    # nobody has asked
    **_rows(_S.QUIET, _A.SILENCE, "quiet", PHANTOM, _M.INTERRUPTED),
    **_rows(
        *(_S.QUIET, _A.IGNORE, "quiet", NO_TURN_ID),
        *(_M.STATUS, _M.GENERATED, _M.CLOSED, _M.CLOSED_BECAUSE, _M.IDLE, _M.WAITING),
    ),
    # nothing of the answer has come
    **_rows(_S.ASKED, _A.SILENCE, "asked", PHANTOM, _M.INTERRUPTED),
    **_rows(_S.ASKED, _A.NOTE_STATUS, "asked", IN_WORK, _M.STATUS),
    **_rows(_S.ASKED, _A.LIVE_ON, "asked", EMPTY, _M.GENERATED),
    **_rows(_S.ASKED, _A.SETTLE, "asked quiet", EMPTY, _M.CLOSED, _M.CLOSED_BECAUSE),
    **_rows(_S.ASKED, _A.SETTLE, "asked closing", IN_WORK, _M.IDLE),
    **_rows(_S.ASKED, _A.NOTHING_TO_SAY, "closing", PROACTIVE, _M.WAITING),
    # something has come, nothing to be heard
    **_rows(_S.THINKING, _A.BREAK_OFF, "late", OUR_CANCEL, _M.INTERRUPTED),
    **_rows(_S.THINKING, _A.NOTE_STATUS, "thinking", IN_WORK, _M.STATUS),
    **_rows(_S.THINKING, _A.LIVE_ON, "thinking", EMPTY, _M.GENERATED),
    **_rows(_S.THINKING, _A.SETTLE, "thinking quiet", EMPTY, _M.CLOSED, _M.CLOSED_BECAUSE),
    **_rows(_S.THINKING, _A.SETTLE, "thinking closing", IN_WORK, _M.IDLE),
    **_rows(_S.THINKING, _A.IGNORE, "thinking", PROACTIVE, _M.WAITING),
    # it is being answered
    **_rows(_S.SPEAKING, _A.BREAK_OFF, "late closing", OUR_CANCEL, _M.INTERRUPTED),
    **_rows(_S.SPEAKING, _A.NOTE_STATUS, "speaking", IN_WORK, _M.STATUS),
    **_rows(_S.SPEAKING, _A.ALL_SENT, "speaking", NOT_PLAYED, _M.GENERATED),
    **_rows(_S.SPEAKING, _A.SETTLE, "speaking asked quiet", IN_WORK, _M.CLOSED, _M.CLOSED_BECAUSE),
    **_rows(_S.SPEAKING, _A.SETTLE, "speaking asked closing", IN_WORK, _M.IDLE),
    **_rows(_S.SPEAKING, _A.IGNORE, "speaking", PROACTIVE, _M.WAITING),
    # the close of the turn before is due
    **_rows(
        *(_S.CLOSING, _A.IGNORE, "closing", OUR_CANCEL),
        *(_M.INTERRUPTED, _M.STATUS, _M.GENERATED, _M.WAITING),
    ),
    **_rows(
        *(_S.CLOSING, _A.OLD_CLOSED, "quiet", LATE_CLOSE),
        *(_M.CLOSED, _M.CLOSED_BECAUSE, _M.IDLE),
    ),
    **_rows(
        *(_S.OVERLAP, _A.IGNORE, "overlap", OUR_CANCEL),
        *(_M.INTERRUPTED, _M.STATUS, _M.GENERATED, _M.WAITING),
    ),
    **_rows(_S.OVERLAP, _A.OLD_CLOSED, "asked", LATE_CLOSE, _M.CLOSED, _M.IDLE),
    **_rows(_S.OVERLAP, _A.SETTLE, "overlap closing", REASONED, _M.CLOSED_BECAUSE),
    # more than its close is due
    **_rows(_S.LATE, _A.IGNORE, "late", OUR_CANCEL, _M.INTERRUPTED, _M.STATUS, _M.WAITING),
    **_rows(_S.LATE, _A.OLD_ALL_SENT, "closing overlap", OUR_CANCEL, _M.GENERATED),
    **_rows(
        *(_S.LATE, _A.OLD_CLOSED, "quiet asked", LATE_CLOSE),
        *(_M.CLOSED, _M.CLOSED_BECAUSE, _M.IDLE),
    ),
}


def markers_of(message: ServerMessage) -> list[Marker]:
    """Return the markers that a frame carries, in the order in which they are taken."""
    found = []
    if message.interrupted:
        found.append(Marker.INTERRUPTED)
    if message.interaction is not Interaction.UNSAID:
        found.append(Marker.STATUS)
    if message.generation_complete:
        found.append(Marker.GENERATED)
    idle = message.interaction is Interaction.IDLE
    if message.turn_complete or idle:
        plain = Marker.CLOSED if message.turn_complete else Marker.IDLE
        found.append(Marker.CLOSED_BECAUSE if message.turn_complete_reason else plain)
    elif message.waiting_for_input:
        found.append(Marker.WAITING)
    return found
