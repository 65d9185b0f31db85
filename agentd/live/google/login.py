"""Logging in at Google for Vertex AI: from a credential to a token, bounded, each failure by name.

google-auth gives each address of the token service 120 s and tries one after the other, in a thread
that nobody can stop: behind an IPv6 that is announced and dead, dials would pile up threads. Here
one login has a deadline, and each address a short time of it. Imported lazily, with the SDK.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import google.auth
import requests
from google.auth import exceptions
from google.auth.transport.requests import Request

from agentd.config.credentials import Credentials
from agentd.errors import CredentialError
from agentd.live.connection import ConnectionFailed
from agentd.live.failures import Failure, Kind, Phase, safe_reason
from agentd.net.trust import FILE
from agentd.net.way import proxy_for

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
METADATA_HOST = "169.254.169.254"  # of Compute Engine, Cloud Run and the like
METADATA_S = 1.0
CONNECT_S = 2.5  # for one address; the next one is tried then


def google_credentials(found: Credentials, environ: Mapping[str, str] | None = None) -> Any:
    """Return google-auth's credentials for what was found. Blocks up to a second.

    Raises:
        CredentialError: naming the file and what it lacks, or that there is none at all.
    """
    env = os.environ if environ is None else environ
    if found.service_account is not None:
        return _load(found.source, found.service_account)
    if not _metadata_answers(env):
        raise CredentialError(
            f"no {found.source}: GOOGLE_APPLICATION_CREDENTIALS is not set, gcloud has stored no"
            " login, and no metadata server answers (this is no machine of Google Cloud)."
            " Store the JSON key of a service account: `sudo agentd-set-key`"
        )
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except exceptions.GoogleAuthError as error:
        words = safe_reason(error)
        raise CredentialError(f"no application default credentials: {words}") from error
    return credentials


def _load(source: str, account: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files from others; this one is the owner's
        load: Callable[..., Any] = google.auth.load_credentials_from_dict
        try:
            credentials, _ = load(dict(account), scopes=SCOPES)
        except exceptions.GoogleAuthError as error:
            words = safe_reason(error).rstrip(".")
            raise CredentialError(
                f"{source} is no usable Google credential: {words}. Download the JSON key of the"
                " service account again, or log in again (`gcloud auth application-default login`)"
            ) from error
        except Exception as error:
            kind = type(error).__name__
            raise CredentialError(
                f"{source} is no usable Google credential: its key or a field is damaged ({kind})."
                " Download the JSON key of the service account again"
            ) from error
    return credentials


def _metadata_answers(env: Mapping[str, str]) -> bool:
    """Return whether there is a metadata server; google-auth alone takes ten seconds for a no."""
    if env.get("NO_GCE_CHECK", "").lower() == "true":
        return False
    named = env.get("GCE_METADATA_HOST") or env.get("GCE_METADATA_ROOT") or METADATA_HOST
    try:
        parts = urlsplit(f"//{named}")
        address = (parts.hostname or METADATA_HOST, parts.port or 80)
        socket.create_connection(address, timeout=METADATA_S).close()
    except (OSError, ValueError):
        return False
    return True


class BoundedRequest(Request):
    """google-auth's way to the token service, with a deadline and agentd's proxy and trust."""

    def __init__(self, bound_s: float, environ: Mapping[str, str] | None = None) -> None:
        self._env = os.environ if environ is None else environ
        session = requests.Session()
        session.trust_env = False
        session.verify = self._env.get(FILE) or True
        super().__init__(session)
        self._deadline_s = time.monotonic() + bound_s
        self._ask: Callable[..., Any] = super().__call__

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        timeout: Any = None,
        **options: Any,
    ) -> Any:
        """Ask, unless the deadline has passed; follow no redirect."""
        del timeout
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            late: Callable[[str], Exception] = exceptions.TransportError
            raise late("no answer in time")
        self.session.proxies = self._proxies(url)
        bound = (min(CONNECT_S, left_s), left_s)
        # A redirect would take the signed assertion, or the token, to another host.
        options["allow_redirects"] = False
        return self._ask(url, method, body, headers, timeout=bound, **options)

    def _proxies(self, url: str) -> dict[str, str]:
        parts = urlsplit(url)
        if parts.scheme != "https":
            return {}  # the metadata server, which no proxy reaches
        proxy = proxy_for(parts.hostname or "", parts.port or 443, self._env)
        if proxy.trouble:
            kind = Kind.PROXY_SETTING
            failure = Failure(Phase.PROXY, kind, reason=proxy.trouble, variable=proxy.variable)
            raise ConnectionFailed(failure)
        return {"https": proxy.url} if proxy.url else {}


def log_in(credentials: Any, bound_s: float) -> None:
    """Fetch a token unless there is a good one. Blocks; for a worker thread.

    Raises:
        google.auth.exceptions.GoogleAuthError: no token.
        ConnectionFailed: a proxy variable cannot be used.
    """
    if credentials.expired or not credentials.token:  # the SDK's own rule
        credentials.refresh(BoundedRequest(bound_s))
