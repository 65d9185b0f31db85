"""Whatever a dial can raise, turned into one `Failure`.

Imported lazily, together with the SDK.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

from google.auth import exceptions as auth
from google.genai.errors import APIError
from websockets import exceptions as ws
from websockets.http11 import Response

from agentd.errors import CredentialError
from agentd.live.connection import ConnectionFailed
from agentd.live.failures import Failure, Kind, Phase, safe_reason
from agentd.live.google.frames import Excess
from agentd.live.google.websocket import Redirected
from agentd.net.trust import TrustError

_NO_ROUTE = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,  # IPv6 is switched off here
        errno.EAFNOSUPPORT,
    }
)
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})  # by a firewall of this machine

# X509_V_ERR_… of OpenSSL's x509_vfy.h: the two that a wrong clock explains, and other names
_VERIFY_KINDS = {
    9: Kind.NOT_YET_VALID,
    10: Kind.EXPIRED,
    **dict.fromkeys((62, 63, 64), Kind.WRONG_NAME),  # host, email, IP address
}
# OpenSSL's names for what no TLS server says: plain text where a record should begin
_NOT_TLS = (
    *("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE"),
    *("PACKET_LENGTH_TOO_LONG", "BAD_RECORD_TYPE", "UNEXPECTED_RECORD"),
)
_TLS_VERSION = (
    *("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"),
    *("VERSION_TOO_LOW", "WRONG_SSL_VERSION", "SSLV3_ALERT_HANDSHAKE_FAILURE", "NO_SHARED_CIPHER"),
    *("SSL/TLS_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY", "DH_KEY_TOO_SMALL"),
    *("UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "WRONG_CIPHER_RETURNED", "BAD_PROTOCOL_VERSION"),
)


def dial_failure(error: BaseException, phase: Phase) -> Failure:
    """Return what `error` says about a dial that had come to `phase`."""
    if isinstance(error, ConnectionFailed):
        return error.failure  # judged already
    for kinds, rule in _RULES:
        if isinstance(error, kinds):
            return rule(error, phase)
    # the SDK's own checks of our setup: ValueError, pydantic's ValidationError, TypeError
    return Failure(phase, Kind.SETUP_REFUSED, reason=safe_reason(error))


def _plain(kind: Kind) -> Callable[[Any, Phase], Failure]:
    return lambda error, phase: Failure(phase, kind, reason=safe_reason(error))


def _api_error(error: APIError, phase: Phase) -> Failure:
    """Read a close before setupComplete; the SDK makes 1006 of a missing close frame."""
    seen: Any = error.code  # the SDK promises a number; a strange frame may leave none
    code = seen if isinstance(seen, int) else 0
    kind = Kind.DROPPED if code == 1006 else Kind.CLOSED
    return Failure(phase, kind, code, safe_reason(error.details))


def _closed(error: ws.ConnectionClosed, phase: Phase) -> Failure:
    if error.rcvd is None:
        return Failure(phase, Kind.DROPPED, 1006, safe_reason(error.__cause__ or ""))
    return Failure(phase, Kind.CLOSED, int(error.rcvd.code), safe_reason(error.rcvd.reason))


def _status(error: ws.InvalidStatus, phase: Phase) -> Failure:
    response: Response = error.response
    retry_after = "".join(response.headers.get_all("Retry-After")[:1])  # there may be several
    words = bytes(response.body or b"").decode("utf-8", "replace")
    with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError, RecursionError):
        words = json.loads(words)["error"]["message"]
    return Failure(
        phase,
        Kind.STATUS,
        response.status_code,
        safe_reason(words),
        min(float(retry_after), 3600.0) if retry_after.isdecimal() else None,
    )


def _redirected(error: Redirected, phase: Phase) -> Failure:
    reason = safe_reason(f"redirected to {error.host or 'nowhere'}")
    return Failure(phase, Kind.STATUS, error.status_code, reason)


def _invalid_handshake(error: ws.InvalidHandshake, phase: Phase) -> Failure:
    """Tell a peer that hung up from one that answers and is no Live service."""
    hung_up = isinstance(error.__cause__, EOFError | OSError)
    if phase is Phase.SETUP:  # it said 101, and not to us
        phase = Phase.HANDSHAKE
    return Failure(phase, Kind.DROPPED if hung_up else Kind.PROTOCOL, reason=safe_reason(error))


def _proxy_status(error: ws.InvalidProxyStatus, phase: Phase) -> Failure:
    del phase
    response = error.response
    return Failure(
        Phase.PROXY, Kind.STATUS, response.status_code, safe_reason(response.reason_phrase)
    )


def _no_proxy(error: ws.InvalidProxyMessage, phase: Phase) -> Failure:
    del phase
    return Failure(Phase.PROXY, Kind.NOT_HTTP, reason=safe_reason(error))


def _google_auth(error: auth.GoogleAuthError, phase: Phase) -> Failure:
    """Tell a token service that cannot be reached from an account that it refuses."""
    passing = isinstance(error, auth.TransportError) or bool(error.retryable)
    passing = passing or isinstance(error.__cause__, auth.TransportError)
    words = error.args[0] if error.args else error
    return Failure(phase, Kind.TOKEN if passing else Kind.LOGIN, reason=safe_reason(words))


def _certificate(error: ssl.SSLCertVerificationError, phase: Phase) -> Failure:
    kind = _VERIFY_KINDS.get(getattr(error, "verify_code", 0), Kind.CERTIFICATE)
    return Failure(phase, kind, reason=safe_reason(error.verify_message))


def _tls(error: ssl.SSLError, phase: Phase) -> Failure:
    name = getattr(error, "reason", None) or ""  # absent where Python made the error itself
    kind = Kind.TLS
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "UNEXPECTED_EOF" in name:
        kind = Kind.DROPPED
    elif name in _NOT_TLS:
        kind = Kind.NOT_TLS
    elif name in _TLS_VERSION:
        kind = Kind.TLS_VERSION
    return Failure(phase, kind, reason=safe_reason(error))


def _name(error: socket.gaierror, phase: Phase) -> Failure:
    """Tell a name that does not exist from a name server that gives no answer (gai_strerror(3))."""
    no_such_name = error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
    return Failure(
        phase,
        Kind.NO_NAME if no_such_name else Kind.DNS,
        reason=safe_reason(error.strerror or error),
    )


def _os_error(error: OSError, phase: Phase) -> Failure:
    numbers = {error.errno} if error.errno else _numbers(str(error))
    kind = _kind_of(numbers)
    words = error.strerror or str(error)
    if error.errno and words.startswith("Connect call failed"):  # asyncio's, with the address
        words = f"{os.strerror(error.errno)} {words.removeprefix('Connect call failed ')}"
    return Failure(phase, kind, reason=safe_reason(words))


def _numbers(words: str) -> set[int]:
    """Return the errors of several addresses, which asyncio joins into one without a number."""
    return {int(number) for number in re.findall(r"\[Errno (\d+)\]", words)}


def _kind_of(numbers: set[int]) -> Kind:
    """Return what several addresses said together; one that answers says more than none."""
    if errno.ECONNREFUSED in numbers:
        return Kind.PORT_REFUSED
    if numbers and numbers <= _NO_ROUTE:
        return Kind.NO_ROUTE
    if numbers & (_NO_ROUTE | _FORBIDDEN | {errno.ETIMEDOUT}):
        return Kind.UNREACHABLE
    return Kind.DROPPED


def _timeout(error: TimeoutError, phase: Phase) -> Failure:
    if error.errno == errno.ETIMEDOUT or (error.args and isinstance(error.args[0], int)):
        # from the kernel, not our bound
        return Failure(phase, Kind.UNREACHABLE, reason=safe_reason(error))
    waiting_for = "setupComplete" if phase is Phase.SETUP else "the handshake"
    return Failure(phase, Kind.TIMEOUT, reason=f"no answer while waiting for {waiting_for}")


# The first that fits decides; subclasses stand before their parents.
_RULES: tuple[tuple[type[BaseException], Callable[[Any, Phase], Failure]], ...] = (
    (CredentialError, _plain(Kind.CREDENTIAL)),
    (Excess, _plain(Kind.PROTOCOL)),
    (TrustError, _plain(Kind.TRUST)),
    (APIError, _api_error),
    (ws.ConnectionClosed, _closed),
    (ws.InvalidStatus, _status),
    (Redirected, _redirected),
    (ws.InvalidProxyStatus, _proxy_status),
    (ws.InvalidProxyMessage, _no_proxy),
    (ws.InvalidHandshake, _invalid_handshake),
    (auth.DefaultCredentialsError, _plain(Kind.CREDENTIAL)),
    (auth.GoogleAuthError, _google_auth),
    (ssl.SSLCertVerificationError, _certificate),
    (TimeoutError, _timeout),
    (ssl.SSLError, _tls),
    (socket.gaierror, _name),
    (OSError, _os_error),
    (EOFError, _plain(Kind.DROPPED)),
)
