"""What lies in examples/ does what it says, as it lies there."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentd.events import StateChanged, ToolsOffered
from agentd.service.control import ControlServer
from tests.tools.kitchen import DEADLINE_S, Kitchen

EXAMPLES = Path(__file__).parent.parent / "examples"


@contextlib.asynccontextmanager
async def started(*command: str) -> AsyncIterator[Process]:
    """Run a program, and end it."""
    process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        await process.wait()


def played(tmp_path: Path, *command: str, name: str, **args: Any) -> Any:
    """Run a tool host and call its function once; return the answer."""

    async def main() -> Any:
        kitchen = Kitchen(tmp_path / "s")
        host = started(*command, str(kitchen.path))
        async with asyncio.timeout(DEADLINE_S), kitchen.open(), host:
            await kitchen.until(ToolsOffered)
            return await kitchen.calls(name, **args)

    return asyncio.run(main())


def test_the_host_in_python_answers(tmp_path: Path) -> None:
    """In thirty lines of code without a library."""
    program = EXAMPLES / "tool_host.py"
    outcome, answer = played(
        tmp_path, sys.executable, str(program), name="games.roll_dice", count=3
    )
    assert outcome == "answered"
    assert len(answer["result"]) == 3
    assert set(answer["result"]) <= set(range(1, 7))
    code = program.read_text().partition('"""\n')[2].splitlines()
    assert len([line for line in code if line.strip()]) <= 30


def test_the_host_in_shell_answers(tmp_path: Path) -> None:
    """With socat and jq."""
    for tool in ("socat", "jq", "bash"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    outcome, answer = played(tmp_path, str(EXAMPLES / "tool_host.sh"), name="shell.uptime")
    assert outcome == "answered"
    assert answer["seconds"] > 0


def test_the_light_follows_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte to the expander for each state; the state at the start counts too."""
    spec = importlib.util.spec_from_file_location("light", EXAMPLES / "expander_light.py")
    assert spec is not None
    assert spec.loader is not None
    light = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(light)
    addressed: list[Any] = []
    monkeypatch.setattr(light.fcntl, "ioctl", lambda *asked: addressed.append(asked))
    bus = light.open_expander(str(_touched(tmp_path / "i2c")))
    assert addressed == [(bus, 0x0703, 0x20)]

    async def main() -> list[str]:
        kitchen = Kitchen(tmp_path / "s")
        kitchen.server.watchers._status = lambda: {"state": "idle"}
        async with asyncio.timeout(DEADLINE_S), kitchen.open():
            seen = asyncio.create_task(asyncio.to_thread(follow, kitchen.path))
            await watched(kitchen.server)
            for after in ("listening", "muted"):
                change = StateChanged(before="idle", after=after)
                kitchen.server.watchers.on_event(change)
            return await seen

    def follow(path: Path) -> list[str]:
        seen: list[str] = []
        for state in light.states(str(path)):
            light.show(bus, state)
            seen.append(state)
            if len(seen) == 3:
                break
        return seen

    assert asyncio.run(main()) == ["idle", "listening", "muted"]
    assert (tmp_path / "i2c").read_bytes() == b"\xff\xfe\xfd"


def _touched(path: Path) -> Path:
    path.touch()
    return path


async def watched(server: ControlServer) -> None:
    """Wait until somebody watches."""
    while not server.watchers.count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
