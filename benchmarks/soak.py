"""A day of a household under faults: the real session and SDK over TLS, on a fast clock.

    python -m benchmarks.soak [--hours 24] [--scale 120] [--backend developer] [--seed 1]

The service runs in a process of its own and counts its limits on the same fast clock: at 120 a day
takes twelve minutes. What the machine needs (a dial, a turn of the loop) is not any faster, so the
bounds that count machine time (reply, replay age, margin before a GoAway) are wide. Gaps are
reported in real milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from agentd import events as e
from agentd.clock import SystemClock
from agentd.config.settings import Settings
from agentd.live.google.connector import GenaiConnector
from agentd.live.session import LiveSession
from agentd.live.toolbox import Toolbox
from agentd.state.files import DiskFiles
from agentd.state.store import StateStore
from benchmarks.service import Service
from benchmarks.soak_ledger import Ledger
from benchmarks.soak_plan import Day, Event, Talk, Trouble, draw
from tests.continuity.household import Loudspeaker, ScaledConnector

HOST = "0.0.0.0"  # leads to this machine, and counts as a network
REPLAY_MAX_AGE_S = 300.0  # 2.5 s of the machine at the default scale
MARGIN_S = 60.0  # half a second of the machine: noticing, backing off, dialling
PIECE_MS = 200
QUIET_S = 600.0
NETWORKS = ("wlan0", "wwan0")


@dataclass
class Samples:
    """What the process needed, hour by hour."""

    rss_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def take(self) -> None:
        """Measure now."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rss_mib.append(pages * resource.getpagesize() / 2**20)
        self.descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208

    @property
    def growth_mib(self) -> float:
        """Median of the last quarter above that of the second."""
        quarter = max(1, len(self.rss_mib) // 4)
        early = self.rss_mib[quarter : 2 * quarter] or self.rss_mib
        return statistics.median(self.rss_mib[-quarter:]) - statistics.median(early)


class CountedFiles(DiskFiles):
    """State files whose bytes are counted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.writes = 0
        self.bytes_written = 0

    def replace(self, name: str, data: bytes) -> None:
        """Count and write."""
        self.writes += 1
        self.bytes_written += len(data)
        super().replace(name, data)


class Soak:
    """One day."""

    def __init__(self, day: Day, service: Service, folder: Path, options: argparse.Namespace):
        self.day = day
        self.service = service
        self.scale = float(options.scale)
        self.clock = SystemClock(self.scale)
        self.chance = random.Random(options.seed)
        self.ledger = Ledger(folder / "audio")
        self.state_folder = folder / "state"
        self.files = CountedFiles(self.state_folder)
        self.samples = Samples()
        self.gaps_ms: dict[str, list[float]] = {}
        self.causes: dict[str, int] = {}
        self.turns = self.dials = self.resumes = self.fresh = self.failed = 0
        self.barge_ins = 0
        self.log: TextIO | None = options.log
        self._cause = "start"
        self._seq = 0
        self._number = 0
        self._interface = 0
        self._busy = asyncio.Lock()
        self._ended_s: dict[int, float] = {}
        self._outages: list[tuple[float, float]] = []
        self._settings = self._make_settings(options)
        self._start_s = self.clock.monotonic()

    def _make_settings(self, options: argparse.Namespace) -> Settings:
        return Settings.model_validate(
            {
                "live": {
                    "backend": options.backend,
                    "base_url": f"https://{HOST}:{self.service.port}",
                    "connect_timeout_s": 120.0,
                    "setup_timeout_s": 120.0,
                    "reply_timeout_s": 240.0,
                    "go_away_margin_s": 20.0,
                },
                "network": {"replay_max_age_s": REPLAY_MAX_AGE_S},
            }
        )

    # ── the device ──

    def power_on(self) -> None:
        """Start store and session."""
        self._cause = "start"
        self.store = StateStore(
            self.state_folder, clock=self.clock, emit=self._emit, files=self.files
        )
        toolbox = Toolbox()
        self.session = LiveSession(
            self._settings,
            clock=self.clock,
            connector=ScaledConnector(GenaiConnector(toolbox), self.scale),
            store=self.store,
            emit=self._emit,
            deliver=lambda value: (
                self.speaker.hear(value) if not isinstance(value, e.TranscriptText) else None
            ),
            toolbox=toolbox,
            random=self.chance.random,
        )
        self.speaker = Loudspeaker(self.clock, self.session.mark)
        self._running = [
            asyncio.create_task(self.store.run()),
            asyncio.create_task(self.session.run()),
        ]

    async def power_off(self) -> None:
        """Stop both, as SIGTERM does."""
        await self.session.stop()
        await self._running[1]
        self._running[0].cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self.store.close()
        await self.speaker.stop()
        self.dials += self.session.status().dials

    def _emit(self, event: e.Event) -> None:
        if self.log is not None:
            at_h = (self.clock.monotonic() - self._start_s) / 3600.0
            print(f"{at_h:9.5f} h {event.name}: {event.message()}", file=self.log)
        if isinstance(event, e.Disconnected):
            self._cause = event.cause
            self.causes[event.cause] = self.causes.get(event.cause, 0) + 1
        elif isinstance(event, e.Resumed | e.SessionFresh):
            gap_ms = event.gap_ms / self.scale
            if gap_ms:
                self.gaps_ms.setdefault(self._cause, []).append(gap_ms)
            self.resumes += isinstance(event, e.Resumed)
            self.fresh += isinstance(event, e.SessionFresh)
        elif isinstance(event, e.SpeechLost):
            self.ledger.lost.add(event.utterance)
        elif isinstance(event, e.TurnEnded):
            self.turns += 1
        elif isinstance(event, e.TurnFailed):
            self.failed += 1
            self.ledger.failed.add(event.utterance)  # told by light and sound: say it again

    # ── the people ──

    async def _talk(self, talk: Talk) -> None:
        for length_s in talk.lengths_s:
            async with self._busy:  # nobody speaks while the device reboots
                await self._say(length_s)
            # Sometimes they wait for the answer, sometimes they speak into it.
            wait_s = self.chance.choice((1.0, 8.0, 20.0))
            self.barge_ins += wait_s < 5.0
            await self.clock.sleep(length_s + wait_s)

    async def _say(self, length_s: float) -> None:
        self._number += 1
        number, session = self._number, self.session
        piece = PIECE_MS * 32
        pcm = self.chance.randbytes(max(2, round(length_s * 1000 / PIECE_MS)) * piece)
        self.ledger.say(number, pcm)
        now = self.clock.monotonic()
        session.hear(e.UtteranceStarted(number, now - 0.3, pcm[:piece], now))
        for count, at in enumerate(range(piece, len(pcm), piece), 1):
            await self.clock.sleep(now + count * PIECE_MS / 1000 - self.clock.monotonic())
            session.hear(e.UtteranceAudio(number, self.clock.monotonic(), pcm[at : at + piece]))
        ended_s = self._ended_s[number] = self.clock.monotonic()
        session.hear(e.UtteranceEnded(number, ended_s, len(pcm) / 32, e.EndReason.HANGOVER))

    async def _people(self) -> None:
        for talk in self.day.talks:
            await self._reach(talk.at_s)
            await self._talk(talk)

    # ── what goes wrong ──

    async def _troubles(self) -> None:
        for event in self.day.events:
            await self._reach(event.at_s)
            await self._strike(event)

    async def _strike(self, event: Event) -> None:
        service, session = self.service, self.session
        if event.trouble is Trouble.HANDOVER:
            self._interface = 1 - self._interface
            session.link_changed(e.LinkChanged(interface=NETWORKS[self._interface], online=True))
        elif event.trouble is Trouble.END:
            if self.chance.random() < 0.5:
                service.fault("reset")
            else:
                service.fault("close", code=self.chance.choice((1000, 1006, 1008, 1011, 1012)))
        elif event.trouble is Trouble.OUTAGE:
            began_s = self.clock.monotonic()
            service.fault("refuse_tcp")
            session.link_changed(e.LinkChanged(interface="", online=False))
            await self.clock.sleep(event.long_s)
            service.fault("accept_tcp")
            self._outages.append((began_s, self.clock.monotonic()))
            self.session.link_changed(
                e.LinkChanged(interface=NETWORKS[self._interface], online=True)
            )
        elif event.trouble in (Trouble.SERVER, Trouble.QUOTA):
            if event.trouble is Trouble.QUOTA:
                service.fault("quota", times=0)
            else:
                service.fault("refuse_http", status=503, times=0)
            service.fault("reset")
            await self.clock.sleep(event.long_s)
            service.clear_faults()
        else:
            async with self._busy:
                await self.power_off()
                await self.clock.sleep(30.0)
                self.power_on()
                self.session.link_changed(
                    e.LinkChanged(interface=NETWORKS[self._interface], online=True)
                )

    # ── the day ──

    async def _reach(self, at_s: float) -> None:
        await self.clock.sleep(self._start_s + at_s - self.clock.monotonic())

    async def _measure(self) -> None:
        every_s = max(60.0, self.day.hours * 3600.0 / 48)
        at_s = every_s
        while True:
            await self._reach(at_s)
            at_s += every_s
            self.samples.take()
            await self._read_record()

    async def _read_record(self) -> None:
        entries = await asyncio.to_thread(self.service.entries, self._seq)
        self._seq = self.ledger.feed(entries) or self._seq

    async def run(self) -> None:
        """Live through the day, and the quiet after it."""
        self.ledger.folder.mkdir(exist_ok=True)
        self.power_on()
        self.session.link_changed(e.LinkChanged(interface=NETWORKS[0], online=True))
        await self.clock.sleep(0)
        self._start_s = self.clock.monotonic()
        measuring = asyncio.create_task(self._measure())
        try:
            await asyncio.gather(self._people(), self._troubles())
            await self._reach(self.day.hours * 3600.0)
            await self.clock.sleep(QUIET_S)
        finally:
            measuring.cancel()
            await asyncio.gather(measuring, return_exceptions=True)
            await self.power_off()
        await self._read_record()

    def figures(self) -> dict[str, Any]:
        """Return what was measured."""
        ledger, samples = self.ledger, self.samples
        gaps = {
            cause: {"n": len(ms), "median_ms": statistics.median(ms), "max_ms": max(ms)}
            for cause, ms in sorted(self.gaps_ms.items())
        }
        return {
            "hours": self.day.hours,
            "scale": self.scale,
            "said": len(ledger.said),
            "whole": ledger.whole,
            "announced_lost": len(ledger.lost),
            "announced_failed": ledger.told_failed(),
            "silently_lost": ledger.silently_lost(),
            "announced_and_delivered": ledger.announced_and_delivered(),
            "asked_again": ledger.repeated,
            "asked_again_too_late": ledger.again_too_late,
            "turns": self.turns,
            "turns_failed": self.failed,
            "spoken_into_an_answer": self.barge_ins,
            "dials": self.dials,
            "resumes": self.resumes,
            "fresh_sessions": self.fresh,
            "ends": dict(sorted(self.causes.items())),
            "gaps": gaps,
            "rss_mib": [round(samples.rss_mib[0]), round(samples.rss_mib[-1])],
            "rss_growth_mib": round(samples.growth_mib, 1),
            "descriptors": [min(samples.descriptors), max(samples.descriptors)],
            "disk_writes": self.files.writes,
            "disk_bytes_per_h": round(self.files.bytes_written / self.day.hours),
            "audio_bytes_up": ledger.bytes_up,
        }

    def lost_wrongly(self) -> list[int]:
        """Return the utterances that were lost though the network came back in time for them."""
        return sorted(
            number
            for number in self.ledger.lost
            if not any(
                began_s <= self._ended_s[number] + MARGIN_S
                and self._ended_s[number] + REPLAY_MAX_AGE_S <= over_s + MARGIN_S
                for began_s, over_s in self._outages
            )
        )


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def soak(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Run a day; return the figures and what is wrong with them."""
    day = draw(options.hours, options.seed)
    with tempfile.TemporaryDirectory(prefix="agentd-soak-") as name:
        folder = Path(name)
        service = Service(
            host=HOST,
            time_scale=options.scale,
            connection_limits=True,
            resume_while_open="takeover",
            reply="tone",
            tone_s=2.0,
            san=(HOST,),
            audio_dir=str(folder / "audio"),
            record_limit=200_000,
        )
        with service, _environment(service.environment()):
            run = Soak(day, service, folder, options)
            asyncio.run(run.run())
    return run.figures(), problems(run)


def problems(run: Soak) -> list[str]:
    """Return what must not be."""
    figures, ledger = run.figures(), run.ledger
    found = []
    if ledger.silently_lost():
        found.append(f"lost without a word: {ledger.silently_lost()}")
    if ledger.announced_and_delivered():
        found.append(f"announced as lost, and delivered: {ledger.announced_and_delivered()}")
    if ledger.again_too_late:
        found.append(f"asked again after the answer: {ledger.again_too_late}")
    if run.lost_wrongly():
        found.append(f"lost outside outages longer than the replay age: {run.lost_wrongly()}")
    if figures["rss_growth_mib"] > 8:
        found.append(f"memory grew by {figures['rss_growth_mib']} MiB")
    low, high = figures["descriptors"]
    if high - low > 8:
        found.append(f"descriptors between {low} and {high}")
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="of household life")
    parser.add_argument("--scale", type=float, default=120.0, help="hours per real hour")
    parser.add_argument("--backend", choices=("developer", "vertex"), default="developer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=argparse.FileType("w"), help="write every event there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a day and print it; return 1 if something is wrong."""
    options = parse(arguments)
    logging.basicConfig(format="session: %(name)s: %(message)s")
    began_s = time.monotonic()
    figures, wrong = soak(options)
    print(json.dumps(figures, indent=2))
    print(f"{options.hours:g} h in {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    for problem in wrong:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
