"""Price and score the echo canceller behind the real gate.

    python -m benchmarks.echo

A reply of speech and music through a recorded room response, at several levels, alone and with
somebody who speaks over it; and a recording with its reference. What the gate makes of the rest is
what counts. Recordings are found as those of `benchmarks.voice_gate` are. Needs numpy and sox.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import wave as wavefile
from pathlib import Path

import numpy as np
from pywebrtc_audio import EchoCanceller as Aec3

from agentd.audio import formats
from agentd.audio.echo.webrtc import WebrtcCanceller
from agentd.events import Frame
from benchmarks import recordings
from benchmarks.gate_scoring import Truth
from benchmarks.recordings import RATE_HZ, Wave
from benchmarks.voice_gate import Run, audio_directory, candidates, load_frames, load_truth, run

LEVELS_DB = (0, -6, -12, -20)
ROOMS = ("small_room", "kitchen", "room_t60_0.6s")
TALKERS = 9
BEGIN_S = 100.0  # on the microphone's clock
LATENCY_S = 0.12  # of the speaker: it is told so long before it is heard
PERIOD = formats.PLAYBACK_RATE_HZ * 30 // 1000
NOISE_RMS = 8.0
HEAD = (
    "echo", "room", "echo ÷ voice dB", "reply alone: gate open s", "ERLE dB", "heard over it",
    "missed %", "decided after ms p50/worst", "µs per frame",
)  # fmt: skip


def main() -> int:
    """Print the table."""
    directory = audio_directory()
    if directory is None:
        print("no recordings: set AGENTD_AUDIO_DIR", file=sys.stderr)
        return 0
    reference = _read_wav(directory / "aec" / "e1_ref.wav")
    voice, truth = talkers(directory, len(reference))
    _line(HEAD)
    _line(("---",) * len(HEAD))
    for room in ROOMS:
        echo = recordings.convolve(reference, recordings.response(directory, room))
        loud_db = 20 * np.log10(_active_rms(echo) / _active_rms(voice))
        for level_db in LEVELS_DB:
            here = echo * 10 ** (level_db / 20)
            _row(f"{level_db} dB", room, loud_db + level_db, here, voice, reference, truth)
    truth = load_truth(directory / "aec" / "e1_mic.json")
    heard = load_frames(directory / "aec" / "e1_mic.wav")
    cleaned, price = cancel(heard, reference)
    both = run(candidates()[0], Truth(truth.duration_s, truth.speech, truth.utterances), cleaned)
    _line(("recording, saturated", "small_room", "+6", "-", "-", *_told(both), f"{price:.0f}"))
    print(f"\nAEC3 itself, on the recording: {bare(heard, reference):.0f} µs per frame")
    return 0


def bare(heard: list[Frame], reference: Wave) -> float:
    """Return the price of a frame in µs of the C++ that the canceller wraps, here and now.

    On this sound: on noise it costs little more than half as much.
    """
    far = np.clip(np.rint(reference), -32_768, 32_767).astype(np.int16)
    engine = Aec3(RATE_HZ, 1)
    size, spent_s, count = formats.FRAME_SAMPLES, 0.0, 0
    for frame in heard:
        near = np.frombuffer(frame.pcm, "<i2")
        played = far[count * size : (count + 1) * size]
        if len(played) < size:
            break
        begun_s = time.process_time()
        engine.process(near, played)
        spent_s += time.process_time() - begun_s
        count += 1
    return 1e6 * spent_s / max(1, count)


def talkers(directory: Path, length: int) -> tuple[Wave, Truth]:
    """Return commands spoken every few seconds, and when."""
    labels = json.loads((directory / "speech" / "labels.json").read_text())
    names = sorted(
        name for name, one in labels.items() if one["kind"] == "command" and one["scene"]
    )
    clips = [recordings.clip(directory, n, labels[n]["segments"]) for n in names[:TALKERS]]
    laid, speech, utterances = recordings.lay(clips, np.random.default_rng(5))
    voice = np.zeros(length)
    begin = 4 * RATE_HZ  # the first reply has played for a while
    voice[begin : begin + len(laid)] = laid[: length - begin]
    until_s = length / RATE_HZ
    moved = [
        tuple((a + 4, b + 4) for a, b in one if b + 4 < until_s) for one in (speech, utterances)
    ]
    return voice, Truth(until_s, moved[0], moved[1])


def cancel(heard: list[Frame], reference: Wave) -> tuple[list[Frame], float]:
    """Return the frames behind the canceller, and its price in µs per frame."""
    canceller = WebrtcCanceller()
    far = _to_24_khz(reference)
    cleaned: list[Frame] = []
    written = 0
    spent_s = 0.0
    for frame in heard:
        begun_s = time.process_time()
        while (at_s := written / formats.PLAYBACK_RATE_HZ) < frame.at_s + LATENCY_S:
            period = far[written : written + PERIOD]
            if period.any():
                canceller.played(period.tobytes(), BEGIN_S + at_s)
            written += PERIOD
        one = canceller.clean(Frame(frame.index, BEGIN_S + frame.at_s, frame.pcm))
        cleaned.append(one)
        spent_s += time.process_time() - begun_s
    moved = [Frame(one.index, one.at_s - BEGIN_S, one.pcm) for one in cleaned]
    return moved, 1e6 * spent_s / max(1, canceller.stats.frames)


def _row(  # noqa: PLR0917 - a line of the table
    name: str, room: str, loud_db: float, echo: Wave, voice: Wave, reference: Wave, truth: Truth
) -> None:
    gate = candidates()[0]
    noise = np.random.default_rng(1).standard_normal(len(echo)) * NOISE_RMS
    heard = recordings.frames(echo + noise)
    alone, _ = cancel(heard, reference)
    erle_db = formats.level_dbfs(b"".join(f.pcm for f in heard)) - formats.level_dbfs(
        b"".join(f.pcm for f in alone)
    )
    opened = run(gate, truth, alone)
    over, price = cancel(recordings.frames(echo + noise + voice), reference)
    both = run(gate, truth, over)
    told = (f"{opened.score.sent_s:.2f}", f"{erle_db:.0f}", *_told(both), f"{price:.0f}")
    _line((name, room, f"{loud_db:+.0f}", *told))


def _told(both: Run) -> tuple[str, str, str]:
    decided = both.decisions_ms or (0.0,)
    spoken = len(both.score.onsets_ms)
    return (
        f"{spoken - both.score.lost}/{spoken}",
        f"{both.score.missed_percent:.1f}",
        f"{statistics.median(decided):.0f}/{max(decided):.0f}",
    )


def _line(cells: tuple[str, ...]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def _read_wav(path: Path) -> Wave:
    with wavefile.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)


def _active_rms(wave: Wave) -> float:
    blocks = wave[: len(wave) // 1600 * 1600].reshape(-1, 1600)
    power = np.mean(blocks**2, axis=1)
    return float(np.sqrt(np.mean(power[power > power.max() / 1000])))


def _to_24_khz(wave: Wave) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    spectrum = np.fft.rfft(wave)
    wide = np.zeros(len(wave) * 3 // 4 + 1, complex)
    wide[: len(spectrum)] = spectrum
    values = np.fft.irfft(wide, len(wave) * 3 // 2) * 1.5
    return np.clip(np.rint(values), -32_768, 32_767).astype("<i2")


if __name__ == "__main__":
    sys.exit(main())
