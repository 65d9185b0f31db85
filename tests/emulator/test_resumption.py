"""What survives a connection: handles, snapshots, transparent indices, limits, compression."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_emulator.clock import ManualClock
from live_emulator.handshake import AuthForm, Credential
from live_emulator.models import Backend
from live_emulator.options import EmulatorOptions
from live_emulator.sessions import (
    HandleState,
    HistoryTurn,
    SessionStore,
    audio_tokens,
    compress,
    text_tokens,
)
from tests.emulator.harness import (
    Peer,
    blob,
    handles,
    kinds,
    make_service,
    reply_pcm,
    silence,
    voice,
)

V25 = "gemini-2.5-flash-native-audio-preview-12-2025"
VERTEX_MODEL = "gemini-live-2.5-flash-native-audio"
RESUME: dict[str, Any] = {"sessionResumption": {}}
NO_LIMITS: dict[str, Any] = {"connection_limits": False}


def with_handle(handle: str, **more: Any) -> dict[str, Any]:
    return {"sessionResumption": {"handle": handle, **more}}


def talked(backend: Backend = Backend.DEVELOPER, model: str = V25, **options: Any) -> Peer:
    """A connection that had one turn and holds a handle."""
    peer = Peer(backend=backend, **options)
    peer.setup(model, **RESUME)
    peer.turn()
    return peer


def test_a_handle_brings_the_session_back() -> None:
    """The next connection continues with the same history."""
    first = talked()
    (handle,) = handles(first.frames)
    first.hang_up()
    second = first.again()
    assert kinds(second.setup(V25, **with_handle(handle))) == ["setupComplete"]
    assert second.core.session is first.core.session
    assert second.noted("session")[0]["resumed"] is True
    session = second.core.session
    assert session is not None
    assert [t.role for t in session.history] == ["user", "model"]


def test_an_older_handle_loses_what_came_later() -> None:
    """A handle is a snapshot: resuming it goes back to that moment."""
    first = talked()
    first.turn()
    old, _ = handles(first.frames)
    first.hang_up()
    second = first.again()
    second.setup(V25, **with_handle(old))
    session = second.core.session
    assert session is not None
    assert len(session.history) == 2
    assert session.user_turns == 1


def test_updates_while_generating_are_empty() -> None:
    """There is no resuming while the model generates; false vanishes on the wire."""
    peer = Peer()
    peer.setup(V25, **RESUME)
    peer.say()
    assert peer.frames[-1] == {"sessionResumptionUpdate": {}}
    peer.advance(60.0)
    assert set(peer.frames[-1]["sessionResumptionUpdate"]) == {"newHandle", "resumable"}


def test_a_link_lost_in_speech_loses_the_utterance() -> None:
    """Without indices the server discards a partial utterance; the client must replay it."""
    first = talked()
    first.start()
    first.send(blob(voice(0.5)))
    first.hang_up()
    assert (first.utterances[-1].complete, first.utterances[-1].seconds) == (False, 0.5)
    second = first.again()
    second.setup(V25, **with_handle(handles(first.frames)[-1]))
    assert second.core.engine is not None
    assert not second.core.engine.ear.listening


def test_a_link_lost_in_an_answer_loses_that_turn() -> None:
    """The newest handle is older than the question, so the question is gone too."""
    first = talked()
    first.say()
    first.advance(0.3)
    first.hang_up()
    second = first.again()
    second.setup(V25, **with_handle(handles(first.frames)[-1]))
    session = second.core.session
    assert session is not None
    assert session.user_turns == 1


@pytest.mark.parametrize(
    ("backend", "model", "handle", "code", "reason"),
    [
        (Backend.DEVELOPER, V25, "nope", 1007, "Invalid session handle"),
        (Backend.VERTEX, VERTEX_MODEL, "nope", 1008, "Requested entity was not found."),
    ],
)
def test_unknown_handles(backend: Backend, model: str, handle: str, code: int, reason: str) -> None:
    """A handle nobody issued."""
    peer = Peer(backend=backend)
    peer.setup(model, **with_handle(handle))
    assert peer.closes == [(code, reason)]


def test_handles_live_two_hours_after_the_last_connection() -> None:
    """The Developer API keeps a handle for 2 h after the session's last connection ended."""
    for waited, closes in (
        (7_199.0, []),
        (7_201.0, [(1008, "BidiGenerateContent session not found")]),
    ):
        first = talked(**NO_LIMITS)
        first.advance(10_000.0)
        first.hang_up()
        first.advance(waited)
        second = first.again()
        second.setup(V25, **with_handle(handles(first.frames)[-1]))
        assert second.closes == closes
        third = first.again(3)
        third.setup(V25, **with_handle(handles(first.frames)[-1]))
        assert third.closes == (closes or [(1011, "Internal error encountered.")])


