"""Settings: TOML files in, one frozen tree out, every problem named at once.

The tree below is the single source of the keys: defaults, units, ranges and texts for
`agentd config schema`, docs/configuration.md and the error messages all come from it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from agentd.errors import ConfigError, ConfigProblem

SYSTEM_CONFIG = Path("/etc/agentd/agentd.toml")
MAX_FILE_BYTES = 1 << 20


class Section(BaseModel):
    """A table of the configuration; unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Gpio = Annotated[int, Field(ge=0, le=57)]  # BCM numbers of the header and compute modules
Text = Annotated[str, Field(max_length=65_536)]
# Tuples come from TOML arrays, integers are welcome where a float is meant.
Real = Annotated[float, Field(strict=False)]


class Compression(Section):
    """Sliding-window context compression: what lets a session live longer than 15 minutes."""

    enabled: bool = Field(True, description="compress the context when it grows")
    trigger_tokens: int = Field(
        25_600, ge=5_000, le=128_000, description="context size at which the oldest turns go"
    )
    target_tokens: int = Field(
        12_800, ge=0, le=128_000, description="context size to come down to; below the trigger"
    )


class Transcription(Section):
    """Text of what was said, from the service. Needed to restore context on a fresh session."""

    input: bool = Field(True, description="transcribe the user")
    output: bool = Field(True, description="transcribe the reply")


class Live(Section):
    """The Live API session."""

    backend: Literal["developer", "vertex"] = Field(
        "developer", description="Gemini Developer API or Vertex AI"
    )
    model: str = Field("gemini-3.8-live", min_length=1, max_length=256, description="model name")
    api_version: str = Field(
        "v1beta",
        pattern=r"^v\d+((alpha|beta)\d*)?$",
        examples=["v1beta", "v1"],
        description="API version in the path",
    )
    base_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        examples=["https://127.0.0.1:9443"],
        description="another endpoint: emulator or proxy",
    )
    project: str | None = Field(
        None, min_length=1, examples=["my-project"], description="Vertex: Google Cloud project"
    )
    location: str = Field("us-central1", min_length=1, description="Vertex: region or `global`")
    voice: str = Field("Kore", min_length=1, max_length=64, description="prebuilt voice")
    language: str = Field(
        "en-US",
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        examples=["en-US", "id-ID"],
        description="BCP 47 tag of the language spoken",
    )
    system_instruction: Text = Field(
        "You are a helpful voice in the kitchen. Answer briefly.",
        description="who the assistant is and how it speaks",
    )
    temperature: Real | None = Field(
        None, ge=0.0, le=2.0, examples=[0.7], description="sampling temperature"
    )
    activity_detection: Literal["local", "server"] = Field(
        "local", description="who frames speech: agentd's gate, or the service's detector"
    )
    transparent_resumption: bool = Field(
        True, description="Vertex: replay by message index after a break"
    )
    handle_lifetime_h: Real | None = Field(
        None,
        gt=0.0,
        le=168.0,
        examples=[2.0],
        description="how long a resumption handle is tried; default 2 (developer), 24 (vertex)",
    )
    idle_release_min: Real = Field(
        0.0, ge=0.0, le=1440.0, description="close after this much quiet, 0 = never; speech reopens"
    )
    connect_timeout_s: Real = Field(10.0, ge=1.0, le=120.0, description="TLS and handshake")
    setup_timeout_s: Real = Field(10.0, ge=1.0, le=120.0, description="until setupComplete")
    reply_timeout_s: Real = Field(
        15.0, ge=2.0, le=300.0, description="a turn without any sign of life ends the connection"
    )
    go_away_margin_s: Real = Field(
        5.0, ge=1.0, le=45.0, description="before the announced end, switch even in mid-speech"
    )
    dials_per_min: int = Field(20, ge=2, le=120, description="upper bound of connection attempts")
    backoff_max_s: Real = Field(60.0, ge=1.0, le=3600.0, description="longest wait between dials")
    compression: Compression = Compression()
    transcription: Transcription = Transcription()


