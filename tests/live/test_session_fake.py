"""The shell with connections in memory: order, time, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agentd import events as e
from agentd.clock import FakeClock
from agentd.live.commands import SetupPlan
from agentd.live.connection import ConnectionFailed, FakeConnection, FakeConnector
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.messages import (
    ActivityEnd,
    FunctionCall,
    RealtimeAudio,
    ResumptionUpdate,
    ServerMessage,
    ToolResponse,
    size_bytes,
)
from agentd.live.session import EARLY_INPUTS, FRAMES_PER_TURN, LINE_OTHERS
from agentd.live.store import MemoryStore
from agentd.live.toolbox import Tool, Toolbox
from tests.live.device import Device, on_loop
from tests.live.world import DROPPED, INTERNAL, settings

HANDLE = ServerMessage(resumption=ResumptionUpdate("h1", resumable=True))


class ManualClock(FakeClock):
    """Virtual time on which waiting is possible: whoever waits is woken by `pass_time`."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        """Wait until that much virtual time has passed."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.now_s + seconds, future))
        await future

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, waking sleepers one after another."""
        until = self.now_s + seconds
        await self._calm()
        while due := [at for at, future in self._waiting if at <= until and not future.done()]:
            self.advance(max(0.0, min(due) - self.now_s))
            for at, future in self._waiting:
                if at <= self.now_s and not future.done():
                    future.set_result(None)
            await self._calm()
        self.advance(until - self.now_s)
        self._waiting = [pair for pair in self._waiting if not pair[1].done()]

    async def _calm(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def fake(connector: FakeConnector | None = None, **more: Any) -> tuple[FakeConnector, Device]:
    """A device on connections in memory."""
    connector = connector or FakeConnector()
    return connector, Device(connector=connector, **more)


def first_link(connector: FakeConnector) -> FakeConnection:
    """The newest connection."""
    return connector.connections[-1]


@on_loop
async def test_events_and_audio_leave_in_order() -> None:
    """The light is lit before the first byte and goes out after the last one."""
    connector, device = fake()
    story: list[str] = []
    async with device:
        await device.connected()
        link = first_link(connector)
        send = link.send

        async def noted(message: Any) -> None:
            story.append(type(message).__name__)
            await send(message)

        link.send = noted  # type: ignore[method-assign]
        before = len(device.events)
        await device.speak(10)
        await device.wait(lambda: any(isinstance(m, ActivityEnd) for m in link.sent))
        await device.event(e.UplinkClosed)
        kinds = [event for event in device.events[before:] if isinstance(event, e.UplinkOpened)]
        assert len(kinds) == 1
    assert story[0] == "ActivityStart"
    assert story[-1] == "ActivityEnd"


@on_loop
async def test_the_uplink_event_stands_exactly_around_the_bytes() -> None:
    """Seen from the wire: at every sent byte the light is on."""
    lit = False
    dark: list[object] = []
    connector, device = fake()

    class Watching(FakeConnection):
        async def send(self, message: Any) -> None:
            if isinstance(message, RealtimeAudio) and not lit:
                dark.append(message)
            await super().send(message)

    emit = device._emit

    def watch(event: e.Event) -> None:
        nonlocal lit
        if isinstance(event, e.UplinkOpened):
            lit = True
        if isinstance(event, e.UplinkClosed):
            lit = False
        emit(event)

    device.session._emit = watch

    async def connect(plan: SetupPlan) -> FakeConnection:
        link = Watching(plan)
        connector.connections.append(link)
        return link

    connector.connect = connect  # type: ignore[method-assign]
    async with device:
        await device.connected()
        for _ in range(3):
            await device.speak(10)
            await device.wait(lambda: not lit, "dark again")
        assert not dark
        assert sum(isinstance(m, RealtimeAudio) for m in first_link(connector).sent) > 9


@on_loop
async def test_what_is_heard_before_run_is_kept() -> None:
    """The microphone opens first; memory is bounded."""
    connector, device = fake()
    number = await device.speak(10)
    async with device:
        await device.connected()
        link = first_link(connector)
        await device.wait(lambda: any(isinstance(m, ActivityEnd) for m in link.sent))
        heard = b"".join(m.pcm for m in link.sent if isinstance(m, RealtimeAudio))
        assert heard == device.utterances[number]
    for _ in range(2 * EARLY_INPUTS):
        device.session.mark(e.PlaybackMark(1, 0.0, drained=False))
    assert not device.session._inputs, "after the end nothing is kept"


@on_loop
async def test_a_handle_is_told_when_it_is_safe() -> None:
    """HandleStored follows the store's word."""
    store = MemoryStore()
    connector, device = fake(store=store)
    async with device:
        await device.connected()
        first_link(connector).deliver(HANDLE)
        await device.event(e.HandleStored)
        assert store.documents["session"]["handles"][0]["handle"] == "h1"


