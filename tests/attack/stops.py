"""How long nobody is served while one frame is read, in instructions: `make attack-stops`.

A frame is read in one go, from its bytes to what the conversation makes of it. What that costs is
counted by Valgrind (callgrind), so that a busy machine changes nothing, for the heaviest frames
that the bounds let through: those that the hostile service `bomb-heaviest` sends.

`python -m tests.attack.stops FILE` writes the page; with `--under` it is what Valgrind counts in.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Final

from live_emulator.fault_frames import filled
from live_emulator.scenario import shipped_scenarios

SCENARIO: Final = "bomb-heaviest"
NAMES: Final = ("1650 token counts", "330,000 half pairs", "1600 addresses", "256 full parts")
ORDINARY: Final = "200 ms of a reply, as the service sends them"
MARK: Final = "getppid"  # called between two frames; nothing else calls it
PER_S: Final = 1e9
"""Instructions in a second, as in tested-on.md: about one core of a Raspberry Pi 3."""

_HEAD: Final = """\
# How long one frame stops everything

Written by `make attack-stops`; what it is: [testing.md](../developer/testing.md#the-attack).

Instructions from the bytes of one frame to what the conversation has made of it, after the first of
its kind, counted by Valgrind on x86-64. Seconds are for a processor with as many instructions in a
second as the emulated Cortex-A53 of [tested-on.md](tested-on.md): 10⁹.

| frame | bytes | million instructions | s |
| --- | ---: | ---: | ---: |
"""


def texts() -> dict[str, str]:
    """Return the frames by what is in them."""
    heavy = [filled(fault) for fault in shipped_scenarios()[SCENARIO].faults]
    sound = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(bytes(9_600)).decode()}
    reply = {"serverContent": {"modelTurn": {"parts": [{"inlineData": sound}]}}}
    return {ORDINARY: json.dumps(reply)} | dict(zip(NAMES, heavy, strict=True))


def read_them() -> None:
    """Read each frame twice, with marks around the second time."""
    from tests.attack.conversation import AttackedWorld

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for text in texts().values():
        world = AttackedWorld()
        world.start(None, None)
        world.connect()
        world.speak()
        world.frame(text)
        gc.collect()
        gc.freeze()  # as the daemon does
        os.getppid()
        world.frame(text)
        os.getppid()


def counted() -> list[int]:
    """Return the instructions between each two marks."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--dump-before={MARK}", "--compress-pos=no"),
                *(f"--callgrind-out-file={out}", sys.executable, "-m", "tests.attack.stops"),
                "--under",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        dumps = sorted(out.parent.glob("out.*"), key=lambda path: int(path.suffix[1:]))
        found = [
            re.search(r"^(?:summary|totals): (\d+)", p.read_text(), re.MULTILINE) for p in dumps
        ]
    return [int(match[1]) if match else 0 for match in found]


def page(sizes: dict[str, int], counts: list[int]) -> str:
    """Return the page; the counts come in pairs, before a frame and of it."""
    rows = [
        f"| {name} | {size:,} | {count / 1e6:.1f} | {count / PER_S:.2f} |"
        for (name, size), count in zip(sizes.items(), counts[1::2], strict=True)
    ]
    return _HEAD + "\n".join(rows) + "\n"


def main() -> None:
    """Count, and write the page."""
    parser = argparse.ArgumentParser("make attack-stops", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--under", action="store_true")
    options = parser.parse_args()
    if options.under:
        read_them()
        return
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed: sudo apt install valgrind")
    sizes = {name: len(text.encode()) for name, text in texts().items()}
    text = page(sizes, counted())
    print(text)
    if options.file:
        options.file.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
