"""Named pipes as microphone and speaker: sound from another program, or for one.

`pipe:/run/kitchen/mic` is raw int16 little-endian mono, 16 kHz from a pipe, 24 kHz into one, as a
snapcast server takes it for instance. The pipe is opened without waiting for the other side, which
is reported while it is missing, and found when it comes.

Whoever is at the other end sets the pace, but not faster than time: a program that has a file to
give or a disk to fill would run through it. A writer that pauses is given silence for, not an end:
to close the pipe would kill it. The kernel's buffer stays small towards a reader (what lies in it
is heard late) and is as large as it is from a writer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import termios
from pathlib import Path
from typing import Literal

from agentd.audio import formats
from agentd.audio.devices import Deliver, Source
from agentd.clock import Clock
from agentd.errors import AudioError, CaptureFailed, DeviceNotFound, PlaybackFailed

TICK_S = 0.01
HASTE = 1.03  # so much faster than time at the most, to work off what has gathered
START_S = 0.2  # may be taken at once in the beginning
CREDIT_S = 2.0  # and after a pause, at most: what the kernel keeps of 16 kHz
GONE_S = 0.5  # without a program at the other end; it may be restarted
FILL_S = 0.1  # without a byte from a writer; from then on there is silence
STALL_S = 0.75  # in which a reader takes nothing
PIPE_BYTES = 4096  # towards a reader: 85 ms

_PERIOD = formats.PLAYBACK_RATE_HZ * formats.FRAME_MS // 1000
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ is known to Python on Linux only


def open_pipe(path: Path, way: Literal["read", "write"]) -> int:
    """Open a named pipe without waiting for its other end; return the descriptor.

    Raises:
        DeviceNotFound: there is none, or nobody reads from it.
        AudioError: it is something else.
    """
    flags = os.O_NONBLOCK | os.O_CLOEXEC | (os.O_RDONLY if way == "read" else os.O_WRONLY)
    try:
        _check_kind(path, path.stat().st_mode)
        fd = os.open(path, flags)
    except FileNotFoundError as error:
        raise DeviceNotFound(f"pipe:{path} is not there. Make it: mkfifo {path}") from error
    except AudioError:
        raise
    except OSError as error:
        raise _refusal(path, way, error) from error
    try:
        _check_kind(path, os.fstat(fd).st_mode)  # it may be another one by now
    except AudioError:
        os.close(fd)
        raise
    return fd


def _check_kind(path: Path, mode: int) -> None:
    if not stat.S_ISFIFO(mode):
        raise AudioError(
            f"pipe:{path} is no named pipe. Make one (mkfifo), or write file:{path} for a WAV file"
        )


def _refusal(path: Path, way: str, error: OSError) -> AudioError:
    if error.errno == 6:  # ENXIO, pipe(7): opened for writing while nobody reads
        return _nobody_reads(path)
    what = "read it" if way == "read" else "write it"
    return AudioError(f"pipe:{path}: {error.strerror}. Let the user of the daemon {what}")


def _nobody_reads(path: Path) -> AudioError:
    return PlaybackFailed(f"pipe:{path}: no program reads from it. Start the one that does")


class Allowance:
    """How many bytes may be taken by now. Pure."""

    def __init__(self, bytes_per_s: int, now_s: float) -> None:
        self._rate = bytes_per_s * HASTE
        self._most = bytes_per_s * CREDIT_S
        self._left = bytes_per_s * START_S
        self._at_s = now_s

    def at(self, now_s: float) -> int:
        """Return the bytes that may be taken at `now_s`."""
        self._left = min(self._most, self._left + max(0.0, now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return int(self._left)

    def take(self, count: int) -> None:
        """Count bytes that were taken."""
        self._left -= count


class PipeCapture:
    """A microphone that another program writes into a pipe: int16 mono 16 kHz."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.name = f"pipe:{path}"
        self.has_ended = False
        self.other_channel: int | None = None
        self._path = path
        self._clock = clock

    async def capture(self, deliver: Deliver) -> None:
        """Deliver what comes, as it comes, until nobody writes any more."""
        fd = open_pipe(self._path, "read")
        now_s = seen_s = covered_s = self._clock.monotonic()
        allowance = Allowance(formats.CAPTURE_RATE_HZ * formats.SAMPLE_BYTES, now_s)
        torn = b""
        try:
            while True:
                data = self._read(fd, allowance.at(now_s))
                if data is not None:
                    seen_s = now_s
                elif now_s - seen_s >= GONE_S:
                    raise CaptureFailed(
                        f"{self.name}: no program writes to it. Start the one that does: int16 "
                        f"mono at {formats.CAPTURE_RATE_HZ} Hz"
                    )
                if data == b"" and now_s - covered_s >= FILL_S:
                    missing = int((now_s - covered_s) * formats.CAPTURE_RATE_HZ)
                    data, torn = bytes(missing * formats.SAMPLE_BYTES), b""
                if data:
                    covered_s = now_s
                    allowance.take(len(data))
                    data = torn + data
                    whole = len(data) & ~1
                    torn = data[whole:]
                    deliver(data[:whole], now_s, False)
                await self._clock.sleep(TICK_S)
                now_s = self._clock.monotonic()
        finally:
            os.close(fd)

    def _read(self, fd: int, most: int) -> bytes | None:
        """Return what is there; nothing: it may come; None: nobody would write it."""
        if most <= 0:
            return b""
        try:
            return os.read(fd, most) or None
        except BlockingIOError:
            return b""
        except OSError as error:
            raise CaptureFailed(f"{self.name}: {error.strerror}. Make it anew: mkfifo") from error


class PipePlayback:
    """A speaker that another program reads from a pipe: int16 mono 24 kHz."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.name = f"pipe:{path}"
        self.ran_dry = 0  # a pipe never tells
        self._path = path
        self._clock = clock

    async def play(self, source: Source) -> None:
        """Write periods as they are read, until nobody reads any more."""
        fd = open_pipe(self._path, "write")
        with contextlib.suppress(OSError):  # it stays as large as it is
            fcntl.fcntl(fd, _F_SETPIPE_SZ, PIPE_BYTES)
        now_s = written_s = self._clock.monotonic()
        rate = formats.PLAYBACK_RATE_HZ * formats.SAMPLE_BYTES
        allowance = Allowance(rate, now_s)
        waiting = b""
        try:
            while True:
                while allowance.at(now_s) >= _PERIOD * formats.SAMPLE_BYTES:
                    waiting = waiting or source(_PERIOD, _in_pipe(fd) / rate)
                    if not self._write(fd, waiting):
                        break
                    allowance.take(len(waiting))
                    waiting, written_s = b"", now_s
                if now_s - written_s >= STALL_S:
                    raise PlaybackFailed(
                        f"{self.name}: the program that reads from it has stopped. Restart it"
                    )
                await self._clock.sleep(TICK_S)
                now_s = self._clock.monotonic()
        finally:
            os.close(fd)

    def _write(self, fd: int, pcm: bytes) -> bool:
        """Write a period, which goes whole or not at all (pipe(7): below PIPE_BUF)."""
        try:
            os.write(fd, pcm)
        except BlockingIOError:
            return False
        except BrokenPipeError as error:
            raise _nobody_reads(self._path) from error
        except OSError as error:
            raise PlaybackFailed(f"{self.name}: {error.strerror}. Make it anew: mkfifo") from error
        return True


def _in_pipe(fd: int) -> int:
    """Return how many bytes have not been read yet."""
    count = bytearray(4)
    try:
        fcntl.ioctl(fd, termios.FIONREAD, count)
    except OSError:
        return 0
    return int(struct.unpack("i", count)[0])
