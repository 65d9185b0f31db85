"""The requests beside the socket: ephemeral tokens, the list of models, and a JSON error else.

No I/O: a request in, a reply out.  Paths and shapes as the google-genai SDK asks for them and as
the Gemini API and Vertex AI reference pages show them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from live_emulator import reasons
from live_emulator.handshake import (
    API_VERSIONS,
    AuthForm,
    Credential,
    missing_credential,
    read_credential,
)
from live_emulator.models import MODELS, Backend, ModelInfo
from live_emulator.opening import Service
from live_emulator.setup import model_not_found
from live_emulator.wire import INVALID_JSON, JsonObject, WireError, as_int, cut_reason, normalise

TOKEN_VERSIONS = frozenset({"v1alpha", "v1beta"})
"""The SDK says v1alpha only, newer pages v1beta: both."""
BODY_LIMIT_BYTES = 1 << 20
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    426: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""HTTP status to the name of google.rpc.Code, as the Cloud APIs' error page maps them."""

_PATH = re.compile(r"^/*(?:.*/)?(?P<version>v\d\w*)/(?P<rest>.+?)/*$")
_PUBLISHER = r"(?:projects/[^/]+/locations/[^/]+/)?publishers/google/models"
_ROUTES = (
    ("POST", re.compile(r"^auth_tokens$"), "token"),
    ("GET", re.compile(r"^models$"), "models"),
    ("GET", re.compile(r"^models/(?P<name>[^/:]+)$"), "model"),
    ("GET", re.compile(rf"^{_PUBLISHER}$"), "publisher_models"),
    ("GET", re.compile(rf"^{_PUBLISHER}/(?P<name>[^/:]+)$"), "publisher_model"),
)
SERVED = (
    "POST /v1alpha/auth_tokens (or v1beta), GET /v1beta/models and /v1beta/models/NAME, "
    "GET /v1beta1/publishers/google/models and one of them, and the WebSockets of the Live API"
)


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request that is no WebSocket handshake."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """Return the path without the query, which may hold a key."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and JSON body."""

    status: int
    body: JsonObject


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def error_body(status: int, message: str) -> JsonObject:
    """Return an error as google.rpc.Status in JSON."""
    error = {"code": status, "message": message, "status": STATUS.get(status, "UNKNOWN")}
    return {"error": error}


def answer(request: Request, service: Service, now: float, wall_s: float) -> Reply:
    """Answer a request; whatever it is, there is a reply.

    ``now`` is service seconds, ``wall_s`` the clock that the client's times are of.
    """
    try:
        return _route(request, service, now, wall_s)
    except _Refused as refusal:
        return Reply(refusal.status, error_body(refusal.status, str(refusal)))
    except WireError as refusal:
        return Reply(400, error_body(400, refusal.reason))


def _route(request: Request, service: Service, now: float, wall_s: float) -> Reply:
    found = _PATH.match(unquote(request.path))
    version = found["version"] if found else ""
    if found is not None and version in API_VERSIONS:
        for method, pattern, what in _ROUTES:
            match = pattern.match(found["rest"])
            if match is None or method != request.method:
                continue
            if what == "token" and version not in TOKEN_VERSIONS:
                continue
            backend = Backend.VERTEX if what.startswith("publisher") else Backend.DEVELOPER
            _authorise(request, service, backend)
            if what == "token":
                return _mint(request, service, now, wall_s)
            if "name" in match.groupdict():
                return _model(backend, match["name"], version)
            return _models(backend, request, version)
    raise _Refused(
        404,
        f"The requested URL {request.path} was not found on this server. "
        f"The emulator serves {SERVED}.",
    )


def _authorise(request: Request, service: Service, backend: Backend) -> None:
    credential = read_credential(request.headers, request.target.partition("?")[2])
    if credential.form is AuthForm.NONE:
        refusal = missing_credential(backend)
        raise _Refused(refusal.status, refusal.message)
    _check(credential, service)


def _check(credential: Credential, service: Service) -> None:
    if credential.form is AuthForm.EPHEMERAL:
        raise _Refused(401, "Ephemeral tokens are for the Live API only.")
    accepted = service.options.accept_credentials
    if accepted is None or credential.value in accepted:
        return
    if credential.form is AuthForm.BEARER:
        raise _Refused(401, reasons.BAD_TOKEN)
    raise _Refused(400, reasons.BAD_KEY)


# -- ephemeral tokens -------------------------------------------------------------------------


def _mint(request: Request, service: Service, now: float, wall_s: float) -> Reply:
    try:
        body = json.loads(request.body or b"{}")
    except (ValueError, RecursionError) as exc:
        raise _Refused(400, f"{INVALID_JSON} {exc}") from exc
    if not isinstance(body, dict):
        raise _Refused(400, f"{INVALID_JSON} Root element must be a message.")
    try:
        normal = normalise(body)
    except RecursionError as exc:
        raise _Refused(400, f"{INVALID_JSON} Message too deep.") from exc
    scale = service.options.time_scale
    return Reply(200, service.tokens.mint(normal, now, wall_s, scale))


# -- models -----------------------------------------------------------------------------------


def _developer_model(info: ModelInfo, version: str) -> JsonObject:
    return {
        "name": f"models/{info.name}",
        "version": version,
        "displayName": info.name,
        "description": "As the emulator plays it.",
        "inputTokenLimit": info.window_tokens,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["bidiGenerateContent"],
    }


def _publisher_model(info: ModelInfo) -> JsonObject:
    return {"name": f"publishers/google/models/{info.name}", "versionId": "default"}


def _model(backend: Backend, name: str, version: str) -> Reply:
    info = MODELS[backend].get(name)
    if info is None and backend is Backend.VERTEX:
        raise _Refused(404, f"Publisher Model `publishers/google/models/{name}` was not found.")
    if info is None:
        raise _Refused(404, model_not_found(name, version, "generateContent"))
    vertex = backend is Backend.VERTEX
    return Reply(200, _publisher_model(info) if vertex else _developer_model(info, version))


def _models(backend: Backend, request: Request, version: str) -> Reply:
    query = parse_qs(request.target.partition("?")[2])
    size = as_int(query.get("pageSize", ["50"])[0])
    start = as_int(query.get("pageToken", ["0"])[0])
    if size is None or size < 0 or start is None or start < 0:
        raise _Refused(400, reasons.INVALID_ARGUMENT)
    infos = list(MODELS[backend].values())
    page = infos[start : start + min(size or 50, 1000)]
    key = "models" if backend is Backend.DEVELOPER else "publisherModels"
    vertex = backend is Backend.VERTEX
    body: JsonObject = {
        key: [_publisher_model(i) if vertex else _developer_model(i, version) for i in page]
    }
    if start + len(page) < len(infos):
        body["nextPageToken"] = str(start + len(page))
    return Reply(200, body)


def summary(request: Request, reply: Reply) -> dict[str, object]:
    """Return what goes on record: no query, no header, no token."""
    detail: dict[str, object] = {
        "method": request.method,
        "path": request.path,
        "status": reply.status,
    }
    if "error" in reply.body:
        detail["why"] = cut_reason(str(reply.body["error"]["message"]))
    return detail
