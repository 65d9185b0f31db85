"""The air between a speaker and a microphone on a virtual clock, around the real `Sound`.

    partner ── reply ──► Player ──► device buffer ──► 24 to 16 kHz ──► room ──► + voice, noise
                           │                                                        │
                           └── far end ──► canceller ──► gate ──► utterances ◄──────┘

Nothing waits and nothing is random but by seed: what a run gives, it gives again. What a sound
server does to time is here too: a device claims its latency wrongly, the way through the air grows
by a stretch of silence, two clocks drift.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentd.audio import formats
from agentd.audio.devices import Source
from agentd.audio.echo import policy as echo
from agentd.audio.fakes import FakeCapture
from agentd.clock import FakeClock
from agentd.config.settings import Settings
from agentd.events import (
    EchoHandled,
    EndReason,
    Event,
    PlaybackMark,
    ReplyAudio,
    ReplyCancelled,
    ReplyComplete,
    Speech,
    UtteranceEnded,
    UtteranceStarted,
)
from agentd.sound import Outlets, Sound
from rig.room import BLOCK, Convolver, Response
from rig.waiting import until

Samples = NDArray[np.int16]
Wave = NDArray[np.float32]

STEP_S = 0.01
SPK_BLOCK = 240  # 10 ms at 24 kHz
MIC_STEPS = 4  # a captured period is 40 ms
SPK_STEPS = 3  # a played one 30 ms
ANSWER_S = 0.3  # from the end of an utterance to the reply


@dataclass(frozen=True, slots=True)
class Heard:
    """An utterance at the gate."""

    onset_s: float
    decided_s: float
    ended_s: float = float("inf")
    speech_ms: float = 0.0
    reason: EndReason | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How sound gets from the player to the microphone."""

    response: Response
    gain_db: float = -6.0
    buffer_s: float = 0.08  # in the speaker's device
    air_s: float = 0.15  # from the speaker to the microphone, as the rig has it
    claims_off_s: float = 0.0  # what the device's latency is wrong by
    claims_jitter_s: float = 0.0
    capture_jitter_s: float = 0.0
    noise_rms: float = 8.0
    gaps: tuple[tuple[float, float], ...] = ()  # (when, so much silence): the way is longer after
    dries: tuple[tuple[float, float], ...] = ()  # the same in a device that ran dry


class Thirds:
    """24 to 16 kHz in blocks of 10 ms, by a windowed sinc; not the product's resampler."""

    REACH = 40

    def __init__(self) -> None:
        at = np.arange(-self.REACH, self.REACH + 1)
        offsets = (0.0, 0.5)
        self._taps = [self._kernel(at - offset) for offset in offsets]
        self._last = np.zeros(2 * self.REACH + 1, np.float32)

    def _kernel(self, at: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        window = np.cos(np.pi * at / (2 * (self.REACH + 1))) ** 2
        taps = np.sinc(at * 0.62) * window
        kernel: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
        return kernel

    def feed(self, block: Wave) -> Wave:
        """Take 240 samples, return 160."""
        data = np.concatenate((self._last, block))
        self._last = data[len(block) :]
        windows = np.lib.stride_tricks.sliding_window_view(data, 2 * self.REACH + 1)
        out = np.empty(BLOCK, np.float32)
        out[0::2] = windows[0:SPK_BLOCK:3] @ self._taps[0]
        out[1::2] = windows[1 : SPK_BLOCK + 1 : 3] @ self._taps[1]
        return out


@dataclass
class _Loudspeaker:
    """A playback device that is asked by the room when its buffer has space."""

    name: str = "virtual speaker"
    ran_dry: int = 0
    source: Source | None = None
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self, source: Source) -> None:
        self.source = source
        self.opened.set()
        await asyncio.get_running_loop().create_future()


