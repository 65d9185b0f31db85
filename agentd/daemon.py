"""The composition root: builds the stages, owns the only TaskGroup, and stops them in order.

    SoundStage: microphone ─► gate ─speech─► LiveSession ─reply─► SoundStage: speaker
                                               ▲  ▲   │                        │
                                  NetworkWatch ┘  │   └ events ► EventBus      │
                                                  └────────── marks ───────────┘

What runs, is configured, hears of events or answers is a stage (`agentd.stage`); this module says
which there are, in which order, and what each is given of the others. Nothing is decided here.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import random
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentd import events as e
from agentd.audio.devices import CaptureDevice, PlaybackDevice
from agentd.audio.echo.policy import ECHO_DOCUMENT, measured_attenuation_db
from agentd.calling import Calling
from agentd.clock import Clock, SystemClock
from agentd.config.files import Loaded, load
from agentd.config.settings import Audio, Settings
from agentd.device.leds import Lights, open_lights
from agentd.device.mute import Mute
from agentd.device.presenter import Presentation, Presenter
from agentd.device.ringer import Ringer
from agentd.device.sounder import Sounder
from agentd.device.switch import MuteSwitch
from agentd.device.volume import SoftwareVolume, Volume, VolumeControl, find_control
from agentd.errors import EXIT_FAILURE, EXIT_OK, AlreadyRunning, ConfigError
from agentd.eventbus import EventBus
from agentd.live.connection import Connector
from agentd.live.google.connector import GenaiConnector
from agentd.live.session import LiveSession
from agentd.live.toolbox import Toolbox
from agentd.methods import Requests
from agentd.net.kernel import NetlinkKernel
from agentd.net.monitor import NetworkMonitor
from agentd.network import NetworkWatch
from agentd.service.client import SOCKET_NAME
from agentd.service.control import ControlServer
from agentd.service.departure import Departure
from agentd.service.journal import Journal
from agentd.service.logbridge import crash_entry, install, install_loop_handler
from agentd.service.notify import Heartbeat, Notifier
from agentd.service.outlets import choose_outlet
from agentd.service.peers import Access
from agentd.service.reload import Reloader
from agentd.service.sole import Place
from agentd.service.startup import Startup
from agentd.service.statustext import status_sentence
from agentd.service.watchdog import Evidence
from agentd.sound import Outlets, Sound, SoundStage
from agentd.stages import Stages
from agentd.state.paths import runtime_directory, state_directory
from agentd.state.store import StateStore
from agentd.status import TurnCounter, brief, document
from agentd.tools.about import AboutTools
from agentd.tools.device import DeviceTools
from agentd.tools.hosts import OFFER, ToolHosts
from agentd.touch import Touch, actions

SESSION_STOP_S = 2.0  # for the goodbye, even with a dead peer; see `departure.LATEST_S`


@dataclass(frozen=True, slots=True)
class Parts:
    """What may be replaced: by the demo, by tests, by other hardware. None: the real thing."""

    devices: tuple[CaptureDevice, PlaybackDevice] | None = None
    connector: Connector | None = None
    lights: Callable[[Settings, e.Emit], Lights] | None = None
    state_directory: Path | None = None
    control_path: Path | None = None
    observers: Sequence[e.Emit] = ()
    on_transcript: Callable[[e.TranscriptText], None] | None = None
    once_settled: Callable[[], None] = lambda: None  # when all is imported, the first dial over


class Daemon:
    """One smart speaker."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        journal: Journal,
        notifier: Notifier,
        clock: Clock,
        reload_from: Callable[[], Loaded] | None = None,
        parts: Parts | None = None,
        departure: Departure | None = None,
    ) -> None:
        settings = loaded.settings
        self._journal = journal
        self._notifier = notifier
        self._clock = clock
        self._parts = parts or Parts()
        self._started_s = clock.monotonic()
        self._stop_asked = asyncio.Event()
        self._stop_cause = ""
        self._departure = departure
        self._tasks = asyncio.TaskGroup()
        self._running: dict[str, asyncio.Task[None]] = {}

        self.bus = bus = EventBus(self._show)
        emit = bus.emit
        self.store = StateStore(
            self._parts.state_directory or state_directory(os.environ, Path.home()),
            clock=clock,
            emit=emit,
        )
        if departure:
            departure.say_at_last(self.store.close)
        self.presenter = Presenter(
            clock=clock, settings=settings, lights=self._open_lights, emit=emit
        )
        self._toolbox = Toolbox()
        self.session = LiveSession(
            settings,
            clock=clock,
            connector=self._parts.connector or GenaiConnector(self._toolbox),
            store=self.store,
            emit=emit,
            deliver=self._deliver,
            toolbox=self._toolbox,
            random=random.random,
        )
        self.mute = Mute(store=self.store, bus=bus, apply=self._apply_mute)
        self._switch = MuteSwitch(settings, mute=self.mute, clock=clock, emit=emit)
        self._startup = Startup(
            settings,
            clock=clock,
            emit=emit,
            notifier=notifier,
            muted=lambda: self.mute.muted,
            once_settled=self._parts.once_settled,
        )
        self.sound = SoundStage(settings, self._make_sound)
        self.ringer = Ringer(clock=clock, store=self.store, emit=emit)
        self._gain = SoftwareVolume(self.sound.set_gain)
        self.volume = Volume(
            settings.audio,
            find=self._find_control,
            fallback=self._gain,
            store=self.store,
            emit=emit,
            clock=clock,
        )
        self.stages = Stages(settings)
        self.reloader = Reloader(reload_from, self.stages.configure, notifier=notifier, emit=emit)
        self._heartbeat = Heartbeat(
            notifier,
            clock=clock,
            emit=emit,
            evidence=self._evidence,
            sentence=lambda: status_sentence(self.status()),
        )
        self.tool_hosts = ToolHosts(
            self._toolbox,
            settings,
            clock=clock,
            emit=emit,
            declare=self.session.tools_changed,
        )
        self._add_stages(settings)
        for tool in self.stages.tools():
            self._toolbox.add(tool)
        self._control = self._make_control(settings)
        self.stages.add("control", self._control)
        self.presenter.observe(self._state_changed)
        for observer in (self.stages.on_event, *self._parts.observers):
            bus.subscribe(observer)
        # Last: a pin that cannot be had is an event, which everything above may hear.
        self.presenter.open()

    def _add_stages(self, settings: Settings) -> None:
        """Put the stages in the order in which they begin, are configured and hear of events.

        What may refuse new settings comes first; hearing, too: words spoken while the rest loads
        are in the pre-roll.
        """
        add = self.stages.add
        add("journal", self._journal)
        add("audio", self.sound)
        add("session", self.session)
        add("ready", self._startup)
        add("lights", self.presenter)
        add("state", self.store)
        add("heartbeat", self._heartbeat)
        add("volume", self.volume)
        add("sounds", self._make_sounder(settings))
        add("ringer", self.ringer)
        add("button", self._make_touch(settings))
        calling = Calling(settings, session=self.session, sound=self.sound, ringer=self.ringer)
        add("attention", calling)
        add("switch", self._switch)
        add("network", NetworkWatch(settings, self._make_monitor, self._startup.settled))
        add("turns", TurnCounter())
        add("reload", self.reloader)
        add("about", AboutTools(lambda: brief(self.status())))
        add("device", self._make_device_tools())
        add("tools", self.tool_hosts)
        add("requests", self._make_requests())

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> int:
        """Run until asked to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        install_loop_handler(loop, self._journal)
        self._handle_signals(loop)
        async with self._tasks:
            self._switch.begin()
            for name, stage in self.stages:
                self._start(name, stage.run())
            await self._stop_asked.wait()
            self._running["reload"].cancel()
            await self._wind_down()
            self._switch.close()
            for task in self._running.values():
                task.cancel()
        self.store.close()
        self.presenter.close()
        return EXIT_OK

    def stop(self, cause: str) -> None:
        """Ask the daemon to end; a second time changes nothing."""
        if not self._stop_asked.is_set():
            self._stop_cause = cause
            self._stop_asked.set()
            if self._departure:
                self._departure.at_latest()

    def _start(self, name: str, stage: Coroutine[Any, Any, None]) -> None:
        self._running[name] = self._tasks.create_task(stage, name=name)

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self.reloader.ask)

    async def _wind_down(self) -> None:
        self._notifier.stopping()
        self.bus.emit(e.Stopping(cause=self._stop_cause))
        self.sound.close_microphone()
        # A peer that does not answer must not hold up a shutdown; the handle is in the store.
        await self.session.stop(SESSION_STOP_S)

    def status(self) -> dict[str, object]:
        """Return the document of `agentd status --json`."""
        return document(
            self.stages.status(),
            state=self.presenter.derived,
            muted=self.mute.muted,
            uptime_s=self._clock.monotonic() - self._started_s,
        )

    # ── what one stage is given of another ────────────────────────────────────────────────────

    def _show(self, event: e.Event) -> None:
        self.presenter.show(event)

    def _state_changed(self, change: Presentation) -> None:
        if change.after != change.before:
            self._heartbeat.refresh()
            self._control.watchers.publish()

    def _deliver(self, value: e.Downlink) -> None:
        if not isinstance(value, e.TranscriptText):
            self.sound.current.player.hear(value)
            return
        self.sound.hear_text(value)
        self._control.watchers.on_transcript(value)
        if self._parts.on_transcript:
            self._parts.on_transcript(value)

    def _apply_mute(self, muted: bool) -> None:
        # The session first: from here on no byte of audio leaves, whatever is still on its way.
        if muted:
            self.session.mute()
            self.sound.close_microphone()
        else:
            self.session.unmute()
            self.sound.open_microphone()

    def _evidence(self) -> Evidence:
        told_lost = bool(self.presenter.facts.no_microphone)
        return self.sound.evidence(muted=self.mute.muted, told_lost=told_lost)

    async def _find_control(self, audio: Audio) -> VolumeControl:
        return await find_control(audio.playback_device, audio.mixer_control, self._gain)

    # ── building what needs more than a line ──────────────────────────────────────────────────

    def _open_lights(self, settings: Settings) -> Lights:
        make = self._parts.lights
        emit = self.bus.emit
        return make(settings, emit) if make else open_lights(settings.gpio, emit)

    def _make_sound(self, settings: Settings) -> Sound:
        outlets = Outlets(self.bus.emit, self.session.hear, self.session.mark)
        measured = measured_attenuation_db(self.store.read(ECHO_DOCUMENT), settings.audio)
        return Sound(
            settings,
            clock=self._clock,
            outlets=outlets,
            devices=self._parts.devices,
            attenuation_db=measured,
            settled=self._startup.settled,
        )

    def _make_monitor(self, settings: Settings) -> NetworkMonitor:
        return NetworkMonitor(
            NetlinkKernel(),
            clock=self._clock,
            emit=self.bus.emit,
            on_path=self.session.path_changed,
            debounce_ms=settings.network.debounce_ms,
        )

    def _make_sounder(self, settings: Settings) -> Sounder:
        return Sounder(
            settings.sounds,
            clock=self._clock,
            facts=lambda: self.presenter.facts,
            play=self.sound.play,
            hush=self.sound.hush,
        )

    def _make_touch(self, settings: Settings) -> Touch:
        return Touch(
            settings,
            clock=self._clock,
            facts=lambda: self.presenter.facts,
            actions=actions(self.session, self.sound, self.mute, self.ringer),
            emit=self.bus.emit,
        )

    def _make_device_tools(self) -> DeviceTools:
        return DeviceTools(
            self.volume, self.mute, self.ringer, self.session.forget, lambda: self.stages.settings
        )

    def _make_control(self, settings: Settings) -> ControlServer:
        directory = runtime_directory(os.environ, Path.home())
        path = self._parts.control_path or directory / SOCKET_NAME
        return ControlServer(
            path,
            self.stages.methods(),
            clock=self._clock,
            emit=self.bus.emit,
            status=self.status,
            doors={OFFER: self.tool_hosts.door()},
            transcripts=Access(settings.control.transcripts_group),
            guests=(self.tool_hosts.access,),
            doors_at=path.parent.with_name(f"{path.parent.name}-doors"),
        )

    def _make_requests(self) -> Requests:
        return Requests(
            self.status, self.session, self.mute, self.volume, self.ringer, self.reloader
        )


def _take_place(notifier: Notifier) -> Place:
    """Take the directories for this process alone; raise `AlreadyRunning` where one runs."""
    home = Path.home()
    control = runtime_directory(os.environ, home) / SOCKET_NAME
    try:
        return Place.take(state_directory(os.environ, home), control)
    except AlreadyRunning as error:
        notifier.status(str(error))
        raise


def main(arguments: argparse.Namespace) -> int:
    """Run `agentd run`; return the exit status."""
    clock = SystemClock(arguments.time_scale)
    notifier = Notifier.from_environment(os.environ)
    try:
        loaded = load(arguments.config)
    except ConfigError as error:
        notifier.status(f"bad configuration: {error.problems[0]}")
        raise
    with _take_place(notifier):
        return _run(arguments, loaded, clock=clock, notifier=notifier)


def _run(arguments: argparse.Namespace, loaded: Loaded, *, clock: Clock, notifier: Notifier) -> int:
    log = loaded.settings.log
    outlet = choose_outlet(log.format, clock=clock, stream=sys.stderr, environ=os.environ)
    journal = Journal(outlet, clock=clock, level=log.level)
    departure = Departure()
    install(journal)
    faulthandler.enable()  # a starved watchdog aborts us: say where we stood

    async def run() -> int:
        daemon = Daemon(
            loaded,
            journal=journal,
            notifier=notifier,
            clock=clock,
            reload_from=lambda: load(arguments.config),
            departure=departure,
            # What is imported lives as long as the process: 95,000 objects that a collection need
            # not walk through, during which nobody is served (Python's manual, `gc.freeze`).
            parts=Parts(once_settled=gc.freeze),
        )
        departure.say_at_last(journal.close)
        return await daemon.run()

    try:
        # Not asyncio.run, nor closed: that would wait for threads that hang.
        status = asyncio.Runner().run(run())
    except Exception as error:  # noqa: BLE001 - told with its traceback, then systemd restarts us
        journal.put(crash_entry(error, "main"))
        status = EXIT_FAILURE
    departure.now(status)
    return status
