"""What `agentd status` shows of the session."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentd.live.turn import LastTurn


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A snapshot. Ages and remaining times are in seconds; None means not known or not running."""

    state: str  # a name of agentd.live.machine.State
    connected: bool
    connections: int  # set up since the start
    dials: int
    resumes: int
    fresh_sessions: int
    last_resume_ms: float | None = None
    handle_age_s: float | None = None
    go_away_in_s: float | None = None
    connected_for_s: float | None = None
    retry_in_s: float | None = None
    tokens: dict[str, int] = field(default_factory=dict)
    turns: int = 0
    last_turn: LastTurn | None = None
    bad_frames: int = 0  # could not be used, or not all of it
    unknown_frames: int = 0  # of kinds that this version does not know
    confirming: str = ""  # the function that waits for a person's yes
    late_pieces: int = 0  # reply audio of cancelled turns that was ignored
    speech_lost: int = 0
    replayed: int = 0
    trouble: str = ""  # the cause of the last failure; empty when connected
    remedy: str = ""  # what to do about it
