"""What is done about echo: the decision, and that the stages do it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentd.audio import formats
from agentd.audio.echo import policy as echo
from agentd.audio.echo.canceller import EchoCanceller
from agentd.audio.echo.policy import EchoMode, choose, measured_attenuation_db
from agentd.audio.fakes import FakeCanceller, FakeCapture, FakePlayback
from agentd.clock import FakeClock
from agentd.config.settings import Audio, Settings
from agentd.errors import CaptureFailed as CaptureLostError
from agentd.events import (
    CaptureLost,
    DetectorMissing,
    EchoHandled,
    EchoUncancelled,
    Event,
    ReplyAudio,
    ReplyComplete,
    ReplyStarted,
    Speech,
    UtteranceEnded,
    UtteranceStarted,
)
from agentd.sound import Outlets, Sound, is_half_duplex
from rig.waiting import running, until

# ── the decision ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("asked", "installed", "attenuation_db", "mode", "degraded"),
    [
        ("auto", True, None, EchoMode.CANCEL, False),
        ("auto", True, 20.0, EchoMode.CANCEL, False),
        ("auto", True, echo.NO_ECHO_DB, EchoMode.OPEN, False),
        ("auto", False, 70.0, EchoMode.OPEN, False),
        ("auto", False, 20.0, EchoMode.HALF_DUPLEX, False),
        ("auto", False, None, EchoMode.HALF_DUPLEX, False),
        ("on", True, 70.0, EchoMode.CANCEL, False),
        ("on", False, None, EchoMode.HALF_DUPLEX, True),
        ("off", True, 70.0, EchoMode.HALF_DUPLEX, False),
        ("hardware", True, None, EchoMode.OPEN, False),
        ("hardware", False, None, EchoMode.OPEN, False),
    ],
)
def test_the_mode_follows_from_wish_wheel_and_measurement(
    asked: Any, installed: bool, attenuation_db: float | None, mode: EchoMode, degraded: bool
) -> None:
    """Only what was asked for and cannot be had is a warning."""
    settings = Audio(echo_cancellation=asked)
    plan = choose(settings, installed=installed, attenuation_db=attenuation_db)
    assert (plan.mode, plan.is_degraded) == (mode, degraded)
    assert plan.cause
    assert bool(plan.remedy) == (mode is EchoMode.HALF_DUPLEX and asked != "off")


@pytest.mark.parametrize("side", ["capture_device", "playback_device"])
def test_files_share_no_air(side: str) -> None:
    """Whatever the configuration says."""
    settings = Audio.model_validate({side: "file:/tmp/a.wav", "echo_cancellation": "off"})
    assert choose(settings, installed=False).mode is EchoMode.OPEN
    assert not is_half_duplex(settings)


MEASURED = {"capture_device": "default", "playback_device": "default", "attenuation_db": 61.5}


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (MEASURED, 61.5),
        (MEASURED | {"attenuation_db": 61}, 61.0),
        (MEASURED | {"capture_device": "Another"}, None),
        (MEASURED | {"playback_device": "Another"}, None),
        (MEASURED | {"attenuation_db": "loud"}, None),
        (MEASURED | {"attenuation_db": True}, None),
        (MEASURED | {"attenuation_db": 10**400}, None),
        (MEASURED | {"attenuation_db": float("nan")}, None),
        (MEASURED | {"attenuation_db": float("-inf")}, None),
        ({}, None),
        (None, None),
        ([1], None),
    ],
)
def test_only_a_measurement_of_these_devices_counts(document: object, found: object) -> None:
    """The state file may hold anything."""
    assert measured_attenuation_db(document, Audio()) == found


# ── the stages ────────────────────────────────────────────────────────────────────────────────

VOICE = formats.to_pcm([8_000 if i // 40 % 2 else -8_000 for i in range(formats.FRAME_SAMPLES)])


class Bench:
    """Microphone, canceller, gate and speaker on fake devices and a virtual clock."""

    def __init__(self, load: Callable[[Audio], EchoCanceller] | None = None, **audio: Any) -> None:
        self.clock = FakeClock()
        self.capture, self.playback = FakeCapture(), FakePlayback()
        self.events: list[Event] = []
        self.speech: list[Speech] = []
        self.canceller = FakeCanceller()
        self.now_s = self.clock.monotonic()
        settings = Settings.model_validate(
            {
                "audio": {"volume_percent": 100, "cushion_ms": 20, **audio},
                "vad": {"detector": "webrtc", "aggressiveness": 0},
            }
        )
        self.sound = Sound(
            settings,
            clock=self.clock,
            outlets=Outlets(self.emit, self.speech.append, lambda _mark: None),
            devices=(self.capture, self.playback),
            installed=lambda: load is not None,
            load=load or (lambda _audio: self.canceller),
        )

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.sound.on_event(event)

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def hear(self, frames: int) -> None:
        """Let somebody speak for so many frames."""
        for _ in range(frames):
            self.now_s += formats.FRAME_S
            self.capture.say(VOICE, self.now_s)

    def reply(self, periods: int) -> None:
        """Let a reply of so many periods be played."""
        pcm = formats.to_pcm([1_000] * (480 * periods))
        self.sound.player.hear(ReplyAudio(1, pcm))
        self.sound.player.hear(ReplyComplete(1))
        for _ in range(periods):
            self.playback.tick()
            self.clock.advance(formats.FRAME_S)

    def started(self) -> int:
        return sum(isinstance(value, UtteranceStarted) for value in self.speech)


def run(bench: Bench, body: Callable[[], None]) -> Bench:
    async def main() -> None:
        async with running(bench.sound.run()):
            await bench.capture.until(opened=1)
            await bench.playback.until(opened=1)
            await until(lambda: bench.told(EchoHandled) or bench.told(EchoUncancelled))
            body()

    asyncio.run(main())
    return bench


def test_the_canceller_gets_what_is_played_and_the_gate_what_it_leaves() -> None:
    """The far end carries the time at which it is heard; frames go through the canceller."""
    canceller = FakeCanceller()
    bench = Bench(load=lambda _audio: canceller)

    def body() -> None:
        bench.playback.latency_s = 0.02
        bench.reply(20)
        assert bench.told(ReplyStarted)
        bench.hear(18)
        assert bench.started() == 0, "heard itself"
        bench.hear(20)
        assert bench.started() == 1

    run(bench, body)
    assert len(canceller.far_end) == 20
    begin_s = bench.clock.monotonic() - 20 * formats.FRAME_S
    assert [at for _, at in canceller.far_end] == pytest.approx(
        [begin_s + 0.02 + 0.02 * i for i in range(20)]
    )
    (told,) = bench.told(EchoHandled)
    assert isinstance(told, EchoHandled)
    assert told.by == EchoMode.CANCEL
    assert bench.sound.echo_status.by == EchoMode.CANCEL.value
    assert bench.sound.echo is not None


def test_silence_is_no_far_end() -> None:
    """A speaker that is kept alive costs the loop nothing."""
    canceller = FakeCanceller()
    bench = Bench(load=lambda _audio: canceller)

    def body() -> None:
        bench.playback.tick(50)

    run(bench, body)
    assert canceller.far_end == []


def test_without_a_canceller_a_reply_shuts_the_gate() -> None:
    """Half duplex, as far as the wheel is missing, and a warning only if it was asked for."""
    for asked, kind in (("auto", EchoHandled), ("on", EchoUncancelled), ("off", EchoHandled)):
        bench = Bench(echo_cancellation=asked)

        def body(bench: Bench = bench) -> None:
            bench.reply(2)
            bench.hear(20)
            assert bench.started() == 0

        run(bench, body)
        assert len(bench.told(kind)) == 1
        assert bench.sound.echo is None
        assert bench.sound.echo_status.by == EchoMode.HALF_DUPLEX.value


def test_a_canceller_that_cannot_be_loaded_leaves_half_duplex() -> None:
    """An old glibc, a broken numpy: told with the reason, and the device goes on."""

    def load(_audio: Audio) -> EchoCanceller:
        raise ImportError("no symbol")

    bench = run(Bench(load=load, echo_cancellation="on"), lambda: None)
    (told,) = bench.told(EchoUncancelled)
    assert isinstance(told, EchoUncancelled)
    assert "no symbol" in told.cause
    assert "agentd[aec]" in told.remedy


def test_a_lost_microphone_ends_the_utterance() -> None:
    """What comes after a replug does not belong to it."""
    bench = Bench(echo_cancellation="hardware")

    async def main() -> None:
        async with running(bench.sound.run()):
            await bench.capture.until(opened=1)
            bench.hear(20)
            assert bench.started() == 1
            assert not any(isinstance(value, UtteranceEnded) for value in bench.speech)
            bench.capture.fail(CaptureLostError("gone. Replug it"))
            await until(lambda: bench.told(CaptureLost))
            assert any(isinstance(value, UtteranceEnded) for value in bench.speech)

    asyncio.run(main())


def test_a_detector_that_is_not_the_wanted_one_is_told() -> None:
    """Once, with what to install."""
    bench = Bench(echo_cancellation="hardware")
    bench.sound._listener.warning = "the wheel is missing. Install the extra"
    run(bench, lambda: None)
    (told,) = bench.told(DetectorMissing)
    assert isinstance(told, DetectorMissing)
    assert (told.cause, told.remedy) == ("the wheel is missing", "Install the extra")
