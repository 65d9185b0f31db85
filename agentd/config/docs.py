"""The settings schema as text: docs/operator/configuration.md, and TOML for the shipped file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import groupby

from pydantic.fields import FieldInfo

from agentd.config.fields import describe_range, find_section, walk_fields
from agentd.config.settings import Section, Settings
from agentd.text import json_text

INTRODUCTION = """\
# Configuration

agentd reads `/etc/agentd/agentd.toml`, then every `/etc/agentd/conf.d/*.toml` in order of name;
a later file wins key by key. `agentd config check` names every problem with its file, key, value
and allowed range; `agentd config show` prints what is in force. A changed file takes effect on
`systemctl reload agentd`; a wrong one is refused then and the old settings stay in force. Each must
be a regular file (or a link to one) of at most 1 MiB in UTF-8; a pipe or a device is refused.

Secrets are not settings: see "Credentials" at the end. This page is generated from the schema by
`make docs`; do not edit it.
"""

CREDENTIALS = """\
## Credentials

- API key, ephemeral token or Vertex express key: the systemd credential `gemini-api-key`; off
  systemd the environment variable `GEMINI_API_KEY` or `GOOGLE_API_KEY`.
- Vertex service account (JSON): the systemd credential `google-application-credentials`; off
  systemd the file that `GOOGLE_APPLICATION_CREDENTIALS` names.

Credentials are read again at every connection, so a rotated key needs no restart. `SSL_CERT_FILE`,
`GOOGLE_GEMINI_BASE_URL` and `GPIOZERO_PIN_FACTORY` work as in the libraries that define them.
"""


def markdown() -> str:
    """Return docs/operator/configuration.md."""
    parts = [INTRODUCTION]
    for table, keys in _by_table():
        section = find_section(table.split("."))
        assert section is not None
        parts.append(f"## `[{table}]`\n\n{section.__doc__}\n")
        rows = ["| key | default | allowed | meaning |", "| --- | --- | --- | --- |"]
        for name, field in keys:
            allowed = describe_range(field).replace("|", "\\|")
            rows.append(f"| `{name}` | {_cell(field)} | {allowed} | {field.description} |")
        parts.append("\n".join(rows) + "\n")
    parts.append(CREDENTIALS)
    return "\n".join(parts)


def toml() -> str:
    """Return a configuration file with every key commented out at its default."""
    lines = [
        "# agentd: every key with its default. Take the # away from what you change.",
        "# `agentd config check` after editing, then `systemctl reload agentd`.",
    ]
    for table, keys in _by_table():
        lines += ["", f"[{table}]"]
        for name, field in keys:
            lines.append(f"# {field.description} ({describe_range(field)})")
            lines.append(f"# {name} = {_toml_value(_example(field))}")
    return "\n".join(lines) + "\n"


def settings_toml(settings: Settings) -> str:
    """Return `settings` as TOML, keys that are left out commented."""
    lines: list[str] = []
    for table, keys in _by_table():
        lines += ["", f"[{table}]"] if lines else [f"[{table}]"]
        section: object = settings
        for part in table.split("."):
            section = getattr(section, part)
        for name, _ in keys:
            value = getattr(section, name)
            lines.append(f"{'# ' if value is None else ''}{name} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def schema_json() -> str:
    """Return the JSON schema of the configuration."""
    return json_text(Settings.model_json_schema(), indent=2) + "\n"


FORMATS: dict[str, Callable[[], str]] = {"json": schema_json, "markdown": markdown, "toml": toml}


def _by_table() -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    for table, keys in groupby(walk_fields(), key=lambda item: item[0].rpartition(".")[0]):
        yield table, [(key.rpartition(".")[2], field) for key, field in keys]


def _example(field: FieldInfo) -> object:
    value = field.get_default(call_default_factory=True)
    return field.examples[0] if value is None and field.examples else value


def _cell(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "–" if value is None else f"`{_toml_value(value)}`"


def _toml_text(value: str) -> str:
    """Return a TOML basic string; what a terminal may obey or hide is written as an escape."""
    quoted = json.dumps(value, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    return "".join(char if char.isprintable() else _escape(char) for char in quoted)


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _toml_value(value: object) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, Section):
        value = {k: v for k, v in value.model_dump().items() if v is not None}
    if isinstance(value, dict):
        pairs = ", ".join(f"{_toml_text(k)} = {_toml_value(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return str(value)