class Audio(Section):
    """Microphone and speaker."""

    capture_device: str = Field(
        "default", min_length=1, description="ALSA PCM name, card id, or file:/path.wav"
    )
    playback_device: str = Field(
        "default", min_length=1, description="ALSA PCM name, card id, or file:/path.wav"
    )
    capture_channel: int = Field(
        0, ge=0, le=31, description="which channel of a microphone array to hear"
    )
    echo_cancellation: Literal["auto", "on", "off", "hardware"] = Field(
        "auto",
        description=(
            "auto: on when the canceller is installed, else off; off: half duplex; "
            "hardware: the device cancels its own echo (speakerphone, headset)"
        ),
    )
    half_duplex_tail_ms: int = Field(
        300, ge=0, le=3000, description="without cancellation: closed this long after a reply"
    )
    barge_in: bool = Field(True, description="speech stops a reply")
    cushion_ms: int = Field(
        80, ge=20, le=1000, description="reply audio gathered before the speaker starts"
    )
    keep_alive: bool = Field(
        True, description="keep the speaker's clock running between replies (no pops)"
    )
    noise_suppression: bool = Field(False, description="with the canceller: suppress noise too")
    capture_gain_db: Real = Field(0.0, ge=-20.0, le=40.0, description="gain before the gate")
    volume_percent: int = Field(
        70, ge=0, le=100, description="volume at the first start; later ones are remembered"
    )
    mixer_control: str = Field(
        "auto",
        min_length=1,
        max_length=64,
        examples=["Speaker"],
        description="auto: the card's volume control if it has one; software; or a control's name",
    )


class Vad(Section):
    """The voice gate."""

    detector: Literal["auto", "cascade", "silero", "webrtc"] = Field(
        "auto",
        description="cascade: webrtcvad wakes a neural detector (extra vad); auto: cascade if "
        "installed, else webrtc",
    )
    aggressiveness: int = Field(2, ge=0, le=3, description="webrtcvad mode, for webrtc")
    onset_ms: int = Field(60, ge=20, le=500, description="speech needed to open")
    hangover_ms: int = Field(600, ge=100, le=5000, description="silence needed to close")
    pre_roll_ms: int = Field(300, ge=0, le=2000, description="sound kept from before the onset")
    min_utterance_ms: int = Field(
        120, ge=0, le=2000, description="shorter speech is taken for a click"
    )
    max_utterance_s: Real = Field(60.0, ge=5.0, le=600.0, description="longer speech is split")
    level_floor_dbfs: Real = Field(
        -60.0, ge=-96.0, le=-10.0, description="quieter frames are never speech"
    )


class GpioPins(Section):
    """Lights, button and switch, by BCM pin number. Nothing configured is fine."""

    status_led: Gpio | None = Field(None, examples=[25], description="single status LED")
    status_pwm: bool = Field(True, description="dim the single LED by PWM instead of blinking it")
    status_rgb: Annotated[tuple[Gpio, Gpio, Gpio], Field(strict=False)] | None = Field(
        None, examples=[(17, 27, 22)], description="red, green, blue"
    )
    mute_led: Gpio | None = Field(None, examples=[23], description="separate LED, lit while muted")
    active_high: bool = Field(True, description="false: LEDs light when the pin is low")
    button: Gpio | None = Field(None, examples=[5], description="push button to ground")
    button_mode: Literal["tap", "push-to-talk"] = Field(
        "tap", description="tap to talk, or talk while held"
    )
    mute_switch: Gpio | None = Field(
        None, examples=[6], description="hardware mute switch to ground"
    )
    chip: int | None = Field(
        None,
        ge=0,
        le=31,
        examples=[0],
        description="gpiochip number, on boards that are no Raspberry Pi",
    )
    brightness_percent: int = Field(100, ge=5, le=100, description="of all LEDs")


class Network(Section):
    """The path to the service."""

    monitor: bool = Field(True, description="follow route and address changes (netlink)")
    debounce_ms: int = Field(200, ge=0, le=5000, description="changes this close count as one")
    tcp_user_timeout_ms: int = Field(
        10_000, ge=1_000, le=120_000, description="unacknowledged data this old ends the connection"
    )
    keepalive_s: Real = Field(20.0, ge=5.0, le=300.0, description="WebSocket ping interval")
    pong_timeout_s: Real = Field(
        30.0, ge=5.0, le=300.0, description="late pongs of 8-30 s are normal for the service"
    )
    replay_max_age_s: Real = Field(
        20.0, ge=0.0, le=300.0, description="older speech is dropped and the user told"
    )


