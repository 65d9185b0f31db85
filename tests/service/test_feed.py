"""The queue between the daemon and a reader: every number is an item's, or missed."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentd.service import feed
from agentd.service.feed import Feed


def lines(found: bytes) -> list[dict[str, Any]]:
    """Return what a reader makes of it."""
    return [json.loads(line) for line in found.splitlines()]


def test_what_is_wanted_is_numbered_and_the_rest_is_not_there() -> None:
    """A reader that names two events sees no gap where a third was."""
    wanted = Feed(["turn", "muted"])
    assert wanted.event("turn", {"name": "turn"})
    assert not wanted.event("volume", {"name": "volume"})
    assert not wanted.transcript({"text": "secret"})
    assert wanted.event("muted", {"name": "muted"})
    told = lines(wanted.take())
    assert [(one["method"], one["params"]) for one in told] == [
        ("event", {"seq": 1, "name": "turn"}),
        ("event", {"seq": 2, "name": "muted"}),
    ]
    assert wanted.take() == b""


def test_transcripts_are_in_the_same_order_as_events() -> None:
    """One line of numbers for both."""
    both = Feed(["*"], transcripts=True)
    both.event("turn", {})
    assert both.transcript({"text": "hello"})
    both.event("muted", {})
    told = lines(both.take())
    assert [(one["method"], one["params"]["seq"]) for one in told] == [
        ("event", 1),
        ("transcript", 2),
        ("event", 3),
    ]


def test_what_is_large_counts_by_its_size() -> None:
    """Few items of many bytes are as much as many items of few."""
    large = Feed(["*"])
    for _ in range(100):
        large.event("log", {"message": "x" * 8000})
    told = lines(large.take())
    assert told[0]["method"] == "missed"
    assert sum(len(json.dumps(one)) for one in told) <= feed.QUEUE_BYTES + 200
    assert told[0]["params"]["count"] + len(told) - 1 == 100


@given(st.lists(st.integers(0, 2 * feed.QUEUE_ITEMS), max_size=6))
def test_every_number_is_an_item_or_missed(bursts: list[int]) -> None:
    """However unevenly a reader reads, what it has and what it missed make up everything."""
    slow, seen, sent = Feed(["*"]), 0, 0
    for burst in bursts:
        for _ in range(burst):
            sent += 1
            slow.event("turn", {"is": sent})
        for one in lines(slow.take()):
            params = one["params"]
            assert params["seq"] == seen + 1
            if one["method"] == "missed":
                seen += params["count"]
            else:
                assert params["is"] == params["seq"]
                seen += 1
    assert seen == sent
    assert slow.missed == sum(max(0, burst - feed.QUEUE_ITEMS) for burst in bursts)
