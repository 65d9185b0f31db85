"""Which differences of the network are a new path, when they are told, what they break."""

import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.net.path import (
    MAX_HOLD,
    OFFLINE,
    Hop,
    Link,
    NetworkPath,
    PathChange,
    PathTracker,
    Route,
    Snapshot,
    path_of,
)

WLAN, WWAN = Link(3, "wlan0", up=True), Link(4, "wwan0", up=True)


def home(*more: str, v4: str = "192.168.1.23", v6: str = "2001:db8::23") -> Snapshot:
    """Return a network with both families on wlan0 and perhaps more addresses there."""
    hops = (
        Hop(socket.AF_INET, 3, v4, "192.168.1.1"),
        Hop(socket.AF_INET6, 3, v6, "fe80::1"),
    )
    return Snapshot(hops, (WLAN,), frozenset((3, address) for address in (v4, v6, *more)))


def mobile() -> Snapshot:
    """Return a network with IPv4 on wwan0 alone."""
    hop = Hop(socket.AF_INET, 4, "10.64.0.9", "")
    return Snapshot((hop,), (WWAN,), frozenset({(4, "10.64.0.9")}))


def down(snapshot: Snapshot) -> Snapshot:
    """Return the same network without carrier."""
    return replace(snapshot, links=tuple(replace(link, up=False) for link in snapshot.links))


def v4_only(snapshot: Snapshot) -> Snapshot:
    """Return the same network without the IPv6 default route."""
    return replace(snapshot, hops=snapshot.hops[:1])


def test_the_path_is_interface_and_source_of_each_family() -> None:
    """Both families of one network make one path."""
    path = path_of(home())
    assert path == NetworkPath(
        Route(3, "wlan0", "192.168.1.23", "192.168.1.1"), Route(3, "wlan0", "2001:db8::23")
    )
    assert (path.online, path.interface) == (True, "wlan0")
    assert path.sources == ("192.168.1.23", "2001:db8::23")


def test_an_interface_without_default_route_is_offline() -> None:
    """Up, with an address, but no way out."""
    path = path_of(replace(home(), hops=()))
    assert (path.online, path.interface, path.sources) == (False, "", ())


def test_a_way_without_carrier_or_interface_is_none() -> None:
    """A route that remains on a dead or vanished interface leads nowhere."""
    assert path_of(down(home())) == OFFLINE
    assert path_of(replace(home(), links=())) == OFFLINE


