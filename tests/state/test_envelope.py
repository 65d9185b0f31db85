"""The form of a state file."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.clock import WallTime
from agentd.state.envelope import MAX_BYTES, BadEnvelope, Document, canonical, decode, encode

NOW = WallTime(1_800_000_000.25, synchronised=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.text(), JSON, max_size=5)


def wrapped(document: Document, kind: str = "handle") -> bytes:
    """Return the file of `document`."""
    return encode(kind, canonical(document), NOW)


@given(DOCUMENTS)
def test_a_document_reads_back_as_it_was_written(document: Document) -> None:
    """Any JSON object survives the round trip."""
    assert decode("handle", wrapped(document)) == document


@given(DOCUMENTS, st.integers(0, 10_000))
def test_a_truncated_file_is_never_taken_for_a_whole_one(document: Document, cut: int) -> None:
    """Only the complete file decodes; the trailing newline alone may be missing."""
    data = wrapped(document)
    cut = cut % (len(data) - 1)
    with pytest.raises(BadEnvelope):
        decode("handle", data[:cut])


@given(DOCUMENTS, st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_never_yields_another_document(
    document: Document, position: int, flip: int
) -> None:
    """Damage is refused, or it hit something that does not carry the document."""
    data = bytearray(wrapped(document))
    data[position % len(data)] ^= flip
    try:
        got = decode("handle", bytes(data))
    except BadEnvelope:
        return
    assert got == document


@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    """Random bytes raise BadEnvelope and nothing else."""
    with pytest.raises(BadEnvelope):
        decode("handle", data)


@given(JSON)
def test_foreign_json_is_refused(value: Any) -> None:
    """JSON of another shape raises BadEnvelope and nothing else."""
    with pytest.raises(BadEnvelope):
        decode("handle", json.dumps(value).encode())


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"format": 2}, "format 2"),
        ({"format": True}, "not a state file"),
        ({"format": "1"}, "not a state file"),
        ({"kind": "transcript"}, "something else"),
        ({"document": []}, "no document"),
        ({"document": {"a": 2}}, "checksum"),
        ({"sha256": None}, "checksum"),
    ],
)
def test_each_deviation_is_named(change: dict[str, Any], cause: str) -> None:
    """The cause says which part of the envelope is wrong."""
    envelope = json.loads(wrapped({"a": 1})) | change
    with pytest.raises(BadEnvelope, match=cause):
        decode("handle", json.dumps(envelope).encode())


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty"),
        (b"\0" * 4096, "damaged"),
        (b"[" * 200_000, "damaged"),
        (b'{"format": NaN}', "damaged"),
        (b" " * (MAX_BYTES + 1), "larger"),
        (b'{"format": 1' + b"0" * 5000 + b"}", "damaged"),
    ],
)
def test_hostile_files_are_refused_with_a_cause(data: bytes, cause: str) -> None:
    """Zeroes after a power cut, deep nesting, constants, huge files and huge numbers."""
    with pytest.raises(BadEnvelope, match=cause):
        decode("handle", data)


def test_a_number_that_overflows_is_refused() -> None:
    """1e999 reads as infinity, which no document of ours can hold."""
    data = b'{"format":1,"kind":"handle","sha256":"","document":{"age":1e999}}'
    with pytest.raises(BadEnvelope, match="cannot have written"):
        decode("handle", data)


def test_a_document_too_deep_to_be_ours_is_refused() -> None:
    """What the parser accepts but we could not have written does not crash the checksum."""
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    data = b'{"format":1,"kind":"handle","sha256":"","document":' + deep + b"}"
    with pytest.raises(BadEnvelope):
        decode("handle", data)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": (1,)}, {"a": b"x"}, {"a": float("nan")}])
def test_what_json_would_change_is_refused(value: Any) -> None:
    """A document must read back equal, so tuples, number keys and NaN are errors at once."""
    with pytest.raises(ValueError, match=r"JSON"):
        canonical(value)


def test_a_recursive_document_is_refused() -> None:
    """A document that contains itself is an error, not a crash."""
    document: dict[str, object] = {}
    document["self"] = document
    with pytest.raises(ValueError, match=r"JSON|Circular"):
        canonical(document)
