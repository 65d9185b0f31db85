"""Vertex AI with a service account: a real key, a token endpoint of our own, the real SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agentd import events as e
from agentd.config.credentials import Credentials
from live_emulator import Emulator, EmulatorOptions
from tests.live.device import Device, on_loop

TOKEN = "ya29.made-up-token"


@dataclass
class TokenEndpoint:
    """An OAuth token endpoint; `status` is what it answers with, `location` where it sends one."""

    url: str = ""
    status: int = 200
    location: str = ""
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        self.requests.append(await reader.readexactly(length))
        body = {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        if self.status != 200:
            body = {"error": "invalid_grant", "error_description": "Account has been deleted"}
        data = json.dumps(body).encode()
        writer.write(
            f"HTTP/1.1 {self.status} X\r\nContent-Type: application/json\r\n"
            f"{f'Location: {self.location}' if self.location else 'X-Frame-Options: DENY'}\r\n"
            f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
            + data
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def token_endpoint() -> AsyncIterator[TokenEndpoint]:
    """Serve tokens on this machine."""
    endpoint = TokenEndpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    async with server:
        yield endpoint


def account(token_uri: str) -> dict[str, Any]:
    """A service account with a key of its own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "kitchen-project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "speaker@kitchen-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own accounts or proxies."""
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@on_loop
async def test_a_service_account_talks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key signs for a token, the token opens the door, the project comes from the file."""
    options = EmulatorOptions(
        reply="tone", tone_s=0.1, latency_s=0.01, accept_credentials=frozenset({TOKEN})
    )
    async with token_endpoint() as tokens, Emulator(options) as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        found = Credentials("test", service_account=account(tokens.url))
        async with Device(server.base_url, backend="vertex", find=lambda _: found) as device:
            await device.speak()
            await device.answered()
            server.inject({"do": "reset"})
            await device.connected(2)
        assert len(tokens.requests) == 1, "the token is kept as long as it is good"
        setup = server.record.select("setup")[0].message
        assert setup is not None
        assert setup["setup"]["model"].startswith("projects/kitchen-project/locations/us-central1/")


@on_loop
async def test_a_revoked_service_account_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person must act; the endpoint is not hammered."""
    async with token_endpoint() as tokens, Emulator(EmulatorOptions()) as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        tokens.status = 400
        found = Credentials("test", service_account=account(tokens.url))
        async with Device(server.base_url, backend="vertex", find=lambda _: found) as device:
            refused = await device.event(e.Refused)
            assert refused.cause == "login refused"
            assert "deleted" in device.told(e.Disconnected)[0].reason
            assert not server.record.select("connect")


@on_loop
async def test_a_token_endpoint_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a matter of the network."""
    async with Emulator(EmulatorOptions()) as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        found = Credentials("test", service_account=account("http://127.0.0.1:9/token"))
        live: dict[str, Any] = {"connect_timeout_s": 30.0}
        async with Device(
            server.base_url, backend="vertex", find=lambda _: found, **live
        ) as device:
            ended = await device.event(e.Disconnected)
            assert ended.cause == "token service unreachable"
            assert not device.told(e.Refused)


@on_loop
async def test_an_account_without_a_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which key to set."""
    async with Emulator(EmulatorOptions()) as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        file = account("http://127.0.0.1:9/token")
        del file["project_id"]
        found = Credentials("account.json", service_account=file)
        async with Device(server.base_url, backend="vertex", find=lambda _: found) as device:
            await device.event(e.Refused)
            assert "live.project" in device.told(e.Disconnected)[0].reason


@on_loop
async def test_the_key_is_rotated_without_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read anew at every dial."""
    options = EmulatorOptions(accept_credentials=frozenset({"new-key-0123456"}))
    keys = iter(["old-key-0123456"])
    async with Emulator(options) as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)

        def find(backend: str) -> Credentials:
            del backend
            return Credentials("test", api_key=next(keys, "new-key-0123456"))

        async with Device(server.base_url, find=find) as device:
            await device.event(e.Refused)
            await device.session.configure(device.settings)
            await device.connected()


@on_loop
async def test_an_ephemeral_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes to the constrained door."""
    token = "auth_tokens/0123456789"
    async with Emulator(EmulatorOptions(accept_credentials=frozenset({token}))) as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        found = Credentials("test", api_key=token)
        async with Device(server.base_url, find=lambda _: found) as device:
            await device.connected()
