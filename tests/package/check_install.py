"""The life of the package, in the order of a life: install, answers, upgrade, downgrade, purge.

The tests of this file share one machine per suite and run in the order in which they stand.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

from tests.package import figures
from tests.package.conftest import DOWNGRADE, UPDATE, sources
from tests.package.debs import NEWER
from tests.package.machine import Machine

KEY = "AIzaTestKeyOfNobody-0123456789abcdefghi"
OURS = "/etc/agentd/conf.d/00-debconf.toml"

# Everything that is not a log, a cache, an index or gone at the next boot.
TREE = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp "
    "-o -path /var/tmp -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache "
    "-o -path /var/log -o -path /var/lib/systemd -o -path /srv -o -path /root "
    "-o -name __pycache__ -o -path /etc/apt \\) -prune -o -print | sort"
)
_before: dict[str, set[str]] = {}


def test_a_repository_signed_by_another_key_is_refused(bare: Machine, suite: str) -> None:
    """Apt takes nothing from a repository whose key it does not know."""
    path = "/etc/apt/sources.list.d/agentd.sources"
    bare.write(path, sources(suite, "/usr/share/keyrings/debian-archive-keyring.gpg"))
    result = bare.ask(f"apt-get -q {UPDATE} 2>&1")
    bare.write(path, sources(suite))
    assert result.returncode != 0
    assert "NO_PUBKEY" in result.stdout or "Missing key" in result.stdout


def test_the_repository_expires(bare: Machine, suite: str) -> None:
    """An old state, with its known faults, cannot be served for ever: apt heeds Valid-Until."""
    text = bare.read(f"/srv/apt/dists/{suite}/InRelease")
    made, until = (
        parsedate_to_datetime(match[1])
        for name in ("Date", "Valid-Until")
        if (match := re.search(rf"(?m)^{name}: (.*)$", text))
    )
    assert (until - made).days == 30


def test_apt_installs_it_from_the_signed_repository(bare: Machine, suite: str) -> None:
    """`apt-get install agentd` in a bare root: no question, no network, enabled."""
    _before[suite] = set(bare.run(TREE).splitlines())
    bare.apt(UPDATE)
    started = time.monotonic()
    bare.apt("install agentd")
    figures.note(
        suite, "apt-get install agentd, downloads cached", f"{time.monotonic() - started:.0f} s"
    )
    assert bare.run("systemctl is-enabled agentd agentd-firstboot").split() == ["enabled"] * 2
    assert bare.run("agentd --version").startswith("agentd ")
    kib = int(bare.run("dpkg-query -W -f '${Installed-Size}' agentd"))
    real = int(bare.run("du -sk /usr/lib/agentd | cut -f1"))
    figures.note(suite, "installed size, without and with byte code", f"{kib} and {real} KiB")


RESOLVE = """
import pkg_resources as p
todo = list(p.parse_requirements(TOP)); seen = set()
while todo:
    wanted = todo.pop()
    if str(wanted) in seen or (wanted.marker and not wanted.marker.evaluate({'extra': ''})):
        continue
    seen.add(str(wanted))
    found = p.working_set.by_key.get(wanted.key)
    if found is None or (found.version not in wanted.specifier and wanted.key != 'certifi'):
        print(wanted, 'but there is', found)
    todo += found.requires(wanted.extras) if found else []
"""


def test_every_library_finds_what_it_requires(bare: Machine, suite: str) -> None:
    """The vendored libraries accept the versions that Debian has of their requirements.

    certifi apart: Debian's is a view of the system's certificates, whatever its version says.
    """
    # Debian 13 has no lgpio: it comes from Raspberry Pi OS, or GPIO is left alone.
    extras = "aec,journal" + (",gpio" if suite == "bookworm" else "")
    script = RESOLVE.replace("TOP", f"'agentd[{extras}]'")
    python = "/usr/lib/agentd/bin/python3 -IB -W ignore -"
    assert bare.run(python, stdin=script.encode()) == ""


def test_every_library_can_be_imported_and_is_ours_or_debians(bare: Machine) -> None:
    """Imports work on this suite's interpreter; nothing of them comes from anywhere else."""
    modules = "google.genai pydantic websockets webrtcvad pyaudio gpiozero numpy"
    modules += " pywebrtc_audio cryptography requests"
    text = bare.run(
        "cd / && /usr/lib/agentd/bin/python3 -IB -W ignore -c 'import importlib, sys\n"
        f'for name in "{modules}".split(): '
        "print(importlib.import_module(name).__file__)'"
    )
    for path in text.split():
        assert path.startswith(("/usr/lib/agentd/lib/", "/usr/lib/python3/dist-packages/")), path


