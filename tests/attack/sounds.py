"""WAV files that a person names as microphone or puts in the place of a sound."""

from __future__ import annotations

import random
import struct
import tempfile
from pathlib import Path

from agentd.audio import formats
from agentd.audio.files import _Reader
from agentd.audio.wav import read_header
from agentd.errors import AudioError
from tests.attack import values
from tests.attack.target import Case, Step, assert_plain

FRAMES = 4
IDS = ("fmt ", "data", "LIST", "fact", "RIFF", "id3 ", "\x00\x00\x00\x00")
SIZES = (0, 1, 2, 16, 18, 40, 63, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


class Sounds:
    """WAV headers."""

    name = "wav"
    what = "WAV files"

    def make(self, rng: random.Random) -> list[Step]:
        """Return chunks: an id, a size that may be wrong, the bytes as latin-1 text."""
        size = rng.choice(SIZES)
        case: list[Step] = [["RIFF", size, "WAVE" if rng.random() < 0.95 else values.text(rng)]]
        if rng.random() < 0.9:
            case.append(["fmt ", rng.choice((16, 16, 16, 18, 40, *SIZES)), _format(rng)])
        case += [_chunk(rng) for _ in range(rng.choice((0, 0, 1, 3)))]
        case.append(["data", rng.choice((960, *SIZES)), "\x01\x02" * rng.choice((0, 1, 480, 5000))])
        return case

    def check(self, case: Case) -> int:
        """Read the header and some frames."""
        data = b""
        for step in case:
            match step:
                case [str(name), int(size), str(content)]:
                    head = struct.pack("<4sI", name.encode("latin-1", "replace")[:4], size % 2**32)
                    data += head + content.encode("latin-1", "replace")
                case _:
                    pass
        check_bytes(data)
        return 1


def check_bytes(data: bytes) -> None:
    """Read bytes as a WAV file: sound of the right length, or an error in a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"
        path.write_bytes(data)
        try:
            reader = _Reader(path, read_header(path), 0)
        except AudioError as error:
            assert_plain(str(error), 1000, "what is said of a WAV file")
            return
        try:
            for _ in range(FRAMES):
                assert len(reader.frame()) == formats.FRAME_SAMPLES * formats.SAMPLE_BYTES
        finally:
            reader.close()


def _chunk(rng: random.Random) -> Step:
    return [rng.choice(IDS), rng.choice(SIZES), "x" * rng.choice((0, 1, 4, 90))]


def _format(rng: random.Random) -> str:
    tag = rng.choice((1, 1, 1, 3, 0xFFFE, 0, 0xFFFF))
    channels, bits = rng.choice((1, 2, 2, 0, 32, 33, 65_535)), rng.choice((16, 8, 24, 32, 0, 7, 64))
    rate = rng.choice((16_000, 44_100, 48_000, 0, 1, 4_000, 384_000, 2**32 - 1))
    fields = struct.pack("<HHIIHH", tag, channels, rate, rng.choice(SIZES), 4, bits)
    return (fields + b"\x00" * rng.choice((0, 2, 24)))[: rng.choice((40, 16, 7))].decode("latin-1")
