"""Where keys come from, and what is said when they do not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentd.config.credentials import (
    API_KEY,
    MAX_BYTES,
    SERVICE_ACCOUNT,
    Credentials,
    find_credentials,
)
from agentd.errors import CredentialError

KEY = "AIza-test-key-0123456789"
ACCOUNT = {"type": "service_account", "project_id": "p", "private_key": "secret"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A unit's credential directory."""
    return tmp_path


def find(backend: str, directory: Path | None = None, **env: str) -> Credentials:
    """Look for credentials in a made-up environment."""
    if directory is not None:
        env["CREDENTIALS_DIRECTORY"] = str(directory)
    return find_credentials(backend, env)


def test_the_units_credential_goes_before_the_environment(directory: Path) -> None:
    """And is trimmed."""
    (directory / API_KEY).write_text(f"\ufeff {KEY}\n")
    found = find("developer", directory, GEMINI_API_KEY="another-key-000")
    assert found.api_key == KEY
    assert found.source.endswith(API_KEY)


def test_a_key_is_read_anew_every_time(directory: Path) -> None:
    """Rotation needs no restart."""
    (directory / API_KEY).write_text(KEY)
    assert find("developer", directory).api_key == KEY
    (directory / API_KEY).write_text("AIza-rotated-key-1")
    assert find("developer", directory).api_key == "AIza-rotated-key-1"


def test_the_environment_of_the_sdk() -> None:
    """GOOGLE_API_KEY goes first, as in the SDK; an empty variable does not count."""
    assert find("developer", GEMINI_API_KEY=KEY, GOOGLE_API_KEY="google-key-1").source == (
        "GOOGLE_API_KEY"
    )
    assert find("developer", GEMINI_API_KEY=KEY, GOOGLE_API_KEY=" ").api_key == KEY


def test_ephemeral_tokens() -> None:
    """Known by their prefix."""
    assert find("developer", GEMINI_API_KEY="auth_tokens/abcdef").ephemeral
    assert not find("developer", GEMINI_API_KEY=KEY).ephemeral
    assert not Credentials("nowhere").ephemeral


def test_no_key_anywhere(directory: Path) -> None:
    """The message says where was looked."""
    for place in (None, directory):
        with pytest.raises(CredentialError, match="GEMINI_API_KEY") as caught:
            find("developer", place)
        assert (place is not None) == (str(directory) in str(caught.value))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"two words here", "does not look like"),
        (b"line-one-of-it\nline-two-of-it", "does not look like"),
        (b"a-b-c", "does not look like"),
        (b'{"type": "service_account"}', "does not look like"),
        (b'{"type":"service_account"}', SERVICE_ACCOUNT),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b"\x80key-key-key", "not UTF-8 text"),
        ("schlüssel-schlüssel".encode(), "does not look like"),
        (b"x" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_key(directory: Path, content: bytes, says: str) -> None:
    """Every message names the file and what to do, and never the content."""
    (directory / API_KEY).write_bytes(content)
    with pytest.raises(CredentialError, match=says) as caught:
        find("developer", directory)
    assert API_KEY in str(caught.value)
    words = content.decode("utf-8", "replace").strip()
    assert not words or words not in str(caught.value)


def test_an_endpoint_of_ones_own_takes_keys_of_any_length() -> None:
    """Only Google's are known to be long; what is no key at all is refused everywhere."""
    env = {"GEMINI_API_KEY": "a-b-c"}
    assert find_credentials("developer", env, own_endpoint=True).api_key == "a-b-c"
    with pytest.raises(CredentialError, match="5 characters"):
        find_credentials("developer", env)
    with pytest.raises(CredentialError, match="does not look like"):
        find_credentials("developer", {"GEMINI_API_KEY": "a b"}, own_endpoint=True)


def test_a_key_that_must_not_be_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason is told."""
    (directory / API_KEY).write_text(KEY)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(CredentialError, match="Permission denied"):
        find("developer", directory)


@pytest.mark.parametrize("name", [API_KEY, SERVICE_ACCOUNT])
def test_a_pipe_in_place_of_a_credential_is_refused(directory: Path, name: str) -> None:
    """Reading it would wait for whoever writes; the dial fails with a sentence instead."""
    os.mkfifo(directory / name)
    with pytest.raises(CredentialError, match=f"{name} is a pipe, not a file"):
        find("vertex" if name == SERVICE_ACCOUNT else "developer", directory)


def test_a_service_account_that_nests_without_end_is_refused(directory: Path) -> None:
    """It is no JSON that anybody can read."""
    (directory / SERVICE_ACCOUNT).write_text("[" * 60_000)
    with pytest.raises(CredentialError, match="is not JSON"):
        find("vertex", directory)


def test_a_service_account_for_vertex(directory: Path) -> None:
    """From the unit's credentials, else from the SDK's variable, and before any key."""
    (directory / SERVICE_ACCOUNT).write_text(json.dumps(ACCOUNT))
    (directory / API_KEY).write_text(KEY)
    found = find("vertex", directory)
    assert found.service_account == ACCOUNT
    assert found.api_key is None
    named = find("vertex", GOOGLE_APPLICATION_CREDENTIALS=str(directory / SERVICE_ACCOUNT))
    assert named.service_account == ACCOUNT


def test_vertex_express_and_default_credentials(directory: Path) -> None:
    """A key alone is express mode; with nothing at all google-auth is asked."""
    assert find("vertex", directory, GEMINI_API_KEY=KEY).api_key == KEY
    nothing = find("vertex", directory)
    assert (nothing.api_key, nothing.service_account) == (None, None)
    assert nothing.source == "application default credentials"


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}", '{"type": 7}'])
def test_what_is_no_service_account(directory: Path, content: str) -> None:
    """Told with the remedy."""
    (directory / SERVICE_ACCOUNT).write_text(content)
    with pytest.raises(CredentialError, match="again"):
        find("vertex", directory)


def test_a_named_service_account_that_is_missing() -> None:
    """The path is in the message."""
    with pytest.raises(CredentialError, match=r"/nowhere/account\.json"):
        find("vertex", GOOGLE_APPLICATION_CREDENTIALS="/nowhere/account.json")


def test_secrets_are_not_shown() -> None:
    """Neither by repr nor by str."""
    for found in (
        Credentials("here", api_key=KEY),
        Credentials("here", service_account=ACCOUNT),
    ):
        assert KEY not in f"{found!r}{found}"
        assert "secret" not in f"{found!r}{found}"
