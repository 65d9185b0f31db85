"""One word in, its answer out: through ALSA, the real SDK, TLS and back."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentd import events
from agentd.clock import SystemClock
from agentd.config.files import Loaded, parse
from agentd.daemon import Daemon, Parts
from agentd.device.patterns import LightKind, Look
from agentd.live.commands import SetupPlan
from agentd.live.connection import Connection, Connector
from agentd.live.google.connector import GenaiConnector
from agentd.live.messages import ClientMessage, RealtimeAudio, ServerMessage
from agentd.live.toolbox import Toolbox
from agentd.service.journal import Journal
from agentd.service.notify import Notifier
from agentd.service.outlets import MemoryOutlet
from live_emulator import Emulator, EmulatorOptions
from rig.hearing import heard_share
from rig.recording import Recorder
from rig.sound import SoundRig
from tests.e2e.driver import (
    API_KEY,
    DEADLINE_S,
    PLAIN,
    Event,
    Speaker,
    files,
    home,
    merged,
    recording,
    run,
    show,
    speaking,
)
from tests.e2e.sounds import SPK_HZ, Room, match, needs_words, samples, seconds, word

pytestmark = [pytest.mark.slow, needs_words]

PARROT = EmulatorOptions(latency_s=0.1, connection_limits=False)
ALIKE = 0.8
"""Likeness of a sound and its copy resampled twice; of two different words it is below 0.3."""

OF_A_TORN_ONE = 0.3
"""How much is found, piece by piece, of a reply that was torn: of a whole one 0.8, of others 0.1.

A stall of 0.1 s tears it, the machine's own or its host's. The daemon has to count that.
"""
STALL_S = 0.3
"""For which a daemon does not run: longer than what its speaker has in hand, by far."""


@pytest.mark.rig
def test_a_word_into_the_microphone_comes_back_from_the_speaker(
    rig: SoundRig, tmp_path: Path
) -> None:
    """The parrot's reply is recorded at the speaker, and the lights told what happened."""

    async def main() -> None:
        async with Emulator(PARROT) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker, recording(rig) as room:
                    await speaker.wait_notified("READY=1")
                    await speaker.wait_event("session_fresh")
                    answer = await ask(rig, speaker, room)
                assert answer.share > OF_A_TORN_ONE
                assert answer.likeness > ALIKE or answer.torn
                statuses = [s for s in speaker.notified if s.startswith("STATUS=")]
                assert len(statuses) > 1
                assert "STOPPING=1" in speaker.notified
                assert not speaker.told("gpio_unavailable")
                assert_lit_before_it_leaves(speaker.told("state"), emulator)

    run(main())


@pytest.mark.rig
def test_a_reply_that_the_machine_tears_is_counted(rig: SoundRig, tmp_path: Path) -> None:
    """`agentd status` tells of a hole, and what comes behind it is what came before it, later."""

    async def stall(speaker: Speaker) -> None:
        await speaker.until(lambda: speaker.shown()[-1:] == ["speaking"], "a reply")
        speaker.signal(signal.SIGSTOP)
        await asyncio.sleep(STALL_S)
        speaker.signal(signal.SIGCONT)

    async def main() -> None:
        async with Emulator(PARROT) as emulator:
            with home(tmp_path, emulator, rig=rig) as house:
                async with speaking(house) as speaker, recording(rig) as room:
                    await speaker.wait_event("session_fresh")
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(stall(speaker))
                        answer = await ask(rig, speaker, room)
                assert answer.torn
                assert answer.share > OF_A_TORN_ONE

    run(main())


@dataclass(frozen=True, slots=True)
class Answer:
    """How much what came out of the speaker is what was said into the microphone."""

    likeness: float
    share: float
    """The same in pieces, which may be late."""
    torn: bool
    """Whether the daemon counted that its speaker was not served in time."""


