"""`agentd doctor --loopback`: speak, and hear yourself through the whole pipeline.

The real daemon, your microphone and speaker, and a Live API server of our own that answers with
what it was told. Nothing leaves the machine.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agentd import events as e
from agentd.clock import Clock
from agentd.config.files import Loaded
from agentd.config.settings import Settings
from agentd.doctor.findings import Finding, fail, ok
from agentd.service.journal import Journal
from agentd.service.notify import Notifier
from agentd.service.outlets import MemoryOutlet

PATIENCE_S = 45.0
KEY = "any-key-will-do"


@dataclass(slots=True)
class Witness:
    """Watches the events of a conversation until one reply has been heard, or cannot be."""

    tell: Callable[[str], None]
    turn: e.TurnEnded | None = None
    heard_ms: float = 0.0
    trouble: e.CaptureLost | e.PlaybackLost | e.Refused | None = None
    ready: bool = False
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def on_event(self, event: e.Event) -> None:
        """Take one event of the daemon."""
        match event:
            case e.SessionFresh() | e.Resumed() if not self.ready:
                self.ready = True
                self.tell("say something; you should hear it again a moment later")
            case e.UplinkOpened():
                self.tell("hearing you …")
            case e.ReplyStarted():
                self.tell("… and this is what arrived")
            case e.TurnEnded():
                # One that was overtaken before its answer came says nothing about the speaker.
                if self.turn is None or event.first_audio_ms is not None:
                    self.turn = event
            case e.CaptureLost() | e.PlaybackLost() | e.Refused():
                self.trouble = event
                self._over.set()
            case e.ReplyDrained(heard_ms=heard_ms) if heard_ms > 0:
                self.heard_ms = heard_ms
            case _:
                pass
        if self.turn is not None and self.turn.first_audio_ms is not None and self.heard_ms:
            self._over.set()

    async def wait(self) -> None:
        """Wait for the end, or for as long as a person has patience."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._over.wait()
        except TimeoutError:
            return


async def loopback(settings: Settings, clock: Clock, tell: Callable[[str], None]) -> Finding:
    """Hold one exchange with ourselves and judge it."""
    try:
        from live_emulator import Emulator, EmulatorOptions
    except ImportError as error:
        return fail(
            "loopback", f"the emulator is missing ({error})", "Install python3-cryptography"
        )
    from agentd.daemon import Daemon, Parts

    witness = Witness(tell)
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="agentd-loopback-") as folder:
        async with Emulator(EmulatorOptions()) as emulator:
            os.environ.update(emulator.client_environment())
            os.environ["GEMINI_API_KEY"] = KEY
            try:
                daemon = Daemon(
                    Loaded(_towards(settings, emulator.base_url), ()),
                    journal=Journal(MemoryOutlet(), clock=clock, level="error"),
                    notifier=Notifier(None),
                    clock=clock,
                    parts=Parts(
                        state_directory=Path(folder) / "state",
                        control_path=Path(folder) / "control.sock",
                        observers=(witness.on_event,),
                    ),
                )
                await _converse(daemon, witness)
            finally:
                os.environ.clear()
                os.environ.update(before)
    return judge(witness)


def _towards(settings: Settings, base_url: str) -> Settings:
    """Return the settings with the emulator as the service; the household's pins stay untouched."""
    live = settings.live.model_copy(update={"base_url": base_url, "backend": "developer"})
    gpio = type(settings.gpio)()
    network = settings.network.model_copy(update={"monitor": False})
    return settings.model_copy(update={"live": live, "gpio": gpio, "network": network})


async def _converse(daemon: object, witness: Witness) -> None:
    from agentd.daemon import Daemon

    assert isinstance(daemon, Daemon)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(daemon.run())
        waiting = tasks.create_task(witness.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        daemon.stop("the loopback is over")
        await running
        waiting.cancel()


def judge(witness: Witness) -> Finding:
    """Judge what was witnessed."""
    trouble, turn = witness.trouble, witness.turn
    if trouble is not None:
        return fail("loopback", trouble.message().partition(". ")[0], trouble.remedy)
    if turn is None:
        return fail(
            "loopback",
            f"nothing was heard in {PATIENCE_S:.0f} s",
            "Speak louder or closer; `agentd doctor` judges the microphone's level",
        )
    if not witness.heard_ms or turn.first_audio_ms is None:
        return fail(
            "loopback",
            "what was said arrived, but nothing was played",
            "`agentd doctor` judges the speaker",
        )
    return ok(
        "loopback",
        f"{turn.speech_ms / 1000:.1f} s of speech came back "
        f"{turn.first_audio_ms:.0f} ms after its end, {witness.heard_ms / 1000:.1f} s were heard",
        speech_ms=round(turn.speech_ms),
        first_audio_ms=round(turn.first_audio_ms),
        heard_ms=round(witness.heard_ms),
    )
