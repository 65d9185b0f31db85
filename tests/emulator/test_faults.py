"""Faults: triggers, counting, and what each does to a connection."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_emulator.clock import ManualClock
from live_emulator.effects import Flood, Reset, Send, SendBytes
from live_emulator.faults import (
    ACTIONS,
    CONNECT_ACTIONS,
    MOMENTS,
    PARAMETERS,
    Fault,
    FaultSchedule,
    Moment,
    Trigger,
    make_fault,
    parse_seconds,
    parse_trigger,
)
from live_emulator.options import EmulatorOptions, with_scenario
from live_emulator.scenario import Scenario, load_scenario, read_scenario, shipped_scenarios
from tests.emulator.harness import Peer, blob, kinds, make_service, voice


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("setup", Trigger("setup")),
        ("setup #3", Trigger("setup", 3)),
        ("activityStart #2", Trigger("activityStart", 2)),
        ("audio 1.5 s into utterance 2", Trigger("audio", 2, 1.5)),
        ("audio #2 1.5s", Trigger("audio", 2, 1.5)),
        ("reply 1.0 s", Trigger("reply", None, 1.0)),
        (" reply 2 s into reply #4 ", Trigger("reply", 4, 2.0)),
    ],
)
def test_triggers(text: str, trigger: Trigger) -> None:
    """A trigger names a moment, optionally which one and how far into it."""
    assert parse_trigger(text) == trigger


PAGE = Path(__file__).parents[2] / "docs" / "developer" / "emulator.md"


def test_the_page_has_every_fault_with_its_parameters() -> None:
    """The table of docs/developer/emulator.md, row by row; a row may hold several."""
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("| fault | parameters |")[2].partition("\n\n")[0]
    found: set[str] = set()
    for names, params in re.findall(r"^\| (`.*?) \| (.*?) ?\|", table, re.MULTILINE):
        row = set(re.findall(r"`(\w+)`", names))
        assert set(re.findall(r"`(\w+)`", params)) == {
            name for action in row for name in PARAMETERS.get(action, ())
        }, names
        found |= row
    assert found == ACTIONS.keys()
    assert PARAMETERS.keys() <= ACTIONS.keys()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"do": "close", "cod": 1011}, "takes code, reason; cod means nothing"),
        ({"do": "reset", "delay_s": 1}, "takes no parameters; delay_s means nothing"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(table: dict[str, Any], words: str) -> None:
    """A misspelt one would strike with the default, and nobody would see why."""
    with pytest.raises(ValueError, match=words):
        make_fault(table)


@pytest.mark.parametrize("text", ["", "nonsense", "setup #x", "setup 3 s", "reply #", "1 s"])
def test_bad_triggers_say_what_there_is(text: str) -> None:
    """An unknown moment is refused with the list of moments."""
    with pytest.raises(ValueError, match=r"moment|position"):
        parse_trigger(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (30, 30.0),
        (0.5, 0.5),
        ("30s", 30.0),
        ("500ms", 0.5),
        ("9 min", 540.0),
        ("2h", 7200.0),
        ("7", 7.0),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    """Numbers are seconds; units are understood."""
    assert parse_seconds(value) == seconds


@pytest.mark.parametrize("value", [-1, True, None, "soon", [], "-3s"])
def test_bad_durations(value: object) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="no duration"):
        parse_seconds(value)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"do": "explode"},
        {"do": "close", "on": "setup", "at": 3},
        {"do": "close", "on": 3},
        {"do": "close", "times": -1},
        {"do": "close", "times": "x"},
        {"do": "refuse_http", "on": "setup"},
        {"do": "silent_setup", "at": 3},
        {"do": "poison_handles", "mode": "arsenic"},
        {"do": "certificate", "kind": "forged"},
        {"do": "close", "code": "high"},
    ],
)
def test_bad_fault_tables_are_refused(table: dict[str, Any]) -> None:
    """A table without meaning never becomes a fault."""
    with pytest.raises(
        ValueError, match=r"fault|times|on = |not both|strikes at|one of|no duration"
    ):
        make_fault(table)


def test_tables_become_faults() -> None:
    """Keys that say when and where are taken out; the rest are parameters."""
    fault = make_fault({"do": "close", "code": 1008, "on": "setup #2", "times": 0, "connection": 4})
    assert fault == Fault("close", {"code": 1008}, Trigger("setup", 2), None, None, 4)
    assert make_fault({"do": "reset", "at": "1min"}).at_s == 60.0
    assert make_fault({"do": "refuse_http"}).trigger == Trigger("connect")
    assert make_fault({"do": "quota"}).trigger == Trigger("setup")
    assert make_fault({"do": "go_away", "time_left_s": "5s"}).number("time_left_s", 0) == 5.0


def test_a_fault_strikes_as_often_as_it_says() -> None:
    """Once by default, n times, or for ever; only on its own connection."""
    schedule = FaultSchedule()
    schedule.add(make_fault({"do": "reset", "on": "setup", "times": 2}))
    schedule.add(make_fault({"do": "mute", "on": "setup", "times": 0, "connection": 7}))
    struck = [[f.action for f in schedule.happened("setup", n)] for n in (1, 7, 7, 1)]
    assert struck == [["reset"], ["reset", "mute"], ["mute"], []]
    assert len(schedule) == 1
    schedule.clear()
    assert len(schedule) == 0


def test_a_positional_fault_strikes_once_per_reply() -> None:
    """A persistent fault at 1 s of the reply strikes each reply once."""
    schedule = FaultSchedule()
    schedule.add(make_fault({"do": "phantom_interrupted", "on": "reply 1 s", "times": 0}))
    assert schedule.position("reply", 1, 2.0) != []
    schedule.happened("reply", 1)
    hits = [len(schedule.position("reply", 1, s)) for s in (0.5, 1.0, 1.5)]
    schedule.happened("reply", 1)
    hits += [len(schedule.position("reply", 1, s)) for s in (0.5, 1.0, 1.5)]
    assert hits == [0, 1, 0, 0, 1, 0]
    assert schedule.match(Moment("reply", 3, 1.0), 1) != []


# -- on a connection ---------------------------------------------------------------------------


def ready(**options: Any) -> Peer:
    peer = Peer(**options)
    peer.setup(sessionResumption={})
    return peer


def test_every_action_can_strike_an_open_connection() -> None:
    """No fault crashes the core, at any time of a connection's life."""
    for action in ACTIONS:
        fault = Fault(action, {"delay_s": 1.0})
        if action in ("silent_setup", "delay_setup", *CONNECT_ACTIONS):
            continue
        for peer in (Peer(), ready()):
            peer.core.apply(fault, peer.clock.now())
            peer.settle()
            peer.core.closed = True
            peer.core.apply(fault, peer.clock.now())
            peer.settle()
            assert len(peer.noted("fault")) == 2


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1007, 1008, 1011, 1012, 1013])
@pytest.mark.parametrize("moment", ["setup", "activityStart", "audio 0.2 s", "reply 0.5 s"])
def test_closes_at_every_phase(code: int, moment: str) -> None:
    """Each close code at setup, in speech and in a reply; nothing follows it."""
    peer = Peer(pace=1.0)
    peer.fault(do="close", code=code, reason="because", on=moment)
    peer.setup()
    for _ in range(5):
        peer.send(blob(voice(0.1)))
    peer.start()
    for _ in range(5):
        peer.send(blob(voice(0.1)))
    peer.end()
    peer.advance(60.0)
    assert peer.closes == [(code, "because")]
    assert "turnComplete" not in peer.kinds
    count = len(peer.frames)
    peer.send({"realtimeInput": {"text": "x"}})
    peer.advance(60.0)
    assert len(peer.frames) == count


