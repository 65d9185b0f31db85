"""One way for everything that happens: the light, then the cause, then its effects.

    emit(event) ──► light, at once ──► queue ──► journal ──► stages ──► observers

Whoever emits returns to a light that tells the truth: `UplinkOpened` is emitted before the first
byte is sent, and by that order the light is on before audio leaves. Everybody else is called from
the queue, one event after the other. What an observer emits meanwhile waits its turn, so that the
journal shows a cause before its effects and every observer sees the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from agentd.events import Emit, Event


class EventBus:
    """Where events are emitted. All methods belong to the loop's thread."""

    def __init__(self, light: Emit = lambda _event: None) -> None:
        """Prepare; `light` is called with every event before `emit` returns.

        It may emit as well: the change of state that an event has brought.
        """
        self._light = light
        self._observers: list[Emit] = []
        self._waiting: deque[Event] = deque()  # unbounded is safe: emptied before emit returns
        self._held = 0

    def subscribe(self, observer: Emit) -> None:
        """Call `observer` with every event from now on, after those that subscribed before it."""
        self._observers.append(observer)

    def emit(self, event: Event) -> None:
        """Have `event` shown before this returns, and told to the others in its turn."""
        self._hold(event, lambda: None)

    def announce(self, event: Event, act: Callable[[], None]) -> None:
        """Put `event` before all that `act` emits, and show its light only when `act` is over.

        For a light that says what has been done: muted, once the microphone is closed.
        """
        self._hold(event, act)

    def _hold(self, event: Event, act: Callable[[], None]) -> None:
        self._waiting.append(event)
        self._held += 1
        try:
            act()
            self._light(event)
        finally:
            self._held -= 1
        if not self._held:
            self._pass_on()

    def _pass_on(self) -> None:
        self._held += 1
        try:
            while self._waiting:
                event = self._waiting.popleft()
                for observer in self._observers:
                    observer(event)
        finally:
            self._held -= 1