async def ask(rig: SoundRig, speaker: Speaker, room: Recorder) -> Answer:
    """Say a word and hear the answer out; what must hold of any turn holds of this one."""

    async def ran_dry() -> int:
        playback = (await speaker.control("status"))["audio"]["playback"]
        return int(playback["ran_dry"] + playback["underruns"])

    await speaker.until(lambda: speaker.shown(0)[-1:] == ["idle"], "idle")
    since, begun_s, before = speaker.mark(), time.monotonic(), await ran_dry()
    rig.start_speaking(word("Front_Center"))
    turn = await speaker.wait_event("turn", since=since)
    await speaker.until(lambda: speaker.shown(since)[-1:] == ["idle"], "idle")
    torn = await ran_dry() > before
    mic, spk = (room.track(name).between(begun_s, time.monotonic()) for name in ("mic", "spk"))
    said = match(samples(word("Front_Center")), samples(mic))
    original, copy = samples(word("Front_Center", SPK_HZ)), samples(spk)
    answer = Answer(match(original, copy).likeness, heard_share(original, copy), torn)
    show(f"likeness at the microphone {said.likeness:.3f}; {answer}")
    shown = [state for state in speaker.shown(since) if state != "follow_up"]
    assert shown == ["listening", "thinking", "speaking", "idle"]
    assert said.likeness > ALIKE
    assert turn["heard_ms"] >= seconds(word("Front_Center")) * 1000
    assert not turn["interrupted"]
    return answer


def assert_lit_before_it_leaves(states: list[Event], emulator: Emulator) -> None:
    """Audio arrives at the service only after the light went on; late by transit at most."""
    spans: list[tuple[float, float]] = []
    for event in states:
        if event["after"] == "listening":
            spans.append((event.wall_s, float("inf")))
        elif event["before"] == "listening":
            spans[-1] = (spans[-1][0], event.wall_s)
    for entry in emulator.record.select("audio", direction="in"):
        rounding_s, transit_s = 0.001, 1.0
        assert any(on - rounding_s <= entry.wall <= off + transit_s for on, off in spans), entry


class Ordered:
    """One list of what the light showed and what was sent, in the order in which it happened."""

    def __init__(self, connector: Connector) -> None:
        self.happened: list[str] = []
        self._connector = connector

    @property
    def kind(self) -> LightKind:
        return LightKind.RGB

    def show(self, look: Look) -> None:
        self.happened.append(look.state.value)

    def close(self) -> None:
        self.happened.append("off")

    async def warm_up(self) -> None:
        await self._connector.warm_up()

    async def connect(self, plan: SetupPlan) -> Connection:
        return OrderedLink(await self._connector.connect(plan), self.happened)


@dataclass
class OrderedLink:
    """A link of the real SDK that notes when audio goes into the socket."""

    link: Connection
    happened: list[str]

    @property
    def local_address(self) -> str | None:
        return self.link.local_address

    @property
    def unsent_bytes(self) -> int:
        return self.link.unsent_bytes

    async def send(self, message: ClientMessage) -> None:
        audio = isinstance(message, RealtimeAudio)
        if audio:
            self.happened.append("audio>")
        await self.link.send(message)
        if audio:
            self.happened.append("<audio")

    async def receive(self) -> ServerMessage:
        return await self.link.receive()

    async def close(self) -> None:
        await self.link.close()

    def abort(self) -> None:
        self.link.abort()


CAUSES: dict[str, tuple[type[events.Event], ...]] = {
    "listening": (events.UplinkOpened,),
    "thinking": (events.UplinkClosed, events.TurnStarted),
    "speaking": (events.ReplyStarted, events.UplinkClosed),
    "follow_up": (events.ReplyDrained, events.UplinkClosed),
}
"""What brings the device into a state; into the others time may bring it as well."""