def test_vertex_handles_live_a_day_unless_told_otherwise() -> None:
    """24 h on Vertex; a knob for both."""
    assert EmulatorOptions().handle_lifetime(Backend.VERTEX) == 86_400.0
    assert EmulatorOptions(handle_lifetime_s=600.0).handle_lifetime(Backend.VERTEX) == 600.0


def test_expire_handles_on_demand() -> None:
    """The fault expires every handle issued so far."""
    first = talked()
    first.hang_up()
    assert first.service.store.expire_all() == 1
    second = first.again()
    second.setup(V25, **with_handle(handles(first.frames)[-1]))
    assert second.closes == [(1008, "BidiGenerateContent session not found")]


def test_only_the_newest_handles_are_kept() -> None:
    """Beyond handles_kept the oldest expire."""
    first = talked(handles_kept=2)
    first.turn()
    first.turn()
    first.hang_up()
    store, now = first.service.store, first.clock.now()
    states = [store.find(handle, now)[0] for handle in handles(first.frames)]
    assert states == [HandleState.EXPIRED, HandleState.GOOD, HandleState.GOOD]


def test_a_handle_of_the_other_backend_is_unknown() -> None:
    """Sessions do not cross backends."""
    first = talked()
    first.hang_up()
    other = Peer(first.service, first.clock, Backend.VERTEX, 2)
    other.setup(VERTEX_MODEL, **with_handle(handles(first.frames)[-1]))
    assert other.closes == [(1008, "Requested entity was not found.")]


def test_a_handle_with_another_model_loops_or_is_refused() -> None:
    """As reported: setupComplete, then 1011; or 1007 by knob."""
    first = talked()
    first.hang_up()
    second = first.again()
    assert kinds(second.setup("gemini-3.8-live", **with_handle(handles(first.frames)[-1]))) == [
        "setupComplete"
    ]
    assert second.closes[0][0] == 1011
    strict = talked(model_mismatch="reject_1007")
    strict.hang_up()
    third = strict.again()
    assert third.setup("gemini-3.8-live", **with_handle(handles(strict.frames)[-1])) == []
    assert third.closes[0][0] == 1007


def test_resuming_while_the_old_connection_is_open() -> None:
    """Refused with 1011; by knob taken over or allowed."""
    outcomes = {}
    for knob in ("refuse", "takeover", "allow"):
        first = talked(resume_while_open=knob)
        second = first.again()
        second.setup(V25, **with_handle(handles(first.frames)[-1]))
        dropped = [e.numbers for e in second.effects if type(e).__name__ == "DropConnections"]
        outcomes[knob] = ([code for code, _ in second.closes], dropped)
    assert outcomes == {"refuse": ([1011], []), "takeover": ([], [(1,)]), "allow": ([], [])}


@pytest.mark.parametrize(
    ("mode", "at_setup", "after_turn"),
    [
        ("close", [], [(1011, "Internal error encountered.")]),
        ("mute", [], []),
        ("reject_1007", [(1007, "Invalid session handle")], []),
        ("reject_1008", [(1008, "BidiGenerateContent session not found")], []),
    ],
)
def test_poisoned_handles(mode: str, at_setup: list[Any], after_turn: list[Any]) -> None:
    """A poisoned handle is refused, or accepted and then closed or ignored at the first turn."""
    from live_emulator.sessions import Poison

    first = talked()
    first.hang_up()
    first.service.store.poison = Poison(mode)
    second = first.again()
    frames = second.setup(V25, **with_handle(handles(first.frames)[-1]))
    assert second.closes == at_setup
    if not at_setup:
        assert kinds(frames) == ["setupComplete"]
        assert second.turn() == []
        assert second.closes == after_turn
    fresh = first.again(3)
    fresh.setup(V25, **RESUME)
    assert "turnComplete" in kinds(fresh.turn())


