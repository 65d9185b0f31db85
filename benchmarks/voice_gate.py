"""Score agentd's gate and its rivals on labelled scenes, and price each in CPU.

    python -m benchmarks.voice_gate [--curve] [--held-out] [--scene NAME]

The scenes are found through AGENTD_AUDIO_DIR, or in `../shared/audio` beside the checkout. Every
figure comes from one setting for all scenes; nothing is fitted to their seconds. `--held-out` mixes
other scenes, of recordings that are in none of the labelled ones (needs numpy and sox).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentd.audio import formats
from agentd.config.settings import Vad
from agentd.events import Frame, Speech, UtteranceEnded, UtteranceStarted
from agentd.vad.cascade import AGGRESSIVENESS, CascadeDetector
from agentd.vad.listener import Listener
from agentd.vad.silero import SileroDetector, load_model
from agentd.vad.webrtc import (
    UNVOICED,
    VOICED,
    Detector,
    Judgement,
    WebrtcDetector,
    WebrtcModel,
)
from benchmarks.gate_scoring import Interval, Score, Truth, score, subtract

CHECKOUT = Path(__file__).parent.parent
FLOOR_DBFS = Vad().level_floor_dbfs
DECISION_REACH_S = 0.1  # a gate that opened this long before an utterance opened for it


@dataclass(frozen=True, slots=True)
class Candidate:
    """A detector behind agentd's gate, and the settings of the latter."""

    name: str
    make: Callable[[], Detector]
    settings: Vad = field(default_factory=Vad)


@dataclass(frozen=True, slots=True)
class Run:
    """What a candidate did with a scene."""

    score: Score
    decisions_ms: tuple[float, ...]  # from an utterance's start until the gate opened for it
    cpu_percent: float  # of one core
    idle_cpu_percent: float


def audio_directory() -> Path | None:
    """Return where the scenes are, or None."""
    named = os.environ.get("AGENTD_AUDIO_DIR")
    places = [Path(named)] if named else [CHECKOUT.parent / "shared" / "audio"]
    return next((place for place in places if (place / "scenes").is_dir()), None)


def load_truth(path: Path) -> Truth:
    """Read a scene's labels."""
    labels = json.loads(path.read_text())

    def intervals(key: str) -> tuple[Interval, ...]:
        return tuple((float(one[0]), float(one[1])) for one in labels.get(key, ()))

    return Truth(
        float(labels["duration_s"]),
        intervals("speech"),
        intervals("utterances"),
        intervals("background_speech"),
    )


