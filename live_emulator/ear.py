"""The user's utterance on one connection: opened, filled, handed over."""

from __future__ import annotations

from collections.abc import Callable

from live_emulator.effects import Utterance
from live_emulator.port import Port
from live_emulator.replies import UserTurn
from live_emulator.sessions import OpenUtterance, Session
from live_emulator.setup import Setup
from live_emulator.wire import duration


class Ear:
    """Hears one connection. The open utterance is the session's: a handle may contain it."""

    def __init__(
        self,
        connection: int,
        *,
        setup: Setup,
        session: Session,
        port: Port,
        interrupt: Callable[[float], None],
        ask: Callable[[UserTurn, float], None],
        interim: Callable[[OpenUtterance], None],
    ) -> None:
        self._connection = connection
        self._setup = setup
        self._session = session
        self._port = port
        self._interrupt = interrupt
        self._ask = ask
        self._interim = interim
        self._heard_s = 0.0
        self._restored = session.partial is not None
        self._stray = False

    @property
    def listening(self) -> bool:
        """Return whether an utterance is open."""
        return self._session.partial is not None

    def start(self, now: float) -> None:
        """Open an utterance; by default it interrupts the answer under way."""
        if self._session.partial is not None:
            if not self._restored:
                self._port.note("ignored", why="activityStart inside an activity")
                return
            self._port.note("partial_discarded", seconds=self._session.partial.seconds)
        self._restored = False
        self._session.partial = OpenUtterance(self._session.user_turns + 1, now)
        self._echo("START")
        self._port.moment("activityStart", now)
        if not self._port.closed and self._setup.activity.interrupts:
            self._interrupt(now)

    def audio(self, pcm: bytes, rate_hz: int, now: float) -> None:
        """Add audio to the open utterance; outside of one it is dropped and counted."""
        utterance = self._session.partial
        if utterance is None:
            if not self._stray:
                self._port.note("ignored", why="audio outside an activity")
            self._stray = True
            return
        self._restored = self._stray = False
        if not utterance.pcm:
            utterance.rate_hz = rate_hz
            self._port.moment("audio", now)
        if not self._port.closed:
            utterance.pcm += pcm
            self._heard_s += len(pcm) / (2 * rate_hz)
            self._interim(utterance)
            self._port.position("audio", utterance.seconds, now)

    def end(self, now: float, *, explicit: bool = True) -> None:
        """Close the utterance and answer it."""
        utterance = self._session.partial
        if utterance is None:
            self._port.note("ignored", why="activityEnd outside an activity")
            return
        self._hand_over(utterance, now, complete=True, explicit=explicit)
        self._session.partial = None
        self._restored = False
        self._echo("END")
        self._port.moment("activityEnd", now)
        if not self._port.closed:
            turn = UserTurn(0, bytes(utterance.pcm), utterance.rate_hz, utterance.text)
            self._ask(turn, now)

    def _echo(self, edge: str) -> None:
        """Tell the edge of an activity, on models that do so unasked (published frames)."""
        if self._setup.model.activity_echo:
            offset = duration(self._heard_s)
            activity = {"type": f"ACTIVITY_{edge}", "audioOffset": offset}
            self._port.emit({"serverContent": {}, "voiceActivity": activity})

    def abandon(self, now: float) -> None:
        """Put an utterance cut short by the connection's end on record."""
        if self._session.partial is not None:
            explicit = not self._setup.activity.automatic
            self._hand_over(self._session.partial, now, complete=False, explicit=explicit)

    def _hand_over(
        self, utterance: OpenUtterance, now: float, *, complete: bool, explicit: bool
    ) -> None:
        self._port.heard(
            Utterance(
                self._session.id,
                self._connection,
                utterance.number,
                bytes(utterance.pcm),
                utterance.rate_hz,
                complete,
                explicit,
                utterance.started_s,
                now,
                utterance.text,
            )
        )
