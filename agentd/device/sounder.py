"""Plays the sounds that the chooser chooses, and the alarm for as long as it rings.

Called with every event after the presenter, so that the state it reads is the state that shows.
Reading and converting a clip happens in a thread; what is played is handed to `play` as int16 mono
24 kHz together with nothing else: the composition shuts the voice gate for as long as it lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, tzinfo

from agentd.clock import Clock
from agentd.config.settings import Settings, Sounds
from agentd.device.earcons import ALARM, TIMER, ClipLibrary, Limiter, Moment, allowed, choose
from agentd.device.state import Derived, Facts, derive
from agentd.events import Event, RingEnded, Ringing
from agentd.stage import Stage
from agentd.waiting import wait_for_event

RING_GAP_S = 1.2  # silence between two rounds of an alarm
QUEUE_LENGTH = 4  # sounds that wait for their clip; a fifth is dropped: it would come too late


class Sounder(Stage):
    """The owner of the earcons. All methods belong to the loop's thread; `run` is a task."""

    def __init__(
        self,
        settings: Sounds,
        *,
        clock: Clock,
        facts: Callable[[], Facts],
        play: Callable[[bytes], None],
        hush: Callable[[], None],
        clips: Callable[[Sounds], ClipLibrary] = ClipLibrary,
        timezone: tzinfo | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._facts = facts
        self._play = play
        self._hush = hush
        self._open_clips = clips
        self._clips = clips(settings)
        self._timezone = timezone
        self._before = self._derived()
        self._limiter = Limiter()
        self._waiting: list[tuple[str, ...]] = []
        self._ring: str | None = None
        self._ring_again_s = 0.0
        self._wake = asyncio.Event()
        self.dropped = 0

    def on_event(self, event: Event) -> None:
        """Choose the sounds of this moment; returns at once."""
        after, facts = self._derived(), self._facts()
        names = choose(Moment(event, self._before, after, facts))
        self._before = after
        if isinstance(event, Ringing):
            self._ring = ALARM if event.kind == "alarm" else TIMER
            self._ring_again_s = self._clock.monotonic()
            self._wake.set()
        elif isinstance(event, RingEnded):
            self._ring = None
            self._hush()
        self._enqueue(names)

    async def configure(self, settings: Settings) -> str:
        """Take other sounds, or the same ones at other hours."""
        if settings.sounds != self._settings:
            self._settings = settings.sounds
            self._clips = self._open_clips(settings.sounds)
        return ""

    async def run(self) -> None:
        """Play what was chosen until cancelled."""
        while True:
            self._wake.clear()
            while self._waiting:
                await self._sound(self._waiting.pop(0))
            await self._ring_if_due()
            await wait_for_event(self._wake, self._clock, self._wait_s())

    def _enqueue(self, names: tuple[str, ...]) -> None:
        local = datetime.fromtimestamp(self._clock.wall().unix_s, self._timezone)
        names = tuple(name for name in names if allowed(self._settings, name, local))
        self._limiter, names = self._limiter.admit(names, self._clock.monotonic())
        if not names:
            return
        if len(self._waiting) >= QUEUE_LENGTH:
            self.dropped += 1
            return
        self._waiting.append(names)
        self._wake.set()

    async def _sound(self, names: tuple[str, ...]) -> float:
        clips = [await asyncio.to_thread(self._clips.clip, name) for name in names]
        pcm = b"".join(clips)
        # Reading took its time: speech may have begun meanwhile.
        if pcm and not self._facts().uplink:
            self._play(pcm)
        return len(pcm) / 2 / 24_000

    async def _ring_if_due(self) -> None:
        ring = self._ring
        if ring is None or self._clock.monotonic() < self._ring_again_s:
            return
        length_s = await self._sound((ring,))
        self._ring_again_s = self._clock.monotonic() + length_s + RING_GAP_S

    def _wait_s(self) -> float | None:
        if self._waiting:
            return 0.0
        if self._ring is None:
            return None
        return max(0.0, self._ring_again_s - self._clock.monotonic())

    def _derived(self) -> Derived:
        return derive(self._facts(), self._clock.monotonic())
