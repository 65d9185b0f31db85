"""Wi-Fi, mobile, and back, by real association loss.

wlan0 is a simulated radio associated by WPA2 with hostapd, run by NetworkManager and wpa_supplicant
as Raspberry Pi OS has them; wwan0 is a second network card with a worse metric. The access point
says goodbye, or falls silent, or the radio is blocked, while somebody speaks and while a reply
plays (N1); packets are lost, late (N4) and slow; a lease is renewed without a change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from rig.hearing import heard_share
from tests.machine.board import Entry
from tests.machine.kitchen import Kitchen, sentence
from tests.machine.radio import Radio
from tests.machine.report import Section

NETEMS = ("delay 400ms", "delay 20ms loss 10%")
"""Each way. Both at once is a link that carries a sixth of what a voice takes."""
THIN = "rate 80kbit"
"""A quarter of what a voice takes: six seconds of it need 25 to leave, an answer may take 15."""
LINKDOWN = "net.ipv4.conf.all.ignore_routes_with_linkdown"


@pytest.fixture(scope="module")
def radio(kitchen: Kitchen) -> Iterator[Radio]:
    """An access point; agentd has had a turn, without which there is nothing to resume."""
    board = kitchen.board
    mark = board.mark()
    kitchen.converse(sentence(0, 1.5))
    board.wait_event("handle_stored", since=mark)
    radio = Radio(board)
    yield radio
    kitchen.board.run("nmcli connection delete home; rfkill unblock all", timeout_s=60)


@pytest.fixture(autouse=True)
def on_wifi(radio: Radio, kitchen: Kitchen) -> None:
    """Each check begins with the session on Wi-Fi."""
    board = kitchen.board
    if radio.route() != "wlan0":
        board.run("rfkill unblock all; kill -9 $(cat /run/hostapd.pid) 2>/dev/null; true")
        radio.on()
        mark = board.mark()
        radio.join()
        board.wait_event("link_changed", since=mark, where=over("wlan0"))
        board.wait_event("resumed", "session_fresh", since=mark)


def test_wifi_is_lost_in_mid_speech(kitchen: Kitchen, radio: Radio, section: Section) -> None:
    """N1: the access point says goodbye while somebody speaks; not a word is lost."""
    board = kitchen.board
    clip = sentence(1, 6.0)
    speech = kitchen.say_until("uplink_opened", clip)
    mark = speech.mark
    radio.off()
    switched(kitchen, mark, section, "N1, in speech, hostapd stopped")
    turn = board.wait_event("turn", "turn_failed", since=mark)
    speech.end()
    share = heard_share(clip.samples, kitchen.heard(-1))
    section.note("N1, in speech: of what was said found at the service", f"{share:.0%}")
    section.excerpt(board.told(mark))
    assert radio.route() == "wwan0"
    assert turn["AGENTD_EVENT"] == "turn"
    assert not board.events("speech_lost", since=mark)
    assert share > 0.5


def test_wifi_is_blocked_in_a_reply(kitchen: Kitchen, section: Section) -> None:
    """N1: the radio is switched off while a reply plays; the conversation goes on."""
    board = kitchen.board
    speech = kitchen.say_until("reply_started", sentence(2, 6.0))
    mark = speech.mark
    board.run("rfkill block wifi")
    switched(kitchen, mark, section, "N1, in a reply, rfkill")
    turn = board.wait_event("turn", "turn_failed", since=mark)
    speech.end()
    section.note("N1, in a reply: the turn", turn["MESSAGE"])
    section.excerpt(board.told(mark))
    assert not board.events("speech_lost", since=mark)
    assert kitchen.converse(sentence(3, 2.0))["AGENTD_EVENT"] == "turn"


def test_the_access_point_falls_silent(kitchen: Kitchen, radio: Radio, section: Section) -> None:
    """N1: no frame says that it is gone; the kernel misses its beacons and the way is changed."""
    board = kitchen.board
    mark = board.mark()
    gone_s = board.now_s()
    radio.vanish()
    moved = switched(kitchen, mark, section, "N1, idle, no more beacons")
    section.note("N1, idle: access point gone to route changed", f"{moved['at_s'] - gone_s:.1f} s")
    assert kitchen.converse(sentence(4, 2.0))["AGENTD_EVENT"] == "turn"


def test_a_kernel_that_skips_dead_links_changes_at_once(
    kitchen: Kitchen, radio: Radio, section: Section
) -> None:
    """N1: NetworkManager keeps a lost Wi-Fi's route for 15 s; the kernel need not use it."""
    board = kitchen.board
    board.run(f"sysctl -q -w {LINKDOWN}=1")
    try:
        gone_s = board.now_s()
        mark = board.mark()
        radio.vanish()
        moved = switched(kitchen, mark, section, f"N1, idle, {LINKDOWN}")
        after = f"{moved['at_s'] - gone_s:.1f} s"
        section.note(f"N1, idle, {LINKDOWN}: access point gone to route changed", after)
        # Until NetworkManager has taken the dead route away, the old setting would bring it back.
        board.run("while ip -4 route | grep -q wlan0; do sleep 1; done")
    finally:
        board.run(f"sysctl -q -w {LINKDOWN}=0")


