"""What the packages promise and can be proved without building one."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def test_every_dependency_is_in_the_devices_lock_or_debians() -> None:
    """A dependency added to pyproject.toml reaches the package: `make lock-device`."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower()
        for requirement in (
            *project["dependencies"],
            *extras["aec"],
            *extras["gpio"],
            *extras["vad"],
        )
    }
    lock = (PROJECT / "requirements/device.lock").read_text(encoding="utf-8")
    locked = {name.lower() for name in re.findall(r"(?m)^([A-Za-z0-9._-]+)==", lock)}
    make = (PROJECT / "packaging/package.mk").read_text(encoding="utf-8").replace("\\\n", " ")
    provided = re.search(r"DEBIAN_PROVIDES := (.*)", make)
    assert provided is not None
    assert wanted - locked - set(provided[1].split()) == set()


def test_the_devices_lock_has_the_versions_that_are_tested() -> None:
    """What runs on a device is what `make test` ran with."""

    def pins(name: str) -> dict[str, str]:
        text = (PROJECT / f"requirements/{name}.lock").read_text(encoding="utf-8")
        return dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==(\S+)", text))

    tested = pins("runtime") | pins("dev")
    assert {n: v for n, v in pins("device").items() if tested.get(n, v) != v} == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[live]\nlanguage = "id-ID"\n', "id-ID"),
        ("[ live ] # here\n  language='de-DE' # there\n", "de-DE"),
        ('[live]\n# language = "xx"\n[live.compression]\nlanguage = "no"\n', ""),
        ('language = "top"\n[live]\nlanguage = "a"\nlanguage_x = "b"\n', "a"),
        ("", ""),
    ],
)
def test_the_installer_reads_settings_as_the_daemon_does(
    tmp_path: Path, text: str, expected: str
) -> None:
    """The few keys that debconf asks about are found where a person wrote them."""
    file = tmp_path / "agentd.toml"
    file.write_text(text, encoding="utf-8")
    script = f'. {PROJECT}/debian/settings.sh; read_toml live language "{file}"'
    result = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == expected


def test_the_questions_name_settings_that_exist_with_their_defaults() -> None:
    """debian/settings.sh follows the schema."""
    from agentd.config.fields import find_field

    script = (
        f". {PROJECT}/debian/settings.sh; for question in $QUESTIONS; do "
        "echo $(key_of $question) = $(default_of $question); done"
    )
    result = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    for line in result.stdout.splitlines():
        place, _, default = line.partition(" =")
        field = find_field(tuple(place.split()))
        assert field is not None, place
        assert (field.default or "") == default.strip(), place


def test_man_pages_and_completion_know_every_command(tmp_path: Path) -> None:
    """They are written from the parser."""
    from agentd.cli.main import COMMANDS

    subprocess.run(
        ["/usr/bin/python3", "-B", "packaging/helptexts.py", tmp_path, "2026-01-01"],
        check=True,
        cwd=PROJECT,
    )
    manual = (tmp_path / "agentd.1").read_text(encoding="utf-8")
    completion = (tmp_path / "agentd.bash").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"\\fB{name}\\fR" in manual
        assert f" {name}) words=" in completion
    subprocess.run(["bash", "-n", tmp_path / "agentd.bash"], check=True)


def test_the_translation_is_complete() -> None:
    """Every question can be read in Indonesian."""
    text = (PROJECT / "debian/po/id.po").read_text(encoding="utf-8")
    entries = re.findall(r'^msgid (".*?)\nmsgstr (".*?)(?=\n\n|\Z)', text, re.DOTALL | re.MULTILINE)
    assert len(entries) > 10
    assert [key for key, value in entries if value.strip() == '""'] == []
    assert "fuzzy" not in text


def test_what_signs_installs_the_agent() -> None:
    """Secret keys are the agent's, which Debian's gpg only recommends."""
    for script in filter(Path.is_file, (PROJECT / "packaging").iterdir()):
        text = script.read_text(encoding="utf-8").replace("\\\n", " ")
        needed = re.search(r"(?m)^need (.*)$", text)
        if needed is not None and "gpg" in needed[1].split():
            assert "gpg-agent" in needed[1].split(), script.name
    assert "need reprepro gpg gpg-agent" in (PROJECT / "packaging/apt-repo").read_text()
