"""Unpack wheels into a folder, the same bytes every time: `unpack_wheels.py SITE WHEEL...`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path, PurePosixPath

# Of no use without pip, and RECORD would list files that are stripped later.
DROPPED = {
    "RECORD",
    "INSTALLER",
    "REQUESTED",
    "WHEEL",
    "direct_url.json",
    "entry_points.txt",
    "top_level.txt",
}


def destination(name: str) -> PurePosixPath | None:
    """Return where an archive member goes below site-packages; None: nowhere."""
    path = PurePosixPath(name)
    if name.endswith("/") or path.is_absolute() or ".." in path.parts:
        return None
    if path.parts[0].endswith(".dist-info") and path.name in DROPPED:
        return None
    if path.parts[0].endswith(".data"):
        scheme, rest = path.parts[1], path.parts[2:]
        return PurePosixPath(*rest) if scheme in {"purelib", "platlib"} else None
    return path


def without_interpreter(content: bytes) -> bytes:
    """Blank out a `#!` line: none of these files is a program here. Line numbers stay."""
    if content.startswith(b"#!"):
        _, newline, rest = content.partition(b"\n")
        return b"#" + newline + rest
    return content


def unpack(wheel: Path, site: Path) -> None:
    """Unpack one wheel; two wheels that bring the same file are an error."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            where = destination(name)
            if where is None:
                continue
            target = site / where
            if target.exists():
                raise SystemExit(f"{wheel.name}: {where} is there already, from another wheel")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(without_interpreter(archive.read(name)))
            target.chmod(0o644)


def main() -> None:
    """Unpack every wheel named on the command line."""
    site = Path(sys.argv[1])
    for wheel in sorted(Path(name) for name in sys.argv[2:]):
        unpack(wheel, site)


if __name__ == "__main__":
    main()