def load_frames(path: Path) -> list[Frame]:
    """Read a scene's sound as frames that begin at 0 s."""
    with wave.open(str(path), "rb") as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (16_000, 1, 2):
            raise ValueError(f"{path} is not 16 kHz mono 16 bit")
        pcm = file.readframes(file.getnframes())
    size = formats.FRAME_BYTES
    return [
        Frame(index, index * formats.FRAME_S, pcm[index * size : (index + 1) * size])
        for index in range(len(pcm) // size)
    ]


def run(candidate: Candidate, truth: Truth, frames: Sequence[Frame]) -> Run:
    """Feed a scene to a fresh gate."""
    sent: list[list[float]] = []
    opened: list[float] = []
    now_s = 0.0

    def on_speech(value: Speech) -> None:
        if isinstance(value, UtteranceStarted):
            sent.append([value.at_s, truth.duration_s])
            opened.append(now_s)
        elif isinstance(value, UtteranceEnded):
            sent[-1][1] = value.at_s

    listener = Listener(
        candidate.settings, emit=lambda _: None, on_speech=on_speech, detector=candidate.make()
    )
    idle = idle_times(truth)
    cpu_s = idle_cpu_s = idle_s = 0.0
    for frame in frames:
        now_s = frame.at_s + formats.FRAME_S
        before = time.process_time()
        listener.hear(frame)
        spent = time.process_time() - before
        cpu_s += spent
        if any(begin <= frame.at_s < end for begin, end in idle):
            idle_cpu_s += spent
            idle_s += formats.FRAME_S
    listener.cut()
    return Run(
        score(truth, [(begin, end) for begin, end in sent]),
        tuple(_decisions(truth, opened)),
        100 * cpu_s / truth.duration_s,
        100 * idle_cpu_s / idle_s if idle_s else 0.0,
    )


def idle_times(truth: Truth) -> list[Interval]:
    """Return when nobody speaks and the gate's reaction to the last utterance is over."""
    near = [(begin - 0.5, end + 2.0) for begin, end in truth.utterances]
    return subtract([(0.0, truth.duration_s)], [*near, *truth.background])


def _decisions(truth: Truth, opened: Sequence[float]) -> Iterator[float]:
    for begin, end in truth.utterances:
        for at_s in opened:
            if begin - DECISION_REACH_S < at_s < end:
                yield (at_s - begin) * 1000
                break


class RawDetector:
    """webrtcvad on every frame, as most programs use it. For comparison."""

    def __init__(self, aggressiveness: int) -> None:
        self.name = f"webrtcvad {aggressiveness}"
        self._model = WebrtcModel(aggressiveness)

    def judge(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> Judgement:  # noqa: ARG002
        """Judge the next frame."""
        return VOICED if self._model.is_speech(frame.pcm) else UNVOICED

    def reset(self) -> None:
        """Start with a new model."""
        self._model.reset()


def candidates(*, curve: bool = False) -> list[Candidate]:
    """Return agentd's gates and their rivals; `curve` adds other hangovers and onsets."""

    def cascade() -> Detector:
        return CascadeDetector(WebrtcModel(AGGRESSIVENESS), load_model(), FLOOR_DBFS)

    def silero() -> Detector:
        return SileroDetector(load_model(), formats.SILENCE_DBFS)

    def raw(mode: int) -> Callable[[], Detector]:
        return lambda: RawDetector(mode)

    def floored() -> Detector:
        return WebrtcDetector(Vad().aggressiveness, FLOOR_DBFS)

    found = [
        Candidate("cascade (auto)", cascade),
        Candidate("webrtc (no wheel)", floored),
        *(Candidate(f"raw webrtcvad {mode}", raw(mode)) for mode in range(4)),
        Candidate("silero alone", silero),
    ]
    if curve:
        found += [
            Candidate("cascade, onset 40 ms", cascade, Vad(onset_ms=40)),
            Candidate("cascade, onset 100 ms", cascade, Vad(onset_ms=100)),
            Candidate("cascade, hangover 300 ms", cascade, Vad(hangover_ms=300)),
            Candidate("cascade, hangover 900 ms", cascade, Vad(hangover_ms=900)),
            Candidate("cascade, pre-roll 100 ms", cascade, Vad(pre_roll_ms=100)),
        ]
    return found


HEAD = (
    "gate", "scene", "missed %", "lost", "onset clipped ms p50/p90/max", "decided after ms p50/p90",
    "hangover ms", "false s/h", "uplink", "CPU %", "idle CPU %",
)  # fmt: skip


def row(candidate: Candidate, scene: str, result: Run) -> tuple[str, ...]:
    """Return a line of the table."""
    figures = result.score
    onset = "/".join(f"{figures.onset_ms(p):.0f}" for p in (50, 90, 100))
    decided = sorted(result.decisions_ms)
    places = [decided[int((len(decided) - 1) * p / 100)] for p in (50, 90)] if decided else []
    spoken = bool(figures.onsets_ms)
    return (
        candidate.name,
        scene,
        f"{figures.missed_percent:.2f}" if spoken else "-",
        f"{figures.lost}/{len(figures.onsets_ms)}" if spoken else "-",
        onset if spoken else "-",
        "/".join(f"{place:.0f}" for place in places) or "-",
        f"{figures.hangover_ms:.0f}" if spoken else "-",
        f"{figures.false_s_per_h:.0f}",
        f"{figures.uplink:.3f}",
        f"{result.cpu_percent:.2f}",
        f"{result.idle_cpu_percent:.2f}",
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--curve", action="store_true", help="also other onsets and hangovers")
    parser.add_argument("--held-out", action="store_true", help="scenes of unheard recordings")
    parser.add_argument("--scene", action="append", help="only this scene (may be repeated)")
    options = parser.parse_args()
    directory = audio_directory()
    if directory is None:
        print("no scenes: set AGENTD_AUDIO_DIR to the folder that holds scenes/", file=sys.stderr)
        return 0
    print("| " + " | ".join(HEAD) + " |")
    print("|" + " --- |" * len(HEAD))
    for name, truth, frames in held_out(directory) if options.held_out else labelled(directory):
        if options.scene and name not in options.scene:
            continue
        for candidate in candidates(curve=options.curve):
            line = row(candidate, name, run(candidate, truth, frames))
            print("| " + " | ".join(line) + " |", flush=True)
    return 0


def labelled(directory: Path) -> Iterator[tuple[str, Truth, list[Frame]]]:
    """Return the scenes on which the gate's constants were chosen."""
    for labels in sorted((directory / "scenes").glob("*.json")):
        yield labels.stem, load_truth(labels), load_frames(labels.with_suffix(".wav"))


def held_out(directory: Path) -> Iterator[tuple[str, Truth, list[Frame]]]:
    """Return scenes of speech, noise and rooms that none of the others holds."""
    from benchmarks import recordings

    for seed, plan in enumerate(recordings.HELD_OUT, start=2_001):
        yield plan.name, *recordings.scene(directory, plan, seed)


if __name__ == "__main__":
    sys.exit(main())
