"""Name, certificate and session: the way to the service, step by step.

The shells here ask; the judges below them decide what an answer means.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from agentd.clock import WallTime
from agentd.config.settings import Settings
from agentd.doctor.findings import Finding, fail, ok, skipped, warn
from agentd.live.causes import BY_NAME
from agentd.live.commands import SetupPlan
from agentd.live.connection import ConnectionFailed, Connector
from agentd.live.failures import Failure, Kind, Phase, Verdict, classify
from agentd.live.google.connector import HAPPY_EYEBALLS_DELAY_S, endpoint, host_of, proxy_of, way
from agentd.net.trust import TrustError, directory_trouble, tls_context
from agentd.net.way import Proxy, address_trouble

DNS_S = 12.0
TLS_S = 8.0
ADDRESS_S = 3.0  # for the TCP connection to one address
EARLIEST_UNIX_S = 1_735_689_600.0  # 2025: no clock of a machine that runs this is before it

_SET_CLOCK = BY_NAME["clock not set"].remedy.partition(". ")[0]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the service is."""

    host: str
    port: int
    is_ours: bool  # live.base_url or a variable names it: it may be mistyped


def target_of(settings: Settings) -> Target:
    """Return the host that is dialled with these settings; without a host if it is malformed."""
    named = endpoint(settings)
    if named and address_trouble(named):
        return Target("", 0, is_ours=True)
    return Target(*host_of(settings), is_ours=bool(named))


def proxy_for(target: Target) -> Proxy:
    """Return the proxy that the session uses, or none."""
    return proxy_of(target.host, target.port)


def found_by(
    check: str, target: Target, failure: Failure, cause: str, wall: WallTime | None = None
) -> Finding:
    """Return the finding of a failure, with the remedy that the journal has for it."""
    verdict = judge(failure, wall, is_ours=target.is_ours)
    remedy = verdict.remedy.removeprefix(f"{failure.reason}. ")  # the cause says it already
    return fail(check, cause, remedy, kind=verdict.cause)


def judge(failure: Failure, wall: WallTime | None, *, is_ours: bool) -> Verdict:
    """Class a failure as a session without a handle would; `wall` judges dates."""
    return classify(
        failure,
        with_handle=False,
        clock_synchronised=wall is None or (wall.synchronised and wall.unix_s >= EARLIEST_UNIX_S),
        own_endpoint=is_ours,
    )


# ── the environment ───────────────────────────────────────────────────────────────────────────


def check_environment(settings: Settings) -> list[Finding]:
    """Judge the endpoint's address, the proxy and the trusted certificates; nothing is dialled."""
    target = target_of(settings)
    found = []
    try:
        proxy = way(settings)
    except ConnectionFailed as error:
        check = "proxy" if error.failure.phase is Phase.PROXY else "dns"
        found.append(found_by(check, target, error.failure, error.failure.reason))
    else:
        if proxy.url:
            found.append(ok("proxy", f"{proxy.variable} leads through {proxy.address}"))
    try:
        tls_context()
    except TrustError as error:
        failure = Failure(Phase.HANDSHAKE, Kind.TRUST)
        found.append(found_by("trust", target, failure, str(error)))
    else:
        if trouble := directory_trouble():
            found.append(warn("trust", trouble, BY_NAME["trust store"].remedy))
    return found


# ── clock ─────────────────────────────────────────────────────────────────────────────────────


