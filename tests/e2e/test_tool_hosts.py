"""A function of a program beside the daemon, from the model's call to the answer that is heard."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentd.client import ToolHost
from agentd.service.client import SOCKET_NAME
from live_emulator import Emulator, EmulatorOptions
from live_emulator.scenario import Scenario, ScriptedCall, ScriptedTurn
from tests.e2e.driver import Speaker, files, home, merged, run, speaking
from tests.e2e.sounds import samples

pytestmark = pytest.mark.slow

NATIVE = "gemini-live-2.5-flash-native-audio"
LIT = ScriptedTurn(
    say=("The light is on.",),
    tone_s=0.3,
    tool_calls=(ScriptedCall("kitchen.light", {"on": True}),),
)


@pytest.mark.parametrize(
    ("live", "how"),
    [
        ({}, "context_update"),
        ({"backend": "vertex", "model": NATIVE}, "on_resume"),
    ],
    ids=["developer", "vertex"],
)
def test_a_function_of_a_host_is_called_and_the_answer_heard(
    live: dict[str, Any], how: str, tmp_path: Path
) -> None:
    """Declared in the way of the backend; again after a break and after a reload, by one host."""
    calls: list[Any] = []
    silence = tmp_path / "mic.wav"
    heard = tmp_path / "spk.wav"
    silence.write_bytes(_silent_wav())

    async def main() -> None:
        options = EmulatorOptions(
            latency_s=0.1, connection_limits=False, scenario=Scenario(turns=(LIT,), loop=True)
        )
        async with Emulator(options) as emulator:
            config = merged(files(silence, heard), {"live": live})
            with home(tmp_path, emulator, config) as house:
                host = ToolHost("kitchen", path=house.runtime / SOCKET_NAME)

                @host.tool("Switch the light", {"on": {"type": "boolean"}}, required=["on"])
                async def light(args: dict[str, Any]) -> object:
                    calls.append(args)
                    return {"on": args["on"]}

                async with speaking(house) as speaker:
                    await speaker.wait_event("session_fresh")
                    serving = asyncio.create_task(host.run())
                    await speaker.wait_event("tools_declared", how=how)
                    if how == "on_resume":
                        await speaker.until(lambda: _stood(speaker) == 2, "another connection")
                    await asks(speaker)
                    await speaker.wait_event("handle_stored")
                    since = speaker.mark()
                    emulator.faults.do("reset")
                    await speaker.wait_event("resumed", since=since)
                    await asks(speaker)
                    house.configure({"sounds": {"volume_percent": 50}})
                    await speaker.control("reload")
                    await asks(speaker)
                    (shown,) = (await speaker.control("status"))["tools"]["hosts"]
                    assert (shown["name"], shown["calls"], shown["failed"]) == ("kitchen", 3, 0)
                    serving.cancel()
                    await speaker.wait_event("tools_withdrawn", host="kitchen")
            assert calls == [{"on": True}] * 3
            assert abs(samples(heard.read_bytes()[44:])).max() > 1000, "nothing was heard"

    run(main())


def _stood(speaker: Speaker) -> int:
    return len(speaker.told("session_fresh")) + len(speaker.told("resumed"))


async def asks(speaker: Speaker) -> None:
    """Ask by text; wait until the function was run and the answer has been heard."""
    since = speaker.mark()
    await speaker.control("say", text="Light, please.")
    await speaker.wait_event("tool", since=since, outcome="answered", tool="kitchen.light")
    await speaker.wait_event("turn", since=since, interrupted=False)


def _silent_wav() -> bytes:
    size = 16_000
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    form = (1).to_bytes(2, "little") * 2 + (16_000).to_bytes(4, "little")
    rest = (32_000).to_bytes(4, "little") + (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    return head + form + rest + b"data" + size.to_bytes(4, "little") + bytes(size)
