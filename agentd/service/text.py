"""Text that may be logged: bounded, on one line, without control characters or secrets (pure)."""

from __future__ import annotations

import re

VALUE_LIMIT = 240
SECRET = "<secret>"  # noqa: S105  stands where one was

# C0, DEL, C1, line and paragraph separators, bidirectional overrides, lone surrogates: all of
# them let a peer forge or hide parts of a log line.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]+"
)
_SECRETS = (
    # Google API keys and OAuth tokens by their form, wherever they stand
    re.compile(r"AIza[\w-]{20,}|ya29\.[\w.-]+|AQ\.[\w-]{20,}|auth_tokens/[\w-]+"),
    re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),  # JSON web tokens
    re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)"),
)
# name=value, "name": "value", Name: value; the name stays readable
_NAMED_SECRET = re.compile(
    r"""(?ix) \b( (?:x-goog-)?api[-_]?key | key | access_token | token | assertion | password
              | client_secret | private_key | new_?handle | handle )
        (["']?\s*[=:]\s*["']?) (?!<secret>) [^\s"'&,;)}\]]{8,}"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.+/=~-]{8,}")


def safe_text(value: str, limit: int = VALUE_LIMIT) -> str:
    """Return `value` fit for one line of a log, at most `limit` characters of it."""
    # Cut before the search: a peer must not choose how long a regular expression works. The
    # room left lets a secret at the cut be recognised by its beginning.
    text = _UNPRINTABLE.sub(" ", value[: limit + 512]).strip()
    text = redacted(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def redacted(text: str) -> str:
    """Return `text` with everything that looks like a credential replaced."""
    for pattern in _SECRETS:
        text = pattern.sub(SECRET, text)
    text = _BEARER.sub(lambda found: f"{found[1]} {SECRET}", text)
    return _NAMED_SECRET.sub(lambda found: f"{found[1]}{found[2]}{SECRET}", text)
