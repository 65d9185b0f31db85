"""L1–L3: the service ends the connection, announced or not, at every moment of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agentd import events as e
from agentd.live.toolbox import Tool
from live_emulator.reasons import GO_AWAY
from live_emulator.scenario import Scenario, ScriptedCall, ScriptedTurn
from tests.continuity.household import BACKENDS, Household, household, run
from tests.continuity.report import Report

CODES = (1000, 1001, 1006, 1008, 1011, 1012, 1013, 0)
"""0: a TCP reset."""
MOMENTS = {"speech": "audio 0.5 s", "reply": "reply 0.3 s"}
MANY_DIALS = {"live": {"dials_per_min": 120}}

backends = pytest.mark.parametrize("backend", BACKENDS)


def strike(home: Household, code: int, **when: Any) -> None:
    """Let the connection end."""
    if code:
        home.emulator.faults.do("close", code=code, **when)
    else:
        home.emulator.faults.do("reset", **when)


def assert_one_conversation(home: Household) -> None:
    """All that was said is part of one session at the service, once."""
    home.assert_nothing_lost()
    newest = list(home.emulator.store.sessions.values())[-1]
    assert newest.user_turns == len(home.spoken)


# ── L1 ────────────────────────────────────────────────────────────────────────────────────────


@backends
@pytest.mark.parametrize("moment", ["idle", "speech", "reply"])
def test_go_away_is_followed_at_a_quiet_moment(backend: str, moment: str, report: Report) -> None:
    """Whatever goes on when it comes, no word is lost, sent twice, or cut off in a reply."""

    async def main() -> None:
        async with household(backend, tone_s=2.0) as home:
            await home.talk()
            since, seq = home.mark(), home.seq
            if moment == "idle":
                home.emulator.faults.do("go_away", time_left_s=50)
                await home.wait_told(e.Resumed, since)
                await home.talk()
            else:
                home.emulator.faults.do("go_away", time_left_s=50, on=MOMENTS[moment])
                await home.say(1.0)
                turn = await home.answered(since)
                assert turn.heard_ms == pytest.approx(2000)
                await home.wait_told(e.Resumed, since)
            gap_ms = [event.gap_ms / 10 for event in home.told(e.Resumed, since)]
            assert [event.rung for event in home.told(e.Resumed)] == ["newest"]
            assert home.entries("goAway", seq)
            assert not [t for t in home.told(e.TurnEnded) if t.interrupted]
            assert all(delivery.undone == 0 for delivery in home.deliveries())
            assert_one_conversation(home)
            report.of("L1", f"GoAway, {moment}, {backend}", home, gap_ms)

    run(main())


@backends
def test_go_away_waits_for_a_tool(backend: str, report: Report) -> None:
    """The call is answered on its connection, and the reply heard, before the switch."""

    async def main() -> None:
        called, finish = asyncio.Event(), asyncio.Event()

        async def look(_args: Mapping[str, Any]) -> Mapping[str, Any]:
            called.set()
            await finish.wait()
            return {"found": True}

        turn = ScriptedTurn(tool_calls=(ScriptedCall("look"),), say=("Here it is.",), tone_s=0.5)
        scenario = Scenario((turn,))
        tools = (Tool("look", "Look for something.", look),)
        # A handle from the start: without any, nothing is gained by waiting for the next one.
        async with household(backend, scenario=scenario, tools=tools, handle_on_setup=True) as home:
            await home.online()
            since = home.mark()
            await home.say()
            await called.wait()
            home.emulator.faults.do("go_away", time_left_s=50)
            await home.wait_told(e.GoAway)
            finish.set()
            await home.answered(since)
            await home.wait_told(e.Resumed)
            assert home.entries("toolResponse")[0].connection == 1
            assert [t.outcome for t in home.told(e.ToolCalled)] == ["answered"]
            assert_one_conversation(home)
            gap_ms = home.told(e.Resumed)[0].gap_ms / 10
            report.of("L1", f"GoAway, during a tool call, {backend}", home, [gap_ms])

    run(main())


def test_a_reply_longer_than_the_time_left_is_asked_for_again(report: Report) -> None:
    """Only the deadline cuts a reply; the question is then asked again and answered."""

    async def main() -> None:
        async with household(tone_s=12.0, pace=1.0) as home:
            await home.talk()
            since, seq = home.mark(), home.seq
            home.emulator.faults.do("go_away", time_left_s=8, on="reply 1.0 s")
            await home.say()
            await home.answered(since)
            assert len(home.told(e.Resumed)) == 1
            assert_one_conversation(home)
            assert home.deliveries()[-1].undone == 1
            report.of("L1", "GoAway, forced in a reply", home, [await home.gap_ms(seq)])

    run(main())


# ── L2 ────────────────────────────────────────────────────────────────────────────────────────


def test_a_peer_that_freezes_after_go_away_is_left_all_the_same(report: Report) -> None:
    """An unanswered question and an unanswered close are both bounded; the talk goes on."""

    async def main() -> None:
        tables = {"live": {"reply_timeout_s": 15.0}}
        async with household(resume_while_open="takeover", tables=tables) as home:
            await home.talk()
            since, seq = home.mark(), home.seq
            spoken = home.begin(1.0)
            home.emulator.faults.do("go_away", time_left_s=50)
            await home.wait_told(e.GoAway)
            home.emulator.faults.do("freeze")
            await home.finish(spoken)
            await home.answered(since)
            assert_one_conversation(home)
            report.of("L2", "GoAway in speech, then frozen", home, [await home.gap_ms(seq)])

    run(main())


@backends
@pytest.mark.parametrize("moment", ["idle", "speech", "reply"])
def test_the_end_after_a_missed_go_away(backend: str, moment: str, report: Report) -> None:
    """The service's 1008 for a client that has not left costs a reconnect and no word."""

    async def main() -> None:
        async with household(backend) as home:
            gaps = [await _end_at(home, moment, 1008, reason=GO_AWAY)]
            assert_one_conversation(home)
            report.of("L2", f"1008 after GoAway, {moment}, {backend}", home, gaps)

    run(main())


