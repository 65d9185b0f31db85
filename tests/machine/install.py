"""The package, installed by apt in the booted machine: a disk that every check starts from.

Kept for as long as package and image stay the same, together with what the installation told.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rig.netns import Namespace
from tests.machine.board import Board
from tests.machine.image import SUITE, Image, base_image
from tests.machine.qemu import overlay
from tests.package.roots import PROJECT

BUILD: Final = PROJECT / "build/machine"
_LAYER: Final = "2"


@dataclass(frozen=True, slots=True)
class Installed:
    """A disk with the package on it, and how it came there."""

    disk: Path
    package: str
    apt: str


def _build() -> Path:
    """Build this tree's package for the machine."""
    environment = os.environ | {
        "AGENTD_DIST": str(BUILD / "dist"),
        "AGENTD_BUILD": str(BUILD / "deb"),
    }
    subprocess.run(
        ["nice", "-n", "10", PROJECT / "packaging/build", f"{SUITE}/arm64"],
        check=True,
        env=environment,
        stdout=sys.stderr,
    )
    return max((BUILD / "dist").glob("agentd_*_arm64.deb"), key=os.path.getmtime)


def package() -> Path:
    """Return the package that AGENTD_DEB names, or else this tree's."""
    named = os.environ.get("AGENTD_DEB")
    return Path(named) if named else _build()


def installed(image: Image, deb: Path) -> Installed:
    """Return a disk with the package installed, made if package or image are new."""
    content = hashlib.sha256(deb.read_bytes()).hexdigest()
    key = f"{content} {image.disk.parent.name} {_LAYER}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    folder = image.disk.parent.parent / f"installed-{digest}"
    if not folder.is_dir():
        for old in folder.parent.glob("installed-*"):
            shutil.rmtree(old)
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        facts = _install(image, deb, fresh / "disk.qcow2")
        (fresh / "facts.json").write_text(json.dumps(asdict(facts), default=str), encoding="utf-8")
        fresh.rename(folder)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Installed(folder / "disk.qcow2", facts["package"], facts["apt"])


def _install(image: Image, deb: Path, disk: Path) -> Installed:
    overlay(image.disk, disk)
    namespace = Namespace("installation")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="agentd-machine-") as work,
            Board(image, disk, Path(work), namespace) as board,
        ):
            board.switch_on()
            board.wait_booted()
            target = f"/root/{deb.name}"
            board.write(target, deb.read_bytes())
            told = board.run(
                f"apt-get -q -y -o Dpkg::Use-Pty=0 install {target} 2>&1", timeout_s=1200
            )
            # Each check starts it when it has told it where the service is.
            board.run(
                "systemctl disable agentd; systemctl kill -s KILL agentd; rm /root/*.deb; sync"
            )
            version = board.run("dpkg-query -W agentd").strip()
            board.switch_off()
    finally:
        namespace.close()
    assert re.search(r"Setting up agentd", told), told
    return Installed(disk, version.replace("\t", " "), told)


if __name__ == "__main__":
    chosen = package()
    installed(base_image(), chosen)
    print(chosen)
