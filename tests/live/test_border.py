"""The border to the SDK: setup out, messages in, failures named."""

from __future__ import annotations

import errno
import json
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from google.auth import exceptions as auth
from google.genai import types
from google.genai.errors import APIError
from websockets import exceptions as ws
from websockets.datastructures import Headers
from websockets.frames import Close
from websockets.http11 import Response

from agentd.errors import CredentialError
from agentd.live.commands import SetupPlan
from agentd.live.connection import ConnectionFailed
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.google.connector import api_version, endpoint, ignore_warnings_of_the_sdk
from agentd.live.google.dial_errors import dial_failure
from agentd.live.google.frames import Excess
from agentd.live.google.inbound import convert, sounds
from agentd.live.google.setup import connect_config, openapi
from agentd.live.google.websocket import Redirected, beside_setup_complete, watch_socket
from agentd.live.messages import (
    FunctionCall,
    Interaction,
    ResumptionUpdate,
    Tokens,
    TranscriptPiece,
)
from agentd.live.toolbox import Tool, Toolbox
from agentd.net.trust import TrustError
from tests.live.world import settings

P, H, S = Phase.PROXY, Phase.HANDSHAKE, Phase.SETUP


# ── setup ─────────────────────────────────────────────────────────────────────────────────────


async def lamp(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Do nothing."""
    return {}


def setup(handle: str | None = None, *, history: bool = False, **live: Any) -> dict[str, Any]:
    """The configuration of a connection as plain values."""
    toolbox = Toolbox((Tool("lamp", "Switch.", lamp, slow=True),))
    plan = SetupPlan(settings(**live), handle, "Be kind.", initial_history=history)
    return connect_config(plan, toolbox).model_dump(exclude_none=True, mode="json")


def test_the_usual_setup() -> None:
    """Everything that the settings say, and nothing that the backend does not know."""
    found = setup("handle-1", voice="Puck", language="id-ID", temperature=0.5)
    assert found["response_modalities"] == ["AUDIO"]
    assert found["speech_config"] == {
        "voice_config": {"prebuilt_voice_config": {"voice_name": "Puck"}},
        "language_code": "id-ID",
    }
    assert found["temperature"] == 0.5
    assert found["system_instruction"] == {"parts": [{"text": "Be kind."}], "role": "user"}
    assert found["session_resumption"] == {"handle": "handle-1"}
    assert found["realtime_input_config"] == {"automatic_activity_detection": {"disabled": True}}
    assert found["context_window_compression"] == {
        "trigger_tokens": 25_600,
        "sliding_window": {"target_tokens": 12_800},
    }
    assert found["input_audio_transcription"] == found["output_audio_transcription"] == {}
    (declared,) = found["tools"][0]["function_declarations"]
    assert (declared["name"], declared["behavior"]) == ("lamp", "NON_BLOCKING")
    assert "history_config" not in found


def test_the_other_setup() -> None:
    """What is switched off is left out; what only one backend knows is said only there."""
    found = setup(
        backend="vertex",
        activity_detection="server",
        history=True,
        model="gemini-live-2.5-flash-native-audio",
        tools__enabled=False,
        compression={"enabled": False},
        transcription={"input": False, "output": False},
    )
    assert found["session_resumption"] == {"transparent": True}
    assert found["realtime_input_config"] == {"automatic_activity_detection": {"disabled": False}}
    assert found["history_config"] == {"initial_history_in_client_content": True}
    assert "language_code" not in found["speech_config"]
    assert "Speak en-US" in found["system_instruction"]["parts"][0]["text"]
    for name in ("tools", "context_window_compression", "input_audio_transcription"):
        assert name not in found
    assert (
        "transparent"
        not in setup(backend="vertex", transparent_resumption=False)["session_resumption"]
    )
    (tool,) = setup(backend="vertex")["tools"][0]["function_declarations"]
    assert tool["behavior"] == "NON_BLOCKING", "3.8 knows it on both backends"
    older = setup(backend="vertex", model="gemini-live-2.5-flash")
    vertex_tool = older["tools"][0]["function_declarations"][0]
    assert "behavior" not in vertex_tool


@pytest.mark.parametrize("backend", ["developer", "vertex"])
def test_extended_thinking_gets_what_it_asks_for(backend: str) -> None:
    """A level, or it closes; functions in OpenAPI's form, without a behavior, or it speaks them."""
    found = setup(backend=backend, model="gemini-3.8-live-extended-thinking")
    assert found["thinking_config"] == {"thinking_level": "LOW"}
    (declared,) = found["tools"][0]["function_declarations"]
    assert declared["parameters"] == {"type": "OBJECT", "properties": {}}
    assert not {"behavior", "parameters_json_schema"} & set(declared)
    assert "thinking_config" not in setup(backend=backend, model="gemini-3.8-live")


def test_a_schema_becomes_one_of_openapi() -> None:
    """Types, lists and bounds are kept, what that form does not know is left out."""
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["rooms"],
        "properties": {
            "rooms": {"type": "array", "items": {"type": "string", "enum": ["hall", "bath"]}},
            "level": {"type": "integer", "minimum": 0, "maximum": 100, "description": "percent"},
        },
    }
    assert openapi(schema).model_dump(exclude_none=True, mode="json") == {
        "type": "OBJECT",
        "required": ["rooms"],
        "properties": {
            "rooms": {"type": "ARRAY", "items": {"type": "STRING", "enum": ["hall", "bath"]}},
            "level": {"type": "INTEGER", "minimum": 0, "maximum": 100, "description": "percent"},
        },
    }


