"""Faults between here and the service, seeded for real, each named with the remedy that works."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from agentd.clock import FakeClock, SystemClock, WallTime
from agentd.config.credentials import Credentials
from agentd.config.settings import Settings
from agentd.doctor import endpoint
from agentd.doctor.findings import Finding, Result
from agentd.live.google.connector import GenaiConnector
from agentd.live.toolbox import Toolbox
from agentd.net.way import DIRECT
from live_emulator import Emulator, EmulatorOptions
from rig.netns import Namespace, reason_to_skip

PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
KEY = "AIza-this-key-must-never-be-seen"
NOW = WallTime(1_800_000_000.0, synchronised=True)
UNSET = WallTime(3_600.0, synchronised=False)


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Let each test change the environment."""
    before = dict(os.environ)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "GOOGLE_GEMINI_BASE_URL", *PROXIES):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@contextlib.asynccontextmanager
async def service(trusted: bool = True, **options: Any) -> AsyncIterator[tuple[Emulator, Settings]]:
    """Run an emulator; the environment trusts it."""
    async with Emulator(EmulatorOptions(**options)) as emulator:
        if trusted:
            os.environ.update(emulator.client_environment())
        os.environ["no_proxy"] = "*"
        yield emulator, settings_for(emulator.base_url)


def settings_for(base_url: str, **live: Any) -> Settings:
    return Settings.model_validate({"live": {"base_url": base_url, "setup_timeout_s": 2.0, **live}})


def connector(key: str = KEY) -> GenaiConnector:
    return GenaiConnector(Toolbox(), find=lambda _backend: Credentials("test", api_key=key))


async def tls(settings: Settings, wall: WallTime = NOW) -> Finding:
    target = endpoint.target_of(settings)
    return endpoint.judge_handshake(target, await endpoint.shake_hands(target), wall)


async def session(settings: Settings, key: str = KEY) -> Finding:
    return await endpoint.check_session(settings, connector(key), NOW)


async def until_tls(settings: Settings, *, works: bool) -> Finding:
    """Return the first finding that is good, or not; a port opens and closes in its own time."""
    async with asyncio.timeout(30):
        while ((found := await tls(settings)).result is Result.OK) != works:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


def names(finding: Finding, *words: str) -> None:
    """Check that a finding fails and says all of the words, in cause or remedy."""
    assert finding.result is Result.FAIL, finding
    assert finding.remedy, finding
    text = f"{finding.cause} {finding.remedy}"
    for word in words:
        assert word in text, (word, text)
    assert KEY not in text


def test_all_is_well() -> None:
    """Name, certificate and a real setup, which is closed again."""

    async def test() -> None:
        async with service() as (emulator, settings):
            name = await endpoint.check_name(endpoint.target_of(settings))
            assert [name.result, (await tls(settings)).result] == [Result.OK, Result.OK]
            found = await session(settings)
            assert found.result is Result.OK, found
            await emulator.record.wait_for("closed", 30)
            assert len(emulator.record.select("setup")) == 1

    run(test)


def test_no_name_server() -> None:
    """In a network namespace without any interface, looking up fails and DNS is blamed."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    namespace = Namespace("no-dns")
    try:
        with namespace.entered():
            target = endpoint.target_of(Settings())
            found = asyncio.run(endpoint.check_name(target))
    finally:
        namespace.close()
    names(found, "generativelanguage.googleapis.com cannot be looked up", "nameserver")


def test_a_mistyped_name() -> None:
    """A host of one's own that does not exist: the setting is named; corrected, it works."""

    async def test() -> None:
        target = endpoint.target_of(settings_for("https://no-such-host.invalid:1"))

        async def not_there(_host: str, _port: int) -> list[str]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        names(await endpoint.check_name(target, not_there), "live.base_url", "does not exist")
        fixed = endpoint.target_of(settings_for("https://localhost:1"))
        assert (await endpoint.check_name(fixed)).result is Result.OK

    run(test)


def test_the_service_is_down() -> None:
    """Nobody listens; started again, it works."""

    async def test() -> None:
        async with service() as (emulator, settings):
            emulator.inject({"do": "refuse_tcp"})
            found = await until_tls(settings, works=False)
            names(found, "nobody listens", "Start what should listen there")
            emulator.inject({"do": "accept_tcp"})
            await until_tls(settings, works=True)

    run(test)


def test_intercepted_tls() -> None:
    """A certificate of somebody else's authority is named with its issuer.

    The remedy for one's own proxy, SSL_CERT_FILE, works.
    """

    async def test() -> None:
        async with service(trusted=False) as (emulator, settings):
            found = await tls(settings)
            names(found, "intercepted", "agentd emulator CA", "SSL_CERT_FILE")
            os.environ["SSL_CERT_FILE"] = str(emulator.ca_file)
            assert (await tls(settings)).result is Result.OK

    run(test)