class Privacy(Section):
    """What is kept, and for how long."""

    restore_context: bool = Field(
        True, description="keep a bounded transcript so that a fresh session knows the conversation"
    )
    transcript_max_turns: int = Field(40, ge=1, le=1000, description="oldest turns go first")
    transcript_max_age_h: Real = Field(
        24.0, gt=0.0, le=8760.0, description="older turns are deleted"
    )


class Sounds(Section):
    """Earcons and spoken causes."""

    enabled: bool = Field(True, description="play earcons and spoken causes")
    language: str = Field(
        "en", pattern=r"^[a-z]{2,3}$", examples=["en", "id"], description="of spoken causes"
    )
    volume_percent: int = Field(60, ge=0, le=100, description="relative to replies")
    quiet_hours: str | None = Field(
        None,
        pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$",
        examples=["22:00-07:00"],
        description="local time without sounds, alarms excepted",
    )


class Tools(Section):
    """Functions the model may call."""

    enabled: bool = Field(True, description="offer the built-in functions to the model")
    timeout_s: Real = Field(10.0, ge=1.0, le=120.0, description="deadline of one call")


class Log(Section):
    """What is told, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")
    format: Literal["auto", "journal", "text", "json"] = Field(
        "auto", description="auto: journal under systemd, else text"
    )


class Settings(Section):
    """The whole configuration."""

    live: Live = Live()
    audio: Audio = Audio()
    vad: Vad = Vad()
    gpio: GpioPins = GpioPins()
    network: Network = Network()
    privacy: Privacy = Privacy()
    sounds: Sounds = Sounds()
    tools: Tools = Tools()
    log: Log = Log()

    @property
    def handle_lifetime_s(self) -> float:
        """Return how long a handle is worth trying (Live API docs: 2 h Developer, 24 h Vertex)."""
        default_h = 24.0 if self.live.backend == "vertex" else 2.0
        return (self.live.handle_lifetime_h or default_h) * 3600.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where they came from."""

    settings: Settings
    files: tuple[Path, ...]


# Context windows by model name (Live API docs, 2026-10): the first match counts.
CONTEXT_WINDOWS_TOKENS = (
    ("native-audio", 128_000),
    ("gemini-3.8-live", 131_072),
    ("gemini-3.1", 128_000),
    ("", 128_000),  # unknown: the API's own upper bound
)


def context_window_tokens(model: str) -> int:
    """Return the context window of `model` in tokens, or the API's bound if it is not known."""
    if model.startswith("gemini-live-2.5-flash") and "native-audio" not in model:
        return 32_000
    return next(size for part, size in CONTEXT_WINDOWS_TOKENS if part in model)


# ── loading ───────────────────────────────────────────────────────────────────────────────────


def load(path: Path | None = None, *, required: bool | None = None) -> Loaded:
    """Read `path` (default: the system's) and its `conf.d/*.toml`; later files win.

    Raises:
        ConfigError: with every problem in every file.
    """
    main = path or SYSTEM_CONFIG
    if required is None:
        required = path is not None
    problems: list[ConfigProblem] = []
    tables: list[tuple[Path, dict[str, Any]]] = []
    for file in _files(main, required, problems):
        table = _read(file, problems)
        if table is not None:
            tables.append((file, table))
    if problems:
        raise ConfigError(tuple(problems))
    return Loaded(parse(tables), tuple(file for file, _ in tables))


def parse(tables: Sequence[tuple[Path, Mapping[str, Any]]]) -> Settings:
    """Merge tables, later ones winning, and validate them.

    Raises:
        ConfigError: with every problem found.
    """
    merged: dict[str, Any] = {}
    origins: dict[tuple[str, ...], Path] = {}
    for file, table in tables:
        _merge(merged, table, file, origins, ())
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(
            tuple(_problem(detail, origins, tables) for detail in error.errors(include_url=False))
        ) from None
    problems = tuple(_cross_checks(settings, origins, tables))
    if problems:
        raise ConfigError(problems)
    return settings