def test_reset_in_the_middle_of_a_reply() -> None:
    """A reset at 1 s of reply audio: exactly that much was sent."""
    peer = ready(pace=2.0)
    peer.fault(do="reset", on="reply #2 1.0 s")
    peer.turn(2.0)
    frames_before = len(peer.frames)
    peer.say(2.0)
    peer.advance(60.0)
    assert peer.was_reset
    audio = [f for f in peer.frames[frames_before:] if kinds([f]) == ["audio"]]
    assert len(audio) == 25


def test_go_away_on_demand() -> None:
    """A GoAway of its own time; closes after it, or never."""
    peer = ready()
    peer.fault(do="go_away", time_left_s=5)
    assert peer.frames[-1] == {"goAway": {"timeLeft": "5s"}}
    peer.advance(5.5)
    assert peer.closes[0][0] == 1008
    frozen = ready()
    frozen.fault(do="go_away", time_left_s=5, close_after_s=0)
    frozen.advance(100.0)
    assert frozen.closes == []


def test_a_mute_connection_answers_nothing_until_unmuted() -> None:
    """Mute accepts everything and answers nothing."""
    peer = ready()
    peer.fault(do="mute")
    assert peer.turn() == []
    peer.fault(do="unmute")
    assert "turnComplete" in kinds(peer.turn())


