"""Connections to the Live API through the google-genai SDK.

What the SDK does not do is done here, at its own documented doors (`http_options`,
`async_client_args`, websockets' `create_connection`):

* It has no timeout on setupComplete and hands the first frame after setup to nobody, whatever it
  is. Our WebSocket class holds such frames back and gives the SDK the real setupComplete.
* Leaving by cancellation waits for a close handshake with a peer that may be dead. Ours drops the
  transport.
* Every close comes as another exception: `APIError` in receive, `ConnectionClosed` in send,
  `InvalidStatus` in the handshake. They become one `Failure`.
* One unknown frame ends the receive generator with a bare `TypeError` (3.4 to 3.6). We go on.
* A dead peer is noticed after 50 s. TCP_USER_TIMEOUT and keepalive notice earlier.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import json
import os
import re
import socket
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentd.config.credentials import Credentials, find_credentials
from agentd.config.settings import Settings
from agentd.errors import CredentialError
from agentd.live.capabilities import capabilities
from agentd.live.commands import SetupPlan
from agentd.live.connection import ConnectionFailed
from agentd.live.failures import Failure, Kind, Phase, safe_reason
from agentd.live.toolbox import Toolbox
from agentd.net.trust import directory_trouble, tls_context
from agentd.net.way import DIRECT, Proxy, address_trouble, proxy_for

if TYPE_CHECKING:
    import ssl

    from google.genai import Client

    from agentd.live.google.connection import GenaiConnection
    from agentd.live.google.websocket import LiveWebSocket

MAX_FRAME_BYTES = 2 << 20  # replies come in pieces of some kB; the SDK's 1 MiB killed sessions
CLOSE_TIMEOUT_S = 1.0
SWITCHING_PROTOCOLS = 101
HAPPY_EYEBALLS_DELAY_S = 0.25  # what RFC 8305 recommends
PRIVATE_PARTS = (
    "_api_client",
    "_websocket_ssl_ctx",
)  # of the SDK: docs/developer/dependencies.md lists why
NAME_AGAIN_S = 1.0  # for a look-up that should come from a cache
MULTI_REGIONS = ("us", "eu")  # as in the SDK

FindCredentials = Callable[[str], Credentials]


def endpoint(settings: Settings, environ: Mapping[str, str] | None = None) -> str:
    """Return the base URL that is dialled, or nothing for Google's own (the SDK's order)."""
    env = os.environ if environ is None else environ
    return settings.live.base_url or env.get(_base_url_variable(settings), "")


def _base_url_variable(settings: Settings) -> str:
    vertex = settings.live.backend == "vertex"
    return "GOOGLE_VERTEX_BASE_URL" if vertex else "GOOGLE_GEMINI_BASE_URL"


def api_version(settings: Settings) -> str:
    """Return the API version for the path; Vertex AI calls its beta v1beta1."""
    version = settings.live.api_version
    return "v1beta1" if settings.live.backend == "vertex" and version == "v1beta" else version


def proxy_of(host: str, port: int, environ: Mapping[str, str] | None = None) -> Proxy:
    """Return the proxy for a host, judged by the environment and what is installed here."""
    env = os.environ if environ is None else environ
    return proxy_for(host, port, env, socks=importlib.util.find_spec("python_socks") is not None)


def host_of(settings: Settings) -> tuple[str, int]:
    """Return host and port that are dialled."""
    named = endpoint(settings)
    if named:
        parts = urlsplit(named)
        return parts.hostname or "", parts.port or 443
    live = settings.live
    if live.backend == "developer":
        return "generativelanguage.googleapis.com", 443
    if live.location == "global":
        return "aiplatform.googleapis.com", 443
    if live.location in MULTI_REGIONS:
        return f"aiplatform.{live.location}.rep.googleapis.com", 443
    return f"{live.location}-aiplatform.googleapis.com", 443


class GenaiConnector:
    """Dials with google-genai; one connection at a time."""

    def __init__(self, toolbox: Toolbox, *, find: FindCredentials | None = None) -> None:
        self._toolbox = toolbox
        self._find = find
        self._tls: ssl.SSLContext | None = None
        self._login: Any = None  # google-auth's credentials, if they make tokens
        self._proxy = DIRECT
        self._client: Client | None = None
        self._client_key: object = None
        self._sockets: list[LiveWebSocket] = []  # WebSockets made by the dial under way

    async def warm_up(self) -> None:
        """Import the SDK in a worker thread, so that listening goes on meanwhile."""
        self._tls = await asyncio.to_thread(_import_sdk)

    async def connect(self, plan: SetupPlan) -> GenaiConnection:
        """Dial and set up.

        Raises:
            ConnectionFailed: with everything that can be known of the cause.
        """
        live = plan.settings.live
        self._sockets.clear()
        bound_s = live.connect_timeout_s + live.setup_timeout_s
        try:
            self._proxy = way(plan.settings)
            if self._tls is None:
                await self.warm_up()
            async with asyncio.timeout(bound_s):
                return await self._dial(plan)
        except Exception as error:
            raise ConnectionFailed(await self._failure(error, plan.settings)) from error

    async def _failure(self, error: Exception, settings: Settings) -> Failure:
        """Say what an exception means, with what is known of how far the dial had come."""
        from agentd.live.google.dial_errors import dial_failure

        if isinstance(error, ConnectionFailed):
            return error.failure
        failure = dial_failure(error, self._phase())
        if failure.kind is Kind.CERTIFICATE and (trouble := directory_trouble()):
            return replace(failure, kind=Kind.TRUST, reason=trouble)
        if failure.kind is Kind.TIMEOUT and not self._sockets:
            host, port = host_of(settings)
            if self._proxy.url:
                host, port = self._proxy.host, self._proxy.port
            failure = await _silence(failure, host, port)
        if failure.phase is not Phase.PROXY:
            return failure
        variable, address = self._proxy.variable, self._proxy.address
        reason = safe_reason(f"{variable} ({address}): {failure.reason}")
        return replace(failure, variable=variable, reason=reason)

    def _phase(self) -> Phase:
        if self._proxy.url and not self._sockets:
            return Phase.PROXY
        responses = [websocket.response for websocket in self._sockets]
        upgraded = any(r is not None and r.status_code == SWITCHING_PROTOCOLS for r in responses)
        return Phase.SETUP if upgraded else Phase.HANDSHAKE

    async def _dial(self, plan: SetupPlan) -> GenaiConnection:
        from agentd.live.google.connection import GenaiConnection
        from agentd.live.google.setup import connect_config, declared

        settings = plan.settings
        caps = capabilities(settings.live.backend, settings.live.model)
        client = await asyncio.to_thread(self._client_for, settings)
        if self._login is not None:
            await self._log_in(settings.live.connect_timeout_s)
        context = client.aio.live.connect(
            model=settings.live.model, config=connect_config(plan, self._toolbox)
        )
        session = await context.__aenter__()
        websocket = self._sockets[-1]
        declare = functools.partial(declared, self._toolbox, caps)
        return GenaiConnection(session, websocket, context.__aexit__, declare)

    async def _log_in(self, bound_s: float) -> None:
        from agentd.live.google.login import log_in

        try:
            async with asyncio.timeout(bound_s):
                await asyncio.to_thread(log_in, self._login, bound_s)
        except TimeoutError as error:
            reason = f"no token within {bound_s:g} s"
            raise ConnectionFailed(Failure(Phase.HANDSHAKE, Kind.TOKEN, reason=reason)) from error

    def _client_for(self, settings: Settings) -> Client:
        """Return a client for credentials read just now; the last one if nothing has changed."""
        backend, own = settings.live.backend, bool(endpoint(settings))
        if self._find is None:
            found = find_credentials(backend, own_endpoint=own)
        else:
            found = self._find(backend)
        network, live = settings.network, settings.live
        key = (found.source, found.api_key, json.dumps(dict(found.service_account or {})))
        key_all = (key, live, network)
        if self._client is None or self._client_key != key_all:
            before, self._client = self._client, self._new_client(settings, found)
            self._client_key = key_all
            if before is not None:
                before.close()
        return self._client

    def _new_client(self, settings: Settings, found: Credentials) -> Client:
        from google import genai
        from google.genai import types

        from agentd.live.google.websocket import LiveWebSocket

        live, network = settings.live, settings.network
        options = types.HttpOptions(
            base_url=endpoint(settings) or None,
            api_version=api_version(settings),
            # The SDK's REST clients are never used. Left alone they read the proxy variables, and
            # one that they do not understand raises here, also where no_proxy exempts the host.
            client_args={"trust_env": False, "verify": self._tls},
            async_client_args={
                "trust_env": False,
                "proxy": self._proxy.url or None,
                "ssl": self._tls,
                "verify": self._tls,  # saves the SDK's REST client, never used, its own context
                "compression": None,  # audio does not shrink; deflate doubles the cost of a message
                "open_timeout": live.connect_timeout_s,
                "close_timeout": CLOSE_TIMEOUT_S,
                "ping_interval": network.keepalive_s,
                "ping_timeout": network.pong_timeout_s,
                "max_size": MAX_FRAME_BYTES,
                "create_connection": functools.partial(
                    LiveWebSocket,
                    made=self._sockets.append,
                    user_timeout_ms=network.tcp_user_timeout_ms,
                ),
            },
        )
        self._login = None
        if live.backend == "developer":
            client = genai.Client(vertexai=False, api_key=found.api_key, http_options=options)
        elif found.api_key is not None and live.project is None:
            client = genai.Client(vertexai=True, api_key=found.api_key, http_options=options)
        else:
            from agentd.live.google.login import google_credentials

            project = live.project or _project_of(found)
            self._login = google_credentials(found)
            client = genai.Client(
                vertexai=True,
                project=project,
                location=live.location,
                credentials=self._login,
                http_options=options,
            )
        self._race_addresses(client)
        return client

    def _race_addresses(self, client: Client) -> None:
        """Try the next address after a quarter of a second (RFC 8305, section 5).

        asyncio does it if it is asked to, and websockets hands on what it does not know itself. The
        SDK keeps only what stands in the signature of websockets' `connect` (3.4 to 3.6), so this
        goes where it keeps the rest; an SDK that keeps it elsewhere does without.
        """
        options: Any = client
        for name in PRIVATE_PARTS:
            options = getattr(options, name, None)
        if not isinstance(options, dict):
            return
        options["happy_eyeballs_delay"] = HAPPY_EYEBALLS_DELAY_S
        if self._proxy.scheme == "https":
            options["proxy_ssl"] = self._tls


async def _silence(failure: Failure, host: str, port: int) -> Failure:
    """Say who it is that gave no answer before a TCP connection stood: a name server, or a host."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(NAME_AGAIN_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        reason = f"no answer from the name server about {host}"
        return replace(failure, kind=Kind.DNS, reason=safe_reason(reason))
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found[:4]))
    return replace(
        failure, kind=Kind.UNREACHABLE, reason=safe_reason(f"no answer from {addresses}")
    )


