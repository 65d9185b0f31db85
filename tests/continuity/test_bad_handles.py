"""L4, L5: handles that are dead, and handles that only look alive."""

from __future__ import annotations

import pytest

from agentd import events as e
from tests.continuity.household import BACKENDS, Household, household, run
from tests.continuity.report import Report

backends = pytest.mark.parametrize("backend", BACKENDS)
REPLY_TIMEOUT = {"live": {"reply_timeout_s": 15.0}}


def restored(home: Household, since: int) -> int:
    """Assert that a fresh session was given the conversation so far; return how much of it."""
    (fresh,) = home.told(e.SessionFresh, since)
    assert fresh.restored_turns == 2
    seeds = [entry for entry in home.entries("clientContent") if entry.connection > 1]
    assert seeds, "the fresh session was told nothing of the conversation"
    return fresh.restored_turns


@backends
@pytest.mark.parametrize("way", ["expired", "reject_1007", "reject_1008"])
def test_a_dead_handle_leads_down_the_ladder(backend: str, way: str, report: Report) -> None:
    """Both handles are refused, each told once; a fresh session is given what was said before."""

    async def main() -> None:
        async with household(backend) as home:
            await home.talk()
            await home.talk()
            since, seq = home.mark(), home.seq
            if way == "expired":
                home.emulator.faults.do("expire_handles")
            else:
                home.emulator.faults.do("poison_handles", mode=way)
            home.emulator.faults.do("reset")
            await home.wait_told(e.SessionFresh, since)
            await home.talk()
            home.assert_nothing_lost()
            dropped = home.told(e.HandleDropped, since)
            assert [event.cause for event in dropped] == ["handle refused"] * 2
            turns = restored(home, since)
            gap_ms = await home.gap_ms(seq)
            note = f"{turns} turns restored"
            report.of("L4", f"handle {way}, {backend}", home, [gap_ms], note)

    run(main())


@backends
def test_the_previous_handle_is_tried_before_a_fresh_session(backend: str, report: Report) -> None:
    """A refused newest handle costs one dial: the one before it still leads into the session."""

    async def main() -> None:
        async with household(backend) as home:
            await home.talk()
            await home.talk()
            since, seq = home.mark(), home.seq
            home.emulator.faults.do("close", code=1008, reason="session not found", on="setup #2")
            home.emulator.faults.do("reset")
            await home.wait_told(e.Resumed, since)
            await home.talk()
            home.assert_nothing_lost()
            assert not home.told(e.SessionFresh, since)
            gap_ms = await home.gap_ms(seq)
            report.of("L4", f"newest handle refused, {backend}", home, [gap_ms])

    run(main())


@backends
@pytest.mark.parametrize("mode", ["close", "mute"])
@pytest.mark.parametrize("handle_on_setup", [False, True])
def test_a_poisoned_handle_is_demoted(
    backend: str, mode: str, handle_on_setup: bool, report: Report
) -> None:
    """It lets us in and then kills or ignores the first question, which is asked until answered.

    A service that issues a handle with every setup issues poisoned ones then.
    """

    async def main() -> None:
        async with household(
            backend, tables=REPLY_TIMEOUT, handle_on_setup=handle_on_setup
        ) as home:
            await home.talk()
            await home.talk()
            since, seq = home.mark(), home.seq
            home.emulator.faults.do("poison_handles", mode=mode)
            home.emulator.faults.do("reset")
            await home.wait_told(e.Resumed, since)
            await home.talk()
            home.assert_nothing_lost()
            assert len(home.told(e.HandleDropped, since)) == 2
            restored(home, since)
            good = home.entries("setupComplete", seq)[-1]
            first = home.entries("activityStart", seq)[0]
            gap_ms = (good.t - first.t) * 1000.0
            note = "one with each setup" if handle_on_setup else ""
            report.of("L5", f"poisoned handle, {mode}, {backend}", home, [gap_ms], note)

    run(main())
