"""Connections to the Live API through the google-genai SDK.

What the SDK does not do is done here, at its own documented doors (`http_options`,
`async_client_args`, websockets' `create_connection`):

* It has no timeout on setupComplete and hands the first frame after setup to nobody, whatever it
  is. Our WebSocket class holds such frames back and gives the SDK the real setupComplete.
* Leaving by cancellation waits for a close handshake with a peer that may be dead. Ours drops the
  transport.
* Every close comes as another exception: `APIError` in receive, `ConnectionClosed` in send,
  `InvalidStatus` in the handshake. They become one `Failure`.
* One unknown frame ends the receive generator with a bare `TypeError` (3.4.0). We go on.
* A dead peer is noticed after 50 s. TCP_USER_TIMEOUT and keepalive notice earlier.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import ssl
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agentd.config import Settings
from agentd.credentials import Credentials, find_credentials
from agentd.errors import CredentialError
from agentd.live.commands import SetupPlan
from agentd.live.failures import Phase
from agentd.live.link import LinkFailed
from agentd.live.tools import Toolbox

if TYPE_CHECKING:
    from google.genai import Client

    from agentd.live.genai_link import GenaiLink
    from agentd.live.websocket import LiveWebSocket

MAX_FRAME_BYTES = 2 << 20  # replies come in pieces of some kB; the SDK's 1 MiB killed sessions
CLOSE_TIMEOUT_S = 1.0
SWITCHING_PROTOCOLS = 101
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

FindCredentials = Callable[[str], Credentials]


def endpoint(settings: Settings, environ: Mapping[str, str] | None = None) -> str:
    """Return the base URL that is dialled, or nothing for Google's own (the SDK's order)."""
    env = os.environ if environ is None else environ
    name = (
        "GOOGLE_VERTEX_BASE_URL" if settings.live.backend == "vertex" else "GOOGLE_GEMINI_BASE_URL"
    )
    return settings.live.base_url or env.get(name, "")


def api_version(settings: Settings) -> str:
    """Return the API version for the path; Vertex AI calls its beta v1beta1."""
    version = settings.live.api_version
    return "v1beta1" if settings.live.backend == "vertex" and version == "v1beta" else version


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts what the SDK trusts: SSL_CERT_FILE, else certifi.

    Without SSL_CERT_FILE it trusts what this machine trusts as well: a household's own proxy.
    """
    import certifi

    own = os.environ.get("SSL_CERT_FILE")
    context = ssl.create_default_context(
        cafile=own or certifi.where(), capath=os.environ.get("SSL_CERT_DIR")
    )
    if not own:
        context.load_default_certs()
    return context


class GenaiConnector:
    """Dials with google-genai; one connection at a time."""

    def __init__(self, toolbox: Toolbox, *, find: FindCredentials = find_credentials) -> None:
        self._toolbox = toolbox
        self._find = find
        self._tls: ssl.SSLContext | None = None
        self._client: Client | None = None
        self._client_key: object = None
        self._sockets: list[LiveWebSocket] = []  # WebSockets made by the dial under way

    async def warm_up(self) -> None:
        """Import the SDK in a worker thread, so that listening goes on meanwhile."""
        self._tls = await asyncio.to_thread(_import_sdk)

    async def connect(self, plan: SetupPlan) -> GenaiLink:
        """Dial and set up.

        Raises:
            LinkFailed: with everything that can be known of the cause.
        """
        live = plan.settings.live
        self._sockets.clear()
        bound_s = live.connect_timeout_s + live.setup_timeout_s
        try:
            if self._tls is None:
                await self.warm_up()
            async with asyncio.timeout(bound_s):
                return await self._dial(plan)
        except Exception as error:
            from agentd.live.dial_errors import dial_failure

            raise LinkFailed(dial_failure(error, self._phase())) from error

    def _phase(self) -> Phase:
        responses = [websocket.response for websocket in self._sockets]
        upgraded = any(r is not None and r.status_code == SWITCHING_PROTOCOLS for r in responses)
        return Phase.SETUP if upgraded else Phase.HANDSHAKE

    async def _dial(self, plan: SetupPlan) -> GenaiLink:
        from agentd.live.genai_link import GenaiLink
        from agentd.live.setup import connect_config

        settings = plan.settings
        client = await asyncio.to_thread(self._client_for, settings)
        context = client.aio.live.connect(
            model=settings.live.model, config=connect_config(plan, self._toolbox)
        )
        session = await context.__aenter__()
        websocket = self._sockets[-1]
        return GenaiLink(session, websocket, context.__aexit__)

    def _client_for(self, settings: Settings) -> Client:
        """Return a client for credentials read just now; the last one if nothing has changed."""
        found = self._find(settings.live.backend)
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

        from agentd.live.websocket import LiveWebSocket

        live, network = settings.live, settings.network
        options = types.HttpOptions(
            base_url=endpoint(settings) or None,
            api_version=api_version(settings),
            async_client_args={
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
        if live.backend == "developer":
            return genai.Client(vertexai=False, api_key=found.api_key, http_options=options)
        if found.api_key is not None and live.project is None:
            return genai.Client(vertexai=True, api_key=found.api_key, http_options=options)
        return genai.Client(
            vertexai=True,
            project=live.project or _project_of(found),
            location=live.location,
            credentials=_google_credentials(found),
            http_options=options,
        )


def _import_sdk() -> ssl.SSLContext:
    import agentd.live.inbound
    import agentd.live.setup  # noqa: F401 - loaded here so that no dial waits for it

    ignore_warnings_of_the_sdk()
    return tls_context()


def ignore_warnings_of_the_sdk() -> None:
    """Keep the service's words out of the log and out of memory.

    For a value that it does not know the SDK (3.4.0) warns with that value. Python remembers every
    text of a warning for the life of the process, except of those that are ignored.
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


def _google_credentials(found: Credentials) -> Any:
    import google.auth

    if found.service_account is None:
        credentials, _ = google.auth.default(scopes=SCOPES)
        return credentials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files from others; this one is the owner's
        load: Callable[..., Any] = google.auth.load_credentials_from_dict
        credentials, _ = load(dict(found.service_account), scopes=SCOPES)
    return credentials