def test_an_empty_instruction_is_not_sent() -> None:
    """There is nothing to say."""
    config = connect_config(SetupPlan(settings(), None, ""), Toolbox())
    assert config.system_instruction is None
    assert config.tools is None


def test_every_connection_gets_its_own_configuration() -> None:
    """The SDK changes what it is given."""
    plan = SetupPlan(settings(), None, "Be kind.")
    first, second = connect_config(plan, Toolbox()), connect_config(plan, Toolbox())
    first.system_instruction = "spoilt"
    assert second.system_instruction != "spoilt"


def test_endpoint() -> None:
    """The configured one, else the SDK's variable, else Google's own."""
    env = {"GOOGLE_GEMINI_BASE_URL": "https://g", "GOOGLE_VERTEX_BASE_URL": "https://v"}
    assert endpoint(settings(), env) == "https://g"
    assert endpoint(settings(backend="vertex"), env) == "https://v"
    assert endpoint(settings(base_url="https://mine"), env) == "https://mine"
    assert endpoint(settings(), {}) == ""


def test_api_version() -> None:
    """The beta has another name on Vertex AI; what is set otherwise is taken as it is."""
    assert api_version(settings()) == "v1beta"
    assert api_version(settings(backend="vertex")) == "v1beta1"
    assert api_version(settings(backend="vertex", api_version="v1")) == "v1"


# ── inbound ───────────────────────────────────────────────────────────────────────────────────


def inbound(**fields: Any) -> Any:
    """Convert an SDK message."""
    return convert(types.LiveServerMessage.model_validate(fields))


def test_sounds() -> None:
    """Every part that is to be heard, with its type; thoughts and pictures are not for the ear."""
    parts = [
        {"inline_data": {"mime_type": "audio/pcm;rate=24000", "data": b"abc"}},
        {"inline_data": {"data": b"fg"}},
        {"inline_data": {"mime_type": "AUDIO/MPEG", "data": b"h"}},
        {"inline_data": {"mime_type": "image/png", "data": b"ij"}},
        {"inline_data": {"mime_type": "audio/pcm", "data": b""}},
        {"inline_data": {"mime_type": "audio/pcm", "data": b"kl"}, "thought": True},
        {"text": "hm", "thought": True},
    ]
    message = types.LiveServerMessage.model_validate(
        {"server_content": {"model_turn": {"parts": parts}}}
    )
    assert list(sounds(message)) == [
        ("audio/pcm;rate=24000", b"abc"),
        (None, b"fg"),
        ("AUDIO/MPEG", b"h"),
    ]
    found = convert(message, audio=(b"ab",), unplayable="sound of type audio/mpeg")
    assert (found.audio, found.unplayable) == ((b"ab",), "sound of type audio/mpeg")
    assert found.model_turn


