"""Record several PulseAudio sources at once and place them on one clock.

Each source is read by its own `parec`. A null sink renders on the monotonic clock of the machine,
so a stream's rate is exact and the only unknown is when its first sample was: chunks arrive late
by scheduling and never early, hence the earliest arrival seen, minus the audio delivered by then,
is the start. Both streams ask for the same fragment, so what is left of the delay is the same in
both. `tests/test_rig.py` measures the alignment.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
import time
import wave
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log10, sqrt
from pathlib import Path
from types import TracebackType
from typing import Self

FRAGMENT_MS = 10
"""Fragment that every recorder asks for; the bound of what alignment can be wrong by."""

WARM_S = 0.25
"""Audio that every source has given before a recording counts as begun."""


def level_dbfs(samples: Sequence[int]) -> float:
    """Return the RMS level of int16 samples in dBFS, -inf for silence or nothing."""
    if not samples:
        return float("-inf")
    rms = sqrt(sum(s * s for s in samples) / len(samples))
    return 20 * log10(rms / 32768) if rms else float("-inf")


@dataclass(frozen=True, slots=True)
class Track:
    """What one source gave: int16 mono samples, the first of them at `start_s`."""

    name: str
    rate_hz: int
    start_s: float
    """When the first sample was, on `time.monotonic()`."""
    samples: array[int]

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return len(self.samples) / self.rate_hz

    def index(self, at_s: float) -> int:
        """Return the index of the sample at a monotonic time, within the recording."""
        return min(max(round((at_s - self.start_s) * self.rate_hz), 0), len(self.samples))

    def between(self, begin_s: float, end_s: float) -> array[int]:
        """Return the samples between two monotonic times."""
        return self.samples[self.index(begin_s) : self.index(end_s)]

    def onset(
        self, *, after_s: float = 0.0, threshold_dbfs: float = -50.0, window_ms: int = 5
    ) -> float | None:
        """Return when sound first reached a level after a time; None if it never did."""
        return self._first_window(
            lambda level: level >= threshold_dbfs, after_s=after_s, window_ms=window_ms
        )

    def silence(
        self, *, after_s: float = 0.0, threshold_dbfs: float = -50.0, window_ms: int = 200
    ) -> float | None:
        """Return when a stretch of `window_ms` below a level first began after a time."""
        return self._first_window(
            lambda level: level < threshold_dbfs, after_s=after_s, window_ms=window_ms
        )

    def _first_window(
        self, wanted: Callable[[float], bool], *, after_s: float, window_ms: int
    ) -> float | None:
        size = self.rate_hz * window_ms // 1000
        hop = min(size, self.rate_hz // 200)
        for begin in range(self.index(after_s), len(self.samples) - size + 1, hop):
            if wanted(level_dbfs(self.samples[begin : begin + size])):
                return self.start_s + begin / self.rate_hz
        return None

    def write_wav(self, path: Path) -> None:
        """Write the samples as a WAV file, to be listened to."""
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.rate_hz)
            file.writeframes(self.samples.tobytes())


class _Stream:
    """One running `parec` and what it has delivered."""

    def __init__(self, name: str, rate_hz: int, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.rate_hz = rate_hz
        self.process = process
        self.pcm = bytearray()
        self.start_s = float("inf")
        self.ended = False

    def take(self, data: bytes, now_s: float) -> None:
        """Append what arrived and move the start earlier if this came sooner than any before."""
        self.pcm += data
        self.start_s = min(self.start_s, now_s - len(self.pcm) / (2 * self.rate_hz))

    def track(self, *, last_s: float | None = None) -> Track:
        """Return everything so far, or only the last seconds of it."""
        size = len(self.pcm) & ~1
        begin = 0 if last_s is None else max(0, size - 2 * round(last_s * self.rate_hz))
        samples = array("h", bytes(self.pcm[begin:size]))
        if sys.byteorder == "big":
            samples.byteswap()
        return Track(self.name, self.rate_hz, self.start_s + begin / 2 / self.rate_hz, samples)


class Recorder:
    """Records sources until it is left; a context manager that has every source running inside.

    When a device vanishes its track ends there; the others go on.
    """

    def __init__(
        self, sources: Mapping[str, tuple[str, int]], env: Mapping[str, str], *, ready_s: float = 20
    ) -> None:
        """Prepare a recording of `sources`: name → (PulseAudio source, rate in Hz)."""
        self._sources = sources
        self._env = dict(env)
        self._ready_s = ready_s
        self._streams: dict[str, _Stream] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            for name, (source, rate_hz) in self._sources.items():
                self._streams[name] = _Stream(name, rate_hz, self._spawn(source, rate_hz))
            self._thread = threading.Thread(target=self._read, name="recorder", daemon=True)
            self._thread.start()
            # A few dozen chunks, and the earliest of them was on time.
            self._wait(
                lambda: all(len(s.pcm) > s.rate_hz * WARM_S * 2 for s in self._streams.values()),
                self._ready_s,
                "audio",
            )
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self, source: str, rate_hz: int) -> subprocess.Popen[bytes]:
        command = [
            "parec", "--raw", "--format=s16le", f"--device={source}", f"--rate={rate_hz}",
            "--channels=1", f"--latency-msec={FRAGMENT_MS}", "--client-name=rig-recorder",
        ]  # fmt: skip
        return subprocess.Popen(
            command,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for stream in self._streams.values():
                assert stream.process.stdout is not None
                selector.register(stream.process.stdout, selectors.EVENT_READ, stream)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, 1 << 16)
                    now_s = time.monotonic()
                    with self._changed:
                        if data:
                            key.data.take(data, now_s)
                        else:
                            key.data.ended = True
                            selector.unregister(key.fileobj)
                        self._changed.notify_all()

    def _wait(self, happened: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not happened():
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    raise TimeoutError(f"no {what} within {timeout_s} s")

    def track(self, name: str) -> Track:
        """Return everything that a source gave so far."""
        with self._changed:
            return self._streams[name].track()

    def ended(self, name: str) -> bool:
        """Say whether a source has ended (its device went away)."""
        return self._streams[name].ended

    def wait_ended(self, name: str, *, timeout_s: float = 20) -> None:
        """Wait until a source has ended."""
        self._wait(lambda: self._streams[name].ended, timeout_s, f"end of {name}")

    def wait_for_sound(
        self,
        name: str,
        *,
        after_s: float = 0.0,
        threshold_dbfs: float = -50.0,
        timeout_s: float = 20,
    ) -> float:
        """Wait until a source sounds; return when it began, on `time.monotonic()`."""
        found: list[float] = []

        def happened() -> bool:
            since = self._streams[name].start_s
            recent = self._streams[name].track(last_s=1.0)
            at_s = recent.onset(after_s=max(after_s, since), threshold_dbfs=threshold_dbfs)
            if at_s is not None:
                found.append(at_s)
            return at_s is not None

        self._wait(happened, timeout_s, f"sound from {name}")
        return found[0]

    def wait_for_silence(
        self,
        name: str,
        *,
        for_s: float = 0.5,
        threshold_dbfs: float = -50.0,
        timeout_s: float = 60,
    ) -> float:
        """Wait until a source has been silent for a while; return when that silence began."""
        began: list[float] = []

        def happened() -> bool:
            recent = self._streams[name].track(last_s=for_s)
            silent = (
                recent.duration_s >= for_s * 0.99 and level_dbfs(recent.samples) < threshold_dbfs
            )
            if silent:
                began.append(recent.start_s)
            return silent

        self._wait(happened, timeout_s, f"silence from {name}")
        return began[0]

    def wait_recorded(self, name: str, duration_s: float, *, timeout_s: float = 60) -> None:
        """Wait until a source has given so many more seconds of audio than it has now."""
        stream = self._streams[name]
        until = len(stream.pcm) + 2 * round(duration_s * stream.rate_hz)
        self._wait(lambda: len(stream.pcm) >= until, timeout_s, f"{duration_s} s from {name}")

    def stop(self) -> dict[str, Track]:
        """Stop recording and return what every source gave."""
        for stream in self._streams.values():
            stream.process.terminate()
        for stream in self._streams.values():
            stream.process.wait()
        if self._thread is not None:
            self._thread.join()
        for stream in self._streams.values():
            if stream.process.stdout is not None:
                stream.process.stdout.close()
        return {name: stream.track() for name, stream in self._streams.items()}
