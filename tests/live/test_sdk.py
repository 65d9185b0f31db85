"""What agentd uses of the SDK beyond its documented doors: docs/developer/dependencies.md lists it.

A version that keeps something elsewhere fails here with a sentence, not in a household.
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import google.genai.live
import pytest
from google.genai import Client
from google.genai.types import HttpOptions
from google.genai.version import __version__ as version
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.uri import parse_uri
from websockets.version import version as websockets_version

from agentd.live.commands import SetupPlan
from agentd.live.google.connector import HAPPY_EYEBALLS_DELAY_S, PRIVATE_PARTS, GenaiConnector
from agentd.live.toolbox import Toolbox
from tests.live.device import key_of_everyone, on_loop
from tests.live.test_websocket import FakeTransport
from tests.live.world import settings

ROOT = Path(__file__).resolve().parents[2]
OURS = {  # handed to websockets' `connect` by way of `async_client_args`
    "compression",
    "create_connection",
    "close_timeout",
    "max_size",
    "open_timeout",
    "ping_interval",
    "ping_timeout",
    "proxy",
    "ssl",
}


class Dialled:
    """Stands in for websockets' `connect`; a connection that sets up and knows how it was read."""

    def __init__(self, uri: str, **options: Any) -> None:
        self.uri = uri
        self.options = options
        self.sent: list[Any] = []
        self.read: list[dict[str, Any]] = []
        self.made: list[Any] = []

    async def __aenter__(self) -> Self:
        protocol = ClientProtocol(parse_uri("wss://127.0.0.1"))
        self.made.append(self.options["create_connection"](protocol))  # as websockets does
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to close."""

    async def send(self, message: Any) -> None:
        """Take the setup."""
        self.sent.append(json.loads(message))

    async def recv(self, **how: Any) -> bytes:
        """Answer it."""
        self.read.append(how)
        return b'{"setupComplete": {}}'


async def dial(monkeypatch: pytest.MonkeyPatch) -> Dialled:
    """Dial through the SDK; return what websockets was asked for."""
    dialled: list[Dialled] = []

    def connect(uri: str, **options: Any) -> Dialled:
        dialled.append(Dialled(uri, **options))
        return dialled[0]

    assert hasattr(google.genai.live, "ws_connect"), (
        f"google-genai {version} dials by another name than live.ws_connect: look how it hands on"
        " `_websocket_ssl_ctx`, then mend this test"
    )
    monkeypatch.setattr(google.genai.live, "ws_connect", connect)
    connector = GenaiConnector(Toolbox(), find=key_of_everyone)
    await connector.connect(SetupPlan(settings(base_url="https://127.0.0.1:9"), None, ""))
    return dialled[0]


@on_loop
async def test_the_options_reach_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs, bounds, TLS and our own connection class are handed on, and so is what we add."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    options = (await dial(monkeypatch)).options
    missing = OURS - set(options)
    assert not missing, (
        f"google-genai {version} no longer hands {', '.join(sorted(missing))} from"
        " async_client_args to websockets' connect: agentd/live/google/connector.py relies on it"
    )
    assert options.get("happy_eyeballs_delay") == HAPPY_EYEBALLS_DELAY_S, (
        f"google-genai {version} no longer dials with `_websocket_ssl_ctx` of its client: a name"
        " whose first address is dead would wait for TCP (connector.py, _race_addresses)"
    )
    assert isinstance(options["ssl"], ssl.SSLContext)


@on_loop
async def test_the_first_frame_is_asked_for_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiveWebSocket hands out setupComplete at the first `recv`, which the SDK does not look at."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    dialled = await dial(monkeypatch)
    assert list(dialled.sent[0]) == ["setup"]
    assert dialled.read == [{"decode": False}], (
        f"google-genai {version} reads the answer to its setup in another way than by one"
        f" recv(decode=False): {dialled.read}; agentd/live/google/websocket.py, recv, counts on it"
    )


def test_a_client_without_the_private_part_still_dials() -> None:
    """Then addresses are tried one after the other; the dial does not end in an AttributeError."""
    client: Any = Client(api_key="k" * 20, http_options=HttpOptions(api_version="v1beta"))
    del client._api_client._websocket_ssl_ctx
    GenaiConnector(Toolbox(), find=key_of_everyone)._race_addresses(client)


@on_loop
async def test_websockets_can_be_held_up() -> None:
    """LiveWebSocket replaces `pause` and `resume` of the queue of received messages."""
    connection = ClientConnection(ClientProtocol(parse_uri("wss://127.0.0.1")))
    for name in ("process_event", "resume_writing", "data_received", "eof_received"):
        assert hasattr(connection, name), (
            f"websockets {websockets_version}: ClientConnection has no {name}, which"
            " agentd/live/google/websocket.py extends"
        )
    connection.connection_made(FakeTransport())
    for name in ("pause", "resume"):
        assert hasattr(connection.recv_messages, name), (
            f"websockets {websockets_version}: recv_messages has no {name}, which"
            " agentd/live/google/websocket.py replaces"
        )


def test_every_private_part_is_listed() -> None:
    """What of the SDK starts with an underscore is named in the documentation, with what for."""
    page = (ROOT / "docs" / "developer" / "dependencies.md").read_text("utf-8")
    unlisted = [name for name in PRIVATE_PARTS if f"`{name}`" not in page]
    assert not unlisted, f"docs/developer/dependencies.md does not list {', '.join(unlisted)}"
    for path in (ROOT / "agentd" / "live").rglob("*.py"):
        assert "SLF001" not in path.read_text("utf-8"), (
            f"{path.name} uses a private part that neither PRIVATE_PARTS nor the page lists"
        )
