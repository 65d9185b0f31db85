"""What a failed dial or a lost connection means, decided here and nowhere else.

A failure is classed by what was seen (close code, HTTP status, exception kind), by how the peer's
reason begins, and by phase: the same 1008 means "that handle is dead" before setupComplete and
"the network path moved under us" after it. The answer is one of four:

    RETRY   dial again with the same handle, by backoff
    RESET   the handle is dead: drop it and go one rung down the ladder
    QUOTA   dial again with the same handle, slowly
    FATAL   a person must fix something: long interval, the remedy is told

Close reasons are cut at 123 bytes by the protocol, so only their beginnings are compared.
Sources of the reasons: Live API troubleshooting page; google-genai, LiveKit, litellm and pipecat
issue trackers (1008 "session not found", 1007 "Invalid session handle", 1011 quota texts).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agentd.service.text import safe_text

REASON_LIMIT_CHARS = 200
FATAL_INTERVAL_S = 300.0
INTERCEPT_INTERVAL_S = 60.0
SETUP_REFUSED = "setup refused"


class Phase(enum.Enum):
    """How far a connection had come."""

    HANDSHAKE = "handshake"  # DNS, TCP, TLS, HTTP upgrade
    SETUP = "setup"  # until setupComplete
    LIVE = "live"


class Kind(enum.Enum):
    """What was seen."""

    CLOSED = "closed"  # the peer's close frame; `code` is its code
    STATUS = "status"  # HTTP refusal; `code` is the status
    DROPPED = "dropped"  # the transport broke without a close frame
    TIMEOUT = "timeout"  # nothing came within a bound of ours
    DNS = "dns"
    UNREACHABLE = "unreachable"  # refused, no route
    CERTIFICATE = "certificate"
    TLS = "tls"
    CREDENTIAL = "credential"  # ours: missing, unreadable, or no token for it
    SETUP_REFUSED = "setup_refused"  # the SDK refused our own setup
    PROTOCOL = "protocol"  # frames that are no conversation
    LOCAL = "local"  # we closed or aborted it


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection ended; `reason` is the peer's or the system's words, made safe."""

    phase: Phase
    kind: Kind
    code: int = 0
    reason: str = ""
    retry_after_s: float | None = None


class Action(enum.Enum):
    """What to do about a failure."""

    RETRY = "retry"
    RESET = "reset"
    QUOTA = "quota"
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class of a failure: a short stable cause, and for FATAL what a person must do."""

    action: Action
    cause: str
    remedy: str = ""
    interval_s: float = FATAL_INTERVAL_S
    blames_handle: bool = False  # the peer itself ended it: suspicious right after a resume


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table; empty fields match everything."""

    action: Action
    cause: str
    kinds: tuple[Kind, ...] = ()
    codes: tuple[int, ...] = ()
    phases: tuple[Phase, ...] = ()
    reason: str = ""  # begins with, case-insensitively
    within: str = ""  # contains: for the trace-id prefixed and RPC-style texts
    handle: bool | None = None  # dialled with a handle?
    clock_ok: bool | None = None
    remedy: str = ""
    interval_s: float = FATAL_INTERVAL_S
    blames_handle: bool = False


_KEY = "Check the API key or service account (`agentd doctor` tests it) and reload"
_MODEL = "Check live.model, live.location and live.api_version, then reload"
_SETUP = "Check the [live] section against the model's documentation, then reload"
_BILLING = "Check billing and quota of the project at its provider; agentd keeps trying"
_CLOCK = "The clock is not set yet; agentd tries again when it is (check NTP if it stays so)"
_CAPTIVE = (
    "Something between here and the service answers instead: sign in to the network,"
    " or set SSL_CERT_FILE for your own proxy"
)

_C, _S = (Kind.CLOSED,), (Kind.STATUS,)
_BEFORE = (Phase.HANDSHAKE, Phase.SETUP)
_R, _X, _Q, _F = Action.RETRY, Action.RESET, Action.QUOTA, Action.FATAL

