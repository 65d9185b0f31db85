"""Hold the pure core to 100 % of lines and branches, from the data of the last test run.

The list of modules is `pure-core` in pyproject.toml. A module that does not exist is named; one
that exists and was never imported counts as uncovered.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import CoverageException


def main() -> int:
    """Print the report and return an exit status."""
    root = Path(__file__).resolve().parent.parent
    with (root / "pyproject.toml").open("rb") as file:
        listed: list[str] = tomllib.load(file)["tool"]["agentd"]["pure-core"]
    present = [path for path in listed if (root / path).is_file()]
    for path in listed:
        if path not in present:
            print(f"pure core: {path} does not exist; write it or drop it from pyproject.toml")
    if not present:
        return 0
    coverage = Coverage(config_file=str(root / "pyproject.toml"))
    try:
        coverage.load()
        print(f"pure core: {len(present)} modules, lines and branches")
        percent = coverage.report(include=[str(root / path) for path in present])
    except CoverageException as error:
        print(f"pure core: {error}. Run `make test` first.", file=sys.stderr)
        return 1
    if percent < 100:
        print(f"pure core: {percent:.2f} % is less than 100 %", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
