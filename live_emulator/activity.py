"""The server's own activity detection: a small energy gate in sample time.

It counts samples, not wall time: a client that stops sending inside speech leaves the utterance
open until audio or ``audioStreamEnd`` arrives, as the Live API docs describe.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from live_emulator.audio import level_dbfs, samples_of
from live_emulator.setup import ActivityDetection

FRAME_MS = 20
PRE_ROLL_MS = 300


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began; ``pcm`` is the pre-roll and the speech that proved it."""

    offset_s: float
    pcm: bytes


@dataclass(frozen=True, slots=True)
class SpeechAudio:
    """More audio of the utterance under way."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Speech ended."""

    offset_s: float


Activity = SpeechStarted | SpeechAudio | SpeechEnded


class EnergyGate:
    """Find utterances in a continuous stream of 16-bit mono PCM."""

    def __init__(self, config: ActivityDetection, rate_hz: int = 16_000) -> None:
        self.rate_hz = rate_hz
        self._threshold_dbfs = -45.0 if config.start_high else -38.0
        onset_ms = config.prefix_padding_ms
        if onset_ms is None:
            onset_ms = 60 if config.start_high else 120
        silence_ms = config.silence_duration_ms
        if silence_ms is None:
            silence_ms = 500 if config.end_high else 800
        self._onset_frames = max(1, -(-onset_ms // FRAME_MS))
        self._silence_frames = max(1, -(-silence_ms // FRAME_MS))
        self._frame_bytes = rate_hz * FRAME_MS // 1000 * 2
        self._rest = b""
        self._frames = 0
        self._run = 0
        self._quiet = 0
        self._pre_roll: deque[bytes] = deque(maxlen=PRE_ROLL_MS // FRAME_MS + self._onset_frames)
        self.speaking = False

    def feed(self, pcm: bytes) -> list[Activity]:
        """Take audio; return what was found, in order."""
        found: list[Activity] = []
        data = self._rest + pcm
        whole = len(data) - len(data) % self._frame_bytes
        for start in range(0, whole, self._frame_bytes):
            found += self._frame(data[start : start + self._frame_bytes])
        self._rest = data[whole:]
        return found

    def flush(self) -> list[Activity]:
        """End the stream: an utterance under way ends here."""
        found: list[Activity] = []
        if self.speaking:
            if self._rest:
                found.append(SpeechAudio(self._rest))
            found.append(self._end())
        self._rest = b""
        self._pre_roll.clear()
        self._run = 0
        return found

    def _offset_s(self, frames_back: int = 0) -> float:
        return max(0, self._frames - frames_back) * FRAME_MS / 1000

    def _end(self) -> SpeechEnded:
        self.speaking = False
        self._run = 0
        offset_s = self._offset_s(self._quiet)
        self._quiet = 0
        return SpeechEnded(offset_s)

    def _frame(self, frame: bytes) -> list[Activity]:
        self._frames += 1
        loud = level_dbfs(samples_of(frame)) > self._threshold_dbfs
        if self.speaking:
            self._quiet = 0 if loud else self._quiet + 1
            found: list[Activity] = [SpeechAudio(frame)]
            if self._quiet >= self._silence_frames:
                found.append(self._end())
            return found
        self._pre_roll.append(frame)
        self._run = self._run + 1 if loud else 0
        if self._run < self._onset_frames:
            return []
        self.speaking = True
        self._quiet = 0
        audio = b"".join(self._pre_roll)
        self._pre_roll.clear()
        return [SpeechStarted(self._offset_s(self._run), audio)]
