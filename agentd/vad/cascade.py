"""Two detectors in a row: a cheap one listens always, a neural one is woken by it. Pure.

    asleep ── 2 of 4 frames stand out from the noise and webrtcvad 3 calls them voiced ──► awake
       ▲                                                                                    │
       └── gate closed, and neither detector has noticed anything for 300 ms ───────────────┘

On waking, the neural detector first hears the last 320 ms, so that it knows what led up to this
moment, and its opinion of those frames is given in hindsight: a late waking costs no onset. Its
memory is never cleared: fresh from a reset it misses 3 % of the speech in a reverberant room, with
the memory of earlier speech in that room 0.1 %. The decision is always the neural one's; the cheap
one saves its work, and because it must agree first, the neural one may be a little less sure.

Its memory of a word outlives the word by two or three chunks. In a quiet room that is known better:
a frame at the level of the room is silence. In noise, soft speech may be no louder than the room.
"""

from __future__ import annotations

from collections import deque

from agentd.audio.formats import SILENCE_DBFS
from agentd.events import Frame
from agentd.vad.silero import CERTAINLY_NOT, CHUNK_BYTES, VoiceModel
from agentd.vad.sparks import Sentry, Sparks
from agentd.vad.webrtc import UNVOICED, Judgement

SPEECH = 0.4  # Silero alone: 0.5
STILL_SPEECH = 0.25  # 0.15 less, as Silero has it
BACKLOG = 16  # frames that the model hears on waking: 320 ms, ten of its chunks
CALM = 15  # frames without anything until it sleeps again
QUIET_DB = 25.0  # by which speech stands above the room for it to count as quiet
ROOM_DB = 2.0  # a frame so little above the room's noise is at its level
PEAK_FALL_DB = 0.2  # per frame: the level of speech is remembered for seconds
AGGRESSIVENESS = 3  # of webrtcvad as a sentry: the only mode that rests in a quiet room


class CascadeDetector:
    """webrtcvad as a sentry for a neural detector."""

    def __init__(self, sentry: Sentry, model: VoiceModel, level_floor_dbfs: float) -> None:
        self.name = "webrtcvad and silero"
        self._watch = Sparks(sentry, level_floor_dbfs)
        self._model = model
        self._floor_dbfs = level_floor_dbfs
        self._peak_dbfs = SILENCE_DBFS
        self._backlog: deque[bytes] = deque(maxlen=BACKLOG)
        self._awake = False
        self._calm = 0
        self._pending = b""
        self._probability = 0.0
        self.chunks = 0  # how often the neural detector was asked

    @property
    def is_awake(self) -> bool:
        """Say whether the neural detector runs."""
        return self._awake

    def judge(self, frame: Frame, level_dbfs: float, *, is_open: bool) -> Judgement:
        """Judge the next frame, and on waking also those before it."""
        spark = self._watch.watch(frame.pcm, level_dbfs)
        if self._awake:
            return self._listen(frame.pcm, level_dbfs, spark, is_open)
        self._backlog.append(frame.pcm)
        if not self._watch.are_flying:
            return UNVOICED
        return self._wake(is_open)

    def reset(self) -> None:
        """Forget speech, not the room."""
        self._watch.reset()
        self._sleep()

    def _wake(self, is_open: bool) -> Judgement:
        self._awake = True
        self._calm = 0
        threshold = STILL_SPEECH if is_open else SPEECH
        opinions = []
        for pcm in self._backlog:
            self._hear(pcm)
            opinions.append(self._probability >= threshold)
        self._backlog.clear()
        return Judgement(opinions[-1], tuple(opinions[:-1]))

    def _listen(self, pcm: bytes, level_dbfs: float, spark: bool, is_open: bool) -> Judgement:
        self._hear(pcm)
        voiced = self._probability >= (STILL_SPEECH if is_open else SPEECH)
        if self._is_room(level_dbfs) if is_open else level_dbfs < self._floor_dbfs:
            voiced = False
        self._calm = 0 if voiced or spark or is_open else self._calm + 1
        certain = self._probability < CERTAINLY_NOT
        if self._calm >= CALM:
            self._sleep()
        return Judgement(voiced, is_certain=certain)

    def _is_room(self, level_dbfs: float) -> bool:
        """Say whether a frame is as quiet as a quiet room is when nobody speaks."""
        self._peak_dbfs = max(level_dbfs, self._peak_dbfs - PEAK_FALL_DB)
        room_dbfs = self._watch.noise.dbfs
        return (
            room_dbfs is not None
            and self._peak_dbfs >= room_dbfs + QUIET_DB
            and level_dbfs < room_dbfs + ROOM_DB
        )

    def _hear(self, pcm: bytes) -> None:
        """Let the model hear a frame; its opinion changes with every whole chunk."""
        self._pending += pcm
        while len(self._pending) >= CHUNK_BYTES:
            self._probability = self._model(self._pending[:CHUNK_BYTES])
            self._pending = self._pending[CHUNK_BYTES:]
            self.chunks += 1

    def _sleep(self) -> None:
        self._awake = False
        self._calm = 0
        self._pending = b""
        self._probability = 0.0
        self._backlog.clear()
        self._watch.clear()
