"""Volume: the card's own control where there is one, else the gain of the player.

The card is asked through `amixer` (alsa-utils): it changes a few times a day, so a program that is
started then and gone again costs less than a mixer library that stays loaded (pyalsaaudio has no
wheels and would have to be compiled). `-M` maps per cent to loudness as the ear has it.

The percentage is what the user set and is remembered; a card that was turned by hand is read back
by nobody, it simply stays as it is until the next change.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from agentd.audio.cards import pcm_of
from agentd.clock import Clock
from agentd.config.settings import Audio, Settings
from agentd.device.guarded import STEP_PERCENT
from agentd.device.mute import MuteStore
from agentd.errors import AudioError
from agentd.events import Emit, Event, PlaybackBack, VolumeChanged
from agentd.stage import Stage

DOCUMENT = "volume"
AMIXER_TIMEOUT_S = 3.0
RETRY_S = 5.0  # for a program that could not be started: too many processes, too little memory

# The usual names of a playback control, the most general first.
USUAL_CONTROLS = (
    *("Master", "PCM", "Speaker", "Headphone", "Playback", "Digital", "Line Out", "HDMI"),
    *("Headset", "Speaker Digital", "Analogue", "DAC"),
)

Run = Callable[..., Awaitable[str]]

_TRANSIENT = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


class MixerBusy(AudioError):
    """The mixer could not be asked for lack of processes, memory or files; it is tried again."""


class VolumeControl(Protocol):
    """Something that makes the device louder or softer."""

    async def set_percent(self, percent: int) -> None:
        """Set the volume, 0 to 100.

        Raises:
            AudioError: it cannot be set; says why and what to do.
        """


class SoftwareVolume:
    """The gain of the player; works with every card."""

    def __init__(self, set_volume: Callable[[int], None]) -> None:
        self._set_volume = set_volume

    async def set_percent(self, percent: int) -> None:
        """Set the player's volume."""
        self._set_volume(percent)


class MixerVolume:
    """A control of an ALSA card; `device` is what `amixer -D` takes."""

    def __init__(self, device: str, control: str, run: Run | None = None) -> None:
        self.device = device
        self.control = control
        self._run = run or run_amixer

    async def set_percent(self, percent: int) -> None:
        """Set the control, and unmute it if it has a switch."""
        name = f"{self.control},0" if "," not in self.control else self.control
        command = ("-q", "-M", "-D", self.device, "sset", name, f"{percent}%")
        try:
            await self._run(*command, "unmute")
        except MixerBusy:
            raise
        except AudioError:
            await self._run(*command)