def judge_clock(wall: WallTime) -> Finding:
    """Judge whether certificates and alarms can rely on the clock."""
    told = datetime.fromtimestamp(wall.unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    figures = {"unix_s": round(wall.unix_s), "synchronised": wall.synchronised}
    if wall.unix_s < EARLIEST_UNIX_S:
        return fail("clock", f"it shows {told}: certificates look not yet valid", _SET_CLOCK)
    if not wall.synchronised:
        return warn("clock", f"{told}, but nothing synchronises it", _SET_CLOCK, **figures)
    return ok("clock", f"{told}, synchronised", **figures)


# ── name ──────────────────────────────────────────────────────────────────────────────────────

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver; raise OSError (gaierror)."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DNS_S):
        answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


async def check_name(target: Target, ask: Resolve = resolve) -> Finding:
    """Look the service's name up."""
    try:
        ipaddress.ip_address(target.host)
    except ValueError:
        pass
    else:
        return ok("dns", f"{target.host} is an address, no name")
    try:
        addresses = await ask(target.host, target.port)
    except OSError as error:
        return judge_no_name(target, error)
    return ok("dns", f"{target.host} is {', '.join(addresses[:3])}", addresses=len(addresses))


def judge_no_name(target: Target, error: OSError) -> Finding:
    """Judge a failed look-up."""
    words = (error.strerror or str(error) or "no answer in time").lower()
    failure = Failure(Phase.HANDSHAKE, Kind.DNS)
    if isinstance(error, socket.gaierror):
        from agentd.live.google.dial_errors import dial_failure

        failure = dial_failure(error, Phase.HANDSHAKE)
    what = "does not exist" if failure.kind is Kind.NO_NAME else "cannot be looked up"
    return found_by("dns", target, failure, f"{target.host} {what} ({words})")


# ── certificate ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Handshake:
    """How a TLS handshake came out; `silent` are addresses that gave no answer to TCP."""

    failure: Failure | None = None
    issuer: str = ""
    version: str = ""
    silent: tuple[str, ...] = ()


async def shake_hands(target: Target) -> Handshake:
    """Connect and do a TLS handshake with the trust that the session uses."""
    from agentd.live.google.dial_errors import dial_failure

    silent = await _silent_addresses(target)
    try:
        async with asyncio.timeout(TLS_S):
            _, writer = await asyncio.open_connection(
                target.host,
                target.port,
                ssl=tls_context(),
                server_hostname=target.host,
                happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S,
            )
            version = str(writer.get_extra_info("ssl_object").version())
            writer.transport.abort()
    except (OSError, EOFError, TrustError) as error:
        failure = dial_failure(error, Phase.HANDSHAKE)
    else:
        return Handshake(version=version, silent=silent)
    issuer = await _issuer(target) if failure.kind is Kind.CERTIFICATE else ""
    return Handshake(failure, issuer, silent=silent)


async def _silent_addresses(target: Target) -> tuple[str, ...]:
    """Return the addresses that give no answer at all, each tried by itself."""
    try:
        addresses = await resolve(target.host, target.port)
    except OSError:
        return ()

    async def is_silent(address: str) -> bool:
        try:
            async with asyncio.timeout(ADDRESS_S):
                _, writer = await asyncio.open_connection(address, target.port)
        except TimeoutError:
            return True
        except OSError:
            return False
        writer.transport.abort()
        return False

    answers = await asyncio.gather(*(is_silent(address) for address in addresses))
    return tuple(one for one, silent in zip(addresses, answers, strict=True) if silent)


async def _issuer(target: Target) -> str:
    """Return who signed a certificate that we do not trust, as far as that can be read."""
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    try:
        from cryptography import x509

        async with asyncio.timeout(TLS_S):
            _, writer = await asyncio.open_connection(target.host, target.port, ssl=blind)
            raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.transport.abort()
        return x509.load_der_x509_certificate(raw).issuer.rfc4514_string()
    except (OSError, ImportError, ValueError, TimeoutError):
        return ""


def judge_handshake(target: Target, found: Handshake, wall: WallTime) -> Finding:
    """Judge what stands between here and the service."""
    where = f"{target.host}:{target.port}"
    if found.failure is not None:
        words = _handshake_words(target, found.failure, found, wall)
        return found_by("tls", target, found.failure, words, wall)
    well = f"{where}: {found.version}, certificate trusted"
    if found.silent:
        return warn(
            "tls",
            f"{well}; no answer from {', '.join(found.silent)}: agentd goes by the others",
            "Mend that way in the router, or stop announcing it"
            " (an IPv6 that leads nowhere slows down every program)",
            silent=len(found.silent),
        )
    return ok("tls", well)


def _handshake_words(target: Target, failure: Failure, found: Handshake, wall: WallTime) -> str:
    where, reason = f"{target.host}:{target.port}", failure.reason.lower()
    verdict = judge(failure, wall, is_ours=target.is_ours)
    dated = "expired" if failure.kind is Kind.EXPIRED else "not yet valid"
    certificate = f"the certificate of {target.host}"
    by = f" by {found.issuer}" if found.issuer else ""
    silent = f" (no answer from {', '.join(found.silent)})" if found.silent else f" ({reason})"
    words = {
        "clock not set": f"{certificate} is {dated} by a clock that is not set",
        "certificate expired": f"{certificate} is {dated}, and the clock is right",
        "certificate not yet valid": f"{certificate} is {dated}, and the clock is right",
        "certificate name": f"the certificate is for another name than {target.host}",
        "certificate": f"intercepted: the certificate is signed{by}, which nothing trusts"
        f" ({reason})",
        "port refused": f"nobody listens at {where} (connection refused)",
        "no tls": f"{where} does not speak TLS ({reason})",
        "timeout": f"{where} cannot be reached{silent}",
        "trust store": failure.reason,
    }
    return words.get(verdict.cause) or f"{where}: {verdict.cause}{silent}"


# ── session ───────────────────────────────────────────────────────────────────────────────────


async def check_session(settings: Settings, connector: Connector, wall: WallTime) -> Finding:
    """Set a session up for real, and close it again."""
    plan = SetupPlan(settings, None, settings.live.system_instruction, initial_history=False)
    try:
        connection = await connector.connect(plan)
    except ConnectionFailed as error:
        return judge_session(settings, error.failure, wall)
    await connection.close()
    return ok("session", f"{settings.live.model} accepted key and setup")


def judge_session(settings: Settings, failure: Failure, wall: WallTime) -> Finding:
    """Judge a setup that was refused."""
    verdict = judge(failure, wall, is_ours=bool(endpoint(settings)))
    code = f" (code {failure.code})" if failure.code else ""
    reason = f": {failure.reason}" if failure.reason else ""
    subject = f"{settings.live.model}: " if verdict.cause == "model refused" else ""
    cause = f"{subject}{verdict.cause}{code}{reason}"
    remedy = verdict.remedy.removeprefix(f"{failure.reason}. ")  # the cause says it already
    return fail("session", cause, remedy, code=failure.code, kind=verdict.cause)


def without_session(because: Finding) -> Finding:
    """Return that no session was tried."""
    return skipped("session", f"not tried, because of {because.check}")
