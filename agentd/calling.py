"""What a wake word sets in motion: who answers, the dial, and silence where something plays."""

from __future__ import annotations

from agentd.config.settings import Settings
from agentd.device.ringer import Ringer
from agentd.events import Event, WakeWord
from agentd.live.session import LiveSession
from agentd.sound import SoundStage
from agentd.stage import Stage

BY = "wake word"


class Calling(Stage):
    """Answers wake words; its part of the status says who may open the gate."""

    def __init__(
        self, settings: Settings, *, session: LiveSession, sound: SoundStage, ringer: Ringer
    ) -> None:
        self._settings = self._answering = settings
        self._session = session
        self._sound = sound
        self._ringer = ringer

    async def configure(self, settings: Settings) -> str:
        """Take other settings; until the next word whoever they name answers."""
        self._settings = self._answering = settings
        return ""

    def on_event(self, event: Event) -> None:
        """Answer a word: an alarm falls silent, a reply stops, the connection is dialled."""
        if not isinstance(event, WakeWord):
            return
        self._ringer.silence(BY)
        if event.stops:
            self._session.cancel_reply(BY)
            return
        settings = self._settings.answering_to(event.word)
        if settings.live != self._answering.live:
            self._answering = settings
            self._session.answer_as(settings)
        self._session.wake()

    def status(self) -> object:
        """Return the `attention` part of the status."""
        return self._sound.attention_status()
