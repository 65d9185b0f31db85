"""REST beside the socket: ephemeral tokens and what they lock, the models, an answer to all."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import http.client
import json
import socket
import ssl
import warnings
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from live_emulator import Emulator
from live_emulator.clock import ManualClock
from live_emulator.front import HEAD_LIMIT_BYTES, is_handshake, undecided
from live_emulator.handshake import AuthForm, Credential
from live_emulator.models import MODELS, Backend
from live_emulator.rest import BODY_LIMIT_BYTES, Request, answer, summary
from tests.emulator.clients import DEVELOPER, emulator, raw, run, sdk
from tests.emulator.harness import MODEL, Peer, handles, make_service

V31 = "gemini-3.1-flash-live-preview"
WALL_S = 1_800_000_000.0
KEY = {"x-goog-api-key": "k"}
CONSTRAINED = DEVELOPER.replace("v1beta", "v1alpha") + "Constrained"


def stamp(seconds: float, wall_s: float = WALL_S) -> str:
    return dt.datetime.fromtimestamp(wall_s + seconds, dt.UTC).isoformat().replace("+00:00", "Z")


class Desk:
    """A service, asked by REST and by sessions with the tokens it gave out."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.service = make_service(self.clock, **options)

    def ask(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        text = "" if body is None or isinstance(body, bytes) else json.dumps(body)
        data = body if isinstance(body, bytes) else text.encode()
        request = Request(method, target, KEY if headers is None else headers, data)
        reply = answer(request, self.service, self.clock.now(), WALL_S)
        return reply.status, reply.body

    def token(self, **body: Any) -> str:
        status, found = self.ask("POST", "/v1alpha/auth_tokens", body)
        assert (status, list(found)) == (200, ["name"])
        name: str = found["name"]
        assert name.startswith("auth_tokens/")
        return name

    def connect(self, token: str, number: int = 1, **setup: Any) -> Peer:
        credential = Credential(AuthForm.EPHEMERAL, token)
        peer = Peer(self.service, self.clock, number=number, credential=credential)
        peer.setup(**setup)
        return peer


def error(found: tuple[int, Any]) -> tuple[int, str, str]:
    status, body = found
    assert body["error"]["code"] == status
    return status, body["error"]["status"], body["error"]["message"]


# -- tokens -----------------------------------------------------------------------------------


def test_a_token_opens_one_session_within_a_minute() -> None:
    """The defaults: one use, a minute to begin, half an hour to live."""
    desk = Desk(connection_limits=False)
    token = desk.token()
    first = desk.connect(token)
    assert first.kinds == ["setupComplete"]
    second = desk.connect(token, 2)
    assert second.closes == [(1008, "Auth token has no uses left.")]
    first.advance(30 * 60.0)
    assert first.closes == [(1008, "Auth token has expired.")]
    late = desk.token()
    desk.clock.advance(61.0)
    assert desk.connect(late, 3).closes == [
        (1008, "Auth token can no longer be used to start a new session.")
    ]


def test_uses_and_times_are_those_asked_for() -> None:
    """Uses counts sessions, zero is no limit; times are absolute, by the client's clock."""
    desk = Desk(connection_limits=False)
    two = desk.token(uses="2", newSessionExpireTime=stamp(600), expire_time=stamp(1200))
    desk.clock.advance(500.0)
    assert [desk.connect(two, n).kinds for n in (1, 2, 3)] == [
        ["setupComplete"],
        ["setupComplete"],
        [],
    ]
    many = desk.token(uses=0)
    assert all(desk.connect(many, n).kinds == ["setupComplete"] for n in range(4, 9))
    fast = Desk(time_scale=60.0, connection_limits=False)
    scaled = fast.token(newSessionExpireTime=stamp(2.0), uses=0)
    fast.clock.advance(119.0)
    assert fast.connect(scaled).kinds == ["setupComplete"]
    fast.clock.advance(2.0)
    assert fast.connect(scaled, 2).closes[0][0] == 1008


def test_resuming_is_no_use_of_a_token() -> None:
    """A used-up token resumes its session, also after the time for new ones; not once expired."""
    desk = Desk(connection_limits=False)
    token = desk.token()
    first = desk.connect(token, sessionResumption={})
    first.turn()
    handle = handles(first.frames)[-1]
    first.hang_up()
    desk.clock.advance(120.0)
    again = desk.connect(token, 2, sessionResumption={"handle": handle})
    assert again.kinds == ["setupComplete"]
    assert again.noted("session")[0]["resumed"]
    again.hang_up()
    desk.clock.advance(30 * 60.0)
    assert desk.connect(token, 3, sessionResumption={"handle": handle}).closes[0][0] == 1008


def test_a_token_that_nobody_minted_is_refused() -> None:
    """Unless it is among those accepted, or a knob says that any will do."""
    assert Desk().connect("auth_tokens/x").closes == [(1008, "Auth token not found.")]
    named = Desk(accept_credentials=frozenset({"auth_tokens/x", "k"}))
    assert named.connect("auth_tokens/x").kinds == ["setupComplete"]
    assert named.connect("auth_tokens/y").closes[0][0] == 1008
    assert named.connect(named.token(), 3).kinds == ["setupComplete"]
    assert Desk(unknown_tokens="accept").connect("auth_tokens/x").kinds == ["setupComplete"]


def setup_of(peer: Peer) -> Any:
    assert peer.core.setup is not None
    return peer.core.setup


LOCKED = {
    "model": f"models/{MODEL}",
    "systemInstruction": {"parts": [{"text": "locked"}]},
    "generationConfig": {"temperature": 0.7},
}
OTHER: Any = {"systemInstruction": {"parts": [{"text": "other"}]}}


def test_a_setup_in_the_token_is_the_setup() -> None:
    """Without a mask nothing of the connection's own setup counts, but a handle to resume by."""
    desk = Desk()
    token = desk.token(uses=0, bidiGenerateContentSetup=LOCKED | {"sessionResumption": {}})
    peer = desk.connect(token, model=V31, **OTHER)
    assert setup_of(peer).system_instruction == "locked"
    assert setup_of(peer).model.name == MODEL
    assert setup_of(peer).activity.automatic
    peer.core.resumable()
    peer.settle()
    handle = handles(peer.frames)[-1]
    peer.hang_up()
    again = desk.connect(token, 2, sessionResumption={"handle": handle})
    assert again.noted("session")[0]["resumed"]
    again.hang_up()
    plain = desk.token(uses=0, bidiGenerateContentSetup=LOCKED)
    assert desk.connect(plain, 3, sessionResumption={"handle": handle}).core.setup is not None


def test_a_mask_locks_fields() -> None:
    """Masked fields come from the token, also by being absent; the others from the connection."""
    desk = Desk()
    mask = "model,system_instruction,generationConfig.temperature,tools,input_audio_transcription"
    token = desk.token(uses=0, bidi_generate_content_setup=LOCKED, fieldMask=mask)
    tools = [{"functionDeclarations": [{"name": "lamp"}]}]
    more: Any = {"outputAudioTranscription": {}, "inputAudioTranscription": {}, "tools": tools}
    setup = setup_of(desk.connect(token, **OTHER, **more))
    assert setup.system_instruction == "locked"
    assert setup.output_transcription
    assert setup.functions == {}
    assert not setup.activity.automatic
    found = desk.service.tokens.find(token, refuse_unknown=True)
    assert found is not None
    assert found.effective({"generationConfig": {"topK": 1, "temperature": 1}}) == {
        **LOCKED,
        "generationConfig": {"topK": 1, "temperature": 0.7},
    }
    assert found.effective({"generationConfig": 5})["generationConfig"] == {"temperature": 0.7}
    nested = desk.token(bidiGenerateContentSetup={}, fieldMask="a.b, ,")
    found = desk.service.tokens.find(nested, refuse_unknown=True)
    assert found is not None
    assert found.effective({}) == {}


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"nope": 1}, 'Unknown name "nope"'),
        ({"uses": -1}, "negative"),
        ({"uses": "many"}, "invalid argument"),
        ({"expireTime": "soon"}, "Invalid value at 'expire_time'"),
        ({"expireTime": 5}, "google.protobuf.Timestamp"),
        ({"expireTime": "2030-01-01T00:00:00"}, "Timestamp"),
        ({"expireTime": stamp(-1)}, "expire_time must be in the future"),
        ({"newSessionExpireTime": stamp(20 * 3600 + 1)}, "new_session_expire_time must be"),
        ({"fieldMask": ["model"]}, "google.protobuf.FieldMask"),
        ({"bidiGenerateContentSetup": 5}, "invalid argument"),
        ({"bidiGenerateContentSetup": {"setup": {}}}, "Unknown name \"setup\" at 'setup'"),
        (b"[]", "Root element must be a message"),
        (b"{", "Invalid JSON payload received."),
        (b"[" * 100_000, "Invalid JSON payload received."),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "Unknown name"),
    ],
)
def test_bad_token_requests_are_400(body: Any, part: str) -> None:
    """The refusal names the field and what is wrong with it."""
    status, name, message = error(Desk().ask("POST", "/v1alpha/auth_tokens", body))
    assert (status, name) == (400, "INVALID_ARGUMENT")
    assert part in message


