"""``live-emulator`` and ``python -m live_emulator``: the same as ``agentd emulator``."""

from __future__ import annotations

import argparse
import sys

from live_emulator.cli import add_arguments, run


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="live-emulator", description="A Live API server.")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