def assert_causes_come_first(told: list[events.Event]) -> None:
    """Hold that a journal can be read from top to bottom."""
    heard = {
        one.utterance: i for i, one in enumerate(told) if isinstance(one, events.UtteranceHeard)
    }
    started = [i for i, one in enumerate(told) if isinstance(one, events.TurnStarted)]
    assert len(heard) >= 3
    assert len(started) >= 3
    for at, turn in zip(heard, started, strict=False):
        assert at < turn, told[turn - 3 : at + 1]
    cause: events.Event | None = None
    for place, event in enumerate(told):
        if not isinstance(event, events.StateChanged):
            cause = event
        elif event.after in CAUSES:
            assert isinstance(cause, CAUSES[event.after]), told[place - 3 : place + 2]


def test_audio_leaves_only_while_the_light_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On before the first byte goes into the socket, off after the last, also over a cut.

    And the journal of it has every cause before its effects.
    """

    async def main() -> None:
        room = Room(
            tmp_path / "mic.wav",
            (0.2, ("Front_Center",)),
            (4.5, ("Front_Left", "Front_Right")),
            (12.0, ("Rear_Center",)),
        )
        ended = asyncio.Event()
        turns: list[str] = []

        told: list[events.Event] = []

        def count(event: events.Event) -> None:
            told.append(event)
            if isinstance(event, events.TurnEnded):
                turns.append(event.name)
                if len(turns) == len(room.lines):
                    ended.set()

        async with Emulator(PARROT) as emulator:
            for name, value in (
                emulator.client_environment() | {"GEMINI_API_KEY": API_KEY}
            ).items():
                monkeypatch.setenv(name, value)
            emulator.faults.do("reset", on="audio 1.0 s into utterance 2")
            table = merged(PLAIN, files(room.path, tmp_path / "spk.wav"))
            clock = SystemClock()
            order = Ordered(GenaiConnector(Toolbox(())))
            outlet = MemoryOutlet()
            daemon = Daemon(
                Loaded(parse([(tmp_path / "agentd.toml", table)]), ()),
                journal=Journal(outlet, clock=clock, level="debug"),
                notifier=Notifier(None),
                clock=clock,
                parts=Parts(
                    connector=order,
                    lights=lambda _settings, _emit: order,
                    state_directory=tmp_path / "state",
                    control_path=tmp_path / "control.sock",
                    observers=(count,),
                ),
            )
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(daemon.run())
                async with asyncio.timeout(DEADLINE_S):
                    await ended.wait()
                daemon.stop("the test is over")
                assert await running == 0
            assert [len(held) for held in room.whole(emulator.utterances)] == [1, 1, 1]
            assert emulator.info()["connections_total"] == 2
        lit = False
        for happened in order.happened:
            if "audio" in happened:
                assert lit, order.happened
            else:
                lit = happened == "listening"
        assert order.happened.count("audio>") > 30
        assert_causes_come_first(told)

    run(main())


def test_words_spoken_before_the_session_is_up_arrive_whole(tmp_path: Path) -> None:
    """The first word begins with the first captured frame; the service takes seconds to answer."""

    async def main() -> None:
        room = Room(tmp_path / "mic.wav", (0.0, ("Front_Center",)), (2.3, ("Rear_Left",)))
        async with Emulator(PARROT) as emulator:
            emulator.faults.do("delay_setup", delay_s=3.0)
            with home(tmp_path, emulator, files(room.path, tmp_path / "spk.wav")) as house:
                async with speaking(house) as speaker:
                    hears = await speaker.wait_event("capture_back")
                    utterance = await speaker.wait_event("utterance")
                    fresh = await speaker.wait_event("session_fresh")
                    await speaker.until(lambda: len(speaker.told("turn")) == 2, "two answers")
            assert hears.wall_s < utterance.wall_s < fresh.wall_s
            show(f"heard {fresh.wall_s - hears.wall_s:.2f} s before the session was up")
            assert [len(held) for held in room.whole(emulator.utterances)] == [1, 1]
            assert not speaker.told("speech_lost")

    run(main())
