"""What failures mean."""

from __future__ import annotations

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from agentd.live.causes import FATAL_INTERVAL_S, Handling
from agentd.live.failures import (
    REASON_LIMIT_CHARS,
    Ending,
    Failure,
    Kind,
    Phase,
    Verdict,
    classify,
    is_known_reason,
    safe_reason,
    turn_ending,
)

P, H, S, L = Phase.PROXY, Phase.HANDSHAKE, Phase.SETUP, Phase.LIVE
C, ST = Kind.CLOSED, Kind.STATUS


def verdict(failure: Failure, *, handle: bool = False, clock: bool = True) -> Verdict:
    """Class a failure."""
    return classify(failure, with_handle=handle, clock_synchronised=clock)


# The failure catalogue: (failure, dialled with a handle, action, cause). Reasons are cut at 123
# bytes as the service cuts them.
CATALOGUE = [
    # handles
    (Failure(S, C, 1008, "BidiGenerateContent session not found"), True, "reset", "handle refused"),
    (Failure(S, C, 1008, "Requested entity was not found."), True, "reset", "handle refused"),
    (Failure(S, C, 1007, "Invalid session handle"), True, "reset", "handle refused"),
    (Failure(S, C, 1007, "Request contains an invalid argument."), True, "reset", "handle refused"),
    (Failure(S, C, 1008, "whatever"), True, "reset", "handle refused"),
    (Failure(L, C, 1008, "BidiGenerateContent session not found"), True, "retry", "refused"),
    # our setup
    (Failure(S, C, 1007, "Request contains an invalid argument."), False, "fatal", "setup refused"),
    (Failure(S, C, 1008, "Requested entity was not found."), False, "fatal", "setup refused"),
    (Failure(S, C, 1007, "No matching speaker voice found for"), True, "fatal", "setup refused"),
    (Failure(S, C, 1007, "Thinking level must be specified for"), True, "fatal", "setup refused"),
    (Failure(S, C, 1007, "Thinking level is not supported for t"), True, "fatal", "setup refused"),
    (Failure(S, C, 1007, "BLOCKING function calls are not suppo"), True, "fatal", "setup refused"),
    (
        Failure(Phase.LIVE, C, 1007, "Function response scheduling is not supported for"),
        False,
        "fatal",
        "setup refused",
    ),
    (
        Failure(S, C, 1007, "The requested combination of response modalities (AUDIO) is not sup"),
        True,
        "fatal",
        "setup refused",
    ),
    (
        Failure(L, C, 1007, "Explicit activity control is not supported when automatic activity"),
        False,
        "fatal",
        "setup refused",
    ),
    (Failure(H, Kind.SETUP_REFUSED, 0, "extra_forbidden"), False, "fatal", "setup refused"),
    # models
    (
        Failure(S, C, 1008, "models/X is not found for API version v1alpha, or is not supported"),
        True,
        "fatal",
        "model refused",
    ),
    (Failure(S, C, 1007, "m is not supported in the live api."), False, "fatal", "model refused"),
    (Failure(S, C, 1007, "Invalid resource field value"), False, "fatal", "model refused"),
    # credentials and places
    (
        Failure(S, C, 1007, "API key not valid. Please pass a valid API key."),
        True,
        "fatal",
        "credential refused",
    ),
    (
        Failure(S, C, 1007, "User location is not supported for the API use."),
        False,
        "fatal",
        "region refused",
    ),
    (Failure(H, Kind.CREDENTIAL, 0, "no API key"), False, "fatal", "credential"),
    (Failure(H, Kind.LOGIN, 0, "invalid_grant: revoked"), False, "fatal", "login refused"),
    (Failure(H, Kind.TOKEN), False, "retry", "token service unreachable"),
    (Failure(H, Kind.ADDRESS, 0, "no https"), False, "fatal", "endpoint address"),
    (Failure(H, Kind.TRUST, 0, "SSL_CERT_FILE"), False, "fatal", "trust store"),
    # proxies
    (Failure(P, Kind.PROXY_SETTING, 0, "no scheme"), False, "fatal", "proxy setting"),
    (Failure(P, Kind.DNS), False, "retry", "proxy name"),
    (Failure(P, Kind.NO_NAME), False, "retry", "proxy name"),
    (Failure(P, Kind.PORT_REFUSED), False, "retry", "proxy unreachable"),
    (Failure(P, Kind.NO_ROUTE), False, "retry", "proxy unreachable"),
    (Failure(P, Kind.UNREACHABLE), False, "retry", "proxy unreachable"),
    (Failure(P, Kind.TIMEOUT), False, "retry", "proxy unreachable"),
    (Failure(P, Kind.CERTIFICATE), False, "fatal", "proxy tls"),
    (Failure(P, Kind.NOT_TLS), False, "fatal", "proxy tls"),
    (Failure(P, Kind.NOT_HTTP), False, "fatal", "no proxy there"),
    (Failure(P, ST, 407), False, "fatal", "proxy refuses"),
    (Failure(P, ST, 403, "Forbidden"), False, "fatal", "proxy refuses"),
    (Failure(P, ST, 404), False, "fatal", "proxy refuses"),
    (Failure(P, ST, 502), False, "retry", "proxy failed"),
    (Failure(P, ST, 429), False, "retry", "proxy failed"),
    (Failure(H, ST, 401), True, "fatal", "credential refused"),
    (Failure(H, ST, 403), True, "fatal", "credential refused"),
    (Failure(H, ST, 400, "API key not valid."), False, "fatal", "credential refused"),
    (Failure(H, ST, 404), False, "fatal", "endpoint not found"),
    (Failure(H, ST, 407), False, "fatal", "proxy refuses"),
    (Failure(H, ST, 400), False, "fatal", "request refused"),
    # quotas
    (
        Failure(
            L,
            C,
            1011,
            "You exceeded your current quota, please check your plan and billing details. For more"
            " information on this error, head to: h",
        ),
        True,
        "quota",
        "quota",
    ),
    (
        Failure(
            S,
            C,
            1011,
            "Request trace id: 0, [ORIGINAL ERROR] generic::resource_exhausted: RESOURCE_EXHAUSTED"
            ": Maximum concurrent se",
        ),
        True,
        "quota",
        "quota",
    ),
    (Failure(H, ST, 429), False, "quota", "quota"),
    (
        Failure(L, C, 1011, "Your project has exceeded its monthly spending cap"),
        False,
        "fatal",
        "billing",
    ),
    # the service
    (Failure(L, C, 1011, "Internal error encountered."), True, "retry", "service error"),
    (Failure(S, C, 1011, "The service is currently unavailable."), True, "retry", "service error"),
    (
        Failure(L, C, 1011, "Deadline expired before operation could"),
        True,
        "retry",
        "service error",
    ),
    (Failure(L, C, 1000), True, "retry", "closed"),
    (Failure(L, C, 1001), True, "retry", "going away"),
    (Failure(L, C, 1012), True, "retry", "going away"),
    (Failure(L, C, 1013), True, "retry", "overloaded"),
    (Failure(L, C, 1006), True, "retry", "connection lost"),
    (Failure(L, C, 4000, "odd"), True, "retry", "closed"),
    (Failure(L, C, 1008, "The operation was aborted."), True, "retry", "refused"),
    (Failure(S, C, 1008, "The operation was aborted."), False, "retry", "aborted"),
    (
        Failure(L, C, 1008, "Connection aborted because the client failed to close the connection"),
        True,
        "retry",
        "go away",
    ),
    (
        Failure(L, C, 1008, "Operation is not implemented, or supported, or enabled."),
        True,
        "retry",
        "refused",
    ),
    (Failure(H, ST, 503), True, "retry", "overloaded"),
    (Failure(H, ST, 599), True, "retry", "service error"),
    # the path
    (Failure(H, Kind.DNS), False, "retry", "dns"),
    (Failure(H, Kind.NO_NAME), False, "retry", "no such name"),
    (Failure(H, Kind.NO_ROUTE), False, "retry", "no route"),
    (Failure(H, Kind.PORT_REFUSED), False, "retry", "port refused"),
    (Failure(H, Kind.UNREACHABLE), False, "retry", "unreachable"),
    (Failure(H, Kind.TLS), False, "retry", "tls"),
    (Failure(H, Kind.TLS_VERSION), False, "fatal", "tls version"),
    (Failure(H, Kind.NOT_TLS), False, "fatal", "no tls"),
    (Failure(H, Kind.DROPPED), False, "retry", "handshake broken"),
    (Failure(H, Kind.PROTOCOL), False, "fatal", "intercepted"),
    (Failure(H, Kind.TIMEOUT), False, "retry", "timeout"),
    (Failure(S, Kind.TIMEOUT), True, "retry", "timeout"),
    (Failure(L, Kind.TIMEOUT), True, "retry", "mute"),
    (Failure(L, Kind.DROPPED, 1006), True, "retry", "connection lost"),
    (Failure(L, Kind.PROTOCOL, 1009), True, "retry", "unusable frames"),
    (Failure(L, Kind.LOCAL), True, "retry", "closed by us"),
    (Failure(H, Kind.CERTIFICATE, 0, "self-signed certificate"), False, "fatal", "certificate"),
    (Failure(H, Kind.EXPIRED), False, "fatal", "certificate expired"),
    (Failure(H, Kind.NOT_YET_VALID), False, "fatal", "certificate not yet valid"),
    (Failure(H, Kind.WRONG_NAME), False, "fatal", "certificate name"),
    (Failure(H, ST, 200), False, "fatal", "intercepted"),
    (Failure(H, ST, 302), False, "fatal", "intercepted"),
    (Failure(H, ST, 511), False, "fatal", "intercepted"),
]


