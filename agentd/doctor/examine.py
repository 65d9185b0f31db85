"""The examination: asks every shell, in an order in which one answer explains the next."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentd.audio import formats
from agentd.audio.cards import ASOUND, DeviceInfo, list_devices, pcm_of
from agentd.audio.devices import CaptureDevice, PlaybackDevice, pipe_path, wav_path
from agentd.audio.echo.policy import ECHO_DOCUMENT
from agentd.audio.opening import open_devices
from agentd.audio.wav import read_header
from agentd.clock import Clock, SystemClock
from agentd.config.settings import Audio, Settings
from agentd.device.volume import mixer_device, run_amixer
from agentd.doctor import cards, endpoint, hearing, live, room, sweep, system, wake_words
from agentd.doctor.findings import Finding, Result, fail, ok, skipped
from agentd.errors import AudioError, ControlError
from agentd.live.connection import Connector
from agentd.live.google.connector import GenaiConnector
from agentd.live.toolbox import Toolbox
from agentd.service.client import ControlClient, NotPermitted, socket_path
from agentd.sound import is_half_duplex
from agentd.state.paths import state_directory
from agentd.state.store import StateStore
from agentd.text import counted

SAMPLES, SAMPLE_GAP_S = 8, 0.25

Tell = Callable[[Finding], None]


def find_credentials_for(environ: Mapping[str, str]) -> Connector:
    """Return the real connector, which also looks where the unit's credentials come from.

    The length of a key has been judged before a session is tried.
    """
    from agentd.config.credentials import find_credentials

    env = system.credential_environment(environ)
    find = functools.partial(find_credentials, environ=env, own_endpoint=True)
    return GenaiConnector(Toolbox(), find=find)


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that is looked at; tests replace what a test machine does not have."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home: Path = field(default_factory=Path.home)
    clock: Clock = field(default_factory=SystemClock)
    run: system.Run = system.run_command
    resolve: endpoint.Resolve = endpoint.resolve
    connector: Callable[[Mapping[str, str]], Connector] = find_credentials_for
    devices: Callable[[Audio, Clock], tuple[CaptureDevice, PlaybackDevice]] = open_devices
    choices: Callable[[], Sequence[DeviceInfo]] = list_devices
    asound: Path = ASOUND
    dev_snd: Path = cards.DEV_SND
    proc: Path = cards.PROC
    credstore: Path = system.CREDSTORE
    service_state: Path = system.SERVICE_STATE

    def state_directory(self) -> Path:
        """Return where the state is: the service's if there is one, else the user's."""
        if "STATE_DIRECTORY" not in self.environ and self.service_state.is_dir():
            return self.service_state
        return state_directory(self.environ, self.home)


class Examination:
    """One run of all checks; `tell` hears of each finding as it comes."""

    def __init__(self, settings: Settings, machine: Host, tell: Tell) -> None:
        self._settings = settings
        self._machine = machine
        self._tell = tell
        self.findings: list[Finding] = []

    async def run(self) -> list[Finding]:
        """Look at everything and return what was found."""
        service = await asyncio.to_thread(self._look_at_service)
        self._add(system.judge_service(service))
        self._add(endpoint.judge_clock(self._machine.clock.wall()))
        self._add(await asyncio.to_thread(self._state))
        self._add(await asyncio.to_thread(self._credential))
        if service.status is not None:
            self._add(*await self._sound_of_daemon())
        else:
            self._add(*await self._sound())
            self._add(await asyncio.to_thread(system.check_pins, self._settings.gpio))
        attention = self._settings.attention
        self._add(await asyncio.to_thread(wake_words.check_words, attention, service.status))
        await self._network(service.status)
        return self.findings

    def _add(self, *findings: Finding) -> None:
        for finding in findings:
            self.findings.append(finding)
            self._tell(finding)

    # ── the machine ───────────────────────────────────────────────────────────────────────────

    def _socket(self) -> Path:
        return socket_path(self._machine.environ, self._machine.home)

    def _look_at_service(self) -> system.ServiceFacts:
        unit = system.look_at_unit(self._machine.run)
        try:
            with ControlClient(self._socket(), timeout_s=5.0) as client:
                return system.ServiceFacts(client.call("status"), unit=unit)
        except NotPermitted as error:
            return system.ServiceFacts(None, str(error), not_permitted=True, unit=unit)
        except ControlError as error:
            return system.ServiceFacts(None, str(error), unit=unit)

    def _state(self) -> Finding:
        directory = self._machine.state_directory()
        if directory == self._machine.service_state and not os.access(directory, os.W_OK):
            return skipped("state", f"{directory} is the service's", "Run it as root: `sudo …`")
        return system.judge_state(system.look_at_state(directory))

    def _credential(self) -> Finding:
        machine = self._machine
        backend, own = self._settings.live.backend, endpoint.target_of(self._settings).is_ours
        return system.check_credential(
            backend, machine.environ, machine.credstore, own_endpoint=own
        )

    # ── sound ─────────────────────────────────────────────────────────────────────────────────

    async def _sound_of_daemon(self) -> list[Finding]:
        """Ask the daemon some times; it may be stopping."""

        def look() -> live.Status:
            with ControlClient(self._socket(), timeout_s=5.0) as client:
                status: live.Status = client.call("status")
                return status

        samples = []
        try:
            for _ in range(SAMPLES):
                samples.append(await asyncio.to_thread(look))
                await self._machine.clock.sleep(SAMPLE_GAP_S)
        except ControlError as error:
            return [skipped("microphone", str(error))]
        return live.of_status(samples)

    async def _sound(self) -> list[Finding]:
        audio = self._settings.audio
        capture, playback = self._machine.devices(audio, self._machine.clock)
        files = (wav_path(audio.capture_device), wav_path(audio.playback_device))
        found = await room.listen(
            None if files[0] else capture, None if files[1] else playback, self._machine.clock
        )
        microphone = self._microphone_file(files[0]) if files[0] else self._device(True, found)
        speaker = _speaker_file(files[1]) if files[1] else self._device(False, found)
        works = all(finding.result is Result.OK for finding in (microphone, speaker))
        user = system.user_name()
        facts = cards.look_at_cards(user, self._machine.asound, self._machine.dev_snd)
        return [
            cards.judge_cards(facts, sound_works=works),
            microphone,
            *self._heard(found, is_file=files[0] is not None),
            speaker,
            await self._mixer(),
            await self._echo(found, is_file=any(files)),
        ]

    def _device(self, is_microphone: bool, found: room.Room) -> Finding:
        audio = self._settings.audio
        key = "audio.capture_device" if is_microphone else "audio.playback_device"
        name = audio.capture_device if is_microphone else audio.playback_device
        trouble = found.microphone if is_microphone else found.speaker
        choices: Sequence[DeviceInfo] = ()
        if trouble is not None:
            choices = [c for c in self._choices() if (c.capture if is_microphone else c.playback)]
        held = cards.holders(f"{self._machine.dev_snd}/pcm", self._machine.proc)
        check = "microphone" if is_microphone else "speaker"
        return hearing.judge_device(
            check, key, name, trouble, choices=choices, holders=held if trouble else ()
        )

    def _choices(self) -> Sequence[DeviceInfo]:
        try:
            return self._machine.choices()
        except AudioError:
            return ()

    @staticmethod
    def _microphone_file(path: Path) -> Finding:
        try:
            layout = read_header(path)
        except AudioError as error:
            trouble = room.device_trouble(error)
            return fail("microphone", trouble.cause, trouble.remedy)
        return ok(
            "microphone", f"{path}: {layout.rate_hz} Hz, {counted(layout.channels, 'channel')}"
        )

    def _heard(self, found: room.Room, *, is_file: bool) -> list[Finding]:
        if is_file or found.microphone is not None:
            why = "the microphone is a file" if is_file else "no sound from the microphone"
            return [skipped("level", why), skipped("voice", why)]
        gain = formats.gain_of_db(self._settings.audio.capture_gain_db)
        level = hearing.judge_level(found.quiet, found.other_channel)
        if level.result is Result.FAIL:
            return [level, skipped("voice", "not before the level is right")]
        return [level, hearing.judge_voice(found.quiet, self._settings.vad, gain)]

    async def _mixer(self) -> Finding:
        audio = self._settings.audio
        if wav_path(audio.playback_device) or pipe_path(audio.playback_device):
            return skipped("mixer", "the speaker is no sound card")
        device = mixer_device(pcm_of(audio.playback_device, self._machine.asound))
        microphone = mixer_device(pcm_of(audio.capture_device, self._machine.asound))
        finding = cards.judge_mixer(
            await _scontents(device),
            device=device,
            wanted=audio.mixer_control,
            capture_device=microphone,
        )
        if (
            finding.result is Result.OK
            and microphone != device
            and not audio.capture_device.startswith(("file:", "pipe:"))
        ):
            listing = await _scontents(microphone)
            trouble = cards.judge_capture_mixer(listing, microphone) if listing else None
            return trouble or finding
        return finding

    async def _echo(self, found: room.Room, *, is_file: bool) -> Finding:
        if is_file or found.microphone is not None or found.speaker is not None:
            why = "files share no air" if is_file else "it takes microphone and speaker"
            return skipped("echo", why)
        audio = self._settings.audio
        heard = map(formats.samples, found.after_sweeps)
        echo = sweep.loudest(await asyncio.to_thread(lambda: [sweep.find(one) for one in heard]))
        half_duplex = is_half_duplex(audio)
        cancels = not half_duplex and audio.echo_cancellation in ("auto", "on")
        finding = hearing.judge_echo(
            echo,
            audio,
            cancels=cancels,
            half_duplex=half_duplex,
            installed=importlib.util.find_spec("pywebrtc_audio") is not None,
        )
        if echo.heard:
            self._keep_echo(echo)
        return finding

    def _keep_echo(self, echo: sweep.Echo) -> None:
        """Write the measurement down, where `audio.echo_cancellation = "auto"` may look."""
        audio, wall = self._settings.audio, self._machine.clock.wall()
        directory = self._machine.state_directory()
        if not os.access(directory, os.W_OK):
            return
        store = StateStore(directory, clock=self._machine.clock, emit=lambda _event: None)
        store.write(
            ECHO_DOCUMENT,
            {
                "attenuation_db": round(echo.attenuation_db, 1),
                "delay_ms": round(echo.delay_ms, 1),
                "capture_device": audio.capture_device,
                "playback_device": audio.playback_device,
                "at_unix_s": round(wall.unix_s),
            },
        )
        store.close()

    # ── network ───────────────────────────────────────────────────────────────────────────────

    async def _network(self, status: live.Status | None) -> None:
        settings, wall = self._settings, self._machine.clock.wall()
        target = endpoint.target_of(settings)
        environment = endpoint.check_environment(settings)
        self._add(*environment)
        blocked = next((one for one in environment if one.result is Result.FAIL), None)
        if blocked is not None:
            self._add(
                *(
                    skipped(check, f"not tried, because of {blocked.check}")
                    for check in ("dns", "tls")
                    if check != blocked.check
                )
            )
        elif endpoint.proxy_for(target).url:
            self._add(skipped("dns", "the proxy does that"), skipped("tls", "through the proxy"))
        else:
            blocked = await self._path(target)
            if blocked is not None and blocked.check == "dns":
                self._add(skipped("tls", "not tried without an address"))
        if blocked is not None:
            self._add(endpoint.without_session(blocked))
            return
        told = live.session_of_status(status) if status is not None else None
        credential = next(f for f in self.findings if f.check == "credential")
        if told is not None:
            self._add(told)
        elif credential.result in (Result.FAIL, Result.SKIPPED):
            self._add(endpoint.without_session(credential))
        else:
            connector = self._machine.connector(self._machine.environ)
            self._add(await endpoint.check_session(settings, connector, wall))

    async def _path(self, target: endpoint.Target) -> Finding | None:
        """Look at name and certificate; return what stands in the way."""
        name = await endpoint.check_name(target, self._machine.resolve)
        self._add(name)
        if name.result is Result.FAIL:
            return name
        certificate = await self._handshake(target)
        self._add(certificate)
        return certificate if certificate.result is Result.FAIL else None

    async def _handshake(self, target: endpoint.Target) -> Finding:
        found = await endpoint.shake_hands(target)
        return endpoint.judge_handshake(target, found, self._machine.clock.wall())


def _speaker_file(path: Path) -> Finding:
    if not os.access(path.parent, os.W_OK):
        return fail(
            "speaker", f"{path} cannot be written", f"Create {path.parent} and let agentd write it"
        )
    return ok("speaker", f"{path} is a file")


async def _scontents(device: str) -> str | None:
    try:
        return await run_amixer("-D", device, "scontents")
    except AudioError:
        return None
