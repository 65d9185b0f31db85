"""Which settings need another connection, and which another session."""

from __future__ import annotations

import pytest

from agentd.live.capabilities import capabilities
from agentd.live.plan import differs, digest, identity, same_session
from tests.live.world import settings


@pytest.mark.parametrize(
    ("key", "value", "needs", "same"),
    [
        ("voice", "Puck", {"voice"}, True),
        ("system_instruction", "Sing.", {"system_instruction"}, True),
        ("model", "another", {"model"}, False),
        ("backend", "vertex", {"backend"}, False),
        ("base_url", "https://elsewhere", {"base_url"}, False),
        ("tools__enabled", False, {"tools"}, True),
        ("network__keepalive_s", 60.0, {"keepalive_s"}, True),
        ("reply_timeout_s", 30.0, set(), True),
        ("network__replay_max_age_s", 30.0, set(), True),
    ],
)
def test_differences(key: str, value: object, needs: set[str], same: bool) -> None:
    """The configuration may change on resume, what a handle is bound to may not."""
    before, after = settings(), settings(**{key: value})
    assert differs(before, after) == needs
    assert same_session(before, after) is same
    assert (identity(before, "") == identity(after, after.live.base_url or "")) is same


def test_identity_has_no_project_on_the_developer_api() -> None:
    """There the key implies it; a leftover setting must not spoil the handle."""
    assert identity(settings(project="x"), "") == identity(settings(), "")
    assert identity(settings(backend="vertex", project="x"), "") != identity(
        settings(backend="vertex", project="y"), ""
    )


def test_digest_tells_setups_apart() -> None:
    """The same setup has the same digest."""
    assert digest(settings(), None) == digest(settings(), None)
    assert len({digest(settings(), None), digest(settings(voice="Puck"), None)}) == 2
    assert digest(settings(), "other") != digest(settings(), None)


def test_capabilities() -> None:
    """The table, row by row."""
    assert capabilities("developer", "gemini-3.8-live").context_update
    assert capabilities("vertex", "gemini-3.8-live").tools_update
    assert capabilities("developer", "gemini-3.8-live-extended-thinking").tools_update
    assert not capabilities("developer", "gemini-3.1-flash-live-preview").tools_update
    assert capabilities("vertex", "gemini-3.8-live").system_role
    assert not capabilities("developer", "gemini-3.1-flash-live-preview").client_content
    native = capabilities("vertex", "publishers/google/models/gemini-live-2.5-flash-native-audio")
    assert native.hold_audio_during_calls
    assert native.transparent
    unknown = capabilities("developer", "something-new")
    assert unknown.client_content
    assert not unknown.transparent
