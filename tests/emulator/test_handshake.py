"""Paths and credentials."""

from __future__ import annotations

import pytest

from live_emulator.handshake import (
    Admission,
    AuthForm,
    Credential,
    HttpRefusal,
    admit,
    read_credential,
)
from live_emulator.models import Backend

DEV = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
FIREBASE = "/ws/google.firebase.vertexai.v1beta."
FIREBASE_VERTEX = "LlmBidiService/BidiGenerateContent/locations/us-central1"
KEY = {"x-goog-api-key": "k"}


@pytest.mark.parametrize(
    ("target", "backend", "version", "constrained"),
    [
        (DEV, Backend.DEVELOPER, "v1beta", False),
        ("/" + DEV, Backend.DEVELOPER, "v1beta", False),
        ("/proxy/x" + DEV, Backend.DEVELOPER, "v1beta", False),
        (DEV.replace("v1beta", "v1"), Backend.DEVELOPER, "v1", False),
        (DEV.replace("v1beta", "v1alpha"), Backend.DEVELOPER, "v1alpha", False),
        (DEV + "?key=abc", Backend.DEVELOPER, "v1beta", False),
        (VERTEX, Backend.VERTEX, "v1beta1", False),
        ("//" + VERTEX, Backend.VERTEX, "v1beta1", False),
        (VERTEX.replace("v1beta1", "v1"), Backend.VERTEX, "v1", False),
        (FIREBASE + "GenerativeService/BidiGenerateContent", Backend.DEVELOPER, "v1beta", False),
        (FIREBASE + FIREBASE_VERTEX, Backend.VERTEX, "v1beta", False),
    ],
)
def test_both_backends_paths(
    target: str, backend: Backend, version: str, constrained: bool
) -> None:
    """The production paths are found, with doubled slashes and behind a proxy prefix too."""
    found = admit(target, KEY)
    assert isinstance(found, Admission)
    assert (found.backend, found.api_version, found.constrained) == (backend, version, constrained)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/ws/other",
        DEV + "x",
        DEV.replace("v1beta", "v9"),
        DEV.replace("GenerativeService.BidiGenerateContent", "LlmBidiService/BidiGenerateContent"),
        VERTEX.replace("LlmBidiService/", "GenerativeService."),
        VERTEX.replace("LlmBidiService/", "LlmBidiService."),
        FIREBASE + "GenerativeService.BidiGenerateContent",
        FIREBASE + "LlmBidiService/BidiGenerateContent",
        FIREBASE + "GenerativeService/BidiGenerateContent/locations/us-central1",
    ],
)
def test_other_paths_are_404(target: str) -> None:
    """Anything else is not found; the two backends' method forms do not mix."""
    found = admit(target, KEY)
    assert isinstance(found, HttpRefusal)
    assert found.status == 404
    assert "BidiGenerateContent[Constrained]" in found.message


@pytest.mark.parametrize(
    ("headers", "query", "credential"),
    [
        ({"X-Goog-Api-Key": "k"}, "", Credential(AuthForm.API_KEY, "k")),
        ({"authorization": "Bearer t"}, "", Credential(AuthForm.BEARER, "t")),
        (
            {"Authorization": "Token auth_tokens/a", "x-goog-api-key": "auth_tokens/a"},
            "",
            Credential(AuthForm.EPHEMERAL, "auth_tokens/a"),
        ),
        ({"x-goog-api-key": "auth_tokens/a"}, "", Credential(AuthForm.EPHEMERAL, "auth_tokens/a")),
        ({}, "key=k", Credential(AuthForm.API_KEY, "k")),
        ({}, "access_token=auth_tokens/a", Credential(AuthForm.EPHEMERAL, "auth_tokens/a")),
        ({}, "access_token=ya29", Credential(AuthForm.BEARER, "ya29")),
        ({"Authorization": "Basic x"}, "", Credential(AuthForm.NONE)),
        ({"Authorization": "Bearer "}, "key=", Credential(AuthForm.NONE)),
        ({}, "", Credential(AuthForm.NONE)),
    ],
)
def test_every_auth_form(headers: dict[str, str], query: str, credential: Credential) -> None:
    """Headers of the SDK, query forms of the cookbook and the token sample, or nothing."""
    assert read_credential(headers, query) == credential


def test_missing_credentials_are_refused_by_backend() -> None:
    """Without a credential the Developer API answers 403, Vertex 401."""
    refusals = [admit(target, {}) for target in (DEV, VERTEX)]
    assert [r.status for r in refusals if isinstance(r, HttpRefusal)] == [403, 401]


def test_the_constrained_method_takes_ephemeral_tokens_only() -> None:
    """BidiGenerateContentConstrained needs an ephemeral token."""
    path = DEV + "Constrained"
    token = admit(path, {"authorization": "Token auth_tokens/a"})
    assert isinstance(token, Admission)
    assert token.constrained
    refused = admit(path, KEY)
    assert isinstance(refused, HttpRefusal)
    assert refused.status == 401
