"""The HTTP side: which path is which backend, and who is knocking.

Paths and auth forms as the google-genai SDK, Google's cookbook and its ephemeral-token sample
send them.  Doubled leading slashes (base URLs end in ``/``) and a proxy's path prefix are normal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qs

from live_emulator.models import Backend

_PATHS = (
    (
        Backend.DEVELOPER,
        (
            r"ai\.generativelanguage\.(?P<version>v\w+)"
            r"\.GenerativeService\.BidiGenerateContent(?P<constrained>Constrained)?"
        ),
    ),
    (
        Backend.VERTEX,
        r"cloud\.aiplatform\.(?P<version>v\w+)\.LlmBidiService/BidiGenerateContent",
    ),
    # Firebase AI Logic, read in its Web, Android, Apple, Flutter and Unity SDKs (Nov 2026).
    (
        Backend.DEVELOPER,
        r"firebase\.vertexai\.(?P<version>v\w+)\.GenerativeService/BidiGenerateContent",
    ),
    (
        Backend.VERTEX,
        (
            r"firebase\.vertexai\.(?P<version>v\w+)\.LlmBidiService/BidiGenerateContent"
            r"/locations/[^/]+"
        ),
    ),
)
_PATTERNS = tuple(
    (backend, re.compile(rf"^/*(?:.*/)?ws/google\.{pattern}$")) for backend, pattern in _PATHS
)
SERVED = (
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent[Constrained], "
    "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent and, for Firebase, "
    "/ws/google.firebase.vertexai.v1beta.GenerativeService/BidiGenerateContent and "
    "/ws/google.firebase.vertexai.v1beta.LlmBidiService/BidiGenerateContent/locations/LOCATION"
)
"""What a refusal of another path names."""

API_VERSIONS = frozenset({"v1", "v1beta", "v1alpha", "v1beta1"})


class AuthForm(Enum):
    """How a client showed who it is."""

    NONE = "none"
    API_KEY = "api_key"
    EPHEMERAL = "ephemeral"
    BEARER = "bearer"


@dataclass(frozen=True, slots=True)
class Credential:
    """What the handshake carried; ``value`` never leaves memory."""

    form: AuthForm
    value: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """A handshake that found its way in."""

    backend: Backend
    api_version: str
    constrained: bool
    credential: Credential


@dataclass(frozen=True, slots=True)
class HttpRefusal:
    """A handshake answered with a plain HTTP status."""

    status: int
    message: str


def read_credential(headers: Mapping[str, str], query: str) -> Credential:
    """Find the credential: headers first, then ``?key=`` and ``?access_token=``."""
    found = {name.lower(): value for name, value in headers.items()}
    scheme, _, token = found.get("authorization", "").partition(" ")
    if scheme.lower() == "token" and token.strip():
        return Credential(AuthForm.EPHEMERAL, token.strip())
    if scheme.lower() == "bearer" and token.strip():
        return Credential(AuthForm.BEARER, token.strip())
    key = found.get("x-goog-api-key", "").strip()
    fields = parse_qs(query)
    key = key or fields.get("key", [""])[0]
    if key:
        form = AuthForm.EPHEMERAL if key.startswith("auth_tokens/") else AuthForm.API_KEY
        return Credential(form, key)
    access = fields.get("access_token", [""])[0]
    if access:
        ephemeral = access.startswith("auth_tokens/")
        return Credential(AuthForm.EPHEMERAL if ephemeral else AuthForm.BEARER, access)
    return Credential(AuthForm.NONE)


def missing_credential(backend: Backend) -> HttpRefusal:
    """Return how a request without a credential is refused."""
    if backend is Backend.VERTEX:
        return HttpRefusal(
            401,
            "Request is missing required authentication credential. Expected OAuth 2 access "
            "token, login cookie or other valid authentication credential.",
        )
    return HttpRefusal(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


def _find(path: str) -> tuple[Backend, re.Match[str]] | None:
    for backend, pattern in _PATTERNS:
        match = pattern.match(path)
        if match is not None and match["version"] in API_VERSIONS:
            return backend, match
    return None


def admit(target: str, headers: Mapping[str, str]) -> Admission | HttpRefusal:
    """Decide on a handshake by its request target (path and query) and headers."""
    path, _, query = target.partition("?")
    found = _find(path)
    if found is None:
        return HttpRefusal(
            404,
            f"The requested URL {path} was not found on this server. "
            f"The emulator's WebSockets are {SERVED}.",
        )
    backend, match = found
    credential = read_credential(headers, query)
    constrained = bool(match.groupdict().get("constrained"))
    if credential.form is AuthForm.NONE:
        return missing_credential(backend)
    if constrained and credential.form is not AuthForm.EPHEMERAL:
        return HttpRefusal(401, "The constrained method takes an ephemeral token.")
    return Admission(
        backend=backend,
        api_version=match["version"],
        constrained=constrained,
        credential=credential,
    )
