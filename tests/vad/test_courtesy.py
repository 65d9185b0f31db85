"""What a transcript says about going on."""

from __future__ import annotations

import pytest

from agentd.events import Speaker, TranscriptText
from agentd.vad.courtesy import Courtesy


def heard(speaker: Speaker, *pieces: str, turn: int = 1) -> Courtesy:
    value = Courtesy()
    for piece in pieces:
        value = value.after(TranscriptText(turn, speaker, piece))
    return value


@pytest.mark.parametrize(
    "pieces",
    [
        ("Thank you.",),
        ("thank ", "you"),
        (" Okay, thanks!",),
        ("Thank you, computer.",),
        ("Terima kasih.",),
        ("That’s all",),
        ("No, thank you.",),
        ("ありがとうございます",),
    ],
)
def test_a_thank_you_is_one(pieces: tuple[str, ...]) -> None:
    """In pieces, with a name, in the languages that are spoken."""
    assert heard(Speaker.USER, *pieces).is_thanks


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What time is it?",
        "Thank you for the music is a song by whom?",
        "Thanks, and what about the day after tomorrow?",
        "thank you " * 40,
    ],
)
def test_a_thank_you_in_passing_is_none(text: str) -> None:
    """Something else follows it."""
    assert not heard(Speaker.USER, text).is_thanks


def test_only_the_model_asks_the_user() -> None:
    """And only with the end of what it says; a new turn begins with nothing."""
    asked = heard(Speaker.MODEL, "Shall I? I could", " do it now?” ")
    assert asked.is_question
    assert not asked.is_thanks
    assert not heard(Speaker.MODEL, "Shall I? Done.").is_question
    assert not heard(Speaker.USER, "Shall I?").is_question
    assert not asked.after(TranscriptText(2, Speaker.MODEL, "No.")).is_question
