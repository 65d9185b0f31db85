"""`agentd demo`: runs the real daemon beside the emulator and shows the conversation."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from agentd import events as e
from agentd.clock import Clock, SystemClock
from agentd.config.files import Loaded, load, parse
from agentd.daemon import Daemon, Parts
from agentd.demo import script
from agentd.demo.narrator import Narrator
from agentd.demo.report import Delivery, check, table
from agentd.demo.room import write_stereo, write_user
from agentd.demo.screen import Screen, open_screen
from agentd.errors import EXIT_FAILURE, EXIT_OK, AgentdError
from agentd.service.entry import json_line
from agentd.service.journal import Journal
from agentd.service.notify import Notifier
from agentd.service.outlets import StreamOutlet
from agentd.text import counted
from live_emulator import Emulator, EmulatorOptions

REFRESH_S = 0.1
ANSWER_S = 20.0  # patience for the last reply


def main(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 if every word arrived and was answered."""
    out = (arguments.out or Path("agentd-demo")).absolute()
    with _event_log(out) as log, tempfile.TemporaryDirectory(prefix="agentd-demo-") as folder:
        screen = open_screen()
        show = Show(screen, Path(folder), log)
        try:
            if arguments.real:
                return asyncio.run(show.real())
            if arguments.live:
                return asyncio.run(show.live())
            return asyncio.run(show.scripted(out))
        except KeyboardInterrupt:  # how the other two are ended
            return EXIT_OK if arguments.real or arguments.live else EXIT_FAILURE
        finally:
            screen.close()


def _event_log(out: Path) -> TextIO:
    """Open the file of events in the folder `out`, which is made.

    Raises:
        AgentdError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return (out / "events.jsonl").open("w", encoding="utf-8")
    except OSError as error:
        raise AgentdError(
            f"{out} cannot be written to ({error.strerror}). Name another folder: agentd demo --out"
            " DIR"
        ) from error


class Show:
    """One run of the demo."""

    def __init__(self, screen: Screen, work: Path, log: TextIO) -> None:
        self._screen = screen
        self._work = work
        self._log = log
        self._clock: Clock = SystemClock()
        self._began_s = self._clock.monotonic()
        self._room_began = asyncio.Event()
        self._narrator = Narrator(screen, self._now_s)

    async def scripted(self, out: Path) -> int:
        """Let recorded people talk to the emulator through files, with mishaps."""
        user, speaker = self._work / "user.wav", self._work / "speaker.wav"
        self._say("Recorded words are made into a room; a small board takes seconds for it.")
        placed = await asyncio.to_thread(write_user, user, script.SPEECH_DIRECTORY, script.LINES)
        options = EmulatorOptions(
            transcripts=[line.text for line in script.LINES], connection_limits=False
        )
        async with Emulator(options) as emulator:
            daemon = self._daemon(
                {
                    "audio": {
                        "capture_device": f"file:{user}",
                        "playback_device": f"file:{speaker}",
                    },
                    "live": {"base_url": emulator.base_url},
                },
                emulator,
            )
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(daemon.run())
                painting = tasks.create_task(self._paint(daemon))
                await self._mishaps(emulator)
                await self._until_answered(placed[-1][1])
                daemon.stop("the demo is over")
                await running
                painting.cancel()
            received = list(emulator.utterances)
        deliveries = check(user, placed, script.LINES, received, self._narrator.turns)
        self._sum_up(deliveries)
        await asyncio.to_thread(write_stereo, out / "room.wav", user, speaker)
        self._say(f"{out / 'room.wav'}: the room, user left, speaker right")
        self._say(f"{out / 'events.jsonl'}: what happened")
        whole = all(delivery.whole for delivery in deliveries)
        answered = len(self._narrator.turns) >= len(deliveries)
        return EXIT_OK if whole and answered else EXIT_FAILURE

    async def live(self) -> int:
        """Talk to the emulator through the sound card; it answers with your own words."""
        async with Emulator(EmulatorOptions()) as emulator:
            self._say("Speak; the emulator answers with your own words. Ctrl-C ends it.")
            tables = {"live": {"base_url": emulator.base_url}}
            await self._run(self._daemon(tables, emulator))
        return EXIT_OK

    async def real(self) -> int:
        """Talk to the real service through the sound card, with the settings of this machine."""
        self._say("Speak; the service answers. Ctrl-C ends it.")
        await self._run(self._daemon(None, None))
        return EXIT_OK

    # ── inside ────────────────────────────────────────────────────────────────────────────────

    def _daemon(self, tables: Mapping[str, Any] | None, emulator: Emulator | None) -> Daemon:
        loaded = load(required=False)
        if tables is not None:
            loaded = Loaded(parse([(Path("demo"), tables)]), ())
        if emulator is not None:
            os.environ.update(emulator.client_environment())
            os.environ["GEMINI_API_KEY"] = "any-key-will-do"
        outlet = StreamOutlet(self._log, json_line, clock=self._clock)
        return Daemon(
            loaded,
            journal=Journal(outlet, clock=self._clock, level="debug"),
            notifier=Notifier(None),
            clock=self._clock,
            parts=Parts(
                state_directory=self._work / "state",
                control_path=self._work / "control.sock",
                observers=(self._note_room, self._narrator.on_event),
                on_transcript=self._narrator.on_transcript,
            ),
        )

    async def _run(self, daemon: Daemon) -> None:
        async with asyncio.TaskGroup() as tasks:
            painting = tasks.create_task(self._paint(daemon))
            await daemon.run()
            painting.cancel()

    def _note_room(self, event: e.Event) -> None:
        if isinstance(event, e.CaptureBack) and not self._room_began.is_set():
            self._began_s = self._clock.monotonic()
            self._room_began.set()

    def _now_s(self) -> float:
        return self._clock.monotonic() - self._began_s

    async def _paint(self, daemon: Daemon) -> None:
        while True:
            self._screen.now(self._narrator.state, daemon.sound.current.capture.level_dbfs)
            await asyncio.sleep(REFRESH_S)

    async def _mishaps(self, emulator: Emulator) -> None:
        await self._room_began.wait()
        for mishap in script.MISHAPS:
            await self._clock.sleep(mishap.at_s - self._now_s())
            self._screen.line(self._now_s(), "mishap", mishap.trouble.value, "yellow")
            if mishap.trouble is script.StagedFault.GO_AWAY:
                emulator.faults.do("go_away", time_left_s=script.GO_AWAY_TIME_LEFT_S)
            else:
                emulator.faults.do("reset")

    async def _until_answered(self, last_word_s: float) -> None:
        await self._clock.sleep(last_word_s - self._now_s())
        for _ in range(round(ANSWER_S / REFRESH_S)):
            if len(self._narrator.turns) >= len(script.LINES):
                return
            await self._clock.sleep(REFRESH_S)

    def _sum_up(self, deliveries: list[Delivery]) -> None:
        self._screen.table(table(deliveries))
        whole = sum(delivery.whole for delivery in deliveries)
        self._say(
            f"{whole} of {len(deliveries)} utterances arrived whole and once, "
            f"over {counted(self._narrator.connections, 'connection')}."
        )
        self._say("The recording of the room is being written.")

    def _say(self, text: str) -> None:
        self._screen.line(max(0.0, self._now_s()), "demo", text)
