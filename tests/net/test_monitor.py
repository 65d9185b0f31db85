"""The monitor around the path: what it tells, on a fake kernel and in real network namespaces."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from agentd.clock import FakeClock, SystemClock
from agentd.events import Event, LinkChanged, LinkUnwatched
from agentd.net.kernel import FakeKernel, Kernel, NetlinkKernel, NetlinkSubscription
from agentd.net.monitor import NetworkMonitor
from agentd.net.path import NetworkPath, PathChange, Snapshot, path_of
from rig import netns
from tests.net.test_path import home, mobile

DEADLINE_S = 30.0


class Watch:
    """A running monitor and what it told."""

    def __init__(self, kernel: Kernel, *, debounce_ms: int = 200, fake: bool = False) -> None:
        self.events: list[Event] = []
        self.changes: list[PathChange] = []
        self._told = asyncio.Event()
        self.monitor = NetworkMonitor(
            kernel,
            clock=FakeClock() if fake else SystemClock(),
            emit=self._emit,
            on_path=self.changes.append,
            debounce_ms=debounce_ms,
        )

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self._told.set()

    @property
    def links(self) -> list[tuple[str, bool]]:
        return [(e.interface, e.online) for e in self.events if isinstance(e, LinkChanged)]

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until the events fulfil `done`."""
        async with asyncio.timeout(DEADLINE_S):
            while not done():
                self._told.clear()
                await self._told.wait()

    async def until_links(self, *expected: tuple[str, bool]) -> None:
        """Wait until exactly these were told; anything else fails with the list."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: len(self.links) >= len(expected))
        assert self.links == list(expected)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Watch"]:
        task = asyncio.create_task(self.monitor.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_changes_are_told_as_event_and_to_the_session() -> None:
    """Each change of the path is one `link_changed` and one call."""

    async def scenario() -> None:
        kernel = FakeKernel(home())
        async with Watch(kernel, fake=True).running() as watch:
            await watch.until_links(("wlan0", True))
            kernel.change(mobile())
            await watch.until_links(("wlan0", True), ("wwan0", True))
            kernel.change(Snapshot())
            await watch.until_links(("wlan0", True), ("wwan0", True), ("", False))
        assert [change.after.interface for change in watch.changes] == ["wlan0", "wwan0", ""]
        assert watch.changes[1].before == watch.changes[0].after
        assert watch.monitor.path == watch.changes[-1].after
        assert not kernel.alive

    asyncio.run(scenario())


def test_a_burst_of_messages_is_one_look_and_no_change() -> None:
    """A thousand duplicate events cost a few looks and tell nothing."""

    async def scenario() -> None:
        kernel = FakeKernel(home())
        async with Watch(kernel, fake=True).running() as watch:
            await watch.until_links(("wlan0", True))
            looks = kernel.snapshots
            for _ in range(1000):
                kernel.change()
            kernel.change(mobile())
            await watch.until_links(("wlan0", True), ("wwan0", True))
        assert kernel.snapshots - looks <= 3

    asyncio.run(scenario())


def test_a_kernel_that_cannot_be_watched_is_told_once_and_tried_again() -> None:
    """Without netlink the daemon goes on; when it comes back the path is told."""

    async def scenario() -> None:
        kernel = FakeKernel(home())
        kernel.failure = PermissionError(errno.EPERM, "Operation not permitted")
        async with Watch(kernel, fake=True).running() as watch:
            await watch.until(lambda: bool(watch.events))
            for _ in range(50):
                await asyncio.sleep(0)
            kernel.failure = None
            await watch.until_links(("wlan0", True))
        assert watch.events[0] == LinkUnwatched(cause="Operation not permitted")
        assert len(watch.events) == 2

    asyncio.run(scenario())


def test_a_subscription_that_dies_is_renewed() -> None:
    """A broken socket is replaced and the path looked at again."""

    async def scenario() -> None:
        kernel = FakeKernel(home())
        async with Watch(kernel, fake=True).running() as watch:
            await watch.until_links(("wlan0", True))
            kernel.close()
            kernel.change(mobile())
            await watch.until_links(("wlan0", True), ("wwan0", True))
        assert watch.events[1] == LinkUnwatched(cause="the subscription ended")

    asyncio.run(scenario())


# ── real kernel ───────────────────────────────────────────────────────────────────────────────

needs_namespaces = pytest.mark.skipif(
    netns.reason_to_skip() is not None, reason=str(netns.reason_to_skip())
)


@pytest.fixture
def uplinks() -> Iterator[netns.Uplinks]:
    """A machine with wlan0 and wwan0."""
    with netns.Uplinks() as made:
        yield made


def in_speaker(
    uplinks: netns.Uplinks,
    scenario: Callable[[Watch], Awaitable[None]],
    *,
    debounce_ms: int = 100,
) -> Watch:
    """Run `scenario` with a monitor inside the speaker's namespace."""

    async def inside() -> Watch:
        async with Watch(NetlinkKernel(), debounce_ms=debounce_ms).running() as watch:
            await watch.until_links(("wlan0", True))
            await scenario(watch)
        return watch

    with uplinks.speaker.entered():
        return asyncio.run(inside())


