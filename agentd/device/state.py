"""What the device is doing, derived from facts: the one truth behind lights, sounds and status.

    event ──► Facts.after(event, now) ──► Facts ──► derive(facts, now) ──► Derived

Facts only remember; `LADDER` decides. It is read from the top and the first row that applies wins:

    listening   audio is leaving the device. Above everything, without exception
    fatal       a person must fix something: no microphone, no speaker, refused key, bad config
    volume      the volume was changed in the last 2 s
    muted       the microphone is closed
    ringing     a timer or alarm
    offline     no connection for more than 2 s
    failed      no answer came, or speech was lost; shown for at least 1 s
    thinking    the model's answer is awaited
    speaking    a reply is at the speaker
    follow_up   just answered or called, or asked whether to do something: go on talking
    starting    not ready yet, or connecting for the first time
    idle        nothing of the above

The privacy rule is why *listening* stands on top: audio leaves the device only while it shows
listening. Muting closes the microphone, yet the last syllables before it may still be on their way,
and speech from before an outage is sent again after it; a light that said "muted" then would lie.
So the state is listening exactly while the uplink is open, and nothing else ends it: a deadline
that hid an open uplink would be a lie as well.

Every other state that a turn reaches carries a deadline, so that a lost event cannot freeze it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentd.device.facts import RINGING_MAX_S, Facts

OFFLINE_AFTER_S = 2.0  # a switch of connections takes less and is nobody's concern
FIRST_CONNECTION_S = 10.0  # after boot the network may take its time; that is still starting

NEVER = math.inf
ALWAYS = -math.inf

__all__ = ["LADDER", "Derived", "DeviceState", "Facts", "Span", "derive", "offline_cause"]


class DeviceState(enum.Enum):
    """What a household sees; the names are part of `agentd status --json`."""

    LISTENING = "listening"
    FATAL = "fatal"
    VOLUME = "volume"
    MUTED = "muted"
    RINGING = "ringing"
    OFFLINE = "offline"
    FAILED = "failed"
    THINKING = "thinking"
    SPEAKING = "speaking"
    FOLLOW_UP = "follow_up"
    STARTING = "starting"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Derived:
    """The state, why (a stable short name), and when to look again if nothing happens before."""

    state: DeviceState
    cause: str
    until: float | None


# ── facts to state ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Span:
    """A row of the ladder applies from `start_s` until `end_s` for this cause."""

    cause: str
    start_s: float = ALWAYS
    end_s: float = NEVER


def _listening(facts: Facts) -> Span | None:
    return Span("speech") if facts.uplink else None


def _fatal(facts: Facts) -> Span | None:
    faults = (
        ("config", facts.bad_config),
        ("no_microphone", facts.no_microphone),
        ("refused", facts.refused),
        ("no_speaker", facts.no_speaker),
    )
    return next((Span(cause) for cause, present in faults if present), None)


def _volume_changed(facts: Facts) -> Span:
    return Span("volume", end_s=facts.volume_until_s)


def _muted_span(facts: Facts) -> Span | None:
    return Span(f"by_{facts.muted_by}") if facts.muted else None


def _rings(facts: Facts) -> Span | None:
    since = facts.ringing_since_s
    return None if since is None else Span("ringing", end_s=since + RINGING_MAX_S)


def offline_cause(facts: Facts) -> str:
    """Return why there is no connection: no_network, quota or reconnecting."""
    if facts.link_down_since_s is not None:
        return "no_network"
    return "quota" if facts.quota else "reconnecting"


def _offline(facts: Facts) -> Span | None:
    since = facts.missing_since_s
    if since is None:
        return None
    patience_s = OFFLINE_AFTER_S if facts.ever_connected else FIRST_CONNECTION_S
    return Span(offline_cause(facts), start_s=since + patience_s)


def _failed_span(facts: Facts) -> Span | None:
    failure = facts.failure
    return None if failure is None else Span(failure.cause, end_s=failure.until_s)


def _thinking(facts: Facts) -> Span | None:
    return None if facts.thinking is None else Span("turn", end_s=facts.thinking.until_s)


def _speaking(facts: Facts) -> Span | None:
    return None if facts.speaking is None else Span("reply", end_s=facts.speaking.until_s)


def _follow_up(facts: Facts) -> Span:
    if facts.confirm_until_s > facts.follow_up_until_s:
        return Span("confirmation", end_s=facts.confirm_until_s)
    return Span(facts.follow_up_by, end_s=facts.follow_up_until_s)


def _starting(facts: Facts) -> Span | None:
    if not facts.ready:
        return Span("starting")
    first = not facts.ever_connected and facts.missing_since_s is not None
    return Span("first_connection") if first else None


def _idle(facts: Facts) -> Span:
    return Span("quiet" if facts.connection is not None else "released")


LADDER: tuple[tuple[DeviceState, Callable[[Facts], Span | None]], ...] = (
    (DeviceState.LISTENING, _listening),
    (DeviceState.FATAL, _fatal),
    (DeviceState.VOLUME, _volume_changed),
    (DeviceState.MUTED, _muted_span),
    (DeviceState.RINGING, _rings),
    (DeviceState.OFFLINE, _offline),
    (DeviceState.FAILED, _failed_span),
    (DeviceState.THINKING, _thinking),
    (DeviceState.SPEAKING, _speaking),
    (DeviceState.FOLLOW_UP, _follow_up),
    (DeviceState.STARTING, _starting),
    (DeviceState.IDLE, _idle),
)


def derive(facts: Facts, now: float) -> Derived:
    """Return the state at `now`; it holds until `until` unless an event comes before."""
    claims = list(_claims(facts))
    rank = next(i for i, (_, span) in enumerate(claims) if span.start_s <= now < span.end_s)
    state, span = claims[rank]
    higher = (above.start_s for _, above in claims[:rank] if above.start_s > now)
    soonest = min((span.end_s, *higher))
    return Derived(state, span.cause, None if soonest == NEVER else soonest)


def _claims(facts: Facts) -> Iterator[tuple[DeviceState, Span]]:
    for state, row in LADDER:
        if facts.stopping and state not in _SHOWN_WHILE_STOPPING:
            continue
        span = row(facts)
        if span is not None:
            yield state, span


# Going down, the lights go off; only what leaves the device is still told.
_SHOWN_WHILE_STOPPING = (DeviceState.LISTENING, DeviceState.IDLE)