def test_old_tokens_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The book is bounded."""
    monkeypatch.setattr("live_emulator.tokens.TOKENS_KEPT", 3)
    desk = Desk()
    names = [desk.token() for _ in range(5)]
    assert len(desk.service.tokens) == 3
    assert desk.connect(names[0]).closes[0][0] == 1008


# -- paths ------------------------------------------------------------------------------------


def test_tokens_are_minted_on_both_versions_that_sources_name() -> None:
    """v1alpha says the SDK, v1beta say newer pages; v1 has none."""
    desk = Desk()
    assert desk.ask("POST", "//v1beta/auth_tokens", {})[0] == 200
    assert desk.ask("POST", "/proxy/v1alpha/auth_tokens?key=k", {}, {})[0] == 200
    assert desk.ask("POST", "/v1/auth_tokens", {})[0] == 404
    assert desk.ask("GET", "/v1alpha/auth_tokens")[0] == 404


def test_models_can_be_listed_and_looked_up() -> None:
    """As the Gemini API shows them, page by page; as Vertex AI shows them."""
    desk = Desk()
    names = [f"models/{name}" for name in MODELS[Backend.DEVELOPER]]
    status, body = desk.ask("GET", "/v1beta/models")
    assert (status, [m["name"] for m in body["models"]]) == (200, names)
    assert body["models"][0]["supportedGenerationMethods"] == ["bidiGenerateContent"]
    seen, token = [], ""
    for _ in range(len(names)):
        _, body = desk.ask("GET", f"/v1beta/models?pageSize=2&pageToken={token or 0}")
        seen += [m["name"] for m in body["models"]]
        token = body.get("nextPageToken", "")
        if not token:
            break
    assert seen == names
    assert desk.ask("GET", f"/v1beta/{names[0]}") == (
        200,
        {
            "name": names[0],
            "version": "v1beta",
            "displayName": MODEL,
            "description": "As the emulator plays it.",
            "inputTokenLimit": 131_072,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["bidiGenerateContent"],
        },
    )
    for prefix in ("", "projects/p/locations/l/"):
        path = f"/v1beta1/{prefix}publishers/google/models"
        _, body = desk.ask("GET", path)
        assert [m["name"].split("/")[-1] for m in body["publisherModels"]] == list(
            MODELS[Backend.VERTEX]
        )
        assert desk.ask("GET", f"{path}/{MODEL}")[1]["name"].endswith(MODEL)
        assert error(desk.ask("GET", f"{path}/nope"))[0] == 404
    assert error(desk.ask("GET", "/v1beta/models/nope"))[2].startswith("models/nope is not found")
    assert error(desk.ask("GET", "/v1beta/models?pageSize=-1"))[0] == 400
    assert error(desk.ask("GET", "/v1beta/models?pageToken=x"))[0] == 400


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("POST", "/v1beta/models/gemini-3.8-live:generateContent"),
        ("GET", "/v9/models"),
        ("DELETE", "/v1beta/models/gemini-3.8-live"),
        ("OPTIONS", "/v1alpha/auth_tokens"),
        ("GET", "/v1beta/%2e%2e/%00"),
    ],
)
def test_every_other_request_is_a_404_that_says_what_is_served(method: str, target: str) -> None:
    """As google.rpc writes errors."""
    status, name, message = error(Desk().ask(method, target))
    assert (status, name) == (404, "NOT_FOUND")
    assert "POST /v1alpha/auth_tokens" in message


def test_credentials_of_requests() -> None:
    """None, one that is not accepted, a token: each is refused as its backend words it."""
    desk = Desk(accept_credentials=frozenset({"k"}))
    models, vertex = "/v1beta/models", "/v1beta1/publishers/google/models"
    assert error(desk.ask("GET", models, headers={}))[:2] == (403, "PERMISSION_DENIED")
    assert error(desk.ask("GET", vertex, headers={}))[:2] == (401, "UNAUTHENTICATED")
    wrong = error(desk.ask("GET", models, headers={"x-goog-api-key": "wrong"}))
    assert wrong == (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
    bearer = {"authorization": "Bearer wrong"}
    assert error(desk.ask("GET", vertex, headers=bearer))[:2] == (401, "UNAUTHENTICATED")
    token = {"x-goog-api-key": "auth_tokens/x"}
    assert error(desk.ask("GET", models, headers=token))[:2] == (401, "UNAUTHENTICATED")
    assert desk.ask("GET", models)[0] == 200


def test_the_record_of_a_request_holds_no_secret() -> None:
    """Method, path, status and why; neither query nor token."""
    desk = Desk()
    request = Request("POST", "/v1alpha/auth_tokens?key=secret", {}, b"{}")
    reply = answer(request, desk.service, 0.0, WALL_S)
    detail = {"method": "POST", "path": "/v1alpha/auth_tokens", "status": 200}
    assert summary(request, reply) == detail
    refused = Request("PUT", "/x?key=secret", {})
    detail = summary(refused, answer(refused, desk.service, 0.0, WALL_S))
    assert (detail["path"], detail["status"]) == ("/x", 404)
    assert "secret" not in json.dumps(detail)
    assert len(str(detail["why"])) <= 123


# -- the front of the port ----------------------------------------------------------------------


def test_what_is_a_handshake() -> None:
    """A GET that asks for a WebSocket and has no body; all else is a request."""
    head = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nContent-Length: 0\r\n\r\n"
    assert is_handshake(head)
    assert not is_handshake(head.replace(b"Length: 0", b"Length: 05"))
    assert not is_handshake(head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
    assert not is_handshake(head.replace(b"GET", b"POST"))
    assert not is_handshake(head.replace(b"WebSocket", b"h2c"))
    assert undecided(b"GE")
    assert undecided(head[:-2])
    assert not undecided(head)
    assert not undecided(b"nonsense\r\n")
    assert not undecided(b"G" * HEAD_LIMIT_BYTES)


def talk(server: Emulator, *pieces: bytes, end: bool = False) -> bytes:
    """Send raw bytes over TLS; return everything that came back."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        server.client_context().wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        for piece in pieces:
            tls.sendall(piece)
        if end:
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                tls.unwrap()
            return b""
        out = b""
        try:
            while piece := tls.recv(65_536):
                out += piece
        except (ssl.SSLError, ConnectionError):
            pass
        return out


