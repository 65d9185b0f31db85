"""A conversation: memory and CPU by phase, latencies of turns, interruptions, bytes on disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.bench import Bench, Said, recording, said_at, start_saying, tell
from benchmarks.match import Wire, find
from benchmarks.process import bytes_to_disk, cpu_s, memory
from benchmarks.service import Entry, kind
from benchmarks.speech import RATE_HZ, utterance
from benchmarks.systems import Running, System, started
from rig.recording import Recorder, Track

SETTLE_S = 3.5
"""From setupComplete until CPU is counted: imports and freshly opened streams have calmed down."""
INTO_REPLY_S = 1.2
"""Where in the reply somebody interrupts."""
LATE_S = 10.0
"""How much later than spoken speech may arrive and still count as this turn's."""
QUIET_DBFS = -50.0
DEADLINE_S = 15.0


@dataclass(slots=True)
class Cpu:
    """CPU and wall seconds of one phase, over all its occurrences."""

    used_s: float = 0.0
    wall_s: float = 0.0

    @contextlib.contextmanager
    def counted(self, pid: int) -> Iterator[None]:
        """Count what happens inside."""
        used_s, wall_s = cpu_s(pid), time.monotonic()
        yield
        self.used_s += cpu_s(pid) - used_s
        self.wall_s += time.monotonic() - wall_s

    @property
    def per_minute(self) -> float | None:
        """Return CPU seconds per minute of this phase."""
        return 60 * self.used_s / self.wall_s if self.wall_s else None


@dataclass(slots=True)
class Talk:
    """One conversation under way and what is to be evaluated afterwards."""

    bench: Bench
    system: System
    running: Running
    recorder: Recorder
    since: int
    turns: list[Said] = field(default_factory=list)
    barge_ins: list[Said] = field(default_factory=list)
    speech: Cpu = field(default_factory=Cpu)
    reply: Cpu = field(default_factory=Cpu)

    def wait(self, name: str, direction: str, since: int) -> Entry | None:
        """Wait for an entry of the record."""
        return self.bench.service.wait(kind(name, direction), since=since, timeout_s=DEADLINE_S)

    def turn(self, number: int) -> None:
        """Say something and hear the whole answer; count CPU in both."""
        bench, pid = self.bench, self.running.pid
        seq = bench.service.seq()
        clip = utterance(number, bench.effort.speech_s)
        said, speaking = start_saying(bench, clip)
        with self.speech.counted(pid):
            speaking.wait()
        if self.wait("audio", "out", seq) is None:
            raise LookupError("no reply")
        with self.reply.counted(pid):
            time.sleep(bench.effort.reply_s * 0.8)
            held = memory(pid)
            time.sleep(bench.effort.reply_s * 0.2)
        self.turns.append(said)
        self._settle(seq)
        bench.results.add("rss_talking_mib", self.system.name, held.rss_mib)
        bench.results.add("pss_talking_mib", self.system.name, held.pss_mib)

    def barge_in(self, number: int) -> None:
        """Say something, and something else in the middle of the answer."""
        seq = self.bench.service.seq()
        _, speaking = start_saying(self.bench, utterance(number, 1.5))
        speaking.wait()
        answer = self.wait("audio", "out", seq)
        if answer is None:
            raise LookupError("no reply")
        self.recorder.wait_for_sound("spk", after_s=answer.at_s, timeout_s=DEADLINE_S)
        time.sleep(INTO_REPLY_S)
        said, speaking = start_saying(self.bench, utterance(number + 3, 2.0))
        speaking.wait()
        self.barge_ins.append(said)
        # Wait for the answer to the interruption, or to what was not interrupted.
        time.sleep(self.bench.effort.reply_s + 1.0)
        self._settle(seq)

    def _settle(self, seq: int) -> None:
        self.wait("turnComplete", "out", seq)
        self.recorder.wait_for_silence("spk", for_s=0.6)
        time.sleep(0.5)


def measure(bench: Bench) -> None:
    """Hold conversations with every system, interleaved."""
    for number in range(bench.effort.rounds):
        for system in bench.systems:
            tell(f"conversation {number + 1}/{bench.effort.rounds}: {system.name}")
            since = bench.service.seq()
            with (
                recording(bench.rig) as recorder,
                started(system, bench.environment(), keep=bench.log) as running,
            ):
                talk = Talk(bench, system, running, recorder, since)
                try:
                    _hold(talk)
                except (LookupError, TimeoutError, OSError) as problem:
                    why = running.log_tail() if not running.alive else ""
                    bench.results.skip(f"conversation with {system.name}: {problem} {why}")
                tracks = recorder.track("mic"), recorder.track("spk")
            evaluate(talk, *tracks)


