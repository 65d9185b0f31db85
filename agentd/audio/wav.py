"""WAV files as devices need them: any PCM in, and out a file that is valid at every moment.

The standard `wave` module refuses WAVE_FORMAT_EXTENSIBLE before Python 3.12, trusts the header's
length (a recorder that is still running writes 0 or 0xFFFFFFFF), and writes the header's length
only at the end.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from agentd.audio import formats
from agentd.errors import AudioError, DeviceNotFound, UnsupportedFormat

_PCM, _EXTENSIBLE = 0x0001, 0xFFFE
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_MOST_BYTES = 0xFFFFFFFF - _HEADER.size


@dataclass(frozen=True, slots=True)
class WavFormat:
    """What is in a WAV file, and where."""

    rate_hz: int
    channels: int
    width: int  # bytes per sample
    data_at: int  # offset of the first sample
    data_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample of every channel."""
        return self.channels * self.width


def read_header(path: Path) -> WavFormat:
    """Read the format of a PCM WAV file.

    Raises:
        DeviceNotFound: no such file, or not readable.
        UnsupportedFormat: not a WAV file, or not PCM of 8 to 32 bits.
    """
    try:
        with path.open("rb") as file:
            return _parse(file.read(12), file, path)
    except OSError as error:
        if isinstance(error, AudioError):
            raise
        raise DeviceNotFound(
            f"{path}: {error.strerror}. Name a WAV file that the daemon may read"
        ) from error


def _parse(riff: bytes, file: object, path: Path) -> WavFormat:
    read, seek, tell = file.read, file.seek, file.tell  # type: ignore[attr-defined]
    if riff[:4] != b"RIFF" or riff[8:12] != b"WAVE":
        raise _unsupported(path, "is not a WAV file")
    fields: tuple[int, int, int] | None = None
    while len(chunk := read(8)) == 8:
        kind, size = struct.unpack("<4sI", chunk)
        if kind == b"fmt ":
            fields = _format_chunk(read(min(size, 64)), path)
            seek(max(0, size - 64) + size % 2, os.SEEK_CUR)
        elif kind == b"data":
            if fields is None:
                raise _unsupported(path, "has no format before its data")
            rate_hz, channels, width = fields
            at = tell()
            there = seek(0, os.SEEK_END) - at
            used = there if size in {0, 0xFFFFFFFF} else min(size, there)
            return WavFormat(rate_hz, channels, width, at, used)
        else:
            seek(size + size % 2, os.SEEK_CUR)
    raise _unsupported(path, "has no samples in it")


def _format_chunk(chunk: bytes, path: Path) -> tuple[int, int, int]:
    if len(chunk) < 16:
        raise _unsupported(path, "has a torn header")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    width = (bits + 7) // 8
    if tag != _PCM or not 1 <= width <= 4 or not 1 <= channels <= 32:
        raise _unsupported(path, f"is format {tag:#06x}, {bits} bits, {channels} channels")
    if not 4_000 <= rate_hz <= 384_000:
        raise _unsupported(path, f"has {rate_hz} samples per second")
    return rate_hz, channels, width


def _unsupported(path: Path, what: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"{path} {what}. Convert it: sox INPUT -b 16 OUTPUT.wav, or ffmpeg -i INPUT OUTPUT.wav"
    )


class WavWriter:
    """Append int16 mono samples to a WAV file whose header never promises more than is there."""

    def __init__(self, path: Path, rate_hz: int) -> None:
        self._path = path
        self._rate_hz = rate_hz
        self._bytes = 0
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o644)
            self._put_header()
        except OSError as error:
            raise DeviceNotFound(
                f"{path}: {error.strerror}. Name a file that the daemon may write"
            ) from error

    @property
    def samples(self) -> int:
        """Return how many samples are in the file."""
        return self._bytes // formats.SAMPLE_BYTES

    def append(self, pcm: bytes) -> None:
        """Write samples, then the header that counts them.

        Raises:
            AudioError: the file system refuses, or the file has reached 4 GiB.
        """
        if self._bytes + len(pcm) > _MOST_BYTES:
            raise AudioError(f"{self._path} has reached 4 GiB. Move it away and restart agentd")
        try:
            written = os.pwrite(self._fd, pcm, _HEADER.size + self._bytes)
            self._bytes += written
            self._put_header()
        except OSError as error:
            raise AudioError(f"{self._path}: {error.strerror}. Make room for it") from error
        if written != len(pcm):
            raise AudioError(f"{self._path}: the disk is full. Make room for it")

    def close(self) -> None:
        """Close the file; it is complete already."""
        os.close(self._fd)

    def _put_header(self) -> None:
        header = _HEADER.pack(
            b"RIFF", _HEADER.size - 8 + self._bytes, b"WAVE", b"fmt ", 16, _PCM, 1,
            self._rate_hz, self._rate_hz * formats.SAMPLE_BYTES, formats.SAMPLE_BYTES, 16,
            b"data", self._bytes,
        )  # fmt: skip
        os.pwrite(self._fd, header, 0)