def test_no_request_is_cut_off() -> None:
    """Any method, with or without a body, in pieces, too large or malformed: JSON, on record."""
    post = b"POST /v1beta/models/m:generateContent HTTP/1.1\r\nHost: x\r\n"
    chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
    large = b"Content-Length: %d\r\n\r\n" % (BODY_LIMIT_BYTES + 1)
    cases: list[tuple[int, tuple[bytes, ...]]] = [
        (404, (post + b"Content-Length: 2\r\n\r\n{}",)),
        (404, (post + b"Content-Length: 2\r\n", b"\r\n{", b"}")),
        (404, (chunked, b"2\r\n{}\r\n", b"0\r\n\r\n")),
        (404, (b"HEAD / HTTP/1.0\r\n\r\n",)),
        (413, (post + large, b"x" * (BODY_LIMIT_BYTES + 1))),
        (400, (b"nonsense\r\n\r\n",)),
        (400, (b"GET / HTTP/1.1\r\nno colon\r\n\r\n",)),
        (431, (b"GET / HTTP/1.1\r\nA: " + b"x" * HEAD_LIMIT_BYTES,)),
        (400, (b"GET / HTTP/1.1\r\n\r\n",)),  # no Host
    ]

    async def main() -> None:
        async with emulator() as server:
            for status, pieces in cases:
                found = await asyncio.to_thread(talk, server, *pieces)
                head, _, body = found.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 %d " % status), (pieces[0][:40], found[:80])
                assert b"Content-Type: application/json" in head
                if not pieces[0].startswith(b"HEAD"):
                    assert json.loads(body)["error"]["code"] == status
            expects = post + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            found = await asyncio.to_thread(talk, server, expects, b"{}")
            assert found.startswith(b"HTTP/1.1 100 ")
            assert b"HTTP/1.1 404 " in found
            assert len(server.record.select("rest")) == len(cases) + 1
            async with raw(server) as client:  # and the port still speaks WebSocket
                assert await client.setup() == {"setupComplete": {}}

    run(main())


