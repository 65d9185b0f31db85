"""Boot files taken apart: which key is found, what is covered, what becomes settings."""

from __future__ import annotations

import datetime as dt
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.provision.bootfile import BootFileRefused, decode, suspects, take_apart, written

KEY = "AIzaTestKeyOfNobody-0123456789abcdefghi"
OTHER = "AIzaAnotherTestKey-0123456789abcdefghij"
COVER = "#" * len(KEY)
LINE = f'gemini_api_key = "{KEY}"'


@pytest.mark.parametrize(
    "text",
    [
        f"[credentials]\r\n{LINE}\r\n\r\n[vad]\r\nhangover_ms = 500\r\n",
        f"[vad]\nhangover_ms = 500 # loud kitchen\n[credentials]\n{LINE}\n",
        f'credentials = {{ gemini_api_key = "{KEY}" }}\n[vad]\nhangover_ms = 500\n',
        f"credentials.gemini_api_key = '{KEY}'\nvad.hangover_ms = 500\n",
        f'["credentials"]\n{LINE}\n[vad]\nhangover_ms = 500\n',
        f"[ 'credentials' ]\n'gemini_api_key' = '{KEY}'\n[vad]\nhangover_ms = 500\n",
        f"[credentials]\n{LINE} # {KEY}\n# {LINE}\n[vad]\n# {KEY}\nhangover_ms = 500\n",
        f"[credentials]\ngemini_api_key = '''\n{KEY}'''\n[vad]\nhangover_ms = 500\n",
        f"[credentials]\n{LINE}\n[vad] # [credentials]\nhangover_ms = 500\n",
        f"[vad]\nhangover_ms = 500\n# [credentials]\n# old = 1\n[credentials]\n{LINE}",
    ],
)
def test_a_key_is_taken_however_toml_lets_it_be_written(text: str) -> None:
    """The key is found, none of its bytes stays, all else does, and the settings are without it."""
    parts = take_apart(text)
    assert parts.credentials == {"gemini-api-key": KEY}
    assert parts.problems == ()
    assert len(parts.scrubbed.encode()) == len(text.encode())
    assert parts.scrubbed == text.replace(KEY, COVER)
    assert tomllib.loads(parts.settings) == {"vad": {"hangover_ms": 500}}
    assert KEY not in parts.settings


def test_the_persons_own_lines_become_the_settings() -> None:
    """Comments and layout stay, where nothing in them looks like a key."""
    text = f"# kitchen\n[vad]\nhangover_ms = 500  # loud\n\n[credentials]\n{LINE}\n"
    assert take_apart(text).settings == "# kitchen\n[vad]\nhangover_ms = 500  # loud\n\n"


def test_another_key_in_a_comment_does_not_get_into_the_settings() -> None:
    """The settings are readable for everybody, so the comment goes; the card is told of."""
    text = f"[vad]\n# {OTHER}\nhangover_ms = 500\n[credentials]\n{LINE}\n"
    parts = take_apart(text)
    assert parts.settings == "[vad]\nhangover_ms = 500\n"
    assert suspects(parts.scrubbed) == ("line 2",)


def test_a_header_inside_of_a_text_is_no_header() -> None:
    """The settings are right although their lines cannot be told apart."""
    text = f'[live]\nsystem_instruction = """\n[credentials]\nbe kind"""\n[credentials]\n{LINE}\n'
    parts = take_apart(text)
    assert tomllib.loads(parts.settings) == {
        "live": {"system_instruction": "[credentials]\nbe kind"}
    }
    assert parts.credentials == {"gemini-api-key": KEY}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"[credentials]\n{LINE}\ngemini_key = 'abc'", "credentials.gemini_key"),
        (f"[credentials]\n{LINE}\n[live]\napi_key = '{KEY}'", "live.api_key"),
        (f"[credentials]\n{LINE}\n[[live.a]]\nb = ['{OTHER}', 1]", "live.a.b"),
    ],
)
def test_a_good_key_is_taken_though_something_else_is_wrong(text: str, problem: str) -> None:
    """The key must not wait on the card for the correction."""
    parts = take_apart(text)
    assert parts.credentials == {"gemini-api-key": KEY}
    assert KEY not in parts.scrubbed
    assert [problem in text for text in parts.problems] == [True]
    assert parts.settings == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("credentials = 3", "must be a table"),
        ("[credentials]\ngemini_api_key = 5", "this is no key"),
        ("[credentials]\ngemini_api_key = 'two words'", "this is no key"),
        ("[credentials]\ngemini_api_key = 'my#key'", "this is no key"),
        (f"[credentials]\ngemini_key = '{KEY}'", "credentials.gemini_key: there is no such key"),
        (f"[live]\napi_key = '{KEY}'", "live.api_key: this looks like a key"),
    ],
)
def test_what_is_no_key_in_its_place_is_not_taken(text: str, problem: str) -> None:
    """Nothing is guessed, and nothing is covered."""
    parts = take_apart(text)
    assert parts.credentials == {}
    assert parts.scrubbed == text
    assert problem in parts.problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "language = ",
        f"[credentials]\n{LINE}\n{LINE}\n",
        "a = " + "9" * 5000,
        "a = " + "[" * 3000 + "]" * 3000,
        f'[credentials]\ngemini_api_key = """{KEY[:20]}\\\n{KEY[20:]}"""\n',
        f'[credentials]\ngemini_api_key = "\\u0041{KEY[1:]}"\n',
        "[credentials]\ngemini_api_key = 'live'\n[live]\nlanguage = 'live'\n",
        f"'{KEY}' = 1\n[credentials]\n{LINE}\n['{COVER}']\na = 1\n",
    ],
)
def test_what_cannot_be_taken_apart_is_refused_whole(text: str) -> None:
    """Not TOML, or a key that no covering reaches: nothing of it is used."""
    with pytest.raises(BootFileRefused):
        take_apart(text)


