"""S1–S3: the conversation over restarts, torn files, full disks and clocks that jump.

That no kill tears a file is proved in tests/state; here it is what the conversation makes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentd import events as e
from agentd.clock import Clock
from agentd.state.store import StateStore
from live_emulator import Emulator, EmulatorOptions
from tests.continuity.household import (
    BACKENDS,
    SCALE,
    ElsewhereClock,
    Household,
    clock_of,
    household,
    run,
)
from tests.continuity.report import Report, Row
from tests.e2e.driver import Speaker, files, home
from tests.e2e.sounds import Room, needs_words

HANDLE_LIVES = {"live": {"handle_lifetime_h": 2.0}}


@contextlib.asynccontextmanager
async def resident(
    folder: Path, server: Emulator, clock: Clock | None = None, backend: str = "developer"
) -> AsyncIterator[Household]:
    """A session whose store is a directory; leaving is a stop, coming back a restart."""
    told: list[e.Event] = []
    seed = len(server.utterances)  # nothing is said twice
    store = StateStore(folder, clock=clock_of(1.0), emit=told.append, min_interval_s=0.05)
    keeping = asyncio.create_task(store.run())
    try:
        async with household(
            backend, server=server, store=store, clock=clock, tables=HANDLE_LIVES, seed=seed
        ) as here:
            here.events.extend(told)
            yield here
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        store.close()


def service() -> Emulator:
    """A service that outlives the sessions."""
    options = EmulatorOptions(time_scale=SCALE, connection_limits=False, reply="tone", tone_s=0.5)
    return Emulator(options)


# ── S1 ────────────────────────────────────────────────────────────────────────────────────────


def truncated(path: Path) -> None:
    """Half a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """No bytes."""
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    """Other bytes."""
    path.write_bytes(b"\xff\x00{]" * 99)


def future(path: Path) -> None:
    """A version that does not exist yet."""
    envelope = json.loads(path.read_text())
    path.write_text(json.dumps(envelope | {"format": envelope["format"] + 98}))


def hostile(path: Path) -> None:
    """JSON that only looks like ours."""
    path.write_text('{"version": 1, "document": {"handles": [{"handle": 7}, [], "x"], "n": NaN}}')


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("damage", [None, truncated, empty, garbage, future, hostile])
def test_a_restart_resumes_or_begins_afresh(
    tmp_path: Path, damage: Callable[[Path], None] | None, backend: str, report: Report
) -> None:
    """A good file resumes the conversation; a bad one costs the handle, never the daemon."""

    async def main() -> None:
        async with service() as server:
            async with resident(tmp_path, server, backend=backend) as before:
                await before.talk()
                await before.wait_told(e.HandleStored)
            path = tmp_path / "session.json"
            if damage is not None:
                damage(path)
            async with resident(tmp_path, server, backend=backend) as after:
                await after.talk()
                after.assert_nothing_lost()
                resumed = bool(after.told(e.Resumed))
                assert resumed == (damage is None)
                if not resumed:
                    # The transcript was not damaged, and the fresh session is told of it.
                    assert after.told(e.SessionFresh)[0].restored_turns == 1
                name = damage.__name__ if damage else "intact"
                what = "resumed" if resumed else "fresh, 1 turn restored"
                report.of("S1", f"restart, state file {name}, {backend}", after, note=what)

    run(main())


@needs_words
def test_a_power_cut_in_a_reply(tmp_path: Path, report: Report) -> None:
    """SIGKILL for the whole daemon: the next one resumes the same session."""

    async def main() -> None:
        options = EmulatorOptions(
            connection_limits=False,
            reply="tone",
            tone_s=2.0,
            resume_while_open="takeover",
            handle_on_setup=True,
        )
        first = await asyncio.to_thread(Room, tmp_path / "1.wav", (1.0, ("Front_Center",)))
        second = await asyncio.to_thread(Room, tmp_path / "2.wav", (0.5, ("Front_Right",)))
        async with Emulator(options) as server:
            with home(tmp_path, server, files(first.path, tmp_path / "spk.wav")) as house:
                speaker = Speaker(house)
                try:
                    await speaker.start()
                    await speaker.wait_event("handle_stored")
                    await speaker.wait_event("reply_started")
                    await speaker.kill()
                    cut_s = time.time()
                    house.configure(files(second.path, tmp_path / "spk2.wav"))
                    speaker = Speaker(house)
                    await speaker.start()
                    resumed = await speaker.wait_event("resumed")
                    await speaker.wait_event("turn")
                    assert not speaker.told("session_fresh")
                    assert await speaker.stop() == 0
                finally:
                    await speaker.kill()
            (session,) = server.store.sessions.values()
            assert second.whole(server.utterances)[0]
            gap_ms = (resumed.wall_s - cut_s) * 1000.0
            report.add(
                Row(
                    "S1",
                    "kill -9 of the daemon in a reply",
                    [gap_ms],
                    said=1,
                    whole=1,
                    dials=len(speaker.told("connecting")),
                    note=f"same session, {session.user_turns} turns; restart included",
                )
            )

    run(main(), real_time=True)


# ── S2 ────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_usable_disk_it_keeps_talking(tmp_path: Path, report: Report) -> None:
    """A state directory that cannot be made: the handle is in memory, and resumes work."""

    async def main() -> None:
        in_the_way = tmp_path / "file"
        in_the_way.write_text("no directory")
        async with service() as server, resident(in_the_way / "state", server) as here:
            await here.talk()
            seq = here.seq
            here.emulator.faults.do("reset")
            await here.wait_told(e.Resumed)
            await here.talk()
            here.assert_nothing_lost()
            report.of("S2", "state directory cannot be made", here, [await here.gap_ms(seq)])

    run(main())


# ── S3 ────────────────────────────────────────────────────────────────────────────────────────


DAY_S = 86_400.0


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_jump_of_the_wall_clock_costs_no_handle(
    tmp_path: Path, jump_s: float, report: Report
) -> None:
    """While it runs, only monotonic time counts."""

    async def main() -> None:
        clock = ElsewhereClock()
        async with service() as server, resident(tmp_path, server, clock) as here:
            await here.talk()
            seq = here.seq
            clock.offset_s = jump_s
            await here.talk()
            here.emulator.faults.do("reset")
            await here.wait_told(e.Resumed)
            await here.talk()
            here.assert_nothing_lost()
            gap_ms = await here.gap_ms(seq)
            report.of("S3", f"wall clock jumps {jump_s / DAY_S:+.0f} day", here, [gap_ms])

    run(main())


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ({}, {"offset_s": -1.8e9, "synchronised": False}),
        ({"offset_s": -1.8e9, "synchronised": False}, {}),
        ({"offset_s": DAY_S}, {}),
    ],
    ids=["restart in 1970", "stored in 1970", "stored tomorrow"],
)
def test_a_handle_of_unknown_age_is_tried(
    tmp_path: Path,
    stored: dict[str, Any],
    read: dict[str, Any],
    report: Report,
    request: pytest.FixtureRequest,
) -> None:
    """Before NTP has answered nobody knows its age: the service may say that it is too old."""

    async def main() -> None:
        async with service() as server:
            async with resident(tmp_path, server, ElsewhereClock(**stored)) as before:
                await before.talk()
            async with resident(tmp_path, server, ElsewhereClock(**read)) as after:
                await after.talk()
                assert after.told(e.Resumed)
                what = request.node.callspec.id
                report.of("S3", what, after, note="resumed")

    run(main())
