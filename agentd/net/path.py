"""What the network path is, when it has changed, and which connections that breaks (pure).

The path is the kernel's own answer to "how would a packet reach the service": it knows metrics,
policy rules, VPNs and source address selection better than any reading of the tables. What is
decided here is which differences matter: a renewed lease, a second copy of an address event or
a fresh temporary IPv6 address beside the one in use do not.
"""

from __future__ import annotations

import ipaddress
import math
import socket
from dataclasses import dataclass, field

MAX_HOLD = 5  # a path that keeps changing is told after this many debounce times


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    up: bool  # administratively up and with a carrier


@dataclass(frozen=True, slots=True)
class Hop:
    """The kernel's choice for a destination: out of which interface, from which address."""

    family: int  # socket.AF_INET or AF_INET6
    index: int
    source: str
    gateway: str  # empty when on-link


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The kernel's answers at one moment."""

    hops: tuple[Hop, ...] = ()  # at most one per family
    links: tuple[Link, ...] = ()
    addresses: frozenset[tuple[int, str]] = frozenset()  # interface index, address


@dataclass(frozen=True, slots=True)
class Route:
    """The way out for one address family."""

    index: int
    interface: str
    source: str
    gateway: str = ""  # IPv4 only: behind NAT another gateway is another path


@dataclass(frozen=True, slots=True)
class NetworkPath:
    """The ways out. Equal paths carry the same connections."""

    ipv4: Route | None = None
    ipv6: Route | None = None
    addresses: frozenset[tuple[int, str]] = field(default=frozenset(), compare=False)

    @property
    def online(self) -> bool:
        """Say whether there is any way to the service."""
        return self.ipv4 is not None or self.ipv6 is not None

    @property
    def interface(self) -> str:
        """Return the interface of the way out, or an empty string."""
        route = self.ipv4 or self.ipv6
        return route.interface if route else ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the addresses that new connections start from."""
        return tuple(route.source for route in (self.ipv4, self.ipv6) if route)

    def route_for(self, local_address: str) -> Route | None:
        """Return the way of a connection from `local_address`, if its address is still there."""
        address = _unmapped(local_address)
        route = self.ipv4 if address.version == 4 else self.ipv6
        if route is None or (route.index, str(address)) not in self.addresses:
            return None
        return route


OFFLINE = NetworkPath()


@dataclass(frozen=True, slots=True)
class PathChange:
    """The path was `before` (None: not known yet) and is `after`."""

    before: NetworkPath | None
    after: NetworkPath

    def breaks(self, local_address: str | None) -> bool:
        """Say whether a connection from `local_address` is dead or on the wrong interface.

        A connection whose address is not known, or not one, counts as broken.
        """
        try:
            after = self.after.route_for(local_address or "")
            before = self.before.route_for(local_address or "") if self.before else None
        except ValueError:
            return True
        if after is None:
            return True
        return before is not None and (before.index, before.gateway) != (after.index, after.gateway)


def path_of(snapshot: Snapshot, before: NetworkPath | None = None) -> NetworkPath:
    """Return the path in `snapshot`, keeping the source addresses of `before` while they exist."""
    links = {link.index: link for link in snapshot.links}
    previous = before or OFFLINE
    ipv4 = ipv6 = None
    for hop in snapshot.hops:
        link = links.get(hop.index)
        if link is None or not link.up or ipaddress.ip_address(hop.source).is_link_local:
            continue
        if hop.family == socket.AF_INET:
            route = Route(hop.index, link.name, hop.source, hop.gateway)
            ipv4 = _kept(route, previous.ipv4, snapshot)
        else:
            ipv6 = _kept(Route(hop.index, link.name, hop.source), previous.ipv6, snapshot)
    return NetworkPath(ipv4, ipv6, snapshot.addresses)


def _kept(route: Route, before: Route | None, snapshot: Snapshot) -> Route:
    # New connections would start from another address of the same interface (IPv6 rotates
    # temporary ones daily); those that exist go on from theirs.
    if (
        before is not None
        and (before.index, before.gateway) == (route.index, route.gateway)
        and (before.index, before.source) in snapshot.addresses
    ):
        return Route(route.index, route.interface, before.source, route.gateway)
    return route


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


class PathTracker:
    """Decides when a difference is told: at once when it brings us online, else when it lasts.

    ```
    told ──differs, told is offline or unknown──────────────► told
    told ──differs──► candidate ──unchanged for debounce────► told
                       │  ▲  └──── differing for 5 × debounce ► told
                       │  └─ differs again: wait anew
                       └─ equals told again: nothing happened
    ```
    """

    def __init__(self, debounce_s: float) -> None:
        self._debounce_s = debounce_s
        self._told: NetworkPath | None = None
        self._candidate: NetworkPath | None = None
        self._due_s = math.inf
        self._latest_s = math.inf

    @property
    def path(self) -> NetworkPath | None:
        """Return the path that was told last."""
        return self._told

    @property
    def due_s(self) -> float | None:
        """Return when `observe` should be called again even if nothing happens, or None."""
        return None if self._candidate is None else min(self._due_s, self._latest_s)

    def observe(self, snapshot: Snapshot, now_s: float) -> PathChange | None:
        """Take in the kernel's answers of `now_s`; return the change to be told, if any."""
        path = path_of(snapshot, self._told)
        if path == self._told:
            self._told = path  # same ways, but perhaps other addresses beside
            self._candidate = None
            return None
        if self._told is None or (path.online and not self._told.online):
            return self._tell(path)
        if self._candidate is None:
            self._latest_s = now_s + MAX_HOLD * self._debounce_s
        if path != self._candidate:
            self._due_s = now_s + self._debounce_s
        self._candidate = path
        return self._tell(path) if now_s >= min(self._due_s, self._latest_s) else None

    def _tell(self, path: NetworkPath) -> PathChange:
        change = PathChange(self._told, path)
        self._told, self._candidate = path, None
        return change
