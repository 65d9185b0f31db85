"""What the environment says about the way to the service: its address and the proxy. Pure.

websockets and the SDK's HTTP library read the proxy variables too, each in its own way, and judge
them only by an exception in mid-dial. agentd reads them itself, once and by the same rule for every
dial and for the doctor, and hands the library the answer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

PROXY_VARIABLES = ("wss_proxy", "https_proxy", "all_proxy")
"""The most particular first; each in lower case before upper case, as in curl."""
HTTP, SOCKS = ("http", "https"), ("socks5h", "socks5", "socks4a", "socks4")
DEFAULT_PORTS = {"http": 80, "https": 443}
SOCKS_PORT = 1080


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxy for a host. None of it without `variable`; unusable with `trouble`.

    `url` may carry a login and is not shown.
    """

    variable: str = ""
    scheme: str = ""
    host: str = ""
    port: int = 0
    url: str = field(default="", repr=False)
    trouble: str = ""

    @property
    def address(self) -> str:
        """Return host and port, which are no secret."""
        return f"{self.host}:{self.port}"


DIRECT = Proxy()


def address_trouble(url: str) -> str:
    """Return what is wrong with the address of an endpoint, or nothing."""
    if any(c.isspace() or not c.isprintable() for c in url):
        return "it has blanks or control characters"
    scheme, separator, _ = url.partition("://")
    if not separator:
        return "it has no scheme"
    if scheme.lower() not in ("https", "wss"):
        return "a session is always encrypted, and this is no https address"
    if "@" in url.partition("://")[2].partition("/")[0]:
        return "it has a login in it, which nobody would get"  # the SDK sends the key alone
    return _host_trouble(url)


def _host_trouble(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except (ValueError, UnicodeError):
        return "its host or port is malformed"
    if not host:
        return "it names no host"
    return "port 0 does not exist" if port == 0 else ""


# ── proxies ───────────────────────────────────────────────────────────────────────────────────


def proxy_for(host: str, port: int, environ: Mapping[str, str], *, socks: bool = False) -> Proxy:
    """Return the proxy for `host`, judged; `socks` says whether SOCKS can be spoken here.

    An empty variable names nothing, and in lower case it hides the one in upper case, as with
    Python's urllib.
    """
    for name in PROXY_VARIABLES:
        variable = next((n for n in (name, name.upper()) if n in environ), "")
        value = environ.get(variable, "").strip()
        if value:
            exempted = exempt(host, port, environ)
            return DIRECT if exempted else _judge_proxy(variable, value, socks)
    return DIRECT


def exempt(host: str, port: int, environ: Mapping[str, str]) -> bool:
    """Return whether no_proxy names the host: `*`, names, suffixes, addresses, nets, ports."""
    value = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    return any(_covers(entry.lower(), host, port) for entry in re.split(r"[\s,]+", value) if entry)


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        net = _net(entry)
        return net is not None and address is not None and address in net
    name, wanted = _split_port(entry)
    if wanted is not None and wanted != port:
        return False
    if address is not None:
        return address == _address(name)
    bare = host.lower().rstrip(".")
    name = name.removeprefix("*").lstrip(".").rstrip(".")
    return bool(name) and (bare == name or bare.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split an entry; an IPv6 address has brackets if it has a port."""
    if bracketed := re.fullmatch(r"\[(.*)\](?::(\d+))?", entry):
        return bracketed[1], int(bracketed[2]) if bracketed[2] else None
    name, colon, digits = entry.rpartition(":")
    if colon and ":" not in name and digits.isdecimal():
        return name, int(digits)
    return entry, None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _net(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


class _Unusable(ValueError):
    """What is wrong with a proxy's URL, in words that hold nothing of a login."""


def _judge_proxy(variable: str, value: str, socks: bool) -> Proxy:
    try:
        return _take_apart(variable, value, socks)
    except _Unusable as error:
        return Proxy(variable, trouble=f"{variable} {error}")


def _take_apart(variable: str, value: str, socks: bool) -> Proxy:
    if any(c.isspace() or not c.isprintable() for c in value):
        raise _Unusable("has blanks or control characters inside")
    scheme, separator, _ = value.partition("://")
    if not separator:
        raise _Unusable("has no scheme: http:// is missing before the host")
    scheme = scheme.lower()
    _check_scheme(scheme, socks)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except (ValueError, UnicodeError):
        raise _Unusable("has a malformed host or port") from None
    if not host:
        raise _Unusable("names no host")
    if port == 0:
        raise _Unusable("has port 0, which does not exist")
    _check_rest(parts)
    # the library takes 80 for a SOCKS proxy without a port, everybody else 1080
    url = value if port else f"{value.rstrip('/')}:{DEFAULT_PORTS.get(scheme, SOCKS_PORT)}"
    return Proxy(variable, scheme, host, port or DEFAULT_PORTS.get(scheme, SOCKS_PORT), url)


def _check_scheme(scheme: str, socks: bool) -> None:
    if scheme == "socks":
        raise _Unusable("names a SOCKS proxy without its version: write socks5h://")
    if scheme in SOCKS and not socks:
        raise _Unusable("names a SOCKS proxy, for which the Python package python-socks is missing")
    if scheme not in HTTP + SOCKS:
        named = f" ({scheme}://)" if re.fullmatch(r"[a-z][a-z0-9+.-]{0,11}", scheme) else ""
        raise _Unusable(f"has a scheme that is no proxy's{named}")


def _check_rest(parts: SplitResult) -> None:
    if parts.path not in ("", "/"):
        raise _Unusable("has a path, which a proxy has not")
    if parts.query or parts.fragment:
        raise _Unusable("has a query or fragment (in a login write %3F for ?, %23 for #)")
    if parts.username is not None and parts.password is None:
        raise _Unusable("has a login without a password")
    try:
        unquote(parts.netloc, errors="strict")
    except UnicodeDecodeError:
        raise _Unusable("has a login that is not percent-encoded UTF-8") from None
