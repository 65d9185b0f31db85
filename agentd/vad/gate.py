"""The voice gate: which frames from the microphone are sent on. Pure.

    decision per frame ──► window ──► closed ── `onset` voiced of the window ──► open
                                         ▲                                        │
                                         └── no `sustain` for `hangover` frames ──┘

A ring keeps what came before, so that the utterance starts `pre_roll` ahead of its first voiced
frame. Hysteresis on both sides: a click does not open the gate, and a single frame of noise that
the detector takes for speech does not hold it open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from agentd.audio.formats import FRAME_BYTES, FRAME_MS, FRAME_S
from agentd.events import (
    EndReason,
    Frame,
    Speech,
    UtteranceAudio,
    UtteranceEnded,
    UtteranceStarted,
)

LOOK_BACK = 16  # frames in which the first trace of an utterance is looked for: 320 ms

# After `admit`, until somebody has spoken: what is left of the word that opened it is no command.
COMMAND = 15  # voiced frames: longer than what is left of any word
NEW_COMMAND = 6  # voiced frames that follow a pause
PAUSE = 5  # frames

_SILENCE = bytes(FRAME_BYTES)


@dataclass(frozen=True, slots=True)
class GateSettings:
    """The gate's lengths, in frames of 20 ms."""

    onset: int = 3  # voiced frames within `onset_window` that open
    onset_window: int = 5
    sustain: int = 2  # voiced frames within `sustain_window` that renew the hangover
    sustain_window: int = 3
    hangover: int = 30
    pre_roll: int = 15
    least: int = 6  # an utterance with less from onset to last voiced frame is discarded
    most: int = 3_000  # a longer utterance is split

    def __post_init__(self) -> None:
        """Refuse lengths that could never open or close the gate."""
        if not 1 <= self.onset <= self.onset_window:
            raise ValueError(f"onset {self.onset} must be 1 to onset_window {self.onset_window}")
        if not 1 <= self.sustain <= self.sustain_window:
            raise ValueError(
                f"sustain {self.sustain} must be 1 to sustain_window {self.sustain_window}"
            )
        if self.hangover < 1 or self.most < 1 or self.pre_roll < 0 or self.least < 0:
            raise ValueError("hangover and most must be 1 or more, pre_roll and least not negative")

    @classmethod
    def from_ms(
        cls,
        *,
        onset_ms: float,
        hangover_ms: float,
        pre_roll_ms: float,
        min_utterance_ms: float,
        max_utterance_s: float,
    ) -> GateSettings:
        """Return the settings for lengths in time, each rounded to whole frames."""
        onset = max(1, round(onset_ms / FRAME_MS))
        return cls(
            onset=onset,
            onset_window=onset + 2,
            hangover=max(1, round(hangover_ms / FRAME_MS)),
            pre_roll=round(pre_roll_ms / FRAME_MS),
            least=round(min_utterance_ms / FRAME_MS),
            most=max(1, round(max_utterance_s * 1000 / FRAME_MS)),
        )


@dataclass(slots=True)
class _Open:
    """The utterance that is being sent."""

    utterance: int
    onset_s: float
    last_voiced_s: float  # time after the last frame judged speech
    end_s: float  # time after the last frame sent
    sent: int  # frames sent
    quiet: int  # frames since the hangover was renewed
    continued: bool  # the second part of a split one: never too short
    patience: int = 0  # frames to wait for the first word of a command; 0: it has come
    voiced: int = 0  # frames since the gate was opened for it
    pause: int = 0  # frames without voice, the newest
    paused: bool = False


