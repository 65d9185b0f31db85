"""Values at the border."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.live.messages import (
    GO_AWAY_UNSTATED_S,
    FunctionCall,
    ServerMessage,
    Text,
    is_content,
    parse_time_left_s,
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
        ServerMessage(model_text=Text("hi")),
        ServerMessage(calls=(FunctionCall("1", "f", {}),)),
    ):
        assert is_content(message)
    assert not is_content(ServerMessage(user_text=Text("hi"), turn_complete=True, interrupted=True))
