"""What peers, services, cards, files and the environment say, through every command to a terminal.

One walk over all commands: every text that could come from somebody else is hostile, and what is
printed, on a terminal and into a pipe, is lines of characters that are seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import socket
import sys
import tarfile
import tempfile
import threading
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agentd import events as e
from agentd.audio import cards
from agentd.cli.main import COMMANDS, main
from agentd.demo.narrator import Narrator
from agentd.demo.screen import PlainScreen, TerminalScreen
from agentd.events import event_types
from tests import test_status

# A title, colours by C0 and C1, a bell, a forged line, text turned round, half a character, a tag.
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\x00\x08\r\nforged: all is well\u2028\u202egnirts\u2066"
    "\udc9b\ud800\U000e0041\u00ad end"
)
LONG = HOSTILE + "A" * 60_000
# What rich and agentd paint with on purpose; none of it is in HOSTILE as it stands.
PAINT = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*[AGHJK]|2K|\?25[hl])")
LIMIT = 100_000


def hostile(value: Any) -> Any:
    """Return a document with every text in it hostile, and hostile names beside the known ones."""
    if isinstance(value, str):
        return LONG
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()} | {HOSTILE: 7}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return value


def status() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(test_status.document()))
    document["session"] |= {"tokens": {HOSTILE: 3}, "trouble": LONG, "connected": False}
    document["audio"]["playback"] |= {"trouble": LONG, "remedy": LONG}
    document["audio"]["capture"] |= {"alive": False, "trouble": LONG, "remedy": LONG}
    return typing.cast("dict[str, Any]", hostile(document))


ANSWERS: dict[str, Any] = {
    "status": status(),
    "watch": status(),
    "volume": {"percent": LONG},
    "volume.set": {"percent": LONG},
    "say": {"outcome": LONG},
    "instruct": {"outcome": LONG},
    "context.add": {"outcome": LONG},
    "forget": {"forgotten": LONG},
    "silence": {"silenced": True},
}


def toml(value: str) -> str:
    """Return a TOML string; half a character cannot be in one."""
    text = "".join(f"\\U{ord(c):08x}" for c in value if not "\ud800" <= c <= "\udfff")
    return f'"{text}"'


class Terminal(io.StringIO):
    """Standard output that says it is a terminal, or a pipe."""

    encoding = "utf-8"

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


class Daemon:
    """A control socket that gives one answer to whatever it is asked, again and again."""

    def __init__(self, folder: Path, answer: Callable[[str], dict[str, Any]]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "control.sock"))
        self._listener.listen()
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), peer, peer.makefile("rw", encoding="utf-8") as lines:
                for line in lines:
                    asked = json.loads(line)
                    answer = {"jsonrpc": "2.0", "id": asked["id"]} | self._answer(asked["method"])
                    lines.write(json.dumps(answer) + "\n")
                    if asked["method"] == "watch":
                        for _ in range(2):
                            told = {"method": "status", "params": answer.get("result")}
                            lines.write(json.dumps(told) + "\n")
                        lines.flush()
                        break
                    lines.flush()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path for a socket, and an environment in which every word is hostile."""
    with tempfile.TemporaryDirectory(prefix="w-") as name:
        path = Path(name)
        monkeypatch.setenv("RUNTIME_DIRECTORY", name)
        monkeypatch.setenv("STATE_DIRECTORY", name)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.chdir(path)
        yield path


DAEMONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "answers": lambda method: {"result": ANSWERS.get(method, {})},
    "refuses": lambda _method: {"error": {"code": -32000, "message": LONG}},
    "forbids": lambda _method: {"error": {"code": -32001, "message": LONG}},
    "answers nothing it should": lambda _method: {"result": {HOSTILE: LONG}},
    "answers with a text": lambda _method: {"result": LONG},
    "errs without an error": lambda _method: {"error": LONG},
}
ASKING = (
    ["status"],
    ["status", "--json"],
    ["status", "--watch"],
    ["status", "--watch", "--json"],
    ["mute"],
    ["unmute"],
    ["volume"],
    ["volume", "50"],
    ["silence"],
    ["say", "x"],
    ["instruct", "x"],
    ["context", "add", "x"],
    ["forget"],
    ["events"],
    ["events", "--json", "--transcripts"],
    ["tools"],
    ["tools", "--json"],
)


