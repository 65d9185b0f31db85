"""The states of the Live session as a table.

                    ┌────────────────────────── LOST ──────────────────────────┐
                    ▼                                                          │
    OFF ─START─► WAITING ─DIAL─► DIALING ─READY─► LIVE ─LEAVE─► LEAVING        │
                  ▲ ▲              │  │             │              │           │
                  │ └──── LOST ────┘  └─REFUSE─►    └──┬─SWITCH────┘           │
                  │                    REFUSED         ▼                       │
                  └───────── LOST ──────────────── SWITCHING ──────────────────┘
                  │
                  └─WANT─ RELEASED ◄─LOST─ RELEASING ◄─RELEASE─ LIVE

    STOP leads from everywhere to STOPPING (a connection is being closed) or STOPPED.

WAITING    no connection; a timer, the network or somebody speaking starts the next dial
DIALING    handshake and setup under way
LIVE       setupComplete has come
LEAVING    live, but this connection will be given up at the next quiet moment
SWITCHING  our close is under way; then dial at once. Close first, then resume: a resume beside
           the old socket is refused with 1011.
RELEASING  our close is under way; then rest until somebody speaks
RELEASED   no connection, on purpose
REFUSED    a person must fix something; a long timer or a reload starts the next dial
"""

from __future__ import annotations

import enum

from agentd.errors import LiveError
from agentd.events import SessionMoved
from agentd.live.outputs import Outputs


class State(enum.Enum):
    """Where the session stands."""

    OFF = "off"
    WAITING = "waiting"
    DIALING = "dialing"
    LIVE = "live"
    LEAVING = "leaving"
    SWITCHING = "switching"
    RELEASING = "releasing"
    RELEASED = "released"
    REFUSED = "refused"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Move(enum.Enum):
    """What moves it."""

    START = "start"
    DIAL = "dial"  # now is the time to dial
    READY = "ready"  # setupComplete
    LOST = "lost"  # the connection, or the attempt, has ended
    REFUSE = "refuse"  # it has ended and a person must act
    LEAVE = "leave"  # give this connection up when it is quiet
    SWITCH = "switch"  # give it up now
    RELEASE = "release"  # nobody has spoken for long
    WANT = "want"  # somebody speaks while released
    STOP = "stop"


class Action(enum.Enum):
    """What the conversation does on a move."""

    NONE = "none"
    AWAIT = "await"  # schedule the next dial
    DIAL = "dial"
    OPEN = "open"  # the uplink may send
    CLOSE = "close"  # close the connection that there is
    REST = "rest"  # no dial is scheduled
    FINISH = "finish"


_S, _M, _A = State, Move, Action

TRANSITIONS: dict[tuple[State, Move], tuple[State, Action]] = {
    (_S.OFF, _M.START): (_S.WAITING, _A.AWAIT),
    (_S.OFF, _M.STOP): (_S.STOPPED, _A.FINISH),
    (_S.WAITING, _M.DIAL): (_S.DIALING, _A.DIAL),
    (_S.WAITING, _M.STOP): (_S.STOPPED, _A.FINISH),
    (_S.DIALING, _M.READY): (_S.LIVE, _A.OPEN),
    (_S.DIALING, _M.LOST): (_S.WAITING, _A.AWAIT),
    (_S.DIALING, _M.REFUSE): (_S.REFUSED, _A.AWAIT),
    (_S.DIALING, _M.SWITCH): (_S.SWITCHING, _A.CLOSE),
    (_S.DIALING, _M.STOP): (_S.STOPPING, _A.CLOSE),
    (_S.LIVE, _M.LEAVE): (_S.LEAVING, _A.NONE),
    (_S.LIVE, _M.SWITCH): (_S.SWITCHING, _A.CLOSE),
    (_S.LIVE, _M.RELEASE): (_S.RELEASING, _A.CLOSE),
    (_S.LIVE, _M.LOST): (_S.WAITING, _A.AWAIT),
    (_S.LIVE, _M.REFUSE): (_S.REFUSED, _A.AWAIT),
    (_S.LIVE, _M.STOP): (_S.STOPPING, _A.CLOSE),
    (_S.LEAVING, _M.LEAVE): (_S.LEAVING, _A.NONE),
    (_S.LEAVING, _M.SWITCH): (_S.SWITCHING, _A.CLOSE),
    (_S.LEAVING, _M.LOST): (_S.WAITING, _A.AWAIT),
    (_S.LEAVING, _M.REFUSE): (_S.REFUSED, _A.AWAIT),
    (_S.LEAVING, _M.STOP): (_S.STOPPING, _A.CLOSE),
    (_S.SWITCHING, _M.LOST): (_S.WAITING, _A.AWAIT),
    (_S.SWITCHING, _M.STOP): (_S.STOPPING, _A.NONE),
    (_S.RELEASING, _M.LOST): (_S.RELEASED, _A.REST),
    (_S.RELEASING, _M.WANT): (_S.SWITCHING, _A.NONE),
    (_S.RELEASING, _M.STOP): (_S.STOPPING, _A.NONE),
    (_S.RELEASED, _M.WANT): (_S.WAITING, _A.AWAIT),
    (_S.RELEASED, _M.STOP): (_S.STOPPED, _A.FINISH),
    (_S.REFUSED, _M.DIAL): (_S.DIALING, _A.DIAL),
    (_S.REFUSED, _M.STOP): (_S.STOPPED, _A.FINISH),
    (_S.STOPPING, _M.LOST): (_S.STOPPED, _A.FINISH),
}

CONNECTED = frozenset({State.LIVE, State.LEAVING})
CLOSING = frozenset({State.SWITCHING, State.RELEASING, State.STOPPING})
HOLDING = frozenset(  # a connection or an attempt exists
    {State.DIALING, State.LIVE, State.LEAVING, State.SWITCHING, State.RELEASING, State.STOPPING}
)


class IllegalMove(LiveError):
    """A move that the table does not know in this state; nothing has changed."""


class Machine:
    """Holds the state, and reports every change once, after it has happened."""

    def __init__(self, out: Outputs) -> None:
        self._state = State.OFF
        self._out = out

    @property
    def state(self) -> State:
        """Return the present state."""
        return self._state

    def can(self, move: Move) -> bool:
        """Return whether the table knows `move` in this state."""
        return (self._state, move) in TRANSITIONS

    def move(self, move: Move) -> Action:
        """Go on by `move` and return what is to be done.

        Raises:
            IllegalMove: the table does not know it; the state is unchanged.
        """
        try:
            after, action = TRANSITIONS[self._state, move]
        except KeyError:
            raise IllegalMove(f"no move {move.value} in state {self._state.value}") from None
        before, self._state = self._state, after
        if after is not before:
            moved = SessionMoved(before=before.value, move=move.value, after=after.value)
            self._out.emit(moved)
        return action
