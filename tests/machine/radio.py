"""A Wi-Fi for the machine: two simulated radios, and an access point in a network namespace.

The machine's own radio is NetworkManager's, with wpa_supplicant, as on Raspberry Pi OS. The other
one is hostapd's; behind it are a DHCP server with short leases and the second network card.

A connection to the service ends at the access point, which makes its own onwards. Losses are put
between two TCPs of the machine's kernel, that way, on the machine's clock. QEMU's user network has
a TCP as well, of another age, and its timers run by the host's clock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from tests.machine.board import Board
from tests.machine.kitchen import PORT
from tests.machine.qemu import SERVICE

AP: Final = "ip netns exec ap"
LEASE: Final = "2m"
"""The shortest that dnsmasq gives; renewed after half of it."""

_HOSTAPD: Final = """\
interface=wlan1
driver=nl80211
ssid=kitchen
hw_mode=g
channel=1
wpa=2
wpa_key_mgmt=WPA-PSK
rsn_pairwise=CCMP
wpa_passphrase=nobody knows it
"""
_BUILD: Final = f"""\
set -e
printf '[keyfile]\\nunmanaged-devices=interface-name:backhaul0;interface-name:wlan1\\n' \\
    > /etc/NetworkManager/conf.d/zz-radio.conf
systemctl reload NetworkManager
modprobe mac80211_hwsim radios=2
ip netns add ap
until [ -e /sys/class/net/wlan1/phy80211/name ]; do sleep 0.2; done
iw phy "$(cat /sys/class/net/wlan1/phy80211/name)" set netns name ap
ip link set backhaul0 netns ap
{AP} sh -ec '
    ip link set lo up; ip link set backhaul0 up
    ip address add 10.65.0.15/24 dev backhaul0
    ip route add default via 10.65.0.2
    echo 1 > /proc/sys/net/ipv4/ip_forward
    nft add table ip nat
    nft add chain ip nat out "{{ type nat hook postrouting priority 100; }}"
    nft add rule ip nat out oifname backhaul0 masquerade
    nft add chain ip nat in "{{ type nat hook prerouting priority -100; }}"
    nft add rule ip nat in iifname wlan1 ip daddr {SERVICE} tcp dport {PORT} redirect
'
"""
_START: Final = f"""\
set -e
{AP} hostapd -B -P /run/hostapd.pid /run/hostapd.conf
{AP} ip address replace 192.168.77.1/24 dev wlan1
"""
_DHCP: Final = (
    f"{AP} dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=wlan1 "
    f"--dhcp-authoritative --dhcp-range=192.168.77.10,192.168.77.20,{LEASE} --log-dhcp "
    "--leasefile-ro --user=root --pid-file=/run/dnsmasq.pid --log-facility=/run/dnsmasq.log"
)
_RELAY: Final = (
    f"{AP} systemd-socket-activate --listen={PORT} "
    f"/lib/systemd/systemd-socket-proxyd {SERVICE}:{PORT}"
)
_PROFILE: Final = (
    "nmcli connection add type wifi ifname wlan0 con-name home ssid kitchen "
    "wifi-sec.key-mgmt wpa-psk wifi-sec.psk 'nobody knows it' "
    "connection.autoconnect-retries 0 ipv6.method disabled ipv4.ignore-auto-dns yes"
)


class Radio:
    """The access point, and the machine's association with it."""

    def __init__(self, board: Board) -> None:
        self._board = board
        board.write("/run/hostapd.conf", _HOSTAPD)
        board.run(_BUILD)
        self.on()
        self._at_work = [board.begin(script, timeout_s=7200) for script in (_DHCP, _RELAY)]
        board.run(_PROFILE)

    def on(self) -> None:
        """Start the access point."""
        self._board.run(_START)

    def off(self) -> None:
        """Stop it as hostapd stops: with a word to its stations."""
        self._board.run("kill $(cat /run/hostapd.pid)")

    def vanish(self) -> None:
        """Take its power away: no frame tells the stations."""
        self._board.run(f"{AP} ip link set wlan1 down; kill -9 $(cat /run/hostapd.pid)")

    def join(self) -> None:
        """Associate, and return when NetworkManager has the network up."""
        self._board.run("nmcli --wait 120 connection up home", timeout_s=150)

    def route(self) -> str:
        """Return the interface of the machine's best way out."""
        text = self._board.run("ip -4 route get 192.0.2.1")
        words = text.split()
        return words[words.index("dev") + 1]

    @contextlib.contextmanager
    def impaired(self, up: str, down: str = "") -> Iterator[None]:
        """Treat what goes over the air so (netem), from the machine and to it."""
        ends = {"tc qdisc {} dev wlan0 root": up, f"{AP} tc qdisc {{}} dev wlan1 root": down}
        treated = {end: netem for end, netem in ends.items() if netem}
        for end, netem in treated.items():
            self._board.run(f"{end.format('replace')} netem {netem}")
        try:
            yield
        finally:
            for end in treated:
                self._board.run(end.format("del"))

    def renewals(self) -> int:
        """Return how often the DHCP server has confirmed a lease."""
        return int(self._board.run("grep -c DHCPACK /run/dnsmasq.log || true"))
