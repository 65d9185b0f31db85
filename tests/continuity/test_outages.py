"""N2–N4, harmless changes: no network, a flapping one, a bad one, one that only looks new."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from agentd import events as e
from agentd.live.machine import State
from agentd.net.kernel import NetlinkKernel
from agentd.net.monitor import NetworkMonitor
from live_emulator import Emulator, EmulatorOptions
from rig.netns import SERVICE_V4, Uplinks
from rig.relay import Quality, Relay
from tests.continuity.household import BACKENDS, FULL, Household, Tables, household, run
from tests.continuity.report import Report, Row
from tests.live.world import NO_ROUTE, World, settings

OUTAGES = [(30.0, 10.0, 20.0)]
if FULL:
    OUTAGES.append((600.0, 60.0, 60.0))

# ── N2 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("outage_s", "scale", "replay_s"), OUTAGES)
def test_an_outage_loses_only_what_is_too_old(
    outage_s: float, scale: float, replay_s: float, report: Report
) -> None:
    """What was said in the last seconds is replayed, older speech is announced as lost."""

    async def main() -> None:
        # On a fast clock a dial of this machine takes seconds.
        tables = {
            "live": {"connect_timeout_s": 120.0, "setup_timeout_s": 120.0, "backoff_max_s": 5.0},
            "network": {"replay_max_age_s": replay_s},
        }
        async with household(scale=scale, tables=tables) as home:
            await home.online()
            await home.talk()
            since, seq = home.mark(), home.seq
            home.emulator.faults.do("refuse_tcp")
            home.emulator.faults.do("reset")
            await home.wait_told(e.Disconnected, since)
            began_s = home.clock.monotonic()
            await home.say()
            lost = await home.wait_told(e.SpeechLost, since)
            await home.clock.sleep(began_s + outage_s - home.clock.monotonic())
            await home.say()
            home.emulator.faults.do("accept_tcp")
            await home.wait_told(e.Resumed, since)
            await home.answered(since)
            assert [delivery.times for delivery in home.deliveries()] == [1, 0, 1]
            assert lost.utterance == 2
            assert lost.age_s >= replay_s
            assert len(home.told(e.SpeechLost)) == 1
            back = home.entries("listening", seq)[-1].t
            gap_ms = (home.entries("setupComplete", seq)[0].t - back) * 1000.0
            note = f"after the network is back, clock x{scale:.0f}"
            report.of("N2", f"no network for {outage_s:.0f} s", home, [gap_ms], note)

    run(main())


@pytest.mark.parametrize("backend", BACKENDS)
def test_three_hours_without_network(backend: str, report: Report) -> None:
    """The dials stay few; Vertex resumes by its handle, the Developer API by the transcript."""
    hours = 3
    world = World(settings(backend=backend)).online()
    world.speak()
    world.reply(text="hello")
    world.end()
    begun_s = world.now
    world.speak()
    while world.now < begun_s + hours * 3600:
        if world.state is State.DIALING:
            world.end(NO_ROUTE)
        if world.now > begun_s + 2 * 3600 and backend == "developer":
            world.good_handle = None  # it has expired
        world.advance(1.0)
    dials = len(world.dial_times) - 1
    world.speak()
    until_s = world.now + 120
    while world.state is not State.LIVE and world.now < until_s:
        if world.state is State.DIALING:
            world.connect()
        world.advance(0.05)
    assert world.state is State.LIVE
    assert world.wire.number in world.whole_deliveries()[3]
    assert world.lost == {2}
    assert dials < hours * 3600 / 20
    handle = world.wire.plan.handle
    assert bool(handle) == (backend == "vertex"), "a handle lives 2 h or 24 h"
    way = "resumed" if handle else f"fresh ({world.told(e.SessionFresh)[-1].cause})"
    note = f"virtual clock; {dials} dials in {hours} h; {way}"
    row = Row("N2", f"no network for 3 h, {backend}", said=3, whole=2, lost=1, note=note)
    row.dials = dials
    report.add(row)


# ── with the kernel's own network ─────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def on_the_road(net: Uplinks) -> AsyncIterator[Household]:
    """A session that follows the real netlink. This thread must be in the speaker's namespace."""
    options = EmulatorOptions(
        host=SERVICE_V4,
        connection_limits=False,
        resume_while_open="takeover",
        reply="tone",
        tone_s=0.2,
        playback_hold=0.0,
    )
    emulator = Emulator(options)
    with net.router.entered():
        await emulator.start()
    try:
        tables: Tables = {
            "network": {"tcp_user_timeout_ms": 2000},
            "live": {"reply_timeout_s": 30.0},
        }
        async with household(server=emulator, scale=1.0, tables=tables) as home:
            monitor = NetworkMonitor(
                NetlinkKernel(),
                clock=home.clock,
                emit=home._emit,
                on_path=home.session.path_changed,
            )
            watching = asyncio.create_task(monitor.run())
            try:
                await home.until(lambda: home.told(e.LinkChanged), "first look at the network")
                yield home
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    finally:
        await emulator.stop()


