"""What reaches a terminal: nothing raw, in any encoding, however the streams are."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.service import terminal
from agentd.text import json_text, printable_lines, safe_document

ROOT = Path(__file__).parents[1]
# Commands that need neither a daemon nor a sound card, each with its exit status.
COMMANDS = (
    (["--help"], 0),
    (["--version"], 0),
    (["status"], 1),
    (["config", "schema", "--format", "markdown"], 0),
    (["config", "schema"], 0),
    (["config", "show"], 0),
    (["emulator", "--help"], 0),
)


def run(
    *arguments: str, path: Path, head: str = "", tail: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `agentd` from a shell, with redirections behind it."""
    command = f'{head} "$0" -m agentd "$@" {tail}'
    clean = {"PATH": os.environ["PATH"], "HOME": str(path), "RUNTIME_DIRECTORY": str(path)}
    return subprocess.run(
        ["bash", "-c", command, sys.executable, *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
        check=False,
        cwd=path,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
    )


@pytest.fixture(scope="module")
def latin1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A locale whose terminals know no arrows, as variables."""
    folder = tmp_path_factory.mktemp("locale")
    done = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.iso88591")],
        check=False,
        capture_output=True,
    )
    if not (folder / "en_US.iso88591").is_dir():
        pytest.skip(f"localedef made no locale: {done.stderr.decode()[:200]}")
    return {"LOCPATH": str(folder), "LC_ALL": "en_US.iso88591"}


POSIX = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize(("arguments", "status"), COMMANDS)
def test_every_locale_is_printed_in(
    arguments: list[str], status: int, latin1: dict[str, str], tmp_path: Path
) -> None:
    """Latin-1 and ASCII terminals get the nearest characters, never a traceback."""
    for environment, encoding in ((latin1, "latin-1"), (POSIX, "ascii")):
        done = run(*arguments, path=tmp_path, **environment)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
        (done.stdout + done.stderr).encode(encoding)


def test_doctor_reports_on_a_latin1_terminal(latin1: dict[str, str], tmp_path: Path) -> None:
    """Remedies stand behind an arrow that Latin-1 does not have."""
    (tmp_path / "agentd.toml").write_text("[vad]\nonset = 3\n", encoding="utf-8")
    done = run("doctor", "--config", str(tmp_path / "agentd.toml"), path=tmp_path, **latin1)
    assert done.returncode == 78
    assert "-> Did you mean vad.onset_ms?" in done.stdout


@pytest.mark.parametrize(("arguments", "status"), COMMANDS)
def test_standard_streams_may_be_closed_or_cut_off(
    arguments: list[str], status: int, tmp_path: Path
) -> None:
    """`>&-`, `2>&-`, `| head -c0` and a full disk: no traceback, no complaint of Python's own."""
    assert run(*arguments, path=tmp_path, tail=">&-").returncode in (status, 1)
    assert run(*arguments, path=tmp_path, tail="<&- >&- 2>&-").returncode in (status, 1)
    cut = run(*arguments, path=tmp_path, head="set -o pipefail;", tail="| head -c0")
    full = run(*arguments, path=tmp_path, tail=">/dev/full")
    for done in (cut, full):
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    if status == 0:
        assert (full.returncode, full.stderr) == (
            1,
            "agentd: standard output: No space left on device\n",
        )


@pytest.mark.parametrize("columns", ["1", "20", "x"])
def test_a_narrow_terminal_is_written_on(columns: str, tmp_path: Path) -> None:
    """COLUMNS may be anything."""
    for arguments, status in ((["doctor", "--help"], 0), (["status"], 1)):
        done = run(*arguments, path=tmp_path, COLUMNS=columns)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False)


def test_a_dumb_terminal_gets_no_escape_sequences(tmp_path: Path) -> None:
    """TERM=dumb, or none at all: nothing paints."""
    for term in ({"TERM": "dumb"}, {}):
        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "w") as stream:
            code = (
                "import sys; from agentd.service import terminal\n"
                "with terminal.plain_streams():\n"
                "    print(terminal.can_be_painted(sys.stdout), terminal.console())"
            )
            environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | term
            subprocess.run([sys.executable, "-c", code], stdout=stream, env=environment, check=True)
        assert os.read(ours, 100).decode().strip() == "False None"
        os.close(ours)


def test_an_argument_that_the_locale_cannot_decode_is_what_was_typed(tmp_path: Path) -> None:
    """UTF-8 typed into a POSIX locale reaches the message as characters or their nearest."""
    done = run("volume", "fünf", path=tmp_path, **POSIX)
    assert (done.returncode, done.stderr) == (
        1,
        "agentd: volume funf: give a whole number from 0 to 100\n",
    )


@given(st.text())
def test_nothing_printed_steers_a_terminal(text: str) -> None:
    """Line ends remain; every other character is one that is seen, in the same number."""
    shown = printable_lines(text)
    assert len(shown) == len(text)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count("\n") == text.count("\n")
    shown.encode()


@given(st.text())
def test_the_stream_lets_nothing_through_and_raises_nothing(text: str) -> None:
    """In ASCII, too."""
    for encoding in ("ascii", "latin-1", "utf-8"):
        held = io.BytesIO()
        stream = io.TextIOWrapper(held, encoding, errors=terminal.ERRORS, newline="\n")
        terminal.PlainStream(stream).write(text)
        stream.flush()
        assert all(line.isprintable() for line in held.getvalue().decode(encoding).split("\n"))


def test_typography_becomes_its_nearest() -> None:
    """What agentd itself prints stays readable in ASCII."""
    assert terminal.nearest("→ “Küche” – ●▮▯ …", "ascii") == '-> "Kuche" - *#. ...'
    assert terminal.nearest("Küche ß →", "latin-1") == "Küche ß ->"
    assert terminal.nearest("日本", "ascii") == "??"


def test_the_streams_are_put_back() -> None:
    """A program that calls `main` has its own streams afterwards."""
    before = sys.stdout, sys.stderr
    with terminal.plain_streams():
        assert terminal.raw(sys.stdout) is before[0]
        sys.stdout.writelines(["a\n", "b\n"])
    assert (sys.stdout, sys.stderr) == before
    assert terminal.raw(before[0]) is before[0]


def test_json_is_ascii_and_has_no_infinities() -> None:
    """What `--json` prints, any parser reads."""
    value = {"a": [float("inf"), float("nan"), 1.5, ("→",)], "\x7f\udc80": None}
    text = json_text(value)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {"a": [None, None, 1.5, ["→"]], "\x7f\udc80": None}


def test_a_document_is_safe_in_names_and_values() -> None:
    """At every depth; numbers and flags stay."""
    assert safe_document({"a\x1b[2J": ["\u202eb\n", {"c": (1, True, None, 2.5)}]}) == {
        "a [2J": ["b", {"c": [1, True, None, 2.5]}]
    }
    assert safe_document("x" * 1000, 10) == "xxxxxxxxx…"