@on_loop
async def test_lost_and_resumed() -> None:
    """The next dial carries the handle."""
    connector, device = fake()
    async with device:
        await device.connected()
        first_link(connector).deliver(HANDLE)
        await device.event(e.HandleStored)
        first_link(connector).fail(DROPPED)
        await device.connected(2)
        assert connector.plans[1].handle == "h1"


@on_loop
async def test_mute_takes_back_what_has_not_been_sent() -> None:
    """Not a byte of sound leaves after it, although the socket was slow."""
    connector, device = fake()
    async with device:
        await device.connected()
        link = first_link(connector)
        link.send_blocks = True
        await device.speak(50)
        link.send_blocks = False
        device.session.mute()
        sent = len([m for m in link.sent if isinstance(m, RealtimeAudio)])
        await device.speak(10)
        device.session.unmute()
        await asyncio.sleep(0)
        assert len([m for m in link.sent if isinstance(m, RealtimeAudio)]) == sent


@on_loop
async def test_a_socket_that_takes_nothing_is_dropped() -> None:
    """The line is bounded; what is fresh and fits the outbox goes out over the next connection."""
    connector, device = fake(config=settings(vad__max_utterance_s=5.0))
    async with device:
        await device.connected()
        first_link(connector).send_blocks = True
        while not device.told(e.Disconnected):
            await device.speak(250)
        assert device.told(e.Disconnected)[0].cause == "connection lost"
        assert device.told(e.SpeechLost)[0].cause == "too much was said"
        await device.connected(2)
        link = first_link(connector)
        await device.wait(lambda: any(isinstance(m, ActivityEnd) for m in link.sent))


@on_loop
async def test_a_connector_that_fails_in_a_new_way() -> None:
    """The session outlives it."""
    connector, device = fake()
    good = connector.connect
    failures = [RuntimeError("surprise"), ValueError("again")]

    async def connect(plan: SetupPlan) -> FakeConnection:
        if failures:
            raise failures.pop()
        return await good(plan)

    connector.connect = connect  # type: ignore[method-assign]
    async with device:
        await device.connected()
        assert device.told(e.Disconnected)[0].cause == "unusable frames"


@on_loop
async def test_a_message_that_the_sdk_refuses() -> None:
    """Is left out; the conversation goes on."""
    connector, device = fake()
    async with device:
        await device.connected()
        link = first_link(connector)
        send = link.send

        async def picky(message: Any) -> None:
            if isinstance(message, ActivityEnd):
                raise RuntimeError("I do not like this")  # noqa: TRY004 - the SDK's choice
            await send(message)

        link.send = picky  # type: ignore[method-assign]
        await device.speak(5)
        await device.event(e.UplinkClosed)
        assert device.session.status().connected


