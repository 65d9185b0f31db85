"""The air between a speaker and a microphone, in real time.

    python -m rig.room SPK_SOURCE MIC_SINK RESPONSE.npy GAIN

Reads the speaker's monitor at 16 kHz, convolves it with a room response and plays that into the
microphone's sink, 10 ms at a time. The sound server adds what others say there. `SoundRig.echo`
runs it. It is heard some 150 to 200 ms after the speaker; a real room would add 1 to 10 ms.

Programs that start one after the other leave sound between them, and a busy machine leaves more;
it would stay there for ever as a longer way. So what has waited for a whole second is dropped.

Every tear is a line on stderr (`SoundRig.tears`): air does not tear, so what was measured then is
the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import deque
from typing import IO

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
BLOCK = 160
LATENCY_MS = 20
STANDING_MS = 30
HELD_UP_S = 0.1
SECOND = 100  # blocks

Response = NDArray[np.float32]


def synthetic(*, reverberation_s: float = 0.4, seed: int = 1, length_s: float = 0.3) -> Response:
    """Return a room: the direct sound, and noise that dies away by 60 dB in `reverberation_s`.

    The direct sound is 4 dB above the rest, as where microphone and speaker share a case.
    """
    dice = np.random.default_rng(seed)
    at_s = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    tail = dice.standard_normal(len(at_s)) * 10 ** (-3 * at_s / reverberation_s) * 0.03
    tail[: round(0.003 * RATE_HZ)] = 0
    tail[0] = 1.0
    return normalised(tail.astype(np.float32))


def normalised(response: Response) -> Response:
    """Return the response with an energy of 1: the echo of noise is as loud as the noise."""
    scaled: Response = (response / np.sqrt(np.sum(response**2))).astype(np.float32)
    return scaled


class Convolver:
    """Overlap-save in blocks of 10 ms, the response in as many partitions."""

    def __init__(self, response: Response) -> None:
        parts = -(-len(response) // BLOCK)
        padded = np.zeros(parts * BLOCK, np.float32)
        padded[: len(response)] = response
        self._filters = np.fft.rfft(padded.reshape(parts, BLOCK), 2 * BLOCK)
        self._spectra = np.zeros_like(self._filters)
        self._last = np.zeros(BLOCK, np.float32)

    def feed(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next block, return its echo with that of all before it."""
        self._spectra = np.roll(self._spectra, 1, axis=0)
        self._spectra[0] = np.fft.rfft(np.concatenate((self._last, block)))
        self._last = block
        out = np.fft.irfft((self._spectra * self._filters).sum(axis=0))
        return out[BLOCK:].astype(np.float32)


def waiting_ms(*pipes: IO[bytes]) -> float:
    """Return how much sound waits in these pipes."""
    size = 0
    for pipe in pipes:
        size += struct.unpack("i", fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4)))[0]
    return size / 2 / RATE_HZ * 1000


def main() -> None:
    """Be the room until killed."""
    source, sink, path, gain = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
    with contextlib.suppress(PermissionError):  # root may; the air is not held up by programs
        os.nice(-10)
    room = Convolver(np.load(path) * gain)
    form = ["--raw", "--format=s16le", f"--rate={RATE_HZ}", "--channels=1"]
    heard = subprocess.Popen(
        ["parec", *form, f"--device={source}", f"--latency-msec={LATENCY_MS}"],
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    said = subprocess.Popen(
        # Much in hand, or a busy machine tears the echo; to a canceller that is a new room.
        ["pacat", "--playback", *form, f"--device={sink}", f"--latency-msec={8 * LATENCY_MS}",
         "--client-name=rig-room", "--verbose"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert heard.stdout is not None
    assert said.stdin is not None
    assert said.stderr is not None
    threading.Thread(target=_tell_underruns, args=(said.stderr,), daemon=True).start()
    begun, last_s, skip = False, 0.0, 0
    pending_ms: deque[float] = deque(maxlen=SECOND)
    try:
        while len(raw := _read(heard.stdout)) == 2 * BLOCK:
            echo = room.feed(np.frombuffer(raw, "<i2").astype(np.float32))
            now_s = time.monotonic()
            if last_s and now_s - last_s > HELD_UP_S:
                tell(f"held up for {now_s - last_s:.2f} s")
            last_s = now_s
            pending_ms.append(waiting_ms(heard.stdout, said.stdin))
            if skip:
                skip -= 1
                continue
            if len(pending_ms) == SECOND and min(pending_ms) > STANDING_MS:
                skip = round(min(pending_ms) / 10)
                pending_ms.clear()
                if begun:
                    tell(f"dropped {skip} blocks")
                begun = True
            said.stdin.write(np.clip(np.rint(echo), -32_768, 32_767).astype("<i2").tobytes())
            said.stdin.flush()
    finally:
        heard.terminate()
        said.terminate()


def tell(tear: str) -> None:
    """Write down that sound was torn."""
    print(f"tear: {tear}", file=sys.stderr, flush=True)


def _tell_underruns(words: IO[bytes]) -> None:
    underruns = 0
    for line in words:
        # Once before the first sound, always.
        underruns += b"underrun" in line
        if b"underrun" in line and underruns > 1:
            tell("ran dry")


def _read(pipe: IO[bytes]) -> bytes:
    """Read a block; less at the end."""
    raw = b""
    while len(raw) < 2 * BLOCK and (more := pipe.read(2 * BLOCK - len(raw))):
        raw += more
    return raw


if __name__ == "__main__":
    main()
