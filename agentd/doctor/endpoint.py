"""Name, certificate and session: the way to the service, step by step.

The shells here ask; the judges below them decide what an answer means.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from agentd.clock import WallTime
from agentd.config import Settings
from agentd.doctor.findings import Finding, fail, ok, skipped, warn
from agentd.live.commands import SetupPlan
from agentd.live.connection import endpoint, tls_context
from agentd.live.failures import Failure, classify
from agentd.live.link import Connector, LinkFailed

DNS_S = 12.0
TLS_S = 8.0
EARLIEST_UNIX_S = 1_735_689_600.0  # 2025: no clock of a machine that runs this is before it

_SET_CLOCK = (
    "Set the clock: `sudo timedatectl set-ntp true`, and let NTP (UDP port 123) through the router"
)
_SIGN_IN = (
    "Sign in to this network with a browser, use another one, or, if it is your own proxy, "
    "name its certificate in SSL_CERT_FILE"
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the service is."""

    host: str
    port: int
    is_ours: bool  # live.base_url or a variable names it: it may be mistyped

    @property
    def setting(self) -> str:
        """Return what to check when it is wrong."""
        return "live.base_url" if self.is_ours else "the network"


def target_of(settings: Settings) -> Target:
    """Return the host that is dialled with these settings."""
    named = endpoint(settings)
    if named:
        parts = urlsplit(named)
        return Target(parts.hostname or "", parts.port or 443, is_ours=True)
    live = settings.live
    if live.backend == "vertex":
        region = "" if live.location == "global" else f"{live.location}-"
        return Target(f"{region}aiplatform.googleapis.com", 443, is_ours=False)
    return Target("generativelanguage.googleapis.com", 443, is_ours=False)


def proxy_for(target: Target) -> str:
    """Return the proxy that the SDK would use, or nothing."""
    if urllib.request.proxy_bypass(target.host):
        return ""
    return urllib.request.getproxies().get("https", "")


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
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME and target.is_ours:
        return fail(
            "dns", f"{target.host} does not exist ({words})", "Correct the name in live.base_url"
        )
    return fail(
        "dns",
        f"{target.host} cannot be looked up ({words})",
        "Connect to a network that has a name server: `ip route` must show a default route, "
        "/etc/resolv.conf a nameserver",
    )


# ── certificate ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Handshake:
    """How a TLS handshake came out; `verify_code` is OpenSSL's (X509_V_ERR_…)."""

    connected: bool = True
    tls: bool = True
    verify_code: int = 0
    words: str = ""
    issuer: str = ""
    version: str = ""


async def shake_hands(target: Target) -> Handshake:
    """Connect and do a TLS handshake with the trust that the session uses."""
    try:
        async with asyncio.timeout(TLS_S):
            _, writer = await asyncio.open_connection(
                target.host, target.port, ssl=tls_context(), server_hostname=target.host
            )
            version = str(writer.get_extra_info("ssl_object").version())
            writer.transport.abort()
    except ssl.SSLCertVerificationError as error:
        issuer = await _issuer(target)
        return Handshake(
            verify_code=error.verify_code, words=str(error.verify_message), issuer=issuer
        )
    except (ssl.SSLError, ConnectionResetError, EOFError) as error:
        return Handshake(tls=False, words=str(getattr(error, "reason", None) or error))
    except TimeoutError:
        return Handshake(connected=False, words="no answer in time")
    except OSError as error:
        return Handshake(connected=False, words=_words(error))
    return Handshake(version=version)


def _words(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "connection refused"
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


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


_NOT_YET, _EXPIRED, _WRONG_NAMES = 9, 10, (62, 64)


def judge_handshake(target: Target, found: Handshake, wall: WallTime) -> Finding:
    """Judge what stands between here and the service."""
    where = f"{target.host}:{target.port}"
    if not found.connected:
        if found.words == "connection refused":
            remedy = (
                "Start what should listen there, or correct live.base_url"
                if target.is_ours
                else "Let TCP port 443 through the firewall"
            )
            return fail("tls", f"nobody listens at {where} (connection refused)", remedy)
        return fail(
            "tls",
            f"{where} cannot be reached ({found.words})",
            "Check the network (`ip route get 1.1.1.1`) and let TCP port 443 through the firewall",
        )
    if not found.tls:
        return fail("tls", f"{where} does not speak TLS ({found.words})", _no_tls_remedy(target))
    if found.verify_code == 0:
        return ok("tls", f"{where}: {found.version}, certificate trusted")
    return _judge_certificate(target, found, wall)


def _no_tls_remedy(target: Target) -> str:
    return f"Correct live.base_url, or: {_SIGN_IN}" if target.is_ours else _SIGN_IN


def _judge_certificate(target: Target, found: Handshake, wall: WallTime) -> Finding:
    clock_is_wrong = wall.unix_s < EARLIEST_UNIX_S or not wall.synchronised
    if found.verify_code in (_NOT_YET, _EXPIRED):
        word = "not yet valid" if found.verify_code == _NOT_YET else "expired"
        cause = f"the certificate of {target.host} is {word}"
        if clock_is_wrong:
            return fail("tls", f"{cause} by a clock that is not set", _SET_CLOCK)
        who = "Whoever runs it must renew it" if target.is_ours else _SIGN_IN
        return fail("tls", f"{cause}, and the clock is right", who)
    if found.verify_code in _WRONG_NAMES:
        return fail("tls", f"the certificate is for another name than {target.host}", _SIGN_IN)
    by = f" by {found.issuer}" if found.issuer else ""
    return fail(
        "tls", f"intercepted: the certificate is signed{by}, which nothing trusts", _SIGN_IN
    )


# ── session ───────────────────────────────────────────────────────────────────────────────────

REMEDIES = {
    "credential refused": "Put a valid key in place (`sudo agentd-set-key`)",
    "quota": "Wait, or raise the quota of the project at its provider",
    "overloaded": "Wait: the service is busy, agentd keeps trying",
    "timeout": "Check the firewall and proxy; if other devices work, wait for the service",
    "service error": "Wait: the service has a fault, agentd keeps trying",
    "unreachable": "Check the network (`ip route get 1.1.1.1`)",
    "setup refused": "Check the [live] section against the model's documentation",
}


async def check_session(settings: Settings, connector: Connector, wall: WallTime) -> Finding:
    """Set a session up for real, and close it again."""
    plan = SetupPlan(settings, None, settings.live.system_instruction, initial_history=False)
    try:
        link = await connector.connect(plan)
    except LinkFailed as error:
        return judge_session(settings, error.failure, wall)
    await link.close()
    return ok("session", f"{settings.live.model} accepted key and setup")


def judge_session(settings: Settings, failure: Failure, wall: WallTime) -> Finding:
    """Judge a setup that was refused."""
    verdict = classify(failure, with_handle=False, clock_synchronised=wall.synchronised)
    code = f" (code {failure.code})" if failure.code else ""
    reason = f": {failure.reason}" if failure.reason else ""
    remedy = REMEDIES.get(verdict.cause) or verdict.remedy or "Look at `journalctl -u agentd`"
    subject = f"{settings.live.model}: " if verdict.cause == "model refused" else ""
    cause = f"{subject}{verdict.cause}{code}{reason}"
    return fail("session", cause, remedy, code=failure.code, kind=verdict.cause)


def without_session(because: Finding) -> Finding:
    """Return that no session was tried."""
    return skipped("session", f"not tried, because of {because.check}")
