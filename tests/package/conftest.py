"""Packages built once for the run, one machine for each suite, with and without agentd.

The files share the machine, in the order of `ORDER`: a life of the package that ends with its
purge, which is proved to leave nothing; a device set up from its boot partition; a speaker in use.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package import figures
from tests.package.debs import Packages, build_newer, built
from tests.package.machine import Machine
from tests.package.roots import PROJECT, base_root
from tests.package.speaker import Speaker

SUITES = os.environ.get("SUITES", "bookworm trixie").split()
ARCHES = os.environ.get("ARCHES", "amd64 arm64").split()
ORDER = [
    "check_build",
    "check_commands",
    "check_kernel",
    "check_install",
    "check_firstboot",
    "check_service",
    "check_faults",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files into the order of a life; leave alone what else `make test` collects."""
    here = Path(__file__).parent
    items.sort(key=lambda i: ORDER.index(i.path.stem) if i.path.parent == here else -1)


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
    """This tree's packages in a signed repository, and a place for a later version."""
    started = time.monotonic()
    targets = [f"{suite}/{arch}" for arch in ARCHES]
    subprocess.run([PROJECT / "packaging/build", *targets], check=True)
    figures.note(suite, f"building {' and '.join(ARCHES)}", f"{time.monotonic() - started:.0f} s")
    subprocess.run([PROJECT / "packaging/apt-repo"], check=True, capture_output=True)
    dist = PROJECT / "dist"
    found = {arch: built(suite, arch, dist) for arch in ARCHES}
    for arch, package in found.items():
        figures.note(suite, f"package, {arch}", f"{package.stat().st_size / 2**20:.1f} MiB")
    return Packages(found, tmp_path_factory.mktemp("newer"), dist / "apt")


@pytest.fixture(scope="session")
def newer(suite: str, packages: Packages) -> str:
    """The path, in the machine, of a later version's package."""
    return f"/srv/newer/{build_newer(suite, packages.newer)}"


@pytest.fixture(scope="session")
def bare(suite: str, packages: Packages) -> Iterator[Machine]:
    """A booted machine without agentd; the repository is at /srv/apt."""
    packages.of("amd64")
    binds = {
        packages.repository: "/srv/apt",
        packages.newer: "/srv/newer",
        PROJECT / "debian": "/srv/source/debian",
    }
    with Machine(base_root(suite), binds=binds) as machine:
        machine.write("/etc/apt/sources.list.d/agentd.sources", sources(suite))
        yield machine


@pytest.fixture(scope="session")
def speaker(bare: Machine, suite: str) -> Speaker:
    """The package on a machine with sound and a service; no key yet."""
    if bare.exists("/usr/bin/agentd"):
        bare.apt("purge agentd")
    bare.apt(UPDATE)
    bare.apt("install agentd")
    speaker = Speaker(bare, suite)
    speaker.prepare()
    return speaker


@pytest.fixture(scope="session")
def connected(speaker: Speaker) -> Speaker:
    """A speaker with the right key, in conversation."""
    speaker.set_key()
    speaker.wait_connected()
    return speaker


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """When a test of the speaker fails, its last journal entries are in the report."""
    yield
    if "speaker" in request.fixturenames:
        machine: Machine = request.getfixturevalue("bare")
        print(machine.ask("journalctl --no-pager -u agentd -n 60").stdout)


def sources(suite: str, key: str = "/srv/apt/agentd.gpg") -> str:
    """Return what a person writes into sources.list.d."""
    return f"Types: deb\nURIs: file:/srv/apt\nSuites: {suite}\nComponents: main\nSigned-By: {key}\n"


UPDATE = (
    "update -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/agentd.sources "
    "-o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"
)
DOWNGRADE = (
    "-o Dpkg::Options::=--force-confold --allow-downgrades install agentd/$(. /etc/os-release; "
    "echo $VERSION_CODENAME)"
)


@pytest.fixture(scope="session")
def speech() -> Path:
    """A sentence that is part of the product: somebody speaking."""
    clips = (PROJECT / "agentd/device/clips/en").glob("*.wav")
    return max(clips, key=lambda path: path.stat().st_size)