@pytest.mark.parametrize(("failure", "handle", "action", "cause"), CATALOGUE)
def test_catalogue(failure: Failure, handle: bool, action: str, cause: str) -> None:
    """Every failure that was ever reported is classed as it should be."""
    found = verdict(failure, handle=handle)
    assert (found.action.value, found.cause) == (action, cause)


@pytest.mark.parametrize("kind", [Kind.EXPIRED, Kind.NOT_YET_VALID])
@pytest.mark.parametrize("phase", [P, H])
def test_a_date_is_not_judged_by_a_clock_that_is_not_set(kind: Kind, phase: Phase) -> None:
    """Before NTP answers, dates look wrong; nobody is alarmed, and nobody is hammered."""
    found = verdict(Failure(phase, kind), clock=False)
    assert (found.action, found.cause) == (Handling.RETRY, "clock not set")
    assert found.interval_s >= 20.0
    assert found.patient
    assert verdict(Failure(phase, kind), clock=True).action is Handling.FATAL


@pytest.mark.parametrize("kind", [Kind.CERTIFICATE, Kind.WRONG_NAME, Kind.NOT_TLS, Kind.DNS])
def test_the_clock_explains_nothing_else(kind: Kind) -> None:
    """A certificate that nobody trusts is untrusted at any time of the day."""
    assert verdict(Failure(H, kind), clock=False) == verdict(Failure(H, kind), clock=True)


