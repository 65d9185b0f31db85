"""The command line: exit codes, messages, and what is not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentd.cli.main import COMMANDS, main

HEAVY = ("google.genai", "pydantic", "pyaudio", "asyncio")


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `agentd` as a user would, in a home of its own."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C"}
    return subprocess.run(
        [sys.executable, "-m", "agentd", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(Path(__file__).parent.parent)} | environment,
    )


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`agentd COMMAND --help` works for all of them."""
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"agentd {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["config"], ["config", "eat"], ["volume", "1", "2"], ["say"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    """Argparse's message and status."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_bad_configuration_exits_with_78_and_names_every_problem(tmp_path: Path) -> None:
    """`config check` and `run` alike."""
    file = tmp_path / "agentd.toml"
    file.write_text("[vad]\naggressiveness = 9\nhangover_ms = 1\n")
    for command in (["config", "check"], ["config", "show"], ["run"]):
        done = run(*command, "--config", str(file), cwd=tmp_path)
        assert done.returncode == 78, done.stderr
        assert f"{file}: vad.aggressiveness = 9" in done.stderr
        assert f"{file}: vad.hangover_ms = 1" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_good_configuration_is_said_to_be_good(tmp_path: Path) -> None:
    """`config check` names the files it read."""
    file = tmp_path / "agentd.toml"
    file.write_text('live.voice = "Puck"\n')
    done = run("config", "check", "--config", str(file), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"the configuration is good ({file})\n")


def test_show_prints_what_is_in_force(tmp_path: Path) -> None:
    """`config show` prints TOML with the file's values."""
    file = tmp_path / "agentd.toml"
    file.write_text('live.voice = "Puck"\n')
    done = run("config", "show", "--config", str(file), cwd=tmp_path)
    assert 'voice = "Puck"' in done.stdout


@pytest.mark.parametrize("form", ["json", "markdown", "toml"])
def test_the_schema_is_printed_in_each_form(form: str, tmp_path: Path) -> None:
    """All three name a key that everybody sets."""
    done = run("config", "schema", "--format", form, cwd=tmp_path)
    assert done.returncode == 0
    assert "capture_device" in done.stdout


@pytest.mark.parametrize(
    "command",
    [["status"], ["status", "--json"], ["mute"], ["unmute"], ["say", "x"], ["instruct", "x"]],
)
def test_without_a_daemon_the_remedy_is_told(command: list[str], tmp_path: Path) -> None:
    """Exit 1 and what to start."""
    done = run(*command, cwd=tmp_path, RUNTIME_DIRECTORY=str(tmp_path))
    assert done.returncode == 1
    assert "systemctl start agentd" in done.stderr


def test_status_imports_nothing_heavy(tmp_path: Path) -> None:
    """On a Pi, asking how things are must not load the SDK first."""
    code = (
        "import sys; from agentd.cli.main import main; main(['status'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"RUNTIME_DIRECTORY": str(tmp_path)},
    )
    assert done.stdout == "[]\n"


def test_the_version_is_the_packages() -> None:
    """`agentd --version`."""
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_configuration_in_another_encoding_is_named(encoding: str, tmp_path: Path) -> None:
    """File, what it is and the remedy, in whatever way it was saved; UTF-8 with a mark is read."""
    file = tmp_path / "agentd.toml"
    text = '[live]\nsystem_instruction = "Küche"\n'
    file.write_bytes(text.encode("utf-8-sig"))
    assert run("config", "check", "--config", str(file), cwd=tmp_path).returncode == 0
    (tmp_path / "conf.d").mkdir()
    drop_in = tmp_path / "conf.d" / "10-kitchen.toml"
    drop_in.write_bytes(text.encode(encoding))
    done = run("config", "check", "--config", str(file), cwd=tmp_path)
    assert done.returncode == 78
    assert f"{drop_in}: (syntax): is not UTF-8 text" in done.stderr
    assert "Save it as plain text in UTF-8" in done.stderr
