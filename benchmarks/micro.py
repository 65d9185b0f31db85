"""What each stage costs by itself: CPU per call beside the bare C function that it wraps.

Process time, best of five repetitions: other programs on the machine cannot make it smaller.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.results import Results
from benchmarks.speech import utterance

REPEATS = 5
FRAME_BYTES = 640
PERIOD_SAMPLES = 480
MESSAGE_MS = 60


@dataclass(frozen=True, slots=True)
class Cost:
    """One stage: CPU per call, its bare counterpart's, and how often it is called."""

    stage: str
    bare: str
    us: float
    bare_us: float
    per_minute: float

    @property
    def ms_per_minute(self) -> float:
        """Return CPU milliseconds per minute in which the stage runs all the time."""
        return self.us * self.per_minute / 1000


def best_us(
    work: Callable[[int], object], calls: int, prepare: Callable[[], object] = lambda: None
) -> float:
    """Return CPU microseconds per call; `work` is called with the number of the call."""
    best = float("inf")
    for _ in range(REPEATS):
        prepare()
        begin = time.process_time()
        for number in range(calls):
            work(number)
        best = min(best, time.process_time() - begin)
    return 1e6 * best / calls


def measure(results: Results) -> list[Cost]:
    """Measure every stage; what cannot be imported is skipped and told."""
    costs: list[Cost] = []
    for stage in (_gate, _level, _cushion, _quieter_cushion, _decide, _uplink, _downlink, _journal):
        try:
            costs.append(stage())
        except (ImportError, AttributeError, TypeError, FileNotFoundError) as problem:
            results.skip(f"stage {stage.__name__[1:]}: {problem}")
    return costs


def _frames() -> list[bytes]:
    pcm = utterance(0, 4.0).pcm
    return [pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm) - FRAME_BYTES, FRAME_BYTES)]


def _gate() -> Cost:
    import webrtcvad

    from agentd.config.settings import Vad
    from agentd.events import Frame
    from agentd.vad.listener import Listener

    pcm = _frames()
    listener = Listener(Vad(), emit=lambda _: None, on_speech=lambda _: None)
    frames = [Frame(index, index * 0.02, pcm[index % len(pcm)]) for index in range(20_000)]
    stream = iter(frames)
    us = best_us(lambda _: listener.hear(next(stream)), 3_000)
    bare = webrtcvad.Vad(2)
    bare_us = best_us(lambda n: bare.is_speech(pcm[n % len(pcm)], 16_000), 3_000)
    return Cost("level + detector + gate, a 20 ms frame", "webrtcvad", us, bare_us, 3_000)


def _level() -> Cost:
    import math

    from agentd.audio.formats import level_dbfs

    pcm = _frames()
    values = [list(memoryview(frame).cast("h")) for frame in pcm]
    us = best_us(lambda n: level_dbfs(pcm[n % len(pcm)]), 3_000)
    bare_us = best_us(lambda n: math.hypot(*values[n % len(values)]), 3_000)
    return Cost("level, a 20 ms frame", "math.hypot", us, bare_us, 3_000)


def _cushion_cost(gain: float, stage: str) -> Cost:
    from agentd.audio.jitter import JitterBuffer

    cushion = JitterBuffer(80.0)
    cushion.set_volume(gain)
    reply = utterance(0, 4.0).pcm
    size = 2 * PERIOD_SAMPLES
    turns = itertools.count(1)

    def refill() -> None:
        turn = next(turns)
        cushion.cancel(turn - 1)
        for _ in range(10):
            cushion.write(turn, reply)
        cushion.read(PERIOD_SAMPLES, 0.02)

    def period(_: int) -> None:
        cushion.read(PERIOD_SAMPLES, 0.02)
        cushion.take_notes()

    us = best_us(period, 1_000, refill)
    buffer = reply * 10
    bare_us = best_us(lambda n: buffer[n * size : (n + 1) * size], 1_000)
    return Cost(stage, "a slice of bytes", us, bare_us, 3_000)


def _cushion() -> Cost:
    return _cushion_cost(1.0, "cushion, a 20 ms period at full volume")


def _quieter_cushion() -> Cost:
    return _cushion_cost(0.34, "cushion, a 20 ms period at 70 % volume")


