"""The network goes and comes."""

from __future__ import annotations

from agentd import events as e
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import State
from agentd.live.supervisor import STABLE_S
from tests.live.scenes import online, talked
from tests.live.world import (
    BAD_KEY,
    NO_ROUTE,
    World,
    settings,
)


def offline(world: World) -> None:
    """There is no path."""
    world.give(e.LinkChanged(interface="", online=False))


def test_a_new_path_means_a_new_connection_at_once() -> None:
    """Aborted, not closed; dialled without delay."""
    world = talked()
    online(world)
    assert world.is_in(State.LIVE), "the first report is no change"
    online(world, "wwan0")
    assert world.wire.aborted
    world.advance(0.0)
    assert world.is_in(State.DIALING)
    assert world.told(e.Disconnected)[0].cause == "network changed"
    world.connect()
    assert world.told(e.Resumed)[0].gap_ms == 0.0


def test_without_a_network_there_is_no_dialling_in_vain() -> None:
    """One look per longest backoff, in case the monitor is wrong; at once when it is back."""
    world = talked()
    online(world)
    offline(world)
    world.advance(50.0)
    assert world.is_in(State.WAITING)
    assert len(world.wires) == 1
    world.speak()
    assert len(world.wires) == 1
    world.advance(15.0)
    assert len(world.wires) == 2
    world.end(NO_ROUTE)
    online(world)
    assert world.is_in(State.DIALING)


def test_a_flapping_link_ends_connected_within_the_budget() -> None:
    """N3: twenty changes in thirty seconds."""
    world = talked()
    online(world)
    for flap in range(20):
        world.advance(1.5)
        if flap % 2:
            online(world)
        else:
            offline(world)
    assert len(world.wires) <= 21
    world.settle()


def test_an_endpoint_on_this_machine_has_no_path() -> None:
    """Demo, doctor and tests work without a network."""
    for host in ("127.0.0.1:9443", "localhost:9443", "[::1]:9443"):
        world = World(settings(base_url=f"https://{host}")).online()
        online(world)
        offline(world)
        assert world.is_in(State.LIVE)


def test_a_portal_is_tried_again_on_another_network() -> None:
    """What a network has caused another network may cure; a bad key it does not."""
    for failure, dials in (
        (Failure(Phase.HANDSHAKE, Kind.CERTIFICATE, 0, "self-signed"), True),
        (BAD_KEY, False),
    ):
        world = World().start()
        online(world)
        world.advance(0.0)
        while not world.is_in(State.DIALING):
            world.advance(0.5)
        world.end(failure)
        assert world.is_in(State.REFUSED)
        online(world, "wwan0")
        assert world.is_in(State.DIALING) is dials


def test_a_connection_given_up_as_it_becomes_stable_earns_no_fresh_backoff() -> None:
    """A service that never answers is dialled ever less often, also where both fall together."""
    config = settings(reply_timeout_s=STABLE_S, network__replay_max_age_s=300.0)
    world = World(config, random=0.9).start()
    world.give_say("hello")
    world.connect()
    for _ in range(3):
        world.advance(STABLE_S).reconnect()
    told = world.told(e.Disconnected)
    assert [event.reason for event in told] == ["no sign of life"] * 3
    assert told[0].retry_in_s < told[1].retry_in_s < told[2].retry_in_s
