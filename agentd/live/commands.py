"""What goes into the conversation and what comes out of it.

`Conversation.handle` takes one input and returns commands; the shell (`agentd.live.session`)
carries them out in order. Neither side knows more of the other than these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentd.config.settings import Settings
from agentd.events import Downlink, Event, LinkChanged, PlaybackMark, Speech
from agentd.live.failures import Failure
from agentd.live.messages import ClientMessage, ServerMessage

# ── in ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Start:
    """Begin; documents are what the store held, or None."""

    session_document: object = None
    transcript_document: object = None


@dataclass(frozen=True, slots=True)
class Connected:
    """Setup is complete on `connection`."""

    connection: int


@dataclass(frozen=True, slots=True)
class Received:
    """A frame came."""

    connection: int
    message: ServerMessage


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection or an attempt is over. Comes exactly once for every `Dial`."""

    connection: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: `Conversation.deadline` is reached. An early one does no harm."""

    unsent_bytes: int = 0  # of what was said, not yet acknowledged by the service's kernel


@dataclass(frozen=True, slots=True)
class Say:
    """The user types a turn."""

    text: str


@dataclass(frozen=True, slots=True)
class AddContext:
    """Something the model should know; it does not answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Instruct:
    """A new system instruction."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolsChanged:
    """The toolbox holds other functions than before."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Forget the conversation, here and at the service."""

    asked_by: int | None = None  # the key of the call that asks for it, if a function does


@dataclass(frozen=True, slots=True)
class Reload:
    """New settings."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class SetMute:
    """Nothing may leave the device any more, or again."""

    muted: bool


@dataclass(frozen=True, slots=True)
class CancelReply:
    """Stop speaking; `by` is told in the event."""

    by: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """Somebody has pressed the button: yes to what the model was told to ask."""


@dataclass(frozen=True, slots=True)
class Want:
    """Somebody is about to speak: be connected."""


@dataclass(frozen=True, slots=True)
class ToolDone:
    """A tool has answered, failed or run out of time."""

    key: int
    outcome: str  # answered, failed, timeout
    response: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stop:
    """End the session gracefully."""


Input = (
    Start
    | Speech
    | PlaybackMark
    | LinkChanged
    | Connected
    | Received
    | Ended
    | Tick
    | Say
    | AddContext
    | Instruct
    | ToolsChanged
    | Forget
    | Reload
    | SetMute
    | CancelReply
    | Confirm
    | Want
    | ToolDone
    | Stop
)

# ── out ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """What a connection asks for beyond the settings."""

    settings: Settings
    handle: str | None
    instruction: str
    initial_history: bool = False  # historyConfig: the first clientContent is history


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a connection; answered by `Connected` or not, and always by one `Ended`."""

    connection: int
    plan: SetupPlan


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message, behind everything sent before."""

    connection: int
    message: ClientMessage


@dataclass(frozen=True, slots=True)
class PurgeAudio:
    """Take back audio that was to be sent and has not been."""


@dataclass(frozen=True, slots=True)
class Close:
    """End a connection or an attempt: gracefully, or by dropping the transport."""

    connection: int
    graceful: bool


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand a value to the speaker's side."""

    value: Downlink


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell everyone what happened."""

    event: Event


@dataclass(frozen=True, slots=True)
class EmitInLine:
    """Tell it when all messages sent before are on their way and none sent later is."""

    event: Event


@dataclass(frozen=True, slots=True)
class StoreDocument:
    """Write a document, or delete it when it is None; tell `stored` once it is on disk."""

    name: str
    document: Mapping[str, Any] | None
    stored: Event | None = None


@dataclass(frozen=True, slots=True)
class PutAside:
    """Move a document out of the way; it is read no more, and goes when it is deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class CallTool:
    """Run a tool; answered by `ToolDone` unless cancelled."""

    key: int
    name: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CancelTool:
    """Stop a running tool."""

    key: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a request, in a few words."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The session is over; nothing more will come."""


Command = (
    Dial
    | Send
    | PurgeAudio
    | Close
    | Deliver
    | Emit
    | EmitInLine
    | StoreDocument
    | PutAside
    | CallTool
    | CancelTool
    | Outcome
    | Finished
)
