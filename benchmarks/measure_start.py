"""From exec to the first frame, to the setup, to the first word on the wire."""

from __future__ import annotations

import time

from benchmarks.bench import Bench, of_track, recording, start_saying, tell
from benchmarks.match import best_place
from benchmarks.process import cpu_s
from benchmarks.service import kind
from benchmarks.speech import utterance
from benchmarks.systems import System, started

CHATTER_S = 14.0
"""Somebody speaks all the while, from before the start."""
GATHER_S = 1.2
"""Audio gathered on the wire before its beginning is looked up in the microphone's recording."""
DEADLINE_S = 10.0


def measure(bench: Bench) -> None:
    """Measure every system, interleaved; a first round warms caches and is thrown away."""
    first = 0 if bench.effort.is_quick else -1
    for number in range(first, bench.effort.starts):
        for system in bench.systems:
            tell(f"start {number + 1}/{bench.effort.starts}: {system.name}")
            _once(bench, system, count=number >= 0)


def _once(bench: Bench, system: System, *, count: bool) -> None:
    since = bench.service.seq()
    _, speaking = start_saying(bench, utterance(0, CHATTER_S))
    with recording(bench.rig) as recorder:
        with started(system, bench.environment(), keep=bench.log) as running:
            setup = bench.service.wait(kind("setup", "in"), since=since, timeout_s=DEADLINE_S)
            used_s = cpu_s(running.pid)
            audio = bench.service.wait(kind("audio", "in"), since=since, timeout_s=DEADLINE_S)
            time.sleep(GATHER_S)
            if audio is None or setup is None:
                bench.results.skip(
                    f"{system.name} sent no audio at its start: {running.log_tail()}"
                )
        speaking.stop()
        microphone = recorder.track("mic")
    if not count or setup is None or audio is None:
        return
    bench.results.add("setup_s", system.name, setup.at_s - running.exec_s)
    bench.results.add("cpu_start_s", system.name, used_s)
    bench.results.add("first_audio_s", system.name, audio.at_s - running.exec_s)
    wire = bench.wire(since).samples
    # Skip up to 50 ms that a resampler or a stream's beginning may have touched.
    needle = wire[800 : 800 + 8_000]
    heard = of_track(microphone)
    begin = microphone.index(running.exec_s)
    place, score = best_place(needle, heard[begin:])
    if score > 0.85:
        captured_s = microphone.start_s + (begin + place - 800) / microphone.rate_hz
        bench.results.add("first_frame_s", system.name, captured_s - running.exec_s)
