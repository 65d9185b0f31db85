"""Which sound belongs to which moment, and where it comes from.

Earcons say what happened, spoken causes say what is wrong. The chooser is pure; a sound that would
disturb more than it tells is left out:

* Nothing is played while audio leaves the device: it would be heard by the microphone and sent.
* What is wrong is spoken once when it begins, and again when somebody speaks to the device.
* The same sound is not repeated at once, and quiet hours silence everything but alarms.

Sounds go to `Player.sound`, never into the capture path. Without echo cancellation the caller shuts
the voice gate while one plays (`agentd.device.sounder`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path

from agentd import events as e
from agentd.audio import formats
from agentd.audio.resample import resample
from agentd.audio.wav import read_header
from agentd.config.settings import Sounds
from agentd.device.state import Derived, DeviceState, Facts
from agentd.errors import AudioError
from agentd.live.causes import voice_of
from agentd.named_files import FileRefused, open_regular

OWN_CLIPS = Path(__file__).with_name("clips")
DROPPED_CLIPS = Path("/etc/agentd/sounds")  # other languages, other tones

LISTENING, MUTE, UNMUTE, ERROR, READY, TICK = "listening mute unmute error ready tick".split()
TIMER, ALARM = "timer alarm".split()
EARCONS = (LISTENING, MUTE, UNMUTE, ERROR, READY, TICK, TIMER, ALARM)
# The causes of the device state; where that is "refused" or "reconnecting", the clip of what is
# behind it (`agentd.live.causes`). no_speaker is missing: nobody would hear it.
SPOKEN = (
    *("no_network", "reconnecting", "refused", "quota", "no_microphone"),
    *("no_key", "settings", "proxy", "blocked", "clock", "busy"),
    *("muted", "speech_lost"),
)

EARCON_GAP_S = 0.5
SPOKEN_GAP_S = 20.0
LONGEST_S = 30.0  # of a clip that somebody dropped in


@dataclass(frozen=True, slots=True)
class Moment:
    """What happened, and the device state before and after it."""

    event: e.Event
    before: Derived
    after: Derived
    facts: Facts


def choose(moment: Moment) -> tuple[str, ...]:
    """Return the sounds of this moment, to be played one after the other."""
    if moment.facts.uplink or moment.facts.stopping:
        return ()
    begun = _trouble_begun(moment)
    if begun:
        return begun
    rule = _RULES.get(type(moment.event))
    return rule(moment) if rule else ()


def _trouble_begun(moment: Moment) -> tuple[str, ...]:
    after = moment.after
    if (after.state, after.cause) == (moment.before.state, moment.before.cause):
        return ()
    if after.state is DeviceState.FATAL:
        return (ERROR, *_why(moment))
    return ()


def spoken(cause: str) -> tuple[str, ...]:
    """Return the clip that says `cause`, if there is one."""
    return (cause,) if cause in SPOKEN else ()


def _why(moment: Moment) -> tuple[str, ...]:
    """Return the clip that says why the device cannot answer, as particular as it is known."""
    cause, facts = moment.after.cause, moment.facts
    if cause == "refused":
        return spoken(voice_of(facts.refused, "refused"))
    if cause == "reconnecting" and facts.trouble:
        return spoken(voice_of(facts.trouble))
    return spoken(cause)


def _on_heard(moment: Moment) -> tuple[str, ...]:
    """Answer somebody who speaks to a device that cannot answer."""
    event = moment.event
    assert isinstance(event, e.UtteranceHeard)
    cannot = (DeviceState.FATAL, DeviceState.OFFLINE)
    if event.reason is e.EndReason.DISCARDED or moment.after.state not in cannot:
        return ()
    return _why(moment)


def _on_failed(moment: Moment) -> tuple[str, ...]:
    told_by_light = (DeviceState.OFFLINE, DeviceState.FATAL)
    return () if moment.after.state in told_by_light else (ERROR,)


def _on_lost(_moment: Moment) -> tuple[str, ...]:
    return (ERROR, "speech_lost")


def _on_muted(moment: Moment) -> tuple[str, ...]:
    return (MUTE,) if moment.facts.ready else ()  # restored at boot: the light says it


def _on_unmuted(_moment: Moment) -> tuple[str, ...]:
    return (UNMUTE,)


def _on_volume(_moment: Moment) -> tuple[str, ...]:
    return (TICK,)


def _on_ready(moment: Moment) -> tuple[str, ...]:
    return () if moment.after.state in (DeviceState.FATAL, DeviceState.MUTED) else (READY,)


def _on_refused_reload(moment: Moment) -> tuple[str, ...]:
    return (ERROR,) if moment.facts.ready else ()


def _on_button(moment: Moment) -> tuple[str, ...]:
    event = moment.event
    assert isinstance(event, e.ButtonUsed)
    if event.action == "say_muted":
        return ("muted",)
    if event.action == "tell":
        return (spoken("muted") if moment.facts.muted else _why(moment)) or (READY,)
    ready_to_hear = moment.after.state not in (DeviceState.FATAL, DeviceState.OFFLINE)
    if event.action == "talk":
        return (LISTENING,) if ready_to_hear else _why(moment)
    return ()


def _on_wake(moment: Moment) -> tuple[str, ...]:
    """Answer the word with a tone, where the settings want it."""
    event = moment.event
    assert isinstance(event, e.WakeWord)
    return (LISTENING,) if event.tone and not event.stops else ()


_RULES: dict[type[e.Event], Callable[[Moment], tuple[str, ...]]] = {
    e.UtteranceHeard: _on_heard,
    e.TurnFailed: _on_failed,
    e.SpeechLost: _on_lost,
    e.Muted: _on_muted,
    e.Unmuted: _on_unmuted,
    e.VolumeChanged: _on_volume,
    e.Ready: _on_ready,
    e.ConfigRefused: _on_refused_reload,
    e.ButtonUsed: _on_button,
    e.WakeWord: _on_wake,
}


# ── how often, and when not ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Limiter:
    """When each sound was last played; returns what may be played now and its successor."""

    last_s: tuple[tuple[str, float], ...] = ()

    def admit(self, names: Iterable[str], now: float) -> tuple[Limiter, tuple[str, ...]]:
        """Drop what was played a moment ago (earcons) or just said (spoken causes)."""
        last = dict(self.last_s)
        admitted = []
        for name in names:
            gap_s = SPOKEN_GAP_S if name in SPOKEN else EARCON_GAP_S
            if now - last.get(name, float("-inf")) >= gap_s:
                last[name] = now
                admitted.append(name)
        return Limiter(tuple(last.items())), tuple(admitted)


def is_quiet(quiet_hours: str | None, local: time) -> bool:
    """Return whether `local` lies within `quiet_hours` ("22:00-07:00"; may span midnight)."""
    if quiet_hours is None:
        return False
    begin, end = (time.fromisoformat(part) for part in quiet_hours.split("-"))
    if begin <= end:
        return begin <= local < end
    return local >= begin or local < end


def allowed(settings: Sounds, name: str, local: datetime) -> bool:
    """Return whether the settings let `name` be heard now; alarms always are."""
    if name in (ALARM, TIMER):
        return True
    return settings.enabled and not is_quiet(settings.quiet_hours, local.time())


# ── clips ─────────────────────────────────────────────────────────────────────────────────────


class ClipLibrary:
    """WAV files by name and language, as 24 kHz mono int16; those dropped in come first."""

    def __init__(
        self, settings: Sounds, folders: tuple[Path, ...] = (DROPPED_CLIPS, OWN_CLIPS)
    ) -> None:
        self._language = settings.language
        self._gain = formats.gain_of_percent(settings.volume_percent)
        self._folders = folders
        self._clips: dict[str, bytes] = {}

    def clip(self, name: str) -> bytes:
        """Return the sound, empty if there is none. Reads and converts at the first call."""
        if name not in self._clips:
            self._clips[name] = self._load(name)
        return self._clips[name]

    def _load(self, name: str) -> bytes:
        tones = [folder / f"{name}.wav" for folder in self._folders]
        words = [
            folder / language / f"{name}.wav"
            for language in (self._language, "en")
            for folder in self._folders
        ]
        for path in words if name in SPOKEN else tones:
            try:
                pcm = _read(path)
            except (AudioError, OSError, FileRefused) as error:
                if os.path.lexists(path):  # `Path.exists` raises in a folder that is closed to us
                    logging.getLogger(__name__).warning("sound left out: %s", error)
                continue
            gain = 1.0 if name in (ALARM, TIMER) else self._gain
            return formats.amplify(pcm, gain)
        return b""


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        layout = read_header(path)
        most = round(LONGEST_S * layout.rate_hz) * layout.frame_bytes
        file.seek(layout.data_at)
        raw = file.read(min(layout.data_bytes, most))
    raw = raw[: len(raw) // layout.frame_bytes * layout.frame_bytes]
    values = formats.mono(formats.to_int16(raw, layout.width), layout.channels)
    return formats.to_pcm(resample(values, layout.rate_hz, formats.PLAYBACK_RATE_HZ))
