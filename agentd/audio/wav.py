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
from typing import BinaryIO

from agentd.audio import formats
from agentd.errors import AudioError, DeviceNotFound, UnsupportedFormat
from agentd.named_files import FileRefused, check_kind, open_regular

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
    with open_wav(path) as file:
        try:
            return _parse(file.read(12), file, path)
        except AudioError:
            raise
        except OSError as error:
            raise _unreadable(path, error) from error


def open_wav(path: Path) -> BinaryIO:
    """Open a file for reading; never wait for another program, as a pipe would.

    Raises:
        DeviceNotFound: no such file, not readable, or not a regular file.
    """
    try:
        return open_regular(path)
    except FileRefused as error:
        raise _no_file(path, error.problem) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DeviceNotFound:
    return DeviceNotFound(f"{path}: {error.strerror}. Name a WAV file that the daemon may read")


def _no_file(path: Path, problem: str) -> DeviceNotFound:
    remedy = f"Write pipe:{path} for a named pipe" if "pipe" in problem else "Name a regular file"
    return DeviceNotFound(f"{path} {problem}. {remedy}")


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

    def __init__(self, path: Path, rate_hz: int, *, after: int = 0) -> None:
        """Begin a file, or go on behind the first `after` samples of one of our own.

        Raises:
            DeviceNotFound: the file cannot be written, or is no regular file.
        """
        self._path = path
        self._rate_hz = rate_hz
        try:
            self._fd = self._open()
        except FileRefused as error:
            raise _no_file(path, error.problem) from error
        except OSError as error:
            raise self._refusal(error) from error
        try:
            there = max(0, os.fstat(self._fd).st_size - _HEADER.size)
            self._bytes = min(after * formats.SAMPLE_BYTES, there & ~1)
            os.ftruncate(self._fd, _HEADER.size + self._bytes)
            self._put_header()
        except OSError as error:
            os.close(self._fd)
            raise self._refusal(error) from error

    def _open(self) -> int:
        """Open for writing what is a regular file, or will be; a pipe would be waited for."""
        if self._path.exists():
            check_kind(self._path, self._path.stat().st_mode)
        flags = os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o644)
        try:
            check_kind(self._path, os.fstat(fd).st_mode)  # it may be another one by now
        except FileRefused:
            os.close(fd)
            raise
        return fd

    def _refusal(self, error: OSError) -> DeviceNotFound:
        return DeviceNotFound(
            f"{self._path}: {error.strerror}. Name a file that the daemon may write"
        )

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
