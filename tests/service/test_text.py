"""What may be logged: one bounded line without control characters or credentials."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.text import counted, filled, redacted, safe_text

KEY = "AIza" + "SyD3adB33f_-0123456789abcdefghijklm"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhZ2VudGQifQ.c2lnbmF0dXJl"
HANDLE = "CihjNnl4ZGFkYmFiNnRqcmVrNXg5cGdkZjR4"


@pytest.mark.parametrize(
    "leak",
    [
        f"GET https://generativelanguage.googleapis.com/v1beta/models?key={KEY}&alt=sse",
        f"x-goog-api-key: {KEY}",
        f"the key {KEY} is not valid",
        "https://x/?key=not-of-the-usual-form-1234",
        "access_token=0123456789abcdef",
        "Authorization: Bearer ya29.a0AfH6SMC_secret-token.value",
        "Authorization: Bearer something/else+1234==",
        f"{{'assertion': '{JWT}'}}",
        f"got {JWT}",
        "token auth_tokens/0123abcd4567 expired",
        "-----BEGIN PRIVATE KEY----- MIIEvQ -----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY----- MIIEvQ",
        f'{{"sessionResumption":{{"handle":"{HANDLE}"}}}}',
        f"newHandle={HANDLE}",
        '"private_key": "MIIEvQIBADANBgkq"',
    ],
)
def test_credentials_are_replaced(leak: str) -> None:
    """No key, token, certificate or handle passes, wherever it stands in the text."""
    shown = safe_text(leak)
    assert "<secret>" in shown
    for secret in (KEY, JWT, HANDLE, "a0AfH6SMC", "0123abcd4567", "MIIEvQ", "not-of-the", "else+"):
        assert secret not in shown


@pytest.mark.parametrize(
    "text",
    [
        "connection 3: resumed in 640 ms",
        "The caller does not have permission",
        "API key not valid. Please pass a valid API key.",
        "/etc/agentd/agentd.toml: live.model: unknown key",
        "card HDA Intel PCH: busy",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """What helps to find a fault is not lost."""
    assert safe_text(text) == text


def test_a_secret_at_the_cut_does_not_leak_its_beginning() -> None:
    """Text is cut after redaction, not through a key."""
    shown = safe_text("x" * 230 + " " + KEY)
    assert "AIza" not in shown
    assert len(shown) <= 240


@given(st.text(max_size=2000), st.integers(10, 500))
def test_any_text_becomes_one_bounded_printable_line(text: str, limit: int) -> None:
    """Control characters, line breaks and text direction tricks are gone; UTF-8 works."""
    shown = safe_text(text, limit)
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in shown)
    assert "\u202e" not in shown


def test_hostile_text_costs_little() -> None:
    """A megabyte from the peer is cut before any pattern looks at it."""
    assert len(safe_text("key=" * 300_000)) <= 240


@given(st.text())
def test_redaction_is_idempotent(text: str) -> None:
    """Text that has been through once does not change again."""
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 turns"), (1, "1 turn"), (2, "2 turns"), (-1, "-1 turns")]
)
def test_a_number_stands_with_its_noun(number: int, said: str) -> None:
    """In sentences and in the templates of events, where other formats work as ever."""
    assert counted(number, "turn") == said
    assert filled("{n:# turn}", {"n": number}) == said
    assert (
        filled("{n:+d} {x:.1f} {y}", {"n": number, "x": 0.5, "y": True}) == f"{number:+d} 0.5 True"
    )
