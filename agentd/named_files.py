"""The one reader for files that people name: settings, credentials, sounds.

Whatever lies at such a path, reading it returns soon and uses a bounded amount of memory: a regular
file, also behind a symbolic link (configuration management puts those there, and so does systemd),
of a bounded size. A pipe, a device, a directory or a socket is refused before it is opened: opening
a pipe waits for a writer and opening a device may do something. What is wrong is one printable
sentence with the file in it and, where there is one, the line.

Callers on the event loop read in a thread: a disk or a network file system may still hang.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from agentd.errors import AgentdError
from agentd.text import safe_text

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK_BYTES = 65_536
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
MAX_DEPTH = 32  # tables in tables; the settings need three
MAX_KEY_PARTS = 100  # tomllib takes time by the square of them
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
_LONG_KEY = re.compile(rf"(?m)(?:^|[\[{{,])[ \t]*(?:{_PART}){{{MAX_KEY_PARTS}}}")
_INT64 = range(-(2**63), 2**63)  # toml.io/en/v1.0.0#integer
# Byte order marks of what is not UTF-8 (unicode.org/faq/utf_bom.html); UTF-32's begins as UTF-16's.
_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_SAMPLE_BYTES = 1024


class FileRefused(AgentdError, ValueError):
    """A file cannot be used: `problem` continues a sentence that begins with its name.

    `syntax` says that the file could be read and what is in it is wrong.
    """

    def __init__(self, path: Path, problem: str, remedy: str, *, syntax: bool = False) -> None:
        super().__init__(f"{safe_text(str(path))} {problem}. {remedy}")
        self.path = path
        self.problem = problem
        self.remedy = remedy
        self.syntax = syntax


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; never wait for another program.

    Raises:
        FileRefused: it is something else.
        OSError: it is not there, or may not be read.
    """
    try:
        check_kind(path, path.stat().st_mode)
    except ValueError as error:
        if isinstance(error, FileRefused):
            raise
        raise FileRefused(path, "is no name of a file", "Name a regular file") from None
    fd = os.open(path, _OPEN)
    file = os.fdopen(fd, "rb")
    try:
        check_kind(path, os.fstat(fd).st_mode)  # it may be another one by now
    except FileRefused:
        file.close()
        raise
    return file


def read_bytes(path: Path, limit: int) -> bytes:
    """Return what is in a regular file of at most `limit` bytes.

    Raises:
        FileRefused: it cannot be read, is something else, or is larger.
    """
    try:
        with open_regular(path) as file:
            data = _at_most(file, limit + 1)
    except (OSError, MemoryError) as error:
        cause = getattr(error, "strerror", None) or type(error).__name__
        raise FileRefused(
            path, f"cannot be read ({cause})", "Check that it exists and who may read it"
        ) from error
    if len(data) > limit:
        raise FileRefused(path, f"is larger than {limit} bytes", "Name the right file")
    return data


def read_text(path: Path, limit: int) -> str:
    """Return the text of a file of at most `limit` bytes; see `decode`."""
    return decode(path, read_bytes(path, limit))


def read_toml(path: Path, limit: int) -> dict[str, Any]:
    """Return the tables of a TOML file of at most `limit` bytes; see `parse_toml`."""
    return parse_toml(path, read_text(path, limit))


def read_json(path: Path, limit: int) -> Any:
    """Return the value in a JSON file of at most `limit` bytes.

    Raises:
        FileRefused: it cannot be read, or is not JSON.
    """
    text = read_text(path, limit)
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        place = f" (line {line})" if line else ""
        raise FileRefused(path, f"is not JSON{place}", "Correct it", syntax=True) from None