def test_byte_code_is_there_and_complete(bare: Machine) -> None:
    """Every module has its byte code, so no start compiles anything."""
    missing = bare.run(
        "cd /usr/lib/agentd/lib && find . -name '*.py' | while read -r file; do "
        'base=$(basename "$file" .py); set -- "$(dirname "$file")/__pycache__/$base".cpython-*.pyc;'
        ' [ -e "$1" ] || echo "$file"; done'
    )
    assert missing == ""


def test_the_shipped_configuration_is_valid_and_no_answer_was_written(bare: Machine) -> None:
    """A silent installation changes nothing: defaults stay where defaults belong."""
    bare.run("agentd config check")
    assert not bare.exists(OURS)


def test_man_pages_and_completion_are_there(bare: Machine) -> None:
    """Each page can be found by name, and the completion knows the commands."""
    for page in ("1 agentd", "5 agentd.toml", "8 agentd-set-key", "8 agentd-firstboot"):
        assert bare.run(f"man -w {page}").strip().endswith(".gz")
    words = bare.run(
        "bash -c '. /usr/share/bash-completion/completions/agentd; COMP_WORDS=(agentd st); "
        'COMP_CWORD=1; _agentd; echo "${COMPREPLY[@]}"\''
    )
    assert words.split() == ["status"]


def test_nobody_but_root_reads_the_key(bare: Machine) -> None:
    """The key goes to the credential store and into no other file, debconf's included."""
    bare.run("agentd-set-key", stdin=KEY.encode() + b"\n")
    assert bare.run("stat -c '%U:%G %a' /etc/credstore/gemini-api-key").strip() == "root:root 600"
    assert bare.read("/etc/credstore/gemini-api-key") == KEY
    others = bare.ask(f"grep -rlsF {KEY} /etc /var /usr/share | grep -v ^/etc/credstore/")
    assert others.stdout == ""


def test_a_key_with_a_space_or_nothing_at_all_changes_nothing(bare: Machine) -> None:
    """A slip of the clipboard does not replace a good key."""
    for wrong in (b"", b"\n", b"two words\n", b'"quoted"\n'):
        assert bare.ask("agentd-set-key", stdin=wrong).returncode == 1
    assert bare.read("/etc/credstore/gemini-api-key") == KEY


def test_answers_become_settings(bare: Machine) -> None:
    """Preseeded answers are in force afterwards, and only those that say something."""
    bare.run(
        "printf 'agentd agentd/language string id-ID\\nagentd agentd/capture-device string "
        "plughw:CARD=Mic,DEV=0\\nagentd agentd/backend select vertex\\n"
        "agentd agentd/vertex-project string kitchen-1\\n' | debconf-set-selections"
    )
    bare.run("dpkg-reconfigure -f noninteractive agentd 2>&1")
    text = bare.read(OURS)
    assert re.findall(r"^\w+ = .*$", text, re.MULTILINE) == [
        'language = "id-ID"',
        'backend = "vertex"',
        'project = "kitchen-1"',
        'capture_device = "plughw:CARD=Mic,DEV=0"',
    ]
    bare.run("agentd config check")


def test_an_edited_file_wins_over_an_old_answer(bare: Machine) -> None:
    """What a person writes into agentd.toml is read back and not contradicted."""
    bare.run('sed -i \'s/^# language = "en-US"/language = "de-DE"/\' /etc/agentd/agentd.toml')
    bare.run("dpkg-reconfigure -f noninteractive agentd 2>&1")
    assert "language" not in bare.read(OURS)
    assert "de-DE" in bare.run("debconf-show agentd")


