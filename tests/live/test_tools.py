"""The toolbox."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from agentd.live.toolbox import MAX_RESPONSE_CHARS, Tool, Toolbox, ToolFailed, builtin_tools


def call(toolbox: Toolbox, name: str, **args: Any) -> tuple[str, Mapping[str, Any]]:
    """Call a tool."""
    return asyncio.run(toolbox.call(name, args))


async def echo(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer with the arguments."""
    return {"got": dict(args)}


async def fail(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fail."""
    raise KeyError("lamp")


async def chatter(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say too much."""
    return {"words": "x" * MAX_RESPONSE_CHARS}


async def odd(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer with something that is no JSON."""
    return {"what": object()}


def test_a_tool_answers() -> None:
    """With its result."""
    assert call(Toolbox((Tool("echo", "", echo),)), "echo", a=1) == ("answered", {"got": {"a": 1}})


@pytest.mark.parametrize(
    ("run", "says"), [(fail, "KeyError"), (chatter, "too long"), (odd, "JSON")]
)
def test_whatever_a_tool_does_the_model_gets_an_answer(run: Any, says: str) -> None:
    """A fault is told to the model and ends nothing."""
    outcome, response = call(Toolbox((Tool("t", "", run),)), "t")
    assert outcome == "failed"
    assert says in response["error"]


def test_a_tool_that_says_why_it_failed_is_quoted() -> None:
    """Without the name of an exception before it."""

    async def refuse(args: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ToolFailed("the lamp is unplugged")

    toolbox = Toolbox((Tool("lamp", "", refuse),))
    assert call(toolbox, "lamp") == ("failed", {"error": "the lamp is unplugged"})


def test_a_tool_that_was_removed_is_none() -> None:
    """Its name is free again, and its deadline is nobody's."""
    toolbox = Toolbox((Tool("lamp", "", echo, timeout_s=3.0),))
    rules = toolbox.rules()
    assert rules.timeout_s("lamp") == 3.0
    toolbox.remove("lamp")
    toolbox.remove("lamp")
    assert rules.timeout_s("lamp") is None
    assert call(toolbox, "lamp") == ("failed", {"error": "there is no function lamp"})
    toolbox.add(Tool("lamp", "", echo))
    assert len(toolbox) == 1


def test_a_function_that_does_not_exist() -> None:
    """Models make them up."""
    assert call(Toolbox(), "imagined") == ("failed", {"error": "there is no function imagined"})


def test_names() -> None:
    """Unique, and such as the API allows."""
    toolbox = Toolbox((Tool("t", "", echo, slow=True),))
    assert len(toolbox) == 1
    assert [tool.name for tool in toolbox] == ["t"]
    assert toolbox.is_slow("t")
    assert not toolbox.is_slow("u")
    for name in ("t", "", "1st", "white space", "x" * 65):
        with pytest.raises(ValueError, match="tool"):
            toolbox.add(Tool(name, "", echo))


def test_the_time() -> None:
    """Here, elsewhere, and nowhere."""
    noon = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
    toolbox = Toolbox(builtin_tools(dict, now=lambda: noon))
    _, answer = call(toolbox, "get_time", time_zone="Asia/Jakarta")
    assert answer == {"time": "2026-01-05T19:00:00+07:00", "weekday": "Monday"}
    _, answer = call(toolbox, "get_time", time_zone="Moon/Base")
    assert "Europe/Berlin" in answer["error"]
    outcome, answer = call(toolbox, "get_time", time_zone=7)
    assert outcome == "answered"
    assert answer["weekday"] == "Monday"


def test_the_device() -> None:
    """As the injected function tells it."""
    toolbox = Toolbox(builtin_tools(lambda: {"volume_percent": 40}))
    assert call(toolbox, "device_status") == ("answered", {"volume_percent": 40})
