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

_PATH = re.compile(
    r"^/*(?:.*/)?ws/google\.(?P<service>ai\.generativelanguage|cloud\.aiplatform)"
    r"\.(?P<version>v\w+)\."
    r"(?P<method>GenerativeService\.BidiGenerateContent(?P<constrained>Constrained)?"
    r"|LlmBidiService/BidiGenerateContent)$"
)

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


def admit(target: str, headers: Mapping[str, str]) -> Admission | HttpRefusal:
    """Decide on a handshake by its request target (path and query) and headers."""
    path, _, query = target.partition("?")
    match = _PATH.match(path)
    if match is None:
        return HttpRefusal(404, f"The requested URL {path} was not found on this server.")
    vertex = match["service"] == "cloud.aiplatform"
    if vertex != match["method"].startswith("LlmBidi") or match["version"] not in API_VERSIONS:
        return HttpRefusal(404, f"The requested URL {path} was not found on this server.")
    credential = read_credential(headers, query)
    constrained = match["constrained"] is not None
    if credential.form is AuthForm.NONE:
        if vertex:
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
    if constrained and credential.form is not AuthForm.EPHEMERAL:
        return HttpRefusal(401, "The constrained method takes an ephemeral token.")
    return Admission(
        backend=Backend.VERTEX if vertex else Backend.DEVELOPER,
        api_version=match["version"],
        constrained=constrained,
        credential=credential,
    )
