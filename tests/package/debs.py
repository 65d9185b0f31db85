"""Packages under test, and the same package with another version and another conffile."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Packages:
    """What one suite's tests install."""

    amd64: Path
    arm64: Path
    newer: Path
    repository: Path


def repack(package: Path, folder: Path, version: str) -> Path:
    """Return `package` as `version`, with a line more in its configuration file."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text(encoding="utf-8")
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", text), encoding="utf-8")
    settings = tree / "etc/agentd/agentd.toml"
    settings.write_text(settings.read_text(encoding="utf-8") + "\n# new in 9.0\n", encoding="utf-8")
    digest = hashlib.md5(settings.read_bytes(), usedforsecurity=False).hexdigest()
    sums = tree / "DEBIAN/md5sums"
    listed = re.sub(
        r"(?m)^\w+  etc/agentd/agentd.toml$",
        f"{digest}  etc/agentd/agentd.toml",
        sums.read_text(encoding="utf-8"),
    )
    sums.write_text(listed, encoding="utf-8")
    result = folder / f"agentd_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "-b", "-Zgzip", "-z1", tree, result], check=True, stdout=-3)
    subprocess.run(["rm", "-rf", tree], check=True)
    return result
