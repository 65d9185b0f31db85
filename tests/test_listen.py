"""`agentd events` and `agentd tools`, as a person types them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentd.cli.listen import described
from agentd.cli.main import main
from agentd.events import Muted, Speaker, TranscriptText
from agentd.service.feed import QUEUE_ITEMS
from tests.tools.kitchen import DEADLINE_S, LIGHT, Kitchen

ROOT = Path(__file__).parent.parent


async def started(kitchen: Kitchen, *arguments: str) -> Process:
    """Start a command in the kitchen's place."""
    environment = os.environ | {"RUNTIME_DIRECTORY": str(kitchen.path.parent), "TZ": "UTC"}
    command = (sys.executable, "-m", "agentd", *arguments)
    return await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=environment
    )


def run(tmp_path: Path, scene: Callable[[Kitchen], Awaitable[None]]) -> None:
    """Play a scene with a kitchen that is open."""
    kitchen = Kitchen(tmp_path / "control.sock")

    async def play() -> None:
        async with asyncio.timeout(2 * DEADLINE_S), kitchen.open():
            await scene(kitchen)

    asyncio.run(play())


async def watched(kitchen: Kitchen) -> None:
    """Wait until somebody watches."""
    while not kitchen.server.watchers.count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_events_are_shown_as_they_happen(tmp_path: Path) -> None:
    """One line each, with what is said where it was asked for."""

    async def scene(kitchen: Kitchen) -> None:
        shown = await started(kitchen, "events", "muted", "--transcripts")
        assert shown.stdout is not None
        await watched(kitchen)
        kitchen.server.watchers.on_event(Muted(by="button"))
        kitchen.server.watchers.on_transcript(TranscriptText(1, Speaker.USER, "hello \x1b[2J"))
        line = (await shown.stdout.readline()).decode()
        assert line.split(maxsplit=1)[1].startswith("info    muted: ")
        said = (await shown.stdout.readline()).decode()
        assert said.startswith("user: hello")
        assert "\x1b" not in said
        shown.terminate()
        await shown.wait()

    run(tmp_path, scene)


def test_events_for_programs(tmp_path: Path) -> None:
    """JSON, one object a line; what was missed among them."""

    async def scene(kitchen: Kitchen) -> None:
        shown = await started(kitchen, "events", "--json")
        assert shown.stdout is not None
        await watched(kitchen)
        for _ in range(QUEUE_ITEMS + 5):
            kitchen.server.watchers.on_event(Muted(by="button"))
        missed = json.loads(await shown.stdout.readline())
        assert missed == {"kind": "missed", "seq": 1, "count": 5}
        first = json.loads(await shown.stdout.readline())
        assert (first["kind"], first["seq"], first["name"]) == ("event", 6, "muted")
        shown.terminate()
        await shown.wait()

    run(tmp_path, scene)


def test_an_event_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """With the one that was meant."""

    async def scene(kitchen: Kitchen) -> None:
        shown = await started(kitchen, "events", "mutd")
        _, errors = await shown.communicate()
        assert shown.returncode == 1
        assert b"did you mean muted?" in errors

    run(tmp_path, scene)


def test_without_a_daemon_both_say_how_to_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As all commands do."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    for command in ("events", "tools"):
        assert main([command]) == 1
        assert "systemctl start agentd" in capsys.readouterr().err


STATUS: dict[str, Any] = {
    "enabled": True,
    "hosts": [{"name": "kitchen", "pid": 7, "calls": 1, "failed": 0, "tools": []}],
}
FUNCTIONS: list[Any] = [
    {**LIGHT, "name": "get_time", "host": "", "slow": False, "confirm": False},
    {**LIGHT, "name": "kitchen.light_on", "host": "kitchen", "slow": True, "confirm": True},
]


def test_functions_are_listed_by_who_offers_them() -> None:
    """The device's own first; what waits for a person is marked."""
    assert described(STATUS, FUNCTIONS).splitlines() == [
        "this device",
        "  get_time: Switch a light on",
        "kitchen (process 7): 1 call, 0 failed",
        "  kitchen.light_on [slow, confirm]: Switch a light on",
    ]
    off = described(STATUS | {"enabled": False}, [])
    assert off.startswith("functions are switched off")
