"""The stages as one: what a new one gets for its one line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pytest

from agentd.config.settings import Log, Settings
from agentd.events import Event, Muted
from agentd.live.toolbox import Response, Tool
from agentd.service.rpc import Method
from agentd.stage import Stage
from agentd.stages import Stages
from tests.virtual import run_virtually

BEFORE = Settings()
AFTER = Settings(log=Log(level="debug"))


class Bare(Stage):
    """Does nothing but be there."""


@dataclass
class Figures:
    """A part of the status."""

    level_dbfs: float = -41.26
    frames: int = 3


class Full(Stage):
    """Has all that a stage may have."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.heard.append(event)

    def status(self) -> object:
        return Figures()

    def methods(self) -> Mapping[str, Method]:
        return {"wink": Method(lambda _params: "done")}

    def tools(self) -> Iterable[Tool]:
        async def wink(_args: Mapping[str, object]) -> Response:
            return {}

        return [Tool("wink", "Wink.", wink)]


class Slow(Stage):
    """Takes its time, and notes whose settings it takes and whether two come at once."""

    def __init__(self, how: str = "", fails_on: Settings | None = None) -> None:
        self.taken: list[Settings] = []
        self.at_once = self.most = 0
        self.how = how
        self.fails_on = fails_on

    async def configure(self, settings: Settings) -> str:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(1.0)
        self.at_once -= 1
        if settings == self.fails_on:
            raise MemoryError
        self.taken.append(settings)
        return self.how


def stages(**named: Stage) -> Stages:
    """Return the stages under their names."""
    found = Stages(BEFORE)
    for name, stage in named.items():
        found.add(name, stage)
    return found


def test_one_line_gives_events_status_methods_and_tools() -> None:
    """Nothing else of the daemon has to know of a new stage."""
    full = Full()
    whole = stages(bare=Bare(), full=full)
    whole.on_event(Muted(by="button"))
    assert full.heard == [Muted(by="button")]
    assert whole.status() == {"full": {"level_dbfs": -41.3, "frames": 3}}
    assert list(whole.methods()) == ["wink"]
    assert [tool.name for tool in whole.tools()] == ["wink"]


def test_a_bare_stage_runs_to_its_end_and_takes_everything() -> None:
    """The defaults: nothing to run, nothing to configure, deaf, without a part."""

    async def main() -> None:
        bare = Bare()
        await bare.run()
        assert await bare.configure(AFTER) == ""
        bare.on_event(Muted(by="button"))
        assert bare.status() is None

    run_virtually(main())


def test_a_name_is_there_once() -> None:
    """Of stages and of methods: two answers to one question would be a matter of luck."""
    with pytest.raises(ValueError, match="a stage full already"):
        stages(full=Full()).add("full", Full())
    with pytest.raises(ValueError, match="stage other: there is a method wink"):
        stages(full=Full(), other=Full()).methods()


def test_all_take_the_settings_and_the_reload_says_how() -> None:
    """In their order; the word comes from the stage that has one."""

    async def main() -> None:
        first, second = Slow(how="on_resume"), Slow()
        whole = stages(first=first, second=second)
        done = await whole.configure(AFTER)
        assert (done.changed, done.how) == (("log",), "on_resume")
        assert first.taken == second.taken == [AFTER]
        assert whole.settings == AFTER

    run_virtually(main())


def test_two_at_once_come_one_after_the_other() -> None:
    """No stage ever takes two settings at once, and the last ones are in force everywhere."""

    async def main() -> None:
        first, second = Slow(), Slow()
        whole = stages(first=first, second=second)
        await asyncio.gather(*(whole.configure(one) for one in (AFTER, BEFORE, AFTER)))
        assert first.most == second.most == 1
        assert first.taken == second.taken == [AFTER, BEFORE, AFTER]

    run_virtually(main())


def test_refused_by_one_they_are_taken_back_by_all() -> None:
    """As a whole or not at all, even if taking back fails somewhere."""

    async def main() -> None:
        first, stubborn, last = Slow(), Slow(fails_on=BEFORE), Slow(fails_on=AFTER)
        behind = Slow()
        whole = stages(first=first, stubborn=stubborn, last=last, behind=behind)
        with pytest.raises(MemoryError):
            await whole.configure(AFTER)
        assert first.taken == [AFTER, BEFORE]
        assert stubborn.taken == [AFTER]
        assert behind.taken == []
        assert whole.settings == BEFORE

    run_virtually(main())
