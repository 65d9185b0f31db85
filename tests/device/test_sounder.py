"""Sounds on their way to the player."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC

import pytest

from agentd import events as e
from agentd.clock import FakeClock
from agentd.config.settings import Settings, Sounds
from agentd.device.earcons import ClipLibrary
from agentd.device.facts import Facts
from agentd.device.sounder import QUEUE_LENGTH, RING_GAP_S, Sounder
from tests.device.builders import (
    MIC_BACK,
    READY,
    REFUSED,
    RING_ENDED,
    RINGING,
    VOLUME,
    failed,
    fresh,
    opened,
)
from tests.device.stepping import Stepping
from tests.device.waiting import Told

pytestmark = pytest.mark.anyio


class Clips(ClipLibrary):
    """Clips that say their name: one second each."""

    def __init__(self) -> None:
        super().__init__(Sounds())

    def clip(self, name: str) -> bytes:
        return name.encode().ljust(48_000, b"\0") if name != "tick" else b""


class World:
    """A sounder between facts and a player."""

    def __init__(self, settings: Sounds | None = None, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.facts = Facts()
        self.played: Told[str] = Told()
        self.hushed = 0
        for event in (READY, MIC_BACK, fresh()):
            self.facts = self.facts.after(event, self.clock.now_s)
        self.sounder = Sounder(
            settings or Sounds(),
            clock=self.clock,
            facts=lambda: self.facts,
            play=self.play,
            hush=self.hush,
            clips=lambda _settings: Clips(),
            timezone=UTC,
        )

    def play(self, pcm: bytes) -> None:
        names = [pcm[i : i + 48_000].rstrip(b"\0").decode() for i in range(0, len(pcm), 48_000)]
        self.played.append("+".join(names))

    def hush(self) -> None:
        self.hushed += 1

    def happen(self, event: e.Event) -> None:
        """Fold and sound, as the daemon does."""
        self.facts = self.facts.after(event, self.clock.now_s)
        self.sounder.on_event(event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the sounder for a while."""
        task = asyncio.ensure_future(self.sounder.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_sounds_of_a_moment_come_one_after_the_other() -> None:
    """Tone and words are one piece, not a chord."""
    world = World()
    async with world.running():
        world.happen(REFUSED)
        await world.played.until("error+refused")


async def test_a_moment_does_not_wait() -> None:
    """Choosing returns at once; nothing has been read or played by then."""
    world = World()
    world.happen(failed())
    assert world.played == []
    async with world.running():
        await world.played.until("error")


async def test_missing_clip_is_no_sound() -> None:
    """A clip that is not there is not played as nothing."""
    world = World()
    async with world.running():
        world.happen(VOLUME)
        world.happen(failed())
        await world.played.until("error")


async def test_speech_begins_before_the_clip_is_read() -> None:
    """If the uplink opened meanwhile, the sound is dropped."""
    world = World()
    world.happen(failed())
    world.facts = world.facts.after(opened(), world.clock.now_s)
    async with world.running():
        for _ in range(5):
            await asyncio.to_thread(int)
        assert world.played == []


async def test_storm_is_bounded() -> None:
    """More sounds than can wait are dropped and counted."""
    world = World()
    for _ in range(QUEUE_LENGTH + 3):
        world.clock.advance(1.0)
        world.happen(failed())
    assert world.sounder.dropped == 3


async def test_repetition_is_limited() -> None:
    """The same failure twice at once is one tone."""
    world = World()
    world.happen(failed())
    world.happen(failed())
    async with world.running():
        await world.played.until("error")


async def test_quiet_hours_and_reload() -> None:
    """In quiet hours nothing is heard; new settings count at once."""
    world = World(Sounds(quiet_hours="00:00-23:59"))
    world.happen(failed())
    await world.sounder.configure(Settings())
    world.clock.advance(1)
    world.happen(failed(2))
    async with world.running():
        await world.played.until("error")
    await world.sounder.configure(Settings(sounds=Sounds(enabled=False)))
    world.clock.advance(1)
    world.happen(failed(3))
    assert world.sounder.dropped == 0


async def test_timer_rings_until_it_is_ended() -> None:
    """A timer rings round after round, also with sounds switched off; its end hushes."""
    clock = Stepping(10.0)
    world = World(Sounds(enabled=False), clock)
    world.happen(RINGING)
    async with world.running():
        await clock.over.wait()
        rounds = 1 + int(10.0 // (1.0 + RING_GAP_S))
        assert world.played == ["timer"] * rounds
        world.happen(RING_ENDED)
        assert world.hushed == 1
        assert world.sounder._wait_s() is None


async def test_alarm_waits_while_somebody_speaks() -> None:
    """An alarm is not sung into the microphone: it pauses while audio leaves."""
    clock = Stepping(5.0)
    world = World(clock=clock)
    world.happen(e.Ringing(kind="alarm", number=1))
    world.facts = world.facts.after(opened(), clock.now_s)
    async with world.running():
        await clock.over.wait()
        assert world.played == []
