"""The soak in small, and that nothing grows."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from agentd import events as e
from agentd.clock import WallTime
from agentd.live import commands as c
from agentd.live.conversation import Conversation
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.messages import ResumptionUpdate, ServerMessage, TranscriptPiece
from benchmarks.soak_plan import PER_DAY, Trouble, draw
from tests.continuity.household import BACKENDS, FULL
from tests.continuity.report import Report, Row
from tests.live.world import settings

ROOT = Path(__file__).parents[2]
TURNS = 10_000 if FULL else 2_000
"""`make continuity` does ten thousand."""


def test_a_short_soak(report: Report) -> None:
    """Some household life with every trouble in it: nothing is lost without a word."""
    done = subprocess.run(
        # Half as fast as at length: three workers share the machine here, and a second in which it
        # does something else is a minute of the household's.
        [sys.executable, "-m", "benchmarks.soak", "--hours", "0.3", "--scale", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    told = figures["announced_lost"] + figures["announced_failed"]
    assert figures["said"] == figures["whole"] + told
    gaps = [gap["median_ms"] for gap in figures["gaps"].values()]
    report.add(
        Row(
            "P5",
            "soak, 0.4 h of a household",
            gaps,
            said=figures["said"],
            whole=figures["whole"],
            replayed=figures["asked_again"],
            lost=figures["announced_lost"],
            dials=figures["dials"],
            bytes_up=figures["audio_bytes_up"],
            note=f"clock x{figures['scale']:.0f}, gaps by cause; "
            f"RSS {figures['rss_growth_mib']:+.1f} MiB, fds {figures['descriptors']}",
        )
    )


def test_a_day_is_the_same_day_every_time() -> None:
    """The seed decides everything, and a whole day has what it is said to have."""
    assert draw(24.0, 1) == draw(24.0, 1)
    assert draw(24.0, 1) != draw(24.0, 2)
    events = draw(24.0, 1).events
    assert {t: sum(event.trouble is t for event in events) for t in Trouble} == PER_DAY


# ── P5 ────────────────────────────────────────────────────────────────────────────────────────

DROPPED = Failure(Phase.LIVE, Kind.DROPPED, 1006)
ATOMS = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)


def size_bytes(root: object) -> int:
    """Return the memory of everything that an object holds, code left out."""
    seen: dict[int, object] = {}
    queue = [root]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, ATOMS):
            continue
        seen[id(item)] = item
        queue.extend(gc.get_referents(item))
    return sum(sys.getsizeof(item) for item in seen.values())


class Year:
    """Drives a conversation through turns and reconnects on a virtual clock."""

    def __init__(self, backend: str) -> None:
        self.conversation = Conversation(settings(backend=backend), random=lambda: 0.5)
        self.now = 0.0
        self.connection = 0
        self.messages = 0
        self.ended = 0
        self.give(c.Start(None, None))

    def give(self, given: c.Input) -> None:
        """Hand over one input and note what matters of the answer."""
        self.now += 0.01
        wall = WallTime(1_800_000_000.0 + self.now, synchronised=True)
        for command in self.conversation.handle(given, self.now, wall):
            if isinstance(command, c.Dial):
                self.connection = command.connection
            elif isinstance(command, c.Send):
                self.messages += 1
            elif isinstance(command, c.Emit) and isinstance(command.event, e.TurnEnded):
                self.ended += 1

    def turn(self, number: int) -> None:
        """Ask, be answered, hear the answer out."""
        self.give(e.UtteranceStarted(number, self.now, b"\1\2" * 4800, self.now))
        self.give(e.UtteranceAudio(number, self.now, b"\1\2" * 4800))
        self.give(e.UtteranceEnded(number, self.now, 600.0, e.EndReason.HANGOVER))
        self.receive(
            audio=(bytes(4800),), model_turn=True, model_text=TranscriptPiece("word " * 20, True)
        )
        self.receive(generation_complete=True)
        self.receive(turn_complete=True)
        update = ResumptionUpdate(f"handle-{number}", resumable=True, consumed_index=3)
        self.receive(resumption=update)
        self.give(e.PlaybackMark(number, 100.0, drained=True))
        self.now += 20.0

    def receive(self, **fields: object) -> None:
        """Let a frame arrive."""
        self.give(c.Received(self.connection, ServerMessage(**fields)))  # type: ignore[arg-type]

    def reconnect(self) -> None:
        """Lose the connection and get another."""
        before = self.connection
        self.give(c.Ended(before, DROPPED))
        while self.connection == before:
            self.now += 60.0
            self.give(c.Tick())
        self.give(c.Connected(self.connection))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_year_of_talk_needs_no_more_memory_than_a_week(backend: str, report: Report) -> None:
    """P5: what the session holds after all the turns and reconnects is what it held early."""
    year = Year(backend)
    year.give(c.Connected(year.connection))
    early = 0
    for number in range(1, TURNS + 1):
        year.turn(number)
        if number % 10 == 0:
            year.reconnect()
        if number == 200:
            early = size_bytes(year.conversation)
    late = size_bytes(year.conversation)
    assert year.ended >= TURNS
    assert year.connection >= TURNS // 10
    assert late < early * 1.2, (early, late)
    note = f"virtual clock; holds {early // 1024} → {late // 1024} KiB"
    row = Row("P5", f"{TURNS:,} turns, {TURNS // 10:,} reconnects, {backend}", note=note)
    row.dials = year.connection
    report.add(row)
