"""An open connection through the SDK: our messages out, our values in, one kind of failure.

Imported lazily, together with the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.genai import types
from google.genai.errors import APIError
from google.genai.live import AsyncSession
from websockets.exceptions import ConnectionClosed

from agentd.live.connection import ConnectionFailed
from agentd.live.failures import Failure, Kind, Phase, safe_reason
from agentd.live.google.frames import Gauge, UnknownKind, UnusableFrame
from agentd.live.google.inbound import convert, sounds
from agentd.live.google.websocket import LiveWebSocket, unacknowledged
from agentd.live.messages import (
    ActivityEnd,
    ActivityStart,
    AudioStreamEnd,
    ClientContent,
    ClientMessage,
    ContextUpdate,
    RealtimeAudio,
    RealtimeText,
    ServerMessage,
    Silence,
    ToolResponse,
    ToolsUpdate,
    whole_json,
    whole_text,
)
from agentd.live.reply_audio import ReplyDecoder

BAD_FRAMES_IN_A_ROW = 100
EMPTY_FRAMES_AT_ONCE = 2_000  # frames that say nothing; a model sends a few in every turn
EMPTY_FRAMES_PER_S = 200.0
NOTHING = ServerMessage()
MIME_TYPE = "audio/pcm;rate=16000"
PROTOCOL_CODES = (1002, 1003, 1007, 1009)  # what websockets closes with when frames are wrong


class GenaiConnection:
    """An open connection; the SDK's session and its WebSocket."""

    def __init__(
        self,
        session: AsyncSession,
        websocket: LiveWebSocket,
        leave: Callable[[Any, Any, Any], Awaitable[Any]],
        declare: Callable[[], list[types.Tool]] = list,
    ) -> None:
        self._session = session
        self._websocket = websocket
        self._leave = leave
        self._declare = declare  # the functions that there are at this moment
        self._stream: AsyncIterator[types.LiveServerMessage] | None = None
        self._decoder = ReplyDecoder()
        self._ours = False  # we have ended it
        self._bad_frames = 0
        self._empty_frames = Gauge(at_once=EMPTY_FRAMES_AT_ONCE, per_s=EMPTY_FRAMES_PER_S)

    @property
    def local_address(self) -> str | None:
        """Return our IP address on it, if it has one."""
        name = self._websocket.transport.get_extra_info("sockname")
        return str(name[0]) if isinstance(name, tuple) else None

    @property
    def unsent_bytes(self) -> int:
        """Return what waits in asyncio, in TLS, and in the kernel."""
        transport = self._websocket.transport
        return transport.get_write_buffer_size() + unacknowledged(
            transport.get_extra_info("socket")
        )

    async def send(self, message: ClientMessage) -> None:
        """Send one message through the SDK."""
        try:
            if isinstance(message, ToolsUpdate):
                tools: list[Any] = self._declare() if message.offered else []
                await self._session.send_context_update(tools=tools)
            else:
                await _send(self._session, message)
        except (ConnectionClosed, OSError) as error:
            raise ConnectionFailed(self._failure()) from error

    async def receive(self) -> ServerMessage:
        """Return the next frame. `receive()` of the SDK ends with every turn; this does not."""
        while True:
            if self._stream is None:
                self._stream = self._session.receive()
            try:
                message = await self._heard(await anext(self._stream))
            except StopAsyncIteration:
                self._stream = None
                continue
            except UnknownKind as error:
                self._stream = None  # a generator that raised is finished
                self._count_empty()
                return ServerMessage(unknown=error.kind)
            except Exception as error:
                self._stream = None
                if _is_close(error):
                    raise ConnectionFailed(self._failure()) from error
                return self._bad_frame(error)
            if message == NOTHING:
                self._count_empty()
            self._bad_frames = 0
            return message

    async def _heard(self, message: types.LiveServerMessage) -> ServerMessage:
        """Convert a frame; what has to be resampled is done bit by bit, as it may be seconds."""
        decoder, pieces = self._decoder, []
        for mime, data in sounds(message):
            for piece in decoder.feed(mime, data):
                pieces.append(piece)
                if decoder.is_converting:
                    await asyncio.sleep(0)
        content = message.server_content
        ends = bool(content and (content.generation_complete or content.turn_complete))
        interrupted = bool(content and content.interrupted)
        if ends and not interrupted:
            pieces += decoder.rest()
        found = convert(message, audio=tuple(pieces), unplayable=decoder.take_refusal())
        if interrupted or found.turn_complete:
            decoder.new_turn()
        return found

    def _bad_frame(self, error: Exception) -> ServerMessage:
        self._bad_frames += 1
        if self._bad_frames > BAD_FRAMES_IN_A_ROW:
            raise self._given_up(f"{self._bad_frames} unusable frames in a row")
        return ServerMessage(problem=_problem(error))

    def _count_empty(self) -> None:
        """Count a frame that says nothing: a flood of them is work without end."""
        if self._empty_frames.is_over(asyncio.get_running_loop().time()):
            raise self._given_up(f"more than {EMPTY_FRAMES_PER_S:.0f} empty frames a second")

    def _given_up(self, reason: str) -> ConnectionFailed:
        self.abort()
        return ConnectionFailed(Failure(Phase.LIVE, Kind.PROTOCOL, reason=reason))

    async def close(self) -> None:
        """Close with 1000; bounded by the WebSocket's close timeout."""
        self._ours = True
        with contextlib.suppress(Exception):
            await self._leave(None, None, None)
        self._websocket.transport.abort()

    def abort(self) -> None:
        """Drop the transport; a pending receive ends at once."""
        self._ours = True
        self._websocket.transport.abort()

    def _failure(self) -> Failure:
        """Say why the connection ended, from what the WebSocket saw."""
        if self._websocket.excess:
            return Failure(Phase.LIVE, Kind.PROTOCOL, reason=self._websocket.excess)
        protocol = self._websocket.protocol
        received, sent = protocol.close_rcvd, protocol.close_sent
        if self._ours and (received is None or not protocol.close_rcvd_then_sent):
            return Failure(Phase.LIVE, Kind.LOCAL)
        if received is not None:
            return Failure(
                Phase.LIVE, Kind.CLOSED, int(received.code), safe_reason(received.reason)
            )
        if sent is not None and int(sent.code) in PROTOCOL_CODES:
            return Failure(Phase.LIVE, Kind.PROTOCOL, int(sent.code), safe_reason(sent.reason))
        cause = self._websocket.connection_exc  # what asyncio or the kernel said
        words = sent.reason if sent is not None else cause or "no close frame"
        return Failure(Phase.LIVE, Kind.DROPPED, 1006, safe_reason(words))


