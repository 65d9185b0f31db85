"""Scenario files: what the model says turn by turn, and which faults strike when (TOML).

Those of hostile services come with the package, below `scenarios/`, and are called by their names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from live_emulator.faults import Fault, make_fault, parse_seconds


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A function call the model makes in this turn."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScriptedTurn:
    """One turn of the model.  Empty fields fall back to the emulator's reply mode."""

    heard: str = ""
    """Input transcription of the user's utterance."""
    say: tuple[str, ...] = ()
    """Output transcription; several parts are several turnCompletes, the last with IDLE."""
    duration_s: float | None = None
    """Use this turn for an utterance of about this length (0.3 s either way)."""
    audio: Path | None = None
    tone_s: float | None = None
    parrot: bool | None = None
    gain_db: float = 0.0
    """Applied to the answer's sound; -80 makes the near-silent replies that people reported."""
    thought: str = ""
    tool_calls: tuple[ScriptedCall, ...] = ()
    say_after: str = ""
    """Said once a NON_BLOCKING call of this turn was answered."""
    latency_s: float | None = None
    silent: bool = False
    """The model does not answer at all (proactive audio ignoring the user)."""
    need_more_input: bool = False
    turn_complete_reason: str = ""
    """Beside the last turnComplete, a name like RESPONSE_REJECTED."""
    empty_turn: bool = False
    """Close a turn without content behind a function's result, as Vertex AI does."""
    idle_after_s: float | None = None
    """The last turnComplete says IN_PROGRESS; IDLE comes alone, so much later."""
    grounding: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A script: turns in order, faults, and emulator options."""

    turns: tuple[ScriptedTurn, ...] = ()
    faults: tuple[Fault, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    loop: bool = False
    about: str = ""

    def turn_for(self, index: int, duration_s: float | None) -> ScriptedTurn | None:
        """Return the script of a session's ``index``-th user turn, matching by length first."""
        if duration_s is not None:
            timed = [
                (abs(turn.duration_s - duration_s), place, turn)
                for place, turn in enumerate(self.turns)
                if turn.duration_s is not None
            ]
            if timed:
                distance, _, turn = min(timed, key=lambda item: item[:2])
                if distance <= 0.3:
                    return turn
        ordered = [turn for turn in self.turns if turn.duration_s is None]
        if not ordered:
            return None
        if self.loop:
            return ordered[index % len(ordered)]
        return ordered[index] if index < len(ordered) else None


GAIN_RANGE_DB = (-120.0, 40.0)
_TURN_KEYS = frozenset(
    """heard say duration audio tone parrot gain_db thought tool_call tool_calls say_after latency
    silent need_more_input turn_complete_reason empty_turn idle_after grounding""".split()
)


def _call(table: object) -> ScriptedCall:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ValueError(  # noqa: TRY004
            'tool_call needs { name = "…", args = { … } }'
        )
    args = table.get("args", {})
    if not isinstance(args, dict):
        raise ValueError("tool_call args must be a table")  # noqa: TRY004
    return ScriptedCall(table["name"], args)


def _gain(value: object) -> float:
    low, high = GAIN_RANGE_DB
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= float(str(value)) <= high:
        raise ValueError(f"gain_db = {value!r}; a number from {low:.0f} to {high:.0f}")
    return float(str(value))


def _turn(table: Mapping[str, Any], folder: Path) -> ScriptedTurn:
    unknown = set(table) - _TURN_KEYS
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}; one of {', '.join(sorted(_TURN_KEYS))}")
    say = table.get("say", ())
    calls = table.get("tool_calls", [table["tool_call"]] if "tool_call" in table else [])
    seconds = {
        key: None if table.get(key) is None else parse_seconds(table[key])
        for key in ("duration", "tone", "latency", "idle_after")
    }
    return ScriptedTurn(
        heard=str(table.get("heard", "")),
        say=(say,) if isinstance(say, str) else tuple(str(part) for part in say),
        duration_s=seconds["duration"],
        audio=folder / str(table["audio"]) if "audio" in table else None,
        tone_s=seconds["tone"],
        parrot=table.get("parrot"),
        gain_db=_gain(table.get("gain_db", 0.0)),
        thought=str(table.get("thought", "")),
        tool_calls=tuple(_call(call) for call in calls),
        say_after=str(table.get("say_after", "")),
        latency_s=seconds["latency"],
        silent=bool(table.get("silent", False)),
        need_more_input=bool(table.get("need_more_input", False)),
        turn_complete_reason=str(table.get("turn_complete_reason", "")),
        empty_turn=bool(table.get("empty_turn", False)),
        idle_after_s=seconds["idle_after"],
        grounding=table.get("grounding"),
    )


def read_scenario(data: Mapping[str, Any], folder: Path = Path()) -> Scenario:
    """Read a parsed scenario.

    Raises:
        ValueError: naming the table and key at fault.
    """
    unknown = set(data) - {"turn", "fault", "options", "loop", "about"}
    if unknown:
        raise ValueError(
            f"unknown table {min(unknown)!r}; a scenario has [options], [[turn]], "
            "[[fault]], loop and about"
        )
    turns: list[ScriptedTurn] = []
    faults: list[Fault] = []
    for number, table in enumerate(data.get("turn", []), 1):
        try:
            turns.append(_turn(table, folder))
        except (ValueError, TypeError) as exc:
            raise ValueError(f"[[turn]] {number}: {exc}") from exc
    for number, table in enumerate(data.get("fault", []), 1):
        try:
            faults.append(make_fault(table))
        except (ValueError, TypeError) as exc:
            raise ValueError(f"[[fault]] {number}: {exc}") from exc
    return Scenario(
        tuple(turns),
        tuple(faults),
        dict(data.get("options", {})),
        bool(data.get("loop", False)),
        str(data.get("about", "")),
    )


SHIPPED = Path(__file__).parent / "scenarios"


def shipped_scenarios() -> dict[str, Scenario]:
    """Return the scenarios that come with the package, by name."""
    return {path.stem: load_scenario(path) for path in sorted(SHIPPED.glob("*.toml"))}


def load_scenario(path: Path) -> Scenario:
    """Load a scenario file, or one that comes with the package by its bare name.

    Raises:
        ValueError: naming the file and what is wrong.
        OSError: the file cannot be read.
    """
    if path.name == str(path) and not path.suffix and (SHIPPED / f"{path}.toml").is_file():
        path = SHIPPED / f"{path}.toml"
    try:
        return read_scenario(tomllib.loads(path.read_text("utf-8")), path.parent)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as exc:
        raise ValueError(f"{path}: {exc}") from exc
