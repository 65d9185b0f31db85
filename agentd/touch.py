"""The button as one stage: what a press does, in a table, and the pin that a reload replaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agentd.clock import Clock
from agentd.config.settings import Settings
from agentd.device.button import Button
from agentd.device.gestures import ButtonAction
from agentd.device.mute import Mute
from agentd.device.ringer import Ringer
from agentd.device.state import Facts
from agentd.events import Emit
from agentd.live.session import LiveSession
from agentd.sound import SoundStage
from agentd.stage import Slot, Stage

BY = "button"


class Touch(Stage):
    """The owner of the button."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        facts: Callable[[], Facts],
        actions: Mapping[ButtonAction, Callable[[], object]],
        emit: Emit,
    ) -> None:
        """Prepare; an action that is not in `actions` is heard of as the event alone."""
        self._settings = settings
        self._clock = clock
        self._facts = facts
        self._actions = actions
        self._emit = emit
        self._button = Slot(self._made(settings))

    async def run(self) -> None:
        """Watch the button until cancelled."""
        await self._button.run()

    async def configure(self, settings: Settings) -> str:
        """Take another pin, or use it otherwise."""
        before, self._settings = self._settings, settings
        if settings.gpio != before.gpio:
            await self._button.replace(self._made(settings))
        return ""

    def _made(self, settings: Settings) -> Button:
        return Button(
            settings.gpio, clock=self._clock, facts=self._facts, act=self._act, emit=self._emit
        )

    def _act(self, action: ButtonAction) -> None:
        act = self._actions.get(action)
        if act is not None:
            act()


def actions(
    session: LiveSession, sound: SoundStage, mute: Mute, ringer: Ringer
) -> dict[ButtonAction, Callable[[], object]]:
    """Return what each action of the button does; those that only make a sound are not here."""

    def talk_begins() -> None:
        session.wake()
        session.cancel_reply(BY)
        sound.hold()

    def talk() -> None:
        session.wake()
        sound.call()

    return {
        ButtonAction.STOP_REPLY: lambda: session.cancel_reply(BY),
        ButtonAction.MUTE: lambda: mute.ask(True, by=BY),
        ButtonAction.UNMUTE: lambda: mute.ask(False, by=BY),
        ButtonAction.SILENCE: lambda: ringer.silence(BY),
        ButtonAction.CONFIRM: session.confirm,
        ButtonAction.TALK: talk,
        ButtonAction.TALK_BEGIN: talk_begins,
        ButtonAction.TALK_END: sound.release,
    }
