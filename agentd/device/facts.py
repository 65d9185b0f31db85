"""What is known about the device: every event folded into one frozen value.

Facts only remember. Which of them shows is decided in `agentd.device.state`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agentd import events as e

VOLUME_S = 2.0
FAILED_S = 1.6  # two pulses
FAILED_MIN_S = 1.0  # a failure that was seen for less is shown again after what hid it
THINKING_MAX_S = 30.0
WORK_MAX_S = 150.0  # the longest tools.timeout_s or silence in background work, and some
SPEAKING_MAX_S = 900.0  # no reply is longer
FOLLOW_UP_S = 8.0
CALLED_MAX_S = 60.0  # somebody speaks, and there is no connection yet
RINGING_MAX_S = 900.0  # an alarm in an empty house ends by itself

LONG_AGO = -math.inf


@dataclass(frozen=True, slots=True)
class PastFailure:
    """Something went wrong once and is over."""

    cause: str
    at_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of a turn that ends by an event, or by its deadline if that is lost."""

    turn: int
    since_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the device state depends on. Times are monotonic seconds."""

    ready: bool = False
    stopping: bool = False
    bad_config: bool = False  # refused at the start; a refused reload leaves the old one in force
    no_microphone: str = ""  # why, empty when it works
    no_speaker: str = ""
    refused: str = ""  # why there is no connection until a person acts
    trouble: str = ""  # why the last connection or attempt ended, while there is none
    muted_by: str = ""
    uplink: frozenset[int] = frozenset()  # utterances that are leaving the device
    uplink_since_s: float = 0.0
    connection: int | None = None  # the newest one that was set up and has not ended
    ever_connected: bool = False
    waiting_since_s: float | None = None  # wants a connection and has none
    link_down_since_s: float | None = None
    quota: bool = False
    volume_percent: int | None = None
    volume_until_s: float = LONG_AGO
    ringing_since_s: float | None = None
    failure: PastFailure | None = None
    thinking: Spell | None = None
    speaking: Spell | None = None
    follow_up_until_s: float = LONG_AGO
    follow_up_by: str = "answered"
    opens_by_word: bool = False  # the gate is open only for a while, and announced when
    confirm_until_s: float = LONG_AGO  # a question has been heard that the button can answer

    def confirms(self, now: float) -> bool:
        """Return whether the button means yes now."""
        return now < self.confirm_until_s

    @property
    def missing_since_s(self) -> float | None:
        """Return since when a connection is wanted, or impossible, and not there."""
        if self.connection is not None:
            return None
        known = (self.waiting_since_s, self.link_down_since_s)
        return min((since for since in known if since is not None), default=None)

    @property
    def muted(self) -> bool:
        """Return whether the microphone is closed on purpose."""
        return bool(self.muted_by)

    def after(self, event: e.Event, now: float) -> Facts:
        """Return the facts once `event` has happened; an event without a rule changes none."""
        rule = _RULES.get(type(event))
        return self if rule is None else rule(self, event, now)


# ── the rules ─────────────────────────────────────────────────────────────────────────────────

_Rule = TypeVar("_Rule", bound=Callable[[Facts, Any, float], Facts])
_RULES: dict[type[e.Event], Callable[[Facts, Any, float], Facts]] = {}


def _on(*kinds: type[e.Event]) -> Callable[[_Rule], _Rule]:
    def register(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


@_on(e.Ready)
def _ready(facts: Facts, _event: e.Ready, _now: float) -> Facts:
    return replace(facts, ready=True, bad_config=False)


@_on(e.Stopping)
def _stopping(facts: Facts, _event: e.Stopping, _now: float) -> Facts:
    return replace(facts, stopping=True)


@_on(e.ConfigRefused)
def _config_refused(facts: Facts, _event: e.ConfigRefused, now: float) -> Facts:
    return _failed(facts, "config", now) if facts.ready else replace(facts, bad_config=True)


@_on(e.Reloaded)
def _reloaded(facts: Facts, _event: e.Reloaded, _now: float) -> Facts:
    return replace(facts, bad_config=False, refused="")


@_on(e.CaptureLost)
def _capture_lost(facts: Facts, event: e.CaptureLost, _now: float) -> Facts:
    return replace(facts, no_microphone=event.cause or "lost")


@_on(e.CaptureBack)
def _capture_back(facts: Facts, _event: e.CaptureBack, _now: float) -> Facts:
    return replace(facts, no_microphone="")


@_on(e.PlaybackLost)
def _playback_lost(facts: Facts, event: e.PlaybackLost, _now: float) -> Facts:
    return replace(facts, no_speaker=event.cause or "lost", speaking=None)


@_on(e.PlaybackBack)
def _playback_back(facts: Facts, _event: e.PlaybackBack, _now: float) -> Facts:
    return replace(facts, no_speaker="")


@_on(e.Muted)
def _muted(facts: Facts, event: e.Muted, _now: float) -> Facts:
    return replace(facts, muted_by=event.by or "somebody")


@_on(e.Unmuted)
def _unmuted(facts: Facts, _event: e.Unmuted, _now: float) -> Facts:
    return replace(facts, muted_by="")


@_on(e.VolumeChanged)
def _volume(facts: Facts, event: e.VolumeChanged, now: float) -> Facts:
    return replace(facts, volume_percent=event.percent, volume_until_s=now + VOLUME_S)


@_on(e.Ringing)
def _ringing(facts: Facts, _event: e.Ringing, now: float) -> Facts:
    return replace(facts, ringing_since_s=now)


@_on(e.RingEnded)
def _ring_ended(facts: Facts, _event: e.RingEnded, _now: float) -> Facts:
    return replace(facts, ringing_since_s=None)


@_on(e.UplinkOpened)
def _uplink_opened(facts: Facts, event: e.UplinkOpened, now: float) -> Facts:
    since = facts.uplink_since_s if facts.uplink else now
    return replace(
        facts,
        uplink=facts.uplink | {event.utterance},
        uplink_since_s=since,
        follow_up_until_s=LONG_AGO,
    )


@_on(e.UplinkClosed)
def _uplink_closed(facts: Facts, event: e.UplinkClosed, now: float) -> Facts:
    remaining = facts.uplink - {event.utterance}
    failure = facts.failure
    if failure is not None and facts.uplink and not remaining:
        seen_s = facts.uplink_since_s - failure.at_s
        if seen_s < FAILED_MIN_S:
            failure = replace(failure, at_s=now, until_s=now + FAILED_S)
    return replace(facts, uplink=remaining, failure=failure)


@_on(e.TurnStarted)
def _turn_started(facts: Facts, event: e.TurnStarted, now: float) -> Facts:
    thinking = Spell(event.turn, now, now + THINKING_MAX_S)
    return replace(facts, thinking=thinking, follow_up_until_s=LONG_AGO)


@_on(e.ToolStarted, e.TurnInProgress)
def _works_on(facts: Facts, event: e.ToolStarted | e.TurnInProgress, now: float) -> Facts:
    # both have deadlines of their own, up to two minutes; their ends are events as well
    return replace(facts, thinking=Spell(event.turn, now, now + WORK_MAX_S))


@_on(e.ToolCalled)
def _tool_called(facts: Facts, _event: e.ToolCalled, now: float) -> Facts:
    thinking, speaking = facts.thinking, facts.speaking
    if thinking is None:
        return facts
    if speaking is not None and speaking.turn >= thinking.turn:
        return replace(facts, thinking=None)  # the reply that it has held up goes on
    return replace(facts, thinking=replace(thinking, until_s=now + THINKING_MAX_S))


@_on(e.ConfirmationAsked)
def _confirmation_asked(facts: Facts, event: e.ConfirmationAsked, now: float) -> Facts:
    return replace(facts, confirm_until_s=now + event.within_s)


@_on(e.Confirmed, e.ConfirmationLapsed)
def _confirmation_over(
    facts: Facts, _event: e.Confirmed | e.ConfirmationLapsed, _now: float
) -> Facts:
    return replace(facts, confirm_until_s=LONG_AGO)


@_on(e.ReplyStarted)
def _reply_started(facts: Facts, event: e.ReplyStarted, now: float) -> Facts:
    return replace(
        facts,
        thinking=_unless_over(facts.thinking, event.turn),
        speaking=Spell(event.turn, now, now + SPEAKING_MAX_S),
        follow_up_until_s=LONG_AGO,
    )


@_on(e.AttentionChanged)
def _attention(facts: Facts, event: e.AttentionChanged, now: float) -> Facts:
    """Follow what attention announces; where the gate is always open, replies are followed up."""
    if event.stance == "open" and event.reason == "open":
        return replace(facts, opens_by_word=False)
    if event.stance in ("open", "follow_up"):
        until = now + (event.for_s or CALLED_MAX_S)
        return replace(
            facts, opens_by_word=True, follow_up_until_s=until, follow_up_by=event.reason
        )
    if event.stance == "asleep" and event.reason in ("wake-word", "deaf"):
        return replace(facts, opens_by_word=True, follow_up_until_s=LONG_AGO)
    return facts


@_on(e.ReplyDrained)
def _reply_drained(facts: Facts, event: e.ReplyDrained, now: float) -> Facts:
    speaking = _unless_over(facts.speaking, event.turn)
    if facts.speaking is None or speaking is not None:
        return facts
    if facts.opens_by_word:
        return replace(facts, speaking=None)
    follow_up = now + FOLLOW_UP_S if event.heard_ms > 0 else LONG_AGO
    return replace(facts, speaking=None, follow_up_until_s=follow_up, follow_up_by="answered")


@_on(e.TurnEnded)
def _turn_ended(facts: Facts, event: e.TurnEnded, _now: float) -> Facts:
    # Not `speaking`: only the speaker knows when it has fallen silent.
    return replace(facts, thinking=_unless_over(facts.thinking, event.turn))


@_on(e.Interrupted)
def _interrupted(facts: Facts, event: e.Interrupted, _now: float) -> Facts:
    return replace(
        facts,
        thinking=_unless_over(facts.thinking, event.turn),
        speaking=_unless_over(facts.speaking, event.turn),
    )


@_on(e.TurnFailed)
def _turn_failed(facts: Facts, event: e.TurnFailed, now: float) -> Facts:
    over = replace(facts, thinking=_unless_over(facts.thinking, event.turn))
    return _failed(over, "no_answer", now)


@_on(e.SpeechLost)
def _speech_lost(facts: Facts, _event: e.SpeechLost, now: float) -> Facts:
    return _failed(facts, "speech_lost", now)


@_on(e.ButtonUsed)
def _button_used(facts: Facts, event: e.ButtonUsed, now: float) -> Facts:
    if event.action != "talk":
        return facts
    return replace(facts, follow_up_until_s=now + FOLLOW_UP_S)  # "go on, talk"


@_on(e.Forgotten)
def _forgotten(facts: Facts, _event: e.Forgotten, _now: float) -> Facts:
    return replace(facts, thinking=None, follow_up_until_s=LONG_AGO)


@_on(e.Connecting)
def _connecting(facts: Facts, _event: e.Connecting, now: float) -> Facts:
    return _waiting(facts, now)


@_on(e.SessionFresh, e.Resumed)
def _connected(facts: Facts, event: e.SessionFresh | e.Resumed, _now: float) -> Facts:
    return replace(
        facts,
        connection=event.connection,
        ever_connected=True,
        waiting_since_s=None,
        trouble="",
        refused="",
        quota=False,
    )


@_on(e.Disconnected)
def _disconnected(facts: Facts, event: e.Disconnected, now: float) -> Facts:
    # The next connection is dialled before the old one ends: the end of the old one, or of the
    # attempt, leaves the device connected.
    if event.connection == facts.connection:
        facts = replace(facts, connection=None)
    if facts.connection is None and event.remedy:  # without one agentd ended it
        facts = replace(facts, trouble=event.cause)
    return _waiting(facts, now)


@_on(e.Released)
def _released(facts: Facts, _event: e.Released, _now: float) -> Facts:
    return replace(facts, connection=None, waiting_since_s=None)


@_on(e.Refused)
def _refused(facts: Facts, event: e.Refused, _now: float) -> Facts:
    return replace(facts, refused=event.cause or "refused", thinking=None)


@_on(e.QuotaExhausted)
def _quota(facts: Facts, _event: e.QuotaExhausted, _now: float) -> Facts:
    return replace(facts, quota=True)


@_on(e.LinkChanged)
def _link_changed(facts: Facts, event: e.LinkChanged, now: float) -> Facts:
    if event.online:
        return replace(facts, link_down_since_s=None)
    down_since = now if facts.link_down_since_s is None else facts.link_down_since_s
    return replace(facts, link_down_since_s=down_since)


def _failed(facts: Facts, cause: str, now: float) -> Facts:
    return replace(facts, failure=PastFailure(cause, now, now + FAILED_S))


def _waiting(facts: Facts, now: float) -> Facts:
    if facts.connection is not None or facts.waiting_since_s is not None:
        return facts
    return replace(facts, waiting_since_s=now)


def _unless_over(spell: Spell | None, turn: int) -> Spell | None:
    """Keep a spell that belongs to a later turn than the one that is over."""
    return spell if spell is not None and spell.turn > turn else None
