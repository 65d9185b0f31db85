"""What the project as a whole promises, whatever its modules do."""

from __future__ import annotations

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import agentd

ROOT = Path(__file__).resolve().parent.parent


def test_unit_folder_is_no_package() -> None:
    """The folder `systemd/` can never become importable: it has no `__init__.py`."""
    assert not (ROOT / "systemd" / "__init__.py").exists()


def test_only_the_package_is_packaged(tmp_path: Path) -> None:
    """A wheel holds all of both packages, sounds and tables included, and nothing else."""
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__"),
    )
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(tmp_path), str(source)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = ("agentd", "live_emulator")
    metadata = f"agentd-{agentd.__version__}.dist-info"
    assert {n.split("/")[0] for n in names} == {*ours, metadata}
    for package in ours:
        assert {str(p.relative_to(source)) for p in (source / package).rglob("*.*")} <= names


def test_metadata_and_code_agree_on_the_version() -> None:
    """`agentd --version` and the installed metadata come from one line."""
    assert importlib.metadata.version("agentd") == agentd.__version__


def test_locks_name_no_index() -> None:
    """The locks work with any index or mirror: they hold hashes and no address."""
    for lock in ("runtime.lock", "dev.lock"):
        text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "--index" not in text
        assert "--extra-index" not in text


def test_locks_leave_to_debian_what_debian_provides() -> None:
    """Packages that would need a compiler, and cryptography, come from Debian."""
    for lock in ("runtime.lock", "dev.lock"):
        text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
        pinned = {line.partition("==")[0] for line in text.splitlines() if "==" in line}
        assert pinned.isdisjoint({"pyaudio", "cryptography", "cffi", "gpiozero"})


def test_both_locks_agree() -> None:
    """What the tests run is what devices run: dev.lock repeats runtime.lock's versions."""

    def pins(lock: str) -> set[str]:
        text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
        return {line.split(";")[0].rstrip(" \\") for line in text.splitlines() if "==" in line}

    assert pins("runtime.lock") <= pins("dev.lock")


def test_pure_core_is_listed_once() -> None:
    """The list of pure modules holds no module twice and nothing outside the package."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        core = tomllib.load(file)["tool"]["agentd"]["pure-core"]
    assert len(core) == len(set(core))
    assert all(path.startswith("agentd/") and path.endswith(".py") for path in core)


def test_every_test_states_a_fact() -> None:
    """Each test function has a docstring that says what is true."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and ast.get_docstring(node) is None
    ]
    assert silent == []