def test_a_signed_request_is_dated_by_the_clock() -> None:
    """Google refuses a service account's signature of 1970; that is not the account's fault."""
    failure = Failure(H, Kind.LOGIN, 0, "invalid_grant: Invalid JWT: … in a reasonable timeframe")
    assert verdict(failure, clock=False).cause == "clock not set"
    assert verdict(failure, clock=True).cause == "login refused"


def test_only_the_service_itself_speaks_against_a_handle() -> None:
    """A broken network or a restarting server says nothing about it."""
    assert verdict(Failure(L, C, 1011, "Internal error"), handle=True).blames_handle
    assert verdict(Failure(L, Kind.TIMEOUT), handle=True).blames_handle
    for failure in (Failure(L, Kind.DROPPED), Failure(L, C, 1001), Failure(L, C, 1012)):
        assert not verdict(failure, handle=True).blames_handle


FAILURES = st.builds(
    Failure,
    st.sampled_from(Phase),
    st.sampled_from(Kind),
    st.integers(0, 5000),
    st.text(max_size=60),
)


@given(FAILURES, st.booleans(), st.booleans())
def test_every_failure_has_a_verdict(failure: Failure, handle: bool, clock: bool) -> None:
    """Total; a person is never asked to act without being told how, or hammered meanwhile."""
    found = verdict(failure, handle=handle, clock=clock)
    assert found.cause
    if found.action is Handling.FATAL:
        assert found.remedy
        assert 60.0 <= found.interval_s <= FATAL_INTERVAL_S
    if found.action is Handling.RESET:
        assert handle


@given(st.text())
def test_a_safe_reason_is_one_short_printable_line(text: str) -> None:
    """Nothing that a peer says can break a log line."""
    safe = safe_reason(text)
    assert len(safe) <= REASON_LIMIT_CHARS
    assert safe.isprintable()


@pytest.mark.parametrize(
    "reason",
    [
        name
        for name in types.TurnCompleteReason.__members__
        if name != "TURN_COMPLETE_REASON_UNSPECIFIED"
    ],
)
def test_every_reason_of_the_sdk_has_its_place(reason: str) -> None:
    """Only the wish to hear more is no failure, and each failure has a cause in plain words."""
    ending, cause = turn_ending(reason)
    assert is_known_reason(reason)
    assert (ending is Ending.SILENT) == (reason == "NEED_MORE_INPUT")
    assert bool(cause) == (ending is Ending.FAILED)


def test_a_reason_of_tomorrow_is_no_answer() -> None:
    """It is told as such."""
    assert turn_ending("") == (Ending.UNSAID, "")
    assert turn_ending("TOMORROW")[0] is Ending.FAILED
    assert not is_known_reason("TOMORROW")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("Thinking level must be specified for this model.", 'live.thinking_level = "low"'),
        ("Thinking level is not supported for this model.", "Remove live.thinking_level"),
        ("Function response scheduling is not supported for this model.", "live.model"),
        ("BLOCKING function calls are not supported for this model.", "tools.enabled"),
    ],
)
def test_the_remedy_names_the_setting_that_the_service_refuses(words: str, remedy: str) -> None:
    """Its words say which; the general remedy would send a person through the whole section."""
    failure = Failure(Phase.SETUP, Kind.CLOSED, 1007, words)
    assert remedy in classify(failure, with_handle=False, clock_synchronised=True).remedy
