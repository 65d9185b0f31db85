"""Coverage-guided attacks: atheris steers the dice of the targets, or writes the bytes itself.

Not part of `make attack`: atheris is a developer's tool and has no wheel for every Python. `make
attack-guided` puts it into an environment of its own (requirements/attack.txt).
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["agentd", "tomllib"]):
    from tests.attack import frames, settings_files
    from tests.attack.boot import Boot, check_boot
    from tests.attack.control import Control
    from tests.attack.conversation import Conversation
    from tests.attack.documents import Documents
    from tests.attack.settings_files import SettingsFiles
    from tests.attack.target import Found, Target

ROOT = Path(__file__).parents[2]


class Dice(random.Random):
    """Dice whose every throw is read from the fuzzer's bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data, self._at = data, 0

    def getrandbits(self, k: int) -> int:
        """Return the next bits."""
        size = (k + 7) // 8
        taken = self._data[self._at : self._at + size].ljust(size, b"\0")
        self._at += size
        return int.from_bytes(taken, "little") & ((1 << k) - 1)

    def random(self) -> float:
        """Return the next number in [0, 1)."""
        return self.getrandbits(16) / 65_536


def _case(target: Target) -> Callable[[bytes], None]:
    def once(data: bytes) -> None:
        case = target.make(Dice(data))
        try:
            target.check(case)
        except Exception as error:
            text = Found(target.name, case, f"{type(error).__name__}: {error}"[:500]).text
            print(f"\nFOUND {text[:3000]}", file=sys.stderr)
            raise

    return once


def _frames(data: bytes) -> None:
    """Take the bytes as frames, one a line."""
    text = data.decode("utf-8", "surrogateescape").encode("utf-8", "surrogatepass")
    lines = text.decode("utf-8", "surrogatepass").split("\n")[:40]
    case: list[Any] = [["connect"], ["user", "speak", 3], *(["frame", line] for line in lines)]
    Conversation().check(case)


def _boot(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        check_boot(Path(folder), data)


def _toml(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    SettingsFiles().check([["agentd.toml", line] for line in text.split("\n")])


_CONTROL = Control()
MODES: dict[str, Callable[[bytes], Any]] = {
    "frames": _case(Conversation()),
    "frames-bytes": _frames,
    "control-bytes": lambda data: _CONTROL.check_line(data[:65_536]),
    "settings": _case(SettingsFiles()),
    "settings-bytes": _toml,
    "boot-bytes": _boot,
    "state": _case(Documents()),
}
# What the bytes of a mode look like, to begin with.
BEGINNINGS: dict[str, Callable[[random.Random], str]] = {
    "frames-bytes": lambda rng: "\n".join(frames.interjected(rng)),
    "control-bytes": lambda rng: str(Control().make(rng)[0]),
    "settings-bytes": lambda rng: "\n".join(settings_files.lines(rng)),
    "boot-bytes": lambda rng: "\n".join(Boot().make(rng)),
}


def main() -> None:
    """Run one mode under atheris; arguments behind `--` are libFuzzer's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=MODES)
    options, rest = parser.parse_known_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    folder = ROOT / "build/attack/guided" / options.mode
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(50) if options.mode in BEGINNINGS else ():
        text = BEGINNINGS[options.mode](random.Random(number))
        (folder / f"begin-{number}").write_bytes(text.encode("utf-8", "surrogatepass"))
    own = [f"-artifact_prefix={folder}-", str(folder)]
    atheris.Setup([sys.argv[0], *(a for a in rest if a != "--"), *own], MODES[options.mode])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