def test_back_on_wifi_it_goes_on(kitchen: Kitchen, radio: Radio, section: Section) -> None:
    """N1, back: the better way appears again, the session takes it, a turn is answered."""
    board = kitchen.board
    mark = board.mark()
    radio.off()
    board.wait_event("link_changed", since=mark, where=over("wwan0"))
    board.wait_event("resumed", since=mark)
    mark = board.mark()
    radio.on()
    radio.join()
    moved = board.wait_event("link_changed", since=mark, where=over("wlan0"))
    resumed = board.wait_event("resumed", since=mark)
    section.note("N1, back on Wi-Fi: route to session", f"{resumed['at_s'] - moved['at_s']:.1f} s")
    assert kitchen.converse(sentence(5, 2.0))["AGENTD_EVENT"] == "turn"


@pytest.mark.parametrize("netem", NETEMS)
def test_loss_and_delay_end_no_connection(
    kitchen: Kitchen, radio: Radio, section: Section, netem: str
) -> None:
    """N4: 800 ms there and back, or one packet in ten lost each way: no reconnect, an answer."""
    board = kitchen.board
    mark = board.mark()
    with radio.impaired(netem, netem):
        turn = kitchen.converse(sentence(6, 3.0))
    section.note(f"N4, netem {netem} each way", turn["MESSAGE"])
    assert turn["AGENTD_EVENT"] == "turn"
    assert not board.events("disconnected", "connecting", since=mark)


def test_a_thin_uplink_is_no_mute_service(kitchen: Kitchen, radio: Radio, section: Section) -> None:
    """A question that is longer on its way than an answer may take is waited for, and answered."""
    board = kitchen.board
    clip = sentence(5, 6.0)
    mark = board.mark()
    with radio.impaired(THIN):
        turn = kitchen.converse(clip)
    (heard,) = board.events("utterance", since=mark)
    waited_s = turn["at_s"] - heard["at_s"]
    section.note(f"{THIN} from the machine: end of speech to the turn's end", f"{waited_s:.1f} s")
    section.note(f"{THIN} from the machine", turn["MESSAGE"])
    assert turn["AGENTD_EVENT"] == "turn"
    assert not board.events("disconnected", "connecting", since=mark)
    assert heard_share(clip.samples, kitchen.heard(-1)) > 0.5


def test_a_renewed_lease_changes_nothing(kitchen: Kitchen, radio: Radio, section: Section) -> None:
    """The DHCP lease is renewed with the same address: no reconnect, no change is told."""
    board = kitchen.board
    mark, before = board.mark(), radio.renewals()
    deadline = time.monotonic() + 900
    while radio.renewals() == before:
        assert time.monotonic() < deadline, "no lease was renewed"
        time.sleep(5)
    turn = kitchen.converse(sentence(7, 2.0))
    section.note("lease renewed, same address", f"no reconnect; {turn['MESSAGE']}")
    assert not board.events("link_changed", "connecting", "disconnected", since=mark)


def over(interface: str) -> Callable[[Entry], bool]:
    """Return whether an event tells of an interface."""
    return lambda entry: entry.get("AGENTD_INTERFACE") == interface


def switched(kitchen: Kitchen, mark: int, section: Section, what: str) -> Entry:
    """Wait for the change to mobile and the session over it; report; return the change."""
    board = kitchen.board
    moved = board.wait_event("link_changed", since=mark, where=over("wwan0"))
    resumed = board.wait_event("resumed", "session_fresh", since=mark)
    section.note(f"{what}: route to session", f"{resumed['at_s'] - moved['at_s']:.1f} s")
    section.note(f"{what}: told as", resumed["MESSAGE"])
    assert resumed["AGENTD_EVENT"] == "resumed"
    return moved
