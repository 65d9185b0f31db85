"""The port's front: a WebSocket handshake goes on as one, any other HTTP request is answered.

The websockets library reads GET requests without a body and cuts everything else off.  Here the
bytes wait until the head is complete; what is no handshake is read by h11 and answered with JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from websockets.asyncio.server import ServerConnection

from live_emulator.rest import BODY_LIMIT_BYTES, Reply, Request, error_body

HEAD_LIMIT_BYTES = 64 * 1024
_LINE = re.compile(rb"^[A-Z]+ \S+ HTTP/1\.[01]\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_UPGRADE = re.compile(rb"^upgrade[ \t]*:[^\n]*websocket", re.IGNORECASE | re.MULTILINE)
_BODY = re.compile(
    rb"^(?:transfer-encoding[ \t]*:|content-length[ \t]*:[ \t]*0*[1-9])",
    re.IGNORECASE | re.MULTILINE,
)


def is_handshake(head: bytes) -> bool:
    """Return whether a request's head asks for a WebSocket, as websockets can read it."""
    asks = head.startswith(b"GET ") and _UPGRADE.search(head) is not None
    return asks and _BODY.search(head) is None


def undecided(received: bytes) -> bool:
    """Return whether more bytes are needed to know what a request is."""
    if len(received) >= HEAD_LIMIT_BYTES or _HEAD_END.search(received):
        return False
    return b"\n" not in received or _LINE.match(received) is not None


class FrontConnection(ServerConnection):
    """A connection to the port that may turn out to be plain HTTP."""

    answer: ClassVar[Callable[[Request], Reply]]
    """Answers a request; set by :func:`front`, as ``note`` is."""
    note: ClassVar[Callable[[Request, Reply], None]]
    """Puts a request and its reply on record."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._received: bytes | None = b""
        self._http: h11.Connection | None = None
        self._head: h11.Request | None = None
        self._body = b""

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
        if self._http is not None:
            self._feed(data)
        elif self._received is None:
            super().data_received(data)
        else:
            self._received += data
            if not undecided(self._received):
                self._decide(self._received)

    def eof_received(self) -> None:
        """Take the end of the stream; what is incomplete then was no request."""
        if self._received:
            self._decide(self._received)
        if self._http is None:
            super().eof_received()
        else:
            self._feed(b"")

    def _decide(self, received: bytes) -> None:
        self._received = None
        if is_handshake(received):
            super().data_received(received)
        else:
            self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT_BYTES)
            self._feed(received)

    def _feed(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        assert self._http is not None
        try:
            self._http.receive_data(data)
            request = self._read(self._http)
        except h11.RemoteProtocolError as exc:
            message = f"Your client has issued a malformed or illegal request: {exc}"
            status = exc.error_status_hint
            self._reply(self._asked(), Reply(status, error_body(status, message)))
            return
        if request is not None:
            self._reply(request, type(self).answer(request))
        elif len(self._body) > BODY_LIMIT_BYTES:
            too_large = error_body(413, "The request is too large.")
            self._reply(self._asked(), Reply(413, too_large))

    def _read(self, http: h11.Connection) -> Request | None:
        """Return the request once it is complete."""
        while len(self._body) <= BODY_LIMIT_BYTES:
            event = http.next_event()
            if isinstance(event, h11.Request):
                self._head = event
                if http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self.transport.write(http.send(go_on) or b"")
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return self._asked()
            else:
                break
        return None

    def _asked(self) -> Request:
        """Return the request as far as it is known."""
        if self._head is None:
            return Request("", "", {})
        headers = {name.decode(): value.decode("latin-1") for name, value in self._head.headers}
        target = self._head.target.decode("latin-1")
        return Request(self._head.method.decode(), target, headers, self._body)

    def _reply(self, request: Request, reply: Reply) -> None:
        """Write the reply, then close: one request per connection."""
        assert self._http is not None
        type(self).note(request, reply)
        body = json.dumps(reply.body, ensure_ascii=False, indent=2).encode() + b"\n"
        headers = [
            ("Content-Type", "application/json; charset=UTF-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        response = h11.Response(
            status_code=reply.status, reason=HTTPStatus(reply.status).phrase, headers=headers
        )
        content = [] if request.method == "HEAD" else [body]
        events = [response, *(h11.Data(data=piece) for piece in content), h11.EndOfMessage()]
        self.transport.write(b"".join(self._http.send(event) or b"" for event in events))
        self.transport.close()


def front(
    answer: Callable[[Request], Reply], note: Callable[[Request, Reply], None]
) -> type[ServerConnection]:
    """Return a connection class whose plain requests go to ``answer``, with a word to ``note``."""
    made = {"answer": staticmethod(answer), "note": staticmethod(note)}
    return type("Front", (FrontConnection,), made)