def _files(main: Path, required: bool, problems: list[ConfigProblem]) -> Iterator[Path]:
    try:
        exists = main.is_file()
        drop_ins = sorted(main.parent.joinpath("conf.d").glob("*.toml"))
    except OSError as error:
        problems.append(_file_problem(main, f"cannot be read ({error.strerror})"))
        return
    if exists:
        yield main
    elif required:
        problems.append(_file_problem(main, "does not exist or is not a file"))
    yield from drop_ins


def _file_problem(file: Path, what: str) -> ConfigProblem:
    return ConfigProblem(
        str(file), "(file)", "", what, "Create it or check its owner, mode and the --config option"
    )


def _read(file: Path, problems: list[ConfigProblem]) -> dict[str, Any] | None:
    try:
        raw = file.read_bytes()
    except OSError as error:
        problems.append(_file_problem(file, f"cannot be read ({error.strerror})"))
        return None
    if len(raw) > MAX_FILE_BYTES:
        problems.append(_file_problem(file, f"is larger than {MAX_FILE_BYTES} bytes"))
        return None
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (byte {error.start})"
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        problem = f"is not valid TOML ({error})"
    problems.append(
        ConfigProblem(str(file), "(syntax)", "", problem, "Correct it; `agentd config check` helps")
    )
    return None


def _merge(
    into: dict[str, Any],
    table: Mapping[str, Any],
    file: Path,
    origins: dict[tuple[str, ...], Path],
    prefix: tuple[str, ...],
) -> None:
    for key, value in table.items():
        path = (*prefix, key)
        origins[path] = file
        if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
            _merge(into.setdefault(key, {}), value, file, origins, path)
        else:
            into[key] = value


# ── telling what is wrong ─────────────────────────────────────────────────────────────────────


def _origin(
    location: tuple[str, ...],
    origins: Mapping[tuple[str, ...], Path],
    tables: Sequence[tuple[Path, Mapping[str, Any]]],
) -> str:
    for end in range(len(location), 0, -1):
        if location[:end] in origins:
            return str(origins[location[:end]])
    return str(tables[-1][0]) if tables else "(defaults)"


def _problem(
    detail: ErrorDetails,
    origins: Mapping[tuple[str, ...], Path],
    tables: Sequence[tuple[Path, Mapping[str, Any]]],
) -> ConfigProblem:
    # pydantic adds union branches and tuple positions behind the key itself
    location = tuple(str(part) for part in detail["loc"])
    known = max(
        (path for path in origins if location[: len(path)] == path), key=len, default=location[:1]
    )
    file = _origin(known, origins, tables)
    key = ".".join(known)
    if detail["type"] == "extra_forbidden":
        return ConfigProblem(file, key, "", "unknown key", _suggestion(known))
    field = find_field(known)
    allowed = f"Allowed: {describe_range(field)}" if field else "See `agentd config schema`"
    return ConfigProblem(file, key, _shown(detail["input"]), _plain(detail["msg"]), allowed)


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:] if message else "is not valid"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggestion(path: tuple[str, ...]) -> str:
    section = find_section(path[:-1])
    names = list(section.model_fields) if section else []
    close = difflib.get_close_matches(path[-1], names, n=1)
    if close:
        return f"Did you mean {'.'.join((*path[:-1], close[0]))}?"
    elsewhere = [key for key, _ in walk_fields() if key.rsplit(".", 1)[-1] == path[-1]]
    if elsewhere:
        return f"Did you mean {elsewhere[0]}?"
    return f"Known here: {', '.join(names)}" if names else "See `agentd config schema`"


