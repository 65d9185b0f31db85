"""Hostile services against the real daemon: every scenario that comes with the emulator."""

from __future__ import annotations

import tempfile
from pathlib import Path

from agentd.emulator.scenario import Scenario, shipped_scenarios
from tests.attack.house import Measured, Service, house, lives, served, stops, watch
from tests.e2e.driver import Speaker

GROWN_MIB = 200.0
"""Far below what the unit allows: a flood must be bounded, not merely survived."""
ANSWER_S = 5.0
STARVED_S = 20.0
REDIRECTING = frozenset({"redirected", "slow-handshake", "header-bomb", "flood-early"})
"""No session stands before these behave."""
FRIENDLY = frozenset({"idle-alone"})
"""Odd but honest: the conversation goes on over one connection."""


def names() -> dict[str, Scenario]:
    """Return the hostile services."""
    return shipped_scenarios()


async def suffer(name: str, seconds: float) -> Measured:
    """Let one hostile service at a daemon for so long.

    Meanwhile status, mute and heartbeat are served and memory stays bounded; afterwards a question
    is answered; a stop in the middle of the next attack is a stop.
    """
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        place = Path(folder)
        async with served(place, "--scenario", name) as service:
            home = house(place, service.environment)
            async with lives(home) as speaker:
                measured = await _suffer(name, seconds, service, speaker)
                await stops(speaker)
    return measured


async def _suffer(name: str, seconds: float, service: Service, speaker: Speaker) -> Measured:
    if name not in REDIRECTING:
        await speaker.wait_event("session_fresh")
    await speaker.control("say", text="Will you behave?")
    measured = await watch(speaker, seconds)
    judge(measured)
    if name in FRIENDLY:
        assert not speaker.told("turn_failed"), speaker.last_words()
        assert (await speaker.control("status"))["session"]["connections"] == 1
    await service.behave()
    since = speaker.mark()
    await speaker.control("say", text="And now?")
    await speaker.wait_event("turn", since=since, interrupted=False)
    if name not in REDIRECTING:
        await service.ask("fault", **again(name))
    await speaker.control("say", text="Once more.")
    return measured


def again(name: str) -> dict[str, object]:
    """Return the last fault of a scenario as a request, to have it strike anew."""
    faults = names()[name].faults
    if not faults:
        return {"do": "phantom_interrupted"}
    fault = faults[-1]
    on = {"on": fault.trigger.kind} if fault.trigger is not None else {}
    return {"do": fault.action, **fault.params, **on, "times": 0}


def judge(measured: Measured) -> None:
    """Hold what was measured against what is promised."""
    assert measured.answers > 1, "nothing was answered"
    assert measured.slowest_s < ANSWER_S, str(measured)
    assert measured.starved_s < STARVED_S, str(measured)
    assert measured.grown_mib < GROWN_MIB, str(measured)