# ── L3 ────────────────────────────────────────────────────────────────────────────────────────


async def _end_at(home: Household, moment: str, code: int, **params: Any) -> float:
    """Prove the connection by a turn, let it end at a moment of the next, return the gap."""
    await home.talk()
    seq, since = home.seq, home.mark()
    if moment == "idle":
        strike(home, code, **params)
        await home.wait_told(e.Disconnected, since)
        await home.online()
        await home.talk()
    elif moment == "setup":
        strike(home, code, on=f"setup #{home.emulator.schedule.counts['setup'] + 1}", **params)
        home.emulator.faults.do("reset")
        await home.wait_told(e.Disconnected, since, count=2)
        await home.talk()
    else:
        strike(home, code, on=MOMENTS[moment], **params)
        await home.say(1.0)
        await home.answered(since)
    return await home.gap_ms(seq)


@backends
@pytest.mark.parametrize("moment", ["setup", "idle", "speech", "reply"])
def test_every_close_at_every_moment(backend: str, moment: str, report: Report) -> None:
    """After each close the conversation goes on; an utterance cut by it is replayed once."""

    async def main() -> None:
        async with household(backend, tables=MANY_DIALS) as home:
            gaps = [await _end_at(home, moment, code) for code in CODES]
            home.assert_nothing_lost()
            # Cut by the end, or said before the next connection stands: replayed, once.
            cut = 0 if moment == "idle" else len(CODES)
            replays = [r.utterances for r in home.told(e.Replayed) if r.connection > 1]
            assert replays == [1] * cut
            undone = sum(delivery.undone for delivery in home.deliveries())
            assert undone == (len(CODES) if moment == "reply" else 0)
            fresh = [event.cause for event in home.told(e.SessionFresh)[1:]]
            if moment == "setup":
                # A close that speaks against the handle costs it; the other codes do not.
                assert fresh == ["handle refused"] * len(fresh)
            else:
                assert not fresh
                assert_one_conversation(home)
            codes = "1000…1013, reset"
            report.of("L3", f"{codes}, {moment}, {backend}", home, gaps)

    run(main())
