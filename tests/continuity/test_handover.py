"""N1, N3, N4: the whole daemon in a network namespace with two uplinks, and the network moving.

The daemon is a process with WAV files for a microphone and a speaker; the service stands behind a
router. Link flips, routes and netlink are the kernel's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from live_emulator import Emulator, EmulatorOptions
from live_emulator.record import Entry
from rig.netns import SERVICE_V4, SERVICE_V6, Uplinks
from tests.continuity.household import FULL, run
from tests.continuity.report import Report, Row
from tests.e2e.driver import Config, Speaker, files, home, merged
from tests.e2e.sounds import Room, needs_words

pytestmark = [pytest.mark.netns, needs_words]

DEADLINE_S = 40.0
FIRST, LONG = ("Front_Center",), ("Front_Left", "Front_Right", "Rear_Left")
THIRD, FOURTH = ("Rear_Center",), ("Side_Left",)
"""Different words: what was said is found by its samples."""


@dataclass
class Journey:
    """A daemon under way, the service behind the router, and what has been measured."""

    net: Uplinks
    emulator: Emulator
    speaker: Speaker
    room: Room

    async def entry(
        self, kind: str, number: int = 1, *, since: int = 0, direction: str | None = None
    ) -> Entry:
        """Wait for the `number`-th entry of a kind after `since`."""
        left = [number]

        def match(entry: Entry) -> bool:
            if entry.kind != kind or direction not in (None, entry.direction):
                return False
            left[0] -= 1
            return left[0] == 0

        return await self.emulator.record.wait_for(match, DEADLINE_S, since=since)

    async def into_speech(self, seconds: float) -> None:
        """Wait until so much of the next utterance has arrived."""
        seq = self.emulator.record.last_seq
        begun = await self.entry("activityStart", since=seq)
        wanted, got = seconds * 32_000, 0
        while got < wanted:
            entry = await self.entry("audio", since=begun.seq, direction="in")
            got, begun = got + entry.audio_bytes, entry

    async def into_reply(self, seconds: float) -> None:
        """Wait until so much of the next reply has been sent."""
        seq = self.emulator.record.last_seq
        first = await self.entry("audio", since=seq, direction="out")
        await self.entry("audio", round(seconds / 0.04), since=first.seq, direction="out")

    async def change(self, *changes: Callable[[], None]) -> float:
        """Change the network; return when the way to the service, if any, passes packets."""
        for change in changes:
            await asyncio.to_thread(change)
        await asyncio.to_thread(self._wait_usable)
        return time.time()

    def _wait_usable(self) -> None:
        # The kernel gives a link that comes back its queue up to a second after its route.
        deadline_s = time.monotonic() + DEADLINE_S
        while interface := self.net.interface_to_service():
            ends = ((self.net.speaker, interface), (self.net.router, f"r{interface}"))
            if all("state UP" in end.run("ip", "link", "show", name) for end, name in ends):
                return
            assert time.monotonic() < deadline_s
            time.sleep(0.005)

    async def flows_again(self, since: int, after_s: float) -> float:
        """Return ms from a moment until a new connection is set up."""
        while True:
            entry = await self.entry("setupComplete", since=since, direction="out")
            if entry.wall > after_s:
                return (entry.wall - after_s) * 1000.0
            since = entry.seq

    async def turns(self, count: int) -> None:
        """Wait until so many turns were answered and heard."""
        await self.speaker.until(
            lambda: sum(not t["interrupted"] for t in self.speaker.told("turn")) >= count,
            f"{count} turns",
        )

    def assert_nothing_lost(self) -> None:
        """Every line arrived whole; what arrived twice was cut off before its answer."""
        received = self.emulator.utterances
        held = self.room.whole(received)
        assert all(held), [len(hits) for hits in held]
        order = [received.index(hits[-1]) for hits in held]
        assert order == sorted(order)
        assert not self.speaker.told("speech_lost")

    def row(self, fault: str, what: str, gaps_ms: list[float], note: str = "") -> Row:
        """Return a row of the report."""
        held = self.room.whole(self.emulator.utterances)
        return Row(
            fault,
            what,
            gaps_ms,
            said=len(held),
            whole=sum(bool(hits) for hits in held),
            replayed=sum(event["utterances"] for event in self.speaker.told("replayed")),
            lost=len(self.speaker.told("speech_lost")),
            dials=len(self.speaker.told("connecting")),
            bytes_up=sum(
                e.audio_bytes
                for e in self.emulator.record
                if e.kind == "audio" and e.direction == "in"
            ),
            note=note,
        )


@contextlib.asynccontextmanager
async def journey(
    net: Uplinks,
    folder: Path,
    address: str,
    *lines: tuple[float, tuple[str, ...]],
    config: Config | None = None,
    **options: Any,
) -> AsyncIterator[Journey]:
    """Run the daemon in the speaker's namespace. This thread must be in the router's."""
    options = {"resume_while_open": "takeover", "reply": "tone", "tone_s": 1.5, **options}
    chosen = EmulatorOptions(host=address, connection_limits=False, **options)
    room = await asyncio.to_thread(Room, folder / "user.wav", *lines)
    async with Emulator(chosen) as emulator:
        sound = files(room.path, folder / "speaker.wav")
        with home(folder, emulator, merged(sound, config or {})) as house:
            house.environment["no_proxy"] = "*"
            speaker = Speaker(house)
            with net.speaker.entered():
                await speaker.start()
            try:
                yield Journey(net, emulator, speaker, room)
                assert await speaker.stop() == 0, speaker.last_words()
                assert speaker.stray == []
            except BaseException:
                print(speaker.last_words())  # pytest shows it with the failure
                raise
            finally:
                await speaker.kill()


def travel(net: Uplinks, main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on the router, where the service stands."""
    with net.router.entered():
        run(main, real_time=True)


