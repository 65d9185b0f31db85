"""What the model may do with the device: volume, mute, timers, alarms, forgetting.

Every function answers with a JSON object. What cannot be done is an `error` in plain words, which
the model passes on; nothing here raises for anything that somebody may say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from agentd.config.settings import Settings
from agentd.device.earcons import is_quiet
from agentd.device.guarded import (
    PER_MINUTE,
    QUESTIONS,
    GuardContext,
    question,
    to_cancel,
    volume_wanted,
)
from agentd.device.mute import Mute
from agentd.device.ringer import Ringer
from agentd.device.timers import TimerEntry, TimerError
from agentd.device.values import number, text
from agentd.device.volume import Volume
from agentd.errors import AgentdError
from agentd.live.calls import MAX_CALLS
from agentd.live.messages import canonical
from agentd.live.toolbox import Response, Tool
from agentd.stage import Stage

Run = Callable[[Mapping[str, Any]], Awaitable[Response]]

VOICE = "voice"
NIGHT = "22:00-07:00"  # where sounds.quiet_hours is not set
LATELY_S = 60.0


@dataclass(frozen=True, slots=True)
class DeviceTools(Stage):
    """The functions, bound to what they act on. `forget` deletes what is kept of the talk."""

    volume: Volume
    mute: Mute
    ringer: Ringer
    forget: Callable[[], Awaitable[str]]
    settings: Callable[[], Settings] = Settings
    _cancelled_s: deque[float] = field(default_factory=lambda: deque(maxlen=32))
    # Calls that nobody was asked about, until they run; more than can be under way at once.
    _unasked: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=4 * MAX_CALLS))

    def tools(self) -> tuple[Tool, ...]:
        """Return all of them, ready for the toolbox."""
        runs = {
            "set_volume": self.set_volume,
            "mute_microphone": self.mute_microphone,
            "set_timer": self.set_timer,
            "set_alarm": self.set_alarm,
            "cancel_timer": self.cancel_timer,
            "list_timers": self.list_timers,
            "stop_ringing": self.stop_ringing,
            "forget_conversation": self.forget_conversation,
        }
        return tuple(
            Tool(
                name,
                DESCRIPTIONS[name],
                partial(self._run, name, run),
                _schema(PARAMETERS[name]),
                per_minute=PER_MINUTE[name],
                asks=partial(self.asks, name),
            )
            for name, run in runs.items()
        )

    def asks(self, name: str, args: Mapping[str, Any]) -> str:
        """Return what a person must have confirmed before `name` is run; empty: nothing."""
        text = self._asks_now(name, args)
        if not text and name in QUESTIONS:
            self._unasked.append(_key(name, args))
        return text

    async def _run(self, name: str, run: Run, args: Mapping[str, Any]) -> Response:
        """Run a function; what needed no one when it was called may need a yes by now.

        Calls of one frame are all judged before the first of them runs: ten that each cancel one
        timer, or turn the volume up one step, are as good as one that must be asked about.
        """
        key = _key(name, args)
        if key in self._unasked:
            self._unasked.remove(key)
            if by_now := self._asks_now(name, args):
                return {"error": f"not done: by now this would {by_now}. Call again, alone"}
        return await run(args)

    def _asks_now(self, name: str, args: Mapping[str, Any]) -> str:
        now = self.ringer.now()
        cancelled = sum(at_s > now.mono_s - LATELY_S for at_s in self._cancelled_s)
        scene = GuardContext(
            muted=self.mute.muted,
            volume_percent=self.volume.percent,
            loud_percent=self.settings().tools.night_volume_percent if self._is_night else None,
            schedule=self.ringer.schedule,
            cancelled_lately=cancelled,
        )
        return question(name, args, scene)

    @property
    def _is_night(self) -> bool:
        ringer = self.ringer
        unix_s = ringer.schedule.wall_s(ringer.now())
        local = datetime.fromtimestamp(unix_s, ringer.timezone)
        return is_quiet(self.settings().sounds.quiet_hours or NIGHT, local.time())

    async def set_volume(self, args: Mapping[str, Any]) -> Response:
        """Set the volume, or turn it up or down."""
        direction = args.get("direction")
        if direction in ("up", "down"):
            step = 1 if direction == "up" else -1
            return {"volume_percent": await self.volume.step(step, by=VOICE)}
        percent = volume_wanted(args, self.volume.percent)
        if percent is None:
            return {
                "error": "the volume is a number from 0 to 100, or up or down",
                "volume_percent": self.volume.percent,
            }
        return {"volume_percent": await self.volume.set(percent, by=VOICE)}

    async def mute_microphone(self, args: Mapping[str, Any]) -> Response:
        """Close the microphone."""
        del args
        self.mute.ask(True, by=VOICE)
        return {"muted": True, "note": "only the button, the switch or `agentd unmute` unmutes"}

    async def set_timer(self, args: Mapping[str, Any]) -> Response:
        """Set a countdown."""
        parts = [number(args.get(unit, 0)) for unit in ("hours", "minutes", "seconds")]
        if None in parts:
            return {"error": "hours, minutes and seconds are numbers"}
        hours, minutes, seconds = (part or 0.0 for part in parts)
        try:
            entry = self.ringer.set_timer(
                hours * 3600.0 + minutes * 60.0 + seconds, text(args.get("label"))
            )
        except TimerError as error:
            return {"error": str(error)}
        return {"set": self._described(entry)}

    async def set_alarm(self, args: Mapping[str, Any]) -> Response:
        """Set an alarm at a time of day."""
        repeat = text(args.get("repeat")) or "once"
        try:
            entry = self.ringer.set_alarm(text(args.get("time")), repeat, text(args.get("label")))
        except TimerError as error:
            return {"error": str(error)}
        return {"set": self._described(entry)}

    async def cancel_timer(self, args: Mapping[str, Any]) -> Response:
        """Cancel timers and alarms."""
        try:
            gone = self.ringer.cancel(*to_cancel(args), every=args.get("all") is True)
        except TimerError as error:
            return {"error": str(error), "pending": self._pending()}
        self._cancelled_s.extend(self.ringer.now().mono_s for _ in gone)
        return {"cancelled": [self._described(entry) for entry in gone]}

    async def list_timers(self, args: Mapping[str, Any]) -> Response:
        """List what is set and what rings."""
        del args
        ringing = [self._described(entry) for entry in self.ringer.ringing]
        return {"pending": self._pending(), "ringing": ringing}

    async def stop_ringing(self, args: Mapping[str, Any]) -> Response:
        """Silence what rings."""
        del args
        return {"stopped": self.ringer.silence(VOICE)}

    async def forget_conversation(self, args: Mapping[str, Any]) -> Response:
        """Delete the conversation."""
        del args
        try:
            return {"forgotten": await self.forget()}
        except AgentdError as error:
            return {"error": str(error)}

    def _pending(self) -> list[dict[str, object]]:
        return [self._described(entry) for entry in self.ringer.schedule.entries]

    def _described(self, entry: TimerEntry) -> dict[str, object]:
        left_s = self.ringer.schedule.left_s(entry, self.ringer.now())
        told: dict[str, object] = {"number": entry.number, "kind": entry.kind}
        if entry.label:
            told["label"] = entry.label
        if entry.kind == "alarm":
            local = datetime.fromtimestamp(entry.due_unix_s, self.ringer.timezone)
            told |= {"at": f"{local:%A %Y-%m-%d %H:%M}", "repeat": entry.repeat}
        if left_s is not None:
            told["in_seconds"] = max(0, round(left_s))
        return told


def _key(name: str, args: Mapping[str, Any]) -> tuple[str, str]:
    """Return a call as `asks` and the toolbox both know it: with the arguments that it has."""
    known = {key: value for key, value in args.items() if key in PARAMETERS[name]}
    return name, canonical(known)


def _schema(properties: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    required = [name for name, spec in properties.items() if spec.get("required")]
    cleaned = {
        name: {key: value for key, value in spec.items() if key != "required"}
        for name, spec in properties.items()
    }
    schema: dict[str, Any] = {"type": "object", "properties": cleaned}
    return schema | {"required": required} if required else schema


_ASKS = (
    "answered with needs_confirmation at first, and not done: ask the user aloud, and call again "
    "with the same arguments only after they have answered yes."
)

DESCRIPTIONS = {
    "set_volume": (
        "Set this speaker's volume to a percentage, or turn it up or down by a step. "
        f"What is loud at night is {_ASKS}"
    ),
    "mute_microphone": (
        f"Close this speaker's microphone. Only a person at it can reopen it. The call is {_ASKS}"
    ),
    "set_timer": "Start a countdown that rings on this speaker, for example 10 minutes.",
    "set_alarm": "Ring on this speaker at a time of day, once, daily or on weekdays.",
    "cancel_timer": (
        "Cancel a timer or alarm by number, label or kind, or all of them. "
        f"More than one is {_ASKS}"
    ),
    "list_timers": "List the timers and alarms that are set or ringing.",
    "stop_ringing": "Silence the timer or alarm that rings now.",
    "forget_conversation": (
        "Delete this conversation and what this device has kept of it. "
        f"Only when the user clearly asks for it. The call is {_ASKS}"
    ),
}

_LABEL = {"type": "string", "description": "what it is for, if the user said so, e.g. eggs"}

PARAMETERS: dict[str, dict[str, dict[str, Any]]] = {
    "set_volume": {
        "percent": {"type": "integer", "description": "0 to 100"},
        "direction": {"type": "string", "enum": ["up", "down"], "description": "one step"},
    },
    "mute_microphone": {},
    "set_timer": {
        "hours": {"type": "number"},
        "minutes": {"type": "number"},
        "seconds": {"type": "number"},
        "label": _LABEL,
    },
    "set_alarm": {
        "time": {"type": "string", "description": "24-hour local time HH:MM", "required": True},
        "repeat": {"type": "string", "enum": ["once", "daily", "weekdays"]},
        "label": _LABEL,
    },
    "cancel_timer": {
        "number": {"type": "integer", "description": "as given by list_timers"},
        "label": _LABEL,
        "kind": {"type": "string", "enum": ["timer", "alarm"]},
        "all": {"type": "boolean", "description": "cancel everything"},
    },
    "list_timers": {},
    "stop_ringing": {},
    "forget_conversation": {},
}
