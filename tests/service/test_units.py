"""The unit and what belongs to it, judged by systemd's own tools."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "agentd.service"
MAX_EXPOSURE = 1.3


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (systemd)")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


def directives() -> dict[str, list[str]]:
    """Return the values of each directive of the unit."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_sandbox_is_tight() -> None:
    """Systemd rates the exposure at 1.3 or less."""
    done = analyze("security", "--offline=yes", "--no-pager", str(UNIT))
    found = re.search(r"Overall exposure level for agentd.service: ([\d.]+)", done.stdout)
    assert found, done.stderr
    print(found[0])
    assert float(found[1]) <= MAX_EXPOSURE


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """No unknown directive, no wrong value, in the unit or its drop-ins for this version."""
    # What may not exist beside a checkout stands in: the command, kill, and the manual page.
    text = UNIT.read_text().replace("/usr/bin/agentd", "/bin/true")
    text = text.replace("/bin/kill", "/bin/true")
    unit = tmp_path / "agentd.service"
    unit.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    drop_ins = tmp_path / "agentd.service.d"
    drop_ins.mkdir()
    for name in ("shared-dmix.conf", "encrypted-credentials.conf"):
        shutil.copy(SYSTEMD / "dropins" / name, drop_ins)
    done = analyze("verify", "--recursive-errors=no", str(unit))
    ours = [line for line in done.stderr.splitlines() if "agentd" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Type", ["notify"]),
        ("Restart", ["always"]),
        ("StartLimitIntervalSec", ["0"]),
        ("RestartPreventExitStatus", ["78"]),
        ("TimeoutStopSec", ["10"]),
        ("User", ["agentd"]),
        ("StateDirectoryMode", ["0700"]),
        ("DevicePolicy", ["closed"]),
        # Speech and keys stay off the disk, and a hostile peer fills nobody else's memory.
        ("LimitCORE", ["0"]),
        ("MemorySwapMax", ["0"]),
        ("MemoryMax", ["256M"]),
        ("LimitDATA", ["512M"]),
        ("OOMPolicy", ["continue"]),
        # The number is there before the first sound module is; the name is not.
        ("DeviceAllow", ["char-116 rw", "char-alsa rw", "char-gpiochip rw"]),
        ("ExecStopPost", ["-/usr/bin/agentd leds off"]),
    ],
)
def test_the_unit_keeps_its_promises(name: str, values: list[str]) -> None:
    """What other parts rely on."""
    assert directives()[name] == values


def test_a_missing_credential_is_no_failure_to_start() -> None:
    """An absolute path in LoadCredential= that is missing is a restart loop (exit 243)."""
    assert directives()["LoadCredential"] == ["gemini-api-key", "google-application-credentials"]


def test_only_directives_of_debian_12_are_in_the_unit() -> None:
    """Later ones are in the drop-in for later systemd."""
    later = {"RestartSteps", "RestartMaxDelaySec"}
    assert not later & set(directives())
    drop_in = configparser.ConfigParser(strict=False)
    drop_in.read(SYSTEMD / "dropins" / "systemd-254.conf")
    assert drop_in["Service"]["type"] == "notify-reload"
    assert {name.lower() for name in later} <= set(drop_in["Service"])


def test_the_user_and_its_groups_are_made(tmp_path: Path) -> None:
    """systemd-sysusers makes user and groups in a bare root."""
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not installed (systemd)")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("root:x:0:\naudio:x:29:\n")
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "agentd.sysusers"],
        check=True,
        capture_output=True,
    )
    groups = (tmp_path / "etc/group").read_text()
    assert re.search(r"^audio:x:29:agentd$", groups, re.MULTILINE)
    assert re.search(r"^gpio:x:\d+:agentd$", groups, re.MULTILINE)
    assert re.search(r"^agentd-tools:x:\d+:$", groups, re.MULTILINE)
    assert re.search(r"^agentd-transcripts:x:\d+:$", groups, re.MULTILINE)
    assert ":/var/lib/agentd:/usr/sbin/nologin" in (tmp_path / "etc/passwd").read_text()


def test_directories_are_for_those_who_need_them(tmp_path: Path) -> None:
    """systemd-tmpfiles makes those of secrets 0700, and those of groups enterable by them alone."""
    if shutil.which("systemd-tmpfiles") is None:
        pytest.skip("systemd-tmpfiles is not installed (systemd)")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nagentd:x:901:901::/:/bin/sh\n")
    groups = "root:x:0:\nagentd:x:901:\nagentd-tools:x:902:\nagentd-transcripts:x:903:\n"
    (tmp_path / "etc/group").write_text(groups)
    done = subprocess.run(
        ["systemd-tmpfiles", f"--root={tmp_path}", "--create", SYSTEMD / "agentd.tmpfiles"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/credstore").stat().st_mode & 0o777 == 0o700
    for group, number in (("agentd-tools", 902), ("agentd-transcripts", 903)):
        folder = (tmp_path / "run/agentd-doors" / group).stat()
        assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o7777) == (901, number, 0o2750)


def test_no_python_module_hides_in_the_folder() -> None:
    """The folder has the name of the Python module of systemd; it must not become one."""
    assert not list(SYSTEMD.glob("**/*.py"))