def test_a_bad_answer_is_dropped(bare: Machine) -> None:
    """A preseeded value that could not be a setting is not written down."""
    bare.run(f"rm -f {OURS}")
    bare.run("debconf-set-selections", stdin=b'agentd agentd/playback-device string a"b\n')
    bare.run("dpkg-reconfigure -f noninteractive agentd 2>&1")
    assert not bare.exists(OURS) or "playback" not in bare.read(OURS)
    bare.run("agentd config check")


LIBRARY = "/usr/lib/agentd/lib/python3.*/site-packages/agentd"


def program(machine: Machine) -> tuple[str, str, set[str]]:
    """Return the version, a default and the modules that the installed program has."""
    default = machine.run("agentd config schema --format toml | grep '^# hangover_ms'")
    modules = machine.run(f"cd {LIBRARY}/service && ls ratelimit.py limits.py 2>/dev/null || :")
    return machine.run("agentd --version").strip(), default.strip(), set(modules.split())


def stray_byte_code(machine: Machine) -> set[str]:
    """Return the byte code without a module, and the modules without byte code."""
    found = machine.run(f"cd {LIBRARY} && find . -name '*.py' -o -name '*.pyc'").split()
    modules = {name for name in found if name.endswith(".py")}
    compiled = {
        re.sub(r"__pycache__/(.*)\.cpython-\d+\.pyc$", r"\1.py", name)
        for name in found
        if name.endswith(".pyc")
    }
    return modules ^ compiled


def test_an_upgrade_replaces_the_program_and_keeps_an_edited_file(
    bare: Machine, newer: str
) -> None:
    """Another version has other modules and defaults; its settings go beside the edited ones."""
    before = program(bare)
    bare.apt(f"-o Dpkg::Options::=--force-confold install {newer}")
    version, default, modules = program(bare)
    assert (version, modules) == (f"agentd {NEWER}", {"limits.py"})
    assert "640" in default
    assert before[0] != version
    assert before[2] == {"ratelimit.py"}
    assert stray_byte_code(bare) == set()
    text = bare.read("/etc/agentd/agentd.toml")
    assert 'language = "de-DE"' in text
    assert "hangover_ms = 600" in text
    assert "hangover_ms = 640" in bare.read("/etc/agentd/agentd.toml.dpkg-dist")
    assert bare.read("/etc/credstore/gemini-api-key") == KEY
    bare.run("agentd config check")


def test_a_downgrade_brings_the_older_program_back(bare: Machine) -> None:
    """The version before, nothing of the later one; the same settings, the same key."""
    bare.apt(DOWNGRADE)
    version, default, modules = program(bare)
    assert version != f"agentd {NEWER}"
    assert "600" in default
    assert modules == {"ratelimit.py"}
    assert stray_byte_code(bare) == set()
    assert 'language = "de-DE"' in bare.read("/etc/agentd/agentd.toml")
    assert bare.read("/etc/credstore/gemini-api-key") == KEY
    bare.run("agentd config check")


def test_removing_keeps_settings_and_key(bare: Machine) -> None:
    """`remove` is not `purge`: reinstalling takes up where it was left."""
    bare.apt("remove agentd")
    assert not bare.exists("/usr/lib/agentd")
    assert 'language = "de-DE"' in bare.read("/etc/agentd/agentd.toml")
    assert bare.read("/etc/credstore/gemini-api-key") == KEY
    bare.apt("install agentd")
    assert 'language = "de-DE"' in bare.read("/etc/agentd/agentd.toml")


def test_purging_leaves_nothing(bare: Machine, suite: str) -> None:
    """Files, folders, user, key, unit links, answers: as before, with nothing of others gone."""
    bare.apt("purge agentd")
    everything = "-o APT::AutoRemove::SuggestsImportant=0 -o APT::AutoRemove::RecommendsImportant=0"
    bare.apt(f"{everything} autoremove --purge")
    now = set(bare.run(TREE).splitlines())
    assert _before[suite] - now == set()
    left = now - _before[suite]
    assert {path for path in left if "agentd" in path or "cred" in path} == set()
    assert left == set()
    assert bare.ask("getent passwd agentd").returncode != 0
    assert bare.ask("debconf-show agentd").stdout == ""
    assert "agentd" not in bare.run("systemctl list-unit-files; journalctl --list-catalog")
