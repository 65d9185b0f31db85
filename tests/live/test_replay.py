"""The outbox and the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agentd.events import EndReason, UtteranceEnded
from agentd.live.messages import (
    ActivityEnd,
    ActivityStart,
    ClientContent,
    Content,
    RealtimeAudio,
    ResumptionUpdate,
    ToolResponse,
    size_bytes,
)
from agentd.live.replay import (
    MAX_FAILURES,
    MAX_INDEXES,
    MAX_TEXTS,
    Outbox,
    Sent,
    SentLog,
    Typed,
    Utterance,
    without_stale,
)
from tests.live.world import DROPPED, World, settings

SECOND = 32_000


def utterance(number: int, *, ended_s: float | None = None, seconds: float = 1.0) -> Utterance:
    """An utterance, ended or not."""
    item = Utterance(number, number, bytearray(int(seconds * SECOND)))
    if ended_s is not None:
        item.end = UtteranceEnded(number, ended_s, 0.0, EndReason.HANGOVER)
        item.ended_at_s = ended_s
    return item


def outbox(max_age_s: float = 20.0, max_bytes: int = 100 * SECOND) -> Outbox:
    """An outbox."""
    return Outbox(max_age_s=max_age_s, max_bytes=max_bytes)


def test_speech_expires_by_its_end() -> None:
    """Twenty seconds after the last word it is too old; while spoken it is never."""
    kept = outbox()
    kept.add(utterance(1, ended_s=0.0))
    kept.add(utterance(2))
    assert kept.next_expiry_s(live=False) == 20.0
    assert kept.expire(19.9, live=False) == ([], [])
    lost, given_up = kept.expire(20.0, live=False)
    assert [(item.utterance, item.audio_ms, item.age_s) for item in lost] == [(1, 1000.0, 20.0)]
    assert given_up == []
    assert [item.turn for item in kept] == [2]
    assert kept.next_expiry_s(live=False) is None


def test_what_is_on_its_way_does_not_expire() -> None:
    """But it does when its connection is gone."""
    kept = outbox()
    item = utterance(1, ended_s=0.0)
    item.opened = True
    kept.add(item)
    assert kept.next_expiry_s(live=True) is None
    assert kept.expire(100.0, live=True) == ([], [])
    lost, _ = kept.expire(100.0, live=False)
    assert len(lost) == 1


def test_a_delivered_question_is_given_up_not_lost() -> None:
    """It did arrive; only the answer is missing."""
    kept = outbox()
    item = utterance(1, ended_s=0.0)
    item.done = True
    kept.add(item)
    assert kept.expire(100.0, live=True) == ([], [item])


def test_typed_questions_expire_and_context_keeps() -> None:
    """A question wants an answer soon; a fact stays true."""
    kept = outbox()
    question, fact = Typed("q", True, 1, 0.0), Typed("f", False, 0, 0.0)
    kept.add(question)
    kept.add(fact)
    assert kept.expire(100.0, live=True) == ([], [question])
    assert list(kept) == [fact]


def test_the_ring_is_bounded_by_bytes() -> None:
    """The oldest without an answer goes and is announced; the open one stays."""
    kept = outbox(max_bytes=3 * SECOND)
    done = utterance(1, ended_s=5.0)
    done.done = True
    kept.add(done)
    kept.add(utterance(2, ended_s=6.0))
    speaking = utterance(3)
    assert kept.add(speaking) == []
    assert [item.utterance for item in kept.extend(speaking, bytes(SECOND))] == [1]
    assert [item.utterance for item in kept.extend(speaking, bytes(SECOND))] == [2]
    assert kept.extend(speaking, bytes(5 * SECOND)) == []
    assert list(kept) == [speaking]
    assert kept.open is speaking


def test_texts_are_bounded() -> None:
    """Nobody can fill the memory through the control socket."""
    kept = outbox()
    for _ in range(MAX_TEXTS):
        assert not kept.full_of_texts
        kept.add(Typed("x", True, 1, 0.0))
    assert kept.full_of_texts
    assert len(kept) == MAX_TEXTS


def test_the_open_utterance_is_found_behind_a_text() -> None:
    """Somebody types while somebody speaks."""
    kept = outbox()
    speaking = utterance(1)
    kept.add(speaking)
    kept.add(Typed("x", True, 2, 0.0))
    assert kept.open is speaking
    assert kept.first_pending() is speaking
    assert outbox().open is None


def test_rewinding_makes_everything_new() -> None:
    """A new connection knows nothing of what was sent."""
    kept = outbox()
    item, text = utterance(1, ended_s=0.0), Typed("x", True, 2, 0.0)
    item.sent, item.opened, item.done, text.done = 500, True, True, True
    kept.add(item)
    kept.add(text)
    kept.rewind()
    assert (item.sent, item.opened, item.done, item.waited) == (0, False, False, True)
    assert (text.done, text.waited) == (False, True)


def test_what_breaks_every_connection_is_given_up() -> None:
    """Speech that the service hangs up on four times is announced lost, a text handed back."""
    kept = outbox()
    item, text = utterance(1, ended_s=0.0), Typed("x", True, 2, 0.0)
    item.failures = text.failures = MAX_FAILURES - 1
    fine = utterance(3, ended_s=0.0)
    for each in (item, text, fine):
        kept.add(each)
    item.opened, text.done = True, True
    kept.blame()
    assert (item.failures, text.failures, fine.failures) == (MAX_FAILURES, MAX_FAILURES, 0)
    lost, texts = kept.drop_worn(1.0)
    assert [one.utterance for one in lost] == [1]
    assert texts == [text]
    assert list(kept) == [fine]


def test_clearing_announces_what_was_not_delivered() -> None:
    """Delivered speech and texts go silently."""
    kept = outbox()
    done = utterance(1, ended_s=0.0)
    done.done = True
    for each in (done, utterance(2), Typed("x", True, 2, 0.0)):
        kept.add(each)
    assert [item.utterance for item in kept.clear(1.0, "muted")] == [2]
    assert len(kept) == 0
    assert kept.extend(utterance(3), b"") == []


# ── the log ───────────────────────────────────────────────────────────────────────────────────


def filled_log(count: int = 5) -> SentLog:
    """A log with `count` messages on its first connection."""
    log = SentLog(max_bytes=10_000)
    log.begin_connection(0)
    for number in range(count):
        log.record(RealtimeAudio(bytes([number])), 1)
    return log


def test_the_setup_is_index_zero() -> None:
    """The first message after it is 1; what lies beyond is no index."""
    log = filled_log(3)
    assert [log.position(index) for index in (0, 1, 3)] == [0, 1, 3]
    assert [log.position(index) for index in (None, -1, 4)] == [None, None, None]


def test_the_rest_follows_the_consumed_index() -> None:
    """Everything after it, in order, nothing before it."""
    log = filled_log(5)
    found = log.after(log.position(3))
    assert found is not None
    assert [sent.message for sent in found] == [RealtimeAudio(b"\x03"), RealtimeAudio(b"\x04")]
    assert log.after(None) is None


def test_indices_count_anew_on_every_connection() -> None:
    """What is sent again comes first and keeps its position."""
    log = filled_log(3)
    log.begin_connection(1)
    for sent in log.after(1) or []:
        log.record_again(sent)
    log.record(ActivityEnd(), 1)
    assert [log.position(index) for index in range(4)] == [1, 2, 3, 4]
    assert log.end == 4


def test_what_all_handles_contain_is_forgotten() -> None:
    """And older handles cannot be used for index replay any more."""
    log = filled_log(5)
    log.forget_until(3)
    log.forget_until(1)
    assert log.after(2) is None
    assert [sent.position for sent in log.after(3) or []] == [4, 5]


def test_the_log_is_bounded() -> None:
    """The oldest go."""
    log = SentLog(max_bytes=5 * size_bytes(RealtimeAudio(bytes(100))))
    log.begin_connection(0)
    for _ in range(10):
        log.record(RealtimeAudio(bytes(100)), 1)
    assert log.after(0) is None
    assert len(log.after(5) or []) == 5


def test_answers_to_calls_take_room_in_the_log() -> None:
    """Whatever is kept counts by what it says, not only sound."""
    log = SentLog(max_bytes=100_000)
    for _ in range(100):
        log.record(ToolResponse("c", "f", {"result": "x" * 10_000}), None)
    assert log.after(90) is None
    assert log.after(99) == []


def test_the_index_is_bounded() -> None:
    """After so many messages on one connection an index means nothing; no position is guessed."""
    log = SentLog(max_bytes=1000)
    for _ in range(MAX_INDEXES + 10):
        log.record(ActivityEnd(), 1)
    assert log.position(MAX_INDEXES - 1) == MAX_INDEXES - 1
    assert log.position(MAX_INDEXES) is None


def test_tool_responses_are_not_sent_again() -> None:
    """A resumed session ignores results of calls it did not make."""
    log = filled_log(0)
    log.record(ToolResponse("1", "f", {}), None)
    log.record(ClientContent((Content("user", "hi"),), turn_complete=True), None)
    assert [type(sent.message) for sent in log.after(0) or []] == [ClientContent]


def test_muting_leaves_the_frame_of_an_activity() -> None:
    """No sound is sent again, but no activity stays open either."""
    log = filled_log(0)
    for message in (ActivityStart(), RealtimeAudio(b"ab"), ActivityEnd()):
        log.record(message, 1)
    log.drop_audio()
    assert [type(sent.message) for sent in log.after(0) or []] == [ActivityStart, ActivityEnd]


def test_a_cleared_log_serves_no_old_handle() -> None:
    """Only handles from now on."""
    log = filled_log(3)
    log.clear()
    assert log.after(2) is None
    assert log.after(3) == []


def sent(*messages: object, utterance: int = 1) -> list[Sent]:
    """Log entries of one utterance."""
    return [Sent(n, message, utterance) for n, message in enumerate(messages, 1)]  # type: ignore[arg-type]


def test_stale_speech_leaves_no_activity_open() -> None:
    """Its end is kept exactly if its start is part of the resumed state."""
    whole = sent(ActivityStart(), RealtimeAudio(b"ab"), ActivityEnd())
    assert without_stale(whole, {1}) == []
    assert without_stale(whole, {2}) == whole
    rest = sent(RealtimeAudio(b"ab"), ActivityEnd())
    assert [type(one.message) for one in without_stale(rest, {1})] == [ActivityEnd]


# ── index replay, whole conversations ─────────────────────────────────────────────────────────


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pieces"), st.integers(1, 15)),
        st.tuples(st.just("handle"), st.integers(0, 8)),
        st.tuples(st.just("break"), st.integers(0, 6)),
        st.tuples(st.just("next"), st.just(0)),
        st.tuples(st.just("say"), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)


@given(STEPS)
@hypothesis_settings(max_examples=400)
def test_index_replay_is_exact(steps: list[tuple[str, int]]) -> None:
    """With indices, the session at the service holds every utterance once, whole and in order.

    However the consumed index lags, and however often the connection breaks in between.
    """
    world = World(settings(backend="vertex", project="p", network__replay_max_age_s=300.0))
    world.online()
    world.handle_update()
    world.begin()
    for step, number in steps:
        if step == "pieces":
            for _ in range(number):
                world.go_on()
        elif step == "handle":
            world.handle_update(number)
        elif step == "next":
            world.finish()
            world.begin()
        elif step == "say":
            world.give_say()
        else:
            world.end(DROPPED)
            for _ in range(number):
                world.go_on()
            world.reconnect()
    world.finish()
    heard = world.heard_by(world.wire)
    expected = b"".join(bytes(spoken.pcm) for spoken in world.spoken)
    assert heard == expected
    starts = [m for m in world.wire.known if isinstance(m, ActivityStart)]
    ends = [m for m in world.wire.known if isinstance(m, ActivityEnd)]
    assert len(starts) == len(ends) == len(world.spoken)


def test_without_an_index_the_ring_takes_over() -> None:
    """A service that tells no index gets whole utterances, and nothing twice."""
    world = World(settings(backend="vertex", project="p"))
    world.online()
    world.indexed = False
    world.receive(resumption=ResumptionUpdate("h", resumable=True))
    spoken = world.speak(10, end=False)
    world.end(DROPPED)
    world.reconnect()
    world.finish()
    assert world.heard_by(world.wire) == bytes(spoken.pcm)