class Gate:
    """Turn frames with a decision each into utterances.

    Missing frames (a jump of `Frame.index`) are filled with silence up to the hangover, so that an
    utterance has no holes; a longer gap cuts it.
    """

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        kept = self._settings.pre_roll + max(self._settings.onset_window, LOOK_BACK)
        self._ring: deque[tuple[Frame, bool]] = deque(maxlen=kept)
        self._recent: deque[bool] = deque(maxlen=self._settings.sustain_window)
        self._open: _Open | None = None
        self._utterances = 0
        self._next_index: int | None = None
        self._next_s = 0.0
        self._split = False  # the previous utterance was split; the next frame continues it

    @property
    def is_open(self) -> bool:
        """Say whether an utterance is under way."""
        return self._open is not None or self._split

    def feed(
        self,
        frame: Frame,
        voiced: bool,
        *,
        hindsight: Sequence[bool] = (),
        hangover: int | None = None,
    ) -> list[Speech]:
        """Take the next frame and its decision; return what is to be sent on.

        `hindsight` revises the decisions on the frames just before, oldest first, as far as they
        are still kept. `hangover` replaces the configured length in frames for this decision.
        """
        speech = self._bridge(frame)
        if hindsight:
            self._revise(hindsight)
        self._next_index = frame.index + 1
        self._next_s = frame.at_s + FRAME_S
        speech += self._step(frame, voiced, hangover or self._settings.hangover)
        return speech

    def admit(self, frames: Sequence[Frame], patience: int) -> list[Speech]:
        """Open at once with `frames`, which follow each other without a gap: somebody was called.

        Until a command begins, `patience` frames of silence are waited for it; without one the
        utterance is discarded.
        """
        speech = self.cut()
        self._utterances += 1
        self._next_index = frames[-1].index + 1
        self._next_s = end_s = frames[-1].at_s + FRAME_S
        self._open = _Open(
            self._utterances, end_s, end_s, end_s, len(frames), 0, False, max(1, patience)
        )
        pcm = b"".join(frame.pcm for frame in frames)
        return [*speech, UtteranceStarted(self._utterances, frames[0].at_s, pcm, end_s)]

    def finish(self) -> list[Speech]:
        """End what is open as if the speaker had fallen silent; what was heard stays known."""
        self._split = False
        return [] if self._open is None else self._end(self._verdict(self._open))

    def cut(self) -> list[Speech]:
        """End at once what is open, and forget what was heard: mute, half duplex, capture lost."""
        speech = self._end(EndReason.CUT)
        self._forget()
        self._next_index = None
        return speech

    def _revise(self, hindsight: Sequence[bool]) -> None:
        known = min(len(hindsight), len(self._ring))
        for back in range(1, known + 1):
            self._ring[-back] = (self._ring[-back][0], hindsight[-back])

    def _bridge(self, frame: Frame) -> list[Speech]:
        """Fill a hole in the frames, or cut if it is too long to be filled."""
        if self._next_index is None or frame.index == self._next_index:
            return []
        missing = frame.index - self._next_index
        if not 0 < missing <= self._settings.hangover:
            return self.cut()
        speech: list[Speech] = []
        for offset in range(missing):
            at_s = self._next_s + offset * FRAME_S
            filler = Frame(self._next_index + offset, at_s, _SILENCE)
            speech += self._step(filler, False, self._settings.hangover)
        return speech

    def _step(self, frame: Frame, voiced: bool, hangover: int) -> list[Speech]:
        if self._split:
            return [self._continue(frame, voiced)]
        if self._open is None:
            return self._listen(frame, voiced)
        return self._pass_on(self._open, frame, voiced, hangover)

    def _listen(self, frame: Frame, voiced: bool) -> list[Speech]:
        self._ring.append((frame, voiced))
        if not voiced:
            return []
        hits = [hit for _, hit in self._ring]
        if sum(hits[-self._settings.onset_window :]) < self._settings.onset:
            return []
        return [self._start(self._first_trace(hits))]

    def _first_trace(self, hits: list[bool]) -> int:
        """Return where the utterance began: before every hit there may be one more, close by."""
        first = len(hits)
        earliest = max(0, len(hits) - max(LOOK_BACK, self._settings.onset_window))
        for at in range(len(hits) - 1, earliest - 1, -1):
            if hits[at]:
                first = at
            elif first - at > self._settings.onset_window:
                break
        return first

    def _start(self, onset: int) -> UtteranceStarted:
        """Open with the ring from `pre_roll` frames before its frame `onset` on."""
        frames = [frame for frame, _ in self._ring][max(0, onset - self._settings.pre_roll) :]
        onset_s = self._ring[onset][0].at_s
        self._recent.extend(hit for _, hit in self._ring)
        self._ring.clear()
        self._utterances += 1
        end_s = frames[-1].at_s + FRAME_S
        self._open = _Open(self._utterances, onset_s, end_s, end_s, len(frames), 0, False)
        pcm = b"".join(frame.pcm for frame in frames)
        return UtteranceStarted(self._utterances, frames[0].at_s, pcm, onset_s)

    def _continue(self, frame: Frame, voiced: bool) -> UtteranceStarted:
        """Open the second part of a split utterance with the very next frame."""
        self._split = False
        self._utterances += 1
        self._recent.append(voiced)
        end_s = frame.at_s + FRAME_S
        self._open = _Open(self._utterances, frame.at_s, end_s, end_s, 1, 0, True)
        return UtteranceStarted(self._utterances, frame.at_s, frame.pcm, frame.at_s)

    def _pass_on(self, under_way: _Open, frame: Frame, voiced: bool, hangover: int) -> list[Speech]:
        under_way.sent += 1
        under_way.end_s = frame.at_s + FRAME_S
        self._recent.append(voiced)
        if under_way.patience:
            hangover = self._await_command(under_way, voiced, hangover)
        if voiced and sum(self._recent) >= self._settings.sustain:
            under_way.quiet = 0
            under_way.last_voiced_s = under_way.end_s
        else:
            under_way.quiet += 1
        speech: list[Speech] = [UtteranceAudio(under_way.utterance, frame.at_s, frame.pcm)]
        if under_way.quiet >= hangover:
            speech += self._end(self._verdict(under_way))
            self._forget()
        elif under_way.sent >= self._settings.most:
            speech += self._end(EndReason.MAX_LENGTH)
            self._split = True
        return speech

    def _await_command(self, under_way: _Open, voiced: bool, hangover: int) -> int:
        """Return how many frames of silence end it, for as long as nothing was said after the word.

        A command is more voice than is left of a word, or voice that begins after a pause.
        """
        under_way.pause = 0 if voiced else under_way.pause + 1
        if under_way.pause >= PAUSE:
            under_way.paused, under_way.voiced = True, 0
        under_way.voiced += voiced
        if under_way.voiced < (NEW_COMMAND if under_way.paused else COMMAND):
            return max(hangover, under_way.patience)
        under_way.patience = 0
        under_way.onset_s = under_way.end_s - under_way.voiced * FRAME_S
        return hangover

    def _verdict(self, under_way: _Open) -> EndReason:
        if under_way.patience:
            return EndReason.DISCARDED  # called, and nothing said
        least_s = self._settings.least * FRAME_S
        spoken_s = under_way.last_voiced_s - under_way.onset_s
        # Half a frame of tolerance: the times are sums of floats.
        if spoken_s < least_s - FRAME_S / 2 and not under_way.continued:
            return EndReason.DISCARDED
        return EndReason.HANGOVER

    def _end(self, reason: EndReason) -> list[Speech]:
        under_way, self._open = self._open, None
        if under_way is None:
            return []
        speech_ms = (under_way.last_voiced_s - under_way.onset_s) * 1000
        return [UtteranceEnded(under_way.utterance, under_way.end_s, speech_ms, reason)]

    def _forget(self) -> None:
        self._ring.clear()
        self._recent.clear()
        self._split = False