def test_setup_faults() -> None:
    """Silent, late, doubled setupComplete, and quota after it."""
    silent = Peer()
    silent.fault(do="silent_setup")
    assert silent.setup() == []
    assert silent.advance(60.0) == []
    late = Peer()
    late.fault(do="delay_setup", delay_s=3)
    assert late.setup() == []
    late.advance(2.9)
    assert late.frames == []
    assert kinds(late.advance(0.2)) == ["setupComplete"]
    double = Peer()
    double.fault(do="duplicate_setup_complete")
    assert double.setup() == [{"setupComplete": {}}] * 2
    quota = Peer()
    quota.fault(do="quota")
    assert kinds(quota.setup()) == ["setupComplete"]
    quota.advance(0.79)
    assert quota.closes == []
    quota.advance(0.02)
    ((code, reason),) = quota.closes
    assert code == 1011
    assert reason.endswith("head to: h")
    assert len(reason) == 123


def test_odd_frames() -> None:
    """Each odd frame is what it says."""
    peer = ready()
    for action in ("phantom_interrupted", "unknown_frame", "unknown_field", "error_frame"):
        peer.fault(do=action)
    assert peer.frames[-4:] == [
        {"serverContent": {"interrupted": True}},
        {"futureMessage": {"value": 1}},
        {"serverContent": {"futureField": {"value": 1}}, "futureMessage": {}},
        {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Resource has been exhausted."},
    ]
    peer.fault(do="oversized_frame")
    assert len(json.dumps(peer.frames[-1])) > 2 * 1024 * 1024
    peer.fault(do="malformed_json")
    peer.fault(do="send_raw", data={"a": 1})
    peer.fault(do="send_raw", data="raw")
    assert peer.raw == ['{"serverContent": {', '{"a": 1}', "raw"]


def test_a_connection_closes_once() -> None:
    """Two reasons to close at the same instant make one close."""
    peer = Peer()
    peer.fault(do="quota", reason="first")
    peer.fault(do="quota", reason="second")
    peer.setup()
    peer.advance(5.0)
    assert peer.closes == [(1011, "first")]


def test_a_connection_that_closed_consumes_nothing_more() -> None:
    """Messages still waiting to be consumed are dropped with the connection."""
    peer = ready(consume_lag_s=1.0)
    peer.start()
    peer.fault(do="mute")
    peer.advance(2.0)
    assert peer.core.engine is not None
    assert not peer.core.engine.ear.listening


def test_a_reset_while_a_long_answer_is_paced() -> None:
    """A fault in the middle of a burst stops the burst."""
    peer = ready(pace=0.0)
    peer.fault(do="reset", on="reply 0.5 s")
    peer.turn(2.0)
    assert len([f for f in peer.frames if kinds([f]) == ["audio"]]) == 13


def test_server_faults_are_handed_up() -> None:
    """Faults that concern the whole server leave the connection as they are."""
    peer = ready()
    peer.fault(do="expire_handles", on="turnComplete")
    peer.turn()
    assert peer.serverwide == ["expire_handles"]


TOOLS = [{"functionDeclarations": [{"name": "lamp"}, {"name": "slow", "behavior": "NON_BLOCKING"}]}]
RICH = [
    {"tool_call": {"name": "lamp"}, "say": "Lit."},
    {"tool_call": {"name": "slow"}, "say": ["One", "two"], "thought": "Hm."},
]


def live_a_little(peer: Peer) -> None:
    """Go through every moment of a conversation, whatever faults do to it."""
    peer.setup("gemini-2.5-flash-native-audio-preview-12-2025", tools=TOOLS)
    peer.say(0.5)
    peer.advance(5.0)
    for frame in list(peer.frames):
        for call in frame.get("toolCall", {}).get("functionCalls", []):
            answer = {"id": call["id"], "name": call["name"], "response": {}}
            peer.send({"tool_response": {"functionResponses": [answer]}})
    peer.advance(30.0)
    peer.say(2.0)
    peer.advance(0.5)
    peer.start()
    peer.send(blob(voice(0.1)))
    peer.end()
    peer.advance(30.0)
    peer.send({"client_content": {"turns": [{"parts": [{"text": "a"}]}], "turnComplete": True}})
    peer.advance(30.0)
    peer.send({"client_content": {"turns": [{"parts": [{"text": "it rains"}]}]}})
    peer.advance(30.0)
    peer.send({"realtime_input": {"text": "hello"}})
    peer.advance(600.0)


INSIDE = [moment for moment in MOMENTS if moment not in ("connect", "closed")]
AGAIN = ["activityStart", "activityEnd", "audio", "text", "reply", "toolCall", "turnComplete"]


@pytest.mark.parametrize(
    "moment",
    [*INSIDE, *(f"{moment} #2" for moment in AGAIN), "audio 0.3 s", "reply 0.3 s"],
)
def test_nothing_follows_a_reset_at_any_moment(moment: str) -> None:
    """Every moment occurs, and after a reset there not one more frame goes out."""
    service = make_service(ManualClock(), RICH, pace=2.0)
    peer = Peer(service)
    peer.fault(do="reset", on=moment)
    live_a_little(peer)
    assert peer.was_reset
    place = next(n for n, e in enumerate(peer.effects) if isinstance(e, Reset))
    assert not any(isinstance(e, Send) for e in peer.effects[place:])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = {
    "setup": [
        *("model", "generationConfig", "systemInstruction", "tools", "sessionResumption"),
        *("contextWindowCompression", "realtimeInputConfig", "proactivity", "historyConfig"),
    ],
    "realtimeInput": ["audio", "video", "mediaChunks", "text", "activityStart", "audioStreamEnd"],
    "clientContent": ["turns", "turnComplete"],
    "toolResponse": ["functionResponses"],
    "contextUpdate": ["systemInstruction", "tools"],
}
MESSAGES = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda kind: st.builds(
        lambda body: {kind: body},
        st.dictionaries(st.sampled_from(FIELDS[kind]), JSON, max_size=3),
    )
)


