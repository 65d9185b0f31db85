"""`agentd.toml` from the boot partition, taken apart into settings and keys (pure).

The partition is FAT: everyone who holds the card reads it. A key is taken however TOML lets it be
written, if its very characters stand in the file: they are then covered, wherever they stand, by as
many `#`, so that writing the file in place covers every byte of it. A key that cannot be covered is
not taken.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentd.errors import AgentdError
from agentd.named_files import FileRefused, parse_toml

FILE: Final = Path("agentd.toml")

CREDENTIALS: Final = {"gemini_api_key": "gemini-api-key"}
"""Key in the table [credentials] of the boot file: name of the systemd credential."""

COVER: Final = "#"
_KEY: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")
_TORN: Final = re.compile(r"#+(?P<tail>[A-Za-z0-9._~+/=-]*)|(?P<head>[A-Za-z0-9._~+/=-]+)#+")
"""A key that is covered, or was being covered when the power went."""
_LONG: Final = 16
"""So long a key is covered wherever it stands; a shorter one only as a whole string in quotes."""

_BY_FORM: Final = re.compile(r"AIza[\w-]{20,}|ya29\.[\w.-]{8,}|AQ\.[\w-]{20,}|auth_tokens/[\w-]+")
_BY_NAME: Final = re.compile(r"(?i)key|token|secret|passw|credential")
_NAMED: Final = re.compile(
    r"""(?ix) \b [\w-]* (?:api[-_]?key|token|secret|passw|credential) [\w-]* ["']? \s* [=:] \s*
        ["'] (?P<value> [^"'\#\r\n] [^"'\r\n]*)"""
)
_HEADER: Final = re.compile(r"[ \t]*\[+(?P<table>[^\[\]]+)\]")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")

# What marks a file as one of these encodings; Notepad's "Unicode" is the second.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class BootFileRefused(AgentdError, ValueError):
    """The file, or a part of it, is not taken; the message is for the person with the card."""


@dataclass(frozen=True, slots=True)
class FileText:
    """The characters of a file and what makes bytes of them again."""

    characters: str
    encoding: str = "utf-8"
    mark: bytes = b""

    def encode(self, characters: str) -> bytes:
        """Return `characters` as the file's own bytes."""
        return self.mark + characters.encode(self.encoding)


@dataclass(frozen=True, slots=True)
class BootFileParts:
    """A boot file taken apart.

    `scrubbed` has the length of the original, byte by byte; it differs from it where a key stood.
    `problems` are reasons to take no settings; a key that was found is taken all the same.
    """

    settings: str
    scrubbed: str
    credentials: Mapping[str, str]
    problems: tuple[str, ...] = ()


def decode(raw: bytes) -> FileText:
    """Return the characters of a file.

    Raises:
        BootFileRefused: it is neither UTF-8 nor UTF-16 with its mark.
    """
    mark, encoding = next(((m, e) for m, e in _MARKS if raw.startswith(m)), (b"", "utf-8"))
    try:
        characters = raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError:
        raise BootFileRefused("it is not UTF-8: save it as plain text (UTF-8)") from None
    if "\0" in characters:
        raise BootFileRefused("there are zero bytes in it: save it as plain text (UTF-8)")
    return FileText(characters, encoding, mark)


def take_apart(characters: str, stored: tuple[str, ...] = ()) -> BootFileParts:
    """Separate settings from credentials.

    `stored` are keys that the device has already: where one stands in the file it is covered, too,
    because an import may have been cut off before it came to that.

    Raises:
        BootFileRefused: not TOML, or a key in it cannot be covered; nothing of it may be taken.
    """
    rest = _parse(characters)
    found, problems, torn = _credentials(rest.pop("credentials", {}), stored)
    keys = tuple({*found.values(), *torn, *(key for key in stored if len(key) >= _LONG)})
    scrubbed = characters
    for key in sorted(keys, key=len, reverse=True):
        scrubbed = _cover(scrubbed, key)
    _require_covered(scrubbed, rest, keys)
    problems += [
        f"{place}: this looks like a key; a key belongs below [credentials]"
        for place, value in _strings(rest)
        if any(key in value for key in keys if len(key) >= _LONG) or _BY_FORM.search(value)
    ]
    settings = "" if problems else _settings(scrubbed, rest)
    return BootFileParts(settings, scrubbed, found, tuple(problems))


