"""Every command of the installed package, in a bare Debian without what is only recommended.

There is no init, no daemon, no sound card, no network, no key and no rich: each command does what
it can, or says in a line what is missing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agentd.cli.main import COMMANDS
from tests.package.bareroot import BareRoot
from tests.package.debs import Packages
from tests.package.roots import base_root


@dataclass(frozen=True, slots=True)
class Case:
    """A command line, the statuses that are right for it, and what it must say."""

    line: str
    statuses: tuple[int, ...] = (0,)
    says: str = ""


# `timeout` ends what runs until it is stopped, as Ctrl-C does; 124 says that it did.
STOPPED = "timeout --signal=INT --kill-after=20 15"
NOT_RUNNING = "the daemon is not running"
CASES = (
    Case("agentd --version", says="agentd "),
    Case("agentd", (2,), "usage"),
    Case(f"{STOPPED} agentd run", (0, 124), "ready"),
    Case("agentd demo --out /tmp/demo", says="6 of 6 utterances arrived whole and once"),
    Case(f"{STOPPED} agentd demo --live --out /tmp/demo", (0, 124), "Ctrl-C ends it"),
    Case(f"{STOPPED} agentd demo --real --out /tmp/demo", (0, 124), "Ctrl-C ends it"),
    Case("agentd doctor", (0, 1), "failed"),
    Case("agentd doctor --json", (0, 1), '"findings"'),
    Case("agentd doctor --loopback", (0, 1)),
    Case("agentd bundle /tmp/bundle.tar.gz", says="It holds no speech"),
    Case("agentd bundle /nowhere/bundle.tar.gz", (1,), "Name a new file"),
    Case("agentd devices", (0, 1)),
    Case("agentd devices --json", (0, 1)),
    Case("agentd status", (1,), NOT_RUNNING),
    Case("agentd status --json", (1,), NOT_RUNNING),
    Case("agentd status --watch", (1,), NOT_RUNNING),
    Case("agentd config check", says="the configuration is good"),
    Case("agentd config show", says="[live]"),
    Case("agentd config schema", says='"properties"'),
    Case("agentd config schema --format markdown", says="# Configuration"),
    Case("agentd config schema --format toml", says="# agentd"),
    Case("agentd mute", (1,), NOT_RUNNING),
    Case("agentd unmute", (1,), NOT_RUNNING),
    Case("agentd volume", (1,), NOT_RUNNING),
    Case(f"agentd volume {'9' * 5000}", (1,), "whole number from 0 to 100"),
    Case("agentd silence", (1,), NOT_RUNNING),
    Case("agentd say hello", (1,), NOT_RUNNING),
    Case("agentd instruct hello", (1,), NOT_RUNNING),
    Case("agentd context add hello", (1,), NOT_RUNNING),
    Case("agentd forget", says="there was nothing to delete"),
    Case("agentd leds off"),
    Case(f"{STOPPED} agentd emulator", (0, 124), '"event": "ready"'),
    Case("agentd emulator --port 99999", (1,), "choose another --port"),
    Case("agentd-set-key --help", says="usage"),
    Case("agentd-set-key", (1,), "no key was given"),
    Case("echo some-key-of-nobody | agentd-set-key", says="stored in"),
    Case("agentd-set-key --remove"),
    Case("/usr/libexec/agentd/import-boot-config"),
)


@pytest.fixture(scope="module")
def root(suite: str, packages: Packages) -> Iterator[BareRoot]:
    """The package in a bare root, by apt, without recommended packages."""
    with BareRoot(base_root(suite, variant="minbase")) as bare:
        bare.write("/srv/agentd.deb", packages.of("amd64").read_bytes())
        bare.run("apt-get -q install -y --no-install-recommends /srv/agentd.deb")
        shown = bare.ask("dpkg-query -W -f '${db:Status-Status}' python3-rich alsa-utils").stdout
        assert shown.replace("not-installed", "") == "installed"  # alsa-utils alone
        yield bare


def test_every_command_is_among_the_cases() -> None:
    """A new command gets its line above."""
    words = [shlex.split(case.line.split("|")[-1]) for case in CASES]
    tried = {line[line.index("agentd") + 1] for line in words if "agentd" in line[:-1]}
    assert set(COMMANDS) - tried == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line[:60])
def test_a_command_ends_well_or_says_what_is_missing(root: BareRoot, case: Case) -> None:
    """The right status, the right words, and never a traceback."""
    done = root.ask(f"cd /root; {case.line}", timeout_s=400.0)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert "\x1b" not in said
    assert done.returncode in case.statuses, said
    assert case.says in said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line[:60])
def test_a_user_without_a_home_gets_sentences_too(root: BareRoot, case: Case) -> None:
    """Nobody, in a folder that is not theirs, in a POSIX locale: no traceback."""
    if "6 of 6" in case.says:
        case = Case("agentd demo", (1,), "cannot be written to (Permission denied)")
    environment = {"HOME": "/nonexistent", "LANG": "", "LC_ALL": "POSIX"}
    line = f"cd /; PATH=$PATH:/usr/sbin; {case.line}"
    done = root.ask(line, user="nobody", env=environment, timeout_s=400.0)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert done.returncode in (*case.statuses, 1), said


def test_every_command_answers_help(root: BareRoot) -> None:
    """`agentd COMMAND --help`, all of them that `agentd --help` lists."""
    listed = re.findall(r"(?m)^    (\w+)", root.run("agentd --help"))
    assert set(listed) == set(COMMANDS)
    for name in listed:
        assert f"usage: agentd {name}" in root.run(f"agentd {name} --help")


def test_the_demo_on_a_terminal_without_rich_prints_plain_lines(root: BareRoot) -> None:
    """What is only suggested is not missed."""
    done = root.ask(
        "script --quiet --command 'timeout --signal=INT 30 agentd demo --out /tmp/demo' /dev/null",
        env={"TERM": "xterm"},
        timeout_s=400.0,
    )
    assert "Front center" in done.stdout
    assert "Traceback" not in done.stdout