@on_loop
async def test_a_tool_is_run_and_its_answer_sent() -> None:
    """And one that is withdrawn is cancelled."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def quick(args: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"n": args["n"]}

    async def endless(args: Mapping[str, Any]) -> Mapping[str, Any]:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    toolbox = Toolbox((Tool("quick", "", quick), Tool("endless", "", endless)))
    connector, device = fake(toolbox=toolbox)
    async with device:
        await device.connected()
        link = first_link(connector)
        link.deliver(
            ServerMessage(
                calls=(FunctionCall("a", "quick", {"n": 1}), FunctionCall("b", "endless", {}))
            )
        )
        await device.wait(lambda: link.sent)
        assert link.sent == [ToolResponse("a", "quick", {"n": 1})]
        await started.wait()
        link.deliver(ServerMessage(cancelled_calls=("b",)))
        await cancelled.wait()
        assert [told.outcome for told in device.told(e.ToolCalled)] == ["answered", "cancelled"]


@on_loop
async def test_requests_are_answered() -> None:
    """Each with a few words."""
    _, device = fake()
    async with device:
        await device.connected()
        assert await device.session.say("hello") == "sent"
        assert await device.session.instruct("be brief") == "context_update"
        assert await device.session.add_context("the oven is on") == "added"
        assert await device.session.configure(device.settings) == "now"
        assert "transcript" in await device.session.forget()
        device.session.cancel_reply("button")


@on_loop
async def test_timers_fire_on_the_injected_clock() -> None:
    """GoAway's deadline comes with virtual time, not with real time."""
    clock = ManualClock()
    connector, device = fake(clock=clock)
    async with device:
        await clock.pass_time(0.0)
        link = first_link(connector)
        link.deliver(HANDLE, ServerMessage(resumption=ResumptionUpdate()))
        link.deliver(ServerMessage(go_away_s=50.0))
        await clock.pass_time(44.0)
        assert device.session.status().go_away_in_s == pytest.approx(6.0)
        assert len(connector.connections) == 1
        await clock.pass_time(2.0)
        assert len(connector.connections) == 2
        assert link.closed, "closed gracefully, not dropped"


@on_loop
async def test_stop_while_dialling() -> None:
    """An attempt is given up at once."""
    connector = FakeConnector()
    connector.hold()
    _, device = fake(connector)
    async with device:
        await device.wait(lambda: connector.plans)
    assert device.session.status().state == "stopped"


@on_loop
async def test_stop_with_a_peer_that_never_answers_the_close() -> None:
    """Bounded, on the injected clock."""
    clock = ManualClock()
    connector, device = fake(clock=clock)
    task = asyncio.create_task(device.session.run())
    await clock.pass_time(0.0)
    first_link(connector).close_hangs = True
    stopping = asyncio.create_task(device.session.stop())
    await clock.pass_time(2.5)
    await stopping
    await task
    assert first_link(connector).aborted
    assert device.session.status().state == "stopped"


@on_loop
async def test_a_text_typed_before_run_is_kept_and_said_so() -> None:
    """The control socket opens a moment before the conversation."""
    connector, device = fake()
    assert await device.session.say("hello") == "kept until the conversation has started"
    async with device:
        await device.connected()
        link = first_link(connector)
        await device.wait(lambda: any("hello" in repr(m) for m in link.sent))


@on_loop
async def test_stop_before_run() -> None:
    """Then run returns at once."""
    _, device = fake()
    await device.session.stop()
    async with asyncio.timeout(5.0):
        await device.session.run()


@on_loop
async def test_cancelling_run_leaves_nothing_behind() -> None:
    """The daemon's task group is going down."""
    connector, device = fake()
    before = asyncio.all_tasks()
    task = asyncio.create_task(device.session.run())
    await device.connected()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert first_link(connector).aborted
    assert asyncio.all_tasks() == before


@on_loop
async def test_cancelling_run_in_a_dial() -> None:
    """The same while an attempt hangs."""
    connector = FakeConnector()
    connector.hold()
    _, device = fake(connector)
    task = asyncio.create_task(device.session.run())
    await device.wait(lambda: connector.plans)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@on_loop
async def test_a_thousand_reconnects_leave_nothing_behind() -> None:
    """P5: tasks, timers and rings do not grow."""
    clock = ManualClock()
    connector, device = fake(clock=clock, config=settings(dials_per_min=120))
    connector.on_connection = lambda link: link.deliver(
        ServerMessage(resumption=ResumptionUpdate(f"h{len(connector.connections)}", resumable=True))
    )
    async with device:
        await clock.pass_time(0.0)
        tasks = len(asyncio.all_tasks())
        for number in range(1000):
            first_link(connector).fail(INTERNAL if number % 2 else DROPPED)
            await clock.pass_time(20.0)
            assert device.session.status().connected, number
        assert len(asyncio.all_tasks()) <= tasks
        assert device.session.status().connections == 1001


