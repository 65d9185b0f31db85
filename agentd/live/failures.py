"""What a failed dial or a lost connection means, decided here and nowhere else.

A failure is classed by what was seen (close code, HTTP status, exception kind), by how the peer's
reason begins, and by phase: the same 1008 means "that handle is dead" before setupComplete and
"the network path moved under us" after it. The answer is a cause of `agentd.live.causes`, which
holds the policy and the remedy of each.

Close reasons are cut at 123 bytes by the protocol, so only their beginnings are compared.
Sources of the reasons: Live API troubleshooting page; google-genai, LiveKit, litellm and pipecat
issue trackers (1008 "session not found", 1007 "Invalid session handle", 1011 quota texts).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agentd.live.causes import (
    BY_NAME,
    SETUP_REMEDIES,
    SHORT_INTERVAL_S,
    Cause,
    Handling,
)
from agentd.text import safe_text

REASON_LIMIT_CHARS = 200
SETUP_REFUSED = "setup refused"


class Phase(enum.Enum):
    """How far a connection had come."""

    PROXY = "proxy"  # DNS, TCP and TLS to an HTTP proxy, and its answer to CONNECT
    HANDSHAKE = "handshake"  # DNS, TCP, TLS, HTTP upgrade
    SETUP = "setup"  # until setupComplete
    LIVE = "live"


class Kind(enum.Enum):
    """What was seen."""

    CLOSED = "closed"  # the peer's close frame; `code` is its code
    STATUS = "status"  # HTTP refusal; `code` is the status
    DROPPED = "dropped"  # the transport broke without a close frame
    TIMEOUT = "timeout"  # nothing came within a bound of ours
    NO_NAME = "no_name"  # the name server says that there is no such name
    DNS = "dns"  # no name server answers
    NO_ROUTE = "no_route"
    PORT_REFUSED = "port_refused"
    UNREACHABLE = "unreachable"  # no address answers
    CERTIFICATE = "certificate"  # nothing trusts it
    EXPIRED = "expired"  # a certificate, by this machine's clock
    NOT_YET_VALID = "not_yet_valid"  # likewise
    WRONG_NAME = "wrong_name"  # a certificate for another host
    NOT_TLS = "not_tls"
    TLS_VERSION = "tls_version"
    TLS = "tls"
    NOT_HTTP = "not_http"  # what answers to CONNECT is no proxy
    CREDENTIAL = "credential"  # ours: missing or unreadable
    LOGIN = "login"  # Google's token service refuses the account
    TOKEN = "token"  # noqa: S105 - Google's token service cannot be reached
    SETUP_REFUSED = "setup_refused"  # the SDK refused our own setup
    ADDRESS = "address"  # ours: no https URL
    TRUST = "trust"  # ours: SSL_CERT_FILE or SSL_CERT_DIR
    PROXY_SETTING = "proxy_setting"  # ours: a proxy variable
    PROTOCOL = "protocol"  # frames that are no conversation
    LOCAL = "local"  # we closed or aborted it


OUR_WORDS = (Kind.CREDENTIAL, Kind.ADDRESS, Kind.TRUST, Kind.PROXY_SETTING)
"""Kinds whose reason is our own sentence on which file or variable is wrong, and how."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection ended; `reason` is the peer's or the system's words, made safe.

    `variable` is the environment variable that named the proxy, if one was on the way.
    """

    phase: Phase
    kind: Kind
    code: int = 0
    reason: str = ""
    retry_after_s: float | None = None
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class of a failure: a short stable cause, and what a person can do.

    `interval_s` is the time between dials for FATAL, and the least of it for RETRY.
    """

    action: Handling
    cause: str
    remedy: str = ""
    interval_s: float = 0.0
    blames_handle: bool = False  # the peer itself ended it: suspicious right after a resume

    @property
    def patient(self) -> bool:
        """Return whether also somebody who speaks has to wait for the next dial."""
        return self.action is Handling.QUOTA or self.interval_s > 0.0


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table; empty fields match everything."""

    cause: str
    kinds: tuple[Kind, ...] = ()
    codes: tuple[int, ...] = ()
    phases: tuple[Phase, ...] = ()
    reason: str = ""  # begins with, case-insensitively
    within: str = ""  # contains: for the trace-id prefixed and RPC-style texts
    handle: bool | None = None  # dialled with a handle?
    clock_ok: bool | None = None
    remedy: str = ""  # a more precise one than the cause's
    interval_s: float | None = None
    blames_handle: bool = False


_C, _S = (Kind.CLOSED,), (Kind.STATUS,)
_PROXY = (Phase.PROXY,)
_BEFORE = (Phase.PROXY, Phase.HANDSHAKE, Phase.SETUP)
_DATES = (Kind.EXPIRED, Kind.NOT_YET_VALID)

# The first row that matches decides.
_TABLE: tuple[_Row, ...] = (
    # ours
    _Row("closed by us", kinds=(Kind.LOCAL,)),
    _Row("credential", kinds=(Kind.CREDENTIAL,)),
    # a signed request for a token is dated by this machine's clock (RFC 7523, section 3)
    _Row("clock not set", kinds=(Kind.LOGIN,), within="reasonable timeframe", clock_ok=False),
    _Row("login refused", kinds=(Kind.LOGIN,)),
    _Row("token service unreachable", kinds=(Kind.TOKEN,)),
    _Row(SETUP_REFUSED, kinds=(Kind.SETUP_REFUSED,)),
    _Row("endpoint address", kinds=(Kind.ADDRESS,)),
    _Row("trust store", kinds=(Kind.TRUST,)),
    _Row("proxy setting", kinds=(Kind.PROXY_SETTING,)),
    # the way to a proxy
    _Row("proxy failed", kinds=_S, phases=_PROXY, codes=(408, 425, 429)),
    _Row("proxy failed", kinds=_S, phases=_PROXY, codes=tuple(range(500, 600))),
    _Row("proxy refuses", kinds=_S, phases=_PROXY),
    _Row("proxy name", kinds=(Kind.DNS, Kind.NO_NAME), phases=_PROXY),
    _Row("no proxy there", kinds=(Kind.NOT_HTTP,)),
    _Row("clock not set", kinds=_DATES, clock_ok=False),
    _Row(
        "proxy tls",
        kinds=(
            *(*_DATES, Kind.CERTIFICATE, Kind.WRONG_NAME),
            *(Kind.NOT_TLS, Kind.TLS_VERSION, Kind.TLS),
        ),
        phases=_PROXY,
    ),
    _Row("proxy unreachable", phases=_PROXY),
    # the way to the service
    _Row("certificate expired", kinds=(Kind.EXPIRED,)),
    _Row("certificate not yet valid", kinds=(Kind.NOT_YET_VALID,)),
    _Row("certificate name", kinds=(Kind.WRONG_NAME,)),
    _Row("certificate", kinds=(Kind.CERTIFICATE,)),
    _Row("no such name", kinds=(Kind.NO_NAME,)),
    _Row("dns", kinds=(Kind.DNS,)),
    _Row("no route", kinds=(Kind.NO_ROUTE,)),
    _Row("port refused", kinds=(Kind.PORT_REFUSED,)),
    _Row("unreachable", kinds=(Kind.UNREACHABLE,)),
    _Row("no tls", kinds=(Kind.NOT_TLS,)),
    _Row("tls version", kinds=(Kind.TLS_VERSION,)),
    _Row("tls", kinds=(Kind.TLS,)),
    _Row("timeout", kinds=(Kind.TIMEOUT,), phases=_BEFORE),
    _Row("mute", kinds=(Kind.TIMEOUT,), blames_handle=True),
    _Row("handshake broken", kinds=(Kind.DROPPED,), phases=(Phase.HANDSHAKE,)),
    _Row("connection lost", kinds=(Kind.DROPPED,)),
    _Row("intercepted", kinds=(Kind.PROTOCOL,), phases=(Phase.HANDSHAKE,)),
    _Row("unusable frames", kinds=(Kind.PROTOCOL,)),
    # words that mean the same under any code
    *(
        _Row("quota", within=words)
        for words in (
            "exceeded your current quota",
            "resource_exhausted",
            "resource has been exhausted",
            "resource exhausted",
            "quota exceeded",
            "maximum concurrent se",
            "too many requests",
        )
    ),
    *(
        _Row("billing", within=words)
        for words in ("monthly spending cap", "prepayment credits", "billing account")
    ),
    *(
        _Row("credential refused", within=words)
        for words in (
            "api key not valid",
            "api key expired",
            "api_key_invalid",
            "api key not found",
            "invalid authentication credentials",
            "unauthenticated",
            "permission_denied",
            "permission denied",
            "has not been used in project",
            "caller does not have permission",
            "token expired",
            "reported as leaked",
        )
    ),
    _Row("region refused", within="location is not supported"),
    # handles, recognised by words
    *(
        _Row("handle refused", kinds=_C, phases=_BEFORE, handle=True, reason=words)
        for words in (
            "bidigeneratecontent session not found",
            "requested entity was not found",
            "invalid session handle",
            "session handle",
        )
    ),
    # models and setups, recognised by words
    *(
        _Row("model refused", kinds=_C, phases=_BEFORE, within=words)
        for words in (
            "is not found for api version",
            "is not supported in the live api",
            "invalid resource field value",
            "publisher model",
            "not supported for bidigeneratecontent",
        )
    ),
    *(
        _Row(SETUP_REFUSED, kinds=_C, within=words, remedy=remedy)
        for words, remedy in SETUP_REMEDIES.items()
    ),
    # close codes before setupComplete
    _Row("handle refused", kinds=_C, codes=(1007, 1008), phases=_BEFORE, handle=True),
    _Row("aborted", kinds=_C, codes=(1008,), phases=_BEFORE, reason="the operation was aborted"),
    _Row(
        SETUP_REFUSED,
        kinds=_C,
        codes=(1003, 1007, 1008, 1010),
        phases=_BEFORE,
        interval_s=SHORT_INTERVAL_S,  # the reason is vague: it may be the service's own fault
    ),
    # close codes of a live connection
    _Row("go away", kinds=_C, reason="connection aborted because the client failed to close"),
    _Row("going away", kinds=_C, codes=(1001, 1012)),
    _Row("closed", kinds=_C, codes=(1000, 1005), blames_handle=True),
    _Row("overloaded", kinds=_C, codes=(1013, 1014)),
    _Row("connection lost", kinds=_C, codes=(1006, 1015)),
    _Row("service error", kinds=_C, codes=(1011,), blames_handle=True),
    _Row("refused", kinds=_C, codes=(1007, 1008), blames_handle=True),
    _Row("closed", kinds=_C, blames_handle=True),
    # HTTP
    _Row("credential refused", kinds=_S, codes=(401, 403)),
    _Row("endpoint not found", kinds=_S, codes=(404, 410)),
    _Row("proxy refuses", kinds=_S, codes=(407,)),
    _Row("quota", kinds=_S, codes=(429,)),
    _Row("overloaded", kinds=_S, codes=(408, 425, 500, 502, 503, 504)),
    # a login page answers with a page or redirects to one (RFC 6585, section 6)
    _Row("intercepted", kinds=_S, codes=(511,)),
    _Row("intercepted", kinds=_S, codes=tuple(range(200, 400))),
    _Row("request refused", kinds=_S, codes=tuple(range(400, 500))),
)
_LAST_STATUS = _Row("service error")


def classify(
    failure: Failure, *, with_handle: bool, clock_synchronised: bool, own_endpoint: bool = False
) -> Verdict:
    """Class a failure; total: every failure gets a verdict.

    Args:
        with_handle: the connection was dialled with a resumption handle.
        clock_synchronised: whether the wall clock can judge a certificate's dates.
        own_endpoint: live.base_url or a variable names the endpoint; it may be mistyped.
    """
    words = failure.reason.casefold()
    row = next(
        (row for row in _TABLE if _matches(row, failure, words, with_handle, clock_synchronised)),
        _LAST_STATUS,
    )
    cause = BY_NAME[row.cause]
    return Verdict(
        cause.action,
        cause.name,
        row.remedy or _remedy(cause, failure, own_endpoint),
        cause.interval_s if row.interval_s is None else row.interval_s,
        row.blames_handle,
    )


def _remedy(cause: Cause, failure: Failure, own_endpoint: bool) -> str:
    remedy = cause.remedy_for(own_endpoint=own_endpoint, variable=failure.variable)
    if failure.kind in OUR_WORDS and failure.reason:
        return f"{failure.reason}. {remedy}"  # which file or variable, and what is wrong with it
    return remedy


def _matches(row: _Row, failure: Failure, words: str, handle: bool, clock_ok: bool) -> bool:
    return (
        (not row.kinds or failure.kind in row.kinds)
        and (not row.codes or failure.code in row.codes)
        and (not row.phases or failure.phase in row.phases)
        and words.startswith(row.reason)
        and row.within in words
        and row.handle in (None, handle)
        and row.clock_ok in (None, clock_ok)
    )


# ── a turn that the service closes without an answer ──────────────────────────────────────────


class Ending(enum.Enum):
    """What a `turnCompleteReason` says about the question."""

    UNSAID = "unsaid"  # nothing: what came of the answer decides
    SILENT = "silent"  # the model has chosen to say nothing (more)
    FAILED = "failed"  # there will be no answer


_REFUSED = "the service refuses the question"
_WITHHELD = "the service withholds its answer"
_REJECTED = "the service rejected its own answer"

# Names and meanings: `TurnCompleteReason` of the Live API reference (google-genai 3.4, types.py).
# That RESPONSE_REJECTED closes a turn without a byte of audio, again and again:
# google-gemini/gemini-live-api-examples#40.
_TURN_REASONS: dict[str, tuple[Ending, str]] = {
    "": (Ending.UNSAID, ""),
    "NEED_MORE_INPUT": (Ending.SILENT, ""),
    "MALFORMED_FUNCTION_CALL": (Ending.FAILED, "the model called a function wrongly"),
    "RESPONSE_REJECTED": (Ending.FAILED, _REJECTED),
    "MAX_REGENERATION_REACHED": (Ending.FAILED, _REJECTED),
}
_TURN_PREFIXES = (
    ("PROHIBITED_INPUT", _REFUSED),
    ("IMAGE_PROHIBITED_INPUT", _REFUSED),
    ("INPUT_", _REFUSED),
    ("BLOCKLIST", _REFUSED),
    ("UNSAFE_PROMPT", _REFUSED),
    ("GENERATED_", _WITHHELD),
    ("OUTPUT_", _WITHHELD),
)


def turn_ending(reason: str) -> tuple[Ending, str]:
    """Return what a `turnCompleteReason` means, and the cause of a failure.

    One that is not known fails a question only where no answer was heard: that is for the caller.
    """
    known = _TURN_REASONS.get(reason)
    if known is not None:
        return known
    causes = (cause for prefix, cause in _TURN_PREFIXES if reason.startswith(prefix))
    return Ending.FAILED, next(causes, "the service ended the turn without an answer")


def is_known_reason(reason: str) -> bool:
    """Return whether the table says what `reason` means."""
    return reason in _TURN_REASONS or any(reason.startswith(p) for p, _ in _TURN_PREFIXES)


def safe_reason(text: object) -> str:
    """Make a peer's words fit for a log: one line, no control characters, bounded."""
    return " ".join(safe_text(str(text), REASON_LIMIT_CHARS).split())