def test_seeding_on_top_of_a_handle_closes_1007() -> None:
    """Reseeding history on a resumed session is refused."""
    first = talked()
    first.hang_up()
    second = first.again()
    seed = {"historyConfig": {"initialHistoryInClientContent": True}}
    second.setup(V25, **with_handle(handles(first.frames)[-1]), **seed)
    second.send({"client_content": {"turns": [], "turnComplete": True}})
    assert second.closes[0][0] == 1007


def test_the_instruction_may_change_on_resume() -> None:
    """A resumed setup may bring a new system instruction; without one the old one stays."""
    peer = Peer()
    peer.setup(V25, **RESUME, systemInstruction={"parts": [{"text": "old"}]})
    peer.turn()
    peer.hang_up()
    second = peer.again()
    second.setup(V25, **with_handle(handles(peer.frames)[-1]))
    session = second.core.session
    assert session is not None
    assert session.system_instruction == "old"
    second.hang_up()
    third = peer.again(3)
    third.setup(
        V25, **with_handle(handles(peer.frames)[-1]), systemInstruction={"parts": [{"text": "new"}]}
    )
    assert session.system_instruction == "new"


def test_handles_can_come_at_setup_and_periodically() -> None:
    """Cadence is a knob: the real one is unpublished."""
    peer = Peer(handle_on_setup=True, handle_interval_s=10.0)
    peer.setup(V25, **RESUME)
    assert len(handles(peer.frames)) == 1
    peer.advance(30.5)
    assert len(handles(peer.frames)) == 4


# -- transparent mode -------------------------------------------------------------------------


def indices(frames: list[dict[str, Any]]) -> list[str]:
    updates = [f.get("sessionResumptionUpdate", {}) for f in frames]
    return [
        u["lastConsumedClientMessageIndex"]
        for u in updates
        if "lastConsumedClientMessageIndex" in u
    ]


def transparent(peer: Peer, handle: str = "") -> None:
    wanted = {"transparent": True} | ({"handle": handle} if handle else {})
    peer.setup(VERTEX_MODEL, sessionResumption=wanted)


def test_indices_count_from_the_setup_frame() -> None:
    """Setup is 0, the next message 1; the index travels as a string, at its own cadence."""
    peer = Peer(backend=Backend.VERTEX, index_interval_s=1.0)
    transparent(peer)
    peer.start()
    peer.send(blob(voice(0.1)))
    assert indices(peer.frames) == []
    peer.advance(1.0)
    assert indices(peer.frames) == ["2"]
    peer.advance(5.0)
    assert indices(peer.frames) == ["2"]
    peer.send(blob(voice(0.1)))
    peer.end()
    peer.advance(60.0)
    assert indices(peer.frames) == ["2", "4"]


def test_a_resumed_transparent_session_goes_on_mid_word() -> None:
    """What was consumed up to the told index is kept; the client sends only the rest."""
    pcm = voice(1.0)
    peer = Peer(backend=Backend.VERTEX, index_interval_s=0.1)
    transparent(peer)
    peer.start()
    peer.send(blob(pcm[:16_000]))
    peer.advance(0.2)
    assert indices(peer.frames) == ["2"]
    peer.send(blob(pcm[16_000:24_000]))  # consumed, but not yet told
    handle = handles(peer.frames)[-1]
    peer.hang_up()
    second = peer.again()
    transparent(second, handle)
    second.send(blob(pcm[16_000:24_000]))
    second.send(blob(pcm[24_000:]))
    second.end()
    assert second.utterances[-1].pcm == pcm
    second.advance(60.0)
    assert len(reply_pcm(second.frames)) == 48_000
    assert indices(second.frames)[0] == "3"


