"""What a broken connection costs: a close in mid-speech, a service that closes at once, jitter."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.bench import (
    Bench,
    of_track,
    recording,
    said_at,
    start_saying,
    tell,
    wait_until,
)
from benchmarks.match import find
from benchmarks.service import Service, kind
from benchmarks.speech import utterance
from benchmarks.systems import AGENTD_AEC, System, started
from rig.recording import Track
from rig.relay import GOOD, Quality, Relay

SETTLE_S = 3.0
INTO_SPEECH_S = 1.2
SPEECH_S = 3.5
DEADLINE_S = 12.0
LATE_S = 15.0
JITTER_S = 0.06


def measure(bench: Bench) -> None:
    """Measure every system but the second agentd: cancelling echo changes nothing here."""
    for system in bench.systems:
        if system is AGENTD_AEC or (bench.effort.is_quick and not system.is_agentd):
            continue
        tell(f"close 1011, closed at once, jitter: {system.name}")
        _closed_in_speech(bench, system)
        _closed_at_once(bench, system)
        _jitter(bench, system)


# ── close 1011 ────────────────────────────────────────────────────────────────────────────────


def _closed_in_speech(bench: Bench, system: System) -> None:
    service, results = bench.service, bench.results
    since = service.seq()
    with (
        recording(bench.rig) as recorder,
        started(system, bench.environment(), keep=bench.log) as running,
    ):
        service.wait(kind("setupComplete", "out"), since=since)
        time.sleep(SETTLE_S)
        said = []
        for number in range(bench.effort.breaks):
            seq = service.seq()
            one, saying = start_saying(bench, utterance(3 * number, SPEECH_S))
            said.append(one)
            recorder.wait_for_sound("mic", after_s=one.asked_s)
            time.sleep(INTO_SPEECH_S)
            service.fault("close", code=1011)
            closed = service.wait(kind("closing"), since=seq)
            assert closed is not None
            number_closed, closed_s = closed.connection, closed.at_s
            again = service.wait(
                lambda e, n=number_closed: (
                    e.kind == "audio"
                    and e.direction == "in"  # type: ignore[misc]
                    and e.connection > n
                ),
                since=closed.seq,
                timeout_s=DEADLINE_S if system.recovers else 3.0,
            )
            saying.wait()
            if again is None:
                word = "never" if running.alive else "never (dies)"
                results.say("reconnect_s", system.name, word)
                results.say("reconnect_lost_ms", system.name, "the rest")
                return
            results.add("reconnect_s", system.name, again.at_s - closed_s)
            service.wait(kind("turnComplete", "out"), since=again.seq, timeout_s=DEADLINE_S)
            recorder.wait_for_silence("spk", for_s=0.6)
        microphone = recorder.track("mic")
    wire = bench.wire(since)
    for one in said:
        begin_s = said_at(one, microphone)
        arrived = wire.between(begin_s, begin_s + one.clip.duration_s + LATE_S)
        results.add(
            "reconnect_lost_ms", system.name, find(one.clip.samples, arrived.samples).missing_ms
        )


# ── a service that accepts and closes ─────────────────────────────────────────────────────────


def _closed_at_once(bench: Bench, system: System) -> None:
    service = bench.service
    if not bench.effort.dial_loop_s:
        return  # less than a minute would say nothing about dials a minute
    service.fault("close", code=1011, on="setup", times=0)
    since = service.seq()
    try:
        with started(system, bench.environment(), keep=bench.log) as running:
            if service.wait(kind("connect"), since=since) is None:
                return
            time.sleep(bench.effort.dial_loop_s)
            dials = sum(e.kind == "connect" for e in service.entries(since))
            if not running.alive:
                bench.results.say("dials_per_min", system.name, "dies")
            else:
                rate = 60 * dials / bench.effort.dial_loop_s
                bench.results.add("dials_per_min", system.name, rate)
    finally:
        service.clear_faults()


# ── jitter ────────────────────────────────────────────────────────────────────────────────────


def silent_ms_inside(track: Track, begin_s: float, end_s: float) -> float:
    """Return how much of a sounding stretch is silence, its edges left out."""
    begin, end = track.index(begin_s), track.index(end_s)
    window = track.rate_hz // 200
    samples = of_track(track)[begin:end]
    count = len(samples) // window
    peaks = np.abs(samples[: count * window].reshape(count, window).astype(np.int32)).max(axis=1)
    sounding = np.flatnonzero(peaks > 100)
    if len(sounding) == 0:
        return 0.0
    inner = peaks[sounding[0] : sounding[-1] + 1]
    return float((inner <= 100).sum() * 5)


def _jitter(bench: Bench, system: System) -> None:
    effort = bench.effort
    with (
        Service(reply="tone", tone_s=effort.reply_s, pace=1.0) as service,
        Relay(service.port) as relay,
        recording(bench.rig) as recorder,
    ):
        environment = bench.rig.child_env(**service.environment(port=relay.port))
        with started(system, environment, keep=bench.log):
            service.wait(kind("setupComplete", "out"))
            time.sleep(SETTLE_S)
            relay.set_quality(GOOD, Quality(delay_s=0.02, jitter_s=JITTER_S))
            for number in range(effort.breaks):
                seq = service.seq()
                _, saying = start_saying(bench, utterance(number, 1.5))
                saying.wait()
                sent = service.wait(kind("audio", "out"), since=seq)
                if sent is None:
                    bench.results.skip(f"{system.name} got no reply under jitter")
                    return
                service.wait(kind("turnComplete", "out"), since=seq, timeout_s=DEADLINE_S)
                recorder.wait_for_silence("spk", for_s=0.6)
                track = recorder.track("spk")
                gap_ms = silent_ms_inside(track, sent.at_s, time.monotonic())
                bench.results.add("jitter_gap_ms", system.name, gap_ms)
                wait_until(lambda: False, 0.5)
