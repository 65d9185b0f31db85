"""Whatever a dial can raise, turned into one `Failure`.

Imported lazily, together with the SDK.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import ssl
from collections.abc import Callable
from typing import Any

from google.auth import exceptions as auth
from google.genai.errors import APIError
from websockets import exceptions as ws
from websockets.http11 import Response

from agentd.errors import CredentialError
from agentd.live.failures import Failure, Kind, Phase, safe_reason
from agentd.live.frames import Excess

_UNREACHABLE = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
        errno.EACCES,
        errno.EPERM,
    }
)


def dial_failure(error: BaseException, phase: Phase) -> Failure:
    """Return what `error` says about a dial that had come to `phase`."""
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
    retry_after = response.headers.get("Retry-After", "")
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


def _proxy_status(error: ws.InvalidProxyStatus, phase: Phase) -> Failure:
    return Failure(phase, Kind.STATUS, error.response.status_code, "the proxy refuses")


def _google_auth(error: auth.GoogleAuthError, phase: Phase) -> Failure:
    """Tell a token endpoint that cannot be reached from a credential that is no good."""
    passing = isinstance(error, auth.TransportError) or bool(error.retryable)
    return Failure(
        phase, Kind.UNREACHABLE if passing else Kind.CREDENTIAL, reason=safe_reason(error)
    )


def _certificate(error: ssl.SSLCertVerificationError, phase: Phase) -> Failure:
    return Failure(phase, Kind.CERTIFICATE, reason=safe_reason(error.verify_message))


def _os_error(error: OSError, phase: Phase) -> Failure:
    unreachable = error.errno in _UNREACHABLE
    # asyncio joins the errors of several addresses into one without a number
    unreachable = unreachable or (error.errno is None and "Multiple exceptions" in str(error))
    kind = Kind.UNREACHABLE if unreachable else Kind.DROPPED
    return Failure(phase, kind, reason=safe_reason(error.strerror or error))


def _timeout(error: TimeoutError, phase: Phase) -> Failure:
    if error.args and isinstance(error.args[0], int):  # ETIMEDOUT from the kernel, not our bound
        return Failure(phase, Kind.UNREACHABLE, reason=safe_reason(error))
    waiting_for = "the handshake" if phase is Phase.HANDSHAKE else "setupComplete"
    return Failure(phase, Kind.TIMEOUT, reason=f"no answer while waiting for {waiting_for}")


# The first that fits decides; subclasses stand before their parents.
_RULES: tuple[tuple[type[BaseException], Callable[[Any, Phase], Failure]], ...] = (
    (CredentialError, _plain(Kind.CREDENTIAL)),
    (Excess, _plain(Kind.PROTOCOL)),
    (APIError, _api_error),
    (ws.ConnectionClosed, _closed),
    (ws.InvalidStatus, _status),
    (ws.InvalidProxyStatus, _proxy_status),
    (ws.InvalidHandshake, _plain(Kind.DROPPED)),
    (auth.GoogleAuthError, _google_auth),
    (ssl.SSLCertVerificationError, _certificate),
    (TimeoutError, _timeout),
    (ssl.SSLError, _plain(Kind.TLS)),
    (socket.gaierror, _plain(Kind.DNS)),
    (OSError, _os_error),
    (EOFError, _plain(Kind.DROPPED)),
)