def test_a_client_that_replays_the_whole_utterance_is_understood() -> None:
    """ActivityStart right after a resume replaces the partial utterance."""
    peer = Peer(backend=Backend.VERTEX, index_interval_s=0.0)
    transparent(peer)
    peer.start()
    peer.send(blob(voice(0.5)))
    peer.advance(0.0)
    peer.hang_up()
    second = peer.again()
    transparent(second, handles(peer.frames)[-1])
    pcm = second.say(1.0)
    assert second.utterances[-1].pcm == pcm


def test_messages_not_yet_consumed_are_lost_with_the_link() -> None:
    """With a lag, what had not been consumed when the link died never happened."""
    peer = Peer(backend=Backend.VERTEX, index_interval_s=0.0, consume_lag_s=1.0)
    transparent(peer)
    peer.start()
    peer.advance(0.6)
    peer.send(blob(voice(0.2)))
    peer.advance(0.6)
    assert indices(peer.frames) == ["1"]
    peer.hang_up()
    second = peer.again()
    transparent(second, handles(peer.frames)[-1])
    engine = second.core.engine
    assert engine is not None
    assert engine.ear.listening
    assert engine.session.partial is not None
    assert engine.session.partial.pcm == b""


def test_no_index_without_transparent() -> None:
    """Plain resumption carries no index."""
    assert indices(talked(Backend.VERTEX, VERTEX_MODEL).frames) == []


# -- limits -----------------------------------------------------------------------------------


def test_developer_connections_end_at_590_s() -> None:
    """GoAway 50s at 540 s, close 1008 with the real reason 50.4 s later, cut at 123 bytes."""
    peer = Peer()
    peer.setup(V25, **RESUME)
    assert kinds(peer.advance(540.0)) == ["goAway"]
    assert peer.frames[-1] == {"goAway": {"timeLeft": "50s"}}
    peer.advance(50.3)
    assert peer.closes == []
    peer.advance(0.2)
    ((code, reason),) = peer.closes
    assert code == 1008
    assert reason.endswith("GoAway signal once the session durat")
    assert len(reason) == 123


def test_vertex_connections_end_at_600_s() -> None:
    """GoAway 60 s before the end."""
    peer = Peer(backend=Backend.VERTEX)
    peer.setup(VERTEX_MODEL, **RESUME)
    peer.advance(540.0)
    assert peer.frames[-1] == {"goAway": {"timeLeft": "60s"}}
    peer.advance(61.0)
    assert peer.closes[0][0] == 1008


def test_the_announced_time_is_the_client_s() -> None:
    """With a scaled clock timeLeft is divided too, so that the client is told the truth."""
    clock = ManualClock()
    service = make_service(clock)
    scaled = replace(service, real_s=lambda s: s / 60)
    peer = Peer(scaled, clock)
    peer.setup(V25)
    peer.advance(541.0)
    assert peer.frames[-1] == {"goAway": {"timeLeft": "0.833s"}}


def test_a_session_without_compression_ends_after_15_minutes() -> None:
    """Across connections; with compression it does not."""
    first = talked()
    first.advance(500.0)
    first.hang_up()
    second = first.again()
    second.setup(V25, **with_handle(handles(first.frames)[-1]))
    second.advance(300.0)
    assert second.kinds == ["setupComplete", "goAway"]
    second.advance(60.0)
    assert second.closes[0][0] == 1008
    roomy = Peer()
    roomy.setup(V25, **RESUME, contextWindowCompression={"slidingWindow": {}})
    roomy.advance(539.0)
    assert roomy.kinds == ["setupComplete"]


def test_limits_can_be_switched_off() -> None:
    """connection_limits=False never says goAway; session_limit_s=0 lifts the session's."""
    peer = Peer(**NO_LIMITS)
    peer.setup(V25)
    assert peer.advance(100_000.0) == []
    assert EmulatorOptions(session_limit_s=0.0).session_limit() is None
    custom = Peer(go_away_after_s=5.0, go_away_time_left_s=2.0, session_limit_s=0.0)
    custom.setup(V25)
    custom.advance(5.0)
    assert custom.frames[-1] == {"goAway": {"timeLeft": "2s"}}


def test_idle_connections_are_aborted_by_knob() -> None:
    """1008 "The operation was aborted." after a time without messages."""
    peer = Peer(idle_limit_s=60.0)
    peer.setup(V25)
    peer.advance(50.0)
    peer.start()
    peer.advance(50.0)
    assert peer.closes == []
    peer.advance(10.0)
    assert peer.closes == [(1008, "The operation was aborted.")]


