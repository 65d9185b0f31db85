"""WebRTC's AEC3 behind the `EchoCanceller` protocol. Needs numpy and pywebrtc-audio.

The canceller works only while something that was played can be in the air. Before it rests, its
tail has put silence through all of its buffers, so that to it the pause never was: it keeps what it
has learned of the room and goes on there with the next reply. Until something is known of the room,
in the first two or three seconds of the first reply, all of it is marked as echo: half duplex, for
a time that settling.py bounds. What it leaves later is marked unless somebody may be speaking in it
(double_talk.py), and all of it for a moment after the speaker ran dry: the way through the air is
another one then. Beside a tone AEC3's own rest is not used at all, since it takes voices along.
Noise suppression, if wanted, has to hear everything.

Measured on a 2-core x86-64 machine: 425 µs per 20 ms frame for AEC3 itself and some 230 for what is
around it, while a reply plays; nothing otherwise. numpy and the wheel add 16 MiB
(docs/developer/dependencies.md).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from pywebrtc_audio import EchoCanceller as Aec3
from pywebrtc_audio import NoiseSuppressor

from agentd.audio import formats
from agentd.audio.echo.canceller import EchoStats
from agentd.audio.echo.double_talk import DoubleTalk, Without
from agentd.audio.echo.far_end import FarEnd, OffsetMeter, Samples
from agentd.audio.echo.settling import Settling
from agentd.events import Frame

NOISE_LEVEL = 1  # 12 dB; more makes voices hollow
EARLIEST_LAG, LATEST_LAG = 1, 18  # frames; an echo outside of them moves the lead
WANTED_LAG = 5
MOST_LEAD_S = 0.3
TORN_FRAMES = 75  # 1.5 s in which AEC3 finds a way anew: what it leaves then is not to be trusted

_FADE = (np.arange(formats.FRAME_SAMPLES, dtype=np.float32) + 1) / formats.FRAME_SAMPLES


class Engine(Protocol):
    """The algorithm on aligned samples."""

    def process(self, near: Samples, far: Samples) -> Samples:
        """Return `near` without the echo of `far`; both are 16 kHz and equally long."""


class WebrtcCanceller:
    """AEC3, fed with the far end on the microphone's time line."""

    def __init__(self, *, noise_suppression: bool = False, engine: Engine | None = None) -> None:
        self._engine: Engine = engine or Aec3(formats.CAPTURE_RATE_HZ, 1)
        rate_hz = formats.CAPTURE_RATE_HZ
        self._noise = NoiseSuppressor(rate_hz, 1, NOISE_LEVEL) if noise_suppression else None
        self._far = FarEnd()
        self._meter = OffsetMeter()
        self._settling = Settling()
        self._double_talk = DoubleTalk()
        self._without = Without()
        self._was_narrow = False
        self._is_echo = False  # the frame under way is
        self._torn = 0  # frames for which nothing passes for a voice
        self._lag: int | None = None  # found last
        self._working = False
        self._frames = 0

    def played(self, pcm: bytes, heard_at_s: float) -> None:
        """Take what was written to the speaker."""
        self._far.write(pcm, heard_at_s)

    def torn(self) -> None:
        """Know that the speaker ran dry."""
        self._torn = TORN_FRAMES

    def clean(self, frame: Frame) -> Frame:
        """Return the frame without echo, and without noise if that is configured."""
        heard = self._far.is_heard(frame.at_s)
        if not heard and not self._working and self._noise is None:
            return frame
        near = np.frombuffer(frame.pcm, "<i2")
        self._is_echo = False
        out = self._cancel(near, frame.at_s) if heard or self._working else near
        if self._working and not heard:
            out = _blend(out, near)
            self._working = False
            self._far.rest()
        if self._noise is not None:
            out = self._noise.process(out)
        pcm = out.astype("<i2", copy=False).tobytes()
        return Frame(frame.index, frame.at_s, pcm, self._is_echo)

    @property
    def stats(self) -> EchoStats:
        """Return what is known now."""
        far = self._far
        return EchoStats(
            frames=self._frames,
            is_settled=self._settling.is_settled,
            known=self._settling.known,
            erle_db=round(self._settling.erle_db, 1),
            left_dbfs=round(self._settling.left_dbfs, 1),
            shifts=far.shifts,
            relocks=far.relocks,
            late_samples=far.late_samples,
            dropped_samples=far.dropped_samples,
            lead_ms=round(far.lead_s * 1000, 1),
        )

    def _cancel(self, near: Samples, at_s: float) -> Samples:
        far = self._far.read(at_s, len(near))
        out = self._engine.process(near, far)
        self._frames += 1
        self._settling.feed(near, far, out)
        is_echo = not self._double_talk.feed(near, far, out)
        self._is_echo = is_echo or self._settling.is_doubtful or self._torn > 0
        self._torn = max(0, self._torn - 1)
        out = self._around_a_tone(near, out)
        if not self._working:
            self._working = True
            self._meter.reset()
            out = _blend(near, out)
        lag = self._meter.feed(near, far)
        if lag is not None:
            self._mind(lag)
        return out

    def _around_a_tone(self, near: Samples, out: Samples) -> Samples:
        """Return what the microphone hears beside a far end of few bands; else AEC3's own rest."""
        is_narrow, was_narrow = self._double_talk.is_narrow, self._was_narrow
        if not is_narrow and not was_narrow:
            return out
        self._was_narrow = is_narrow
        beside = self._without.feed(near, self._double_talk.kept)
        if is_narrow and was_narrow:
            return beside
        return _blend(out, beside) if is_narrow else _blend(beside, out)

    def _mind(self, lag: int) -> None:
        """Move the lead if the echo was found twice where AEC3 cannot."""
        before, self._lag = self._lag, lag
        if EARLIEST_LAG <= lag <= LATEST_LAG or before is None or abs(lag - before) > 1:
            return
        moved_s = (WANTED_LAG - lag) * formats.FRAME_S
        lead_s = min(MOST_LEAD_S, max(-MOST_LEAD_S, self._far.lead_s + moved_s))
        self._lag = None
        if lead_s != self._far.lead_s:
            self._far.lead_s = lead_s
            self._settling = Settling()


def _blend(old: Samples, new: Samples) -> Samples:
    """Go over from one to the other within the frame: the canceller is 4 ms behind."""
    if len(old) != len(_FADE):
        return new
    return (old * (1 - _FADE) + new * _FADE).astype(np.int16)
