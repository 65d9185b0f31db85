"""What can be changed while a conversation runs: instruction, context, texts, settings, tools."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agentd import events as e
from agentd.config.settings import Settings
from agentd.live.toolbox import Tool
from live_emulator.record import Entry
from live_emulator.scenario import Scenario, ScriptedCall, ScriptedTurn
from tests.continuity.household import BACKENDS, DEVELOPER, VERTEX, Household, household, run
from tests.continuity.report import Report

backends = pytest.mark.parametrize("backend", BACKENDS)
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
NATIVE_VERTEX = "gemini-live-2.5-flash-native-audio"
SEED_ONLY = "gemini-3.1-flash-live-preview"


def with_live(settings: Settings, **changes: Any) -> Settings:
    """Return settings with keys of [live] changed."""
    return settings.model_copy(update={"live": settings.live.model_copy(update=changes)})


def newest_session(home: Household) -> Any:
    """Return the session at the service."""
    return list(home.emulator.store.sessions.values())[-1]


async def arrived(home: Household, kind: str, since: int = 0) -> Entry:
    """Wait for a client message."""
    return await home.emulator.record.wait_for(kind, 30, since=since, direction="in")


# ── instruct ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("backend", "model", "how"),
    [
        (DEVELOPER, "gemini-3.8-live", "context_update"),
        (DEVELOPER, NATIVE, "on_resume"),
        (DEVELOPER, SEED_ONLY, "on_resume"),
        (VERTEX, "gemini-3.8-live", "now"),
        (VERTEX, NATIVE_VERTEX, "now"),
    ],
)
def test_an_instruction_takes_the_way_that_there_is(
    backend: str, model: str, how: str, report: Report
) -> None:
    """`instruct` says which way it took, and the service follows the new instruction."""

    async def main() -> None:
        async with household(backend, tables={"live": {"model": model}}) as home:
            await home.talk()
            seq = home.seq
            text = "Speak like a pirate."
            assert await home.session.instruct(text) == how
            assert [event.how for event in home.told(e.Instructed)] == [how]
            if how == "context_update":
                await arrived(home, "contextUpdate", seq)
            elif how == "now":
                entry = await arrived(home, "clientContent", seq)
                assert entry.message is not None
                (turn,) = entry.message["clientContent"]["turns"]
                assert turn["role"] == "system"
            else:
                await home.wait_told(e.Resumed)
            await home.talk()
            home.assert_nothing_lost()
            assert newest_session(home).system_instruction.startswith(text)
            report.of("I0", f"instruct, {model}, {backend}", home, note=how)

    run(main())


@backends
def test_an_instruction_survives_a_restart(backend: str) -> None:
    """It is kept beside the handle, and the resumed session is set up with it."""

    async def main() -> None:
        from agentd.live.store import MemoryStore

        store = MemoryStore()
        async with household(backend, store=store) as home:
            await home.talk()
            await home.session.instruct("Speak like a pirate.")
            await home.talk()
            server = home.emulator
            await home.session.stop()
            async with household(backend, store=store, server=server) as again:
                await again.talk()
                assert again.told(e.Resumed)
                setup = again.entries("setup")[-1].message
                assert setup is not None
                assert "pirate" in str(setup["setup"]["systemInstruction"])

    run(main())


# ── texts ─────────────────────────────────────────────────────────────────────────────────────


@backends
@pytest.mark.parametrize("model", ["gemini-3.8-live", SEED_ONLY])
def test_say_is_answered(backend: str, model: str) -> None:
    """A typed question gets a spoken answer; without a connection it waits for one."""
    if (backend, model) == (VERTEX, SEED_ONLY):
        pytest.skip("not served on Vertex AI")

    async def main() -> None:
        async with household(backend, tables={"live": {"model": model}}) as home:
            await home.wait_told(e.Connecting)
            assert await home.session.say("What time is it?") == "will be sent when connected"
            turn = await home.answered(0)
            assert turn.heard_ms > 0
            since = home.mark()
            assert await home.session.say("And now?") == "sent"
            home.emulator.faults.do("reset", on="reply 0.1 s")
            await home.answered(since)
            assert newest_session(home).user_turns == 2

    run(main())


@backends
def test_context_is_added_without_an_answer(backend: str) -> None:
    """`context add` tells the model something and interrupts nothing."""

    async def main() -> None:
        async with household(backend, tone_s=2.0) as home:
            since = home.mark()
            home.emulator.faults.do(
                "go_away", time_left_s=50, on="reply 0.2 s"
            )  # a reply is under way
            await home.say()
            await home.wait_told(e.GoAway)
            assert await home.session.add_context("The front door is open.") == "added"
            turn = await home.answered(since)
            assert turn.heard_ms == pytest.approx(2000)
            entry = await arrived(home, "clientContent")
            assert "front door" in str(entry.message)
            assert not home.told(e.Interrupted)
            await home.wait_told(e.Resumed)
            assert len(home.told(e.TurnStarted)) == 1

    run(main())


def test_context_is_refused_where_the_model_takes_none() -> None:
    """A model that takes history only at the start says so instead of answering it."""

    async def main() -> None:
        async with household(tables={"live": {"model": SEED_ONLY}}) as home:
            await home.online()
            assert (await home.session.add_context("It rains.")).startswith("refused")

    run(main())


# ── reload ────────────────────────────────────────────────────────────────────────────────────


@backends
def test_a_new_voice_comes_with_the_next_resume(backend: str) -> None:
    """The session goes on, at a quiet moment, over a connection with the new voice."""

    async def main() -> None:
        async with household(backend) as home:
            await home.talk()
            changed = with_live(home.settings, voice="Puck")
            assert await home.session.configure(changed) == "on_resume"
            await home.wait_told(e.Resumed)
            setup = home.entries("setup")[-1].message
            assert "Puck" in str(setup)
            await home.talk()
            home.assert_nothing_lost()
            assert newest_session(home).user_turns == 2

    run(main())


@pytest.mark.parametrize(("backend", "how"), [(DEVELOPER, "context_update"), (VERTEX, "now")])
def test_a_new_instruction_of_the_file_needs_no_reconnect(backend: str, how: str) -> None:
    """A reload that changes the instruction alone takes the way of `instruct`."""

    async def main() -> None:
        async with household(backend) as home:
            await home.talk()
            changed = with_live(home.settings, system_instruction="Be brief.")
            assert await home.session.configure(changed) == how
            await home.talk()
            assert home.dials == 1
            assert newest_session(home).system_instruction == "Be brief."

    run(main())


@backends
def test_a_new_model_is_a_new_session_that_knows_the_old_one(backend: str) -> None:
    """A handle of another model is not used; the transcript goes along."""

    async def main() -> None:
        async with household(backend) as home:
            await home.talk()
            model = NATIVE if backend == DEVELOPER else NATIVE_VERTEX
            changed = with_live(home.settings, model=model)
            assert await home.session.configure(changed) == "fresh"
            await home.until(lambda: len(home.told(e.SessionFresh)) == 2, "fresh session")
            fresh = home.told(e.SessionFresh)[-1]
            assert fresh.cause == "handle of another model"
            assert fresh.restored_turns == 1
            await home.talk()
            home.assert_nothing_lost()

    run(main())


# ── tools ─────────────────────────────────────────────────────────────────────────────────────


class Errand:
    """A tool that takes as long as the test wants."""

    def __init__(self, *, slow: bool = False) -> None:
        self.called, self.finish = asyncio.Event(), asyncio.Event()
        self.cancelled = False
        self.calls = 0
        self.tool = Tool("errand", "Run an errand.", self._run, slow=slow)

    async def _run(self, _args: Mapping[str, Any]) -> Mapping[str, Any]:
        self.calls += 1
        self.called.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return {"result": "bread"}


def errand_turn(**more: Any) -> Scenario:
    """A conversation whose first turn calls the errand."""
    turn = ScriptedTurn(tool_calls=(ScriptedCall("errand"),), say=("Done.",), tone_s=0.5, **more)
    return Scenario((turn,))


@backends
def test_a_tool_has_a_deadline(backend: str) -> None:
    """After it the model is told that the function took too long, and goes on."""

    async def main() -> None:
        errand = Errand()
        tables = {"tools": {"timeout_s": 2.0}}
        async with household(
            backend, scenario=errand_turn(), tools=(errand.tool,), tables=tables
        ) as home:
            await home.say()
            told = await home.wait_told(e.ToolCalled)
            assert told.outcome == "timeout"
            assert errand.cancelled
            assert "too long" in str((await arrived(home, "toolResponse")).message)

    run(main())


@backends
def test_a_call_that_the_model_takes_back_is_cancelled(backend: str) -> None:
    """The user interrupts: the tool is cancelled, and no answer is sent for it."""

    async def main() -> None:
        errand = Errand()
        model = NATIVE if backend == DEVELOPER else NATIVE_VERTEX  # calls block there
        async with household(
            backend,
            scenario=errand_turn(),
            tools=(errand.tool,),
            tables={"live": {"model": model}},
            traits={"call_ends_turn": False},  # the call's turn is still open
        ) as home:
            await home.online()
            await home.say()
            await errand.called.wait()
            since = home.mark()
            await home.session.say("Never mind.")
            ids = [
                call["id"]
                for entry in home.entries("toolCall")
                for call in (entry.message or {})["toolCall"]["functionCalls"]
            ]
            home.emulator.faults.do("send_raw", data={"toolCallCancellation": {"ids": ids}})
            await home.wait_told(e.ToolCalled)
            assert [event.outcome for event in home.told(e.ToolCalled)] == ["cancelled"]
            await home.answered(since)
            assert errand.cancelled
            assert not home.entries("toolResponse")

    run(main())


@backends
def test_a_result_outlives_the_connection_of_its_call(backend: str) -> None:
    """The question is asked again; the call made again is answered by the one tool run."""

    async def main() -> None:
        errand = Errand()
        model = NATIVE if backend == DEVELOPER else NATIVE_VERTEX  # calls block there
        tables = {"live": {"model": model}}
        async with household(
            backend, scenario=errand_turn(), tools=(errand.tool,), tables=tables
        ) as home:
            await home.online()
            since = home.mark()
            await home.say()
            await errand.called.wait()
            home.emulator.faults.do("reset")
            await home.until(lambda: len(home.told(e.Connecting)) == 2, "second dial")
            await home.online()
            await home.emulator.record.wait_for(
                lambda entry: entry.kind == "toolCall" and entry.connection == 2, 30
            )
            errand.finish.set()
            await home.answered(since)
            assert errand.calls == 1
            responses = home.entries("toolResponse")
            assert [entry.connection for entry in responses] == [2]
            assert "bread" in str(responses[0].message)

    run(main())


def test_the_talk_goes_on_while_a_slow_tool_works(report: Report) -> None:
    """NON_BLOCKING: declared so, the user talks on meanwhile, and the result comes WHEN_IDLE."""

    async def main() -> None:
        errand = Errand(slow=True)
        scenario = errand_turn(say_after="Your bread is here.")
        async with household(scenario=scenario, tools=(errand.tool,)) as home:
            await home.online()
            since = home.mark()
            await home.say()
            await errand.called.wait()
            await home.talk()
            assert home.told(e.TurnEnded, since)
            errand.finish.set()
            response = await arrived(home, "toolResponse")
            assert "WHEN_IDLE" in str(response.message)
            setup = home.entries("setup")[0].message
            assert "NON_BLOCKING" in str(setup)
            await home.until(
                lambda: any("bread" in t.text for t in home.transcript), "answer to the result"
            )
            home.assert_nothing_lost()

    run(main())
