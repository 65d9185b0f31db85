"""Text fit for a log and for a terminal, whoever wrote it (pure).

The only place that decides which characters may pass: `safe_text` for a value in a line (bounded,
on one line, without control characters or secrets), `safe_document` for what another program
answered, `printable_lines` for whole output, `json_text` for programs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

VALUE_LIMIT = 240
SECRET = "<secret>"  # noqa: S105  stands where one was

# Stands for what may not pass, until runs of it are made one space; is itself not printable.
_MARK = "\x00"
_MARKS = re.compile(f"{_MARK}+")
_SECRETS = (
    # Google API keys and OAuth tokens by their form, wherever they stand
    re.compile(r"AIza[\w-]{20,}|ya29\.[\w.-]+|AQ\.[\w-]{20,}|auth_tokens/[\w-]+"),
    re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),  # JSON web tokens
    re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)"),
)
# name=value, "name": "value", Name: value; the name stays readable
_NAMED_SECRET = re.compile(
    r"""(?ix) \b( (?:x-goog-)?api[-_]?key | key | access_token | token | assertion | password
              | client_secret | private_key | new_?handle | handle )
        (["']?\s*[=:]\s*["']?) (?!<secret>) [^\s"'&,;)}\]]{8,}"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.+/=~-]{8,}")


def safe_text(value: str, limit: int = VALUE_LIMIT) -> str:
    """Return `value` fit for one line of a log or terminal, at most `limit` characters of it."""
    # Cut before the search: a peer must not choose how long a regular expression works. The
    # room left lets a secret at the cut be recognised by its beginning.
    text = redacted(_MARKS.sub(" ", _marked(value[: limit + 512])).strip())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable_lines(text: str) -> str:
    """Return `text` with a space for every character but line ends that a terminal may obey."""
    return "\n".join(_marked(line).replace(_MARK, " ") for line in text.split("\n"))


def _marked(text: str) -> str:
    """Return `text` with a mark for what is not printable.

    That is C0, DEL and C1, separators of lines and paragraphs, bidirectional and other invisible
    marks, lone surrogates, and what Unicode has not assigned (`str.isprintable`): all that lets a
    peer steer a terminal, or forge or hide parts of a line.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _MARK for char in text)


def safe_document(value: object, limit: int = VALUE_LIMIT) -> object:
    """Return a JSON document with every text in it, names included, made safe and bounded."""
    if isinstance(value, str):
        return safe_text(value, limit)
    if isinstance(value, Mapping):
        return {
            safe_text(str(key), limit): safe_document(item, limit) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [safe_document(item, limit) for item in value]
    return value


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return `value` as JSON in ASCII, which every terminal shows and every parser reads.

    JSON has no infinities (RFC 8259, section 6), which Python would write: they become null.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def counted(number: object, noun: str) -> str:
    """Return a number with its noun: 1 connection, 0 connections."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _Number(int):
    """A whole number that a template can have counted: `{turns:# turn}`."""

    def __format__(self, spec: str) -> str:
        if spec.startswith("# "):
            return counted(int(self), spec[2:])
        return format(int(self), spec)


def filled(template: str, fields: Mapping[str, object]) -> str:
    """Return `template` with its fields: as `str.format_map`, and `{n:# turn}` is "1 turn"."""
    return template.format_map(
        {name: _Number(value) if type(value) is int else value for name, value in fields.items()}
    )


def redacted(text: str) -> str:
    """Return `text` with everything that looks like a credential replaced."""
    for pattern in _SECRETS:
        text = pattern.sub(SECRET, text)
    text = _BEARER.sub(lambda found: f"{found[1]} {SECRET}", text)
    return _NAMED_SECRET.sub(lambda found: f"{found[1]}{found[2]}{SECRET}", text)
