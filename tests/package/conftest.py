"""Packages built once for the run, machines with and without them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package import figures
from tests.package.debs import Packages, repack
from tests.package.machine import Machine
from tests.package.roots import PROJECT, base_root

SUITES = os.environ.get("SUITES", "bookworm trixie").split()
RELEASES = {"bookworm": "12", "trixie": "13"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if figures.lines():
        terminalreporter.section("figures")
        for line in figures.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Each Debian release in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def packages(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """This tree's packages, a newer version of them, and a signed repository."""
    started = time.monotonic()
    targets = [f"{suite}/{arch}" for arch in ("amd64", "arm64")]
    subprocess.run([PROJECT / "packaging/build", *targets], check=True)
    figures.note(suite, "building amd64 and arm64", f"{time.monotonic() - started:.0f} s")
    subprocess.run([PROJECT / "packaging/apt-repo"], check=True, capture_output=True)
    dist = PROJECT / "dist"
    found = {
        arch: max(dist.glob(f"agentd_*+deb{RELEASES[suite]}_{arch}.deb"), key=os.path.getmtime)
        for arch in ("amd64", "arm64")
    }
    size = found["arm64"].stat().st_size
    figures.note(suite, "package size, arm64", f"{size / 2**20:.1f} MiB")
    newer = repack(found["amd64"], tmp_path_factory.mktemp("newer"), "9.0")
    return Packages(found["amd64"], found["arm64"], newer, dist / "apt")


@pytest.fixture(scope="module")
def bare(suite: str, packages: Packages) -> Iterator[Machine]:
    """A booted machine without agentd; the repository is at /srv/apt."""
    binds = {packages.repository: "/srv/apt", packages.newer.parent: "/srv/newer"}
    with Machine(base_root(suite), binds=binds) as machine:
        machine.write("/etc/apt/sources.list.d/agentd.sources", sources(suite))
        yield machine


def sources(suite: str, key: str = "/srv/apt/agentd.gpg") -> str:
    """Return what a person writes into sources.list.d."""
    return f"Types: deb\nURIs: file:/srv/apt\nSuites: {suite}\nComponents: main\nSigned-By: {key}\n"


UPDATE = (
    "update -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/agentd.sources "
    "-o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"
)


@pytest.fixture(scope="session")
def speech() -> Path:
    """A sentence that is part of the product: somebody speaking."""
    clips = (PROJECT / "agentd/audio/clips/en").glob("*.wav")
    return max(clips, key=lambda path: path.stat().st_size)