def test_concurrent_sessions_are_limited_by_knob() -> None:
    """1011 with the resource-exhausted reason."""
    first = Peer(max_sessions=1)
    first.setup(V25)
    second = first.again()
    second.setup(V25)
    ((code, reason),) = second.closes
    assert code == 1011
    assert "RESOURCE_EXHAUSTED: Maximum concurrent se" in reason
    first.hang_up()
    third = first.again(3)
    assert kinds(third.setup(V25)) == ["setupComplete"]


@pytest.mark.parametrize(
    ("credential", "code", "part"),
    [
        (Credential(AuthForm.API_KEY, "bad"), 1007, "API key not valid"),
        (Credential(AuthForm.BEARER, "bad"), 1008, "authentication"),
    ],
)
def test_wrong_credentials_at_setup(credential: Credential, code: int, part: str) -> None:
    """A wrong key closes 1007 at setup; a wrong bearer token 1008 by knob."""
    peer = Peer(credential=credential, accept_credentials=frozenset({"good"}))
    peer.setup(V25)
    assert peer.closes[0][0] == code
    assert part in peer.closes[0][1]
    good = Peer(
        credential=Credential(AuthForm.API_KEY, "good"), accept_credentials=frozenset({"good"})
    )
    assert kinds(good.setup(V25)) == ["setupComplete"]


# -- the context window -----------------------------------------------------------------------


def test_tokens_are_25_per_second() -> None:
    """Live API docs."""
    assert (audio_tokens(60.0), text_tokens(""), text_tokens("abcde")) == (1_500, 0, 2)


def test_compression_drops_the_oldest_turns_at_the_trigger() -> None:
    """Past the trigger the window is cut down to the target, at a user turn."""
    peer = Peer(**NO_LIMITS, reply="tone", tone_s=0.04)
    peer.setup(
        V25,
        contextWindowCompression={
            "triggerTokens": 5_000,
            "slidingWindow": {"targetTokens": 1_000},
        },
    )
    session = peer.core.session
    assert session is not None
    for _ in range(6):
        peer.say(pcm=silence(40.0))  # 1,000 tokens in, 1 out
        peer.advance(60.0)
    assert session.compressions == 1
    assert peer.noted("compressed") == [{"before_tokens": 5_004, "after_tokens": 1_000}]
    assert session.history[0].role == "user"
    assert session.context_tokens <= 5_000


def test_an_overflowing_window_closes_1007() -> None:
    """Without compression the window overflows with an invalid argument."""
    from live_emulator.models import ModelInfo

    tiny = ModelInfo("tiny", window_tokens=60)
    peer = Peer(extra_models={"tiny": tiny})
    peer.setup("tiny")
    peer.turn(1.0)
    assert peer.closes == []
    peer.say(1.0)
    assert peer.closes == [(1007, "Request contains an invalid argument.")]
    assert peer.noted("context_exhausted")


@given(
    st.lists(st.tuples(st.sampled_from(["user", "model"]), st.integers(0, 300)), max_size=30),
    st.integers(0, 100),
    st.integers(1, 2_000),
    st.integers(0, 1_999),
)
def test_compression_always_keeps_a_user_turn_first(
    turns: list[tuple[str, int]], overhead: int, trigger: int, target: int
) -> None:
    """A cut window is a suffix, begins with a user turn, and holds the last one."""
    history = tuple(HistoryTurn(role, audio_tokens=tokens) for role, tokens in turns)
    kept = compress(history, overhead, trigger, target)
    assert kept == history[len(history) - len(kept) :]
    if kept != history:
        assert kept[0].role == "user"
        smaller = overhead + sum(t.tokens for t in kept)
        last_user = max(n for n, t in enumerate(history) if t.role == "user")
        assert smaller <= target or kept == history[last_user:]


def test_a_window_that_overflows_with_the_answer_closes_too() -> None:
    """The answer counts as well: it is checked once it was spoken."""
    from live_emulator.models import ModelInfo

    peer = Peer(extra_models={"tiny": ModelInfo("tiny", window_tokens=30)})
    peer.setup("tiny")
    peer.turn(1.0)
    assert peer.closes == [(1007, "Request contains an invalid argument.")]


