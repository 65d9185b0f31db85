"""Causes between here and the service, made for real on loopback, each by its own name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.clock import WallTime
from agentd.config.credentials import Credentials
from agentd.config.settings import Settings
from agentd.doctor import endpoint
from agentd.doctor.findings import Result
from agentd.live.commands import SetupPlan
from agentd.live.connection import ConnectionFailed
from agentd.live.failures import Verdict, classify
from agentd.live.google.connection import GenaiConnection
from agentd.live.google.connector import GenaiConnector
from agentd.live.toolbox import Toolbox
from live_emulator import Emulator, EmulatorOptions
from tests.live.device import on_real_loop

KEY = "AIza-this-key-must-never-be-seen"
SECRET = "hunter2-of-the-proxy"
NOW = WallTime(1_800_000_000.0, synchronised=True)
NOTHING = b"Content-Length: 0\r\n\r\n"
SLOW_TO_LOAD = ("agentd", "google.genai", "httpx", "pydantic", "websockets")
NAMES = ("https_proxy", "http_proxy", "all_proxy", "wss_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own proxies and certificates."""
    for name in (*NAMES, *(name.upper() for name in NAMES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@contextlib.asynccontextmanager
async def service(monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Emulator]:
    """An emulator that is trusted."""
    async with Emulator(EmulatorOptions(**options)) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
        yield server


def settings_for(url: str, **live: Any) -> Settings:
    """Point at an endpoint of one's own, with short bounds."""
    bounds = {"connect_timeout_s": 4.0, "setup_timeout_s": 4.0}
    return Settings.model_validate({"live": {"base_url": url, **bounds, **live}})


async def connect(settings: Settings) -> GenaiConnection:
    """Dial as the daemon does."""
    connector = GenaiConnector(Toolbox(), find=lambda _: Credentials("test", api_key=KEY))
    plan = SetupPlan(settings, None, "", initial_history=False)
    return await connector.connect(plan)


async def cause_of(settings: Settings, *, clock: bool = True) -> Verdict:
    """Dial, and return what the failure means; its words hold no secret."""
    with pytest.raises(ConnectionFailed) as caught:
        await connect(settings)
    failure = caught.value.failure
    found = classify(failure, with_handle=False, clock_synchronised=clock, own_endpoint=True)
    assert KEY not in f"{failure}{found}"
    assert SECRET not in f"{failure}{found}"
    return found


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@contextlib.asynccontextmanager
async def listener(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a port of this machine."""

    async def bounded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError):
            await serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(bounded, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answer(words: bytes) -> Serve:
    """Read the beginning of a request and say something."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        await writer.drain()
        await reader.read()

    return serve


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a proxy that works."""
    head = await reader.readuntil(b"\r\n\r\n")
    host, _, port = head.split(b" ")[1].decode().rpartition(":")
    inner_reader, inner = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()

    await asyncio.wait(
        [
            asyncio.create_task(copy(reader, inner)),
            asyncio.create_task(copy(inner_reader, writer)),
        ],
        return_when=asyncio.FIRST_COMPLETED,
    )
    inner.transport.abort()


def free_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ── proxies ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
@on_real_loop
async def test_a_proxy_that_works(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session goes through it, and the kernel watches the socket as on a direct way."""
    async with service(monkeypatch) as server, listener(tunnel) as port:
        monkeypatch.setenv(variable, f"http://me:{SECRET}@127.0.0.1:{port}")
        link = await connect(settings_for(server.base_url))
        raw = link._websocket.transport.get_extra_info("socket")
        assert raw.getpeername()[1] == port
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0
        link.abort()


PROXY_ANSWERS = {
    "proxy refuses": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "proxy failed": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "no proxy there": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
}


@pytest.mark.parametrize("cause", PROXY_ANSWERS)
@on_real_loop
async def test_what_a_proxy_says(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy's, named by the variable; and a host that is exempt connects meanwhile."""
    async with service(monkeypatch) as server, listener(answer(PROXY_ANSWERS[cause])) as port:
        monkeypatch.setenv("https_proxy", f"http://me:{SECRET}@127.0.0.1:{port}")
        found = await cause_of(settings_for(server.base_url))
        assert found.cause == cause
        assert "proxy" in found.remedy
        assert not server.record.select("connect")
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{server.port}")
        (await connect(settings_for(server.base_url))).abort()


@on_real_loop
async def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, silent, or a name that nobody knows: never the service's fault."""

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with service(monkeypatch) as server, listener(silent) as quiet:
        brief = settings_for(server.base_url, connect_timeout_s=1.0, setup_timeout_s=1.0)
        for proxy, cause in (
            (f"http://127.0.0.1:{free_port()}", "proxy unreachable"),
            (f"http://127.0.0.1:{quiet}", "proxy unreachable"),
            ("http://no-such-proxy.invalid:3128", "proxy name"),
            (f"https://127.0.0.1:{server.port}", "proxy refuses"),  # TLS, and no proxy inside
        ):
            monkeypatch.setenv("https_proxy", proxy)
            found = await cause_of(brief)
            assert found.cause == cause, proxy
            assert "https_proxy" in found.remedy
        (finding,) = endpoint.check_environment(brief)
        assert (finding.check, finding.result) == ("proxy", Result.OK)
        assert not server.record.select("setup")


@pytest.mark.parametrize(
    "value", ["127.0.0.1:3128", "socks5://127.0.0.1:1080", "ftp://x", "http://x:y", "http://x/p"]
)
@on_real_loop
async def test_a_proxy_variable_that_is_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemon and doctor name the variable, nothing is dialled; exempt, the service is reached."""
    async with service(monkeypatch) as server:
        settings = settings_for(server.base_url)
        monkeypatch.setenv("all_proxy", value)
        found = await cause_of(settings)
        assert found.cause == "proxy setting"
        assert found.remedy.startswith("all_proxy ")
        assert found.interval_s >= 300.0
        (finding,) = endpoint.check_environment(settings)
        assert (finding.check, finding.result) == ("proxy", Result.FAIL)
        assert found.remedy == f"{finding.cause}. {finding.remedy}"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        (await connect(settings)).abort()
        assert endpoint.check_environment(settings) == []


# ── certificates that are trusted ─────────────────────────────────────────────────────────────


def missing(path: Path) -> None:
    """Leave it away."""


def folder(path: Path) -> None:
    """A directory in its place."""
    path.mkdir()


def empty(path: Path) -> None:
    """Nothing in it."""
    path.touch()


def words(path: Path) -> None:
    """No PEM at all."""
    path.write_text("these are no certificates")


def damaged(path: Path) -> None:
    """PEM around nonsense."""
    path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def pipe(path: Path) -> None:
    """Something that would wait for a writer."""
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, "No such file"),
        (folder, "directory"),
        (empty, "empty"),
        (words, "PEM"),
        (damaged, "damaged"),
        (pipe, "pipe"),
    ],
)
@on_real_loop
async def test_a_trust_store_that_is_none(
    make: Callable[[Path], None], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variable and file are named with what is wrong, by the daemon and by the doctor."""
    path = tmp_path / "ca.pem"
    make(path)
    async with service(monkeypatch) as server:
        good = os.environ["SSL_CERT_FILE"]
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        settings = settings_for(server.base_url)
        found = await cause_of(settings)
        assert found.cause == "trust store"
        assert f"SSL_CERT_FILE={path}" in found.remedy
        assert says in found.remedy
        (finding,) = endpoint.check_environment(settings)
        assert (finding.check, finding.result) == ("trust", Result.FAIL)
        assert found.remedy == f"{finding.cause}. {finding.remedy}"
        monkeypatch.setenv("SSL_CERT_FILE", good)
        (await connect(settings)).abort()


@on_real_loop
async def test_a_folder_of_certificates_that_helps_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the reason only where nothing else is trusted; the doctor warns in any case."""
    async with service(monkeypatch) as server:
        settings = settings_for(server.base_url)
        for place, says in ((tmp_path / "none", "No such file"), (tmp_path, "openssl rehash")):
            monkeypatch.setenv("SSL_CERT_DIR", str(place))
            (finding,) = endpoint.check_environment(settings)
            assert (finding.check, finding.result) == ("trust", Result.WARN)
            assert says in finding.cause
            (await connect(settings)).abort()
            with monkeypatch.context() as alone:
                alone.delenv("SSL_CERT_FILE")
                found = await cause_of(settings)
                assert (found.cause, says in found.remedy) == ("trust store", True)


# ── certificates of the other side ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "clock", "cause"),
    [
        ("unknown_ca", True, "certificate"),
        ("unknown_ca", False, "certificate"),
        ("wrong_host", True, "certificate name"),
        ("wrong_host", False, "certificate name"),
        ("expired", True, "certificate expired"),
        ("expired", False, "clock not set"),
        ("not_yet_valid", True, "certificate not yet valid"),
        ("not_yet_valid", False, "clock not set"),
    ],
)
@on_real_loop
async def test_certificates(
    kind: str, clock: bool, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the two that speak of dates are explained by a clock that nobody has set."""
    async with service(monkeypatch, certificate=kind) as server:
        settings = settings_for(server.base_url)
        found = await cause_of(settings, clock=clock)
        assert found.cause == cause
        assert found.interval_s >= 25.0
        target = endpoint.target_of(settings)
        wall = WallTime(NOW.unix_s, synchronised=clock)
        finding = endpoint.judge_handshake(target, await endpoint.shake_hands(target), wall)
        assert finding.figures["kind"] == cause
        assert finding.remedy == found.remedy


# ── what answers in place of the service ──────────────────────────────────────────────────────


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the beginning and go."""
    await reader.read(64)
    writer.transport.abort()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, and wait."""
    del writer
    await reader.read()


async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a web server without TLS."""
    await reader.read(64)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    await reader.read()


@pytest.mark.parametrize(
    ("serve", "cause"),
    [(hang_up, "handshake broken"), (say_nothing, "timeout"), (speak_http, "no tls")],
)
@on_real_loop
async def test_no_tls_answer(serve: Serve, cause: str) -> None:
    """Before TLS stands."""
    async with listener(serve) as port:
        url = f"https://127.0.0.1:{port}"
        found = await cause_of(settings_for(url, connect_timeout_s=1.0, setup_timeout_s=1.0))
    assert found.cause == cause


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin", "intercepted"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: nothing\r\n\r\n", "intercepted"),
        (b"220 mail.example ESMTP\r\n\r\n", "intercepted"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "credential refused"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "endpoint not found"),
        (b"HTTP/1.1 429 No\r\nRetry-After: 1\r\nRetry-After: 2\r\n" + NOTHING, "quota"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "overloaded"),
    ],
)
@on_real_loop
async def test_what_answers_over_tls(
    words: bytes, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages, other protocols and refusals."""
    async with service(monkeypatch) as server, listener(answer(words), server._context) as port:
        assert (await cause_of(settings_for(f"https://127.0.0.1:{port}"))).cause == cause


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@on_real_loop
async def test_no_redirect_is_followed(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the key along to whoever is named."""
    async with service(monkeypatch) as other:
        words = f"HTTP/1.1 {status} Moved\r\nLocation: wss://127.0.0.1:{other.port}/\r\n"
        words += "Content-Length: 0\r\n\r\n"
        async with listener(answer(words.encode()), other._context) as port:
            found = await cause_of(settings_for(f"https://127.0.0.1:{port}"))
        assert found.cause == "intercepted"
        assert not other.record.select("connect")


@on_real_loop
async def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a variable of the SDK names it; a login in it is not repeated."""
    for url in ("http://127.0.0.1:1", "ws://127.0.0.1:1", f"http://me:{SECRET}@127.0.0.1:1"):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        found = await cause_of(Settings())
        assert found.cause == "endpoint address"
        assert found.remedy.startswith("GOOGLE_GEMINI_BASE_URL = ")
        (finding,) = endpoint.check_environment(Settings())
        assert (finding.check, finding.result) == ("dns", Result.FAIL)
        assert SECRET not in finding.cause


# ── several addresses ─────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def hole(port: int, address: str = "127.0.0.2") -> Iterator[str]:
    """An address that takes no connection and says so to nobody: its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind((address, port))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield address


def name_is(host: str, *addresses: str) -> None:
    """Let the loop's resolver answer so."""
    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo

    async def resolve(asked: Any, port: Any, **rest: Any) -> Any:
        if asked != host:
            return await ask(asked, port, **rest)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    loop.getaddrinfo = resolve  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    "order",
    [
        ("127.0.0.2", "127.0.0.1"),  # as an IPv6 that is announced and dead
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.3", "127.0.0.1"),  # refused
        ("127.0.0.2", "127.0.0.3", "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("by_proxy", [False, True])
@on_real_loop
async def test_the_next_address_is_tried_soon(
    order: tuple[str, ...], by_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before a silent address has used the time for a dial up; the doctor names it."""
    async with service(monkeypatch, san=("service.example",)) as server, listener(tunnel) as port:
        way = port if by_proxy else server.port
        name_is("service.example", *order)
        if by_proxy:
            monkeypatch.setenv("https_proxy", f"http://service.example:{port}")
            monkeypatch.setenv("no_proxy", "")
            url = server.base_url
        else:
            url = f"https://service.example:{server.port}"
        with hole(way) as silent:
            link = await connect(settings_for(url, connect_timeout_s=20.0))  # its kernel: 130 s
            raw = link._websocket.transport.get_extra_info("socket")
            assert raw.getpeername() == ("127.0.0.1", way)
            link.abort()
            if by_proxy:
                return
            target = endpoint.target_of(settings_for(url))
            found = await endpoint.shake_hands(target)
            finding = endpoint.judge_handshake(target, found, NOW)
            assert found.silent == ((silent,) if silent in order else ())
            assert (finding.result, silent in finding.cause) == (
                (Result.WARN, True) if silent in order else (Result.OK, False)
            )


@on_real_loop
async def test_no_address_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are named; a refusal among them would have been."""
    async with service(monkeypatch, san=("service.example",)) as server:
        name_is("service.example", "127.0.0.2")
        with hole(server.port):
            url = f"https://service.example:{server.port}"
            brief = settings_for(url, connect_timeout_s=1.0, setup_timeout_s=1.0)
            with pytest.raises(ConnectionFailed) as caught:
                await connect(brief)
    assert caught.value.failure.reason == "no answer from 127.0.0.2"
    found = classify(caught.value.failure, with_handle=False, clock_synchronised=True)
    assert found.cause == "unreachable"


DIAL_ALONE = """
import asyncio, sys
from agentd.config.credentials import Credentials
from agentd.config.settings import Settings
from agentd.live.commands import SetupPlan
from agentd.live.connection import ConnectionFailed
from agentd.live.google.connector import GenaiConnector
from agentd.live.toolbox import Toolbox

async def dial(url):
    connector = GenaiConnector(Toolbox(), find=lambda _: Credentials("test", api_key="k" * 20))
    await connector.warm_up()
    before = set(sys.modules)
    settings = Settings.model_validate({"live": {"base_url": url}})
    try:
        (await connector.connect(SetupPlan(settings, None, ""))).abort()
        print("connected")
    except ConnectionFailed as error:
        print(error.failure.kind.value)
    print(*sorted(set(sys.modules) - before))

asyncio.run(dial(sys.argv[1]))
"""


@on_real_loop
async def test_no_dial_waits_for_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dial needs is loaded before it, in a thread: seconds on a small board.

    On the loop it would stop the microphone, and count as the service's own silence.
    """
    async with service(monkeypatch) as server:
        for url, outcome in (
            (server.base_url, "connected"),
            ("https://127.0.0.1:9", "port_refused"),
        ):
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", DIAL_ALONE, url), stdout=asyncio.subprocess.PIPE
            )
            said, _ = await child.communicate()
            first, late = said.decode().split("\n", 1)
            assert first == outcome
            assert [name for name in late.split() if name.startswith(SLOW_TO_LOAD)] == []