WLAN, WWAN, NONE = ("wlan0", True), ("wwan0", True), ("", False)


@pytest.mark.netns
@needs_namespaces
def test_wlan0_to_wwan0_and_back(uplinks: netns.Uplinks) -> None:
    """N1: the routes move to the mobile link and back; each move is told once."""

    async def scenario(watch: Watch) -> None:
        await asyncio.to_thread(uplinks.wlan0.down)
        await watch.until_links(WLAN, WWAN)
        await asyncio.to_thread(uplinks.wlan0.up)
        await watch.until_links(WLAN, WWAN, WLAN)

    watch = in_speaker(uplinks, scenario, debounce_ms=1000)
    home_address, mobile_address = uplinks.wlan0.address, uplinks.wwan0.address
    assert watch.changes[1].breaks(home_address)
    assert not watch.changes[1].breaks(mobile_address)
    assert watch.changes[2].breaks(mobile_address)
    assert uplinks.wlan0.address in watch.changes[2].after.sources


@pytest.mark.netns
@needs_namespaces
def test_ipv6_moves_too(uplinks: netns.Uplinks) -> None:
    """The IPv6 way out moves with the link, and breaks what came from its address."""
    if not uplinks.has_ipv6:
        pytest.skip("this kernel has no IPv6")

    async def scenario(watch: Watch) -> None:
        assert watch.changes[0].after.ipv6 is not None
        await asyncio.to_thread(uplinks.wlan0.down)
        await watch.until_links(WLAN, WWAN)

    watch = in_speaker(uplinks, scenario, debounce_ms=1000)
    assert watch.changes[0].after.sources == (uplinks.wlan0.address, uplinks.wlan0.address_v6)
    assert watch.changes[1].after.sources == (uplinks.wwan0.address, uplinks.wwan0.address_v6)
    assert watch.changes[1].breaks(uplinks.wlan0.address_v6)


@pytest.mark.netns
@needs_namespaces
def test_up_without_default_route_is_offline(uplinks: netns.Uplinks) -> None:
    """Links and addresses remain, but no way out: offline; the route back is told at once."""

    def cut() -> None:
        uplinks.wwan0.down()
        uplinks.wlan0.drop_route()

    async def scenario(watch: Watch) -> None:
        await asyncio.to_thread(cut)
        await watch.until_links(WLAN, NONE)
        await asyncio.to_thread(uplinks.wlan0.restore_route)
        await watch.until_links(WLAN, NONE, WLAN)

    in_speaker(uplinks, scenario, debounce_ms=1000)


@pytest.mark.netns
@needs_namespaces
def test_a_lost_carrier_is_offline(uplinks: netns.Uplinks) -> None:
    """Out of Wi-Fi range the route remains in the table, and leads nowhere."""
    uplinks.wwan0.down()

    async def scenario(watch: Watch) -> None:
        await asyncio.to_thread(uplinks.wlan0.lose_carrier)
        await watch.until_links(WLAN, NONE)
        await asyncio.to_thread(uplinks.wlan0.restore_carrier)
        await watch.until(lambda: watch.links[-1] == WLAN)

    in_speaker(uplinks, scenario)


