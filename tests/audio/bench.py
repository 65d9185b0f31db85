"""Microphone and speaker stages on ALSA PCMs of the sound rig, and what they reported."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

from agentd.audio import formats
from agentd.audio.capture import Microphone
from agentd.audio.playback import Player
from agentd.clock import SystemClock
from agentd.config.settings import Audio
from agentd.events import CaptureBack, Event, Frame, PlaybackBack, PlaybackMark
from rig.sound import SoundRig
from rig.waiting import running, until

Body = Callable[["Bench"], Coroutine[Any, Any, None]]


def tone(seconds: float, rate_hz: int, hz: float = 440.0, amplitude: float = 8_000.0) -> bytes:
    """Return a sine."""
    count = round(rate_hz * seconds)
    return formats.to_pcm(
        [round(amplitude * math.sin(2 * math.pi * hz * i / rate_hz)) for i in range(count)]
    )


class Bench:
    """A microphone and a speaker on the rig."""

    def __init__(self, rig: SoundRig, **audio: Any) -> None:
        self.rig = rig
        self.events: list[Event] = []
        self.times: dict[int, float] = {}
        self.frames: list[Frame] = []
        self.marks: list[PlaybackMark] = []
        clock = SystemClock()
        self.now = clock.monotonic
        settings = Audio(volume_percent=100, **audio)
        self.microphone = Microphone(
            settings, clock=clock, emit=self.emit, on_frame=self.frames.append
        )
        self.player = Player(settings, clock=clock, emit=self.emit, on_mark=self.marks.append)

    def emit(self, event: Event) -> None:
        """Keep an event and its time."""
        self.times[len(self.events)] = self.now()
        self.events.append(event)

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def last(self, kind: type[Event]) -> Any:
        return [event for event in self.events if isinstance(event, kind)][-1]

    def at(self, kind: type[Event]) -> float:
        """Return when the last event of a kind was told."""
        return max(at for i, at in self.times.items() if isinstance(self.events[i], kind))

    async def both_run(self) -> None:
        """Wait until both devices work."""
        await until(lambda: self.count(CaptureBack) and self.count(PlaybackBack))

    def loudest_dbfs(self, since: int = 0) -> float:
        """Return the level of the loudest frame."""
        return max((formats.level_dbfs(f.pcm) for f in self.frames[since:]), default=-120.0)


def run(rig: SoundRig, body: Body, **audio: Any) -> Bench:
    """Run a body beside both stages."""

    async def main() -> Bench:
        bench = Bench(rig, **audio)
        async with running(bench.microphone.run(), bench.player.run()):
            await body(bench)
        return bench

    return asyncio.run(main())