@pytest.mark.netns
def test_a_flapping_link(uplinks: Uplinks, report: Report) -> None:
    """N3: twenty changes in ten seconds cost a bounded number of dials; it ends connected."""

    async def main() -> None:
        async with on_the_road(uplinks) as home:
            await home.talk(0.4)
            loop = asyncio.get_running_loop()
            start_s = loop.time()
            for number in range(20):
                change = uplinks.wlan0.up if number % 2 else uplinks.wlan0.down
                await asyncio.to_thread(change)
                await asyncio.sleep(max(0.0, start_s + 0.5 * (number + 1) - loop.time()))
            await home.online()
            await home.talk(0.4)
            home.assert_nothing_lost()
            assert home.dials <= 10
            changes = len(home.told(e.LinkChanged)) - 1
            note = f"20 changes in 10 s, {changes} told"
            report.of("N3", "flapping link", home, note=note)

    with uplinks.speaker.entered():
        run(main(), real_time=True)


@pytest.mark.netns
def test_harmless_changes_keep_the_connection(uplinks: Uplinks, report: Report) -> None:
    """A renewed lease, a second address, another family or a spare uplink cost no reconnect."""
    wlan0, wwan0 = uplinks.wlan0, uplinks.wwan0
    changes: tuple[Callable[[], object], ...] = (
        lambda: wlan0.add_address(f"{wlan0.address}/24"),  # DHCP renews
        lambda: wlan0.add_address(f"{wlan0.address}/24"),  # and tells it twice
        lambda: wlan0.add_address("10.55.1.9/24"),
        lambda: wlan0.remove_address("10.55.1.9/24"),
        wlan0.restore_route,
        wwan0.down,
        wwan0.up,
        lambda: uplinks.speaker.run("ip", "-6", "route", "flush", "default"),
    )

    async def main() -> None:
        async with on_the_road(uplinks) as home:
            await home.talk(0.4)
            for change in changes:
                await asyncio.to_thread(change)
            # The way of IPv6 is gone: that is told, and the connection goes over IPv4.
            await home.talk(0.4)
            await home.talk(0.4)
            home.assert_nothing_lost()
            assert home.dials == 1
            assert not home.told(e.Disconnected)
            told = len(home.told(e.LinkChanged)) - 1
            report.of("N1", "lease, address, spare uplink", home, note=f"{told} changes told")

    with uplinks.speaker.entered():
        run(main(), real_time=True)


@pytest.mark.netns
def test_a_router_that_swallows_everything(uplinks: Uplinks, report: Report) -> None:
    """L7: no netlink event, no reset, only silence: the kernel's own bound finds it."""

    async def main() -> None:
        async with on_the_road(uplinks) as home:
            await home.talk(0.4)
            since = home.mark()
            loop = asyncio.get_running_loop()
            await asyncio.to_thread(uplinks.wlan0.swallow)
            start_s = loop.time()
            await home.say(0.4)
            await home.wait_told(e.Disconnected, since)
            found_ms = (loop.time() - start_s) * 1000.0
            await asyncio.to_thread(uplinks.wlan0.pass_again)
            await home.answered(since)
            # Its answer went nowhere: the service has it twice, the conversation once.
            (session,) = home.emulator.store.sessions.values()
            assert session.user_turns == 2
            assert [delivery.times for delivery in home.deliveries()] in ([1, 1], [1, 2])
            note = "found; its answer went nowhere, so it was asked again"
            report.of("L7", "half-open TCP, nothing is acknowledged", home, [found_ms], note)

    with uplinks.speaker.entered():
        run(main(), real_time=True)


# ── N4 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["RTT 800 ms", "20 % stalled"])
def test_a_bad_network_is_no_reason_to_reconnect(kind: str, report: Report) -> None:
    """N4: slow and jerky is not dead; no connection is given up and nothing is sent twice."""
    quality = {
        "RTT 800 ms": Quality(delay_s=0.4, jitter_s=0.05),
        # What TCP makes of lost packets: everything behind waits for the repeat.
        "20 % stalled": Quality(delay_s=0.02, stall_chance=0.2, stall_s=0.3),
    }[kind]

    async def main() -> None:
        options = EmulatorOptions(reply="tone", tone_s=0.5, connection_limits=False)
        async with Emulator(options) as server:
            with Relay(server.port) as relay:
                relay.set_quality(quality, quality)
                url = f"https://127.0.0.1:{relay.port}"
                async with household(server=server, base_url=url, scale=1.0) as home:
                    await home.talk(0.6)
                    await home.talk(0.6)
                    home.assert_nothing_lost()
                    assert home.dials == 1
                    assert not home.told(e.Disconnected)
                    report.of("N4", kind, home, note="no reconnect")

    run(main(), real_time=True)
