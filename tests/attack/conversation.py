"""The conversation against hostile frames: the real SDK reads them, agentd's own core decides.

Nothing here waits: a socket in memory hands the frames to `google.genai`, whose messages go the
way of the product (`GenaiConnection`, `convert`) into the `World` of the conversation's own
tests, which checks every command: one connection, audio only inside UplinkOpened and UplinkClosed,
never muted.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import random
import sys
import types
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any, TypeVar

from google.genai.live import AsyncSession

from agentd import events as e
from agentd.clock import WallTime
from agentd.live import commands as c
from agentd.live.connection import ConnectionFailed
from agentd.live.failures import Failure, Kind, Phase, safe_reason
from agentd.live.google.connection import GenaiConnection
from agentd.live.google.frames import screened
from agentd.live.machine import HOLDING, State
from agentd.live.messages import ClientMessage, RealtimeAudio
from agentd.service.entry import entry_of, journal_fields, json_line, text_line
from agentd.state import envelope
from tests.attack import frames, values
from tests.attack.target import Case, Step, assert_plain
from tests.live.witness import Witness
from tests.live.world import World

CONFIGS: list[dict[str, Any]] = [
    {},
    {"backend": "vertex", "project": "p", "transparent_resumption": False},
    {"activity_detection": "server"},
    {"model": "gemini-2.5-flash-native-audio-preview-12-2025"},
    {"model": "gemini-3.1-flash-live-preview"},
    {"idle_release_min": 1.0, "network__replay_max_age_s": 2.0},
    {"backend": "vertex", "project": "p"},
]
KEPT_BYTES = 24 << 20
"""More than a conversation may hold after a case: its ring, its texts, and room."""
WIRE_BYTES = 1 << 20
STATUS_CHARS = 8_000
T = TypeVar("T")


class _Loop(asyncio.SelectorEventLoop):
    """A loop on which nothing waits, and whose time is the world's."""

    now = 0.0

    def time(self) -> float:
        """Return the world's time."""
        return self.now


_LOOP = _Loop()


def run_at(now: float, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine at this time of the world."""
    _LOOP.now = now
    return _LOOP.run_until_complete(work)


class _Socket:
    """The WebSocket under the SDK, in memory."""

    def __init__(self) -> None:
        self.frame = b""
        self.sent: list[str] = []
        self.transport = types.SimpleNamespace(abort=lambda: None)

    async def recv(self, decode: bool | None = None) -> bytes:
        """Return the frame that lies here, as `LiveWebSocket` does."""
        return screened(self.frame)

    async def send(self, message: str) -> None:
        """Keep what goes out."""
        self.sent.append(message)


async def _leave(*_args: object) -> None:
    pass


class AttackedWorld(Witness):
    """The world, with the SDK between the service and the conversation."""

    def __init__(self, **config: Any) -> None:
        self.inputs = 0
        self.link: GenaiConnection
        self.socket = _Socket()
        super().__init__(**config)
        self.new_link()

    def new_link(self) -> None:
        """Begin another connection's stream."""
        self.socket = _Socket()
        client: Any = types.SimpleNamespace(vertexai=self.settings.live.backend == "vertex")
        socket: Any = self.socket
        self.link = GenaiConnection(AsyncSession(client, socket), socket, _leave)

    def connect(self) -> World:
        """Let the dial under way succeed, on a stream of its own."""
        self.new_link()
        return super().connect()

    def frame(self, text: str) -> None:
        """Let a frame arrive."""
        self.inputs += 1
        wire = self.open_wire
        if wire is None or not wire.ready:
            return
        self.socket.frame = text.encode("utf-8", "surrogatepass")
        try:
            message = run_at(self.now, self.link.receive())
        except ConnectionFailed as failed:
            self.end(failed.failure)
            return
        self.give(c.Received(wire.number, message))

    def _check_send(self, command: c.Send) -> None:
        if self.indexed:  # what the service says it has consumed is a lie
            assert self.open_wire is not None
            assert not isinstance(command.message, RealtimeAudio) or self.lit is not None
        else:
            super()._check_send(command)
        if not isinstance(command.message, RealtimeAudio):
            self._check_bytes(command.message)

    def _check_bytes(self, message: ClientMessage) -> None:
        self.socket.sent.clear()
        run_at(self.now, self.link.send(message))
        for text in self.socket.sent:
            assert len(text) < WIRE_BYTES, f"{type(message).__name__} has {len(text)} characters"
            written = json.dumps(json.loads(text), ensure_ascii=False)
            written.encode()  # half of a surrogate pair is no JSON for a strict reader (RFC 8259)

    def _check_event(self, event: e.Event) -> None:
        super()._check_event(event)
        entry = entry_of(event)
        wall = WallTime(1_800_000_000.0, synchronised=True)
        for line in (json_line(entry, wall), text_line(entry, wall), entry.message):
            assert_plain(line, 6000, f"the line of {entry.name}")
            assert values.KEY not in line, f"the line of {entry.name} has a key in it"
        for name, value in journal_fields(entry).items():
            assert_plain(value, 2000, f"{entry.name}'s field {name}")

    def _stores(self, command: c.StoreDocument) -> None:
        super()._stores(command)
        if command.document is not None:
            text = envelope.canonical(command.document)
            data = envelope.encode(command.name, text, self.wall)
            assert envelope.decode(command.name, data) == command.document


def check_status(world: World) -> None:
    """Hold what `agentd status` gets of the session against what a socket and a terminal take."""
    status = asdict(world.conversation.status(world.now, world.wall))
    written = json.dumps(status, allow_nan=False, ensure_ascii=False)
    assert_plain(written, STATUS_CHARS, "the status")
    assert values.KEY not in written
    for name, count in status["tokens"].items():
        assert abs(count) < 2**63, f"tokens.{name} has {len(str(count))} digits"


def kept_bytes(root: object) -> int:
    """Return the size of everything that an object keeps alive, code and classes aside."""
    seen: set[int] = set()
    left, total = [root], 0
    aside = (type, types.ModuleType, types.FunctionType, types.CodeType, World)
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, aside):
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        left.extend(gc.get_referents(thing))
    return total


