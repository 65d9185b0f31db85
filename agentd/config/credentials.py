"""Keys and service accounts: where they are, read anew at every dial, never shown.

Under systemd they are credentials of the unit (`LoadCredential=gemini-api-key`); elsewhere the
SDK's own environment variables work. Every problem is told with the place that was looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentd.errors import CredentialError
from agentd.named_files import FileRefused, read_json, read_text
from agentd.text import safe_text

API_KEY = "gemini-api-key"
SERVICE_ACCOUNT = "google-application-credentials"
MAX_BYTES = 64 * 1024
MIN_KEY_CHARS = 8
GCLOUD_LOGIN = "application_default_credentials.json"
KINDS = (  # what google-auth can load
    *("service_account", "authorized_user", "external_account", "impersonated_service_account"),
    *("external_account_authorized_user", "gdch_service_account"),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a dial needs. The secret parts do not appear in `repr`.

    Exactly one of `api_key` and `service_account` is set, or neither: then Vertex AI asks
    google-auth for application default credentials (metadata server, gcloud).
    """

    source: str  # for messages: a file or a variable
    api_key: str | None = field(default=None, repr=False)
    service_account: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def ephemeral(self) -> bool:
        """Tell whether the key is a short-lived token of the Developer API."""
        return self.api_key is not None and self.api_key.startswith("auth_tokens/")


def find_credentials(
    backend: str, environ: Mapping[str, str] | None = None, *, own_endpoint: bool = False
) -> Credentials:
    """Return the credentials for `backend` ("developer" or "vertex"), read just now.

    An endpoint of one's own (`own_endpoint`) may have keys of any length.

    Order: the unit's credentials, then the environment. On Vertex a service account goes before
    an (express) API key, and application default credentials are the last resort.

    Raises:
        CredentialError: naming what was looked for, where, and what to do.
    """
    env = os.environ if environ is None else environ
    least = 1 if own_endpoint else MIN_KEY_CHARS
    directory = env.get("CREDENTIALS_DIRECTORY")
    if backend == "vertex":
        return _vertex(env, directory, least)
    return _developer(env, directory, least)


def _developer(env: Mapping[str, str], directory: str | None, least: int) -> Credentials:
    key = _key_from_file(directory, least) or _key_from_environment(env, least)
    if key is not None:
        return key
    looked = f"{Path(directory) / API_KEY}, " if directory else ""
    raise CredentialError(
        f"no API key: looked at {looked}GEMINI_API_KEY, GOOGLE_API_KEY. Put the key into"
        f" the credential {API_KEY} (see `man agentd`), or set GEMINI_API_KEY"
    )


def _vertex(env: Mapping[str, str], directory: str | None, least: int) -> Credentials:
    if directory:
        path = Path(directory) / SERVICE_ACCOUNT
        if _is_there(path):
            return _service_account(path)
    named = env.get("GOOGLE_APPLICATION_CREDENTIALS", "").strip()
    if named:
        return _service_account(Path(named))
    return (
        _key_from_file(directory, least)
        or _key_from_environment(env, least)
        or _gcloud_login(env)
        or Credentials("application default credentials")
    )


def _gcloud_login(env: Mapping[str, str]) -> Credentials | None:
    """Return what `gcloud auth application-default login` has stored, where google-auth looks."""
    folder = env.get("CLOUDSDK_CONFIG") or (
        f"{env['HOME']}/.config/gcloud" if env.get("HOME") else ""
    )
    path = Path(folder) / GCLOUD_LOGIN
    try:
        if not folder or not path.exists():
            return None
    except OSError:  # a home that may not be entered has no login for us
        return None
    return _service_account(path)


def _key_from_file(directory: str | None, least: int) -> Credentials | None:
    if not directory:
        return None
    path = Path(directory) / API_KEY
    if not _is_there(path):
        return None
    return _checked_key(_read(path), str(path), least)


def _key_from_environment(env: Mapping[str, str], least: int) -> Credentials | None:
    # the SDK's own order when both are set
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        if env.get(name, "").strip():
            return _checked_key(env[name], name, least)
    return None


def _checked_key(text: str, source: str, least: int) -> Credentials:
    key = text.strip()
    if not key:
        raise CredentialError(f"{source} is empty. Write the API key into it, on one line")
    if any(c.isspace() or not c.isprintable() or not c.isascii() for c in key):
        raise CredentialError(
            f"{source} does not look like an API key: it has blanks, line breaks or other"
            " characters inside. Write the bare key into it, on one line"
        )
    if len(key) < least or key[0] in "{\"'":
        raise CredentialError(
            f"{source} does not look like an API key ({len(key)} characters). Write the bare key"
            f" into it; a service-account file belongs into {SERVICE_ACCOUNT}"
        )
    return Credentials(source, api_key=key)


def _service_account(path: Path) -> Credentials:
    remedy = "Download the JSON key of the service account again"
    try:
        account = read_json(path, MAX_BYTES)
    except FileRefused as error:
        if error.syntax:
            raise CredentialError(f"{path} {error.problem}. {remedy}") from None
        raise _unusable(error) from error
    kind = account.get("type") if isinstance(account, dict) else None
    if isinstance(account, dict) and account.keys() & {"installed", "web"}:
        raise CredentialError(
            f"{path} is an OAuth client, which is no login."
            " Log in with it: `gcloud auth application-default login --client-id-file=…`"
        )
    if isinstance(kind, str) and kind not in KINDS:
        shown = safe_text(kind, 40)
        raise CredentialError(f"{path} is no Google credential (its type is {shown!r}). {remedy}")
    if not isinstance(kind, str):
        raise CredentialError(f"{path} is no Google credential (it has no `type`). {remedy}")
    return Credentials(str(path), service_account=account)


def _is_there(path: Path) -> bool:
    """Return whether anything is there; what is no file is refused when it is read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # a directory that may not be entered looks like a dead network else
        raise CredentialError(
            f"{path} cannot be reached ({error.strerror}). Check who may enter its directory"
        ) from error
    return True


def _read(path: Path) -> str:
    try:
        return read_text(path, MAX_BYTES)
    except FileRefused as error:
        raise _unusable(error) from error


def _unusable(error: FileRefused) -> CredentialError:
    return CredentialError(f"{error.path} {error.problem}. {error.remedy}")
