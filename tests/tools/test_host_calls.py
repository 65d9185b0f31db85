"""Calls to a tool host, and whatever it sends back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.service import rpc
from agentd.tools import host_calls
from agentd.tools.host_calls import Heard, HostAnswer, HostCalls, Misbehaved

NOW = 100.0
NEITHER = "neither a result nor an error"


def called(count: int = 1) -> HostCalls:
    """Return calls under way, numbered from 1."""
    calls = HostCalls(NOW)
    for _ in range(count):
        calls.call("light_on", {"room": "hall"}, timeout_s=10.0, now=NOW)
    return calls


def heard(calls: HostCalls, message: Any, now: float = NOW) -> Heard:
    """Hear a message."""
    return calls.heard(json.dumps(message).encode(), now)


def test_a_call_says_everything_that_a_host_needs() -> None:
    """Name, arguments, how long it may take, and until when by the machine's clock."""
    number, line = HostCalls(NOW).call("light_on", {"room": "hall"}, timeout_s=10.0, now=NOW)
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tool.call",
        "params": {
            "name": "light_on",
            "args": {"room": "hall"},
            "timeout_s": 10.0,
            "deadline_s": 110.0,
        },
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"result": {"on": True}}, HostAnswer(1, {"on": True})),
        ({"result": "done"}, HostAnswer(1, {"result": "done"})),
        ({"result": None}, HostAnswer(1, {"result": None})),
        ({"error": {"code": 1, "message": "no bulb"}}, HostAnswer(1, {}, "no bulb")),
        ({"error": "no bulb"}, HostAnswer(1, {}, "no bulb")),
        ({"error": {}}, HostAnswer(1, {}, "it failed without saying why")),
        ({}, HostAnswer(1, {}, f"the answer of light_on is {NEITHER}")),
        ({"result": 1, "error": 2}, HostAnswer(1, {}, f"the answer of light_on is {NEITHER}")),
    ],
)
def test_an_answer_ends_its_call(said: dict[str, Any], expected: HostAnswer) -> None:
    """By a result of any kind, by an error, or by something that is neither."""
    calls = called()
    assert heard(calls, {"id": 1, **said}) == expected
    assert heard(calls, {"id": 1, **said}) is None, "the second one is nobody's"


def test_an_answer_nested_too_deeply_is_none() -> None:
    """It would have to be walked through, again and again."""
    deep: Any = 1
    for _ in range(host_calls.MAX_DEPTH):
        deep = [deep]
    answer = heard(called(), {"id": 1, "result": deep})
    assert isinstance(answer, HostAnswer)
    assert answer.error == "the answer of light_on is nested too deeply"
    assert heard(called(), {"id": 1, "result": {"a": deep[0][0]}}) is not None


def test_calls_are_few_at_once_and_cancelled_once() -> None:
    """What is cancelled has ended; its answer is late and no mistake."""
    calls = called(host_calls.MAX_CALLS)
    full = calls.is_full
    assert full
    assert json.loads(calls.cancel(1))["params"] == {"id": 1}
    assert calls.cancel(1) == b""
    assert not calls.is_full
    for _ in range(20):
        assert heard(calls, {"id": 1, "result": {}}) is None


def test_a_request_of_the_host_is_its_own_affair() -> None:
    """It may offer anew; one that is none is a mistake."""
    request = heard(called(), {"jsonrpc": "2.0", "id": 5, "method": "tools.offer", "params": {}})
    assert request == rpc.Request("tools.offer", {}, 5, notification=False)
    assert heard(called(), {"method": "tools.offer"}) is None


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n", b"\xff\n", b"[" * 60_000, b'{"id": NaN}', b"[]", b"1", b"{}", b'{"id": 2}',
        b'{"id": true, "result": 1}', b'{"id": "1", "result": 1}', b'{"id": 0, "result": 1}',
        b'{"method": 1}', b'{"id": 1.0, "result": 1}',
    ],
)  # fmt: skip
def test_mistakes_are_borne_for_a_while(line: bytes) -> None:
    """A call under way is not disturbed by them; one that makes nothing else is hung up on."""
    calls = called()
    for at in range(host_calls.MAX_MISTAKES):
        assert calls.heard(line, NOW + at) is None
    assert heard(calls, {"id": 1, "result": {}}, NOW + 9) == HostAnswer(1, {})
    with pytest.raises(Misbehaved, match="mistake after mistake"):
        calls.heard(line, NOW + 10)


def test_a_flood_is_cut_off() -> None:
    """A burst is fine, and as many lines a second as anybody needs."""
    calls = called()
    for _ in range(host_calls.LINES_AT_ONCE):
        heard(calls, {"id": 1, "result": {}}, NOW)
    for at in range(100):
        heard(calls, {"id": 1, "result": {}}, NOW + 1 + at / host_calls.LINES_PER_S)
    for _ in range(host_calls.LINES_AT_ONCE):
        heard(calls, {"id": 1, "result": {}}, NOW + 60)
    with pytest.raises(Misbehaved, match="more than 8 lines a second"):
        heard(calls, {"id": 1, "result": {}}, NOW + 60)


def test_a_host_that_never_answers_is_given_up() -> None:
    """An answer in between begins the count anew."""
    calls = called(5)
    calls.timed_out()
    calls.timed_out()
    heard(calls, {"id": 3, "result": {}})
    calls.timed_out()
    calls.timed_out()
    with pytest.raises(Misbehaved, match="not answered 3 calls in a row"):
        calls.timed_out()


@given(st.lists(st.binary(max_size=60) | st.builds(
    lambda message: json.dumps(message).encode(),
    st.dictionaries(st.sampled_from(["id", "result", "error", "method", "jsonrpc", "params"]),
                    st.none() | st.integers(0, 5) | st.text(max_size=3) | st.just("2.0")),
), max_size=30))  # fmt: skip
def test_any_lines_are_answers_requests_mistakes_or_the_end(lines: list[bytes]) -> None:
    """Nothing else can come of them, and no call is answered twice."""
    calls, answered = called(3), []
    try:
        for line in lines:
            found = calls.heard(line, NOW)
            if isinstance(found, HostAnswer):
                answered.append(found.call)
    except Misbehaved:
        pass
    assert sorted(set(answered)) == sorted(answered)
