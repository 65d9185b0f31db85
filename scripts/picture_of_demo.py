#!/usr/bin/env python3
"""Run the demo and write what its terminal showed as docs/images/demo.svg, for README.md.

The words are those of the recordings, the times those of this run.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agentd.demo.screen import TerminalScreen  # noqa: E402 - found by the line above
from agentd.demo.show import Show  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "demo.svg"
COLUMNS = 108
# Rich's own format loads a font from a server; a README must not.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class StillScreen(TerminalScreen):
    """What stays on a terminal: the line of light and level, which moves, is left out."""

    def __init__(self, console: Console, work: Path) -> None:
        self._console = console
        self._work = str(work)

    def line(self, at_s: float, mark: str, text: str, style: str = "") -> None:
        """Name the folder as the demo would, not where this run happened to be."""
        super().line(at_s, mark, text.replace(self._work, "agentd-demo"), style)

    def now(self, state: str, level_dbfs: float) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Leave nothing behind."""


def main() -> int:
    """Return the demo's own exit status."""
    console = Console(record=True, force_terminal=True, width=COLUMNS, file=io.StringIO())
    with tempfile.TemporaryDirectory(prefix="agentd-picture-") as folder:
        work = Path(folder)
        screen = StillScreen(console, work)
        with (work / "events.jsonl").open("w", encoding="utf-8") as log:
            try:
                status = asyncio.run(Show(screen, work, log).scripted(work))
            finally:
                screen.close()
    if status == 0:
        svg = console.export_svg(title="make demo", code_format=FORMAT, unique_id="demo")
        PICTURE.write_text(svg, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