def suspects(characters: str) -> tuple[str, ...]:
    """Return where in a file something stands that looks like a key: `("line 3", …)`."""
    return tuple(
        f"line {number}"
        for number, line in enumerate(characters.splitlines(), 1)
        if _BY_FORM.search(line) or _NAMED.search(line)
    )


def _parse(characters: str) -> dict[str, Any]:
    try:
        return parse_toml(FILE, characters)
    except FileRefused as error:
        raise BootFileRefused(f"it {error.problem}") from None


def _credentials(
    table: object, stored: tuple[str, ...] = ()
) -> tuple[dict[str, str], list[str], list[str]]:
    """Return keys by credential, what is wrong with the others, and what is covered by half."""
    if not isinstance(table, dict):
        return {}, ["credentials: this must be a table, [credentials]"], []
    found: dict[str, str] = {}
    problems, torn = [], []
    for name, value in table.items():
        if name not in CREDENTIALS:
            known = ", ".join(CREDENTIALS)
            problems.append(f"credentials.{name}: there is no such key; known here: {known}")
        elif isinstance(value, str) and _is_torn(value, stored):
            torn += [value] if value.strip(COVER) else []
        elif not isinstance(value, str) or not _KEY.fullmatch(value):
            problems.append(f"credentials.{name}: this is no key (a key has no spaces or quotes)")
        else:
            found[CREDENTIALS[name]] = value
    return found, problems, torn


def _is_torn(value: str, stored: tuple[str, ...]) -> bool:
    found = _TORN.fullmatch(value)
    if found is None:
        return False
    head, tail = found["head"] or "", found["tail"] or ""
    # What is left must be of a key that the device has, as far as it can read its own.
    return not stored or any(key.startswith(head) and key.endswith(tail) for key in stored)


def _cover(characters: str, key: str) -> str:
    pattern = re.escape(key)
    if len(key) < _LONG:
        pattern = f"(?<=[\"']){pattern}(?=[\"'])"
    return re.sub(pattern, COVER * len(key), characters)


def _require_covered(scrubbed: str, rest: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Make sure that the keys are gone and nothing else is."""
    if not _is_covered(scrubbed, rest, keys):
        raise BootFileRefused(
            "the key cannot be covered where it stands, so it was not taken: write it on one line,"
            ' gemini_api_key = "...", below a line [credentials]'
        )


def _is_covered(scrubbed: str, rest: dict[str, Any], keys: tuple[str, ...]) -> bool:
    expected = rest
    for key in keys:
        if len(key) >= _LONG:
            expected = _covered_tree(expected, key)
    try:
        tree = _parse(scrubbed)
    except BootFileRefused:
        return False
    left, _, _ = _credentials(tree.pop("credentials", {}))
    return (
        not left
        and not any(key in scrubbed for key in keys if len(key) >= _LONG)
        and (_same(tree, expected))
    )


def _covered_tree(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {_covered_tree(k, key): _covered_tree(v, key) for k, v in value.items()}
    if isinstance(value, list):
        return [_covered_tree(item, key) for item in value]
    return _cover(value, key) if isinstance(value, str) else value


def _same(one: Any, other: Any) -> bool:
    """Compare as values of TOML, in which nan is nan."""
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _strings(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield every text with its place: `("live.model", "…")`."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, (*path, name))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, path)
    elif isinstance(value, str):
        yield ".".join(path), value


# ── settings as a file of their own ───────────────────────────────────────────────────────────


def _settings(scrubbed: str, rest: dict[str, Any]) -> str:
    """Return `rest` as TOML: the person's own lines and comments where that can be."""
    if not rest:
        return ""
    lines, table = [], ""
    for line in scrubbed.splitlines(keepends=True):
        if header := _HEADER.match(line):
            table = header["table"].strip().strip("\"'")
        if table != "credentials":
            lines.append(line)
    own = "".join(lines)
    try:
        is_right = _same(_parse(own), rest) and not suspects(own)
    except BootFileRefused:
        is_right = False
    return own if is_right else written(rest)


def written(tree: Mapping[str, Any]) -> str:
    """Return a tree as TOML."""
    return "".join(f"{line}\n" for line in _table(tree, ()))


def _table(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for name, value in tree.items():
        if not isinstance(value, dict):
            yield f"{_name(name)} = {_value(value)}"
    for name, value in tree.items():
        if isinstance(value, dict):
            place = (*path, name)
            yield f"[{'.'.join(map(_name, place))}]"
            yield from _table(value, place)


def _name(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        # JSON's escapes are TOML's; TOML wants DEL escaped as well.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_name(k)} = {_value(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)