def test_a_short_key_is_covered_without_touching_its_like() -> None:
    """One's own endpoint may have any key; the letters of the word elsewhere are no key."""
    text = "# live long\n[credentials]\ngemini_api_key = 'live'\n[live]\nlanguage = 'id-ID'\n"
    parts = take_apart(text)
    assert parts.credentials == {"gemini-api-key": "live"}
    assert parts.scrubbed == text.replace("'live'", "'####'")
    assert tomllib.loads(parts.settings) == {"live": {"language": "id-ID"}}


@pytest.mark.parametrize(
    ("value", "stored", "scrubbed"),
    [
        (COVER, (), COVER),
        (COVER[:20] + KEY[20:], (), COVER),
        (COVER[:20] + KEY[20:], (KEY,), COVER),
        (KEY[:20] + COVER[20:], (KEY,), COVER),
    ],
)
def test_a_covering_that_was_cut_off_is_finished(
    value: str, stored: tuple[str, ...], scrubbed: str
) -> None:
    """What the power cut left of a key is covered, and no key is stored in place of the whole."""
    parts = take_apart(f"[credentials]\ngemini_api_key = '{value}'\n", stored)
    assert parts.scrubbed == f"[credentials]\ngemini_api_key = '{scrubbed}'\n"
    assert (dict(parts.credentials), parts.problems, parts.settings) == ({}, (), "")


def test_half_a_key_that_the_device_does_not_have_is_no_key() -> None:
    """Somebody typed it: that is said, and nothing is covered."""
    text = f"[credentials]\ngemini_api_key = 'mine##'\n# {KEY}\n"
    parts = take_apart(text, (KEY,))
    assert parts.problems
    assert parts.scrubbed == text.replace(KEY, COVER)


def test_a_key_that_is_stored_already_is_covered() -> None:
    """In a comment that an earlier import did not come to."""
    text = f"# {KEY}\n[vad]\nhangover_ms = 500\n"
    assert take_apart(text, (KEY,)).scrubbed == text.replace(KEY, COVER)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_the_encodings_of_editors_are_read_and_written_back(encoding: str) -> None:
    """With their marks; the covered file has the length of the original."""
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    raw = mark + f'# Küche 🍲\n[credentials]\r\ngemini_api_key = "{KEY}"\r\n'.encode(encoding)
    text = decode(raw)
    scrubbed = text.encode(take_apart(text.characters).scrubbed)
    assert len(scrubbed) == len(raw)
    assert scrubbed == mark + mark.join(
        [
            raw[len(mark) :].replace(
                KEY.encode(encoding.replace("-sig", "")), COVER.encode(encoding.replace("-sig", ""))
            )
        ]
    )


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"\xff\xfethis is no text", "UTF-8"),
        (b"name = '\xe9'", "UTF-8"),
        ("a = 1".encode("utf-16-le"), "zero bytes"),
        ("a = 1".encode("utf-32"), "zero bytes"),
    ],
)
def test_other_encodings_are_named(raw: bytes, problem: str) -> None:
    """With what to do."""
    with pytest.raises(BootFileRefused, match=problem):
        decode(raw)


@pytest.mark.parametrize(
    ("line", "is_suspect"),
    [
        (f"x = {KEY}", True),
        (f"# {KEY}", True),
        ("gemini_api_key = 'short'", True),
        ('"api-key": "short"', True),
        (f"gemini_api_key = '{COVER}'", False),
        ("trigger_tokens = 1000", False),
        ("language = 'id-ID'", False),
    ],
)
def test_what_looks_like_a_key_is_found(line: str, is_suspect: bool) -> None:
    """By its form, or by its name."""
    assert suspects(f"\n{line}\n") == (("line 2",) if is_suspect else ())


SCALARS = (
    st.text()
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.floats()
    | st.dates()
    | st.times().map(lambda moment: moment.replace(fold=0))
    | st.datetimes(timezones=st.just(dt.UTC) | st.none()).map(lambda at: at.replace(fold=0))
)
TREES = st.dictionaries(
    st.text(),
    st.recursive(
        SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
    ),
)


@given(TREES)
def test_a_tree_is_written_as_it_was_read(tree: dict[str, Any]) -> None:
    """Whatever TOML can hold comes back from what is written; also nan, which is no number."""
    read = tomllib.loads(written(tree))
    assert repr(read) == repr(_ordered(tree))


def _ordered(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a table as TOML is written: its own values before the tables in it."""
    plain = {k: v for k, v in tree.items() if not isinstance(v, dict)}
    return plain | {k: _ordered(v) for k, v in tree.items() if isinstance(v, dict)}


@given(st.text(max_size=200), st.sampled_from([LINE, f"credentials.{LINE}", KEY, "[credentials]"]))
def test_whatever_is_in_a_file_a_key_is_covered_or_nothing_is_taken(text: str, line: str) -> None:
    """No text makes it raise another error, lengthen the file, or keep a key that it took."""
    whole = f"{text}\n{line}\n"
    try:
        parts = take_apart(whole)
    except BootFileRefused:
        return
    assert len(parts.scrubbed) == len(whole)
    for key in parts.credentials.values():
        assert key not in parts.scrubbed
        assert key not in parts.settings


def test_a_number_that_is_none_hides_no_key() -> None:
    """What is left is compared with what was there, and nan is not even equal to itself."""
    parts = take_apart(f"[credentials]\n{LINE}\n[vad]\nonset_ms = nan\nhangover_ms = [1, nan]\n")
    assert parts.credentials == {"gemini-api-key": KEY}
    assert parts.problems == ()
