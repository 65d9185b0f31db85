"""Button and switch on the whole daemon: what they do is read from the service's own record.

Real SDK, real TLS, recorded speech from a file that never pauses for long, mock pins.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from gpiozero.pins.mock import MockPWMPin

from agentd import events as e
from agentd.clock import SystemClock
from agentd.config.files import Loaded, parse
from agentd.daemon import Daemon, Parts
from agentd.demo.room import write_user
from agentd.demo.script import SPEECH_DIRECTORY, SpokenLine
from agentd.device.leds import NoLights
from agentd.service.journal import Journal
from agentd.service.notify import Notifier
from agentd.service.outlets import MemoryOutlet
from live_emulator import Emulator, EmulatorOptions
from live_emulator.scenario import read_scenario
from tests.e2e.sounds import needs_words

pytestmark = [needs_words, pytest.mark.slow]

BUTTON, SWITCH, LIGHT = 5, 6, 25
OPTIONS = EmulatorOptions(latency_s=0.1, reply="tone", tone_s=0.2, connection_limits=False)
WORDS = ("Front_Left", "Front_Right", "Side_Left", "Rear_Center")


class WiredPin(MockPWMPin):  # type: ignore[misc]  # gpiozero is untyped
    """A pin on which a contact to ground wins over the pull-up, as on a board."""

    grounded = False

    def _set_pull(self, value: str) -> None:
        super()._set_pull(value)
        if self.grounded:
            self.drive_low()


@dataclass
class House:
    """A running daemon, the service it talks to, and what it has told."""

    emulator: Emulator
    chip: Any
    state: Path
    daemon: Daemon = field(init=False)
    told: list[e.Event] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def on_event(self, event: e.Event) -> None:
        self.told.append(event)
        self._more.set()

    async def until(self, fact: Callable[[e.Event], bool], since: int = 0) -> int:
        """Wait for an event; return the position after it."""
        async with asyncio.timeout(60):
            at = since
            while True:
                while at < len(self.told):
                    at += 1
                    if fact(self.told[at - 1]):
                        return at
                self._more.clear()
                await self._more.wait()

    async def event(self, kind: type[e.Event], since: int = 0) -> int:
        return await self.until(lambda event: isinstance(event, kind), since)

    async def audio(self, since: int = 0) -> None:
        """Wait until sound arrives at the service."""
        await self.emulator.record.wait_for("audio", 60, since=since, direction="in")

    async def says(self, times: int = 3) -> None:
        """Let typed questions go round: the line is open, and time passes."""
        for _ in range(times):
            since = len(self.told)
            await self.daemon.session.say("are you there?")
            await self.until(
                lambda event: isinstance(event, e.TurnEnded) and not event.interrupted, since
            )

    def sounds(self, since: int = 0) -> int:
        """Count the messages with sound since a place in the record."""
        return len(self.emulator.record.select("audio", direction="in", since=since))

    @property
    def seconds_sent(self) -> float:
        """Return how much sound the service has received."""
        return len(self.emulator.received_audio()) / 32_000

    async def press(self) -> None:
        await asyncio.to_thread(self.chip.pin(BUTTON).drive_low)

    async def lift(self) -> None:
        await asyncio.to_thread(self.chip.pin(BUTTON).drive_high)

    async def close_switch(self, closed: bool) -> None:
        pin = self.chip.pin(SWITCH)
        await asyncio.to_thread(pin.drive_low if closed else pin.drive_high)


@contextlib.asynccontextmanager
async def house(
    tmp_path: Path,
    chip: Any,
    gpio: dict[str, Any],
    *,
    lines: int = 12,
    live: dict[str, Any] | None = None,
    lit: bool = False,
    options: EmulatorOptions = OPTIONS,
) -> AsyncIterator[House]:
    """Run a daemon in a room in which somebody talks a lot; `lit` has it open its own lights."""
    room = [SpokenLine(2.0 * number, WORDS[number % 4 :][:1], "") for number in range(lines)]
    await asyncio.to_thread(write_user, tmp_path / "room.wav", SPEECH_DIRECTORY, room)
    before = dict(os.environ)
    try:
        async with Emulator(options) as emulator:
            os.environ.update(emulator.client_environment())
            os.environ["GEMINI_API_KEY"] = "any-key-will-do"
            tables = {
                "live": {"base_url": emulator.base_url, **(live or {})},
                "audio": {
                    "capture_device": f"file:{tmp_path}/room.wav",
                    "playback_device": f"file:{tmp_path}/speaker.wav",
                },
                "vad": {"detector": "webrtc"},
                "gpio": gpio,
                "network": {"monitor": False},
            }
            at_home = House(emulator, chip, tmp_path / "state")
            clock = SystemClock()
            at_home.daemon = Daemon(
                Loaded(parse([(Path("test"), tables)]), ()),
                journal=Journal(MemoryOutlet(), clock=clock, level="debug"),
                notifier=Notifier(None),
                clock=clock,
                parts=Parts(
                    lights=None if lit else lambda _settings, _emit: NoLights(),
                    state_directory=tmp_path / "state",
                    control_path=tmp_path / "control.sock",
                    observers=(at_home.on_event,),
                ),
            )
            running = asyncio.create_task(at_home.daemon.run())
            try:
                yield at_home
            finally:
                at_home.daemon.stop("the test is over")
                await running
    finally:
        os.environ.clear()
        os.environ.update(before)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 150))


def connected(event: e.Event) -> bool:
    return isinstance(event, e.SessionFresh | e.Resumed)


def test_holding_the_button_mutes_until_it_is_held_again(chip: Any, tmp_path: Path) -> None:
    """In mid-speech: what was under way is ended, then not a byte of sound until unmuted."""

    async def test() -> None:
        async with house(tmp_path, chip, {"button": BUTTON}) as at_home:
            await at_home.audio()
            await at_home.press()
            at = await at_home.event(e.Muted)
            await at_home.lift()
            assert at_home.told[at - 1] == e.Muted(by="button")
            await at_home.says(1)
            quiet = at_home.emulator.record.last_seq
            await at_home.says()
            assert at_home.sounds(since=quiet) == 0
            assert (at_home.state / "mute.json").exists()
            await at_home.press()
            await at_home.event(e.Unmuted, at)
            await at_home.lift()
            await at_home.audio(since=quiet)

    run(test)


def test_a_light_that_cannot_be_had_keeps_nobody_from_talking(chip: Any, tmp_path: Path) -> None:
    """A pin that is taken when the daemon starts is told, and the conversation goes on."""

    async def test() -> None:
        import gpiozero

        taken = gpiozero.LED(LIGHT)
        async with house(tmp_path, chip, {"status_led": LIGHT}, lit=True) as at_home:
            at = await at_home.event(e.GpioUnavailable)
            assert "status_led" in str(at_home.told[at - 1])
            await at_home.audio()
        taken.close()

    run(test)


def test_the_switch_decides_at_boot_and_ever_after(chip: Any, tmp_path: Path) -> None:
    """Closed at the start: no sound has ever left, no command opens it; opened, it is heard."""

    async def test() -> None:
        chip.pin_class = WiredPin
        chip.pin(SWITCH).grounded = True
        async with house(tmp_path, chip, {"mute_switch": SWITCH}, lines=14) as at_home:
            at = await at_home.event(e.Muted)
            assert at_home.told[at - 1] == e.Muted(by="switch")
            await at_home.until(connected)
            await at_home.says()
            assert "switch" in at_home.daemon.mute.ask(False, by="control")
            assert at_home.sounds() == 0
            await at_home.close_switch(False)
            await at_home.event(e.Unmuted, at)
            await at_home.audio()
            since = len(at_home.told)
            await at_home.close_switch(True)
            await at_home.event(e.Muted, since)
            await at_home.says(1)
            quiet = at_home.emulator.record.last_seq
            await at_home.says()
            assert at_home.sounds(since=quiet) == 0

    run(test)


def test_push_to_talk_sends_only_what_is_said_into_the_button(chip: Any, tmp_path: Path) -> None:
    """Nothing before the press but the pre-roll, one utterance over all pauses, nothing after."""

    async def test() -> None:
        gpio = {"button": BUTTON, "button_mode": "push-to-talk"}
        async with house(tmp_path, chip, gpio) as at_home:
            await at_home.until(connected)
            await at_home.says()
            assert at_home.sounds() == 0
            await at_home.press()
            async with asyncio.timeout(60):
                while at_home.seconds_sent < 5.0:
                    await at_home.audio(since=at_home.emulator.record.last_seq)
            since = len(at_home.told)
            await at_home.lift()
            at = await at_home.event(e.UtteranceHeard, since)
            heard = at_home.told[at - 1]
            assert isinstance(heard, e.UtteranceHeard)
            assert heard.reason is e.EndReason.HANGOVER
            await at_home.event(e.TurnEnded, at)
            (utterance,) = at_home.emulator.utterances
            assert utterance.complete
            assert 4.0 <= utterance.seconds <= heard.speech_ms / 1000 + 0.5
            quiet = at_home.emulator.record.last_seq
            await at_home.says()
            assert at_home.sounds(since=quiet) == 0

    run(test)


def test_a_tap_wakes_a_released_session(chip: Any, tmp_path: Path) -> None:
    """Put to rest after a quiet time, the session is dialled by the button, before any word."""

    async def test() -> None:
        live = {"idle_release_min": 0.01}
        async with house(tmp_path, chip, {"button": BUTTON}, lines=0, live=live) as at_home:
            released = await at_home.event(e.Released)
            assert not at_home.daemon.session.status().connected
            await at_home.press()
            await at_home.lift()
            pressed = await at_home.event(e.ButtonUsed, released)
            assert at_home.told[pressed - 1] == e.ButtonUsed(gesture="tap", action="talk")
            await at_home.until(connected, released)

    run(test)


def test_the_button_says_yes_to_a_question_that_was_heard(chip: Any, tmp_path: Path) -> None:
    """Not the model's own second call, and not a press before the question; then all is gone."""

    async def test() -> None:
        call = {"name": "forget_conversation", "args": {"confirmed": True}}
        script = read_scenario({"turn": [{"tool_call": call, "say": "Shall I?", "tone": "0.3s"}]})
        options = replace(OPTIONS, scenario=script)
        async with house(tmp_path, chip, {"button": BUTTON}, lines=0, options=options) as at_home:
            await at_home.until(connected)
            await at_home.press()
            await at_home.lift()
            talk = await at_home.event(e.ButtonUsed)
            assert at_home.told[talk - 1] == e.ButtonUsed(gesture="tap", action="talk")
            await at_home.daemon.session.say("forget all of this")
            # The function is a quick one (BLOCKING): what the model says is one turn, and the
            # question is over when that has been heard.
            asked = await at_home.event(e.ConfirmationAsked, talk)
            await at_home.event(e.TurnEnded, talk)
            assert at_home.daemon.status()["session"]["confirming"] == "forget_conversation"  # type: ignore[index]
            seen = at_home.emulator.record.last_seq
            again = {"functionCalls": [{"id": "again", **call}]}
            at_home.emulator.faults.do("send_raw", data={"toolCall": again})
            answer = await at_home.emulator.record.wait_for("toolResponse", 60, since=seen)
            assert "needs_confirmation" in str(answer.message)
            assert not [event for event in at_home.told if isinstance(event, e.Forgotten)]
            await at_home.press()
            await at_home.lift()
            pressed = await at_home.event(e.ButtonUsed, asked)
            assert at_home.told[pressed - 1] == e.ButtonUsed(gesture="tap", action="confirm")
            done = await at_home.event(e.Confirmed, pressed)
            assert at_home.told[done - 1] == e.Confirmed(tool="forget_conversation", by="button")
            seen = at_home.emulator.record.last_seq
            forgotten = await at_home.event(e.Forgotten, done)
            told = await at_home.emulator.record.wait_for("clientContent", 60, since=seen)
            assert "forget_conversation that you called answered" in str(told.message)
            assert "the session at the service" in str(told.message)
            await at_home.event(e.TurnEnded, forgotten)

    run(test)


def test_forgetting_while_it_runs_reaches_the_copies_too(chip: Any, tmp_path: Path) -> None:
    """Handle, transcript and what was quarantined of them are gone from the disk."""

    async def test() -> None:
        state = tmp_path / "state"
        state.mkdir()
        (state / "session.json.bad-1").write_text("a-handle")
        (state / "transcript.json.bad-2").write_text("a-word")
        async with house(tmp_path, chip, {}, lines=1) as at_home:
            await at_home.event(e.TurnEnded)
            await at_home.event(e.HandleStored)
            assert (state / "session.json").exists()
            told = await at_home.daemon.session.forget()
            assert "the session at the service" in told
            left = {path.name for path in state.iterdir() if path.name != "session.json"}
            assert not {name for name in left if name.startswith(("session", "transcript"))}
            handles = (state / "session.json").read_text() if "session.json" in left else ""
            assert "a-handle" not in handles

    run(test)
