"""Judges what the room experiment brought: devices, level, voice detection, echo.

Pure but for the voice detector, which is asked.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from agentd.audio import flatline, formats
from agentd.audio.cards import DeviceInfo
from agentd.audio.offset import OffsetFilter
from agentd.config.settings import Audio, Vad
from agentd.doctor.findings import Finding, fail, ok, skipped, warn
from agentd.doctor.live import OFFSET_PERCENT
from agentd.doctor.room import RoomTrouble
from agentd.doctor.sweep import Echo
from agentd.events import Frame, Speech, UtteranceEnded, UtteranceStarted
from agentd.vad.listener import Listener

QUIET_DBFS = -80.0  # a microphone in a silent room with its gain well set gives more
CLIPPED = formats.FULL_SCALE - 8
CLIPPED_SHARE = 0.0005
LARGE_OFFSET_PERCENT = 20.0  # takes 2 dB of the headroom, and says that something is wrong
LOUD_ECHO_DB = 30.0  # less attenuation than this and a reply can open the gate
STEADY_SHARE = 0.9

# PCMs that ALSA's plugins list on every machine; none of them leads to a card.
_PLUGINS = frozenset(
    {"null", "jack", "oss", "pulse", "speex", "upmix", "vdownmix", "a52"}
    | {"lavrate", "samplerate", "speexrate"}
)


def judge_device(
    check: str,
    key: str,
    name: str,
    trouble: RoomTrouble | None,
    *,
    choices: Sequence[DeviceInfo] = (),
    holders: Sequence[str] = (),
) -> Finding:
    """Judge whether a device could be opened and ran."""
    if trouble is None:
        return ok(check, f"{name} works")
    if trouble.busy:
        who = f": {'; '.join(holders)}" if holders else " (run the doctor as root to see by whom)"
        remedy = (
            f'Stop {holders[0].partition(" ")[0]}, or share the card: {key} = "default"'
            if holders
            else trouble.remedy
        )
        return fail(check, f"{name} is held by another program{who}", remedy)
    suggestion = suggest(name, choices)
    missing = "is not there" in trouble.cause
    if missing and suggestion:
        return fail(check, trouble.cause, f'Set {key} = "{suggestion}" in agentd.toml')
    return fail(check, trouble.cause, trouble.remedy)


def suggest(name: str, choices: Sequence[DeviceInfo]) -> str:
    """Return the name that was probably meant, else the first card, else nothing."""
    names = [choice.name for choice in choices if choice.name not in (*_PLUGINS, name)]
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return close[0]
    cards = [choice for choice in names if ":" not in choice and choice != "default"]
    return cards[0] if cards else ("default" if "default" in names else "")


def judge_level(pcm: bytes, other_channel: int | None = None) -> Finding:
    """Judge level, clipping and constant offset of what a room sounds like.

    `other_channel` is one that has sound while the chosen one has none.
    """
    values = formats.samples(pcm)
    if not values:
        return skipped("level", "nothing was recorded")
    if flatline.is_flat(pcm):
        return _no_sound(values[0], other_channel)
    offset = sum(values) / len(values)
    percent = 100.0 * offset / formats.FULL_SCALE
    level = formats.dbfs(math.dist(values, [offset] * len(values)) / math.sqrt(len(values)))
    share = sum(abs(value) >= CLIPPED for value in values) / len(values)
    figures = {
        "level_dbfs": round(level, 1),
        "clipped_share": round(share, 5),
        "offset_percent": round(percent, 2),
    }
    beside = f"; its constant offset of {percent:.1f} % is taken out"
    if abs(percent) < OFFSET_PERCENT:
        beside = ""
    if share > CLIPPED_SHARE:
        return fail(
            "level",
            f"the microphone clips ({share:.1%} of the samples at full scale){beside}",
            "Lower its capture volume by 10 dB or more (`alsamixer -V capture`)",
            **figures,
        )
    if abs(percent) >= LARGE_OFFSET_PERCENT:
        return warn(
            "level",
            f"the microphone has a constant offset of {percent:.0f} % of full scale",
            "agentd takes it out, but loud speech clips: check the microphone's wiring and supply, "
            "or lower its capture volume (`alsamixer -V capture`)",
            **figures,
        )
    if level < QUIET_DBFS:
        return warn(
            "level",
            f"the microphone is very quiet ({level:.0f} dBFS){beside}",
            "Raise its capture volume (`alsamixer -V capture`), or audio.capture_gain_db",
            **figures,
        )
    return ok("level", f"the room is at {level:.0f} dBFS, no clipping{beside}", **figures)


def _no_sound(value: int, other_channel: int | None) -> Finding:
    found = flatline.trouble_of(value, other_channel)
    cause = found.cause.replace("it delivers", "the microphone delivers")
    percent = round(100.0 * value / formats.FULL_SCALE, 2)
    return fail(
        "level", cause, found.remedy, level_dbfs=formats.SILENCE_DBFS, offset_percent=percent
    )


def judge_voice(pcm: bytes, settings: Vad, gain: float = 1.0) -> Finding:
    """Let the real gate hear the room, and judge whether noise would hold it open."""
    heard: list[Speech] = []
    listener = Listener(settings, emit=lambda _event: None, on_speech=heard.append)
    clean = OffsetFilter()
    opened = 0
    frames = len(pcm) // formats.FRAME_BYTES
    for index in range(frames):
        piece = pcm[index * formats.FRAME_BYTES : (index + 1) * formats.FRAME_BYTES]
        piece = formats.amplify(clean.clean(piece), gain)
        listener.hear(Frame(index, index * formats.FRAME_S, piece))
        opened += listener.is_open
    begun = sum(isinstance(value, UtteranceStarted) for value in heard)
    ended = sum(isinstance(value, UtteranceEnded) for value in heard)
    figures = {"utterances": begun, "open_share": round(opened / max(1, frames), 2)}
    if frames and begun == 1 and not ended and opened / frames > STEADY_SHARE:
        floor = round(formats.level_dbfs(formats.amplify(pcm, gain))) + 6
        return warn(
            "voice",
            "sound held the gate open all the time: speech, music, or a steady noise",
            f"If it is noise: set vad.level_floor_dbfs = {min(-10, floor)}; then run this again",
            **figures,
        )
    if listener.warning and settings.detector != "auto":
        cause, _, remedy = listener.warning.partition(". ")
        return warn("voice", cause, remedy, **figures)
    speech = "heard speech" if begun else "quiet"
    return ok("voice", f"{listener.detector}: {speech}", **figures)


def judge_echo(
    echo: Echo, settings: Audio, *, cancels: bool, half_duplex: bool, installed: bool = False
) -> Finding:
    """Judge how much of the speaker the microphone hears, and what agentd does about it."""
    if not echo.heard:
        return warn(
            "echo",
            "the microphone does not hear the speaker",
            "With headphones all is well; if you heard no rising tone, check speaker and volume",
        )
    figures = {"attenuation_db": round(echo.attenuation_db, 1), "delay_ms": round(echo.delay_ms)}
    cause = f"{echo.attenuation_db:.0f} dB below the speaker, after {echo.delay_ms:.0f} ms"
    if echo.attenuation_db >= LOUD_ECHO_DB or cancels:
        return ok("echo", f"{cause}{'; it is cancelled' if cancels else ''}", **figures)
    if half_duplex:
        return warn(
            "echo",
            f"{cause}: half duplex, speech cannot interrupt a reply",
            _cancel_remedy(settings, installed=installed),
            **figures,
        )
    return fail(
        "echo",
        f'{cause}, although audio.echo_cancellation = "{settings.echo_cancellation}" says that '
        "the device cancels it: it would answer itself",
        'Set audio.echo_cancellation = "auto"',
        **figures,
    )


def _cancel_remedy(settings: Audio, *, installed: bool) -> str:
    if settings.echo_cancellation == "off":
        return 'Set audio.echo_cancellation = "auto"'
    if installed:
        return (
            "The button interrupts; for speech use a speakerphone that cancels its own echo, and "
            'audio.echo_cancellation = "hardware"'
        )
    return "Install the echo canceller: pip install 'agentd[aec]' (64-bit systems)"