async def run_amixer(*arguments: str) -> str:
    """Run amixer and return what it printed.

    Raises:
        AudioError: it is not installed, refuses, or hangs.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "amixer",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        if error.errno in _TRANSIENT:
            raise MixerBusy(f"amixer: {error.strerror}. See what else runs: `ps ax`") from error
        raise AudioError(f"amixer: {error.strerror}. Install alsa-utils") from error
    try:
        async with asyncio.timeout(AMIXER_TIMEOUT_S):
            out, complaint = await process.communicate()
    except TimeoutError as error:
        raise AudioError("amixer does not answer. Unplug the card and plug it in again") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        first = complaint.decode(errors="replace").strip().partition("\n")[0]
        raise AudioError(f"{first or 'amixer failed'}. `amixer scontrols` lists the controls")
    return out.decode(errors="replace")


def mixer_device(pcm: str) -> str:
    """Return what `amixer -D` takes for the mixer of an ALSA PCM."""
    if found := re.search(r"CARD=([^,]+)", pcm):
        return f"hw:{found[1]}"
    if found := re.fullmatch(r"(?:plug)?hw:(\w+)(?:,\d+)*", pcm):
        return f"hw:{found[1]}"
    return pcm


def playback_controls(scontents: str) -> list[str]:
    """Return the names of the controls with a playback volume in the output of `amixer scontents`.

    A control has one if its capabilities name `pvolume`, or `volume` for both directions.
    """
    names = []
    name = ""
    for line in scontents.splitlines():
        if found := re.match(r"Simple mixer control '(.+)',(\d+)", line):
            name = found[1] if found[2] == "0" else ""
        elif name and (found := re.match(r"\s+Capabilities:(.*)", line)):
            words = set(found[1].split())
            if words & {"pvolume", "volume", "pvolume-joined", "volume-joined"}:
                names.append(name)
    return names


def best_control(names: Iterable[str]) -> str | None:
    """Return the control that governs most of what is heard."""
    names = list(names)
    known = [name for name in USUAL_CONTROLS if name in names]
    return known[0] if known else next(iter(names), None)


async def find_control(
    pcm: str, wanted: str, software: SoftwareVolume, run: Run | None = None
) -> VolumeControl:
    """Return the control to use: `wanted` is "auto", "software" or the name of a control.

    With "auto" a card that has no control, or cannot be asked, gets the software volume.

    Raises:
        MixerBusy: it cannot be asked just now.
    """
    device = None if pcm.startswith(("file:", "pipe:")) else mixer_device(pcm_of(pcm))
    if wanted == "software" or device is None:
        return software
    control: str | None = wanted
    if wanted == "auto":
        try:
            listing = await (run or run_amixer)("-D", device, "scontents")
        except MixerBusy:
            raise
        except AudioError:
            return software
        control = best_control(playback_controls(listing))
    if control is None:
        return software
    await software.set_percent(100)  # one knob, not two in a row
    return MixerVolume(device, control, run)


class Volume(Stage):
    """The owner of the volume: clamps, remembers, reports.

    Of changes that come while the card is being asked only the last one is brought to it: there is
    one mixer program at a time.
    """

    def __init__(
        self,
        audio: Audio,
        *,
        find: Callable[[Audio], Awaitable[VolumeControl]],
        fallback: VolumeControl,
        store: MuteStore,
        emit: Emit,
        clock: Clock,
    ) -> None:
        """Prepare; `find` looks for the control of the card, and `fallback` always works."""
        self._audio = audio
        self._find = find
        self._control = self._fallback = fallback
        self._store = store
        self._emit = emit
        self._clock = clock
        saved = (store.read(DOCUMENT) or {}).get("percent")
        known = isinstance(saved, int) and not isinstance(saved, bool)
        self._percent = clamp(saved if isinstance(saved, int) and known else audio.volume_percent)
        self._searches, self._searched = 1, 0  # for a control: asked for, done
        self._turn = asyncio.Lock()
        self._wanted = self._brought = 0  # changes, counted
        self._again = asyncio.Event()
        self._again_in_s = 0.0
        self.fell_back = False
        """Whether the card's control has refused, so that the fallback is used in its place."""

    @property
    def percent(self) -> int:
        """Return what was set last."""
        return self._percent

    async def run(self) -> None:
        """Look for the control, and again when that is worth a try, until cancelled."""
        await self._apply()
        while True:
            await self._again.wait()
            self._again.clear()
            await self._clock.sleep(self._again_in_s)
            await self._apply()

    async def configure(self, settings: Settings) -> str:
        """Look for another control, and bring it to the same volume."""
        if settings.audio != self._audio:
            self._audio = settings.audio
            self._searches += 1
            await self._apply()
        return ""

    def on_event(self, event: Event) -> None:
        """Look again when the speaker is back: the card may have a control again."""
        if isinstance(event, PlaybackBack) and self.fell_back:
            self._searches += 1
            self._try_again(0.0)

    def status(self) -> object:
        """Return the `volume` part of the status."""
        return {"percent": self._percent}

    async def set(self, percent: int, *, by: str) -> int:
        """Set, remember and report the volume; return what it is now, 0 to 100."""
        self._percent = clamp(percent)
        self._store.write(DOCUMENT, {"percent": self._percent})
        self._emit(VolumeChanged(percent=self._percent, by=by))
        await self._apply()
        return self._percent

    async def step(self, steps: int, *, by: str) -> int:
        """Turn by `steps` of `STEP_PERCENT`."""
        return await self.set(self._percent + steps * STEP_PERCENT, by=by)

    async def _apply(self) -> None:
        self._wanted += 1
        mine = self._wanted
        async with self._turn:
            if self._brought >= mine:
                return  # somebody else has brought it along
            newest = self._wanted
            try:
                await self._bring()
            except MixerBusy:
                self._try_again(RETRY_S)
                return
            self._brought = newest

    def _try_again(self, in_s: float) -> None:
        self._again_in_s = in_s
        self._again.set()

    async def _bring(self) -> None:
        searches = self._searches
        try:
            if searches != self._searched:
                self._control = await self._find(self._audio)
                self.fell_back = False
            await self._control.set_percent(self._percent)
        except MixerBusy:
            raise
        except AudioError:
            # The card's control is gone or refuses; the player's gain still works.
            self._control, self.fell_back = self._fallback, True
            await self._control.set_percent(self._percent)
        self._searched = searches


def clamp(percent: int) -> int:
    """Return `percent` within 0 to 100."""
    return max(0, min(100, percent))