def way(settings: Settings) -> Proxy:
    """Return the proxy of the way to the service, or none; judge the way before it is gone.

    Raises:
        ConnectionFailed: the endpoint's address or a proxy variable cannot be used.
    """
    named = endpoint(settings)
    if named and (trouble := address_trouble(named)):
        source = "live.base_url" if settings.live.base_url else _base_url_variable(settings)
        shown = named if "@" not in named else "…"  # before it there may be a login
        reason = safe_reason(f"{source} = {shown}: {trouble}")
        raise ConnectionFailed(Failure(Phase.HANDSHAKE, Kind.ADDRESS, reason=reason))
    proxy = proxy_of(*host_of(settings))
    if proxy.trouble:
        reason, variable = proxy.trouble, proxy.variable
        kind = Kind.PROXY_SETTING
        raise ConnectionFailed(Failure(Phase.PROXY, kind, reason=reason, variable=variable))
    return proxy


def _import_sdk() -> ssl.SSLContext:
    """Load everything that a dial imports, here: on the loop it would stop the microphone."""
    for module in ("connection", "dial_errors", "setup"):
        importlib.import_module(f"agentd.live.google.{module}")
    ignore_warnings_of_the_sdk()
    return tls_context()


def ignore_warnings_of_the_sdk() -> None:
    """Keep the service's words out of the log and out of memory.

    For a value that it does not know the SDK (3.4 to 3.6) warns with that value. Python remembers
    every text of a warning for the life of the process, except of those that are ignored.
    """
    for module in ("google.genai", "pydantic"):
        warnings.filterwarnings("ignore", module=rf"{re.escape(module)}(\.|$)")


def _project_of(found: Credentials) -> str:
    account = found.service_account or {}
    project = account.get("project_id") or account.get("quota_project_id")
    project = project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not isinstance(project, str) or not project:
        raise CredentialError(
            f"{found.source} names no Google Cloud project. Set live.project in agentd.toml"
        )
    return project
