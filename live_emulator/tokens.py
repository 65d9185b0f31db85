"""Ephemeral tokens: minted over REST, spent by sessions, locking parts of their setup.

Sources: the ephemeral-tokens page of the Live API, and the field documentation of ``AuthToken``
in the google-genai SDK (uses, both times, what an empty ``fieldMask`` means).  How the service
words its refusals is a guess.
"""

from __future__ import annotations

import copy
import datetime as dt
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from live_emulator.models import Backend
from live_emulator.reasons import TOKEN_EXPIRED, TOKEN_LATE, TOKEN_UNKNOWN, TOKEN_USED
from live_emulator.setup import check_setup_fields
from live_emulator.wire import (
    JsonObject,
    WireError,
    as_int,
    as_object,
    camel,
    invalid_value,
    unknown_name,
)

PREFIX = "auth_tokens/"
LIFETIME_S = 30 * 60.0
NEW_SESSION_S = 60.0
LONGEST_S = 20 * 3600.0
TOKENS_KEPT = 10_000

_FIELDS = frozenset(
    "uses expireTime newSessionExpireTime bidiGenerateContentSetup fieldMask".split()
)


@dataclass(slots=True)
class Token:
    """One token; times are service seconds."""

    name: str
    uses_left: int | None
    """None: no limit."""
    expires_s: float
    new_session_until_s: float
    setup: JsonObject | None = None
    mask: tuple[str, ...] = ()

    def check(self, now: float, *, resuming: bool) -> None:
        """Check that the token opens a session now; resuming one is no use of it.

        Raises:
            WireError: it is too late, or the token was used up.
        """
        if now >= self.expires_s:
            raise WireError(1008, TOKEN_EXPIRED)
        if resuming:
            return
        if now >= self.new_session_until_s:
            raise WireError(1008, TOKEN_LATE)
        if self.uses_left == 0:
            raise WireError(1008, TOKEN_USED)

    def spend(self) -> None:
        """Count a new session."""
        if self.uses_left is not None:
            self.uses_left -= 1

    def effective(self, given: JsonObject) -> JsonObject:
        """Return the setup that counts, of the token's and the connection's.

        Without a setup in the token the connection's; with a setup and no mask the token's alone;
        with a mask its fields come from the token, the others from the connection.  A handle to
        resume by is always the connection's own: no token could hold it.
        """
        if self.setup is None:
            return given
        if self.mask:
            out = copy.deepcopy(given)
            for path in self.mask:
                _overwrite(out, copy.deepcopy(self.setup), path.split("."))
            return out
        out = copy.deepcopy(self.setup)
        handle = as_object(given.get("sessionResumption")).get("handle")
        if handle:
            out["sessionResumption"] = as_object(out.get("sessionResumption")) | {"handle": handle}
        return out


def _overwrite(out: JsonObject, locked: JsonObject, path: list[str]) -> None:
    """Set one field as it is in ``locked``; a field that is not there is cleared."""
    head, *rest = path
    if not rest:
        if head in locked:
            out[head] = locked[head]
        else:
            out.pop(head, None)
        return
    inner = out.get(head)
    inner = inner if isinstance(inner, dict) else {}
    source = locked.get(head)
    _overwrite(inner, source if isinstance(source, dict) else {}, rest)
    if inner or head in out or head in locked:
        out[head] = inner


def _new_name() -> str:
    return PREFIX + secrets.token_hex(16)


class TokenBook:
    """Every token that this emulator minted, newest last."""

    def __init__(self, new_name: Callable[[], str] = _new_name) -> None:
        self._new_name = new_name
        self._tokens: OrderedDict[str, Token] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def mint(self, body: JsonObject, now: float, wall_s: float, scale: float = 1.0) -> JsonObject:
        """Make a token as ``POST auth_tokens`` asks; return the response.

        Times in the body are the client's, so ``wall_s`` and ``scale`` turn them into service
        seconds.

        Raises:
            WireError: a field is unknown or its value is not allowed.
        """
        for name in body:
            if name not in _FIELDS:
                raise WireError(1007, unknown_name(name, "auth_token"))
        uses = as_int(body.get("uses"))
        if uses is not None and uses < 0:
            raise WireError(1007, "uses must not be negative.")
        setup = body.get("bidiGenerateContentSetup")
        if setup is not None:
            check_setup_fields(as_object(setup), Backend.DEVELOPER)

        def moment(name: str, default_s: float) -> float:
            left_s = _left_s(body.get(name), name, wall_s)
            return now + (default_s if left_s is None else left_s * scale)

        token = Token(
            self._new_name(),
            {None: 1, 0: None}.get(uses, uses),
            moment("expireTime", LIFETIME_S),
            moment("newSessionExpireTime", NEW_SESSION_S),
            setup,
            _read_mask(body.get("fieldMask")),
        )
        self._tokens[token.name] = token
        while len(self._tokens) > TOKENS_KEPT:
            self._tokens.popitem(last=False)
        return {"name": token.name}

    def find(self, name: str, *, refuse_unknown: bool) -> Token | None:
        """Return the token of this name.

        Raises:
            WireError: nobody minted it here, and ``refuse_unknown``.
        """
        token = self._tokens.get(name)
        if token is None and refuse_unknown:
            raise WireError(1008, TOKEN_UNKNOWN)
        return token


def _left_s(given: object, name: str, wall_s: float) -> float | None:
    """Return how far a timestamp lies in the future; None when there is none."""
    if given is None:
        return None
    where = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    kind = "type.googleapis.com/google.protobuf.Timestamp"
    try:
        moment = dt.datetime.fromisoformat(str(given))
        left_s = moment.timestamp() - wall_s
    except (ValueError, OverflowError, OSError) as exc:
        raise invalid_value(where, kind, given) from exc
    if moment.tzinfo is None or not isinstance(given, str):
        raise invalid_value(where, kind, given)
    if not 0 < left_s < LONGEST_S:
        raise WireError(1007, f"{where} must be in the future, by less than 20 hours.")
    return left_s


def _read_mask(given: object) -> tuple[str, ...]:
    """Read a field mask, which protobuf's JSON writes as one text with commas."""
    if given is None:
        return ()
    if not isinstance(given, str):
        raise invalid_value("field_mask", "type.googleapis.com/google.protobuf.FieldMask", given)
    paths = (path.strip() for path in given.split(","))
    return tuple(".".join(camel(part) for part in path.split(".")) for path in paths if path)
