"""What the model may not do to this device without a person's yes: one row per function (pure).

A row returns what the person is asked ("delete this conversation"); an empty text: nothing. What is
not in the table needs no one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentd.device.timers import Schedule, TimerError
from agentd.device.values import number, text

STEP_PERCENT = 10  # "louder", "softer"
FREE_CANCELS = 2  # within a minute, one at a time; more are as good as all


@dataclass(frozen=True, slots=True)
class GuardContext:
    """What the device is like when the model calls."""

    muted: bool
    volume_percent: int
    loud_percent: int | None  # louder than this a person is asked; None: it is not night
    schedule: Schedule
    cancelled_lately: int  # timers and alarms, by the model, within a minute


def volume_wanted(args: Mapping[str, Any], percent: int) -> int | None:
    """Return the volume that a call of set_volume asks for; None where it asks for none."""
    if args.get("direction") in ("up", "down"):
        step = STEP_PERCENT if args["direction"] == "up" else -STEP_PERCENT
        return max(0, min(100, percent + step))
    wanted = number(args.get("percent"))
    return None if wanted is None or not 0 <= wanted <= 100 else round(wanted)


def to_cancel(args: Mapping[str, Any]) -> tuple[int | None, str, str]:
    """Return number, label and kind of what a call of cancel_timer means."""
    wanted, kind = number(args.get("number")), text(args.get("kind"))
    return (
        None if wanted is None else round(wanted),
        text(args.get("label")),
        kind if kind in ("timer", "alarm") else "",
    )


def _forget(_args: Mapping[str, Any], _scene: GuardContext) -> str:
    return "delete this conversation and what the speaker has kept of it"


def _mute(_args: Mapping[str, Any], scene: GuardContext) -> str:
    return "" if scene.muted else "close the microphone, which only a hand can open again"


def _cancel(args: Mapping[str, Any], scene: GuardContext) -> str:
    entries = scene.schedule.entries
    if args.get("all") is True:
        return "cancel all timers and alarms" if entries else ""
    try:
        _, gone = scene.schedule.cancel(*to_cancel(args))
    except TimerError:
        return ""  # nothing would go
    if len(gone) > 1:
        return "cancel several timers and alarms at once"
    return "cancel one more timer or alarm" if scene.cancelled_lately >= FREE_CANCELS else ""


def _volume(args: Mapping[str, Any], scene: GuardContext) -> str:
    wanted = volume_wanted(args, scene.volume_percent)
    if wanted is None or scene.loud_percent is None:
        return ""
    if wanted <= max(scene.loud_percent, scene.volume_percent):
        return ""
    return f"set the volume to {wanted} percent, in quiet hours"


QUESTIONS: Mapping[str, Callable[[Mapping[str, Any], GuardContext], str]] = {
    "forget_conversation": _forget,
    "mute_microphone": _mute,
    "cancel_timer": _cancel,
    "set_volume": _volume,
}

PER_MINUTE: Mapping[str, int] = {
    "set_volume": 10,
    "mute_microphone": 4,
    "set_timer": 10,
    "set_alarm": 10,
    "cancel_timer": 10,
    "list_timers": 20,
    "stop_ringing": 10,
    "forget_conversation": 4,
}


def question(name: str, args: Mapping[str, Any], scene: GuardContext) -> str:
    """Return what a person must have confirmed before `name` is run; empty: nothing."""
    row = QUESTIONS.get(name)
    return "" if row is None else row(args, scene)
