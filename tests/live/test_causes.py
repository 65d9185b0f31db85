"""The grid: each cause in the journal, the status, the doctor, the button's voice and the docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentd import events as e
from agentd.clock import WallTime
from agentd.device.earcons import SPOKEN
from agentd.doctor.endpoint import judge_session
from agentd.doctor.findings import Result
from agentd.doctor.live import session_of_status
from agentd.live.causes import (
    BY_NAME,
    CAUSES,
    FATAL_INTERVAL_S,
    Cause,
    Handling,
    markdown_table,
    policy_text,
    voice_of,
)
from agentd.live.failures import Failure, Kind, Phase, classify
from tests.live.world import World, settings

PAGE = Path(__file__).parents[2] / "docs" / "user" / "troubleshooting.md"
BEGIN, END = "<!-- causes: begin (make docs) -->", "<!-- causes: end -->"
SET, UNSET = WallTime(1_800_000_000.0, synchronised=True), WallTime(60.0, synchronised=False)
P, H, S, L = Phase.PROXY, Phase.HANDSHAKE, Phase.SETUP, Phase.LIVE

# One failure for each cause that a dial can end with.
DIALS: dict[str, Failure] = {
    "credential": Failure(H, Kind.CREDENTIAL, reason="/x is empty"),
    "login refused": Failure(H, Kind.LOGIN, reason="invalid_grant"),
    "token service unreachable": Failure(H, Kind.TOKEN),
    "endpoint address": Failure(H, Kind.ADDRESS, reason="it names no host"),
    "trust store": Failure(H, Kind.TRUST, reason="SSL_CERT_FILE=/x is empty"),
    "proxy setting": Failure(P, Kind.PROXY_SETTING, reason="all_proxy x", variable="all_proxy"),
    "proxy name": Failure(P, Kind.NO_NAME, variable="https_proxy"),
    "proxy unreachable": Failure(P, Kind.PORT_REFUSED, variable="https_proxy"),
    "proxy tls": Failure(P, Kind.CERTIFICATE, variable="https_proxy"),
    "proxy refuses": Failure(P, Kind.STATUS, 407, variable="https_proxy"),
    "proxy failed": Failure(P, Kind.STATUS, 502, variable="https_proxy"),
    "no proxy there": Failure(P, Kind.NOT_HTTP, variable="https_proxy"),
    "no such name": Failure(H, Kind.NO_NAME),
    "dns": Failure(H, Kind.DNS),
    "no route": Failure(H, Kind.NO_ROUTE),
    "port refused": Failure(H, Kind.PORT_REFUSED),
    "unreachable": Failure(H, Kind.UNREACHABLE),
    "handshake broken": Failure(H, Kind.DROPPED),
    "timeout": Failure(S, Kind.TIMEOUT),
    "clock not set": Failure(H, Kind.EXPIRED),
    "certificate": Failure(H, Kind.CERTIFICATE),
    "certificate expired": Failure(H, Kind.EXPIRED),
    "certificate not yet valid": Failure(H, Kind.NOT_YET_VALID),
    "certificate name": Failure(H, Kind.WRONG_NAME),
    "no tls": Failure(H, Kind.NOT_TLS),
    "tls version": Failure(H, Kind.TLS_VERSION),
    "tls": Failure(H, Kind.TLS),
    "intercepted": Failure(H, Kind.STATUS, 302),
    "credential refused": Failure(H, Kind.STATUS, 401),
    "quota": Failure(H, Kind.STATUS, 429),
    "billing": Failure(S, Kind.CLOSED, 1011, "monthly spending cap"),
    "region refused": Failure(S, Kind.CLOSED, 1007, "User location is not supported"),
    "endpoint not found": Failure(H, Kind.STATUS, 404),
    "model refused": Failure(S, Kind.CLOSED, 1008, "x is not found for API version v1"),
    "setup refused": Failure(S, Kind.CLOSED, 1007, "Request contains an invalid argument."),
    "request refused": Failure(H, Kind.STATUS, 400),
    "aborted": Failure(S, Kind.CLOSED, 1008, "The operation was aborted."),
    "overloaded": Failure(H, Kind.STATUS, 503),
    "service error": Failure(S, Kind.CLOSED, 1011, "Internal error encountered."),
    "going away": Failure(S, Kind.CLOSED, 1001),
    "closed": Failure(S, Kind.CLOSED, 1000),
    "connection lost": Failure(S, Kind.DROPPED, 1006),
    "unusable frames": Failure(S, Kind.PROTOCOL, 1002),
}
# Only a connection that stood, or one with a handle, ends so.
LATER = {"closed by us", "handle refused", "mute", "go away", "refused"}


def wall_for(name: str) -> WallTime:
    """The clock under which a failure has this cause."""
    return UNSET if name == "clock not set" else SET


def test_the_grid_is_whole() -> None:
    """Every cause has its failure here, and none stands twice."""
    assert set(DIALS) | LATER == set(BY_NAME)
    assert len(BY_NAME) == len(CAUSES)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", DIALS)
def test_journal_status_and_doctor_agree(name: str, own: bool) -> None:
    """One failure, everywhere the same cause and the same remedy, and the policy of the table."""
    failure, cause = DIALS[name], BY_NAME[name]
    world = World(settings(base_url="https://speaker.example") if own else None)
    world.wall = wall_for(name)
    world.start()
    began_s = world.now
    world.end(failure)

    (told,) = world.told(e.Disconnected)
    status = world.conversation.status(world.now, world.wall)
    assert (told.cause, status.trouble) == (name, name)
    assert told.remedy == status.remedy != ""
    refused = world.told(e.Refused)
    assert bool(refused) == (cause.action is Handling.FATAL)
    assert all((one.cause, one.remedy) == (name, told.remedy) for one in refused)

    finding = judge_session(world.settings, failure, world.wall)
    assert (finding.result, finding.figures["kind"]) == (Result.FAIL, name)
    assert told.remedy.endswith(finding.remedy)
    assert failure.reason in finding.cause
    by_daemon = session_of_status(
        {"session": {"connected": False, "trouble": name, "remedy": told.remedy, "retry_in_s": 1}}
    )
    assert by_daemon is not None
    assert by_daemon.remedy == told.remedy

    wait_s = told.retry_in_s
    assert wait_s == pytest.approx((status.retry_in_s or 0.0), abs=1.0)
    if cause.action is Handling.FATAL:
        assert 54.0 <= wait_s <= FATAL_INTERVAL_S * 1.1
    if cause.action is Handling.QUOTA:
        assert wait_s >= 5.0
    if cause.action is Handling.RETRY:
        assert cause.interval_s * 0.9 <= wait_s <= 60.0
    assert world.now == began_s


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_each_cause_is_complete(cause: Cause) -> None:
    """It says what it is, what to do, and has a clip; a variable is named in its place."""
    assert cause.meaning
    assert cause.remedy
    assert voice_of(cause.name) in SPOKEN
    assert policy_text(cause)
    for own in (False, True):
        assert "{" not in cause.remedy_for(own_endpoint=own, variable="")
    assert cause.interval_s >= 60.0 or cause.action is not Handling.FATAL
    if "{variable}" in cause.remedy:
        assert "all_proxy" in cause.remedy_for(own_endpoint=False, variable="all_proxy")


def test_different_causes_say_different_things() -> None:
    """A cause is never reported as another's."""
    assert len({cause.meaning for cause in CAUSES}) == len(CAUSES)
    assert voice_of("nothing of the kind") == "reconnecting"


def test_speech_does_not_hurry_a_clock() -> None:
    """An expired certificate under an unset clock is dialled calmly, whoever speaks."""
    world = World()
    world.wall = UNSET
    world.start()
    world.end(DIALS["clock not set"])
    before = world.conversation.status(world.now, world.wall).retry_in_s
    world.speak()
    after = world.conversation.status(world.now, world.wall).retry_in_s
    assert before is not None
    assert before >= 25.0
    assert after is not None
    assert after >= before - 5.0
    verdict = classify(DIALS["dns"], with_handle=False, clock_synchronised=False)
    assert not verdict.patient


def test_the_docs_have_the_table() -> None:
    """docs/user/troubleshooting.md is written from it (`make docs`)."""
    page = PAGE.read_text(encoding="utf-8")
    written = page.split(BEGIN)[1].split(END)[0].strip()
    assert written == markdown_table().strip()
