"""Hold the vendored binaries against the target, and name the libraries they need.

`check_tree.py SITE ARCH SUITE` fails on a binary of another machine, on a glibc that the suite does
not have, and on a library that no package is known for. Prints nothing but writes the Debian
packages, with the least glibc, to debian/agentd.substvars.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

MACHINES = {"amd64": "X86-64", "arm64": "AArch64", "armhf": "ARM"}
GLIBC = {"bookworm": (2, 36), "trixie": (2, 41)}
# Library -> Debian package. The loader and libc come with the least version instead.
PACKAGES = {
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
    "libatomic.so.1": "libatomic1",
}
LIBC = re.compile(r"^(lib(c|m|pthread|dl|rt|util)\.so\.\d+|ld-linux.*\.so\.\d+)$")


def readelf(path: Path) -> str:
    """Return header, dynamic section and version needs of an ELF file of any machine."""
    return subprocess.run(
        ["readelf", "-W", "-h", "-d", "-V", str(path)], check=True, capture_output=True, text=True
    ).stdout


def examine(path: Path, arch: str) -> tuple[set[str], tuple[int, ...]]:
    """Return the libraries and the newest glibc symbol version that `path` needs."""
    text = readelf(path)
    machine = re.search(r"Machine:\s+(.*)", text)
    if machine is None or MACHINES[arch] not in machine[1]:
        raise SystemExit(f"{path} is for {machine and machine[1]}, not for {arch}")
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", text))
    versions = [tuple(map(int, v.split("."))) for v in re.findall(r"Name: GLIBC_([\d.]+)", text)]
    return needed, max(versions, default=(2, 17))


def main() -> None:
    """Check every binary below SITE."""
    site, arch, suite = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    packages: set[str] = set()
    glibc: tuple[int, ...] = (2, 17)
    bundled = {path.name for path in site.rglob("*.so*")}
    for path in sorted(site.rglob("*.so*")):
        libraries, newest = examine(path, arch)
        glibc = max(glibc, newest)
        for library in sorted(libraries - bundled):
            if library in PACKAGES:
                packages.add(PACKAGES[library])
            elif not LIBC.match(library):
                raise SystemExit(f"{path} needs {library}: no Debian package is known for it")
    if glibc > GLIBC[suite]:
        raise SystemExit(f"glibc {glibc} is needed, {suite} has {GLIBC[suite]}")
    depends = [f"libc6 (>= {'.'.join(map(str, glibc[:2]))})", *sorted(packages)]
    with Path("debian/agentd.substvars").open("a") as substvars:
        substvars.write(f"wheels:Depends={', '.join(depends)}\n")


if __name__ == "__main__":
    main()
