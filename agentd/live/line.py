"""What goes out on the present connection, and the light around speech (pure).

Messages are numbered in the log where the service tells by number how far it has got (`replay`).
`UplinkOpened` goes out before the first sound of an utterance and `UplinkClosed` behind the last,
in line with the messages: sound leaves the device only while the light shows *listening*.
"""

from __future__ import annotations

from agentd.events import UplinkClosed, UplinkOpened
from agentd.live.commands import EmitInLine, Send
from agentd.live.messages import ClientMessage
from agentd.live.outputs import Outputs
from agentd.live.replay import Sent, SentLog


class Line:
    """The sending side of one connection after another."""

    def __init__(self, log: SentLog, out: Outputs) -> None:
        self._log = log
        self._out = out
        self._lit: int | None = None  # the utterance named by the last UplinkOpened
        self.connection: int | None = None
        self.indexed = False  # the log is kept for this connection

    def open(self, connection: int, *, indexed: bool) -> None:
        """Send on `connection` from now on.

        Args:
            indexed: messages are numbered on this connection.
        """
        self.connection = connection
        self.indexed = indexed

    def close(self) -> None:
        """Send no more: the connection is gone."""
        self.connection = None
        self.unlight()

    def send(self, message: ClientMessage, utterance: int | None = None) -> None:
        """Send a message; with the utterance that it is part of."""
        self._put(message)
        if self.indexed:
            self._log.record(message, utterance)

    def send_again(self, sent: Sent) -> None:
        """Send a message of the log once more."""
        self._put(sent.message)
        self._log.record_again(sent)

    def _put(self, message: ClientMessage) -> None:
        assert self.connection is not None
        self._out.add(Send(self.connection, message))

    def light(self, utterance: int, *, replay: bool) -> None:
        """Announce that sound goes out from here on, if it does not already."""
        if self._lit is None:
            self._lit = utterance
            self._out.add(EmitInLine(UplinkOpened(utterance=utterance, replay=replay)))

    def unlight(self) -> None:
        """Announce that no more sound goes out."""
        if self._lit is not None:
            self._out.add(EmitInLine(UplinkClosed(utterance=self._lit)))
            self._lit = None