WAYS = ["IPv4, link down", "IPv6, route gone"]
if FULL:
    WAYS.append("IPv4, carrier lost")


@pytest.mark.parametrize("family", WAYS)
def test_handover_and_back(uplinks: Uplinks, tmp_path: Path, report: Report, family: str) -> None:
    """N1: over to wwan0 in mid-speech, back to wlan0 in a reply, over again in idle: all whole."""
    address = SERVICE_V6 if "IPv6" in family else SERVICE_V4
    if "IPv6" in family and not uplinks.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    wlan0 = uplinks.wlan0
    lose, give_back = {
        "link down": ((wlan0.down,), (wlan0.up,)),
        "route gone": ((wlan0.drop_route,), (wlan0.restore_route,)),
        # The kernel leaves the routes of a link without carrier; the network manager does not.
        "carrier lost": (
            (wlan0.lose_carrier, wlan0.drop_route),
            (wlan0.restore_carrier, wlan0.restore_route),
        ),
    }[family.split(", ")[1]]

    async def main() -> None:
        lines = ((1.0, FIRST), (8.0, LONG), (15.5, THIRD), (21.5, FOURTH))
        # As fast as it is heard: the reply is still on its way when the network changes.
        async with journey(uplinks, tmp_path, address, *lines, pace=1.0) as trip:
            record = trip.emulator.record
            await trip.turns(1)
            await trip.into_speech(0.8)
            seq = record.last_seq
            speaking_ms = await trip.flows_again(seq, await trip.change(*lose))
            await trip.turns(2)
            await trip.into_reply(0.4)
            seq = record.last_seq
            replying_ms = await trip.flows_again(seq, await trip.change(*give_back))
            await trip.turns(3)
            seq = record.last_seq
            idle_ms = await trip.flows_again(seq, await trip.change(*lose))
            await trip.turns(4)
            trip.assert_nothing_lost()
            gaps = [speaking_ms, replying_ms, idle_ms]
            note = f"speech {speaking_ms:.0f}, reply {replying_ms:.0f}, idle {idle_ms:.0f} ms"
            report.add(trip.row("N1", family, gaps, note))
            assert len(trip.speaker.told("resumed")) >= 3
            assert not trip.speaker.told("session_fresh")[1:]
            (session,) = trip.emulator.store.sessions.values()
            assert session.user_turns == len(lines), "each is part of the conversation, once"

    travel(uplinks, main())
