"""Debian roots to boot: made once per suite and recipe, kept in the user's cache.

A root has systemd, the sound rig's server, and in apt's cache everything that the package depends
on, so that containers without a network install it, and installing measures no mirror. The
machine's own apt settings (proxy, certificates) are used at run time and written nowhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What the tests need beside the package: a machine that boots, sound, and a way to ask about both.
BASE: Final = (
    "systemd systemd-sysv dbus udev ca-certificates iproute2 procps "
    "pulseaudio pulseaudio-utils libasound2-plugins bash-completion man-db"
).split()
# What single tests install and use; dpkg-dev is wanted by autopkgtest, whatever the test.
TOOLS: Final = ["autopkgtest", "dpkg-dev", "locales"]


def cache() -> Path:
    """Return the folder that outlives a checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "agentd"


def dependencies() -> list[str]:
    """Return the Debian packages that debian/control names, recommended ones included."""
    control = (PROJECT / "debian/control").read_text(encoding="utf-8")
    names: list[str] = []
    for field in ("Depends", "Recommends"):
        match = re.search(rf"^{field}:((?:.*\n)(?: .*\n)*)", control, re.MULTILINE)
        assert match is not None
        for entry in match[1].split(","):
            name = entry.split("(")[0].split("|")[0].strip()
            if name and not name.startswith("$"):
                names.append(name)
    # From substvars: debian/rules and packaging/check_tree.py.
    return [*names, "python3", "python3-numpy", "libstdc++6", "libgcc-s1", "debconf"]


def apt_settings() -> list[str]:
    """Return this machine's way to its mirrors, as options for mmdebstrap."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    wanted = re.compile(
        r'^(Acquire::(?:https?|ftp|Check-[\w-]+|Retries)\b[^ ]*) "(.+)";$', re.MULTILINE
    )
    return [f'--aptopt={key} "{value}"' for key, value in wanted.findall(dump)]


def mirror(suite: str) -> list[str]:
    """Return apt lines for `suite` on the mirror that this machine uses."""
    policy = subprocess.run(["apt-cache", "policy"], check=True, capture_output=True, text=True)
    found = re.search(r"\d+ (\S+/debian/?) \S+/main", policy.stdout)
    lines = []
    if found:
        lines.append(f"deb [signed-by={KEYRING}] {found[1]} {suite} main")
    return lines


def base_root(suite: str, arch: str = "amd64", *, variant: str = "important") -> Path:
    """Return a root of `suite`, made if there is none yet for this recipe.

    `variant` "extract" gives an unbooted tree with the dependencies unpacked: all that a foreign
    architecture allows without running it. "minbase" gives the least Debian that apt works in.
    """
    include = {"extract": dependencies(), "minbase": []}.get(variant, BASE)
    recipe = [suite, arch, variant, *include, *dependencies(), *TOOLS, "5"]
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
    root = cache() / "roots" / f"{suite}-{arch}-{digest}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once make one root
        if not root.is_dir():
            _make(root, suite, arch, variant, include)
    return root


def _make(root: Path, suite: str, arch: str, variant: str, include: list[str]) -> None:
    foreign = variant == "extract"
    fresh = root.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--format=directory",
        f"--variant={variant}",
        f"--architectures={arch}",
        *([f"--include={','.join(include)}"] if include else []),
        *apt_settings(),
    ]
    if not foreign:
        command += [
            "--skip=cleanup/apt",
            # Into the cache of the root, not onto its disk.
            (
                '--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq -y '
                "--download-only -o APT::Install-Recommends=true install "
                f"{' '.join(dependencies())} systemd >/dev/null"
            ),
            (
                '--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq -y '
                f"--download-only install {' '.join(TOOLS)} >/dev/null"
            ),
        ]
    command += [suite, str(fresh), *mirror(suite)]
    subprocess.run(command, check=True)
    fresh.rename(root)
