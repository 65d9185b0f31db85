#!/usr/bin/env python3
"""Write the table of causes in docs/user/troubleshooting.md anew, from agentd.live.causes."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agentd.live.causes import markdown_table  # noqa: E402

DOCUMENT = ROOT / "docs" / "user" / "troubleshooting.md"
BEGIN, END = "<!-- causes: begin (make docs) -->", "<!-- causes: end -->"


def main() -> None:
    """Rewrite what stands between the marks."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{markdown_table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