# ── steps ─────────────────────────────────────────────────────────────────────────────────────────


def _speak(world: World, pieces: int) -> None:
    if not (world.spoken and world.spoken[-1].ended is None):
        world.speak(pieces)


def _begin(world: World, pieces: int) -> None:
    if not (world.spoken and world.spoken[-1].ended is None):
        world.begin()
    for _ in range(pieces):
        world.go_on()


def _finish(world: World, _: int) -> None:
    if world.spoken and world.spoken[-1].ended is None:
        world.finish()


def _forget(world: World, _: int) -> None:
    for spoken in world.spoken:
        spoken.muted = True
    world.give(c.Forget())


def _tool_done(world: World, _: int) -> None:
    for key in list(world.tools)[:1]:
        del world.tools[key]
        world.give(c.ToolDone(key, "answered", {"text": values.LONE}))


WALLS = (0.0, 1_000.0, 1_500_000_000.0, 1_800_000_000.0, 1_800_100_000.0, 2_400_000_000.0, 9.2e9)


def _set_clock(world: World, n: int) -> None:
    """Set the wall clock to anywhere that a kernel allows, believed or not."""
    world.wall = WallTime(WALLS[n % len(WALLS)], synchronised=n < len(WALLS))


def _suspend(world: World, n: int) -> None:
    """Stand still for so long: everything that was due meanwhile is due at once."""
    asleep_s = (3.0, 40.0, 3600.0, 90_000.0)[n % 4]
    world.now += asleep_s
    world.wall = WallTime(world.wall.unix_s + asleep_s, world.wall.synchronised)
    world.advance(0.0)


USER: dict[str, Callable[[World, int], object]] = {
    "speak": _speak,
    "begin": _begin,
    "finish": _finish,
    "say": lambda world, _: world.give_say(),
    "context": lambda world, _: world.give(c.AddContext("the oven is on")),
    "instruct": lambda world, _: world.give(c.Instruct("be brief" + values.LONE)),
    "mute": lambda world, on: world.mute(on=bool(on % 2)),
    "cancel": lambda world, _: world.give(c.CancelReply("button")),
    "forget": _forget,
    "tool": _tool_done,
    "heard": lambda world, ms: world.give(
        e.PlaybackMark(world.last_reply, float(ms * 100), drained=bool(ms % 2))
    ),
    "link": lambda world, on: world.give(
        e.LinkChanged(interface="wlan0" if on % 2 else "", online=bool(on % 2))
    ),
    "clock": _set_clock,
    "suspend": _suspend,
    "wait": lambda world, n: world.advance((0.01, 0.3, 1.0, 5.0, 16.0, 70.0, 700.0)[n % 7]),
}
_OFTEN = ("speak", "speak", "begin", "finish", "say", "wait", "wait", "tool", "heard")


