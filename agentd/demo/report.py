"""What the demo proves: the emulator's record against the words that were spoken."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentd.audio import formats
from agentd.audio.wav import read_header
from agentd.demo.screen import Sheet
from agentd.demo.script import SpokenLine
from agentd.events import TurnEnded
from agentd.service.statustext import was_answered
from agentd.text import counted
from live_emulator import Utterance

EDGE_S = 0.06  # the recordings begin and end with a little silence


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one line reached the service."""

    line: SpokenLine
    connection: int  # 0: not at all
    times: int  # how many complete utterances held it
    turn: TurnEnded | None

    @property
    def whole(self) -> bool:
        """Say whether every sample arrived, in order, exactly once."""
        return self.times == 1


def check(
    microphone: Path,
    placed: Sequence[tuple[float, float]],
    lines: Sequence[SpokenLine],
    received: Sequence[Utterance],
    turns: Sequence[TurnEnded],
) -> list[Delivery]:
    """Find every line in what the service received.

    Each utterance received must be one uncut stretch of the 16 kHz microphone recording, but for
    the constant that capture takes out of a frame; a line is delivered when such a stretch covers
    it.
    """
    layout = read_header(microphone)
    heard = shapes(microphone.read_bytes()[layout.data_at :])
    stretches: list[tuple[Utterance, float]] = []
    cursor = 0
    for utterance in received:
        # Said twice, a word is found twice: what follows the last stretch comes first.
        at = _find(heard, shapes(utterance.pcm), cursor)
        if utterance.complete and utterance.pcm and at >= 0:
            stretches.append((utterance, at / 2 / formats.CAPTURE_RATE_HZ))
            cursor = at + len(utterance.pcm)
    deliveries = []
    answers = iter(turns)
    for line, (begin_s, end_s) in zip(lines, placed, strict=True):
        hits = [
            utterance
            for utterance, at_s in stretches
            if at_s <= begin_s + EDGE_S and at_s + utterance.seconds >= end_s - EDGE_S
        ]
        connection = hits[-1].connection if hits else 0
        deliveries.append(Delivery(line, connection, len(hits), next(answers, None)))
    return deliveries


def shapes(pcm: bytes) -> bytes:
    """Return int16 samples, in each frame of 640 bytes less by the frame's first one.

    What is added to all samples of a frame leaves it as it is: capture takes out what it holds for
    the converter's offset (`agentd.audio.offset`), and learns that offset from the first frames.
    """
    frames = (pcm[at : at + formats.FRAME_BYTES] for at in range(0, len(pcm), formats.FRAME_BYTES))
    return b"".join(_shape(formats.samples(frame)) for frame in frames)


def _shape(frame: Sequence[int]) -> bytes:
    return array("H", [(value - frame[0]) & 0xFFFF for value in frame]).tobytes()


def _find(heard: bytes, wanted: bytes, cursor: int) -> int:
    """Return where `wanted` stands whole frames from the beginning: behind `cursor`, else last."""
    places: list[int] = []
    at = heard.find(wanted)
    while at >= 0 and wanted:
        if at % formats.FRAME_BYTES == 0:
            places.append(at)
        at = heard.find(wanted, at + 2)
    return next((place for place in places if place >= cursor), places[-1] if places else -1)


def table(deliveries: Sequence[Delivery]) -> Sheet:
    """Return the closing table."""
    figures = ("connection", "arrived", "answered after", "reply heard")
    return Sheet(
        "What was said, and what became of it",
        ("said", "meanwhile", *figures),
        tuple(_row(item) for item in deliveries),
        frozenset(figures),
    )


def _row(item: Delivery) -> tuple[str, ...]:
    turn = item.turn
    return (
        item.line.text,
        item.line.note,
        str(item.connection) if item.connection else "–",
        "whole" if item.whole else counted(item.times, "time"),
        f"{turn.first_audio_ms:.0f} ms" if turn and was_answered(turn.first_audio_ms) else "–",
        f"{turn.heard_ms / 1000:.1f} s" if turn and was_answered(turn.heard_ms) else "–",
    )
