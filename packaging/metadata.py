"""Write agentd's own metadata, so that tools can tell what it requires: `metadata.py SITE`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

# What a device has of the optional parts.
EXTRAS = ("aec", "gpio", "vad", "wake")


def of_extra(requirement: str, extra: str) -> str:
    """Return `requirement` with the extra added to its marker."""
    name, _, marker = (part.strip() for part in requirement.partition(";"))
    condition = f'extra == "{extra}"'
    return f"{name} ; ({marker}) and {condition}" if marker else f"{name} ; {condition}"


def main() -> None:
    """Write SITE/agentd-VERSION.dist-info/METADATA from pyproject.toml."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = Path("agentd/__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert version is not None, "agentd/__init__.py has no __version__"
    folder = Path(sys.argv[1]) / f"agentd-{version[1]}.dist-info"
    folder.mkdir()
    optional = project["optional-dependencies"]
    lines = ["Metadata-Version: 2.1", "Name: agentd", f"Version: {version[1]}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    for extra in EXTRAS:
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {of_extra(wanted, extra)}" for wanted in optional[extra]]
    (folder / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
