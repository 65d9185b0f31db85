"""The stage of a run: sound rig, service, what somebody says, where numbers go."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.match import Wire, best_place
from benchmarks.results import Results
from benchmarks.service import Entry, Service
from benchmarks.speech import RATE_HZ, Clip, Samples
from benchmarks.systems import System
from rig.recording import Recorder, Track
from rig.sound import SoundRig

SAID_WITHIN_S = 3.0
"""How long after `start_speaking` the sound is looked for on the microphone."""
NEEDLE = 6_400
"""Samples, 0.4 s, by which it is looked for."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: everything that costs time."""

    name: str
    rounds: int
    starts: int
    idle_s: float
    turns: int
    speech_s: float
    reply_s: float
    barge_ins: int
    scene_s: float
    breaks: int
    dial_loop_s: float

    @property
    def is_quick(self) -> bool:
        """Say whether minutes matter more than comparisons."""
        return self.name == "quick"


QUICK = Effort("quick", 1, 1, 4.0, 1, 2.5, 2.5, 1, 24.0, 1, 0.0)
FULL = Effort("full", 2, 5, 15.0, 4, 5.0, 5.0, 2, 150.0, 2, 60.0)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs."""

    rig: SoundRig
    service: Service
    results: Results
    effort: Effort
    systems: Sequence[System]
    folder: Path
    log: Path

    def environment(self, service: Service | None = None) -> dict[str, str]:
        """Return the environment of a program under test: devices and service."""
        return self.rig.child_env(**(service or self.service).environment())

    def wire(self, since: int, service: Service | None = None) -> Wire:
        """Return all audio that came in after entry `since`, connections in order."""
        source = service or self.service
        return received(source, source.entries(since), self.folder)


def received(service: Service, entries: Sequence[Entry], folder: Path) -> Wire:
    """Put the audio of all connections that began within `entries` in a row."""
    parts: list[Samples] = []
    ends: list[int] = []
    arrived: list[float] = []
    at = 0
    for connection in sorted({e.connection for e in entries if e.kind == "connect"}):
        pcm = np.frombuffer(service.audio(connection, folder), dtype="<i2")
        parts.append(pcm)
        begin = at
        for entry in entries:
            if (entry.connection, entry.direction, entry.kind) == (connection, "in", "audio"):
                at += entry.audio_bytes // 2
                ends.append(at)
                arrived.append(entry.at_s)
        # A message may have come in between the two questions.
        parts[-1] = pcm[: at - begin]
    samples = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)
    return Wire(samples.astype(np.int16), np.array(ends, dtype=np.int64), np.array(arrived))


def of_track(track: Track) -> Samples:
    """Return a recording as an array."""
    return np.frombuffer(track.samples.tobytes(), dtype=np.int16)


@dataclass(frozen=True, slots=True)
class Said:
    """Something that was said into the microphone, to be found in its recording afterwards."""

    clip: Clip
    asked_s: float


def start_saying(bench: Bench, clip: Clip) -> tuple[Said, Saying]:
    """Begin to say a clip."""
    return Said(clip, time.monotonic()), Saying(bench, clip)


def said_at(said: Said, microphone: Track) -> float:
    """Return when the clip's first sample was at the microphone, on `time.monotonic()`.

    Raises:
        LookupError: it is not in the recording.
    """
    heard = of_track(microphone)
    begin = microphone.index(said.asked_s - 0.1)
    lead = int(np.flatnonzero(np.abs(said.clip.samples) > 300)[0])
    needle = said.clip.samples[lead : lead + NEEDLE]
    window = heard[begin:][: round(SAID_WITHIN_S * RATE_HZ) + lead + len(needle)]
    place, score = best_place(needle, window)
    if score < 0.9:
        raise LookupError(f"{said.clip.name} is not in the recording (best match {score:.2f})")
    return microphone.start_s + (begin + place - lead) / microphone.rate_hz


class Saying:
    """A clip on its way into the microphone.

    A busy machine must not tear the sound that everything is measured by: the whole clip is handed
    to the sound server ahead of time. When it really began is found in the recording.
    """

    def __init__(self, bench: Bench, clip: Clip) -> None:
        self._path = bench.folder / f"saying-{time.monotonic_ns()}.pcm"
        self._path.write_bytes(clip.pcm)
        self._process = subprocess.Popen(
            [
                "pacat", "--playback", "--raw", "--format=s16le", "--device=mic",
                f"--rate={RATE_HZ}", "--channels=1", "--latency-msec=1500",
                "--client-name=bench", str(self._path),
            ],
            env=bench.rig.child_env(),
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until the last sample has been played."""
        self._process.wait(300)
        self._path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Fall silent at once."""
        self._process.terminate()
        self.wait()


@contextlib.contextmanager
def recording(rig: SoundRig) -> Iterator[Recorder]:
    """Record both devices."""
    with rig.record() as recorder:
        yield recorder


def wait_until(happened: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until something is true; return whether it became true."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def tell(text: str) -> None:
    """Say what is being done, on stderr."""
    print(text, file=sys.stderr, flush=True)
