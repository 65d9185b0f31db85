"""Keys and service accounts as they are pasted, truncated, or put in the wrong place."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

from agentd.config.credentials import API_KEY, SERVICE_ACCOUNT, find_credentials
from agentd.config.settings import Settings
from agentd.errors import CredentialError
from agentd.live.failures import Phase
from agentd.live.google.connector import GenaiConnector
from agentd.live.google.dial_errors import dial_failure
from agentd.live.toolbox import Toolbox
from agentd.text import safe_text
from tests.attack import frames, values
from tests.attack.target import Case, Step, assert_harmless

ACCOUNT: dict[str, Any] = {
    "type": "service_account",
    "project_id": "p",
    "private_key_id": "1",
    "private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "client_email": "a@b.example",
    "token_uri": "https://127.0.0.1:1/token",
    "universe_domain": "example",
}
KINDS = ("service_account", "authorized_user", "external_account", "impersonated_service_account")


class Files:
    """Credentials on disk."""

    name = "credentials"
    what = "credentials"

    def make(self, rng: random.Random) -> list[Step]:
        """Return one file, as latin-1 text in pieces."""
        if rng.random() < 0.5:
            account = json.loads(json.dumps(ACCOUNT))
            account["type"] = rng.choice(KINDS)
            for _ in range(rng.choice((0, 1, 3))):
                frames.replace_one(account, rng)
            text = json.dumps(account)
            text = values.spoilt(text, rng) if rng.random() < 0.2 else text
        else:
            text = rng.choice((values.KEY, "", "{}", values.text(rng), values.KEY + "\n")) + (
                values.text(rng) if rng.random() < 0.5 else ""
            )
        data = text.encode("utf-8", "surrogatepass").decode("latin-1")
        return [data[at : at + 40] for at in range(0, len(data), 40)]

    def check(self, case: Case) -> int:
        """Look for credentials on both backends and make a client of what is found."""
        text = "".join(step for step in case if isinstance(step, str))
        check_bytes(text.encode("latin-1", "replace"))
        return 2


def check_bytes(data: bytes) -> None:
    """Take the file as a key and as an account: usable, or an error without its content."""
    with tempfile.TemporaryDirectory() as folder:
        for backend, name in (("developer", API_KEY), ("vertex", SERVICE_ACCOUNT)):
            (Path(folder) / name).write_bytes(data)
            _try(backend, folder)


def _try(backend: str, folder: str) -> None:
    settings = Settings.model_validate({"live": {"backend": backend, "project": "p"}})
    try:
        found = find_credentials(backend, {"CREDENTIALS_DIRECTORY": folder})
    except CredentialError as error:
        assert_harmless(str(error), 600, "what is said of a credential")
        return
    assert values.KEY not in repr(found)
    connector = GenaiConnector(Toolbox(), find=lambda _backend: found)
    try:
        connector._client_for(settings).close()
    except Exception as error:  # noqa: BLE001 - as the connector does: any of them is a failure
        reason = dial_failure(error, Phase.HANDSHAKE).reason
        assert_harmless(safe_text(reason), 400, "the reason of a failed dial")
