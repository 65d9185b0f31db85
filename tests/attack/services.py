"""Hostile services against the real daemon: every scenario that comes with the emulator."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from live_emulator.scenario import Scenario, shipped_scenarios
from tests.attack.house import (
    Measured,
    Service,
    house,
    is_answered,
    lives,
    served,
    stops,
    watch,
)
from tests.e2e.driver import Speaker

GROWN_MIB = 200.0
"""Far below what the unit allows: a flood must be bounded, not merely survived."""
ANSWER_S = 5.0
STOP_MS = 500
"""Of processor time: ten times what the heaviest frame takes on a small PC."""
STARVED_S = 20.0
NO_SESSION = frozenset({"redirected", "slow-handshake", "header-bomb", "flood-early"})
"""No session stands before these behave."""
CALLS_MOST = 100
"""Far more than one question may cost."""


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
    if name not in NO_SESSION:
        await speaker.wait_event("session_fresh")
    await speaker.control("say", text="Will you behave?")
    measured = await watch(speaker, seconds)
    judge(measured)
    if name in MEANWHILE:
        await MEANWHILE[name](service, speaker)
    since = speaker.mark()
    await service.behave()
    await speaker.control("reload")  # the backoff may have grown to half a minute
    await speaker.until(lambda: _is_set_up(speaker, since), "a session after the attack")
    await is_answered(speaker, "And now?")
    if name not in NO_SESSION:
        await service.ask("fault", **again(name))
    await speaker.control("say", text="Once more.")
    return measured


async def _is_a_conversation(_service: Service, speaker: Speaker) -> None:
    """Odd but honest: the answer is a turn, and the connection stays."""
    await speaker.wait_event("turn", interrupted=False)
    assert not speaker.told("turn_failed"), speaker.last_words()
    assert (await speaker.control("status"))["session"]["connections"] == 1


async def _gives_the_seed_up(service: Service, speaker: Speaker) -> None:
    """A context that is refused is left out in the end, and the question answered."""
    await speaker.wait_event("turn", interrupted=False)
    await service.ask("fault", do="reset")
    since = speaker.mark()
    await speaker.control("say", text="Do you hear me?")
    await speaker.wait_event("turn", since=since, interrupted=False)


async def _calls_come_to_an_end(service: Service, _speaker: Speaker) -> None:
    """A question costs a bounded number of function calls."""
    answers = (await service.ask("record", kind="toolResponse"))["entries"]
    assert len(answers) < CALLS_MOST, f"{len(answers)} calls for one question"


async def _forgets_nothing(service: Service, speaker: Speaker) -> None:
    """However often the model says that it was confirmed: nobody has answered."""
    await _calls_come_to_an_end(service, speaker)
    assert speaker.told("confirmation_needed"), speaker.last_words()
    assert not speaker.told("confirmed"), speaker.last_words()
    assert not speaker.told("forgotten"), speaker.last_words()


MEANWHILE: dict[str, Callable[[Service, Speaker], Awaitable[None]]] = {
    "idle-alone": _is_a_conversation,
    "seed-refused": _gives_the_seed_up,
    "calls-endless": _calls_come_to_an_end,
    "self-confirming": _forgets_nothing,
}


def _is_set_up(speaker: Speaker, since: int) -> bool:
    return bool(speaker.told("session_fresh", since=since) or speaker.told("resumed", since=since))


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
    assert measured.stop_ms < STOP_MS, str(measured)
    assert measured.grown_mib < GROWN_MIB, str(measured)
