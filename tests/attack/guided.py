"""Coverage-guided attacks: atheris steers the dice of the targets, or writes the bytes itself.

Not part of `make attack`: atheris is a developer's tool and has no wheel for every Python. `make
attack-guided` puts it into an environment of its own (requirements/attack.txt).
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

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


Loaded = tuple[Callable[[bytes], Any], Callable[[random.Random], str] | None]


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


def _load(mode: str) -> Loaded:
    """Return what a mode does with bytes, and what such bytes look like to begin with.

    Only what it needs is imported: instrumenting takes minutes on a busy machine.
    """
    with atheris.instrument_imports(include=["agentd", "tomllib"]):
        loaded: Loaded = LOADERS[mode]()
    return loaded


def _load_frames() -> Any:
    from tests.attack.conversation import Conversation

    return _case(Conversation()), None


def _load_frame_bytes() -> Any:
    from tests.attack import frames
    from tests.attack.conversation import Conversation

    target = Conversation()

    def once(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape").encode("utf-8", "surrogatepass")
        lines = text.decode("utf-8", "surrogatepass").split("\n")[:40]
        case: list[Any] = [["connect"], ["user", "speak", 3]]
        target.check(case + [["frame", line] for line in lines])

    return once, lambda rng: "\n".join(frames.interjected(rng))


def _load_control_bytes() -> Any:
    from tests.attack.control import Control

    target = Control()
    return (lambda data: target.check_line(data[:65_536])), lambda rng: str(target.make(rng)[0])


def _load_settings() -> Any:
    from tests.attack.settings_files import SettingsFiles

    return _case(SettingsFiles()), None


def _load_settings_bytes() -> Any:
    from tests.attack import settings_files

    target = settings_files.SettingsFiles()

    def once(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        target.check([["agentd.toml", line] for line in text.split("\n")])

    return once, lambda rng: "\n".join(settings_files.lines(rng))


def _load_boot_bytes() -> Any:
    from tests.attack.boot import Boot, check_boot

    def once(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check_boot(Path(folder), data)

    return once, lambda rng: "\n".join(Boot().make(rng))


def _load_state() -> Any:
    from tests.attack.documents import Documents

    return _case(Documents()), None


LOADERS: dict[str, Callable[[], Any]] = {
    "frames": _load_frames,
    "frames-bytes": _load_frame_bytes,
    "control-bytes": _load_control_bytes,
    "settings": _load_settings,
    "settings-bytes": _load_settings_bytes,
    "boot-bytes": _load_boot_bytes,
    "state": _load_state,
}


def main() -> None:
    """Run one mode under atheris; arguments behind `--` are libFuzzer's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=LOADERS)
    options, rest = parser.parse_known_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    folder = ROOT / "build/attack/guided" / options.mode
    folder.mkdir(parents=True, exist_ok=True)
    once, beginning = _load(options.mode)
    for number in range(50) if beginning else ():
        assert beginning is not None
        text = beginning(random.Random(number))
        (folder / f"begin-{number}").write_bytes(text.encode("utf-8", "surrogatepass"))
    own = [f"-artifact_prefix={folder}-", str(folder)]
    atheris.Setup([sys.argv[0], *(a for a in rest if a != "--"), *own], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