def printed(arguments: list[str], *, is_terminal: bool = False) -> tuple[int, str, str]:
    """Run a command in this process; return its status and what it printed."""
    out, err = Terminal(is_terminal=is_terminal), Terminal(is_terminal=is_terminal)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    finally:
        sys.stdout, sys.stderr = before
    return code, out.getvalue(), err.getvalue()


def is_harmless(text: str) -> bool:
    """Return whether `text` is bounded lines of characters that are seen, none of them forged."""
    lines = PAINT.sub("", text).replace("\r", "").split("\n")
    assert all(line.isprintable() for line in lines), [x for x in lines if not x.isprintable()]
    assert not any(line.startswith("forged") for line in lines), text
    assert len(text) < LIMIT
    return True


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("daemon", sorted(DAEMONS))
def test_a_daemon_that_says_anything(folder: Path, daemon: str, is_terminal: bool) -> None:
    """Every command that asks it: no traceback, nothing raw, and JSON that is JSON."""
    server = Daemon(folder, DAEMONS[daemon])
    try:
        for arguments in ASKING:
            code, out, err = printed(list(arguments), is_terminal=is_terminal)
            assert code in (0, 1)
            assert is_harmless(out)
            assert is_harmless(err)
            if "--json" in arguments:
                lines = "--watch" in arguments or arguments[0] == "events"
                for document in out.splitlines() if lines else [out]:
                    assert not document or json.loads(document) is not None
    finally:
        server.close()


@pytest.fixture
def config(folder: Path) -> Path:
    """A configuration that is wrong in hostile ways: keys, values, tables."""
    path = folder / "agentd.toml"
    text = toml(HOSTILE)
    path.write_text(
        f'[live]\n{text} = 1\n"{"k" * 60_000}" = 2\nvoice = {text}\nbackend = {text}\n'
        f"[vad]\naggressiveness = {text}\n[{text}]\nx = 1\n[audio]\ncapture_device = {text}\n",
        encoding="utf-8",
    )
    return path


def test_a_configuration_that_is_wrong_in_any_way(folder: Path, config: Path) -> None:
    """Every command that reads it names the problems, each in one bounded line."""
    for command in (
        "config check",
        "config show",
        "doctor",
        "doctor --json",
        "run",
        "leds off",
        "wake list",
    ):
        code, out, err = printed([*command.split(), "--config", str(config)])
        assert code == 78, command
        assert "unknown key" in out + err
        assert is_harmless(out)
        assert is_harmless(err)
        assert max(map(len, (out + err).splitlines())) < 2500
    code, out, err = printed(["bundle", "--config", str(config), "b.tar.gz"])
    assert (code, is_harmless(out), is_harmless(err)) == (0, True, True)


def test_a_good_configuration_with_hostile_values_is_shown_as_toml(folder: Path) -> None:
    """Escaped, so that it can be pasted back."""
    import tomllib

    value = '\x1b[2J"\\\u202e\x9b\x7f\U000e0041 Küche'
    path = folder / "agentd.toml"
    path.write_text(f"live.system_instruction = {toml(value)}\n", encoding="utf-8")
    code, out, _ = printed(["config", "show", "--config", str(path)])
    assert (code, is_harmless(out)) == (0, True)
    assert tomllib.loads(out)["live"]["system_instruction"] == value


