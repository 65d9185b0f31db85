"""TOML files in, one settings tree out; every problem is named at once.

A file that is wrong anywhere is not used at all: nothing is half-applied.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agentd.config.fields import describe_range, find_field, find_section, walk_fields
from agentd.config.models import model_keys, refusals
from agentd.config.settings import AttentionSection, Audio, GpioPins, Live, Settings
from agentd.errors import ConfigError, ConfigProblem
from agentd.named_files import FileRefused, read_toml
from agentd.net.way import address_trouble
from agentd.text import safe_text

SYSTEM_CONFIG = Path("/etc/agentd/agentd.toml")
MAX_FILE_BYTES = 1 << 20
# Devices that are named by a path, and how that is written.
_PATHS = {"file": "Write file:/path/to/sound.wav", "pipe": "Write pipe:/path/to/pipe"}
MAX_KEY_CHARS, MAX_VALUE_CHARS = 120, 60  # in messages


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where they came from."""

    settings: Settings
    files: tuple[Path, ...]


def load(
    path: Path | None = None,
    *,
    required: bool | None = None,
    candidate: tuple[Path, dict[str, Any]] | None = None,
) -> Loaded:
    """Read `path` (default: the system's) and its `conf.d/*.toml`; later files win.

    `candidate` is a file of `conf.d` that is not there yet, or is there with other tables: what
    the configuration would be with it.

    Raises:
        ConfigError: with every problem in every file.
    """
    main = path or SYSTEM_CONFIG
    if required is None:
        required = path is not None
    problems: list[ConfigProblem] = []
    tables: list[tuple[Path, dict[str, Any]]] = []
    new, tables_of_new = candidate or (None, None)
    for file in _files(main, required, problems, new):
        table = tables_of_new if file == new else _read(file, problems)
        if table is not None:
            tables.append((file, table))
    if problems:
        raise ConfigError(tuple(problems))
    try:
        settings = parse(tables)
    except ConfigError:
        raise
    except Exception as error:
        # Whatever it is, it comes from the files: starting again would not help.
        what = f"cannot be used ({type(error).__name__})"
        raise ConfigError((_file_problem(main, what),)) from error
    return Loaded(settings, tuple(file for file, _ in tables))


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


def _files(
    main: Path, required: bool, problems: list[ConfigProblem], new: Path | None
) -> Iterator[Path]:
    try:
        # Also what is there and no file: it is refused with a word rather than passed over.
        exists = os.path.lexists(main)
        drop_ins = sorted({*_drop_ins(main.parent / "conf.d"), *((new,) if new else ())})
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        problems.append(_file_problem(main, f"cannot be read ({cause})"))
        return
    if exists:
        yield main
    elif required:
        problems.append(_file_problem(main, "does not exist or is not a file"))
    yield from drop_ins


def _drop_ins(directory: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(path for path in directory.iterdir() if path.name.endswith(".toml"))
    return []


def _file_problem(file: Path, what: str) -> ConfigProblem:
    return ConfigProblem(
        str(file), "(file)", "", what, "Create it or check its owner, mode and the --config option"
    )


def _read(file: Path, problems: list[ConfigProblem]) -> dict[str, Any] | None:
    try:
        return read_toml(file, MAX_FILE_BYTES)
    except FileRefused as error:
        key = "(syntax)" if error.syntax else "(file)"
        problems.append(ConfigProblem(str(file), key, "", error.problem, error.remedy))
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
    key = safe_text(".".join(known), MAX_KEY_CHARS)
    if detail["type"] == "extra_forbidden":
        return ConfigProblem(file, key, "", "unknown key", _suggestion(known))
    field = find_field(known)
    allowed = f"Allowed: {describe_range(field)}" if field else "See `agentd config schema`"
    return ConfigProblem(file, key, _shown(detail["input"]), _plain(detail["msg"]), allowed)


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:] if message else "is not valid"


def _shown(value: object) -> str:
    return safe_text(repr(value), MAX_VALUE_CHARS)


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
    yield from _address_problem(live.base_url, problem)
    for key, value, what, remedy in refusals(live.model, _by_model(live)):
        yield problem(key, value, what, remedy)
    window = model_keys(live.model).window_tokens
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
    if settings.tools.confirm == "button" and settings.gpio.button is None:
        yield problem(
            "tools.confirm",
            settings.tools.confirm,
            "there is no button to press",
            'Set gpio.button to its pin, or tools.confirm to "voice"',
        )
    yield from _path_problems(settings.audio, problem)
    yield from _attention_problems(settings.attention, problem)


def _attention_problems(attention: AttentionSection, problem: Any) -> Iterator[ConfigProblem]:
    """Check that the words and what is said about them belong together."""
    words = attention.words
    if len(set(words)) < len(words):
        yield problem("attention.words", words, "names a word twice", "Keep one of them")
    for name in attention.word:
        if name not in words:
            yield problem(
                f"attention.word.{name}",
                name,
                "is no word that is listened for",
                f"Allowed: {', '.join(words)}; or add it to attention.words",
            )
    if all(name in attention.word and attention.word[name].stops for name in words):
        yield problem(
            "attention.words", words, "has no word that opens the gate", "Add one without stops"
        )
    if not attention.models.startswith("/") or "\0" in attention.models:
        yield problem(
            "attention.models",
            attention.models,
            "needs an absolute path",
            "Such as /etc/agentd/wake",
        )


def _by_model(live: Live) -> dict[str, object]:
    """Return the settings that not every model takes."""
    hints = live.transcription
    return {
        "live.thinking_level": live.thinking_level,
        "live.transcription.languages": hints.languages,
        "live.transcription.vocabulary": hints.vocabulary,
        "live.transcription.mode": hints.mode,
    }


def _path_problems(audio: Audio, problem: Any) -> Iterator[ConfigProblem]:
    """Check devices that are named by a path."""
    for key in ("capture_device", "playback_device"):
        kind, colon, path = getattr(audio, key).partition(":")
        if colon and kind in _PATHS and not path.startswith("/"):
            yield problem(
                f"audio.{key}", getattr(audio, key), "needs an absolute path", _PATHS[kind]
            )
    kind = audio.capture_device.partition(":")[0]
    if audio.capture_device == audio.playback_device and kind in _PATHS:
        yield problem(
            "audio.playback_device",
            audio.playback_device,
            f"is the {kind} that is captured from",
            f"Give the reply another {kind}",
        )


def _address_problem(url: str | None, problem: Any) -> Iterator[ConfigProblem]:
    if url is not None and (trouble := address_trouble(url)):
        remedy = "Write https://HOST[:PORT], such as https://127.0.0.1:9443, or remove it"
        shown = url if "@" not in url else "…"  # before it there may be a login
        yield problem("live.base_url", shown, trouble, f"{remedy} for Google's own endpoint")


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