class Air:
    """A device, its room, and somebody who speaks. Use `hold` to have one."""

    def __init__(
        self,
        way: Way,
        *,
        settings: Settings | None = None,
        seed: int = 1,
        partner: Callable[[int], bytes] | None = None,
    ) -> None:
        """Prepare; `partner` returns the reply (24 kHz) to the n-th utterance that was complete."""
        self.way = way
        self.clock = FakeClock()
        self.events: list[Event] = []
        self.heard: list[Heard] = []
        self.asked = 0
        self._dice = np.random.default_rng(seed)
        self._partner = partner
        self._capture, self._speaker = FakeCapture(), _Loudspeaker()
        self._convolver = Convolver(way.response * np.float32(10 ** (way.gain_db / 20)))
        self._thirds = Thirds()
        self._origin_s = self.clock.monotonic()
        self._steps = 0
        self._buffer = np.zeros(round(way.buffer_s * formats.PLAYBACK_RATE_HZ), np.float32)
        self._in_air = np.zeros(round(way.air_s * formats.CAPTURE_RATE_HZ), np.float32)
        self._gaps = list(way.gaps)
        self._dries = list(way.dries)
        self._saying: list[tuple[int, Wave]] = []
        self._period: list[Samples] = []
        self._turn = 0
        self._replies: list[tuple[float, int, bytes]] = []
        self._speaking_until = -1
        self.spk: list[Wave] = []
        """What came out of the loudspeaker, 10 ms each."""
        self.mic: list[Samples] = []
        self.sound = Sound(
            settings or acoustic_settings(),
            clock=self.clock,
            outlets=Outlets(self._emit, self._on_speech, self._on_mark),
            devices=(self._capture, self._speaker),
            installed=echo.is_installed,
        )

    async def run(self, body: Callable[[], None]) -> None:
        """Open the devices, load the canceller, and let `body` play the scene."""
        task = asyncio.create_task(self.sound.run())
        try:
            await self._capture.until(opened=1)
            await self._speaker.opened.wait()
            await until(lambda: any(isinstance(event, EchoHandled) for event in self.events))
            body()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # ── the stages' reports ───────────────────────────────────────────────────────────────────

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.sound.on_event(event)

    def _on_mark(self, mark: PlaybackMark) -> None:
        pass

    def _on_speech(self, value: Speech) -> None:
        if isinstance(value, UtteranceStarted):
            self.heard.append(Heard(value.onset_s - self._origin_s, self.now_s))
            if self._turn:
                self.sound.player.hear(ReplyCancelled(self._turn))
            self._replies.clear()
        elif isinstance(value, UtteranceEnded):
            begun = self.heard.pop()
            self.heard.append(
                Heard(begun.onset_s, begun.decided_s, self.now_s, value.speech_ms, value.reason)
            )
            if self._partner and value.reason is EndReason.HANGOVER:
                self.asked += 1
                self.reply(self._partner(self.asked), in_s=ANSWER_S)

    # ── what a scene does ─────────────────────────────────────────────────────────────────────

    @property
    def now_s(self) -> float:
        """Return the time since the scene began."""
        return self._steps * STEP_S

    def say(self, pcm: Samples, at_s: float | None = None) -> None:
        """Let the user speak (int16 mono 16 kHz), now or later."""
        begin = round((self.now_s if at_s is None else at_s) / STEP_S)
        self._saying.append((begin, pcm.astype(np.float32)))

    def reply(self, pcm: bytes, *, in_s: float = 0.0) -> None:
        """Let a whole reply (24 kHz) arrive at once."""
        self._turn += 1
        self._replies.append((self.now_s + in_s, self._turn, pcm))

    def cancel(self) -> None:
        """Stop the reply under way."""
        self.sound.player.hear(ReplyCancelled(self._turn))

    def pass_s(self, seconds: float) -> None:
        """Let so much time pass."""
        for _ in range(round(seconds / STEP_S)):
            self._step()

    def pass_until(self, fact: Callable[[], object], *, at_most_s: float = 30.0) -> None:
        """Let time pass until something is so."""
        until_s = self.now_s + at_most_s
        while not fact():
            assert self.now_s < until_s, f"not within {at_most_s} s"
            self._step()

    @property
    def is_playing(self) -> bool:
        """Say whether a reply is due, or at the loudspeaker."""
        return bool(self._replies) or self.sound.playback.playing_turn is not None

    def last_heard_s(self) -> float:
        """Return until when the loudspeaker has played anything."""
        sounding = [at for at, block in enumerate(self.spk) if block.any()]
        return (sounding[-1] + 1) * STEP_S if sounding else 0.0

    # ── ten milliseconds ──────────────────────────────────────────────────────────────────────

    def _step(self) -> None:
        self.clock.advance(STEP_S)
        self._steps += 1
        for due in [one for one in self._replies if one[0] <= self.now_s]:
            self._replies.remove(due)
            self.sound.player.hear(ReplyAudio(due[1], due[2]))
            self.sound.player.hear(ReplyComplete(due[1]))
        if self._steps % SPK_STEPS == 0:
            self._play(SPK_STEPS * SPK_BLOCK)
        out, self._buffer = self._buffer[:SPK_BLOCK], self._buffer[SPK_BLOCK:]
        self.spk.append(out)
        self._hear(self._convolver.feed(self._thirds.feed(out)))

    def _play(self, count: int) -> None:
        assert self._speaker.source is not None
        while self._dries and self._dries[0][0] <= self.now_s:
            length = round(self._dries.pop(0)[1] * formats.PLAYBACK_RATE_HZ)
            self._buffer = np.concatenate((np.zeros(length, np.float32), self._buffer))
            self._speaker.ran_dry += 1
        latency_s = len(self._buffer) / formats.PLAYBACK_RATE_HZ
        claimed_s = latency_s + self.way.claims_off_s
        claimed_s += float(self._dice.uniform(-1, 1)) * self.way.claims_jitter_s
        pcm = self._speaker.source(count, max(0.0, claimed_s))
        fresh = np.frombuffer(pcm, "<i2").astype(np.float32)
        self._buffer = np.concatenate((self._buffer, fresh))

    def _hear(self, echo_block: Wave) -> None:
        self._in_air = np.concatenate((self._in_air, echo_block))
        while self._gaps and self._gaps[0][0] <= self.now_s:
            length = round(self._gaps.pop(0)[1] * formats.CAPTURE_RATE_HZ)
            self._in_air = np.concatenate((np.zeros(length, np.float32), self._in_air))
        near, self._in_air = self._in_air[:BLOCK], self._in_air[BLOCK:]
        near = near + self._voice()
        near = near + self._dice.standard_normal(BLOCK).astype(np.float32) * self.way.noise_rms
        block: Samples = np.clip(np.rint(near), -32_768, 32_767).astype(np.int16)
        self.mic.append(block)
        self._period.append(block)
        if len(self._period) == MIC_STEPS:
            pcm = np.concatenate(self._period).astype("<i2").tobytes()
            self._period.clear()
            late_s = float(self._dice.uniform(0, 1)) * self.way.capture_jitter_s
            self._capture.say(pcm, self.clock.monotonic() + late_s)

    def _voice(self) -> Wave:
        mixed = np.zeros(BLOCK, np.float32)
        at = self._steps - 1
        for begin, wave in self._saying:
            piece = wave[max(0, at - begin) * BLOCK : max(0, at - begin + 1) * BLOCK]
            if at >= begin and len(piece):
                mixed[: len(piece)] += piece
        return mixed


def acoustic_settings(**sections: dict[str, object]) -> Settings:
    """Return the defaults with the canceller on and the volume at full."""
    audio = {"echo_cancellation": "on", "volume_percent": 100, **sections.pop("audio", {})}
    return Settings.model_validate({"audio": audio, **sections})


def scene(air: Air, body: Callable[[], None]) -> Air:
    """Play a scene to its end."""
    asyncio.run(air.run(body))
    return air
