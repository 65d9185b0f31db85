"""The mute switch as one stage: it decides at boot, when it moves, and when a reload brings it."""

from __future__ import annotations

import asyncio

from agentd.clock import Clock
from agentd.config.settings import Settings
from agentd.device.button import Contact
from agentd.device.mute import Mute
from agentd.events import Emit
from agentd.stage import Stage


class MuteSwitch(Stage):
    """The owner of the switch's pin; the state itself is `Mute`'s."""

    def __init__(self, settings: Settings, *, mute: Mute, clock: Clock, emit: Emit) -> None:
        self._settings = settings
        self._mute = mute
        self._clock = clock
        self._emit = emit
        self._contact: Contact | None = None

    def begin(self) -> None:
        """Restore the mute: on the loop, before capture opens for the first time."""
        self._contact = self._watched()
        self._mute.start(self._closed)

    async def configure(self, settings: Settings) -> str:
        """Take another switch, or none."""
        old, new = self._settings.gpio, settings.gpio
        self._settings = settings
        if (old.mute_switch, old.chip) != (new.mute_switch, new.chip):
            self.close()
            self._contact = self._watched()
            self._mute.fit(self._closed)
        return ""

    def close(self) -> None:
        """Let go of the pin."""
        if self._contact is not None:
            self._contact.close()
            self._contact = None

    @property
    def _closed(self) -> bool | None:
        return self._contact.closed_contact if self._contact is not None else None

    def _watched(self) -> Contact | None:
        pins = self._settings.gpio
        if pins.mute_switch is None:
            return None
        return Contact(
            "mute_switch",
            pins.mute_switch,
            chip=pins.chip,
            clock=self._clock,
            loop=asyncio.get_running_loop(),
            on_edge=self._mute.on_switch,
            emit=self._emit,
        )