def test_a_window_without_a_user_turn_cannot_be_cut() -> None:
    """There is nowhere to cut."""
    history = (HistoryTurn("model", audio_tokens=500),)
    assert compress(history, 0, 100, 10) == history


def test_two_connections_of_one_session() -> None:
    """The session ends with the last of its connections; a lost one takes no other's speech."""
    first = talked(resume_while_open="allow")
    second = first.again()
    second.setup(V25, **with_handle(handles(first.frames)[-1]))
    second.start()
    first.hang_up()
    session = second.core.session
    assert session is not None
    assert (session.ended_s, len(session.open_connections)) == (None, 1)
    second.hang_up()
    assert len(session.open_connections) == 0
    fresh = first.again(3)
    fresh.hang_up()


def test_a_handle_is_not_told_where_there_is_no_session_left() -> None:
    """The index timer of a turn under way leaves the telling to the turn's end."""
    peer = Peer(backend=Backend.VERTEX, index_interval_s=0.1, latency_s=1.0)
    transparent(peer)
    peer.say(0.2)
    peer.advance(0.5)
    assert indices(peer.frames) == []
    peer.advance(10.0)
    assert indices(peer.frames) == ["3"]


# -- persistence ------------------------------------------------------------------------------


def test_a_restarted_emulator_still_knows_the_handles() -> None:
    """Dump and load carry sessions, history and expiry over a restart."""
    peer = talked()
    handle = handles(peer.frames)[-1]
    peer.hang_up()
    fresh = peer.service.store.create(Backend.DEVELOPER, V25, 0.0)
    peer.service.store.issue(fresh, fresh.snapshot(with_partial=False))
    dumped = peer.service.store.dump(peer.clock.now(), 1_000.0)
    for away_s, state in ((60.0, HandleState.GOOD), (8_000.0, HandleState.EXPIRED)):
        store = SessionStore(EmulatorOptions().handle_lifetime)
        store.load(dumped, 0.0, 1_000.0 + away_s)
        found, session = store.find(handle, 0.0)
        assert found is state
        if session is not None:
            assert [t.role for t in session.history] == ["user", "model"]
    known = SessionStore(EmulatorOptions().handle_lifetime)
    known.load(dumped | {"expired": ["old"], "sessions": []}, 0.0, 0.0)
    assert known.find("old", 0.0)[0] is HandleState.EXPIRED
    with pytest.raises(ValueError, match="version"):
        SessionStore(EmulatorOptions().handle_lifetime).load(dumped | {"version": 9}, 0.0, 0.0)


def test_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old sessions without a connection are forgotten beyond the limit; open ones never."""
    monkeypatch.setattr("live_emulator.sessions.SESSIONS_KEPT", 3)
    crowded = SessionStore(EmulatorOptions().handle_lifetime)
    busy = crowded.create(Backend.DEVELOPER, "m", 0.0)
    state = busy.snapshot(with_partial=False)
    many = [crowded.issue(busy, state) for _ in range(40)]
    crowded.expire_all()
    assert crowded.find(many[0], 0.0)[0] is HandleState.UNKNOWN
    assert crowded.find(many[-1], 0.0)[0] is HandleState.EXPIRED
    assert crowded.dump(0.0, 0.0)["sessions"] == []
    store = SessionStore(EmulatorOptions().handle_lifetime)
    open_one = store.create(Backend.DEVELOPER, "m", 0.0)
    store.connected(open_one, 1)
    old = store.create(Backend.DEVELOPER, "m", 0.0)
    handle = store.issue(old, old.snapshot(with_partial=False))
    for _ in range(5):
        store.create(Backend.DEVELOPER, "m", 0.0)
    assert len(store.sessions) == 3
    assert open_one.id in store.sessions
    assert store.find(handle, 0.0)[0] is HandleState.UNKNOWN
    for session in list(store.sessions.values()):
        store.connected(session, 9)
    newest = store.create(Backend.DEVELOPER, "m", 0.0)
    assert len(store.sessions) == 4
    assert newest.id in store.sessions
