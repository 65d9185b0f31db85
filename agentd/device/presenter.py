"""The first to see every event: keeps the facts, derives the state, drives the lights.

Setting a light is synchronous: when `show` returns, the light shows what the event made of the
state. The session emits `UplinkOpened` before it sends the first byte, and by that order the light
is on before audio leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agentd.clock import Clock
from agentd.config.settings import Settings
from agentd.device.leds import Lights, NoLights
from agentd.device.patterns import Look, look, next_change_s
from agentd.device.state import Derived, DeviceState, Facts, derive
from agentd.events import Emit, Event, SpeechLost, StateChanged, TurnFailed, VolumeChanged
from agentd.stage import Stage
from agentd.waiting import wait_for_event


@dataclass(frozen=True, slots=True)
class Presentation:
    """What observers get when the state or its cause moved, or an event touched the facts."""

    before: Derived
    after: Derived
    facts: Facts
    event: Event | None  # None: a deadline passed
    now_s: float


Observer = Callable[[Presentation], None]


class Presenter(Stage):
    """Owner of the facts and the lights. All methods belong to the loop's thread.

    The event bus calls `show` with every event before anybody else hears of it. Without lights
    until `open`.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        settings: Settings,
        lights: Callable[[Settings], Lights],
        emit: Emit,
    ) -> None:
        """Prepare; `lights` opens those of some settings."""
        self._clock = clock
        self._settings = settings
        self._open_lights = lights
        self._lights: Lights = NoLights()
        self._emit = emit
        self._observers: list[Observer] = []
        self._facts = Facts()
        self._derived = derive(self._facts, clock.monotonic())
        self._since_s = clock.monotonic()
        self._shown: Look | None = None
        self._moved = asyncio.Event()
        self._paint(clock.monotonic())

    @property
    def facts(self) -> Facts:
        """Return what is known."""
        return self._facts

    @property
    def derived(self) -> Derived:
        """Return the state as it is shown."""
        return self._derived

    @property
    def state(self) -> DeviceState:
        """Return the state as it is shown."""
        return self._derived.state

    @property
    def since_s(self) -> float:
        """Return the monotonic time at which the state began."""
        return self._since_s

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every `Presentation` from now on."""
        self._observers.append(observer)

    def open(self) -> None:
        """Open the lights of the settings; those of before let go of their pins first."""
        self._lights.close()
        self._lights = self._open_lights(self._settings)
        self._shown = None
        self._paint(self._clock.monotonic())
        self._moved.set()

    async def configure(self, settings: Settings) -> str:
        """Take other lights, or other brightness."""
        before, self._settings = self._settings, settings
        if settings.gpio != before.gpio:
            self.open()
        return ""

    def show(self, event: Event) -> None:
        """Fold `event` in; the lights are right when this returns."""
        now = self._clock.monotonic()
        facts = self._facts.after(event, now)
        changed = facts != self._facts
        self._facts = facts
        if changed:
            self._refresh(now, event)

    def refresh(self) -> None:
        """Look at the clock: a deadline may have passed, a pattern may have moved."""
        self._refresh(self._clock.monotonic(), None)

    async def run(self) -> None:
        """Keep time for the patterns and deadlines until cancelled, then turn the lights off."""
        try:
            while True:
                self._moved.clear()
                self.refresh()
                await wait_for_event(self._moved, self._clock, self._wait_s())
        finally:
            self.close()

    def close(self) -> None:
        """Turn the lights off."""
        self._lights.close()

    def _refresh(self, now: float, event: Event | None) -> None:
        before, after = self._derived, derive(self._facts, now)
        self._derived = after
        moved = after.state is not before.state
        if moved or self._restarts(event):
            self._since_s = now
        self._paint(now)
        if event is not None or moved:
            self._moved.set()
        if moved:
            self._emit(StateChanged(before=before.state.value, after=after.state.value))
        if event is not None or moved or after.cause != before.cause:
            for observer in self._observers:
                observer(Presentation(before, after, self._facts, event, now))

    def _restarts(self, event: Event | None) -> bool:
        """Return whether `event` begins the pattern anew: volume turned further, failed again."""
        own = DeviceState.VOLUME if isinstance(event, VolumeChanged) else None
        if isinstance(event, (TurnFailed, SpeechLost)):
            own = DeviceState.FAILED
        return own is self._derived.state

    def _paint(self, now: float) -> None:
        shown = look(
            self._derived.state,
            now - self._since_s,
            self._lights.kind,
            muted=self._facts.muted,
            volume_percent=self._facts.volume_percent,
            brightness=self._settings.gpio.brightness_percent / 100,
        )
        if shown != self._shown:
            self._shown = shown
            self._lights.show(shown)

    def _wait_s(self) -> float | None:
        now = self._clock.monotonic()
        until = self._derived.until
        moves_s = next_change_s(self._derived.state, now - self._since_s, self._lights.kind)
        waits = [None if until is None else until - now, moves_s]
        return min((max(0.0, wait) for wait in waits if wait is not None), default=None)