def _cross_checks(
    settings: Settings,
    origins: Mapping[tuple[str, ...], Path],
    tables: Sequence[tuple[Path, Mapping[str, Any]]],
) -> Iterator[ConfigProblem]:
    def problem(key: str, value: object, what: str, remedy: str) -> ConfigProblem:
        return ConfigProblem(
            _origin(tuple(key.split(".")), origins, tables), key, _shown(value), what, remedy
        )

    live, compression = settings.live, settings.live.compression
    window = context_window_tokens(live.model)
    if compression.target_tokens >= compression.trigger_tokens:
        yield problem(
            "live.compression.target_tokens",
            compression.target_tokens,
            f"must be below trigger_tokens ({compression.trigger_tokens})",
            f"Allowed: 0 to {compression.trigger_tokens - 1}",
        )
    if compression.trigger_tokens > window:
        yield problem(
            "live.compression.trigger_tokens",
            compression.trigger_tokens,
            f"is above the context window of {live.model} ({window} tokens)",
            f"Allowed: 5000 to {window}",
        )
    vad = settings.vad
    if vad.hangover_ms >= vad.max_utterance_s * 1000:
        yield problem(
            "vad.hangover_ms",
            vad.hangover_ms,
            f"must be below max_utterance_s ({vad.max_utterance_s:g} s)",
            "Lower it or raise vad.max_utterance_s",
        )
    yield from _pin_conflicts(settings.gpio, problem)
    if settings.gpio.button_mode == "push-to-talk" and settings.gpio.button is None:
        yield problem(
            "gpio.button_mode",
            settings.gpio.button_mode,
            "there is no button to push",
            'Set gpio.button to its pin, or gpio.button_mode to "tap"',
        )
    for key in ("capture_device", "playback_device"):
        name = getattr(settings.audio, key)
        if name.startswith("file:") and not name.startswith("file:/"):
            yield problem(
                f"audio.{key}", name, "needs an absolute path", "Write file:/path/to/sound.wav"
            )
    same = settings.audio.capture_device == settings.audio.playback_device
    if same and settings.audio.capture_device.startswith("file:"):
        yield problem(
            "audio.playback_device",
            settings.audio.playback_device,
            "is the file that is captured from",
            "Give the reply another file",
        )


def _pin_conflicts(pins: GpioPins, problem: Any) -> Iterator[ConfigProblem]:
    used: dict[int, str] = {}
    for name in ("status_led", "status_rgb", "mute_led", "button", "mute_switch"):
        value = getattr(pins, name)
        for pin in value if isinstance(value, tuple) else (() if value is None else (value,)):
            if pin in used:
                what = f"pin {pin} is gpio.{used[pin]} already"
                yield problem(f"gpio.{name}", value, what, "Use another pin")
            used[pin] = name
    if pins.status_led is not None and pins.status_rgb is not None:
        yield problem(
            "gpio.status_rgb", pins.status_rgb, "gpio.status_led is set too", "Keep one of them"
        )


# ── the schema as text ────────────────────────────────────────────────────────────────────────


def find_section(path: Iterable[str]) -> type[Section] | None:
    """Return the table at `path`, or None."""
    section: type[Section] = Settings
    for part in path:
        field = section.model_fields.get(part)
        if field is None or not _is_section(field.annotation):
            return None
        section = field.annotation  # type: ignore[assignment]
    return section


def find_field(path: tuple[str, ...]) -> FieldInfo | None:
    """Return the field at `path`, or None."""
    section = find_section(path[:-1])
    return section.model_fields.get(path[-1]) if section else None


def walk_fields(
    section: type[Section] = Settings, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key with its field, in file order."""
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            yield from walk_fields(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield prefix + name, field


def describe_range(field: FieldInfo) -> str:
    """Say in a few words what a value of `field` may be."""
    schema = _schema_of(field)
    branches = [branch for branch in schema.get("anyOf", [schema]) if branch.get("type") != "null"]
    text = " or ".join(_describe(branch) for branch in branches)
    if field.examples:
        text += ", such as " + " or ".join(
            f'"{example}"' if isinstance(example, str) else str(example)
            for example in field.examples
        )
    return text + "; may be left out" if len(branches) < len(schema.get("anyOf", "1")) else text


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _schema_of(field: FieldInfo) -> dict[str, Any]:
    annotation: Any = field.annotation
    one = create_model("One", value=(annotation, field))
    schema: dict[str, Any] = one.model_json_schema()["properties"]["value"]
    return schema


def _describe(schema: Mapping[str, Any]) -> str:
    if "const" in schema or "enum" in schema:
        return " or ".join(f'"{v}"' for v in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return f"a list of {schema.get('maxItems', 'some')} pin numbers"
    if kind == "boolean":
        return "true or false"
    if kind == "string":
        longest = schema.get("maxLength")
        return f"text up to {longest} characters" if longest else "text"
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    noun = "whole number" if kind == "integer" else "number"
    above = "above " if "exclusiveMinimum" in schema else ""
    return f"{noun}, {above}{low:g} to {high:g}" if low is not None else noun
