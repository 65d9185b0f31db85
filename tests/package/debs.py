"""Packages under test, and a later version that really is another program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.package.roots import PROJECT

NEWER: Final = "9.0"
RELEASES: Final = {"bookworm": "12", "trixie": "13"}


@dataclass(frozen=True, slots=True)
class Packages:
    """What one suite's tests install."""

    debs: Mapping[str, Path]
    newer: Path  # the folder in which a later version will be
    repository: Path

    def of(self, arch: str) -> Path:
        """Return the package for an architecture; skip the test if ARCHES leaves it out."""
        if arch not in self.debs:
            pytest.skip(f"ARCHES has no {arch}")
        return self.debs[arch]


def built(suite: str, arch: str, dist: Path) -> Path:
    """Return the newest package of a suite and architecture in `dist`."""
    found = dist.glob(f"agentd_*+deb{RELEASES[suite]}_{arch}.deb")
    return max(found, key=os.path.getmtime)


def build_newer(suite: str, folder: Path) -> str:
    """Build a later version into `folder` and return its file name.

    It differs as versions do: a module has gone and another has come, a setting has another
    default, and so has the configuration file, and state is written in a format that the version
    before does not know, while the format of that version is still read.
    """
    tree = folder / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, tree / name, follow_symlinks=False)
    _advance(tree)
    (tree / "build").mkdir()
    (tree / "build/wheels").symlink_to(PROJECT / "build/wheels")
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=tree, check=True)
    subprocess.run(
        [tree / "packaging/build", f"{suite}/amd64"],
        env={**os.environ, "AGENTD_DIST": str(folder), "DEB_BUILD_OPTIONS": ""},
        check=True,
    )
    shutil.rmtree(tree)
    return built(suite, "amd64", folder).name


def _advance(tree: Path) -> None:
    """Make the next version of a source tree."""
    _edit(tree / "agentd/__init__.py", r'__version__ = ".*"', f'__version__ = "{NEWER}"')
    changelog = tree / "debian/changelog"
    text = changelog.read_text(encoding="utf-8")
    entry = re.sub(r"^agentd \(.*?\)", f"agentd ({NEWER})", text.split("\nagentd (")[0])
    changelog.write_text(f"{entry.rstrip()}\n\n{text}", encoding="utf-8")
    (tree / "agentd/service/ratelimit.py").rename(tree / "agentd/service/limits.py")
    for path in (tree / "agentd").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "agentd.service.ratelimit" in source:
            path.write_text(
                source.replace("agentd.service.ratelimit", "agentd.service.limits"),
                encoding="utf-8",
            )
    _edit(tree / "config/agentd.toml", r"(?m)^# hangover_ms = \d+", "# hangover_ms = 640")
    _edit(
        tree / "agentd/config/settings.py",
        r"hangover_ms: int = Field\(\d+",
        "hangover_ms: int = Field(640",
    )
    envelope = tree / "agentd/state/envelope.py"
    _edit(envelope, r"(?m)^FORMAT = 1$", "FORMAT = 2")
    _edit(envelope, r'envelope\["format"\] != FORMAT', 'envelope["format"] not in (1, FORMAT)')
    _edit(
        envelope, r"checksum = _checksum\(kind, canonical\(document\)\)",
        'checksum = _checksum(kind, canonical(document), envelope["format"])',
    )  # fmt: skip
    _edit(envelope, r"kind: str, text: str\) -> str:", "kind: str, text: str, form=FORMAT):")
    _edit(envelope, r"\{FORMAT\}\\n\{kind\}", r"{form}\\n{kind}")


def _edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace one place of a file; a pattern that fits nowhere is an error."""
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=1)
    assert count == 1, f"{path} has nothing like {pattern}"
    path.write_text(text, encoding="utf-8")
