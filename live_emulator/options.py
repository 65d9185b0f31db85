"""What an emulator can be told: one frozen value, every field with its default and unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from live_emulator.faults import Fault
from live_emulator.models import Backend, ModelInfo, read_traits
from live_emulator.scenario import Scenario


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """Options of the emulator; durations are service seconds unless a name says otherwise."""

    # where
    host: str = "127.0.0.1"
    port: int = 0
    ca_file: Path | None = None
    san: tuple[str, ...] = ()
    certificate: str = "valid"
    """valid, expired, not_yet_valid, wrong_host or unknown_ca."""
    log_file: Path | None = None
    audio_dir: Path | None = None
    control_path: Path | None = None
    state_file: Path | None = None

    # time
    time_scale: float = 1.0

    # wire
    text_frames: bool = False
    """Send text frames; the real service sends JSON in binary ones."""
    deflate: bool = True
    """Negotiate permessage-deflate when the client offers it."""
    ping_interval_s: float | None = None
    """Real seconds between the server's own pings; None sends none."""
    max_frame_bytes: int = 16 * 1024 * 1024

    # who may come in
    accept_credentials: frozenset[str] | None = None
    """Keys and tokens accepted; None accepts any that is not empty."""
    bad_bearer: str = "http_401"
    """How a refused bearer token is told: http_401, http_403 or close_1008."""
    unknown_tokens: str = "refuse"
    """Ephemeral tokens that were not minted here: refuse or accept."""
    any_model: bool = False
    extra_models: Mapping[str, ModelInfo] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)
    """Traits of every model set against the table, e.g. ``{"client_content": "seed_only"}``."""
    max_sessions: int | None = None

    # replies
    reply: str = "parrot"
    """parrot, tone or silent, for turns without a script."""
    tone_s: float = 1.0
    latency_s: float = 0.2
    """End of the user's turn to the first frame of the answer."""
    chunk_ms: int = 40
    """Audio per message of the reply."""
    pace: float = 8.0
    """Reply audio is sent this many times as fast as real time; 0 sends all at once."""
    burst_s: float = 0.0
    """Reply audio sent at once before the pace begins."""
    playback_hold: float = 1.0
    """turnComplete waits for this share of the reply's playing time."""
    transcripts: Sequence[str] = ()
    """What each user turn of a session says, in order."""
    scenario: Scenario = field(default_factory=Scenario)
    faults: Sequence[Fault] = ()

    # session
    connection_limits: bool = True
    go_away_after_s: float | None = None
    """Connection age at GoAway; None is 540."""
    go_away_time_left_s: float | None = None
    """Time announced; None is 50 (Developer) or 60 (Vertex)."""
    go_away_grace_s: float = 0.4
    """The close comes this much after the announced time."""
    session_limit_s: float | None = None
    """Session age without compression; None is 900, 0 is none."""
    video_session_limit_s: float = 120.0
    """The same once a video frame has come; 0 is none."""
    idle_limit_s: float = 0.0
    """Close 1008 after this long without a client message; 0 never."""
    handle_lifetime_s: float | None = None
    """After the last connection; None is 2 h (Developer) or 24 h (Vertex)."""
    handle_on_setup: bool = False
    handle_interval_s: float = 0.0
    """Also issue a handle this often while idle; 0 only at turn ends."""
    index_interval_s: float = 0.5
    """Transparent mode: how often the index of consumed messages is told."""
    consume_lag_s: float = 0.0
    """How long a client message waits before it is consumed."""
    handles_kept: int = 64
    resume_while_open: str = "refuse"
    """refuse (1011), takeover (the old connection is dropped) or allow."""
    model_mismatch: str = "loop_1011"
    """A handle used with another model: loop_1011 or reject_1007."""

    # tools and texts
    unknown_tool_response: str = "ignore"
    """ignore or close_1008."""
    audio_during_tool_call: str = "accept"
    """accept or close_1008."""

    # memory
    record_limit: int = 20_000
    audio_limit_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        read_traits(self.traits)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r}; choose one of {', '.join(allowed)}"
                )
        for name, low in _MINIMUM.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)!r}; must be at least {low}")

    def go_away(self, backend: Backend) -> tuple[float, float]:
        """Return (connection age at GoAway, time left announced)."""
        after = 540.0 if self.go_away_after_s is None else self.go_away_after_s
        left = 50.0 if backend is Backend.DEVELOPER else 60.0
        return after, left if self.go_away_time_left_s is None else self.go_away_time_left_s

    def handle_lifetime(self, backend: Backend) -> float:
        """Return how long handles live after the last connection of their session."""
        if self.handle_lifetime_s is not None:
            return self.handle_lifetime_s
        return 2 * 3600.0 if backend is Backend.DEVELOPER else 24 * 3600.0

    def session_limit(self, *, video: bool = False) -> float | None:
        """Return the age limit of a session without compression, audio alone or with video."""
        audio_s = 900.0 if self.session_limit_s is None else self.session_limit_s
        limits = [audio_s, self.video_session_limit_s] if video else [audio_s]
        return min((limit for limit in limits if limit), default=None)


_CHOICES = {
    "certificate": ("valid", "expired", "not_yet_valid", "wrong_host", "unknown_ca"),
    "bad_bearer": ("http_401", "http_403", "close_1008"),
    "unknown_tokens": ("refuse", "accept"),
    "reply": ("parrot", "tone", "silent"),
    "resume_while_open": ("refuse", "takeover", "allow"),
    "model_mismatch": ("loop_1011", "reject_1007"),
    "unknown_tool_response": ("ignore", "close_1008"),
    "audio_during_tool_call": ("accept", "close_1008"),
}
_MINIMUM: dict[str, float] = {
    "time_scale": 1e-3,
    "latency_s": 0.0,
    "chunk_ms": 5,
    "pace": 0.0,
    "burst_s": 0.0,
    "playback_hold": 0.0,
    "tone_s": 0.0,
    "handles_kept": 1,
    "index_interval_s": 0.0,
    "consume_lag_s": 0.0,
    "video_session_limit_s": 0.0,
}

SCENARIO_OPTIONS = frozenset(
    {item.name for item in fields(EmulatorOptions)}
    - {"host", "port", "ca_file", "san", "log_file", "audio_dir", "control_path", "state_file"}
    - {"scenario", "faults", "extra_models"}
)


def with_scenario(options: EmulatorOptions, scenario: Scenario) -> EmulatorOptions:
    """Return the options with a scenario and its ``[options]`` applied.

    Raises:
        ValueError: the scenario sets an option that does not exist.
    """
    changes: dict[str, Any] = {}
    for name, value in scenario.options.items():
        if name not in SCENARIO_OPTIONS:
            raise ValueError(
                f"[options] {name}: no such option; one of {', '.join(sorted(SCENARIO_OPTIONS))}"
            )
        changes[name] = frozenset(value) if name == "accept_credentials" else value
    try:
        return replace(options, scenario=scenario, **changes)
    except TypeError as exc:
        raise ValueError(f"[options]: a value has the wrong type: {exc}") from exc
