"""Application default credentials and accounts: each fault by name, the same for the doctor."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from google.auth import exceptions

from agentd.config.credentials import GCLOUD_LOGIN, Credentials, find_credentials
from agentd.doctor.findings import Result
from agentd.doctor.system import check_credential
from agentd.errors import CredentialError
from agentd.live.connection import ConnectionFailed
from agentd.live.failures import Kind
from agentd.live.google.login import BoundedRequest, google_credentials, log_in
from tests.live.device import on_loop
from tests.live.test_vertex_auth import account, token_endpoint

USER = {
    "type": "authorized_user",
    "client_id": "i",
    "client_secret": "never-seen-1",
    "refresh_token": "never-seen-2",
}
NOWHERE = {"NO_GCE_CHECK": "true"}


def place(folder: Path, content: str) -> dict[str, str]:
    """Store what gcloud would, and return the environment in which it is found."""
    home = folder / ".config" / "gcloud"
    home.mkdir(parents=True)
    (home / GCLOUD_LOGIN).write_text(content)
    return {"HOME": str(folder), **NOWHERE}


def both(env: dict[str, str]) -> str:
    """Return what the daemon says; the doctor must fail with the same cause."""
    with pytest.raises(CredentialError) as caught:
        google_credentials(find_credentials("vertex", env), env)
    finding = check_credential("vertex", env, Path("/nowhere"))
    assert finding.result is Result.FAIL
    assert str(caught.value).startswith(finding.cause)
    assert finding.remedy
    assert "never-seen" not in f"{caught.value}{finding}"
    return str(caught.value)


def test_no_credentials_at_all(tmp_path: Path) -> None:
    """Neither a variable nor gcloud's login nor a metadata server: not "there is one"."""
    told = both({"HOME": str(tmp_path), **NOWHERE})
    assert told.startswith("no application default credentials")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in told


def test_no_metadata_server_answers(tmp_path: Path) -> None:
    """Asked for about a second, and not for the ten that google-auth takes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, and nobody listens
        host = f"127.0.0.1:{probe.getsockname()[1]}"
        assert "no metadata server" in both({"HOME": str(tmp_path), "GCE_METADATA_HOST": host})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("{broken", "not JSON"),
        ("[]", "no `type`"),
        ("{}", "no `type`"),
        (json.dumps({"type": "magic"}), "'magic'"),
        (json.dumps({"installed": {"client_secret": "never-seen"}}), "OAuth client"),
        (json.dumps({"web": {}}), "OAuth client"),
        (json.dumps({"type": "authorized_user", "client_id": "i"}), "refresh_token"),
        (json.dumps({"type": "service_account", "client_email": "x"}), "no usable"),
        (json.dumps({**account("https://x/t"), "private_key": "never-seen"}), "no usable"),
        (json.dumps({"type": "external_account"}), "no usable"),
    ],
)
def test_a_login_that_is_none(content: str, words: str, tmp_path: Path) -> None:
    """The file is named with what it lacks, by daemon and doctor."""
    told = both(place(tmp_path, content))
    assert GCLOUD_LOGIN in told
    assert words in told
    named = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / ".config/gcloud" / GCLOUD_LOGIN)}
    assert both(named | NOWHERE) == told


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_named_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    """Missing, or a directory."""
    env = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / name), **NOWHERE}
    with pytest.raises(CredentialError, match=str(tmp_path)):
        find_credentials("vertex", env)
    assert check_credential("vertex", env, Path("/nowhere")).result is Result.FAIL


def test_what_gcloud_has_stored(tmp_path: Path) -> None:
    """Is found and named, also by CLOUDSDK_CONFIG; a key goes before it."""
    env = place(tmp_path, json.dumps(USER))
    found = find_credentials("vertex", env)
    assert found.source.endswith(GCLOUD_LOGIN)
    assert google_credentials(found, env).refresh_token == USER["refresh_token"]
    assert check_credential("vertex", env, Path("/nowhere")).result is Result.OK
    moved = {"CLOUDSDK_CONFIG": str(tmp_path / ".config" / "gcloud")}
    assert find_credentials("vertex", moved).source == found.source
    assert find_credentials("vertex", env | {"GOOGLE_API_KEY": "a-key-of-mine"}).api_key


@on_loop
async def test_a_login_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that gives no answer takes the time that is left, and no more."""
    async with token_endpoint() as tokens:
        credentials = google_credentials(
            Credentials("test", service_account=account(tokens.url)), NOWHERE
        )
        await asyncio.to_thread(log_in, credentials, 5.0)
        assert credentials.token
        await asyncio.to_thread(log_in, credentials, 0.0)  # there is a good one
        credentials.token = None
        late: Any = exceptions.TransportError
        with pytest.raises((late, exceptions.RefreshError)):
            await asyncio.to_thread(log_in, credentials, -1.0)
        assert len(tokens.requests) == 1


def test_an_unusable_proxy_is_named_for_the_token_too() -> None:
    """And a host that is exempt is asked."""
    env = {"https_proxy": "socks5://127.0.0.1:1", "no_proxy": ""}
    with pytest.raises(ConnectionFailed) as caught:
        BoundedRequest(1.0, env)("https://oauth2.example/token")
    assert caught.value.failure.kind is Kind.PROXY_SETTING
    late: Any = exceptions.TransportError
    with pytest.raises(late):
        BoundedRequest(5.0, env | {"no_proxy": "127.0.0.1"})("https://127.0.0.1:9/token")


@pytest.mark.parametrize("status", [302, 307, 308])
@on_loop
async def test_a_token_endpoint_that_sends_elsewhere_is_not_followed(status: int) -> None:
    """The signed assertion stays with the host that the account names."""
    async with token_endpoint() as other, token_endpoint() as tokens:
        tokens.status, tokens.location = status, other.url
        found = Credentials("test", service_account=account(tokens.url))
        credentials = google_credentials(found, NOWHERE)
        with pytest.raises(exceptions.GoogleAuthError):
            await asyncio.to_thread(log_in, credentials, 10.0)
        assert len(tokens.requests) >= 1
        assert other.requests == []