def test_markers_and_texts() -> None:
    """One frame may say many things."""
    found = inbound(
        server_content={
            "input_transcription": {"text": "hello", "finished": True},
            "output_transcription": {},
            "interrupted": True,
            "generation_complete": True,
            "turn_complete": True,
            "interaction_status": "IN_PROGRESS",
        },
        go_away={"time_left": "9.500s"},
        tool_call={"function_calls": [{"id": "c", "name": "f", "args": {"x": 1}}, {"name": "g"}]},
        tool_call_cancellation={"ids": ["c"]},
        session_resumption_update={
            "new_handle": "h",
            "resumable": True,
            "last_consumed_client_message_index": 42,
        },
    )
    assert found.user_text == TranscriptPiece("hello", finished=True)
    assert found.model_text is None
    assert (found.interrupted, found.generation_complete, found.turn_complete) == (True, True, True)
    assert found.interaction is Interaction.IN_PROGRESS
    assert found.go_away_s == 9.5
    assert [(call.call_id, call.name) for call in found.calls] == [("c", "f"), ("", "g")]
    assert found.cancelled_calls == ("c",)
    assert found.resumption == ResumptionUpdate("h", resumable=True, consumed_index=42)


def test_what_the_service_says_of_the_end_of_a_turn() -> None:
    """Its reason, that it waits for the user, and its status; the deprecated name means IDLE."""
    found = inbound(
        server_content={
            "turn_complete": True,
            "turn_complete_reason": "RESPONSE_REJECTED",
            "waiting_for_input": True,
            "interaction_status": "REQUIRES_ACTION",
            "input_transcription": {"text": "half\ud83d"},
        }
    )
    assert (found.turn_complete_reason, found.waiting_for_input) == ("RESPONSE_REJECTED", True)
    assert found.interaction is Interaction.IDLE
    assert found.user_text == TranscriptPiece("half\ufffd")
    with pytest.warns(UserWarning, match="not a valid"):
        found = inbound(server_content={"turn_complete_reason": "red \x1b[31m"})
    assert found.turn_complete_reason == "OTHER"


def test_an_answer_in_text_is_told_from_thoughts() -> None:
    """Only the former is written for the user."""
    for part, written in (({"text": "ten"}, True), ({"text": "hm", "thought": True}, False)):
        found = inbound(server_content={"model_turn": {"parts": [part]}})
        assert (found.model_turn, found.written) == (True, written)


def test_empty_messages() -> None:
    """Say nothing and break nothing."""
    found = inbound()
    assert found == type(found)()
    assert inbound(session_resumption_update={}).resumption == ResumptionUpdate()
    assert inbound(server_content={"interaction_status": "IDLE"}).interaction is Interaction.IDLE
    assert inbound(server_content={"model_turn": {}}).model_turn is False
    assert inbound(tool_call={}).calls == ()
    assert inbound(tool_call_cancellation={}).cancelled_calls == ()


def test_tokens() -> None:
    """Counts and modalities."""
    found = inbound(
        usage_metadata={
            "prompt_token_count": 10,
            "response_token_count": 5,
            "total_token_count": 15,
            "prompt_tokens_details": [
                {"modality": "AUDIO", "token_count": 8},
                {"modality": "TEXT"},
                {"token_count": 3},
            ],
        }
    )
    assert found.tokens == Tokens(
        prompt=10, response=5, total=15, by_modality=(("prompt_audio", 8), ("prompt_other", 3))
    )


def test_token_counts_that_cannot_be() -> None:
    """Are none; and no name of the service's becomes a name of ours."""
    ignore_warnings_of_the_sdk()
    found = inbound(
        usage_metadata={
            "prompt_token_count": 2**53,
            "response_token_count": -1,
            "total_token_count": 7,
            "response_tokens_details": [
                {"modality": "\x1b[2J forged", "token_count": 2},
                {"modality": "audio", "token_count": 2},
                {"modality": "VIDEO", "token_count": 2**60},
            ],
        }
    )
    assert found.tokens == Tokens(
        total=7, by_modality=(("response_other", 2), ("response_audio", 2))
    )


