"""Mute: closes the capture device, survives restarts, and obeys the switch before anything else.

What is written down is who muted: a device muted by its switch comes up unmuted once the switch is
opened, one muted by hand or voice stays muted until a hand unmutes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from agentd.eventbus import EventBus
from agentd.events import Muted, Unmuted

DOCUMENT = "mute"
SWITCH = "switch"

# Who may open the microphone: someone at the device, or its owner on the local socket. The model
# may close it and never open it.
MAY_UNMUTE = frozenset({SWITCH, "button", "control"})


class MuteStore(Protocol):
    """What the state directory offers (`agentd.state.store.StateStore`)."""

    def read(self, name: str) -> Mapping[str, object] | None:
        """Return the document, or None."""

    def write(self, name: str, document: dict[str, object]) -> None:
        """Keep the document."""


@dataclass(frozen=True, slots=True)
class MuteState:
    """Who muted (empty: nobody) and where the switch stands (None: there is none)."""

    by: str = ""
    switch_closed: bool | None = None

    @property
    def muted(self) -> bool:
        """Return whether the microphone is closed."""
        return bool(self.by)

    def asked(self, mute: bool, by: str) -> tuple[MuteState, str]:
        """Return the next state and, if it was refused, why (a sentence)."""
        if mute:
            return (self if self.muted else replace(self, by=by)), ""
        if not self.muted:
            return self, ""
        if self.switch_closed:
            return self, "The mute switch on the device is on. Turn it off first."
        if by not in MAY_UNMUTE:
            return self, "Only the button, the switch or `agentd unmute` can unmute."
        return replace(self, by=""), ""

    def switched(self, closed: bool) -> MuteState:
        """Return the state after the switch moved: it decides, both ways."""
        return MuteState(SWITCH if closed else "", closed)


def at_start(saved_by: str, switch_closed: bool | None) -> MuteState:
    """Return the state at boot: the switch wins, then what was saved."""
    if switch_closed:
        return MuteState(SWITCH, switch_closed)
    return MuteState("" if saved_by == SWITCH else saved_by, switch_closed)


class Mute:
    """The owner of the mute state. `apply` closes (True) or opens (False) capture."""

    def __init__(self, *, store: MuteStore, bus: EventBus, apply: Callable[[bool], None]) -> None:
        self._store = store
        self._bus = bus
        self._apply = apply
        self._state = MuteState()

    @property
    def muted(self) -> bool:
        """Return whether the microphone is closed."""
        return self._state.muted

    def start(self, switch_closed: bool | None) -> None:
        """Restore; to be called before capture opens for the first time."""
        document = self._store.read(DOCUMENT) or {}
        by = document.get("by")
        self._become(at_start(by if isinstance(by, str) else "", switch_closed))

    def fit(self, switch_closed: bool | None) -> None:
        """Take another switch, or none (a reload): it counts as the one found at boot does."""
        self._become(at_start(self._state.by, switch_closed), SWITCH)

    def ask(self, mute: bool, *, by: str) -> str:
        """Mute or unmute; return an empty text, or a sentence that says why not."""
        state, refusal = self._state.asked(mute, by)
        self._become(state, by)
        return refusal

    def on_switch(self, closed: bool, _at_s: float = 0.0) -> None:
        """Take the switch's word."""
        self._become(self._state.switched(closed), SWITCH)

    def _become(self, state: MuteState, by: str = "") -> None:
        before, self._state = self._state, state
        if state.by != before.by:
            self._store.write(DOCUMENT, {"by": state.by})
        if state.muted == before.muted:
            return
        # The light follows the microphone: closed before it says muted, open after it stops to.
        if state.muted:
            self._bus.announce(Muted(by=state.by), lambda: self._apply(True))
        else:
            self._bus.emit(Unmuted(by=by))
            self._apply(False)
