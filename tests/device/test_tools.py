"""What the model may do, and what it is told when it may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentd.clock import FakeClock
from agentd.device.mute import Mute
from agentd.device.ringer import Ringer
from agentd.device.tools import DeviceTools
from agentd.device.volume import SoftwareVolume, Volume
from agentd.events import Event
from agentd.live.tools import Toolbox
from tests.device.memory import MemoryStore

pytestmark = pytest.mark.anyio


class World:
    """A device and the toolbox that the model has."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.emitted: list[Event] = []
        self.gains: list[int] = []
        store, emit = MemoryStore(), self.emitted.append
        software = SoftwareVolume(self.gains.append)
        self.mute = Mute(store=store, emit=emit, apply=lambda _: None)
        self.ringer = Ringer(
            clock=self.clock, store=store, emit=emit, boot="b", timezone=ZoneInfo("UTC")
        )
        volume = Volume(
            control=software,
            fallback=software,
            store=store,
            emit=emit,
            default_percent=70,
            clock=self.clock,
        )
        self.forgotten = 0
        tools = DeviceTools(volume, self.mute, self.ringer, self.forget)
        self.toolbox = Toolbox(tools.tools())

    async def forget(self) -> str:
        self.forgotten += 1
        return "handle and transcript"

    async def call(self, name: str, **args: object) -> Mapping[str, Any]:
        """Call a tool as the model does; it must answer, not fail."""
        outcome, response = await self.toolbox.call(name, args)
        assert outcome == "answered"
        return response


def test_every_tool_says_what_it_takes() -> None:
    """Each tool has a description and an object schema with known types."""
    for tool in World().toolbox:
        assert tool.description.endswith(".")
        assert tool.parameters["type"] == "object"
        for name in tool.parameters.get("required", []):
            assert name in tool.parameters["properties"]
        for spec in tool.parameters["properties"].values():
            assert spec["type"] in ("string", "integer", "number", "boolean")
            assert "required" not in spec


@pytest.mark.parametrize(
    ("args", "percent"),
    [
        ({"percent": 40}, 40),
        ({"percent": "40"}, 40),
        ({"percent": 39.6}, 40),
        ({"direction": "up"}, 80),
        ({"direction": "down", "percent": 5}, 60),
    ],
)
async def test_set_volume(args: dict[str, object], percent: int) -> None:
    """To a percentage, also as text, or by a step."""
    world = World()
    assert await world.call("set_volume", **args) == {"volume_percent": percent}
    assert world.gains == [percent]


@pytest.mark.parametrize(
    "args",
    [
        *({}, {"percent": 140}, {"percent": -1}, {"percent": "loud"}, {"percent": True}),
        *({"percent": float("nan")}, {"percent": None}, {"direction": "sideways"}),
    ],
)
async def test_bad_volume(args: dict[str, object]) -> None:
    """What is no volume is answered with what one is; nothing changes."""
    world = World()
    response = await world.call("set_volume", **args)
    assert "0 to 100" in response["error"]
    assert world.gains == []


async def test_mute() -> None:
    """The model can mute; it has no function to unmute."""
    world = World()
    assert (await world.call("mute_microphone"))["muted"] is True
    assert world.mute.muted
    assert not [tool.name for tool in world.toolbox if "unmute" in tool.name]


async def test_timer() -> None:
    """Ten minutes for the eggs: set, listed, cancelled."""
    world = World()
    expected = {"number": 1, "kind": "timer", "label": "eggs", "in_seconds": 630}
    assert await world.call("set_timer", minutes=10, seconds="30", label="eggs") == {
        "set": expected
    }
    assert await world.call("list_timers") == {"pending": [expected], "ringing": []}
    assert await world.call("cancel_timer", label="eggs") == {"cancelled": [expected]}
    assert await world.call("list_timers") == {"pending": [], "ringing": []}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"minutes": -5}, "at least one second"),
        ({}, "at least one second"),
        ({"minutes": "five"}, "numbers"),
        ({"hours": 1e308}, "seven days"),
        ({"hours": []}, "numbers"),
    ],
)
async def test_bad_timer(args: dict[str, object], words: str) -> None:
    """Minus five minutes gets a clear answer."""
    assert words in (await World().call("set_timer", **args))["error"]


async def test_alarm() -> None:
    """An alarm tells the day and time that was understood."""
    world = World()
    response = await world.call("set_alarm", time="07:30", repeat="daily")
    assert response["set"]["at"].endswith("07:30")
    assert response["set"]["repeat"] == "daily"
    assert "00:00 and 23:59" in (await world.call("set_alarm", time=730))["error"]
    assert "weekdays" in (await world.call("set_alarm", time="7:30", repeat="x"))["error"]


async def test_cancel() -> None:
    """By number, by kind, all; what is unclear is answered with what there is."""
    world = World()
    for _ in range(4):
        await world.call("set_timer", minutes=1)
    await world.call("set_alarm", time="07:30")
    assert len((await world.call("cancel_timer"))["pending"]) == 5
    assert (await world.call("cancel_timer", number="2"))["cancelled"][0]["number"] == 2
    assert (await world.call("cancel_timer", kind="alarm"))["cancelled"][0]["kind"] == "alarm"
    assert "no such" in (await world.call("cancel_timer", number=99))["error"]
    assert len((await world.call("cancel_timer", all=True))["cancelled"]) == 3
    assert "error" in await world.call("cancel_timer", kind=7)


async def test_stop_ringing() -> None:
    """What rings is listed and can be silenced by voice."""
    world = World()
    assert await world.call("stop_ringing") == {"stopped": False}
    await world.call("set_timer", seconds=5)
    world.clock.advance(5)
    world.ringer.look()
    assert len((await world.call("list_timers"))["ringing"]) == 1
    assert await world.call("stop_ringing") == {"stopped": True}


async def test_forget_needs_a_yes() -> None:
    """The conversation is deleted only after a confirmation."""
    world = World()
    for args in ({}, {"confirmed": False}, {"confirmed": "yes"}):
        assert "confirm" in (await world.call("forget_conversation", **args))["error"]
    assert world.forgotten == 0
    assert await world.call("forget_conversation", confirmed=True) == {
        "forgotten": "handle and transcript"
    }