def _decide() -> Cost:
    from agentd.clock import WallTime
    from agentd.config.settings import Settings
    from agentd.events import UtteranceAudio, UtteranceStarted
    from agentd.live import commands as c
    from agentd.live.conversation import Conversation

    wall = WallTime(1.8e9, synchronised=True)
    frame = utterance(0, 4.0).pcm[:FRAME_BYTES]
    now = 0.0
    conversation = Conversation(Settings(), random=lambda: 0.5)
    for given in (c.Start(), c.Connected(1), UtteranceStarted(1, now, frame, now)):
        conversation.handle(given, now, wall)

    def message(_: int) -> None:
        nonlocal now
        for _frame in range(MESSAGE_MS // 20):
            now += 0.02
            conversation.handle(UtteranceAudio(1, now, frame), now, wall)
            conversation.deadline()

    pcm = bytearray()

    def bare(_: int) -> None:
        for _frame in range(MESSAGE_MS // 20):
            pcm.extend(frame)
        bytes(pcm[-MESSAGE_MS * 32 :])

    us = best_us(message, 300)
    bare_us = best_us(bare, 300, pcm.clear)
    per_minute = 60_000 / MESSAGE_MS
    return Cost(f"conversation, speech of {MESSAGE_MS} ms", "bytearray", us, bare_us, per_minute)


class _Socket:
    """Takes frames and gives one and the same back."""

    def __init__(self, frame: bytes = b"") -> None:
        self.frame = frame
        self.taken = 0

    async def send(self, message: str) -> None:
        self.taken += len(message)

    async def recv(self, decode: bool | None = None) -> bytes:  # noqa: ARG002
        return self.frame


def _sdk_session(socket: _Socket) -> Any:
    from google import genai
    from google.genai.live import AsyncSession

    client = genai.Client(vertexai=False, api_key="benchmark")
    api_client: Any = client.aio.live._api_client  # noqa: SLF001 - a session without a connection
    return AsyncSession(api_client=api_client, websocket=socket)  # type: ignore[arg-type]


def _uplink() -> Cost:
    from agentd.live.google.connection import GenaiConnection
    from agentd.live.messages import RealtimeAudio

    pcm = utterance(0, 4.0).pcm[: MESSAGE_MS * 32]
    socket = _Socket()
    link: Any = GenaiConnection(_sdk_session(socket), socket, None)  # type: ignore[arg-type]
    message = RealtimeAudio(pcm)

    def bare(_: int) -> str:
        data = base64.b64encode(pcm).decode()
        blob = {"data": data, "mime_type": "audio/pcm;rate=16000"}
        return json.dumps({"realtime_input": {"audio": blob}})

    loop = asyncio.new_event_loop()
    try:
        us = _best_async_us(loop, lambda: link.send(message), 500)
    finally:
        loop.close()
    per_minute = 60_000 / MESSAGE_MS
    stage = f"uplink, a message of {MESSAGE_MS} ms"
    return Cost(stage, "json + base64", us, best_us(bare, 2_000), per_minute)


def _downlink() -> Cost:
    from agentd.live.google.connection import GenaiConnection

    data = base64.b64encode(bytes(range(256)) * 7 + bytes(128)).decode()  # 40 ms at 24 kHz
    blob = {"mimeType": "audio/pcm;rate=24000", "data": data}
    parts = [{"inlineData": blob}]
    frame = json.dumps({"serverContent": {"modelTurn": {"role": "model", "parts": parts}}}).encode()
    socket = _Socket(frame)
    link: Any = GenaiConnection(_sdk_session(socket), socket, None)  # type: ignore[arg-type]

    def bare(_: int) -> bytes:
        parsed = json.loads(frame)
        part = parsed["serverContent"]["modelTurn"]["parts"][0]
        return base64.b64decode(part["inlineData"]["data"])

    loop = asyncio.new_event_loop()
    try:
        us = _best_async_us(loop, link.receive, 500)
    finally:
        loop.close()
    return Cost("downlink, a message of 40 ms", "json + base64", us, best_us(bare, 2_000), 1_500)


def _best_async_us(loop: asyncio.AbstractEventLoop, call: Callable[[], Any], calls: int) -> float:
    async def many() -> float:
        begin = time.process_time()
        for _ in range(calls):
            await call()
        return time.process_time() - begin

    return 1e6 * min(loop.run_until_complete(many()) for _ in range(REPEATS)) / calls


def _journal() -> Cost:
    from agentd.clock import SystemClock
    from agentd.events import HandleStored
    from agentd.service.entry import json_line
    from agentd.service.journal import Journal
    from agentd.service.outlets import StreamOutlet
    from agentd.service.ratelimit import RateLimit

    clock = SystemClock()
    sink = io.StringIO()
    journal = Journal(
        StreamOutlet(sink, json_line, clock=clock),
        clock=clock,
        level="debug",
        limit=RateLimit(burst=1_000_000),
    )
    event = HandleStored(handle="0123456789abcdef")
    fields = {"time": "", "level": "debug", "event": event.name, **event.fields()}
    us = best_us(lambda _: journal.on_event(event), 2_000)
    bare_us = best_us(lambda _: json.dumps(fields), 2_000)
    return Cost("journal, an event as a JSON line", "json.dumps", us, bare_us, 10)
