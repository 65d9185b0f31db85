"""The composition root: builds the stages, owns the only TaskGroup, and stops them in order.

    Sound: microphone ─► gate ─speech─► LiveSession ─reply─► Sound: speaker
                                          ▲  ▲   │                   │
                             NetworkMonitor  │   └ events ► emit     │
                                             └───────── marks ───────┘

Every event goes through `emit`, in this order: the light first (it must tell the truth before the
first byte leaves), then the journal, then everybody else.
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

from agentd import __version__
from agentd import events as e
from agentd.audio.devices import CaptureDevice, PlaybackDevice
from agentd.audio.echo.policy import ECHO_DOCUMENT, measured_attenuation_db
from agentd.clock import Clock, SystemClock
from agentd.config.files import Loaded, load
from agentd.config.settings import Settings
from agentd.device.button import Button, Contact
from agentd.device.gestures import ButtonAction
from agentd.device.leds import Lights, NoLights, open_lights
from agentd.device.mute import Mute
from agentd.device.presenter import Presentation, Presenter
from agentd.device.ringer import Ringer
from agentd.device.sounder import Sounder
from agentd.device.volume import SoftwareVolume, Volume, find_control
from agentd.errors import EXIT_FAILURE, EXIT_OK, AlreadyRunning, ConfigError
from agentd.live.connection import Connector
from agentd.live.google.connector import GenaiConnector
from agentd.live.session import LiveSession
from agentd.live.toolbox import Toolbox, builtin_tools
from agentd.methods import methods
from agentd.net.kernel import NetlinkKernel
from agentd.net.monitor import NetworkMonitor
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
from agentd.service.statustext import status_sentence
from agentd.service.watchdog import Evidence
from agentd.sound import Outlets, Sound
from agentd.stage import Absent, Slot, Stage
from agentd.state.paths import runtime_directory, state_directory
from agentd.state.store import StateStore
from agentd.status import NetworkLog, TurnLog, snapshot
from agentd.tools.device import DeviceTools
from agentd.waiting import wait_for_event

SESSION_STOP_S = 2.0  # for the goodbye, even with a dead peer; see `departure.LATEST_S`
SETTLE_S = 10.0  # the first connection has had its chance


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
    once_settled: Callable[[], None] | None = None  # when all is imported and the first dial over


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
        self._settings = loaded.settings
        self._journal = journal
        self._notifier = notifier
        self._clock = clock
        self._reload_from = reload_from
        self._parts = parts or Parts()
        self._started_s = clock.monotonic()
        self._turns = TurnLog()
        self._network = NetworkLog()
        self._stop_asked = asyncio.Event()
        self._stop_cause = ""
        self._microphone_told = asyncio.Event()
        self._dialled = asyncio.Event()  # the first dial has come to something
        self._observers: list[e.Emit] = []
        self._store = StateStore(
            self._parts.state_directory or state_directory(os.environ, Path.home()),
            clock=clock,
            emit=self.emit,
        )
        self._departure = departure
        if departure:
            departure.say_at_last(self._store.close)
        self._presenter = Presenter(
            clock=clock,
            lights=NoLights(),
            emit=self.emit,
            brightness=_brightness(self._settings),
        )
        self._tasks = asyncio.TaskGroup()
        self._stages: set[asyncio.Task[None]] = set()
        self._toolbox = Toolbox()
        self.session = LiveSession(
            self._settings,
            clock=clock,
            connector=self._parts.connector or GenaiConnector(self._toolbox),
            store=self._store,
            emit=self.emit,
            deliver=self._deliver,
            toolbox=self._toolbox,
            random=random.random,
        )
        self._sounds = Slot(self._make_sound(self._settings), self._sound_begins)
        self._mute = Mute(store=self._store, emit=self.emit, apply=self._apply_mute)
        self.ringer = Ringer(clock=clock, store=self._store, emit=self.emit)
        software = SoftwareVolume(self._set_software_volume)
        self._software_volume = software
        self.volume = Volume(
            control=software,
            fallback=software,
            store=self._store,
            emit=self.emit,
            default_percent=self._settings.audio.volume_percent,
            clock=clock,
        )
        self._button = Slot(self._make_button(self._settings))
        self._switch: Contact | None = None
        self._monitor = Slot[Stage](self._make_monitor(self._settings))
        self._reloader = Reloader(
            self._load_again, self._take_into_use, notifier=notifier, emit=self.emit
        )
        self._sounder = Sounder(
            self._settings.sounds,
            clock=clock,
            facts=lambda: self._presenter.facts,
            play=self._play_sound,
            hush=self._hush,
        )
        if self._settings.tools.enabled:
            device = DeviceTools(
                self.volume, self._mute, self.ringer, self.session.forget, lambda: self._settings
            )
            for tool in (*builtin_tools(self.brief_status), *device.tools()):
                self._toolbox.add(tool)
        self._heartbeat = Heartbeat(
            notifier,
            clock=clock,
            emit=self.emit,
            evidence=self._evidence,
            sentence=lambda: status_sentence(self.status()),
        )
        self._transcripts = Access(self._settings.control.transcripts_group)
        control = (
            self._parts.control_path or runtime_directory(os.environ, Path.home()) / SOCKET_NAME
        )
        self._control = ControlServer(
            control,
            methods(self),
            clock=clock,
            emit=self.emit,
            status=self.status,
            transcripts=self._transcripts,
            doors_at=control.parent.with_name(f"{control.parent.name}-doors"),
        )
        self._presenter.observe(self._state_changed)
        self._observers = [
            self._sound_hears,
            self._sounder.on_event,
            self._control.watchers.on_event,
            *self._parts.observers,
        ]
        # Last: a pin that cannot be had is an event, which everything above may hear.
        self._use_lights(self._settings)

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> int:
        """Run until asked to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        install_loop_handler(loop, self._journal)
        self._handle_signals(loop)
        async with self._tasks:
            self._switch = self._watch_switch(self._settings)
            self._mute.start(self._switch.closed_contact if self._switch else None)
            # Hearing comes first: words spoken while the rest still loads are in the pre-roll.
            self._start("sound", self._sounds.run())
            self._start("ready", self._become_ready())
            self._start("lights", self._presenter.run())
            self._start("state", self._store.run())
            self._start("session", self.session.run())
            self._start("heartbeat", self._heartbeat.run())
            self._start("mixer", self._use_mixer(self._settings))
            self._start("volume", self.volume.run())
            self._start("sounds", self._sounder.run())
            self._start("ringer", self.ringer.run())
            self._start("control", self._control.run())
            self._start("button", self._button.run())
            self._start("network", self._watch_network())
            self._start("settle", self._settle())
            reloads = self._start("reload", self._reloader.run())
            await self._stop_asked.wait()
            reloads.cancel()
            await self._wind_down()
            if self._switch:
                self._switch.close()
            for stage in list(self._stages):
                stage.cancel()
        self._store.close()
        self._presenter.close()
        return EXIT_OK

    def stop(self, cause: str) -> None:
        """Ask the daemon to end; a second time changes nothing."""
        if not self._stop_asked.is_set():
            self._stop_cause = cause
            self._stop_asked.set()
            if self._departure:
                self._departure.at_latest()

    def _start(self, name: str, stage: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(stage, name=name)
        self._stages.add(task)
        task.add_done_callback(self._stages.discard)
        return task

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.ask)

    async def _become_ready(self) -> None:
        """Notify systemd once the microphone works, is reported missing, or is closed by a mute."""
        if not self._mute.muted:
            await self._microphone_told.wait()
        live = self._settings.live
        self.emit(e.Ready(version=__version__, backend=live.backend, model=live.model))
        self._notifier.ready()

    async def _wind_down(self) -> None:
        self._notifier.stopping()
        self.emit(e.Stopping(cause=self._stop_cause))
        self._sound.close_microphone()
        # A peer that does not answer must not hold up a shutdown; the handle is in the store.
        await self.session.stop(SESSION_STOP_S)

    # ── events ────────────────────────────────────────────────────────────────────────────────

    def emit(self, event: e.Event) -> None:
        """Let everybody know: the light first, then the journal, then the others."""
        self._presenter.on_event(event)
        self._journal(event)
        self._turns = self._turns.after(event)
        self._network = self._network.after(event)
        if isinstance(event, e.CaptureBack | e.CaptureLost | e.Muted):
            self._microphone_told.set()
        if isinstance(event, e.SessionFresh | e.Resumed | e.Disconnected):
            self._dialled.set()
        for observer in self._observers:
            observer(event)

    @property
    def _sound(self) -> Sound:
        """Return the one that runs; another one after a reload, so nobody else may keep it."""
        return self._sounds.current

    def _sound_begins(self, sound: Sound) -> None:
        # Mute and stop may have come while the one before was closing.
        if self._mute.muted or self._stop_asked.is_set():
            sound.close_microphone()

    def _play_sound(self, pcm: bytes) -> None:
        self._sound.play(pcm)

    def _hush(self) -> None:
        self._sound.hush()

    def _set_software_volume(self, percent: int) -> None:
        self._sound.player.set_volume(percent)

    def _sound_hears(self, event: e.Event) -> None:
        self._sound.on_event(event)
        leaving = self._stop_asked.is_set()
        if isinstance(event, e.PlaybackBack) and self.volume.fell_back and not leaving:
            self._start("mixer", self._use_mixer(self._settings))  # the card may have one again

    def _state_changed(self, change: Presentation) -> None:
        if change.after != change.before:
            self._heartbeat.refresh()
            self._control.watchers.publish()

    def _deliver(self, value: e.Downlink) -> None:
        if isinstance(value, e.TranscriptText):
            self._control.watchers.on_transcript(value)
            if self._parts.on_transcript:
                self._parts.on_transcript(value)
        else:
            self._sound.player.hear(value)

    def _evidence(self) -> Evidence:
        capture = self._sound.capture
        return Evidence(
            capture.frames,
            muted=self._mute.muted,
            told_lost=bool(self._presenter.facts.no_microphone),
            wedged=capture.wedged,
        )

    # ── what people ask for ───────────────────────────────────────────────────────────────────

    def status(self) -> dict[str, object]:
        """Return the document of `agentd status --json`."""
        return snapshot(
            state=self._presenter.derived,
            muted=self._mute.muted,
            session=self.session.status(),
            capture=self._sound.capture,
            playback=self._sound.playback,
            echo=self._sound.echo_status,
            network=self._network,
            turns=self._turns,
            uptime_s=self._clock.monotonic() - self._started_s,
        )

    def brief_status(self) -> dict[str, object]:
        """Return what the model may tell about this device."""
        return {
            "state": self._presenter.state.value,
            "muted": self._mute.muted,
            "volume_percent": self.volume.percent,
            "network": self._network.interface or "unknown",
            "uptime_s": round(self._clock.monotonic() - self._started_s),
        }

    @property
    def level_dbfs(self) -> float:
        """Return the level of the newest microphone frame."""
        return self._sound.capture.level_dbfs

    def set_mute(self, mute: bool, *, by: str) -> str:
        """Mute or unmute; return an empty text, or why not."""
        return self._mute.ask(mute, by=by)

    def _apply_mute(self, muted: bool) -> None:
        # The session first: from here on no byte of audio leaves, whatever is still on its way.
        if muted:
            self.session.mute()
            self._sound.close_microphone()
        else:
            self.session.unmute()
            self._sound.open_microphone()

    def _pressed(self, action: ButtonAction) -> None:
        match action:
            case ButtonAction.STOP_REPLY:
                self.session.cancel_reply("button")
            case ButtonAction.MUTE | ButtonAction.UNMUTE:
                self._mute.ask(action is ButtonAction.MUTE, by="button")
            case ButtonAction.SILENCE:
                self.ringer.silence("button")
            case ButtonAction.CONFIRM:
                self.session.confirm()
            case ButtonAction.TALK:
                self.session.wake()
            case ButtonAction.TALK_BEGIN:
                self.session.wake()
                self.session.cancel_reply("button")
                self._sound.hold()
            case ButtonAction.TALK_END:
                self._sound.release()
            case ButtonAction.TELL | ButtonAction.SAY_MUTED:
                pass  # the event itself makes the sounds

    # ── reload ────────────────────────────────────────────────────────────────────────────────

    async def reload(self) -> str:
        """Take a changed configuration into use as a whole, or refuse it as a whole.

        Returns an empty text, or the problems.
        """
        if self._reload_from is None:
            return "this daemon has no configuration file"
        return await self._reloader.ask()

    def _load_again(self) -> Loaded:
        return self._reload_from() if self._reload_from else Loaded(self._settings, ())

    async def _take_into_use(self, settings: Settings) -> None:
        before = self._settings
        changed = [
            name
            for name in type(settings).model_fields
            if getattr(settings, name) != getattr(before, name)
        ]
        another_mode = settings.gpio.button_mode != before.gpio.button_mode
        # What may fail is built before anything is changed.
        replaces_sound = bool({"audio", "vad"} & set(changed)) or another_mode
        sound = self._make_sound(settings) if replaces_sound else None
        self._settings = settings
        how = await self.session.reload(settings)
        if sound:
            self._sound.cut()
            await self._sounds.replace(sound)
            await self._use_mixer(settings)
        if "sounds" in changed:
            self._sounder.replace_settings(settings.sounds)
        if "gpio" in changed:
            self._use_lights(settings)
            await self._button.replace(self._make_button(settings))
            self._use_switch(before, settings)
        if "network" in changed:
            await self._monitor.replace(self._make_monitor(settings))
        if "control" in changed:
            self._transcripts.use(settings.control.transcripts_group)
        if "log" in changed:
            self._journal.set_level(settings.log.level)
        self.emit(e.Reloaded(changed=", ".join(changed) or "nothing", how=how))

    def _use_switch(self, before: Settings, settings: Settings) -> None:
        old, new = before.gpio, settings.gpio
        if (old.mute_switch, old.chip) == (new.mute_switch, new.chip):
            return
        if self._switch:
            self._switch.close()
        self._switch = self._watch_switch(settings)
        self._mute.fit(self._switch.closed_contact if self._switch else None)

    # ── building ──────────────────────────────────────────────────────────────────────────────

    def _use_lights(self, settings: Settings) -> None:
        self._presenter.set_lights(lambda: self._open_lights(settings), _brightness(settings))

    def _open_lights(self, settings: Settings) -> Lights:
        make = self._parts.lights
        return make(settings, self.emit) if make else open_lights(settings.gpio, self.emit)

    async def _use_mixer(self, settings: Settings) -> None:
        audio = settings.audio
        await self.volume.use(
            lambda: find_control(audio.playback_device, audio.mixer_control, self._software_volume)
        )

    def _make_sound(self, settings: Settings) -> Sound:
        outlets = Outlets(self.emit, self.session.hear, self.session.mark)
        measured = measured_attenuation_db(self._store.read(ECHO_DOCUMENT), settings.audio)
        return Sound(
            settings,
            clock=self._clock,
            outlets=outlets,
            devices=self._parts.devices,
            attenuation_db=measured,
            settled=self._settled,
        )

    async def _settled(self) -> None:
        """Wait until the first dial is over: what is slow to import would only hold it up."""
        await wait_for_event(self._dialled, self._clock, SETTLE_S)

    async def _settle(self) -> None:
        await self._settled()
        if self._parts.once_settled:
            self._parts.once_settled()

    async def _watch_network(self) -> None:
        await self._settled()
        await self._monitor.run()

    def _make_monitor(self, settings: Settings) -> Stage:
        if not settings.network.monitor:
            return Absent()
        return NetworkMonitor(
            NetlinkKernel(),
            clock=self._clock,
            emit=self.emit,
            on_path=self.session.path_changed,
            debounce_ms=settings.network.debounce_ms,
        )

    def _make_button(self, settings: Settings) -> Button:
        return Button(
            settings.gpio,
            clock=self._clock,
            facts=lambda: self._presenter.facts,
            act=self._pressed,
            emit=self.emit,
        )

    def _watch_switch(self, settings: Settings) -> Contact | None:
        pin = settings.gpio.mute_switch
        if pin is None:
            return None
        return Contact(
            "mute_switch",
            pin,
            chip=settings.gpio.chip,
            clock=self._clock,
            loop=asyncio.get_running_loop(),
            on_edge=self._mute.on_switch,
            emit=self.emit,
        )


def _brightness(settings: Settings) -> float:
    return settings.gpio.brightness_percent / 100


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
