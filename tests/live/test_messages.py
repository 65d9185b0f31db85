"""Values at the border."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.live.messages import (
    GO_AWAY_UNSTATED_S,
    MAX_COUNT,
    MESSAGE_BYTES,
    ActivityStart,
    ClientContent,
    ClientMessage,
    Content,
    ContextUpdate,
    FunctionCall,
    RealtimeAudio,
    RealtimeText,
    ServerMessage,
    ToolResponse,
    TranscriptPiece,
    believable,
    is_content,
    parse_time_left_s,
    reason_name,
    size_bytes,
    whole_json,
    whole_text,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50s", 50.0),
        ("9.500s", 9.5),
        ("0s", 0.0),
        (" 7 s ", 7.0),
        ("12", 12.0),
        ("-3s", 0.0),
        ("99999999s", 3600.0),
        (None, GO_AWAY_UNSTATED_S),
        ("", GO_AWAY_UNSTATED_S),
        ("soon", GO_AWAY_UNSTATED_S),
        ("1e9s", GO_AWAY_UNSTATED_S),
        ("9" * 50 + "s", GO_AWAY_UNSTATED_S),
        (50, GO_AWAY_UNSTATED_S),
    ],
)
def test_time_left(text: object, seconds: float) -> None:
    """A duration as the service writes it; anything else counts as soon."""
    assert parse_time_left_s(text) == seconds


@given(st.one_of(st.text(), st.none(), st.floats(), st.binary()))
def test_time_left_is_always_a_time(text: object) -> None:
    """Whatever the server says, the switch has a finite deadline."""
    seconds = parse_time_left_s(text)
    assert math.isfinite(seconds)
    assert 0.0 <= seconds <= 3600.0


def test_what_counts_as_content() -> None:
    """Audio, model turns, model text and calls are the answer; markers and user text are not."""
    for message in (
        ServerMessage(audio=(b"ab",)),
        ServerMessage(model_turn=True),
        ServerMessage(model_text=TranscriptPiece("hi")),
        ServerMessage(calls=(FunctionCall("1", "f", {}),)),
    ):
        assert is_content(message)
    assert not is_content(
        ServerMessage(user_text=TranscriptPiece("hi"), turn_complete=True, interrupted=True)
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, ""),
        ("TURN_COMPLETE_REASON_UNSPECIFIED", ""),
        ("NEED_MORE_INPUT", "NEED_MORE_INPUT"),
        ("\x1b[31mred", "OTHER"),
        ("A" * 65, "OTHER"),
        (7, "OTHER"),
    ],
)
def test_a_reason_is_shown_by_its_name_or_not_at_all(given: object, shown: str) -> None:
    """What is no name of an enum goes into no log."""
    assert reason_name(given) == shown


def test_half_surrogates_are_replaced_everywhere() -> None:
    """One is enough for a strict JSON parser to close the connection."""
    half = "a\ud83d"
    assert whole_text(half) == "a\ufffd"
    assert whole_text("a😀") == "a😀"
    given = {half: [half, {"n": 1, "t": (half,)}], "ok": None}
    assert whole_json(given) == {"a\ufffd": ["a\ufffd", {"n": 1, "t": ["a\ufffd"]}], "ok": None}


def test_a_transcription_that_only_says_finished_is_no_content() -> None:
    """Vertex AI closes empty turns with it."""
    assert not is_content(ServerMessage(model_text=TranscriptPiece("", finished=True)))
    assert is_content(ServerMessage(model_text=TranscriptPiece("a")))


@pytest.mark.parametrize(
    ("message", "least"),
    [
        (ActivityStart(), 0),
        (RealtimeAudio(b"x" * 640), 640),
        (RealtimeText("x" * 1000), 1000),
        (ContextUpdate("x" * 1000), 1000),
        (ClientContent((Content("user", "x" * 300), Content("model", "x" * 700)), True), 1000),
        (ToolResponse("x" * 10, "f", {"result": "x" * 1000}), 1010),
    ],
)
def test_every_message_takes_memory(message: ClientMessage, least: int) -> None:
    """What waits is counted by what it says, and never as nothing."""
    assert size_bytes(message) >= MESSAGE_BYTES + least


@pytest.mark.parametrize(
    ("count", "believed"),
    [(0, 0), (7, 7), (MAX_COUNT, MAX_COUNT), (MAX_COUNT + 1, 0), (10**4299, 0), (-1, 0), (None, 0)],
)
def test_counts(count: object, believed: int) -> None:
    """A count is a number that JSON carries exactly, or it is none."""
    assert believable(count) == believed