def _hold(talk: Talk) -> None:
    bench, name, pid = talk.bench, talk.system.name, talk.running.pid
    if talk.wait("setupComplete", "out", talk.since) is None:
        raise LookupError("no setup")
    time.sleep(SETTLE_S)
    silence = Cpu()
    disk = bytes_to_disk(pid)
    with silence.counted(pid):
        time.sleep(bench.effort.idle_s)
    bench.results.add("cpu_silence", name, silence.per_minute)
    held = memory(pid)
    bench.results.add("rss_idle_mib", name, held.rss_mib)
    bench.results.add("pss_idle_mib", name, held.pss_mib)
    idle_bytes = bytes_to_disk(pid) - disk
    bench.results.add("disk_idle_kib_h", name, idle_bytes / 1024 * 3600 / bench.effort.idle_s)
    disk = bytes_to_disk(pid)
    for number in range(bench.effort.turns):
        talk.turn(number)
    bench.results.add(
        "disk_turn_kib", name, (bytes_to_disk(pid) - disk) / 1024 / bench.effort.turns
    )
    bench.results.add("cpu_speech", name, talk.speech.per_minute)
    bench.results.add("cpu_reply", name, talk.reply.per_minute)
    for number in range(bench.effort.barge_ins):
        talk.barge_in(number)


def evaluate(talk: Talk, microphone: Track, speaker: Track) -> None:
    """Turn recordings and record into numbers."""
    entries = talk.bench.service.entries(talk.since)
    wire = talk.bench.wire(talk.since)
    for said in talk.turns:
        begin_s = _begin(talk, said, microphone)
        if begin_s is not None:
            _uplink(talk, said, begin_s, wire, entries)
            _downlink(talk, said, begin_s, speaker, entries)
    for said in talk.barge_ins:
        begin_s = _begin(talk, said, microphone)
        if begin_s is None:
            continue
        silent_s = speaker.silence(after_s=begin_s, threshold_dbfs=QUIET_DBFS, window_ms=100)
        if silent_s is not None:
            talk.bench.results.add("barge_in_ms", talk.system.name, 1000 * (silent_s - begin_s))


def _begin(talk: Talk, said: Said, microphone: Track) -> float | None:
    try:
        return said_at(said, microphone)
    except LookupError as problem:
        talk.bench.results.skip(f"a sample of {talk.system.name}: {problem}")
        return None


def _uplink(talk: Talk, said: Said, begin_s: float, wire: Wire, entries: list[Entry]) -> None:
    results, name = talk.bench.results, talk.system.name
    wire = wire.between(begin_s, begin_s + said.clip.duration_s + LATE_S)
    found = find(said.clip.samples, wire.samples)
    results.add("missing_ms", name, found.missing_ms)
    if found.first_index is not None:
        spoken_s = begin_s + found.first_offset / RATE_HZ
        results.add("onset_wire_ms", name, 1000 * (wire.arrival_s(found.first_index) - spoken_s))
    end_s = begin_s + said.clip.utterances[-1][1]
    ended = utterance_end(entries, begin_s + 0.5 * said.clip.duration_s)
    if ended is not None:
        results.add("end_ms", name, 1000 * (ended - end_s))


def utterance_end(entries: list[Entry], after_s: float) -> float | None:
    """Return when the service took the utterance for complete: told, or found by itself."""
    ends = (e.at_s for e in entries if e.kind == "utterance" and e.at_s > after_s)
    return next(ends, None)


def _downlink(talk: Talk, said: Said, begin_s: float, speaker: Track, entries: list[Entry]) -> None:
    end_s = begin_s + said.clip.duration_s
    sent = next(
        (e.at_s for e in entries if (e.kind, e.direction) == ("audio", "out") and e.at_s > end_s),
        None,
    )
    if sent is None:
        return
    sounded_s = speaker.onset(after_s=sent - 0.05, threshold_dbfs=QUIET_DBFS)
    if sounded_s is not None:
        talk.bench.results.add("reply_sink_ms", talk.system.name, 1000 * (sounded_s - sent))