@pytest.mark.parametrize(
    ("kind", "wall", "words"),
    [
        ("not_yet_valid", UNSET, ("clock that is not set", "timedatectl set-ntp true")),
        ("not_yet_valid", NOW, ("not yet valid", "clock is right")),
        ("expired", NOW, ("expired", "renew")),
        ("expired", UNSET, ("expired by a clock", "timedatectl")),
        ("wrong_host", NOW, ("another name", "Sign in")),
        ("unknown_ca", NOW, ("intercepted", "Sign in to this network")),
    ],
)
def test_certificates(kind: str, wall: WallTime, words: tuple[str, ...]) -> None:
    """Each kind of bad certificate has its own cause, and the clock is suspected first."""

    async def test() -> None:
        async with service(certificate=kind) as (_, settings):
            names(await tls(settings, wall), *words)

    run(test)


def test_a_portal_without_tls() -> None:
    """Something answers in plain HTTP on the TLS port."""

    async def test() -> None:
        async def portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(64)
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(portal, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            found = await tls(settings_for(f"https://127.0.0.1:{port}"))
        names(found, "does not speak TLS", "Sign in to this network")

    run(test)


@pytest.mark.parametrize("status", [200, 302, 511])
def test_a_captive_portal(status: int) -> None:
    """A page or a redirect in place of the service is called an interception."""

    async def test() -> None:
        async with service() as (emulator, settings):
            refuse(emulator, status)
            names(await session(settings), "intercepted", "Sign in to this network")

    run(test)


def refuse(emulator: Emulator, status: int) -> None:
    """Answer every handshake with a status."""
    emulator.inject({"do": "refuse_http", "on": "connect", "status": status, "times": 0})


def test_a_wrong_key() -> None:
    """The service does not know the key; with the right one it works."""

    async def test() -> None:
        async with service(accept_credentials=frozenset({KEY})) as (_, settings):
            names(await session(settings, "AIza-some-other-key"), "credential refused", "set-key")
            assert (await session(settings)).result is Result.OK

    run(test)


def test_a_wrong_model() -> None:
    """The model is named; with one that exists it works."""

    async def test() -> None:
        async with service() as (emulator, settings):
            wrong = settings_for(emulator.base_url, model="gemini-9-imaginary")
            names(await session(wrong), "gemini-9-imaginary", "model refused", "live.model")
            assert (await session(settings)).result is Result.OK

    run(test)


def test_a_used_up_quota() -> None:
    """Refused for its quota at the door."""

    async def test() -> None:
        async with service() as (emulator, settings):
            refuse(emulator, 429)
            names(await session(settings), "quota", "429", "raise the quota")

    run(test)


def test_a_busy_service() -> None:
    """503 is nobody's fault here: wait."""

    async def test() -> None:
        async with service() as (emulator, settings):
            refuse(emulator, 503)
            names(await session(settings), "overloaded", "Wait")

    run(test)


def test_a_mute_service() -> None:
    """Connected, and then nothing: the wait is bounded and told."""

    async def test() -> None:
        async with service() as (emulator, _):
            emulator.inject({"do": "silent_setup", "on": "setup", "times": 0})
            brief = settings_for(emulator.base_url, connect_timeout_s=1.0, setup_timeout_s=1.0)
            names(await session(brief), "timeout", "setupComplete")

    run(test)


def test_a_clock_at_1970() -> None:
    """A board without a battery that has not reached NTP yet; once set, all is well."""
    clock = FakeClock(unix_s=60.0, synchronised=False)
    names(endpoint.judge_clock(clock.wall()), "1970-01-01", "timedatectl set-ntp true")
    clock.unix_s, clock.synchronised = NOW.unix_s, True
    assert endpoint.judge_clock(clock.wall()).result is Result.OK


def test_a_clock_that_nobody_sets() -> None:
    """Right for now, but it will drift: a warning."""
    found = endpoint.judge_clock(replace(SystemClock().wall(), synchronised=False))
    assert (found.result, "set-ntp" in found.remedy) == (Result.WARN, True)


def test_google_is_the_default_target() -> None:
    """Without a setting the host is Google's, by backend and region."""
    vertex = Settings.model_validate({"live": {"backend": "vertex", "location": "europe-west4"}})
    world = Settings.model_validate({"live": {"backend": "vertex", "location": "global"}})
    assert endpoint.target_of(Settings()).host == "generativelanguage.googleapis.com"
    assert endpoint.target_of(vertex).host == "europe-west4-aiplatform.googleapis.com"
    assert endpoint.target_of(world).host == "aiplatform.googleapis.com"


def test_a_proxy_is_noticed() -> None:
    """What the SDK would use is not bypassed by the doctor."""
    os.environ["https_proxy"] = "http://proxy.example:3128"
    google, own = Settings(), settings_for("https://127.0.0.1:1")
    assert endpoint.proxy_for(endpoint.target_of(google)).address == "proxy.example:3128"
    assert endpoint.proxy_for(endpoint.target_of(own)).address == "proxy.example:3128"
    os.environ["no_proxy"] = "127.0.0.1"
    assert endpoint.proxy_for(endpoint.target_of(own)) == DIRECT
