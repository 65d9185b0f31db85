"""Echo: what keeps the device from answering itself, and the decision which of it is used.

    Player ── what was really played, and when ──► EchoCanceller ◄── frame ── Microphone
                                                        │
                                                        └── frame without the reply ──► Listener

The canceller is WebRTC's AEC3 (aec.py, extra `aec`, 64-bit systems). Without it agentd is half
duplex: the gate is shut while the speaker plays, and for a tail after it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agentd.audio.devices import wav_path
from agentd.audio.echo.canceller import EchoCanceller, EchoStats
from agentd.config.settings import Audio

ECHO_DOCUMENT = "echo"
"""Where `agentd doctor` writes down what it measured, in the state directory."""

NO_ECHO_DB = 50.0
"""So far below what was written an echo stays under the gate's level floor: a reply at full volume
is about -15 dBFS, the floor -60."""

ATTENUATION_MAX_DB = 200.0
"""More, either way, than 16 bits and any amplifier allow: such a figure was not measured."""

REMEDY = (
    "Install the canceller: pip install 'agentd[aec]' (64-bit systems), or set "
    'audio.echo_cancellation = "off"'
)


class EchoMode(StrEnum):
    """What is done about the speaker's sound in the microphone."""

    CANCEL = "canceller"
    HALF_DUPLEX = "half duplex"
    OPEN = "none needed"


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision, why, and what would make it better."""

    mode: EchoMode
    cause: str
    remedy: str = ""
    is_degraded: bool = False  # not what the configuration asked for


@dataclass(frozen=True, slots=True)
class EchoStatus:
    """What is done about echo, why, and how well."""

    by: str
    cause: str
    canceller: EchoStats | None


def is_installed() -> bool:
    """Say whether the canceller's wheel and numpy are there, without importing them."""
    return all(importlib.util.find_spec(name) for name in ("pywebrtc_audio", "numpy"))


def choose(settings: Audio, *, installed: bool, attenuation_db: float | None = None) -> Plan:
    """Decide by configuration, by what is installed, and by what `agentd doctor` measured. Pure."""
    if wav_path(settings.capture_device) or wav_path(settings.playback_device):
        return Plan(EchoMode.OPEN, "WAV files share no air")
    asked = settings.echo_cancellation
    if asked == "hardware":
        return Plan(EchoMode.OPEN, "the device cancels its own echo, says the configuration")
    if asked == "off":
        return Plan(EchoMode.HALF_DUPLEX, 'audio.echo_cancellation = "off"')
    if asked == "auto" and attenuation_db is not None and attenuation_db >= NO_ECHO_DB:
        heard = f"{attenuation_db:.0f} dB below what the speaker plays"
        return Plan(EchoMode.OPEN, f"agentd doctor found the echo {heard}")
    if installed:
        return Plan(EchoMode.CANCEL, "WebRTC AEC3 is installed")
    return without_canceller(settings, "pywebrtc-audio and numpy are not installed")


def without_canceller(settings: Audio, cause: str) -> Plan:
    """Return what is left when the canceller cannot be had."""
    asked_for = settings.echo_cancellation == "on"
    return Plan(EchoMode.HALF_DUPLEX, cause, REMEDY, is_degraded=asked_for)


def measured_attenuation_db(document: object, settings: Audio) -> float | None:
    """Return what `agentd doctor` wrote down, if it is about these devices and makes sense."""
    if not isinstance(document, Mapping):
        return None
    devices = (document.get("capture_device"), document.get("playback_device"))
    found = document.get("attenuation_db")
    if devices != (settings.capture_device, settings.playback_device):
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    if (
        not -ATTENUATION_MAX_DB <= found <= ATTENUATION_MAX_DB
    ):  # nor NaN, nor a number of 400 digits
        return None
    return float(found)


def load(settings: Audio) -> EchoCanceller:
    """Return the canceller; imports numpy, so call it off the event loop and late.

    Raises:
        ImportError, OSError: it is not installed, or not for this machine.
    """
    from agentd.audio.echo.webrtc import WebrtcCanceller

    return WebrtcCanceller(noise_suppression=settings.noise_suppression)