@pytest.mark.parametrize("source", ["169.254.7.7", "fe80::7"])
def test_a_self_assigned_address_is_not_online(source: str) -> None:
    """Link-local addresses, which appear when DHCP does not answer, reach no service."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    assert path_of(Snapshot((Hop(family, 3, source, ""),), (WLAN,))) == OFFLINE


def test_ipv6_alone_is_online() -> None:
    """A network without IPv4 is named by its IPv6 interface."""
    path = path_of(replace(home(), hops=home().hops[1:]))
    assert (path.online, path.interface, path.ipv4) == (True, "wlan0", None)


HARMLESS = {
    "the same again": home(),
    "a renewed lease": replace(home(), addresses=frozenset(home().addresses)),
    "another address beside": home("2001:db8::aaaa", "192.168.1.99"),
    "a new temporary IPv6 address preferred": home("2001:db8::23", v6="2001:db8::beef"),
    "another IPv6 router": replace(
        home(), hops=(home().hops[0], replace(home().hops[1], gateway="fe80::2"))
    ),
}
REAL = {
    "another interface": mobile(),
    "another address in place of ours": home(v4="192.168.1.77"),
    "another IPv4 gateway": replace(
        home(), hops=(replace(home().hops[0], gateway="192.168.1.254"), home().hops[1])
    ),
    "the IPv6 address in use is gone": home(v6="2001:db8::beef"),
    "IPv6 is gone": v4_only(home()),
    "no carrier": down(home()),
    "the same name, another device": replace(
        home(),
        hops=tuple(replace(hop, index=9) for hop in home().hops),
        links=(Link(9, "wlan0", up=True),),
        addresses=frozenset((9, address) for _, address in home().addresses),
    ),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_leaves_connections_alone_is_no_change(what: str) -> None:
    """Duplicate events, renewals and additions yield the same path and break nothing."""
    before = path_of(home())
    after = path_of(HARMLESS[what], before)
    assert after == before
    for source in before.sources:
        assert not PathChange(before, after).breaks(source)


@pytest.mark.parametrize("what", REAL)
def test_what_moves_the_way_out_is_a_change(what: str) -> None:
    """Interface, source address, IPv4 gateway and reachability make another path."""
    assert path_of(REAL[what], path_of(home())) != path_of(home())


V4, V6 = "192.168.1.23", "2001:db8::23"


@pytest.mark.parametrize(
    ("what", "local", "breaks"),
    [
        ("another interface", V4, True),
        ("another interface", V6, True),
        ("another address in place of ours", V4, True),
        ("another address in place of ours", V6, False),
        ("another IPv4 gateway", V4, True),
        ("another IPv4 gateway", V6, False),
        ("the IPv6 address in use is gone", V6, True),
        ("the IPv6 address in use is gone", V4, False),
        ("the IPv6 address in use is gone", f"::ffff:{V4}", False),
        ("IPv6 is gone", V6, True),
        ("IPv6 is gone", V4, False),
        ("no carrier", V4, True),
        ("the same name, another device", V4, True),
        ("IPv6 is gone", None, True),
        ("IPv6 is gone", "not an address", True),
        ("IPv6 is gone", "fe80::1%wlan0", True),
    ],
)
def test_a_change_breaks_only_the_connections_it_concerns(
    what: str, local: str | None, breaks: bool
) -> None:
    """A connection over the other family goes on; an unknown one counts as broken."""
    before = path_of(home())
    assert PathChange(before, path_of(REAL[what], before)).breaks(local) is breaks


def test_the_first_look_breaks_only_what_has_no_address_any_more() -> None:
    """A connection dialled before the first look at the network is judged by its address."""
    first = PathChange(None, path_of(home()))
    assert (first.breaks(V4), first.breaks("192.168.7.7")) == (False, True)


def test_the_first_look_is_told_even_when_offline() -> None:
    """Whoever waits for the network learns that there is none."""
    assert PathTracker(0.2).path is None
    tracker = PathTracker(0.2)
    assert tracker.observe(Snapshot(), 0.0) == PathChange(None, OFFLINE)
    assert tracker.path == OFFLINE
    assert tracker.due_s is None


def told(tracker: PathTracker, snapshot: Snapshot, now_s: float) -> str | None:
    """Return the interface that is told, if any; empty when offline."""
    change = tracker.observe(snapshot, now_s)
    return None if change is None else change.after.interface


def at_home() -> PathTracker:
    """Return a tracker that has told the home network at 0 s."""
    tracker = PathTracker(0.2)
    tracker.observe(home(), 0.0)
    return tracker


def test_coming_online_is_told_at_once() -> None:
    """No debounce stands between a usable route and the conversation."""
    tracker = PathTracker(0.2)
    tracker.observe(Snapshot(), 0.0)
    assert told(tracker, v4_only(home()), 5.0) == "wlan0"


def test_a_lasting_change_is_told_after_the_debounce_time() -> None:
    """wlan0 to wwan0 is told once it has lasted."""
    tracker = at_home()
    assert told(tracker, mobile(), 1.0) is None
    assert tracker.due_s == 1.2
    assert told(tracker, mobile(), 1.1) is None
    assert told(tracker, mobile(), 1.2) == "wwan0"
    assert tracker.due_s is None


def test_a_blink_is_not_told() -> None:
    """A change that is undone within the debounce time never happened."""
    tracker = at_home()
    assert told(tracker, Snapshot(), 1.0) is None
    assert told(tracker, home(), 1.1) is None
    assert tracker.due_s is None
    assert told(tracker, home(), 9.0) is None


def test_each_step_of_a_longer_change_waits_anew() -> None:
    """down, then another address, then a route: told once, as it ends."""
    tracker = at_home()
    assert told(tracker, Snapshot(), 1.0) is None
    assert told(tracker, mobile(), 1.15) is None
    assert tracker.due_s == pytest.approx(1.35)
    assert told(tracker, mobile(), 1.35) == "wwan0"


def test_a_path_that_never_rests_is_told_all_the_same() -> None:
    """Flapping cannot postpone the news beyond five debounce times."""
    tracker = at_home()
    tellings = []
    for step in range(60):
        change = tracker.observe(mobile() if step % 2 else down(home()), 1.0 + step * 0.1)
        if change:
            tellings.append(step * 0.1)
    assert tellings[0] == pytest.approx(MAX_HOLD * 0.2)


def test_a_new_temporary_address_is_remembered_without_being_told() -> None:
    """A connection from an address that appeared silently is not taken for broken later."""
    tracker = at_home()
    assert told(tracker, home("2001:db8::beef"), 1.0) is None
    v4_moves = home("2001:db8::beef", v4="192.168.1.77")
    tracker.observe(v4_moves, 2.0)
    change = tracker.observe(v4_moves, 3.0)
    assert change is not None
    assert not change.breaks("2001:db8::beef")


def test_no_debounce_tells_every_change() -> None:
    """debounce_ms = 0 is a valid setting."""
    tracker = PathTracker(0.0)
    seen = [told(tracker, net, 0.0) for net in (home(), mobile(), mobile(), down(home()))]
    assert seen == ["wlan0", "wwan0", None, ""]


NETWORKS = [home(), mobile(), v4_only(home()), down(home()), Snapshot(), home("192.168.1.99")]


@given(st.lists(st.tuples(st.sampled_from(NETWORKS), st.floats(0.0, 1.0)), min_size=1))
def test_what_was_told_is_what_is_true_in_the_end(
    history: list[tuple[Snapshot, float]],
) -> None:
    """After any history and a quiet time the told path is the real one, and told once."""
    tracker, now_s, last = PathTracker(0.2), 0.0, None
    for snapshot, pause_s in history:
        now_s += pause_s
        change = tracker.observe(snapshot, now_s)
        if change:
            assert change.before == last
            assert change.after != last
            last = change.after
    final = history[-1][0]
    now_s = max(now_s, tracker.due_s or now_s)
    change = tracker.observe(final, now_s)
    last = change.after if change else last
    assert tracker.due_s is None
    assert last == path_of(final, last)
