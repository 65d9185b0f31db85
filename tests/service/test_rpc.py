"""JSON-RPC lines: what is a request, what is refused with which code."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.service import rpc

METHODS = {
    "volume": rpc.Method(
        lambda params: params, {"percent": rpc.Param(int, low=0, high=100)}, changing=True
    ),
    "say": rpc.Method(lambda params: params, {"text": rpc.Param(str, low=1, high=10)}),
    "mix": rpc.Method(
        lambda params: params,
        {
            "gain": rpc.Param(float, required=False, low=-1.0),
            "on": rpc.Param(bool, required=False),
            "mode": rpc.Param(str, required=False, choices=("a", "b")),
        },
    ),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def request(**fields: object) -> bytes:
    """Return a request line."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "volume"} | fields).encode()


def refused(line: bytes) -> rpc.RpcError:
    """Return the error that `line` gets."""
    with pytest.raises(rpc.RpcError) as caught:
        rpc.find(METHODS, rpc.parse(line))
    return caught.value


def answered(line: bytes) -> Any:
    """Return the answer that `line` gets."""
    try:
        parsed = rpc.parse(line)
        rpc.find(METHODS, parsed)
    except rpc.RpcError as failure:
        return json.loads(rpc.error(failure))
    return json.loads(rpc.result(parsed.id, "done"))


@pytest.mark.parametrize("id_", ["a", 7, 1.5, None])
def test_a_request_is_read_with_its_id(id_: rpc.Id) -> None:
    """Text, numbers and null are ids."""
    parsed = rpc.parse(request(id=id_, params={"percent": 40}))
    assert parsed == rpc.Request("volume", {"percent": 40}, id_, notification=False)


def test_a_request_without_id_is_a_notification() -> None:
    """It wants no answer."""
    assert rpc.parse(b'{"jsonrpc": "2.0", "method": "mute"}').notification


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", rpc.PARSE_ERROR),
        (b"{", rpc.PARSE_ERROR),
        (b"\xff\xfe", rpc.PARSE_ERROR),
        (b"[" * 60_000, rpc.PARSE_ERROR),
        (b'{"id": NaN}', rpc.PARSE_ERROR),
        (b"[]", rpc.INVALID_REQUEST),
        (b"1", rpc.INVALID_REQUEST),
        (b"{}", rpc.INVALID_REQUEST),
        (request(jsonrpc="1.0"), rpc.INVALID_REQUEST),
        (request(method=7), rpc.INVALID_REQUEST),
        (request(id=[]), rpc.INVALID_REQUEST),
        (request(id=True), rpc.INVALID_REQUEST),
        (request(params=[40]), rpc.INVALID_PARAMS),
        (request(params={}), rpc.INVALID_PARAMS),
        (request(params={"percent": 101}), rpc.INVALID_PARAMS),
        (request(params={"percent": -1}), rpc.INVALID_PARAMS),
        (request(params={"percent": 4.5}), rpc.INVALID_PARAMS),
        (request(params={"percent": True}), rpc.INVALID_PARAMS),
        (request(params={"percent": "40"}), rpc.INVALID_PARAMS),
        (request(params={"percent": None}), rpc.INVALID_PARAMS),
        (request(params={"percent": 40, "more": 1}), rpc.INVALID_PARAMS),
        (request(method="say", params={"text": ""}), rpc.INVALID_PARAMS),
        (request(method="say", params={"text": "x" * 11}), rpc.INVALID_PARAMS),
        (request(method="mix", params={"gain": -2}), rpc.INVALID_PARAMS),
        (request(method="mix", params={"gain": True}), rpc.INVALID_PARAMS),
        (request(method="mix", params={"on": 1}), rpc.INVALID_PARAMS),
        (request(method="mix", params={"mode": "c"}), rpc.INVALID_PARAMS),
        (request(method="reboot"), rpc.METHOD_NOT_FOUND),
    ],
)
def test_each_mistake_has_its_code(line: bytes, code: int) -> None:
    """The codes of the specification."""
    assert refused(line).code == code


def test_a_refusal_says_what_would_be_right() -> None:
    """Every problem is named, with the allowed range."""
    assert refused(request(params={"percent": 101, "more": 1})).message == (
        "more: unknown; percent: must be 0 to 100"
    )
    assert "must be one of a, b" in refused(request(method="mix", params={"mode": "c"})).message
    assert "length must be 1 to 10" in refused(request(method="say", params={"text": ""})).message
    assert "mix, say, volume" in refused(request(method="reboot")).message


def test_right_parameters_pass() -> None:
    """Optional ones may be left out; a whole number is a number."""
    for params in ({}, {"gain": 1}, {"gain": 0.5, "on": False, "mode": "a"}):
        found = rpc.find(METHODS, rpc.parse(request(method="mix", params=params)))
        assert found is METHODS["mix"]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_an_error(line: bytes) -> None:
    """Nothing else can come out of reading a line."""
    assert answered(line)["jsonrpc"] == "2.0"


@given(st.fixed_dictionaries({}, optional={"jsonrpc": st.just("2.0") | JSON, "id": JSON,
                                           "method": st.sampled_from(list(METHODS)) | JSON,
                                           "params": JSON}))  # fmt: skip
def test_any_json_is_a_request_or_an_error(message: dict[str, Any]) -> None:
    """Right keys with wrong values too."""
    answer = answered(json.dumps(message).encode())
    assert ("result" in answer) != ("error" in answer)


def test_answers_are_one_line_of_valid_json() -> None:
    """Line breaks are escaped; infinity becomes null."""
    assert json.loads(rpc.result("a", {"text": "one\ntwo"})) == {
        "jsonrpc": "2.0", "id": "a", "result": {"text": "one\ntwo"},
    }  # fmt: skip
    sent = rpc.notification("status", {"x": [float("inf"), (1, 2.5)], "y": "z"})
    assert json.loads(sent)["params"] == {"x": [None, [1, 2.5]], "y": "z"}
    assert sent.count(b"\n") == 1
