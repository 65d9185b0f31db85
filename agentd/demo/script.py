"""The scripted room of `agentd demo`: who says what when, and what goes wrong meanwhile.

The words are real recorded speech: Debian's alsa-utils ships spoken channel names. Times are
seconds of room time, which starts with the first captured frame.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

SPEECH_DIRECTORY = Path("/usr/share/sounds/alsa")
PAUSE_S = 0.1  # between two names: with their fading ends shorter than the hangover
TAIL_S = 6.0  # of silence after the last word, for the last reply


@dataclass(frozen=True, slots=True)
class SpokenLine:
    """One thing the user says: WAV names without suffix, joined into one utterance."""

    at_s: float
    sounds: tuple[str, ...]
    note: str

    @property
    def text(self) -> str:
        """Return what is said in it."""
        return ", ".join(name.replace("_", " ").lower() for name in self.sounds).capitalize()


class StagedFault(enum.Enum):
    """What the emulated service or the network does to the conversation."""

    GO_AWAY = "the service announces the end of the connection"
    CUT = "the network is cut"


@dataclass(frozen=True, slots=True)
class Mishap:
    """Trouble at a moment."""

    at_s: float
    trouble: StagedFault


GO_AWAY_TIME_LEFT_S = 9.0

LINES = (
    SpokenLine(0.4, ("Front_Center",), "spoken before the session is up"),
    SpokenLine(6.0, ("Front_Right", "Front_Left"), "an ordinary turn"),
    SpokenLine(14.0, ("Rear_Center",), "GoAway in mid-word: the switch waits for a quiet moment"),
    SpokenLine(22.0, ("Side_Left", "Side_Right"), "the network is cut in mid-sentence"),
    SpokenLine(31.0, ("Rear_Left", "Rear_Right", "Rear_Center"), "a long one, for a long reply"),
    SpokenLine(37.6, ("Front_Center",), "barge-in: spoken over the reply"),
)

MISHAPS = (
    Mishap(14.7, StagedFault.GO_AWAY),
    Mishap(23.8, StagedFault.CUT),
)