def test_names_of_files_and_words_of_the_caller(folder: Path) -> None:
    """Arguments come back in messages."""
    name = HOSTILE.replace("\x00", "").replace("\udc9b\ud800", "\udc9b").replace("/", "")
    for arguments in (
        [name],
        ["status", name],
        ["volume", name],
        ["volume", "9" * 5000],
        ["config", name],
        ["config", "check", "--config", f"/nowhere/{name}"],
        ["bundle", f"/nowhere/{name}"],
        ["demo", "--out", f"/dev/null/{name}"],
        ["emulator", "--scenario", f"/nowhere/{name}"],
        ["emulator", "--fault", name],
        ["emulator", "--host", name],
        ["emulator", "--port", "99999"],
        ["emulator", "--ca-file", f"/nowhere/{name}"],
        ["emulator", "--time-scale", name],
    ):
        code, out, err = printed(arguments)
        assert code in (1, 2, 78), arguments
        assert is_harmless(out)
        assert is_harmless(err)
        assert err


def test_what_a_bundle_holds_is_text_that_can_be_read_anywhere(folder: Path) -> None:
    """Its parts are read with `less` and `cat`."""
    server = Daemon(folder, DAEMONS["answers"])
    try:
        code, out, err = printed(["bundle", "bundle.tar.gz"])
    finally:
        server.close()
    assert (code, is_harmless(out), is_harmless(err)) == (0, True, True)
    with tarfile.open(folder / "bundle.tar.gz") as archive:
        parts = {one.name: archive.extractfile(one) for one in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in parts.items() if file is not None}
    assert "agentd-bundle/status.json" in texts
    assert all(is_harmless(text) for text in texts.values())


def test_a_card_that_calls_itself_anything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the kernel's list and in ALSA's; `null` is offered as a speaker alone."""
    name = HOSTILE.replace("\n", " ").replace("\x00", "").encode("utf-8", "replace").decode()
    asound = folder / "asound"
    asound.mkdir()
    (asound / "cards").write_text(f" 0 [evil ]: USB-Audio - {name}\n   {name} at usb-1\n")
    (asound / "card0").mkdir()
    for pcm in ("pcm0c", "pcm0p"):
        (asound / "card0" / pcm).mkdir()
    home = folder / "asoundrc"
    home.write_text(
        f'pcm.evil {{ type null hint {{ show on description "{name}" }} }}\n'
        f'pcm."ev\x1bil" {{ type null hint {{ show on description "x" }} }}\n'
        'pcm.!null { type null hint { show on description "Discard all samples" } }\n'
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(home))
    real = cards.list_devices
    monkeypatch.setattr("agentd.audio.cards.list_devices", lambda: real(asound))
    code, out, err = printed(["devices"])
    assert (code, is_harmless(out), is_harmless(err)) == (0, True, True)
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()}
    assert rows["evil"] == "mic+speaker"
    assert rows.get("null", "speaker") == "speaker"
    code, out, _ = printed(["devices", "--json"])
    assert is_harmless(out)
    assert all(is_harmless(row["text"] + row["name"]) for row in json.loads(out))


def samples() -> Iterator[e.Event]:
    """Yield every kind of event with every text in it hostile."""
    for kind in event_types():
        hints = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            values[field.name] = LONG if hint is str else 1 if hint in (int, float) else None
            if hint is bool:
                values[field.name] = False
        yield kind(**values)


def test_the_demo_tells_any_event(folder: Path) -> None:
    """On both of its screens."""
    plain, painted = io.StringIO(), io.StringIO()
    rich = TerminalScreen(Console(file=painted, force_terminal=True, width=100, color_system=None))
    for screen in (PlainScreen(plain), rich):
        narrator = Narrator(screen, lambda: 1.0)
        for speaker in e.Speaker:
            narrator.on_transcript(e.TranscriptText(1, speaker, LONG))
        for event in samples():
            narrator.on_event(event)
            screen.now(narrator.state, -20.0)
        screen.close()
    assert plain.getvalue().count("\n") > 8
    assert all(is_harmless(line) for line in plain.getvalue().split("\n"))
    assert is_harmless("\n".join(PAINT.sub("", painted.getvalue()).split("\n")[-200:]))


def test_every_command_is_walked() -> None:
    """A new command is added to one of the tests above."""
    walked = {arguments[0] for arguments in ASKING}
    walked |= {"config", "doctor", "run", "leds", "bundle", "devices", "demo", "emulator", "wake"}
    assert set(COMMANDS) == walked
