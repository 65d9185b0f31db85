"""What the model may do, and what it is told when it may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentd.clock import FakeClock
from agentd.config.settings import Audio, Settings
from agentd.device.guarded import QUESTIONS
from agentd.device.mute import Mute
from agentd.device.ringer import Ringer
from agentd.device.volume import SoftwareVolume, Volume, VolumeControl
from agentd.eventbus import EventBus
from agentd.events import Event
from agentd.live.toolbox import Tool, Toolbox
from agentd.tools.device import DeviceTools
from tests.device.memory import MemoryStore

pytestmark = pytest.mark.anyio


class World:
    """A device and the toolbox that the model has."""

    def __init__(self, **tables: Any) -> None:
        self.clock = FakeClock()
        settings = Settings.model_validate(tables)
        self.emitted: list[Event] = []
        self.gains: list[int] = []
        store, emit = MemoryStore(), self.emitted.append
        software = SoftwareVolume(self.gains.append)
        self.mute = Mute(store=store, bus=EventBus(emit), apply=lambda _: None)
        self.ringer = Ringer(
            clock=self.clock, store=store, emit=emit, boot="b", timezone=ZoneInfo("UTC")
        )

        async def find(_audio: Audio) -> VolumeControl:
            return software

        volume = Volume(
            Audio(volume_percent=70),
            find=find,
            fallback=software,
            store=store,
            emit=emit,
            clock=self.clock,
        )
        self.forgotten = 0
        tools = DeviceTools(volume, self.mute, self.ringer, self.forget, lambda: settings)
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


async def test_forget() -> None:
    """It says what was deleted; whether it may is not its own to judge."""
    world = World()
    assert await world.call("forget_conversation") == {"forgotten": "handle and transcript"}


# ── what a person is asked ──

DAY, NIGHT = 1_800_014_400.0, 1_800_057_600.0  # 12:00 and 00:00 UTC


def question(world: World, name: str, **args: object) -> str:
    """What the model must ask before `name` is run."""
    return world.toolbox.rules().ask(name, args).text


@pytest.mark.parametrize("confirmed", [None, True, "yes"])
async def test_to_forget_is_always_asked(confirmed: object) -> None:
    """No argument of the model is a yes, and none is part of what a yes is to."""
    ask = World().toolbox.rules().ask("forget_conversation", {"confirmed": confirmed})
    assert ask.text.startswith("delete this conversation")
    assert ask.args == {}


async def test_to_mute_is_asked_while_it_changes_something() -> None:
    """Only a hand undoes it."""
    world = World()
    assert "microphone" in question(world, "mute_microphone")
    await world.call("mute_microphone")
    assert question(world, "mute_microphone") == ""


async def test_to_cancel_several_is_asked() -> None:
    """All, those that a label fits, and one after the other; not a single one."""
    world = World()
    assert question(world, "cancel_timer", all=True) == ""
    for label in ("eggs", "rice", "eggs for two", "tea", "bread"):
        await world.call("set_timer", minutes=10, label=label)
    assert "all timers" in question(world, "cancel_timer", all=True)
    assert "several" in question(world, "cancel_timer", label="eggs")
    assert question(world, "cancel_timer", label="unknown") == ""
    for number in (2, 4):
        assert question(world, "cancel_timer", number=number) == ""
        await world.call("cancel_timer", number=number)
    assert "one more" in question(world, "cancel_timer", number=5)
    world.clock.advance(60.0)
    assert question(world, "cancel_timer", number=5) == ""


async def together(world: World, name: str, *calls: dict[str, Any]) -> list[Mapping[str, Any]]:
    """Call several times in one frame: all are judged before the first is run."""
    assert [question(world, name, **args) for args in calls] == [""] * len(calls)
    return [await world.call(name, **args) for args in calls]


async def test_calls_in_one_frame_cancel_no_more_than_one_after_the_other() -> None:
    """Two are cancelled; for the rest the model must call again, and then a person is asked."""
    world = World()
    for label in ("eggs", "rice", "tea", "bread", "cake"):
        await world.call("set_timer", minutes=10, label=label)
    calls = [{"number": number} for number in (1, 2, 3, 4, 5)]
    answers = await together(world, "cancel_timer", *calls)
    assert ["error" in answer for answer in answers] == [False, False, True, True, True]
    assert "cancel one more timer or alarm" in answers[2]["error"]
    assert [entry.label for entry in world.ringer.schedule.entries] == ["tea", "bread", "cake"]
    assert "one more" in question(world, "cancel_timer", number=3)
    await world.call("cancel_timer", number=3)  # a person has said yes
    assert [entry.label for entry in world.ringer.schedule.entries] == ["bread", "cake"]


async def test_steps_in_one_frame_are_no_way_to_a_loud_night() -> None:
    """Each was soft enough when it was called; together they are not."""
    world = World(tools={"night_volume_percent": 90})
    world.clock.unix_s = NIGHT
    answers = await together(world, "set_volume", *([{"direction": "up"}] * 5))
    assert [answer.get("volume_percent") for answer in answers] == [80, 90, None, None, None]
    assert "set the volume to 100 percent" in answers[2]["error"]
    assert "100 percent" in question(world, "set_volume", direction="up")
    assert (await world.call("set_volume", direction="up")) == {"volume_percent": 100}


@pytest.mark.parametrize(
    ("unix_s", "quiet_hours", "loud_percent", "args", "asks"),
    [
        (NIGHT, None, 70, {"percent": 100}, True),
        (NIGHT, None, 70, {"percent": "100"}, True),
        (NIGHT, None, 70, {"percent": 71}, True),
        (NIGHT, None, 70, {"direction": "up"}, True),
        (NIGHT, None, 70, {"percent": 70}, False),
        (NIGHT, None, 70, {"direction": "down"}, False),
        (NIGHT, None, 70, {"percent": 0}, False),
        (NIGHT, None, 70, {"percent": 1000}, False),
        (NIGHT, None, 70, {"percent": None}, False),
        (NIGHT, None, 30, {"percent": 60}, False),  # softer than it is
        (NIGHT, None, 100, {"percent": 100}, False),
        (NIGHT, "12:00-14:00", 70, {"percent": 100}, False),
        (DAY, "12:00-14:00", 70, {"percent": 100}, True),
        (DAY, None, 70, {"percent": 100}, False),
    ],
)
async def test_loud_nights_are_asked_for(
    unix_s: float, quiet_hours: str | None, loud_percent: int, args: dict[str, object], asks: bool
) -> None:
    """Louder than it is, and than the bound, in quiet hours."""
    world = World(sounds={"quiet_hours": quiet_hours}, tools={"night_volume_percent": loud_percent})
    world.clock.unix_s = unix_s
    assert bool(question(world, "set_volume", **args)) is asks


async def test_everything_else_needs_no_one() -> None:
    """Timers are set, listed and silenced as before."""
    world = World()
    for name in ("set_timer", "set_alarm", "list_timers", "stop_ringing", "made_up"):
        assert question(world, name, all=True, percent=100) == ""


async def test_a_function_that_cannot_say_is_asked_for() -> None:
    """A fault in the question is no way around it."""

    def broken(args: Mapping[str, Any]) -> str:
        raise KeyError("oven")

    async def run(args: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    ask = Toolbox((Tool("oven", "Heat.", run, asks=broken),)).rules().ask
    assert ask("oven", {}).text == "call oven"


async def test_the_model_is_told_how_confirmation_works() -> None:
    """In the description of each function that may need it."""
    guarded = {t.name for t in World().toolbox if "needs_confirmation" in t.description}
    assert guarded == set(QUESTIONS)


async def test_every_function_has_a_bound_of_its_own() -> None:
    """Calls within a minute."""
    limits = World().toolbox.rules().limits
    assert limits is not None
    assert limits.per_minute("set_volume") == 10
    assert limits.per_minute("forget_conversation") == 4
    assert limits.per_minute("made_up") is None