def _take(world: AttackedWorld, step: Step) -> None:
    match step:
        case ["frame", str(text)]:
            world.frame(text)
        case ["flood", int(count), str(text)]:
            for n in range(min(count, 3000)):
                world.frame(text.replace("call-1", f"call-{n}"))
        case ["user", str(what), int(amount)] if what in USER:
            USER[what](world, amount)
        case ["end", int(code), str(reason)]:
            _end(world, code, reason)
        case ["connect"] if world.state is State.DIALING:
            world.connect()
        case _:
            pass  # what a mutation made of it


def _end(world: AttackedWorld, code: int, reason: str) -> None:
    wire = world.open_wire
    if wire is None or (world.state is State.DIALING and wire.closing):
        return
    phase = Phase.LIVE if wire.ready else Phase.SETUP
    world.end(Failure(phase, Kind.CLOSED, code, safe_reason(reason)))  # as the link gives it


class Conversation:
    """Frames of a hostile service, and what people do meanwhile."""

    name = "frames"
    what = "frames of the service"

    def make(self, rng: random.Random) -> list[Step]:
        """Return a conversation: set-up, questions, answers with hostile frames, ends."""
        case: list[Step] = [["config", rng.randrange(len(CONFIGS))]]
        if rng.random() < 0.1:
            case.append(["saved", saved(rng), saved(rng)])
        case.append(["connect"])
        for _ in range(rng.choice((1, 2, 4, 8))):
            case += rng.choice(_SCENES)(rng)
        return case

    def check(self, case: Case) -> int:
        """Play it; then all is well again, and so must the conversation be."""
        number = next((s[1] for s in case if s[:1] == ["config"] and isinstance(s[1], int)), 0)
        world = AttackedWorld(**CONFIGS[number % len(CONFIGS)])
        kept = next((s for s in case if s[:1] == ["saved"] and len(s) == 3), ["saved", None, None])
        world.start(kept[1], kept[2])
        for step in case:
            _take(world, step)
            check_status(world)
        _recover(world)
        return world.inputs


def _recover(world: AttackedWorld) -> None:
    world.polite = True
    if world.muted:
        world.mute(on=False)
    world.tools.clear()  # never answered: tools have a time of their own
    world.settle()
    check_status(world)
    kept = kept_bytes(world.conversation)
    assert kept < KEPT_BYTES, f"{kept} bytes are kept"
    world.give(c.Stop())
    if world.state in HOLDING:
        world.advance(10.0)
    assert world.finished, f"stop leaves it {world.state}"
    assert world.lit is None


def _scene_answer(rng: random.Random) -> list[Step]:
    return [["user", "speak", 8], *(["frame", text] for text in frames.interjected(rng))]


def _scene_frames(rng: random.Random) -> list[Step]:
    return [["frame", frames.hostile(rng)] for _ in range(rng.choice((1, 3, 10, 30)))]


def _scene_people(rng: random.Random) -> list[Step]:
    what = rng.choice(_OFTEN) if rng.random() < 0.7 else rng.choice(list(USER))
    return [["user", what, rng.randrange(12)]]


def _scene_end(rng: random.Random) -> list[Step]:
    code = rng.choice((1000, 1001, 1006, 1007, 1008, 1011, 1012, 4000))
    reason = rng.choice(("", "quota", "session not found", values.text(rng)))
    return [["end", code, reason], ["user", "wait", rng.randrange(7)], ["connect"]]


def _scene_flood(rng: random.Random) -> list[Step]:
    return [["flood", rng.choice((20, 150, 300)), frames.hostile(rng)]]


_SCENES = (
    *(_scene_answer,) * 8, *(_scene_frames,) * 8, *(_scene_people,) * 10, *(_scene_end,) * 3,
    _scene_flood,
)  # fmt: skip


def _templates() -> list[dict[str, Any]]:
    world = AttackedWorld()
    world.online()
    world.speak()
    for frame in frames.ANSWERS["native audio of 2.5"]:
        world.frame(json.dumps(frame))
    world.give(e.PlaybackMark(world.last_reply, 280.0, drained=True))
    return [dict(document) for document in world.documents.values() if document]


_KEPT: list[dict[str, Any]] = []


def saved(rng: random.Random) -> Any:
    """Return what a state file might hold: a true document with one part replaced, or anything."""
    if not _KEPT:
        _KEPT.extend(_templates())
    if rng.random() < 0.2:
        return values.anything(rng)
    document = copy.deepcopy(rng.choice(_KEPT))
    frames.replace_one(document, rng)
    try:
        return json.loads(json.dumps(document))
    except ValueError:  # pragma: no cover - a number of too many digits
        return None
