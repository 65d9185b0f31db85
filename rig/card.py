"""A sound card that fails when it is told to: a PCM of our own (card.c), loaded by ALSA itself.

There is no sound card here, and what PulseAudio stands in for never runs dry, never refuses a rate
and never says ENODEV. This one keeps the machine's time whether or not the program keeps up.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

COMPILER: Final = shutil.which("cc")
HEADERS: Final = Path("/usr/include/alsa/pcm_ioplug.h")
MISSING: Final = COMPILER is None or not HEADERS.exists()
REASON: Final = "no C compiler or no ALSA headers: apt-get install gcc libc6-dev libasound2-dev"

_SOURCE = Path(__file__).with_name("card.c")
_FIELDS: Final = ("fault", "refusal", "rate", "xruns", "opened", "level", "mapped", "held")
_STALLED, _ENDED, _UNPLUGGED = 1, 2, 3


class Card:
    """The PCM `name`, for one direction at a time. A rate makes it the only one that it has."""

    def __init__(
        self, home: Path, name: str, *, rate_hz: int = 0, level: int = 8_000, mapped: bool = True
    ) -> None:
        """Build the plugin and add the PCM to the home's ALSA configuration."""
        assert COMPILER is not None
        self._played = home / f"{name}.raw"
        control, library = home / f"{name}.control", home / "libasound_card.so"
        control.write_bytes(bytes(4 * len(_FIELDS)))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), 0)
        self._set("rate", rate_hz)
        self._set("level", level)
        self._set("mapped", mapped)
        if not library.exists():
            build = (COMPILER, "-shared", "-fPIC", "-DPIC", "-Wall", "-Wextra", "-Werror")
            subprocess.run([*build, "-o", str(library), str(_SOURCE), "-lasound"], check=True)
        with (home / ".asoundrc").open("a", encoding="utf-8") as conf:
            conf.write(
                f'pcm_type.card {{ lib "{library}" }}\n'
                f'pcm.{name} {{ type card control "{control}" played "{self._played}" }}\n'
            )

    def _set(self, field: str, value: int) -> None:
        struct.pack_into("=i", self._control, 4 * _FIELDS.index(field), value)

    def _get(self, field: str) -> int:
        value: int = struct.unpack_from("=i", self._control, 4 * _FIELDS.index(field))[0]
        return value

    def work(self) -> None:
        """Be, or be again, a card that works; a stream that was cut off stays so."""
        for field in ("fault", "refusal", "held"):
            self._set(field, 0)

    def stall(self) -> None:
        """Stop the samples, without a word."""
        self._set("fault", _STALLED)

    def end(self) -> None:
        """Answer every call with ENODEV."""
        self._set("fault", _ENDED)

    def unplug(self) -> None:
        """Vanish as a USB card does: the stream is told of an error for ever, and never moves."""
        self._set("fault", _UNPLUGGED)

    def hold(self) -> None:
        """Stand still, and let no stream that is open now be closed; new ones work."""
        self._set("held", self.opened)

    def refuse(self, code: int) -> None:
        """Let nobody open it, for this errno."""
        self._set("refusal", code)

    def xrun(self) -> None:
        """Run dry, or over, once."""
        self._set("xruns", self._get("xruns") + 1)

    @property
    def opened(self) -> int:
        """Return how often it has been opened."""
        return self._get("opened")

    @property
    def played(self) -> NDArray[np.int16]:
        """Return all that was ever played, mono as it came."""
        raw = self._played.read_bytes() if self._played.exists() else b""
        return np.frombuffer(raw[: len(raw) & ~1], "<i2")
