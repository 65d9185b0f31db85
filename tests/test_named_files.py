"""Files that people name: whatever lies there is read soon, or refused in one sentence."""

from __future__ import annotations

import codecs
import contextlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.config.files import load
from agentd.errors import ConfigError
from agentd.named_files import (
    MAX_DEPTH,
    MAX_KEY_PARTS,
    FileRefused,
    open_regular,
    parse_toml,
    read_bytes,
    read_json,
    read_text,
    read_toml,
)

SOMEWHERE = Path("/etc/agentd/agentd.toml")


def problem_of(text: str) -> str:
    """Return what is wrong with a TOML text."""
    with pytest.raises(FileRefused) as caught:
        parse_toml(SOMEWHERE, text)
    assert str(caught.value).isprintable()
    assert str(SOMEWHERE) in str(caught.value)
    assert caught.value.syntax
    return caught.value.problem


def put(path: Path, kind: str) -> None:
    """Put something that is no regular file at `path`."""
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a device", "a socket"])
def test_what_is_no_file_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    """A pipe, a directory, a device, a socket: nothing is opened, so nothing is waited for."""
    path = tmp_path / "x"
    put(path, kind)
    with pytest.raises(FileRefused, match=f"{path} is {kind}, not a file"):
        read_bytes(path, 100)


@pytest.mark.parametrize("where", ["agentd.toml", "conf.d/10-a.toml"])
@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a device", "a socket"])
def test_settings_that_are_no_file_are_refused_by_name(
    kind: str, where: str, tmp_path: Path
) -> None:
    """The main file and the drop-ins alike, also where none is needed."""
    (tmp_path / "conf.d").mkdir()
    put(tmp_path / where, kind)
    with pytest.raises(ConfigError, match=f"{where}: .*is {kind}, not a file"):
        load(tmp_path / "agentd.toml", required=False)


def test_a_file_swapped_for_a_pipe_in_between_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked at and what is opened may be two things; the second look decides."""
    regular, pipe = tmp_path / "regular", tmp_path / "pipe"
    regular.touch()
    os.mkfifo(pipe)
    seen = regular.stat()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", lambda *_args, **_kwargs: seen)
        with pytest.raises(FileRefused, match="is a pipe"):
            open_regular(pipe)


def test_a_link_to_a_regular_file_is_read(tmp_path: Path) -> None:
    """Configuration management links its files into place."""
    (tmp_path / "real").write_text("a = 1")
    (tmp_path / "link").symlink_to("real")
    assert read_toml(tmp_path / "link", 100) == {"a": 1}


def test_a_file_is_read_up_to_its_limit_and_not_beyond(tmp_path: Path) -> None:
    """A terabyte of holes costs no more memory than the limit."""
    path = tmp_path / "x"
    path.write_bytes(b"x" * 100)
    assert read_bytes(path, 100) == b"x" * 100
    os.truncate(path, 1 << 40)
    with pytest.raises(FileRefused, match="larger than 100 bytes"):
        read_bytes(path, 100)


@pytest.mark.parametrize("name", ["gone", "loop", "gone/below", "nul\0"])
def test_what_cannot_be_opened_is_one_sentence(name: str, tmp_path: Path) -> None:
    """Not there, a link to itself, a name that no file can have."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileRefused, match=r"cannot be read \(|is no name of a file"):
        read_bytes(tmp_path / name, 100)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"ab\xc3", "is not UTF-8 text (byte 2 is 0xC3, Ã in Latin-1; line 1, column 3)"),
        (
            '[live]\nvoice = "Köre"'.encode("latin-1"),
            "is not UTF-8 text (byte 17 is 0xF6, ö in Latin-1; line 2, column 11)",
        ),
        (b"a = '\x81'", "is not UTF-8 text (byte 5 is 0x81; line 1, column 6)"),
        ("a = 1".encode("utf-16"), "is not UTF-8 text but UTF-16"),
        (codecs.BOM_UTF16_BE + "a = 1".encode("utf-16-be"), "is not UTF-8 text but UTF-16"),
        ("a = 1".encode("utf-32"), "is not UTF-8 text but UTF-32"),
        (codecs.BOM_UTF32_BE + "a = 1".encode("utf-32-be"), "is not UTF-8 text but UTF-32"),
        ("a = 1".encode("utf-16-le"), "is not UTF-8 text but UTF-16 without a mark"),
        ("a = 1".encode("utf-16-be"), "is not UTF-8 text but UTF-16 without a mark"),
        ("a = 1".encode("utf-32-le"), "is not UTF-8 text but UTF-32"),
        (b"a = 1\x00", "is not UTF-8 text but has zeros in it (the first is byte 5)"),
    ],
)
def test_another_encoding_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    """Windows' editor has saved it so; the remedy names the encoding that is wanted."""
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(FileRefused) as caught:
        read_text(tmp_path / "x", 100)
    assert caught.value.problem == said
    assert "UTF-8" in caught.value.remedy


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    """Windows' editor puts one at the head of a UTF-8 file."""
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(tmp_path / "x", 100) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\nb = " + "9" * 5000, "a number has more than 4300 digits (at line 2)"),
        ("\nb = [1, " + "9_" * 5000 + "9]", "a number has more than 4300 digits (at line 2)"),
        ("[vad]\nonset_ms = 0x" + "f" * 5000, "vad.onset_ms is a number beyond 64 bits"),
        ("b = [1, 9223372036854775808]", "b is a number beyond 64 bits"),
        ("b = " + "[" * 100_000, "it nests too deep"),
        ("b" + ".b" * MAX_DEPTH + " = 1", f"nests deeper than {MAX_DEPTH}"),
        ("\n x = {a" + ".a" * 20_000 + " = 1}", f"more than {MAX_KEY_PARTS} parts (at line 2)"),
        ("a" + ' . "b"' * 20_000 + " = 1", f"more than {MAX_KEY_PARTS} parts (at line 1)"),
        ("a = 1\na = 2", "Cannot overwrite a value"),
        ("'\x1b]0;x' = 1", "at line 1, column 2"),
        ("a = 1\0", "at line 1"),
    ],
    ids=range(11),
)
def test_what_is_wrong_with_toml_is_said_with_its_place(text: str, said: str) -> None:
    """Numbers, nesting, repeated keys, control characters: one printable line each."""
    assert said in problem_of(text)