# The first row that matches decides.
_TABLE: tuple[_Row, ...] = (
    # ours
    _Row(_R, "closed by us", kinds=(Kind.LOCAL,)),
    _Row(_F, "credential", kinds=(Kind.CREDENTIAL,), remedy=_KEY, interval_s=60.0),
    _Row(_F, SETUP_REFUSED, kinds=(Kind.SETUP_REFUSED,), remedy=_SETUP),
    # the path
    _Row(_R, "clock not set", kinds=(Kind.CERTIFICATE,), clock_ok=False, remedy=_CLOCK),
    _Row(
        _F,
        "certificate",
        kinds=(Kind.CERTIFICATE,),
        remedy=_CAPTIVE,
        interval_s=INTERCEPT_INTERVAL_S,
    ),
    _Row(_R, "dns", kinds=(Kind.DNS,)),
    _Row(_R, "unreachable", kinds=(Kind.UNREACHABLE,)),
    _Row(_R, "tls", kinds=(Kind.TLS,)),
    _Row(_R, "timeout", kinds=(Kind.TIMEOUT,), phases=_BEFORE),
    _Row(_R, "mute", kinds=(Kind.TIMEOUT,), blames_handle=True),
    _Row(_R, "connection lost", kinds=(Kind.DROPPED,)),
    _Row(_R, "unusable frames", kinds=(Kind.PROTOCOL,)),
    # words that mean the same under any code
    *(
        _Row(_Q, "quota", within=words)
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
        _Row(_F, "billing", within=words, remedy=_BILLING)
        for words in ("monthly spending cap", "prepayment credits", "billing account")
    ),
    *(
        _Row(_F, "credential refused", within=words, remedy=_KEY)
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
    _Row(
        _F,
        "region refused",
        within="location is not supported",
        remedy='The service is not offered here; use live.backend = "vertex" with a region',
    ),
    # handles, recognised by words
    *(
        _Row(_X, "handle refused", kinds=_C, phases=_BEFORE, handle=True, reason=words)
        for words in (
            "bidigeneratecontent session not found",
            "requested entity was not found",
            "invalid session handle",
            "session handle",
        )
    ),
    # models and setups, recognised by words
    *(
        _Row(_F, "model refused", kinds=_C, phases=_BEFORE, within=words, remedy=_MODEL)
        for words in (
            "is not found for api version",
            "is not supported in the live api",
            "invalid resource field value",
            "publisher model",
            "not supported for bidigeneratecontent",
        )
    ),
    *(
        _Row(_F, SETUP_REFUSED, kinds=_C, within=words, remedy=remedy)
        for words, remedy in (
            ("no matching speaker voice", "Choose another live.voice, then reload"),
            ("unsupported language", "Choose another live.language, then reload"),
            ("response modalities", _MODEL),
            ("explicit activity control", 'Set live.activity_detection = "server", then reload'),
            ("invalid json payload", _SETUP),
        )
    ),
    # close codes before setupComplete
    _Row(_X, "handle refused", kinds=_C, codes=(1007, 1008), phases=_BEFORE, handle=True),
    _Row(
        _R, "aborted", kinds=_C, codes=(1008,), phases=_BEFORE, reason="the operation was aborted"
    ),
    _Row(
        _F,
        SETUP_REFUSED,
        kinds=_C,
        codes=(1003, 1007, 1008, 1010),
        phases=_BEFORE,
        remedy=_SETUP,
        interval_s=60.0,
    ),
    # close codes of a live connection
    _Row(_R, "go away", kinds=_C, reason="connection aborted because the client failed to close"),
    _Row(_R, "going away", kinds=_C, codes=(1001, 1012)),
    _Row(_R, "closed", kinds=_C, codes=(1000, 1005), blames_handle=True),
    _Row(_R, "overloaded", kinds=_C, codes=(1013, 1014)),
    _Row(_R, "connection lost", kinds=_C, codes=(1006, 1015)),
    _Row(_R, "service error", kinds=_C, codes=(1011,), blames_handle=True),
    _Row(_R, "refused", kinds=_C, codes=(1007, 1008), blames_handle=True),
    _Row(_R, "closed", kinds=_C, blames_handle=True),
    # HTTP
    _Row(_F, "credential refused", kinds=_S, codes=(401, 403), remedy=_KEY),
    _Row(_F, "endpoint not found", kinds=_S, codes=(404, 410), remedy=_MODEL),
    _Row(
        _F,
        "proxy refuses",
        kinds=_S,
        codes=(407,),
        remedy="The HTTP proxy wants a login; correct https_proxy or set no_proxy",
    ),
    _Row(_Q, "quota", kinds=_S, codes=(429,)),
    _Row(_R, "overloaded", kinds=_S, codes=(408, 425, 500, 502, 503, 504)),
    _Row(
        _F, "intercepted", kinds=_S, codes=(511,), remedy=_CAPTIVE, interval_s=INTERCEPT_INTERVAL_S
    ),
)
_LAST_STATUS = _Row(_R, "service error")


def classify(failure: Failure, *, with_handle: bool, clock_synchronised: bool) -> Verdict:
    """Class a failure; total: every failure gets a verdict.

    Args:
        with_handle: the connection was dialled with a resumption handle.
        clock_synchronised: whether the wall clock can judge a certificate's dates.
    """
    words = failure.reason.casefold()
    row = next(
        (row for row in _TABLE if _matches(row, failure, words, with_handle, clock_synchronised)),
        None,
    )
    if row is None:
        row = _other_status(failure.code)
    remedy = row.remedy
    if failure.kind is Kind.CREDENTIAL and failure.reason:
        remedy = f"{failure.reason}. {remedy}"  # our own words: which file, and what is wrong
    return Verdict(row.action, row.cause, remedy, row.interval_s, row.blames_handle)


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


def _other_status(code: int) -> _Row:
    """Judge a status that has no row: portals answer 200 or redirect, other 4xx are our fault."""
    if 200 <= code < 400:
        return _Row(_F, "intercepted", remedy=_CAPTIVE, interval_s=INTERCEPT_INTERVAL_S)
    if 400 <= code < 500:
        return _Row(_F, "request refused", remedy=_SETUP)
    return _LAST_STATUS


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