def decode(path: Path, data: bytes) -> str:
    """Return the text of UTF-8 bytes; a byte order mark, as Windows puts it, is left out.

    Raises:
        FileRefused: they are not UTF-8; names the byte.
    """
    remedy = "Save it as plain text in UTF-8"
    other = other_encoding(data)
    if other:
        raise FileRefused(path, f"is not UTF-8 text but {other}", remedy, syntax=True)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text ({_odd_byte(data, error.start)})"
        raise FileRefused(path, problem, remedy, syntax=True) from None


def other_encoding(data: bytes) -> str:
    """Name the encoding of `data` if it shows that it is another than UTF-8; else return nothing.

    By its byte order mark, or by zeros where every other byte of Western text has one.
    """
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if marked or b"\x00" not in data[:_SAMPLE_BYTES]:
        return marked
    sample = data[:_SAMPLE_BYTES]
    most = max(sample[0::2].count(0), sample[1::2].count(0))
    if most * 5 < len(sample) * 2:
        return f"has zeros in it (the first is byte {sample.index(0)})"
    return "UTF-16 without a mark" if sample.count(0) * 5 < len(sample) * 3 else "UTF-32"


def _odd_byte(data: bytes, at: int) -> str:
    """Say where the first byte stands that UTF-8 does not have, and what Windows takes it for."""
    line = data.count(b"\n", 0, at) + 1
    column = at - data.rfind(b"\n", 0, at)
    latin = data[at : at + 1].decode("cp1252", "ignore")
    meant = f", {latin} in Latin-1" if latin.isprintable() and latin else ""
    return f"byte {at} is 0x{data[at]:02X}{meant}; line {line}, column {column}"


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """Return the tables of a TOML text; `path` is for messages.

    Raises:
        FileRefused: it is not TOML, nests too deep, or has a number that no setting can be.
    """
    try:
        _check_keys(text)
        tables = tomllib.loads(text)
        _check_values(tables)
    except (ValueError, RecursionError, MemoryError) as error:
        problem = f"is not valid TOML ({_toml_problem(error, text)})"
        remedy = "Correct it; `agentd config check` helps"
        raise FileRefused(path, problem, remedy, syntax=True) from None
    return tables


def check_kind(path: Path, mode: int) -> None:
    """Refuse what is no regular file, by its `st_mode`.

    Raises:
        FileRefused: names what it is instead.
    """
    if stat.S_ISREG(mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
    raise FileRefused(path, f"is {kind}, not a file", "Name a regular file")


def _at_most(file: BinaryIO, limit: int) -> bytes:
    data = bytearray()
    while len(data) < limit and (chunk := file.read(min(_CHUNK_BYTES, limit - len(data)))):
        data += chunk
    return bytes(data)


def _check_keys(text: str) -> None:
    found = _LONG_KEY.search(text)
    if found:
        line = _line_of(text, found.start())
        raise ValueError(f"a key of more than {MAX_KEY_PARTS} parts (at line {line})")


def _check_values(tables: Mapping[str, Any]) -> None:
    """Refuse what cannot be a setting: numbers beyond 64 bits, and values nested too deep.

    Without recursion: dotted keys nest as deep as the file is long.
    """
    waiting: list[tuple[str, Any, int]] = [("", tables, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"{safe_text(name, 80)} nests deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            prefix = f"{name}." if name else ""
            waiting += [(f"{prefix}{key[:80]}", one, depth + 1) for key, one in value.items()]
        elif isinstance(value, list):
            waiting += [(name, one, depth + 1) for one in value]
        elif isinstance(value, int) and value not in _INT64:
            raise ValueError(f"{safe_text(name, 80)} is a number beyond 64 bits")


def _toml_problem(error: Exception, text: str) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deep"
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    if "integer string conversion" in str(error):
        # CVE-2020-10735: Python reads no decimal number of more digits; it does not say where
        most = sys.get_int_max_str_digits()
        found = re.search(rf"(?:\d_?){{{most + 1}}}", text)
        place = f" (at line {_line_of(text, found.start())})" if found else ""
        return f"a number has more than {most} digits{place}"
    return safe_text(str(error), 160)


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
