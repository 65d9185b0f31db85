"""Whole scenes of a room: how much is sent, what is missing, how late an utterance's end is told.

All systems hear the same scene at the same time, each with a service of its own: what they send is
compared, not how long it takes.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from benchmarks.bench import Bench, Said, recording, said_at, start_saying, tell
from benchmarks.match import Wire, find
from benchmarks.service import Entry, Service, kind
from benchmarks.speech import RATE_HZ, Clip, built_scene, scene
from benchmarks.systems import System, started
from rig.recording import Track

SETTLE_S = 3.0
TAIL_S = 2.0
BEFORE_S, AFTER_S = 0.05, 8.0
"""An utterance's audio is looked for in what arrived from just before it until so much after it."""
NEXT_S = 1.2
"""An utterance counts for its end only if so much time passes until the next one."""


def measure(bench: Bench) -> None:
    """Play the scenes."""
    quiet = scene("s1_quiet_room")
    fan = scene("s2_fan_15db")
    if quiet is None:
        bench.results.skip(
            "no labelled scenes (AGENTD_AUDIO_DIR): uplink in quiet measured on a built one, "
            "in noise not at all"
        )
        quiet = built_scene()
    _play(bench, quiet.head(bench.effort.scene_s), "uplink_quiet")
    if fan is not None and bench.effort.scene_s >= fan.duration_s:
        _play(bench, fan, "uplink_noise")


def _play(bench: Bench, clip: Clip, key: str) -> None:
    tell(f"scene: {clip.name}, {clip.duration_s:.0f} s, all at once")
    with contextlib.ExitStack() as stack:
        recorder = stack.enter_context(recording(bench.rig))
        services: dict[str, Service] = {}
        for system in bench.systems:
            service = stack.enter_context(Service(reply="tone", tone_s=0.2))
            services[system.name] = service
            stack.enter_context(started(system, bench.environment(service), keep=bench.log))
            if service.wait(kind("setupComplete", "out")) is None:
                bench.results.skip(f"{system.name} did not connect for {clip.name}")
        time.sleep(SETTLE_S)
        said, saying = start_saying(bench, clip)
        saying.wait()
        time.sleep(TAIL_S)
        microphone = recorder.track("mic")
        for system in bench.systems:
            heard = _Heard(said, microphone, key)
            _evaluate(bench, system, services[system.name], heard)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A scene that was played: what, where it is in the recording, and which row it is for."""

    said: Said
    microphone: Track
    key: str


def _evaluate(bench: Bench, system: System, service: Service, heard: _Heard) -> None:
    clip = heard.said.clip
    begin_s = said_at(heard.said, heard.microphone)
    entries = service.entries()
    wire = bench.wire(0, service).between(begin_s, begin_s + clip.duration_s + TAIL_S)
    bench.results.add(heard.key, system.name, wire.duration_s / clip.speech_s)
    missing = sum(_missing_ms(clip, span, begin_s, wire) for span in clip.speech)
    bench.results.add("scene_missing_ms", system.name, missing)
    if heard.key != "uplink_quiet":
        return
    for number, (_, end) in enumerate(clip.utterances):
        following = clip.utterances[number + 1 :]
        if following and following[0][0] - end < NEXT_S:
            continue
        end_s = begin_s + end
        bench.results.add("scene_end_ms", system.name, _end_ms(entries, end_s))


def _missing_ms(clip: Clip, span: tuple[float, float], begin_s: float, wire: Wire) -> float:
    spoken = clip.samples[round(span[0] * RATE_HZ) : round(span[1] * RATE_HZ)]
    arrived = wire.between(begin_s + span[0] - BEFORE_S, begin_s + span[1] + AFTER_S)
    return find(spoken, arrived.samples).missing_ms


def _end_ms(entries: list[Entry], end_s: float) -> float | None:
    # The label may be a little later than what the gate takes for the end.
    ended = next((e.at_s for e in entries if e.kind == "utterance" and e.at_s > end_s - 0.1), None)
    return None if ended is None else 1000 * (ended - end_s)