CALLS = [
    ({"id": "c", "name": "f" * 64, "args": {"x": 1}}, FunctionCall("c", "f" * 64, {"x": 1}), ""),
    (
        {"id": "c", "name": "f" * 65, "args": {"x": 1}},
        FunctionCall("c", "f" * 64, {}, "no function has a name of 65 characters"),
        "call refused: no function has a name of 65 characters",
    ),
    (
        {"id": "c", "name": "f", "args": {"x": "y" * 20_000}},
        FunctionCall("c", "f", {}, "arguments of 20009 characters"),
        "call refused: arguments of 20009 characters",
    ),
    (
        {"id": "c", "name": "f", "args": {"x": json.loads("[" * 16 + "]" * 16)}},
        FunctionCall("c", "f", {}, "arguments nested deeper than 16"),
        "call refused: arguments nested deeper than 16",
    ),
    ({"id": "c" * 300, "name": "f"}, None, "call with an id of 300 characters"),
]


@pytest.mark.parametrize(("asked", "expected", "problem"), CALLS)
def test_a_call_is_bounded(
    asked: dict[str, Any], expected: FunctionCall | None, problem: str
) -> None:
    """What no function of ours could be called with is refused, and the model is told why."""
    found = inbound(tool_call={"function_calls": [asked]})
    assert found.calls == (() if expected is None else (expected,))
    assert found.problem == problem


def test_what_is_too_long_is_cut_or_refused() -> None:
    """A handle, a transcription, an id: each is bounded, and the log says so."""
    handle = {"new_handle": "h" * 20_000, "resumable": True}
    found = inbound(
        session_resumption_update=handle,
        server_content={"output_transcription": {"text": "word " * 2_000}},
        tool_call_cancellation={"ids": ["x" * 300, "c"]},
    )
    assert found.resumption == ResumptionUpdate()
    assert found.model_text == TranscriptPiece(("word " * 2_000)[:8_000])
    assert found.cancelled_calls == ("c",)
    assert found.problem == (
        "transcription of 10000 characters, cut to 8000; resumption handle of 20000 characters"
    )


@pytest.mark.parametrize("index", [-1, 2**53, 10**4000])
def test_an_index_that_cannot_be(index: int) -> None:
    """Is none."""
    update = types.LiveServerSessionResumptionUpdate.model_construct(
        last_consumed_client_message_index=index
    )
    message = types.LiveServerMessage(session_resumption_update=None)
    message.session_resumption_update = update
    assert convert(message).resumption == ResumptionUpdate()


def test_unknown_values_leave_nothing_behind() -> None:
    """The SDK warns with the value; no such text is kept, and none is shown."""
    ignore_warnings_of_the_sdk()
    before = warnings_kept()
    with warnings.catch_warnings():
        warnings.showwarning = lambda *told, **_more: pytest.fail(f"shown: {told[0]}")
        for n in range(50):
            word = f"SECRET-{n}"
            found = inbound(
                server_content={"interaction_status": word, "turn_complete_reason": word},
                usage_metadata={
                    "traffic_type": word,
                    "prompt_tokens_details": [{"modality": word, "token_count": 1}],
                },
                voice_activity={"voice_activity_type": word},
            )
            assert found.tokens == Tokens(by_modality=(("prompt_other", 1),))
    assert not warnings_kept() - before


def warnings_kept() -> set[str]:
    """What Python remembers of warnings, but for the number by which it does."""
    registries = [getattr(m, "__warningregistry__", None) for m in list(sys.modules.values())]
    kept = {repr(key) for of_one in registries if isinstance(of_one, dict) for key in of_one}
    return kept - {"'version'"}


# ── the WebSocket ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("frame", "beside"),
    [
        (b'{"setupComplete": {}}', b""),
        ('{"setupComplete": {}, "goAway": {"timeLeft": "5s"}}', b'{"goAway": {"timeLeft": "5s"}}'),
        (b'{"goAway": {}}', None),
        (b"[]", None),
        (b"no json", None),
        (b"[" * 100_000, None),
    ],
)
def test_what_stands_beside_setup_complete(frame: bytes | str, beside: bytes | None) -> None:
    """Nothing is lost, whatever the first frame is."""
    assert beside_setup_complete(frame) == beside


def test_the_kernel_watches_the_socket() -> None:
    """Unacknowledged data ends the connection in time; a Unix socket is left alone."""
    with socket.socket() as raw:
        watch_socket(raw, 10_000)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    with socket.socket(socket.AF_UNIX) as raw:
        watch_socket(raw, 10_000)