@pytest.mark.netns
@needs_namespaces
def test_another_address_on_the_same_link_is_told(uplinks: netns.Uplinks) -> None:
    """A new lease with another address breaks the connections of the old one."""

    def move() -> None:
        uplinks.wwan0.down()
        uplinks.wlan0.add_address("10.55.1.9/24")
        uplinks.wlan0.remove_address(f"{uplinks.wlan0.address}/24")
        uplinks.wlan0.add_address("10.55.1.9/24")
        uplinks.wlan0.restore_route()

    async def scenario(watch: Watch) -> None:
        await asyncio.to_thread(move)
        await watch.until(lambda: "10.55.1.9" in watch.changes[-1].after.sources)

    watch = in_speaker(uplinks, scenario)
    last = watch.changes[-1]
    assert PathChange(watch.changes[0].after, last.after).breaks(uplinks.wlan0.address)


@pytest.mark.netns
@needs_namespaces
def test_harmless_events_tell_nothing(uplinks: netns.Uplinks) -> None:
    """Duplicate address events, renewals and additions do not disturb; the next change does."""

    def harmless() -> None:
        wlan0 = uplinks.wlan0
        for _ in range(5):
            wlan0.add_address(f"{wlan0.address}/24")  # a renewed lease
            wlan0.restore_route()
        wlan0.add_address("10.55.1.77/24")
        if uplinks.has_ipv6:
            wlan0.add_address("fd55:1::beef/64")  # as a new temporary address
        uplinks.wwan0.down()  # the link that is not in use
        uplinks.wwan0.up()

    async def scenario(watch: Watch) -> None:
        await asyncio.to_thread(harmless)
        await asyncio.to_thread(uplinks.wlan0.down)
        await watch.until_links(WLAN, WWAN)

    in_speaker(uplinks, scenario, debounce_ms=1000)


@pytest.mark.netns
@needs_namespaces
def test_a_flapping_link_ends_where_it_is(uplinks: netns.Uplinks) -> None:
    """N3: after many changes the told path is the real one, with no more tellings than changes."""

    def flap() -> None:
        for _ in range(10):
            uplinks.wlan0.down()
            uplinks.wlan0.up()
        uplinks.wlan0.down()

    async def scenario(watch: Watch) -> None:
        await asyncio.to_thread(flap)
        await watch.until(lambda: watch.links[-1] == WWAN)
        await asyncio.to_thread(uplinks.wwan0.down)
        await watch.until(lambda: watch.links[-1] == NONE)

    watch = in_speaker(uplinks, scenario)
    assert len(watch.links) <= 24


@pytest.mark.netns
@needs_namespaces
def test_an_overrun_of_the_socket_loses_nothing(uplinks: netns.Uplinks) -> None:
    """ENOBUFS for real: with the loop held up, messages are dropped, yet the end is told."""

    async def inside() -> None:
        subscriptions: list[NetlinkSubscription] = []

        class SmallKernel(NetlinkKernel):
            def subscribe(self, notify: Callable[[], None]) -> NetlinkSubscription:
                made = super().subscribe(notify)
                made._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                subscriptions.append(made)
                return made

        async with Watch(SmallKernel(), debounce_ms=0).running() as watch:
            await watch.until_links(WLAN)
            for number in range(10, 60):  # the loop does not turn meanwhile
                uplinks.wwan0.add_address(f"10.55.2.{number}/24")
            uplinks.wlan0.down()
            await watch.until_links(WLAN, WWAN)
        assert subscriptions[0].overruns > 0
        assert len(subscriptions) == 1

    with uplinks.speaker.entered():
        asyncio.run(inside())


@pytest.mark.netns
@needs_namespaces
def test_the_answers_agree_with_ip_route(uplinks: netns.Uplinks) -> None:
    """Our reading of netlink is that of iproute2; no privilege is needed for it."""
    shown = uplinks.speaker.run("ip", "-o", "route", "get", "8.8.8.8").split()
    with uplinks.speaker.entered():
        snapshot = NetlinkKernel().snapshot()
    (hop,) = [hop for hop in snapshot.hops if hop.family == socket.AF_INET]
    (link,) = [link for link in snapshot.links if link.index == hop.index]
    assert (link.name, hop.source, hop.gateway) == (
        shown[shown.index("dev") + 1],
        shown[shown.index("src") + 1],
        shown[shown.index("via") + 1],
    )


def test_a_local_service_is_online_without_any_network() -> None:
    """With the service on this machine the loopback interface is the path."""
    change = PathChange(None, _path_to("127.0.0.1"))
    assert (change.after.online, change.after.interface) == (True, "lo")


def _path_to(address: str) -> NetworkPath:
    return path_of(NetlinkKernel((address,)).snapshot())
