"""Button and mute switch on pins.

gpiozero calls back from threads of its own; an edge hops to the loop with the time at which it
happened and everything else goes on there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agentd.clock import Clock
from agentd.config.settings import GpioPins
from agentd.device.gestures import ButtonAction, Gesture, Recogniser, decide
from agentd.device.gpio import attempt, open_factory
from agentd.device.state import Facts
from agentd.events import ButtonUsed, Emit
from agentd.waiting import wait_for_event

BOUNCE_S = 0.02


class Contact:
    """A contact to ground on one pin, debounced by gpiozero; edges arrive on the loop."""

    def __init__(
        self,
        name: str,
        pin: int,
        *,
        chip: int | None,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        on_edge: Callable[[bool, float], None],
        emit: Emit,
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._on_edge = on_edge
        self._name = name
        self._device = attempt(name, lambda: self._claim(pin, chip), emit)

    @property
    def available(self) -> bool:
        """Return whether the pin could be claimed."""
        return self._device is not None

    @property
    def closed_contact(self) -> bool | None:
        """Return whether the contact is closed now; None if that cannot be told."""
        device = self._device
        if device is None:
            return None
        return attempt(self._name, lambda: bool(device.is_pressed), lambda _event: None)

    def close(self) -> None:
        """Let go of the pin."""
        device, self._device = self._device, None
        if device is not None:
            attempt(self._name, device.close, lambda _event: None)

    def _claim(self, pin: int, chip: int | None) -> Any:
        factory = open_factory(chip)
        import gpiozero

        device = gpiozero.Button(pin, pull_up=True, bounce_time=BOUNCE_S, pin_factory=factory)
        device.when_pressed = lambda: self._hop(True)
        device.when_released = lambda: self._hop(False)
        return device

    def _hop(self, pressed: bool) -> None:
        """Run in a thread of gpiozero: take the time and leave."""
        try:
            self._loop.call_soon_threadsafe(self._arrived, pressed, self._clock.monotonic())
        except RuntimeError:  # the loop is closed: we are going down
            return

    def _arrived(self, pressed: bool, at_s: float) -> None:
        if self._device is not None:
            self._on_edge(pressed, at_s)


class Button:
    """The push button: edges in, actions out through `act`."""

    def __init__(
        self,
        pins: GpioPins,
        *,
        clock: Clock,
        facts: Callable[[], Facts],
        act: Callable[[ButtonAction], None],
        emit: Emit,
    ) -> None:
        self._pins = pins
        self._clock = clock
        self._facts = facts
        self._act = act
        self._emit = emit
        self._recogniser = Recogniser()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Watch the button until cancelled; without one return at once."""
        if self._pins.button is None:
            return
        contact = Contact(
            "button",
            self._pins.button,
            chip=self._pins.chip,
            clock=self._clock,
            loop=asyncio.get_running_loop(),
            on_edge=self.on_edge,
            emit=self._emit,
        )
        try:
            while contact.available:
                self._moved.clear()
                self._take(*self._recogniser.tick(self._clock.monotonic()))
                await wait_for_event(self._moved, self._clock, self._wait_s())
        finally:
            contact.close()

    def on_edge(self, pressed: bool, at_s: float) -> None:
        """Take one edge of the contact."""
        self._take(*self._recogniser.edge(pressed, at_s))
        self._moved.set()

    def _take(self, recogniser: Recogniser, gestures: tuple[Gesture, ...]) -> None:
        self._recogniser = recogniser
        for gesture in gestures:
            mode = self._pins.button_mode
            action = decide(gesture, self._facts(), self._clock.monotonic(), mode)
            if action is not None:
                self._emit(ButtonUsed(gesture=gesture.value, action=action.value))
                self._act(action)

    def _wait_s(self) -> float | None:
        deadline_s = self._recogniser.deadline_s
        return None if deadline_s is None else max(0.0, deadline_s - self._clock.monotonic())