def _is_close(error: Exception) -> bool:
    """Tell the end of the connection from a frame that could not be used.

    Both may be `APIError`: of a close its details are the reason's text, of a frame like
    `{"code": 429}` they are the frame.
    """
    if isinstance(error, APIError):
        return not isinstance(error.details, dict | list)
    return isinstance(error, ConnectionClosed | OSError | EOFError)


def _problem(error: Exception) -> str:
    """Name what is wrong with a frame without repeating what was said in it."""
    if isinstance(error, UnusableFrame):
        return str(error)
    if isinstance(error, APIError):
        return safe_reason(f"error frame {error.code} {error.status or ''}")
    return f"frame of an unknown form ({type(error).__name__})"


async def _send(session: AsyncSession, message: ClientMessage) -> None:
    """Send a message; every text in it is whole, wherever it came from (RFC 8259, section 8.2)."""
    match message:
        case RealtimeAudio() | Silence():
            blob = types.Blob(data=message.pcm, mime_type=MIME_TYPE)
            await session.send_realtime_input(audio=blob)
        case ActivityStart():
            await session.send_realtime_input(activity_start=types.ActivityStart())
        case ActivityEnd():
            await session.send_realtime_input(activity_end=types.ActivityEnd())
        case AudioStreamEnd():
            await session.send_realtime_input(audio_stream_end=True)
        case RealtimeText(text):
            await session.send_realtime_input(text=whole_text(text))
        case ClientContent(turns, turn_complete):
            await session.send_client_content(
                turns=[
                    types.Content(role=turn.role, parts=[types.Part(text=whole_text(turn.text))])
                    for turn in turns
                ],
                turn_complete=turn_complete,
            )
        case ContextUpdate(text):
            content = types.Content(role="user", parts=[types.Part(text=whole_text(text))])
            await session.send_context_update(system_instruction=content)
        case ToolResponse(call_id, name, response, scheduling):
            # an id that the service did not give is not made up: Vertex AI goes by the name then
            answer = types.FunctionResponse(
                id=whole_text(call_id) or None,
                name=whole_text(name),
                response=whole_json(response),
            )
            if scheduling:
                answer.scheduling = types.FunctionResponseScheduling(scheduling)
            await session.send_tool_response(function_responses=[answer])