# ── failures of a dial ────────────────────────────────────────────────────────────────────────


def refused(status: int, body: bytes = b"", *, retry: str = "") -> ws.InvalidStatus:
    """A handshake that was answered with a status."""
    headers = {"Retry-After": retry} if retry else {}
    return ws.InvalidStatus(Response(status, "", Headers(headers), body))


def verification(code: int) -> ssl.SSLCertVerificationError:
    """What OpenSSL says of a bad certificate (X509_V_ERR_…)."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    error.verify_message = "its words"
    return error


def tls(reason: str) -> ssl.SSLError:
    """What OpenSSL says of a handshake."""
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def hung_up() -> ws.InvalidMessage:
    """The peer closed before it answered."""
    error = ws.InvalidMessage("did not receive a valid HTTP response")
    error.__cause__ = EOFError("connection closed while reading HTTP status line")
    return error


def behind(cause: Exception) -> Exception:
    """A login that failed for another error's sake."""
    error = google(auth.RefreshError, "metadata")
    error.__cause__ = cause
    return error


def google(kind: Callable[..., Exception], *words: object, **more: object) -> Exception:
    """An error of google-auth, whose constructors have no types."""
    return kind(*words, **more)


DIALS = [
    (CredentialError("no API key"), Failure(H, Kind.CREDENTIAL, 0, "no API key")),
    (Excess("too much"), Failure(S, Kind.PROTOCOL, 0, "too much")),
    (APIError(1008, "session not found"), Failure(S, Kind.CLOSED, 1008, "session not found")),
    (APIError(1006, "Abnormal closure."), Failure(S, Kind.DROPPED, 1006, "Abnormal closure.")),
    (
        ws.ConnectionClosedError(Close(1011, "Internal"), None),
        Failure(S, Kind.CLOSED, 1011, "Internal"),
    ),
    (ws.ConnectionClosedError(None, None), Failure(S, Kind.DROPPED, 1006)),
    (refused(401), Failure(H, Kind.STATUS, 401)),
    (
        refused(403, b'{"error": {"message": "API key not valid"}}'),
        Failure(H, Kind.STATUS, 403, "API key not valid"),
    ),
    (refused(429, b"slow", retry="7"), Failure(H, Kind.STATUS, 429, "slow", 7.0)),
    (refused(503, retry="soon"), Failure(H, Kind.STATUS, 503)),
    (
        ws.InvalidProxyStatus(Response(407, "", Headers())),
        Failure(P, Kind.STATUS, 407),
    ),
    (ws.InvalidProxyMessage("did not receive"), Failure(P, Kind.NOT_HTTP)),
    (ws.InvalidMessage("did not receive"), Failure(H, Kind.PROTOCOL, 0, "did not receive")),
    (ws.InvalidUpgrade("Upgrade"), Failure(H, Kind.PROTOCOL)),
    (hung_up(), Failure(H, Kind.DROPPED)),
    (
        Redirected(307, "wss://other.example/?key=1"),
        Failure(H, Kind.STATUS, 307, "redirected to other.example"),
    ),
    (Redirected(302, "https://[::1"), Failure(H, Kind.STATUS, 302, "redirected to nowhere")),
    (
        TrustError("SSL_CERT_FILE=/x is empty"),
        Failure(H, Kind.TRUST, 0, "SSL_CERT_FILE=/x is empty"),
    ),
    (ConnectionFailed(Failure(P, Kind.PROXY_SETTING)), Failure(P, Kind.PROXY_SETTING)),
    (google(auth.TransportError, "no route"), Failure(H, Kind.TOKEN, 0, "no route")),
    (google(auth.RefreshError, "flaky", retryable=True), Failure(H, Kind.TOKEN, 0, "flaky")),
    (behind(google(auth.TransportError, "no route")), Failure(H, Kind.TOKEN)),
    (google(auth.RefreshError, "revoked", {"error": 1}), Failure(H, Kind.LOGIN, 0, "revoked")),
    (google(auth.DefaultCredentialsError, "none"), Failure(H, Kind.CREDENTIAL, 0, "none")),
    (verification(9), Failure(H, Kind.NOT_YET_VALID, 0, "its words")),
    (verification(10), Failure(H, Kind.EXPIRED)),
    (verification(18), Failure(H, Kind.CERTIFICATE)),  # self-signed
    (verification(19), Failure(H, Kind.CERTIFICATE)),  # self-signed in the chain
    (verification(20), Failure(H, Kind.CERTIFICATE)),  # unknown issuer
    (verification(23), Failure(H, Kind.CERTIFICATE)),  # revoked
    (verification(62), Failure(H, Kind.WRONG_NAME)),
    (verification(64), Failure(H, Kind.WRONG_NAME)),
    (ssl.SSLError(1, "whatever"), Failure(H, Kind.TLS)),
    (tls("BAD_SIGNATURE"), Failure(H, Kind.TLS)),
    (tls("WRONG_VERSION_NUMBER"), Failure(H, Kind.NOT_TLS)),
    (tls("TLSV1_ALERT_PROTOCOL_VERSION"), Failure(H, Kind.TLS_VERSION)),
    (tls("UNEXPECTED_EOF_WHILE_READING"), Failure(H, Kind.DROPPED)),
    (ssl.SSLEOFError(8, "EOF occurred"), Failure(H, Kind.DROPPED)),
    (socket.gaierror(socket.EAI_NONAME, "not known"), Failure(H, Kind.NO_NAME, 0, "not known")),
    (socket.gaierror(socket.EAI_NODATA, "no address"), Failure(H, Kind.NO_NAME)),
    (socket.gaierror(socket.EAI_AGAIN, "temporary"), Failure(H, Kind.DNS)),
    (socket.gaierror(socket.EAI_FAIL, "failure"), Failure(H, Kind.DNS)),
    (
        ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 9)"),
        Failure(H, Kind.PORT_REFUSED, 0, "Connection refused ('127.0.0.1', 9)"),
    ),
    (OSError(errno.ENETUNREACH, "no network"), Failure(H, Kind.NO_ROUTE)),
    (OSError(errno.EHOSTUNREACH, "no host"), Failure(H, Kind.NO_ROUTE)),
    (PermissionError(errno.EPERM, "not permitted"), Failure(H, Kind.UNREACHABLE)),
    (OSError("Multiple exceptions: [Errno 111] …"), Failure(H, Kind.PORT_REFUSED)),
    (OSError("Multiple exceptions: [Errno 101] …, [Errno 111] …"), Failure(H, Kind.PORT_REFUSED)),
    (OSError("Multiple exceptions: [Errno 101] …, [Errno 113] …"), Failure(H, Kind.NO_ROUTE)),
    (OSError("Multiple exceptions: [Errno 101] …, [Errno 110] …"), Failure(H, Kind.UNREACHABLE)),
    (OSError("something else"), Failure(H, Kind.DROPPED)),
    (ConnectionResetError(errno.ECONNRESET, "reset"), Failure(H, Kind.DROPPED)),
    (TimeoutError(errno.ETIMEDOUT, "timed out"), Failure(H, Kind.UNREACHABLE)),
    (TimeoutError(), Failure(H, Kind.TIMEOUT)),
    (TimeoutError("timed out during opening handshake"), Failure(H, Kind.TIMEOUT)),
    (EOFError("end"), Failure(H, Kind.DROPPED, 0, "end")),
    (ValueError("extra_forbidden"), Failure(H, Kind.SETUP_REFUSED, 0, "extra_forbidden")),
]


@pytest.mark.parametrize(("error", "expected"), DIALS, ids=lambda value: repr(value)[:50])
def test_whatever_a_dial_raises(error: Exception, expected: Failure) -> None:
    """Becomes one value that can be classed."""
    found = dial_failure(error, expected.phase)
    assert (found.kind, found.code, found.retry_after_s) == (
        expected.kind,
        expected.code,
        expected.retry_after_s,
    )
    if expected.reason:
        assert found.reason == expected.reason


def test_a_strange_code_of_an_error_frame() -> None:
    """The SDK promises a number; a strange frame may leave none."""
    error = APIError(0, {"status": "ODD"})
    error.code = None  # type: ignore[assignment]
    assert dial_failure(error, S).code == 0


def test_importing_the_session_does_not_import_the_sdk() -> None:
    """The microphone is open before that second is spent."""
    script = "import sys, agentd.live.session; sys.exit('google.genai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