def test_a_request_that_ends_before_it_is_complete_does_no_harm() -> None:
    """Half a head, half a body, nothing at all; the next handshake stands."""

    async def main() -> None:
        async with emulator() as server:
            for piece in (
                b"",
                b"GET / HT",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
            ):
                await asyncio.to_thread(talk, server, piece, end=True)
            async with raw(server) as client:
                assert await client.setup() == {"setupComplete": {}}

    run(main())


# -- the real SDK -------------------------------------------------------------------------------


def test_the_sdk_mints_a_token_and_connects_with_it() -> None:
    """auth_tokens.create with constraints; the Constrained method; one use."""
    from google.genai import types

    async def main() -> None:
        async with emulator(time_scale=1.0) as server:
            client = sdk(server, api_version="v1alpha")
            constraints = types.LiveConnectConstraints(
                model=MODEL,
                config=types.LiveConnectConfig(
                    system_instruction="locked", response_modalities=[types.Modality.AUDIO]
                ),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                token = await client.aio.auth_tokens.create(
                    config=types.CreateAuthTokenConfig(uses=1, live_connect_constraints=constraints)
                )
                holder = sdk(server, api_key=token.name, api_version="v1alpha")
                other = types.LiveConnectConfig(system_instruction="other")
                async with holder.aio.live.connect(model=V31, config=other):
                    (session,) = server.store.sessions.values()
                    assert (session.model, session.system_instruction) == (MODEL, "locked")
            assert [e.detail["path"] for e in server.record.select("rest")] == [
                "/v1alpha/auth_tokens"
            ]
            headers = {"Authorization": f"Token {token.name}"}
            async with raw(server, CONSTRAINED, additional_headers=headers) as late:
                with pytest.raises(ConnectionClosed, match="no uses left"):
                    await late.setup()

    run(main())


def test_the_sdk_lists_models() -> None:
    """models.list and models.get, on both backends."""

    async def main() -> None:
        async with emulator() as server:
            listed = [m.name async for m in await sdk(server).aio.models.list()]
            assert f"models/{MODEL}" in listed
            found = await sdk(server).aio.models.get(model=MODEL)
            assert found.input_token_limit == 131_072
            vertex = sdk(server, vertex=True)
            names = [m.name async for m in await vertex.aio.models.list()]
            assert f"publishers/google/models/{MODEL}" in names

    run(main())


def test_http_clients_get_their_answer() -> None:
    """The standard library's client, as anything that speaks HTTP/1.1."""

    def ask(server: Emulator) -> tuple[int, Any]:
        link = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=10, context=server.client_context()
        )
        link.request("POST", "/v1beta/models/x:generateContent", body="{}", headers=KEY)
        response = link.getresponse()
        body = json.loads(response.read())
        link.close()
        return response.status, body

    async def main() -> None:
        async with emulator() as server:
            status, body = await asyncio.to_thread(ask, server)
            assert (status, body["error"]["status"]) == (404, "NOT_FOUND")

    run(main())