@given(st.lists(MESSAGES, min_size=1, max_size=6), st.booleans())
@settings(max_examples=150)
def test_no_message_crashes_the_core(messages: list[dict[str, Any]], automatic: bool) -> None:
    """Known messages with any JSON inside are taken or closed upon; nothing else happens."""
    peer = Peer(number=1)
    peer.setup("gemini-3.8-live", **({"realtimeInputConfig": {}} if automatic else {}))
    for message in messages:
        peer.send(json.dumps(message))
        peer.advance(1.0)
    fresh = Peer()
    fresh.send(json.dumps(messages[0]))
    assert len(peer.closes) <= 1


def test_faults_inside_one_message_stop_the_rest_of_it() -> None:
    """A message with start, audio, text and end stops where a fault ends the connection."""
    body = {
        "activityStart": {},
        "activityEnd": {},
        "text": "x",
        **blob(voice(0.1))["realtime_input"],
    }
    for moment in ("activityStart", "audio"):
        peer = ready()
        peer.fault(do="reset", on=moment)
        peer.send({"realtimeInput": body})
        assert peer.was_reset
        assert peer.utterances == []
    server_side = Peer()
    server_side.setup(realtimeInputConfig={})
    server_side.fault(do="reset", on="activityStart")
    server_side.send(blob(voice(1.0)))
    assert server_side.was_reset


# -- scenario files ----------------------------------------------------------------------------


