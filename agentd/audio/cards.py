"""Sound cards and PCM names, read afresh from the kernel and ALSA each time.

Card numbers change between boots and with every replug; ids (`Device`, `seeed2micvoicec`) and USB
paths do not.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

from agentd.errors import AudioError
from agentd.text import safe_text

ASOUND = Path("/proc/asound")
# PCMs that pass on what the hardware offers and no more; they need a plug in front.
_RAW = ("hw:", "dsnoop:", "dmix:")
# Nothing paces them: no microphone (`agentd.audio.alsa.check`), and no speaker but a silent one of
# agentd's own (`agentd.audio.discard`).
PACELESS = frozenset({"null"})
_CARD = re.compile(r"^\s*(\d+)\s+\[(\S+)\s*\]:\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Card:
    """A sound card as the kernel knows it."""

    number: int
    id: str
    text: str  # driver, name and where it is plugged in


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A name that can be typed into the configuration."""

    name: str
    text: str
    capture: bool
    playback: bool


def cards(asound: Path = ASOUND) -> list[Card]:
    """Return the sound cards; none if the kernel has no sound."""
    try:
        lines = (asound / "cards").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found: list[Card] = []
    for line in lines:
        match = _CARD.match(line)
        if match:
            found.append(Card(int(match[1]), match[2], match[3]))
        elif found and line.strip():
            last = found.pop()
            found.append(Card(last.number, last.id, f"{last.text}, {line.strip()}"))
    return found


def card_ids(asound: Path = ASOUND) -> list[str]:
    """Return the ids of all cards."""
    return [card.id for card in cards(asound)]


def pcm_of(name: str, asound: Path = ASOUND) -> str:
    """Return the ALSA PCM name that a configured name means now."""
    if name.startswith("usb-"):
        at = next((card for card in cards(asound) if f" {name}," in f" {card.text},"), None)
        return f"plughw:CARD={at.id}" if at else f"plughw:CARD={name}"
    if ":" not in name and name in card_ids(asound):
        return f"plughw:CARD={name}"
    if name.startswith("hw:"):
        return f"plug{name}"
    if name.startswith(_RAW):
        return f"plug:SLAVE='{name}'"
    return name


def channels_to_open(pcm: str, channel: int) -> int:
    """Return how many channels to open so that `channel` can be picked from them.

    Asked for mono, ALSA's plug averages all channels of the card; a microphone array has its
    processed signal in the first and may have its own playback in the last. So hardware is opened
    with two at least. Sound servers mix down well and are spared the work.
    """
    if channel == 0 and not pcm.startswith(("plughw:", "plug:", "sysdefault:")):
        return 1
    return max(2, channel + 1)


def list_devices(asound: Path = ASOUND) -> list[DeviceInfo]:
    """Return what may stand as `audio.capture_device` or `audio.playback_device`."""
    found = {info.name: info for info in _hints()}
    for card in cards(asound):
        kinds = _directions(asound / f"card{card.number}")
        found[card.id] = DeviceInfo(card.id, safe_text(card.text), *kinds)
    return sorted(found.values(), key=lambda info: (info.name != "default", ":" in info.name))


def _directions(card: Path) -> tuple[bool, bool]:
    try:
        names = [entry.name for entry in card.iterdir()]
    except OSError:
        return False, False
    return (
        any(re.fullmatch(r"pcm\d+c", name) for name in names),
        any(re.fullmatch(r"pcm\d+p", name) for name in names),
    )


def _hints() -> list[DeviceInfo]:
    """Ask ALSA for the PCM names that have a description."""
    try:
        alsa = ctypes.CDLL("libasound.so.2")
        libc = ctypes.CDLL(None)
    except OSError as error:
        raise AudioError(f"ALSA is missing ({error}). Install libasound2") from error
    alsa.snd_device_name_get_hint.restype = ctypes.c_void_p
    hints = ctypes.POINTER(ctypes.c_void_p)()
    if alsa.snd_device_name_hint(-1, b"pcm", ctypes.byref(hints)) < 0:
        return []

    def get(hint: ctypes.c_void_p | int | None, key: bytes) -> str | None:
        pointer = alsa.snd_device_name_get_hint(ctypes.c_void_p(hint), key)  # type: ignore[arg-type]
        if not pointer:
            return None
        text = ctypes.string_at(pointer).decode("utf-8", "replace")
        libc.free(ctypes.c_void_p(pointer))
        return text

    found: list[DeviceInfo] = []
    index = 0
    while hints[index]:
        name, way = get(hints[index], b"NAME"), get(hints[index], b"IOID")
        # What a card or a file calls itself: a name that no terminal shows, nobody can type.
        if name and name.isprintable() and not name.startswith("agentd_"):
            text = safe_text(" / ".join((get(hints[index], b"DESC") or "").splitlines()))
            is_microphone = way != "Output" and name not in PACELESS
            found.append(DeviceInfo(name, text, is_microphone, way != "Input"))
        index += 1
    alsa.snd_device_name_free_hint(hints)
    return found