@on_loop
async def test_fakes_behave_like_the_real_ones() -> None:
    """What is refused is raised; a closed link takes nothing."""
    connector = FakeConnector()
    connector.refuse(Failure(Phase.HANDSHAKE, Kind.DNS))
    plan = SetupPlan(settings(), None, "")
    with pytest.raises(ConnectionFailed, match="dns"):
        await connector.connect(plan)
    await connector.warm_up()
    link = await connector.connect(plan)
    await link.close()
    with pytest.raises(ConnectionFailed):
        await link.send(ActivityEnd())
    with pytest.raises(ConnectionFailed):
        await link.receive()
    store = MemoryStore({"session": {"a": 1}})
    assert store.read("session") == {"a": 1}
    store.write("session", {"b": 2})
    store.delete("session")
    store.delete("session")
    await store.flush()
    assert store.read("session") is None


@on_loop
async def test_the_loop_has_its_turn_among_frames_that_come_without_a_pause() -> None:
    """Thousands may be there at once; microphone, mute and heartbeat wait for a handful."""
    connector, device = fake()
    async with device:
        await device.connected()
        link = first_link(connector)
        receive, handled = link.receive, 0

        async def counted() -> ServerMessage:
            nonlocal handled
            handled += 1
            return await receive()

        link.receive = counted  # type: ignore[method-assign]
        link.deliver(*[ServerMessage()] * 5_000)
        stops, before = [], 0
        while handled < 5_000:
            await asyncio.sleep(0)
            stops.append(handled - before)
            before = handled
        assert max(stops) <= FRAMES_PER_TURN + 1


@pytest.mark.parametrize("size", [10, 30_000], ids=["many", "large"])
@on_loop
async def test_answers_that_a_peer_does_not_take_end_the_connection(size: int) -> None:
    """Whatever waits to be sent is counted, not only sound; the conversation goes on anew."""
    connector, device = fake()
    async with device:
        await device.connected()
        link = first_link(connector)
        link.deliver(HANDLE)
        await device.event(e.HandleStored)
        link.send_blocks = True
        wire = device.session._wire
        assert wire is not None
        sent = 0
        while not wire.aborted and sent < 2 * LINE_OTHERS:
            wire.put(ToolResponse("c", "f", {"result": "x" * size}))
            sent += 1
        assert wire.unsent_bytes <= wire._limit_bytes + 4 * (size + 100) + 1000
        ended = await device.event(e.Disconnected)
        assert (ended.cause, ended.reason) == ("connection lost", "the connection takes no data")
        await device.connected(2)
        assert connector.plans[1].handle == "h1"


@on_loop
async def test_what_was_taken_back_is_no_longer_counted() -> None:
    """Mute purges sound, and leaves answers to calls where they stand."""
    connector, device = fake()
    async with device:
        await device.connected()
        first_link(connector).send_blocks = True
        wire = device.session._wire
        assert wire is not None
        await device.speak(1)
        answer = ToolResponse("c", "f", {})
        for message in (answer, RealtimeAudio(bytes(100_000)), answer):
            wire.put(message)
        assert wire.unsent_bytes > 100_000
        wire.purge_audio()
        assert 2 * size_bytes(answer) <= wire.unsent_bytes < 10_000


@on_loop
async def test_new_kinds_of_frames_are_told_once_each() -> None:
    """They are no fault of anybody; a peer that invents them fills no journal."""
    connector, device = fake()
    async with device:
        await device.connected()
        link = first_link(connector)
        for n in range(300):
            link.deliver(ServerMessage(unknown="newKind"), ServerMessage(unknown=f"kind{n}"))
        await device.wait(lambda: device.session.status().unknown_frames == 600)
        told = [event.kind for event in device.told(e.UnknownFrame)]
        assert told == ["newKind", *(f"kind{n}" for n in range(15))]
        assert not device.told(e.BadFrame)
        assert device.session.status().connections == 1


@on_loop
async def test_a_refused_call_is_answered_and_not_run() -> None:
    """The model is told why, and can go on."""
    connector, device = fake()
    async with device:
        await device.connected()
        await device.speak(3)
        link = first_link(connector)
        call = FunctionCall("c", "get_time", {}, refused="arguments of 20000 characters")
        link.deliver(ServerMessage(calls=(call,), problem="call refused"))
        await device.wait(lambda: any(isinstance(m, ToolResponse) for m in link.sent))
        (answer,) = [m for m in link.sent if isinstance(m, ToolResponse)]
        assert answer.response == {"error": "arguments of 20000 characters"}
        assert not device.told(e.ToolCalled)
        assert device.told(e.BadFrame)[0].problem == "call refused"
