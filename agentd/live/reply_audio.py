"""The sound of a reply: from what the service sends to int16 mono 24 kHz. Pure.

The Live API sends "audio/pcm;rate=24000", little-endian; on Vertex AI the rate may be missing. A
piece may be cut anywhere, in the middle of a sample too: what is left over waits for its other
half, within the same turn. PCM of another rate or of several channels is converted; anything else
(MP3, Opus, WAV) would be noise if it were played, so it is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentd.audio import formats
from agentd.audio.resample import Resampler

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 48_000
MAX_PHASES = 480  # filters that one conversion may need; every rate in use needs fewer
MAX_CHANNELS = 8
SLICE_S = 0.02  # of input; so much is converted at a time
MAX_MIME_CHARS = 200
SHOWN_CHARS = 40
MAX_CHANGES = 8  # of the type within one turn; each costs new filters

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*", re.ASCII)
# Parameters that would change what the bytes mean, and the values that change nothing.
_HARMLESS = {
    "codec": {"pcm", "s16le", "pcm_s16le"},
    "codecs": {"pcm", "s16le", "pcm_s16le"},
    "encoding": {"pcm", "s16le", "pcm_s16le", "linear16", "signed-int", "signed-integer"},
    "format": {"pcm", "s16le", "pcm_s16le"},
    "bits": {"16"},
    "bitdepth": {"16"},
    "bit-depth": {"16"},
    "endian": {"little", "little-endian", "le"},
    "endianness": {"little", "little-endian", "le"},
}
# Shown or read, not heard.
_NOT_SOUND = ("image/", "video/", "text/", "application/json", "application/pdf")


class Unplayable(ValueError):
    """A type of sound that agentd does not play; the text says which, safe for the journal."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Little-endian int16 PCM: how fast, and how many channels side by side."""

    rate_hz: int = formats.PLAYBACK_RATE_HZ
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample of every channel."""
        return self.channels * formats.SAMPLE_BYTES

    @property
    def needs_work(self) -> bool:
        """Return whether it differs from what the speaker takes."""
        return self != Layout()


def is_sound(mime: str | None) -> bool:
    """Return whether a piece of an answer is meant to be heard; one without a type is."""
    return not (mime or "").strip().lower().startswith(_NOT_SOUND)


def layout_of(mime: str | None) -> Layout:
    """Return what a MIME type says of PCM; names and values in any case (RFC 2045, 5.1).

    Raises:
        Unplayable: another type, or PCM of a kind that is not converted.
    """
    text = (mime or "audio/pcm").strip().lower()
    kind, *rest = [part.strip() for part in text[:MAX_MIME_CHARS].split(";")]
    if len(text) > MAX_MIME_CHARS or not _TYPE.fullmatch(kind):
        raise Unplayable("sound of a type that cannot be read")
    parameters = dict(_parameters(rest))
    # L16 is big-endian (RFC 2586); where Google says it, it means its little-endian PCM and adds
    # "codec=pcm" (Gemini API, speech generation). Without that the order of bytes is a guess.
    is_pcm = kind == "audio/pcm" or (kind == "audio/l16" and parameters.get("codec") == "pcm")
    if not is_pcm:
        raise Unplayable(f"sound of type {kind[:SHOWN_CHARS]}")
    for name, harmless in _HARMLESS.items():
        if parameters.get(name, "") not in {"", *harmless}:
            raise Unplayable(f"{kind} whose {name} is not that of 16-bit little-endian samples")
    return Layout(_rate_hz(parameters.get("rate", "")), _channels(parameters.get("channels", "")))


def _parameters(parts: list[str]) -> Iterator[tuple[str, str]]:
    for part in reversed(parts):  # of one given twice the first holds
        name, _, value = part.partition("=")
        yield name.strip(), value.strip().strip('"').strip()


def _number(text: str, usual: int, lowest: int, highest: int, what: str) -> int:
    if not text:
        return usual
    number = int(text) if len(text) < 10 and text.isascii() and text.isdigit() else -1
    if not lowest <= number <= highest:
        raise Unplayable(f"PCM whose number of {what} is not one from {lowest} to {highest}")
    return number


def _rate_hz(text: str) -> int:
    rate_hz = _number(
        text, formats.PLAYBACK_RATE_HZ, MIN_RATE_HZ, MAX_RATE_HZ, "samples per second"
    )
    phases = formats.PLAYBACK_RATE_HZ // math.gcd(rate_hz, formats.PLAYBACK_RATE_HZ)
    if phases > MAX_PHASES:
        raise Unplayable(f"PCM of {rate_hz} samples per second, which is no usual rate")
    return rate_hz


def _channels(text: str) -> int:
    return _number(text, 1, 1, MAX_CHANNELS, "channels")


class ReplyDecoder:
    """Turn the pieces of one connection's replies into PCM for the speaker.

    `feed` takes a piece; `rest` returns what the filter still holds when no more sound will come;
    `new_turn` forgets what belongs to the turn before.
    """

    def __init__(self) -> None:
        self._mime: str | None = None
        self._layout = Layout()
        self._torn = b""  # less than one sample of every channel
        self._resampler: Resampler | None = None
        self._changes = 0
        self._refused = ""
        self._reported = False

    @property
    def is_converting(self) -> bool:
        """Return whether the pieces cost work: others should get their turn in between."""
        return self._layout.needs_work

    def feed(self, mime: str | None, data: bytes) -> Iterator[bytes]:
        """Yield int16 mono 24 kHz of a piece, in slices where it has to be converted."""
        if mime != self._mime:
            try:
                layout = self._changed(mime)
            except Unplayable as error:
                self._refused = self._refused or str(error)
                return
            if layout != self._layout:
                yield from self.rest()
                self._layout = layout
            self._mime = mime
        data = self._torn + data if self._torn else data
        whole = len(data) - len(data) % self._layout.frame_bytes
        self._torn = data[whole:]
        if not self._layout.needs_work:
            if whole:
                yield data if whole == len(data) else data[:whole]
            return
        step = round(SLICE_S * self._layout.rate_hz) * self._layout.frame_bytes
        for at in range(0, whole, step):
            yield from self._convert(data[at : min(at + step, whole)])

    def _changed(self, mime: str | None) -> Layout:
        layout = layout_of(mime)
        self._changes += layout != self._layout
        if self._changes > MAX_CHANGES:
            raise Unplayable("sound that keeps changing its type")
        return layout

    def _convert(self, pcm: bytes) -> Iterator[bytes]:
        if self._resampler is None:
            self._resampler = Resampler(self._layout.rate_hz, formats.PLAYBACK_RATE_HZ)
        values = formats.mono(formats.samples(pcm), self._layout.channels)
        converted = self._resampler.feed(values)
        if converted:
            yield formats.to_pcm(converted)

    def rest(self) -> Iterator[bytes]:
        """Yield the end of the sound so far; half a sample without its other half is dropped."""
        self._torn = b""
        resampler, self._resampler = self._resampler, None
        converted = resampler.flush() if resampler is not None else []
        if converted:
            yield formats.to_pcm(converted)

    def new_turn(self) -> None:
        """Drop what waits for more: the turn is over, or was interrupted."""
        self._torn = b""
        self._resampler = None
        self._changes = 0
        self._refused = ""
        self._reported = False

    def take_refusal(self) -> str:
        """Return what was refused, once a turn; empty otherwise."""
        if self._reported or not self._refused:
            return ""
        self._reported = True
        return self._refused
