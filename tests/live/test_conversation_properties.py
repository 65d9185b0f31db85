"""What must hold whatever happens, in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agentd import events as e
from agentd.live import commands as c
from agentd.live.failures import Failure, Kind, Phase
from agentd.live.machine import HOLDING, State
from agentd.live.messages import (
    ActivityEnd,
    ActivityStart,
    ClientContent,
    FunctionCall,
    Interaction,
    RealtimeAudio,
    ResumptionUpdate,
    TranscriptPiece,
)
from agentd.live.turns import IN_PROGRESS_S
from tests.live.world import (
    BAD_KEY,
    DEAD_HANDLE,
    DROPPED,
    INTERNAL,
    NO_ROUTE,
    QUOTA,
    World,
    settings,
)

REASONS = [e.EndReason.HANGOVER] * 6 + list(e.EndReason)
FAILURES = [
    DROPPED,
    INTERNAL,
    QUOTA,
    Failure(Phase.LIVE, Kind.CLOSED, 1000),
    Failure(Phase.LIVE, Kind.CLOSED, 1008, "The operation was aborted."),
    Failure(Phase.LIVE, Kind.CLOSED, 1007, "Request contains an invalid argument."),
    Failure(Phase.LIVE, Kind.CLOSED, 1012),
    Failure(Phase.LIVE, Kind.PROTOCOL, 1009),
]
DIAL_FAILURES = [
    NO_ROUTE,
    BAD_KEY,
    QUOTA,
    DEAD_HANDLE,
    INTERNAL,
    Failure(Phase.SETUP, Kind.TIMEOUT),
    Failure(Phase.SETUP, Kind.CLOSED, 1007, "Invalid session handle"),
    Failure(Phase.HANDSHAKE, Kind.CERTIFICATE),
]

TOLD = [
    "",
    "",
    "NEED_MORE_INPUT",
    "RESPONSE_REJECTED",
    "MALFORMED_FUNCTION_CALL",
    "NEVER_SEEN_BEFORE",
]

SAID = {"user": "hello", "model": "hi", "at_unix_s": 1.8e9, "at_synchronised": True}

ACTIONS = st.one_of(
    st.tuples(st.just("speak"), st.integers(0, 12), st.sampled_from(REASONS)),
    st.tuples(st.just("begin")),
    st.tuples(st.just("go_on"), st.integers(1, 20)),
    st.tuples(st.just("finish"), st.sampled_from(REASONS)),
    st.tuples(st.just("connect")),
    st.tuples(st.just("connect")),
    st.tuples(st.just("refuse"), st.sampled_from(DIAL_FAILURES)),
    st.tuples(st.just("break"), st.sampled_from(FAILURES)),
    st.tuples(st.just("reply"), st.integers(0, 2000)),
    st.tuples(st.just("audio"), st.integers(1, 3000)),
    st.tuples(st.just("generation_complete")),
    st.tuples(st.just("turn_complete"), st.sampled_from(list(Interaction)), st.sampled_from(TOLD)),
    st.tuples(st.just("status"), st.sampled_from(list(Interaction))),
    st.tuples(st.just("empty_turn"), st.booleans()),
    st.tuples(st.just("thought")),
    st.tuples(st.just("written")),
    st.tuples(st.just("waiting")),
    st.tuples(st.just("interrupted")),
    st.tuples(st.just("handle"), st.integers(0, 12)),
    st.tuples(st.just("polite"), st.booleans()),
    st.tuples(st.just("no_handle")),
    st.tuples(st.just("go_away"), st.sampled_from([0.0, 3.0, 10.0, 50.0])),
    st.tuples(st.just("bad_frame")),
    st.tuples(st.just("texts")),
    st.tuples(st.just("mark"), st.integers(0, 3000), st.booleans()),
    st.tuples(st.just("call"), st.integers(0, 3)),
    st.tuples(st.just("call_without_id"), st.integers(0, 1)),
    st.tuples(st.just("call_round"), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("endless_calls")),
    st.tuples(st.just("tool_done")),
    st.tuples(st.just("cancel_calls")),
    st.tuples(st.just("link"), st.booleans()),
    st.tuples(st.just("mute"), st.booleans()),
    st.tuples(st.just("say")),
    st.tuples(st.just("context")),
    st.tuples(st.just("instruct")),
    st.tuples(st.just("cancel_reply")),
    st.tuples(st.just("forget")),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 1.0, 5.0, 16.0, 30.0, 70.0, 700.0])),
)

CONFIGS: list[dict[str, Any]] = [
    {},
    {"backend": "vertex", "project": "p"},
    {"backend": "vertex", "project": "p", "transparent_resumption": False},
    {"activity_detection": "server"},
    {"model": "gemini-2.5-flash-native-audio-preview-12-2025"},
    {"model": "gemini-3.1-flash-live-preview", "dials_per_min": 3},
    {"idle_release_min": 1.0, "network__replay_max_age_s": 2.0},
]


def finish_tool(world: World) -> None:
    """Let the oldest function at work answer."""
    if world.tools:
        key = next(iter(world.tools))
        del world.tools[key]
        world.give(c.ToolDone(key, "answered", {"ok": True}))


def act(world: World, action: tuple[Any, ...]) -> None:  # noqa: C901, PLR0912
    """Let one thing happen, if it can happen now."""
    open_utterance = bool(world.spoken) and world.spoken[-1].ended is None
    wire = world.open_wire
    live = wire is not None and wire.ready and not wire.closing
    match action:
        case ("speak", pieces, reason) if not open_utterance:
            world.speak(pieces, end=False)
            world.finish(reason)
        case ("begin",) if not open_utterance:
            world.begin()
        case ("go_on", pieces) if open_utterance:
            for _ in range(pieces):
                world.go_on()
        case ("finish", reason) if open_utterance:
            world.finish(reason)
        case ("connect",) if world.state is State.DIALING:
            world.connect()
        case ("refuse", failure) if world.state is State.DIALING:
            if wire is not None and not wire.closing:
                world.end(failure)
        case ("break", failure) if live:
            world.end(failure)
        case ("reply", ms):
            world.reply(ms)
        case ("audio", ms):
            world.receive(
                audio=(bytes(48 * ms),), model_turn=True, model_text=TranscriptPiece("word ")
            )
        case ("generation_complete",):
            world.receive(generation_complete=True)
        case ("turn_complete", interaction, reason):
            world.receive(turn_complete=True, interaction=interaction, turn_complete_reason=reason)
        case ("status", interaction):
            world.receive(interaction=interaction)
        case ("empty_turn", finished):
            world.receive(model_text=TranscriptPiece("", finished=True) if finished else None)
            world.receive(generation_complete=True)
            world.receive(turn_complete=True)
        case ("thought",):
            world.receive(model_turn=True)
        case ("written",):
            world.receive(model_turn=True, written=True)
        case ("waiting",):
            world.receive(waiting_for_input=True)
        case ("interrupted",):
            world.receive(interrupted=True)
        case ("handle", lag):
            world.handle_update(lag)
        case ("polite", polite):
            world.polite = polite
        case ("no_handle",):
            world.receive(resumption=ResumptionUpdate())
        case ("go_away", seconds):
            world.receive(go_away_s=seconds)
        case ("bad_frame",):
            world.receive(problem="frame of an unknown kind")
        case ("texts",):
            world.receive(user_text=TranscriptPiece("hello "), model_text=TranscriptPiece("there "))
        case ("mark", heard_ms, drained):
            world.give(e.PlaybackMark(world.last_reply, float(heard_ms), drained))
        case ("call", number):
            call = FunctionCall(f"call-{number}", "get_time", {"n": number})
            world.receive(calls=(call,))
        case ("call_without_id", number):
            world.receive(calls=(FunctionCall("", "get_time", {"n": number}),))
        case ("call_round", rounds, empty):
            for number in range(rounds):
                world.receive(calls=(FunctionCall(f"round-{number}", "lamp", {"n": number}),))
                finish_tool(world)
                if empty:
                    world.receive(turn_complete=True)
        case ("endless_calls",):
            for number in range(40):
                world.receive(calls=(FunctionCall(f"{world.now}-{number}", "lamp", {}),))
                finish_tool(world)
        case ("tool_done",):
            finish_tool(world)
        case ("cancel_calls",):
            world.receive(cancelled_calls=("call-0", "call-1"))
        case ("link", online):
            world.give(e.LinkChanged(interface="wlan0" if online else "", online=online))
        case ("mute", on):
            world.mute(on=on)
        case ("say",):
            world.give(c.Say("what time is it"))
        case ("context",):
            world.give(c.AddContext("the oven is on"))
        case ("instruct",):
            world.give(c.Instruct("be brief"))
        case ("cancel_reply",):
            world.give(c.CancelReply("button"))
        case ("forget",):
            for spoken in world.spoken:
                spoken.muted = True
            world.give(c.Forget())
        case ("wait", seconds):
            world.advance(seconds)


def check_speech(world: World) -> None:
    """Every utterance arrived whole, or was announced lost, or was not to be delivered."""
    whole = world.whole_deliveries()
    for spoken in world.spoken:
        if spoken.muted or spoken.ended is e.EndReason.DISCARDED:
            continue
        known = spoken.number in whole or spoken.number in world.lost
        assert known, f"utterance {spoken.number} is neither delivered nor announced lost"


def check_order(world: World) -> None:
    """No connection hears an utterance twice, out of order, or in pieces of another."""
    for wire in world.wires:
        heard = world.heard_by(wire)
        last = 0
        position = 0
        while position < len(heard):
            number = int.from_bytes(heard[position : position + 4], "big")
            assert number >= last, "out of order or repeated"
            spoken = world.spoken[number - 1]
            size = 0
            while (
                position + size < len(heard)
                and int.from_bytes(heard[position + size : position + size + 4], "big") == number
            ):
                size += 8
            piece = heard[position : position + size]
            assert bytes(spoken.pcm).startswith(piece), "audio torn"
            last = number
            position += size


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: ",".join(config) or "default")
@given(actions=st.lists(ACTIONS, min_size=0, max_size=60))
@example(
    # A text whose number is lower than that of the rest of the answer which it supersedes.
    [
        ("speak", 0, e.EndReason.HANGOVER),
        ("connect",),
        ("call_without_id", 0),
        ("call_round", 1, False),
    ]
)
@hypothesis_settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_whatever_happens(config: dict[str, Any], actions: list[tuple[Any, ...]]) -> None:
    """No order of events breaks an invariant, and good weather always leads back to LIVE."""
    world = World(settings(**config))
    world.start()
    for action in actions:
        act(world, action)
    world.polite = True
    if world.muted:
        world.mute(on=False)
    world.settle()
    check_speech(world)
    check_order(world)
    world.advance(IN_PROGRESS_S + 30.0)
    world.settle()
    assert world.conversation._turns.quiet, "something is awaited for ever"
    world.give(c.Stop())
    if world.state in HOLDING:
        world.advance(10.0)
    assert world.finished
    assert world.lit is None


@given(actions=st.lists(ACTIONS, max_size=25), polite=st.booleans())
@hypothesis_settings(max_examples=100)
def test_stop_ends_from_every_state(actions: list[tuple[Any, ...]], polite: bool) -> None:
    """Stop ends the session also when the peer never answers the close."""
    world = World()
    world.start()
    for action in actions:
        act(world, action)
    world.give(c.Stop())
    world.polite = polite
    world.advance(5.0)
    assert world.finished


@given(
    refusals=st.lists(
        st.tuples(
            st.sampled_from([f for f in FAILURES if f.kind is Kind.CLOSED and f is not QUOTA]),
            st.sampled_from([0.0, 1.0, 9.0]),
            st.booleans(),
        ),
        min_size=2,
        max_size=8,
    ),
    restart=st.booleans(),
)
@hypothesis_settings(max_examples=100)
def test_a_refused_conversation_ends_two_sessions_at_most(
    refusals: list[tuple[Failure, float, bool]], restart: bool
) -> None:
    """Whatever the service closes with, and however soon: the third is begun without it."""
    transcript = {"version": 1, "turns": [SAID]}
    world = World().start(None, transcript)
    told = 0
    for failure, after_s, asks in refusals:
        while not world.is_in(State.DIALING):
            world.advance(0.5)
        world.connect()
        if not any(isinstance(m, ClientContent) for m in world.wire.received):
            break
        told += 1
        if asks:
            world.speak()
        world.advance(after_s)
        world.end(failure)
        if restart:
            world.give(c.Stop())
            world.advance(5.0)
            world = World().start(world.documents["session"], transcript)
            restart = False
    assert told == 2


def test_nothing_of_a_finished_session_moves() -> None:
    """After the end every input is ignored."""
    world = World().online()
    world.give(c.Stop())
    world.end()
    assert world.finished
    assert world.give(c.Say("hello")) == []
    assert world.give(c.Stop()) == []


def test_activity_frames_audio() -> None:
    """The plain case, spelled out: start, all audio, end."""
    world = World().online()
    spoken = world.speak(20)
    received = world.wire.received
    assert isinstance(received[0], ActivityStart)
    assert isinstance(received[-1], ActivityEnd)
    assert all(isinstance(message, RealtimeAudio) for message in received[1:-1])
    assert world.heard_by(world.wire) == bytes(spoken.pcm)