def test_the_deepest_table_and_the_largest_number_are_read() -> None:
    """The bounds themselves are allowed, and so is a text that looks like a long key."""
    key = ".".join("b" * (MAX_DEPTH - 1))
    text = f'{key} = [9223372036854775807]\nc = "{"a." * 200}"'
    assert parse_toml(SOMEWHERE, text)["c"] == "a." * 200


def test_memory_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit's memory is bounded; a refusal is better than a crash."""

    def fails(_text: str) -> None:
        raise MemoryError

    monkeypatch.setattr("tomllib.loads", fails)
    assert "too much memory" in problem_of("a = 1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n"a": }', r"is not JSON \(line 2\)"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON"),
    ],
)
def test_what_is_no_json_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    """Broken, nested without end, a number without end."""
    (tmp_path / "x").write_text(text)
    with pytest.raises(FileRefused, match=said):
        read_json(tmp_path / "x", 200_000)
    (tmp_path / "x").write_text('{"a": 1}')
    assert read_json(tmp_path / "x", 100) == {"a": 1}


@given(st.text(alphabet="ab.[]{}=\"'\n1_-, \\\x1b", max_size=60))
def test_no_text_whatever_raises_anything_else(text: str) -> None:
    """Any text is tables, or a refusal."""
    with contextlib.suppress(FileRefused):
        parse_toml(SOMEWHERE, text)


def test_hostile_keys_and_values_are_printable_and_short_in_messages(tmp_path: Path) -> None:
    """A key may hold any character; what is shown of it is one short line of a terminal."""
    file = tmp_path / "agentd.toml"
    file.write_text(f'"\\u001b]0;x\\u0007" = 1\n"{"k" * 60_000}" = 2\n[vad]\nonset_ms = "\\u009b"')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert len(caught.value.problems) == 3
    for problem in caught.value.problems:
        assert str(problem).isprintable()
        assert len(str(problem)) < 500