def test_a_scenario_file_is_read_whole(tmp_path: Path) -> None:
    """Turns, calls, faults and options; WAV paths are relative to the file."""
    path = tmp_path / "s.toml"
    path.write_text(
        """
        loop = true
        [options]
        pace = 4.0
        accept_credentials = ["k"]
        [[turn]]
        heard = "Front center"
        say = ["a", "b"]
        audio = "x.wav"
        tool_call = { name = "lamp", args = { on = true } }
        latency = "300ms"
        [[turn]]
        duration = 2
        parrot = false
        [[fault]]
        do = "close"
        code = 1011
        on = "reply 1.0 s"
        """
    )
    scenario = load_scenario(path)
    first, second = scenario.turns
    assert (first.say, first.audio, first.latency_s) == (("a", "b"), tmp_path / "x.wav", 0.3)
    assert first.tool_calls[0].args == {"on": True}
    assert (second.duration_s, second.parrot) == (2.0, False)
    assert scenario.faults[0].trigger == Trigger("reply", None, 1.0)
    options = with_scenario(EmulatorOptions(), scenario)
    assert (options.pace, options.accept_credentials) == (4.0, frozenset({"k"}))
    assert [scenario.turn_for(n, d) for n, d in ((0, None), (7, 1.0), (3, 2.2))] == [
        first,
        first,
        second,
    ]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"nope": 1}, "unknown table 'nope'"),
        ({"turn": [{"nope": 1}]}, r"\[\[turn\]\] 1: unknown key 'nope'"),
        ({"turn": [{}, {"duration": "x"}]}, r"\[\[turn\]\] 2: 'x' is no duration"),
        ({"turn": [{"tool_call": {}}]}, "tool_call needs"),
        ({"turn": [{"tool_call": {"name": "x", "args": 3}}]}, "args must be a table"),
        ({"fault": [{"do": "nope"}]}, r"\[\[fault\]\] 1: unknown fault"),
    ],
)
def test_scenario_mistakes_are_named(data: dict[str, Any], part: str) -> None:
    """A mistake is reported with its table."""
    with pytest.raises(ValueError, match=part):
        read_scenario(data)


def test_scenario_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Broken TOML names the file; unknown options are refused."""
    bad = tmp_path / "bad.toml"
    bad.write_text("[[")
    with pytest.raises(ValueError, match=r"bad\.toml"):
        load_scenario(bad)
    with pytest.raises(ValueError, match="no such option"):
        with_scenario(EmulatorOptions(), Scenario(options={"port": 1}))
    with pytest.raises(ValueError, match="wrong type"):
        with_scenario(EmulatorOptions(), Scenario(options={"pace": "fast"}))


@pytest.mark.parametrize(
    "wrong",
    [{"reply": "sing"}, {"time_scale": 0}, {"chunk_ms": 1}, {"certificate": "x"}, {"pace": -1}],
)
def test_options_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    """Options are checked when they are made."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmulatorOptions(**wrong)


def test_a_flood_is_a_frame_and_a_count() -> None:
    """Blanks in its text are filled once, and never-ending is None."""
    peer = ready()
    data = '{"a": "{fill}", "b": [{items}], "n": {n}}'
    peer.fault(do="flood", data=data, fill=3, item="{}", items=2)
    peer.fault(do="flood", data="x", count=7)
    peer.fault(do="send_bytes", hex="8900", count=0)
    peer.settle()
    floods = [e for e in peer.effects if isinstance(e, Flood | SendBytes)]
    assert floods == [
        Flood('{"a": "xxx", "b": [{},{}], "n": {n}}', None),
        Flood("x", 7),
        SendBytes(b"\x89\x00", None),
    ]
    with pytest.raises(ValueError, match="fromhex"):
        make_fault({"do": "send_bytes", "hex": "no hex"})


def test_background_work_ends_by_idle_alone() -> None:
    """With idle_after the last turnComplete says IN_PROGRESS and IDLE has a frame of its own."""
    turn = {"say": "Let me look.", "tone": "0.1s", "idle_after": "2s"}
    peer = Peer(make_service(ManualClock(), [turn]))
    peer.setup()
    peer.send({"realtime_input": {"text": "hello"}})
    peer.advance(10.0)
    told = [frame.get("serverContent", {}).get("interactionStatus") for frame in peer.frames]
    assert [status for status in told if status] == ["IN_PROGRESS", "IDLE"]
    assert {"serverContent": {"interactionStatus": "IDLE"}} in peer.frames


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_hostile_service_can_be_played(name: str) -> None:
    """Each scenario that comes with the package says what it is, and its options exist."""
    scenario = load_scenario(Path(name))
    assert scenario.about
    assert with_scenario(EmulatorOptions(), scenario).scenario == scenario
    peer = Peer(make_service(ManualClock()))
    for fault in scenario.faults:
        if fault.action not in CONNECT_ACTIONS | {"silent_setup"}:
            peer.core.apply(fault, peer.clock.now())
