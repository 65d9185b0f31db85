"""The Live session on an asyncio loop: carries out what `Conversation` decides.

One task per connection receives and one sends; one more keeps the timers. All of them live in the
task group of `run()`. Inputs are handled at once and in order on the loop's thread; nothing here
waits for a consumer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from agentd.clock import Clock, WallTime
from agentd.config.settings import Settings
from agentd.errors import StateError
from agentd.events import Downlink, Emit, Event, LinkChanged, PlaybackMark, Speech
from agentd.live import commands as c
from agentd.live.connection import CLOSED_BY_US, Connection, ConnectionFailed, Connector
from agentd.live.conversation import Conversation
from agentd.live.failures import Failure, Kind, Phase, safe_reason
from agentd.live.google.connector import endpoint
from agentd.live.memory import SESSION, TRANSCRIPT
from agentd.live.messages import MESSAGE_BYTES, ClientMessage, RealtimeAudio, size_bytes
from agentd.live.replay import ring_bytes
from agentd.live.status import SessionStatus
from agentd.live.store import ConversationStore
from agentd.live.toolbox import Toolbox
from agentd.net.path import PathChange
from agentd.stage import Stage
from agentd.waiting import wait_for_event

logger = logging.getLogger(__name__)

LINE_RINGS = 3  # more than so many full rings waiting to be sent: the socket takes nothing
LINE_OTHERS = 1024  # likewise of what is no audio: answers to calls, texts, signals, events
FRAMES_PER_TURN = 8  # handled before the loop has its turn, if they come without a pause
BUSY_S = 0.005  # or so much time, whichever is over first
WALL_AGE_S = 1.0
ON_START = "kept until the conversation has started"
EARLY_INPUTS = 4096  # heard before run(), about a minute of speech; the oldest go


class LiveSession(Stage):
    """One conversation with the service. All methods belong to the loop's thread.

    `run()` belongs in the daemon's task group and returns after `stop()`. What is heard before
    `run()` is kept.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        connector: Connector,
        store: ConversationStore,
        emit: Emit,
        deliver: Callable[[Downlink], None],
        toolbox: Toolbox,
        random: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._connector = connector
        self._store = store
        self._emit = emit
        self._deliver = deliver
        self._toolbox = toolbox
        self._conversation = Conversation(
            settings,
            random=random,
            endpoint=endpoint,
            non_blocking=toolbox.is_slow,
            rules=toolbox.rules(),
        )
        self._inputs: deque[c.Input] = deque(maxlen=EARLY_INPUTS)
        self._handling = False
        self._outcome = ""
        self._wall = WallTime(0.0, synchronised=False)
        self._wall_read_s = -WALL_AGE_S
        self._timer_moved = asyncio.Event()
        self._sleeping_until_s = 0.0
        self._tasks: asyncio.TaskGroup | None = None
        self._wire: _Wire | None = None
        self._tools: dict[int, asyncio.Task[None]] = {}
        self._finished = asyncio.Event()
        self._rules: dict[type, Callable[[Any], None]] = {
            c.Dial: self._dial,
            c.Send: self._send,
            c.PurgeAudio: self._purge_audio,
            c.Close: self._close,
            c.Deliver: lambda command: self._deliver(command.value),
            c.Emit: lambda command: self._emit(command.event),
            c.EmitInLine: self._emit_in_line,
            c.StoreDocument: self._write,
            c.PutAside: lambda command: self._store.put_aside(command.name),
            c.CallTool: self._call_tool,
            c.CancelTool: self._cancel_tool,
            c.Outcome: self._note_outcome,
            c.Finished: lambda _command: self._finished.set(),
        }

    # ── life ──

    async def run(self) -> None:
        """Hold the conversation until `stop()`."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            keeper = tasks.create_task(self._keep_time(), name="live timers")
            early, self._inputs = (
                self._inputs,
                deque(),
            )  # unbounded is safe: each is handled at once
            self._feed(c.Start(self._store.read(SESSION), self._store.read(TRANSCRIPT)))
            for given in early:
                self._feed(given)
            try:
                await self._finished.wait()
            finally:
                if self._wire is not None:
                    self._wire.abort()
                for task in self._tools.values():
                    task.cancel()
                keeper.cancel()
        self._tasks = None
        await self._store.flush()

    async def stop(self, timeout_s: float = 3.0) -> None:
        """End gracefully: close, store the handle. Returns within `timeout_s`."""
        if self._tasks is None:
            self._finished.set()
            return
        self._feed(c.Stop())
        if not await wait_for_event(self._finished, self._clock, timeout_s):
            self._finished.set()  # run() aborts what is left

    # ── from the other stages; none of these ever waits ──

    def hear(self, speech: Speech) -> None:
        """Take speech from the gate."""
        self._feed(speech)

    def mark(self, mark: PlaybackMark) -> None:
        """Take word of how far a reply has been heard."""
        self._feed(mark)

    def link_changed(self, change: LinkChanged) -> None:
        """Take word of a change of the network path, debounced."""
        self._feed(change)

    def path_changed(self, change: PathChange) -> None:
        """Take word of a change of the network path; a connection that it leaves alone is kept."""
        after, connection = change.after, self._wire.connection if self._wire is not None else None
        first_report = change.before is None
        if (
            connection is not None
            and not first_report
            and not change.breaks(connection.local_address)
        ):
            return
        self.link_changed(LinkChanged(interface=after.interface, online=after.online))

    def cancel_reply(self, by: str) -> None:
        """Stop the reply that is being spoken or awaited."""
        self._feed(c.CancelReply(by))

    def confirm(self) -> None:
        """Take the button for a yes to what the model was told to ask."""
        self._feed(c.Confirm())

    def wake(self) -> None:
        """Connect if that was put off: somebody is about to speak."""
        self._feed(c.Want())

    def mute(self) -> None:
        """Let nothing leave the device any more; what waits is dropped and announced."""
        self._feed(c.SetMute(muted=True))

    def unmute(self) -> None:
        """Let speech leave the device again."""
        self._feed(c.SetMute(muted=False))

    async def say(self, text: str) -> str:
        """Send a typed question; return what happened to it, in a few words."""
        return self._request(c.Say(text))

    async def instruct(self, text: str) -> str:
        """Change the system instruction; return how: now, context_update or on_resume."""
        return self._request(c.Instruct(text))

    async def tools_changed(self) -> str:
        """Declare the toolbox anew; return how: context_update, on_resume or off."""
        return self._request(c.ToolsChanged())

    async def add_context(self, text: str) -> str:
        """Tell the model something without asking for an answer; return what happened."""
        return self._request(c.AddContext(text))

    async def forget(self) -> str:
        """Delete handle and transcript, begin afresh; return what was deleted.

        Raises:
            StateError: it is forgotten in memory, and something is still on the disk; names it.
        """
        # Of the function that asks for it: its answer belongs to the conversation after.
        task = asyncio.current_task()
        asked_by = next((key for key, tool in self._tools.items() if tool is task), None)
        outcome = self._request(c.Forget(asked_by))
        failed = await self._store.flush()
        left = [failed[name] for name in (SESSION, TRANSCRIPT) if name in failed]
        if left:
            raise StateError(
                f"not deleted: {'; '.join(left)}. It would be back after a restart: make the"
                " directory writable (is the card read-only?), then forget again"
            )
        return outcome

    async def configure(self, settings: Settings) -> str:
        """Take new settings; return how: now, context_update, on_resume or fresh."""
        return self._request(c.Reload(settings))

    def answer_as(self, settings: Settings) -> None:
        """Take settings that differ in who answers; words said from here on are for them."""
        self._feed(c.Reload(settings))

    def status(self) -> SessionStatus:
        """Return a snapshot for `agentd status`."""
        return self._conversation.status(self._clock.monotonic(), self._wall_time())

    # ── inputs and commands ──

    def _request(self, given: c.Input) -> str:
        self._outcome = ON_START if self._tasks is None else ""
        self._feed(given)
        return self._outcome

    def _note_outcome(self, command: c.Outcome) -> None:
        self._outcome = command.text

    def _feed(self, given: c.Input) -> None:
        """Handle an input now, or right after the one that is being handled."""
        if self._finished.is_set():
            return
        self._inputs.append(given)
        if self._handling or self._tasks is None:
            return
        self._handling = True
        try:
            while self._inputs:
                given = self._inputs.popleft()
                now = self._clock.monotonic()
                for command in self._conversation.handle(given, now, self._wall_time()):
                    self._rules[type(command)](command)
        finally:
            self._handling = False
        at_s = self._conversation.deadline()
        if at_s is not None and at_s < self._sleeping_until_s:
            self._timer_moved.set()

    def _wall_time(self) -> WallTime:
        now = self._clock.monotonic()
        if now - self._wall_read_s >= WALL_AGE_S:
            self._wall, self._wall_read_s = self._clock.wall(), now
        return self._wall

    def _write(self, command: c.StoreDocument) -> None:
        if command.document is None:
            self._store.delete(command.name)
            return
        stored = command.stored
        self._store.write(
            command.name,
            dict(command.document),
            on_stored=None if stored is None else lambda: self._emit(stored),
        )

    # ── connections ──

    def _dial(self, command: c.Dial) -> None:
        assert self._tasks is not None
        limit = LINE_RINGS * ring_bytes(command.plan.settings)
        wire = _Wire(command.connection, self._emit, limit)
        self._wire = wire
        wire.task = self._tasks.create_task(
            self._serve(wire, command.plan), name=f"live connection {command.connection}"
        )

    async def _serve(self, wire: _Wire, plan: c.SetupPlan) -> None:
        """Dial, converse, and report the end; exactly one `Ended`, whatever happens."""
        failure = CLOSED_BY_US
        sender: asyncio.Task[None] | None = None
        try:
            wire.connection = await self._connector.connect(plan)
            assert self._tasks is not None
            sender = self._tasks.create_task(wire.send_all(), name="live sender")
            self._feed(c.Connected(wire.number))
            await self._receive(wire.number, wire.connection)
        except ConnectionFailed as error:
            failure = error.failure
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not wire.aborted or (task is not None and task.cancelling() > wire.cancels):
                raise  # the daemon's task group is going down
        except Exception as error:  # the session outlives a fault of the connector
            logger.exception("the connector failed")
            failure = Failure(Phase.LIVE, Kind.PROTOCOL, reason=safe_reason(repr(error)))
        finally:
            if wire.connection is not None:
                wire.connection.abort()
            if sender is not None:
                sender.cancel()
            wire.over()
            self._wire = None
        if wire.ours:
            failure = CLOSED_BY_US
        elif wire.aborted:
            failure = Failure(Phase.LIVE, Kind.DROPPED, reason="the connection takes no data")
        self._feed(c.Ended(wire.number, failure))

    async def _receive(self, number: int, connection: Connection) -> None:
        """Handle frames until the connection ends, and never for long at a stretch.

        A frame that is there already comes without a pause, and there may be thousands. Microphone,
        mute and heartbeat have their turn in between.
        """
        clock = self._clock
        while True:
            turn_s = clock.monotonic()
            for _ in range(FRAMES_PER_TURN):
                self._feed(c.Received(number, await connection.receive()))
                if clock.monotonic() - turn_s >= BUSY_S:
                    break
            await asyncio.sleep(0)

    def _send(self, command: c.Send) -> None:
        if self._wire is not None and self._wire.number == command.connection:
            self._wire.put(command.message)

    def _emit_in_line(self, command: c.EmitInLine) -> None:
        if self._wire is not None:
            self._wire.put(command.event)
        else:
            self._emit(command.event)

    def _purge_audio(self, command: c.PurgeAudio) -> None:
        del command
        if self._wire is not None:
            self._wire.purge_audio()

    def _close(self, command: c.Close) -> None:
        wire = self._wire
        if wire is None or wire.number != command.connection:
            return
        if command.graceful:
            wire.close()
        else:
            wire.abort()

    # ── tools ──

    def _call_tool(self, command: c.CallTool) -> None:
        assert self._tasks is not None
        self._tools[command.key] = self._tasks.create_task(
            self._run_tool(command.key, command.name, command.args), name=f"tool {command.name}"
        )

    async def _run_tool(self, key: int, name: str, args: Mapping[str, Any]) -> None:
        try:
            outcome, response = await self._toolbox.call(name, args)
        finally:
            self._tools.pop(key, None)
        self._feed(c.ToolDone(key, outcome, response))

    def _cancel_tool(self, command: c.CancelTool) -> None:
        task = self._tools.pop(command.key, None)
        if task is not None:
            task.cancel()

    # ── timers ──

    async def _keep_time(self) -> None:
        """Have the conversation do what is due; sleep until the next, or until it is sooner."""
        while True:
            at_s = self._conversation.deadline()
            if at_s is not None and at_s <= self._clock.monotonic():
                self._feed(c.Tick(self._wire.unsent_bytes if self._wire is not None else 0))
            await asyncio.sleep(0)  # whatever is due, the other tasks have their turn
            self._timer_moved.clear()
            at_s = self._conversation.deadline()
            self._sleeping_until_s = float("inf") if at_s is None else at_s
            wait_s = self._sleeping_until_s - self._clock.monotonic()
            if wait_s == float("inf"):
                await self._timer_moved.wait()
            else:
                await wait_for_event(self._timer_moved, self._clock, max(0.0, wait_s))


class _Wire:
    """A connection or an attempt, and what waits to be sent on it.

    Messages and events share one line, so that what an event says about messages is true.
    """

    def __init__(self, number: int, emit: Callable[[Event], None], limit_bytes: int) -> None:
        self.number = number
        self._limit_bytes = limit_bytes
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.ours = False  # we have ended it
        self.aborted = False
        self.cancels = 0
        self._emit = emit
        self._line: deque[ClientMessage | Event] = deque()
        self._bytes = 0
        self._others = 0  # of what waits, what is no audio
        self._more = asyncio.Event()
        self._closing = False

    @property
    def unsent_bytes(self) -> int:
        """Return how much of what was queued has not arrived."""
        return self._bytes + (self.connection.unsent_bytes if self.connection is not None else 0)

    def put(self, item: ClientMessage | Event) -> None:
        """Queue a message or an event. Drop policy: overflow ends the connection."""
        if self.aborted and not isinstance(item, Event):
            return
        self._line.append(item)
        self._count(item, 1)
        self._more.set()
        if self._bytes > self._limit_bytes or self._others > LINE_OTHERS:
            self.drop()

    def _count(self, item: ClientMessage | Event, sign: int) -> None:
        self._bytes += sign * _size_bytes(item)
        self._others += sign * (not isinstance(item, RealtimeAudio))

    def purge_audio(self) -> None:
        """Take back audio that has not been sent."""
        self._line = deque(item for item in self._line if not isinstance(item, RealtimeAudio))
        self._bytes = sum(_size_bytes(item) for item in self._line)

    async def send_all(self) -> None:
        """Send what is queued until cancelled; close at the end of the line if told to."""
        assert self.connection is not None
        while True:
            while self._line:
                item = self._line.popleft()
                self._count(item, -1)
                if isinstance(item, Event):
                    self._emit(item)
                elif not await self._send(self.connection, item):
                    return
            if self._closing:
                await self.connection.close()
                return
            self._more.clear()
            await self._more.wait()

    async def _send(self, connection: Connection, message: ClientMessage) -> bool:
        try:
            await connection.send(message)
        except ConnectionFailed:
            return False  # the receiving side hears of it too, and knows more
        except Exception:  # a message that the SDK refuses must not end the conversation
            logger.exception("a %s could not be sent", type(message).__name__)
        return True

    def close(self) -> None:
        """Close when everything queued is sent; an attempt is given up at once."""
        self.ours = True
        if self.connection is None:
            self.abort()
            return
        self._closing = True
        self._more.set()

    def abort(self) -> None:
        """Drop it at once."""
        self.ours = True
        self.drop()

    def drop(self) -> None:
        """Drop the transport; the receiving side then reports the end."""
        if self.aborted:
            return
        self.aborted = True
        if self.connection is not None:
            self.connection.abort()
        elif self.task is not None:
            self.cancels = 1
            self.task.cancel()

    def over(self) -> None:
        """Emit the events that are left; their messages will not be sent."""
        left, self._line = self._line, deque()
        for item in left:
            if isinstance(item, Event):
                self._emit(item)


def _size_bytes(item: ClientMessage | Event) -> int:
    return MESSAGE_BYTES if isinstance(item, Event) else size_bytes(item)


__all__ = ["LiveSession", "SessionStatus"]
