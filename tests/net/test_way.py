"""The address of the service and the proxy for it, as the environment has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.net.way import DIRECT, Proxy, address_trouble, exempt, proxy_for

HOST, PORT = "service.example", 443
SECRET = "hunter2"


@pytest.mark.parametrize(
    ("environ", "variable", "address"),
    [
        ({}, "", ":0"),
        ({"https_proxy": "http://p:3128"}, "https_proxy", "p:3128"),
        ({"HTTPS_PROXY": "http://p:3128/"}, "HTTPS_PROXY", "p:3128"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "https_proxy", "a:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b:1"}, "", ":0"),
        ({"https_proxy": " ", "all_proxy": "http://b:1"}, "all_proxy", "b:1"),
        ({"all_proxy": "http://b:1", "https_proxy": "http://a:1"}, "https_proxy", "a:1"),
        ({"wss_proxy": "http://c:1", "https_proxy": "http://a:1"}, "wss_proxy", "c:1"),
        ({"https_proxy": "https://p"}, "https_proxy", "p:443"),
        ({"https_proxy": "http://[::1]:3128"}, "https_proxy", "::1:3128"),
        ({"https_proxy": "HTTP://P"}, "https_proxy", "p:80"),
        ({"http_proxy": "socks5://nobody"}, "", ":0"),  # a session is never plain HTTP
        ({"HTTP_PROXY": "nonsense"}, "", ":0"),
    ],
)
def test_which_proxy(environ: dict[str, str], variable: str, address: str) -> None:
    """The most particular variable decides, in lower case first."""
    found = proxy_for(HOST, PORT, environ)
    assert (found.variable, found.address, found.trouble) == (variable, address, "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("127.0.0.1:3128", "no scheme"),
        ("proxy", "no scheme"),
        ("socks5://127.0.0.1:1080", "python-socks"),
        ("socks4a://127.0.0.1", "python-socks"),
        ("socks://127.0.0.1:1080", "socks5h://"),
        ("ftp://127.0.0.1:21", "ftp://"),
        ("://x", "no proxy's"),
        ("http://127.0.0.1:99999", "malformed host or port"),
        ("http://127.0.0.1:port", "malformed host or port"),
        ("http://[::1:3128", "malformed host or port"),
        ("http://" + "x" * 80, "malformed host or port"),
        ("http://127.0.0.1:0", "port 0"),
        ("http://:3128", "no host"),
        ("http://", "no host"),
        ("http://p:3128/path", "a path"),
        ("http://p:3128?x", "a query"),
        ("http://p:3128/#x", "fragment"),
        ("http://me@p:3128", "without a password"),
        (f"http://me:{SECRET}%ff@p:3128", "percent-encoded"),
        (f"http://me:{SECRET}#1@p:3128", "malformed host or port"),
        ("http://p :3128", "blanks"),
        ("http://p\x1b[0m:3128", "control characters"),
    ],
)
def test_a_proxy_that_is_none(value: str, words: str) -> None:
    """The variable is named with what is wrong, and nothing of a login is repeated."""
    found = proxy_for(HOST, PORT, {"https_proxy": value})
    assert found.trouble.startswith("https_proxy ")
    assert words in found.trouble
    assert SECRET not in f"{found!r}"
    assert found.url == ""
    assert proxy_for(HOST, PORT, {"https_proxy": value, "no_proxy": HOST}) == DIRECT


@pytest.mark.parametrize("scheme", ["socks5h", "socks5", "socks4a", "socks4"])
def test_socks_where_it_can_be_spoken(scheme: str) -> None:
    """Its usual port is 1080, also where the library would take another."""
    found = proxy_for(HOST, PORT, {"all_proxy": f"{scheme}://p"}, socks=True)
    assert (found.url, found.port, found.trouble) == (f"{scheme}://p:1080", 1080, "")


def test_a_login_is_kept_and_not_shown() -> None:
    """It is for the library alone."""
    value = f"http://me:{SECRET}@p:3128"
    found = proxy_for(HOST, PORT, {"https_proxy": value})
    assert (found.url, found.address, found.trouble) == (value, "p:3128", "")
    assert SECRET not in f"{found!r}{found}"


@pytest.mark.parametrize(
    ("no_proxy", "host", "covered"),
    [
        ("", "service.example", False),
        ("*", "service.example", True),
        ("a, *", "service.example", True),
        ("service.example", "service.example", True),
        ("SERVICE.example", "Service.Example.", True),
        ("example", "service.example", True),
        (".example", "service.example", True),
        ("*.example", "service.example", True),
        ("ample", "service.example", False),
        ("service.example:443", "service.example", True),
        ("service.example:444", "service.example", False),
        (".", "service.example", False),
        ("a,b service.example", "service.example", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1:443", "127.0.0.1", True),
        ("127.0.0.1:1", "127.0.0.1", False),
        ("0.1", "127.0.0.1", False),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("10.0.0.0/8", "127.0.0.1", False),
        ("10.0.0.0/8", "service.example", False),
        ("nonsense/8", "127.0.0.1", False),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("[::1]:443", "::1", True),
        ("[::1]:1", "::1", False),
        ("fd00::/8", "fd00::1", True),
    ],
)
def test_who_is_exempt(no_proxy: str, host: str, covered: bool) -> None:
    """Names, suffixes, addresses, nets and ports."""
    assert exempt(host, PORT, {"NO_PROXY": no_proxy}) is covered
    assert exempt(host, PORT, {"no_proxy": no_proxy, "NO_PROXY": "*"}) is covered


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://service.example", ""),
        ("https://[::1]:9443/prefix", ""),
        ("wss://service.example", ""),
        ("http://service.example", "always encrypted"),
        ("ws://service.example", "always encrypted"),
        ("ftp://service.example", "always encrypted"),
        ("service.example", "no scheme"),
        ("https://", "no host"),
        ("https://:443", "no host"),
        ("https://x:70000", "malformed"),
        ("https://x:0", "port 0"),
        ("https://[::1", "malformed"),
        ("https://x y", "blanks"),
        (f"https://me:{SECRET}@x", "login"),
        ("https://me@x:9443/path", "login"),
        ("https://x/@path", ""),
    ],
)
def test_an_endpoint_that_cannot_be_dialled(url: str, words: str) -> None:
    """Is known before the dial."""
    found = address_trouble(url)
    assert bool(found) == bool(words)
    assert words in found


@given(st.text(), st.text(), st.text())
def test_whatever_the_environment_says(proxy: str, no_proxy: str, host: str) -> None:
    """An answer, never an exception; one that is usable has everything that a dial needs."""
    found = proxy_for(host, PORT, {"https_proxy": proxy, "no_proxy": no_proxy})
    assert isinstance(found, Proxy)
    assert bool(found.url) == bool(found.host and found.port and not found.trouble)
    address_trouble(proxy)
