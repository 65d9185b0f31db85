"""What a frame may be before the SDK sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.live.google.frames import (
    KINDS,
    MAX_ARGS_DEPTH,
    MAX_DIGITS,
    MAX_VALUES,
    Gauge,
    UnknownKind,
    UnusableFrame,
    call_problem,
    screened,
)


def frame(**content: Any) -> bytes:
    """A frame as the service sends it."""
    return json.dumps(content).encode()


PARTS = [{"text": "x"}]


@pytest.mark.parametrize(
    "good",
    [
        frame(serverContent={}),
        frame(serverContent={"modelTurn": {"parts": PARTS * 256}}),
        frame(serverContent={"modelTurn": 7}, newSibling=[1]),
        frame(serverContent=7),
        frame(toolCall={"functionCalls": [{"name": "f"}] * 64}),
        frame(goAway={"timeLeft": "50s"}),
        frame(serverContent=[], interactionStatus="IDLE"),
        frame(usageMetadata={"totalTokenCount": 10**MAX_DIGITS - 1}),
        frame(usageMetadata={"totalTokenCount": 7}, more=["1 " * MAX_DIGITS]),
    ],
)
def test_what_the_service_sends_passes_as_it_is(good: bytes) -> None:
    """Byte for byte: nothing is spent on frames that are in order."""
    assert screened(good) is good


@pytest.mark.parametrize("nothing", [b"", b"{}", frame(serverContent=None), frame(x=None)])
def test_frames_that_say_nothing(nothing: bytes) -> None:
    """Are the empty frame; the SDK raises on some of them."""
    assert screened(nothing) == b"{}"


TOO_LONG = f"frame with more than {MAX_DIGITS} digits in a row"
BAD = [
    (b"[]", "frame that is no JSON object"),
    (b"17", "frame that is no JSON object"),
    (b"null", "frame that is no JSON object"),
    (b'"goAway"', "frame that is no JSON object"),
    (b"no json", "frame that is no JSON"),
    (b"\xff\xfe{", "frame that is no JSON"),
    (b'{"a":' * 4_000, "frame that is no JSON"),
    (b'{"usageMetadata": ' + b"9" * 5_000 + b"}", TOO_LONG),
    (frame(usageMetadata={"totalTokenCount": 10**MAX_DIGITS}), TOO_LONG),
    (b'{"serverContent": {}, "x": -0.' + b"12" * MAX_DIGITS + b"}", TOO_LONG),
    (b"[" * 100_000, f"frame with more than {MAX_VALUES} values"),
    (frame(serverContent=list(range(MAX_VALUES))), f"frame with more than {MAX_VALUES} values"),
    (
        frame(serverContent={"modelTurn": {"parts": PARTS * 257}}),
        "frame with 257 parts, more than 256",
    ),
    (
        frame(serverContent={"model_turn": {"parts": PARTS * 300}}),
        "frame with 300 parts, more than 256",
    ),
    (frame(toolCall={"functionCalls": [{}] * 65}), "frame with 65 calls, more than 64"),
    (frame(toolCall={"function_calls": [{}] * 65}), "frame with 65 calls, more than 64"),
    (
        frame(toolCallCancellation={"ids": ["c"] * 257}),
        "frame with 257 cancelled calls, more than 256",
    ),
    (
        frame(error={"code": 429, "status": "RESOURCE_EXHAUSTED"}),
        "error frame 429 RESOURCE_EXHAUSTED",
    ),
    (frame(error="\x1b[2J"), "error frame"),
    (
        frame(code=500, status="INTERNAL\n" * 100),
        "error frame 500 INTERNAL INTERNAL INTERNAL INTERNAL INTE",
    ),
]


@pytest.mark.parametrize(("bad", "problem"), BAD, ids=lambda value: repr(value)[:40])
def test_what_cannot_be_used_is_named(bad: bytes, problem: str) -> None:
    """By its kind and size, never by what it says."""
    with pytest.raises(UnusableFrame) as told:
        screened(bad)
    assert str(told.value) == problem


@pytest.mark.parametrize(
    ("kind", "told"),
    [("futureTop", "futureTop"), ("x" * 41, "other"), ("\x1b]0;", "other"), ("ümlaut", "other")],
)
def test_a_new_kind_is_no_fault(kind: str, told: str) -> None:
    """It is named if its name looks like one of the protocol's."""
    with pytest.raises(UnknownKind) as error:
        screened(frame(**{kind: {"error": 1}}))
    assert error.value.kind == told


def test_a_status_at_the_top_level_reaches_the_content() -> None:
    """The SDK drops it there; what stands in the content itself has the last word."""
    assert json.loads(screened(frame(interactionStatus="IDLE"))) == {
        "serverContent": {"interactionStatus": "IDLE"}
    }
    both = frame(
        serverContent={"turnComplete": True, "interactionStatus": "IN_PROGRESS"},
        interactionStatus="IDLE",
    )
    assert json.loads(screened(both))["serverContent"] == {
        "turnComplete": True,
        "interactionStatus": "IN_PROGRESS",
    }
    assert json.loads(screened(frame(interactionStatus=7, goAway={}))) == {"goAway": {}}


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
objects = st.dictionaries(
    st.sampled_from([*sorted(KINDS), "interactionStatus", "error", "code"]) | st.text(), values
)


@given(
    st.one_of(
        st.binary(),
        values.map(lambda v: json.dumps(v).encode()),
        objects.map(lambda v: json.dumps(v).encode()),
    )
)
def test_any_bytes_are_a_frame_or_an_error_of_ours(data: bytes) -> None:
    """Nothing else is raised, and the SDK gets an object or nothing."""
    problem = ""
    try:
        passed = screened(data)
    except (UnusableFrame, UnknownKind) as error:
        passed, problem = b"{}", str(error)
    assert len(problem) <= 240
    assert isinstance(json.loads(passed), dict)


def test_arguments_of_a_call() -> None:
    """Bounded in name, size and depth; whatever JSON can hold is judged without an error."""
    assert call_problem("f", {"x": float("nan"), "y": 10**4000}) == ""
    deep: Any = 1
    for _ in range(MAX_ARGS_DEPTH - 1):
        deep = [deep]
    assert call_problem("f", {"x": deep}) == ""
    assert call_problem("f", {"x": [deep]}) == "arguments nested deeper than 16"
    assert call_problem("f" * 65, {}) == "no function has a name of 65 characters"
    assert call_problem("f", {"x": {"y": [deep]}}) == "arguments nested deeper than 16"


def test_a_gauge_bounds_bursts_and_rates() -> None:
    """So many at once, then as many as the rate allows; quiet time fills it again, not beyond."""
    gauge = Gauge(at_once=10, per_s=2.0)
    assert [gauge.is_over(100.0) for _ in range(11)] == [False] * 10 + [True]
    assert not gauge.is_over(101.0)
    assert gauge.is_over(101.0)
    assert [gauge.is_over(1000.0) for _ in range(11)] == [False] * 10 + [True]
    assert gauge.is_over(999.0), "a clock that steps back forgives nothing"
