"""The ladder of device states."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd import events as e
from agentd.device import facts as f
from agentd.device import state as s
from agentd.device.state import DeviceState, Facts, derive
from tests.device.builders import (
    ASKED,
    CONFIG,
    CONFIRMED,
    FORGOTTEN,
    LAPSED,
    LINK_DOWN,
    LINK_UP,
    LOST,
    MIC_BACK,
    MIC_LOST,
    MUTED,
    QUOTA,
    READY,
    REFUSED,
    RELEASED,
    RELOADED,
    RING_ENDED,
    RINGING,
    SPEAKER_BACK,
    SPEAKER_LOST,
    STOPPING,
    TOOL,
    TOOL_STARTED,
    UNMUTED,
    VOLUME,
    closed,
    connecting,
    disconnected,
    drained,
    failed,
    fresh,
    interrupted,
    opened,
    reply,
    resumed,
    started,
    turn_ended,
)

NOW = 1_000.0


NOTHING = Facts()


def fold(*happened: e.Event, facts: Facts = NOTHING, at: float = NOW) -> Facts:
    """Fold events into facts, all at once."""
    for event in happened:
        facts = facts.after(event, at)
    return facts


UP = fold(READY, MIC_BACK, connecting(), fresh())


def state(facts: Facts, at: float = NOW) -> DeviceState:
    """Return just the state."""
    return derive(facts, at).state


# ── each row ──────────────────────────────────────────────────────────────────────────────────

ROWS: list[tuple[list[e.Event], DeviceState, str, float | None]] = [
    # what happened to a device that is up, the state, its cause, and for how long
    ([], DeviceState.IDLE, "quiet", None),
    ([RELEASED], DeviceState.IDLE, "released", None),
    ([opened()], DeviceState.LISTENING, "speech", None),
    ([opened(replay=True)], DeviceState.LISTENING, "speech", None),
    ([MIC_LOST], DeviceState.FATAL, "no_microphone", None),
    ([SPEAKER_LOST], DeviceState.FATAL, "no_speaker", None),
    ([REFUSED], DeviceState.FATAL, "refused", None),
    ([VOLUME], DeviceState.VOLUME, "volume", f.VOLUME_S),
    ([MUTED], DeviceState.MUTED, "by_button", None),
    ([RINGING], DeviceState.RINGING, "ringing", f.RINGING_MAX_S),
    ([failed()], DeviceState.FAILED, "no_answer", f.FAILED_S),
    ([LOST], DeviceState.FAILED, "speech_lost", f.FAILED_S),
    ([CONFIG], DeviceState.FAILED, "config", f.FAILED_S),
    ([started()], DeviceState.THINKING, "turn", f.THINKING_MAX_S),
    ([reply()], DeviceState.SPEAKING, "reply", f.SPEAKING_MAX_S),
    ([reply(), drained()], DeviceState.FOLLOW_UP, "answered", f.FOLLOW_UP_S),
    ([reply(), ASKED, drained()], DeviceState.FOLLOW_UP, "confirmation", 30.0),
    ([reply(), ASKED, drained(), CONFIRMED], DeviceState.FOLLOW_UP, "answered", f.FOLLOW_UP_S),
]


@pytest.mark.parametrize(("happened", "expected", "cause", "lasts_s"), ROWS)
def test_row(
    happened: list[e.Event], expected: DeviceState, cause: str, lasts_s: float | None
) -> None:
    """Each event leads to its row, with its cause and its deadline."""
    until = None if lasts_s is None else NOW + lasts_s
    assert derive(fold(*happened, facts=UP), NOW) == s.Derived(expected, cause, until)


@pytest.mark.parametrize(
    ("over", "happened"),
    [
        (closed(), [opened()]),
        (CONFIRMED, [ASKED]),
        (LAPSED, [ASKED]),
        (MIC_BACK, [MIC_LOST]),
        (SPEAKER_BACK, [SPEAKER_LOST]),
        (RELOADED, [REFUSED]),
        (resumed(), [REFUSED]),
        (UNMUTED, [MUTED]),
        (RING_ENDED, [RINGING]),
        (reply(), [started()]),
        (failed(), [started()]),
        (turn_ended(1), [started()]),
        (interrupted(), [started()]),
        (FORGOTTEN, [started()]),
        (REFUSED, [started()]),
        (drained(heard_ms=0), [reply()]),
        (interrupted(), [reply()]),
        (SPEAKER_LOST, [reply()]),
        (opened(), [reply(), drained()]),
        (started(2), [reply(), drained()]),
        (reply(2), [reply(), drained()]),
        (FORGOTTEN, [reply(), drained()]),
    ],
)
def test_row_ends(over: e.Event, happened: list[e.Event]) -> None:
    """What begins a state has an event that ends it."""
    before = fold(*happened, facts=UP)
    assert state(before) is not state(fold(over, facts=before))


@pytest.mark.parametrize(("happened", "expected", "_cause", "lasts_s"), ROWS)
def test_deadline(
    happened: list[e.Event], expected: DeviceState, _cause: str, lasts_s: float | None
) -> None:
    """A state lasts until just before its deadline and is over at it."""
    facts = fold(*happened, facts=UP)
    if lasts_s is None:
        assert state(facts, NOW + 86_400) is expected
    else:
        assert state(facts, NOW + lasts_s - 0.001) is expected
        assert state(facts, NOW + lasts_s) is DeviceState.IDLE


def test_ladder_order() -> None:
    """With everything at once, taking away the top row each time uncovers the next one."""
    everything = fold(
        MUTED,
        LINK_DOWN,
        disconnected(),
        RINGING,
        reply(1),
        started(2),
        facts=UP,
        at=NOW - s.OFFLINE_AFTER_S,
    )
    everything = fold(opened(), MIC_LOST, VOLUME, failed(0), facts=everything)
    uncover: list[tuple[DeviceState, Iterable[e.Event]]] = [
        (DeviceState.LISTENING, [closed()]),
        (DeviceState.FATAL, [MIC_BACK]),
        (DeviceState.VOLUME, []),
        (DeviceState.MUTED, [UNMUTED]),
        (DeviceState.RINGING, [RING_ENDED]),
        (DeviceState.OFFLINE, [resumed()]),
    ]
    seen = []
    for expected, events in uncover:
        seen.append((expected, state(everything)))
        everything = fold(*events, facts=everything)
        if expected is DeviceState.VOLUME:
            everything = replace(everything, volume_until_s=NOW)
    assert [a for a, _ in seen] == [b for _, b in seen]
    assert state(everything) is DeviceState.FAILED
    everything = replace(everything, failure=None)
    assert state(everything) is DeviceState.THINKING
    everything = fold(turn_ended(2), facts=everything)
    assert state(everything) is DeviceState.SPEAKING
    everything = fold(drained(2), facts=everything)
    assert state(everything) is DeviceState.FOLLOW_UP


def test_ladder_names_every_state_once() -> None:
    """Each state has exactly one row, in the order of the enum."""
    assert [row for row, _ in s.LADDER] == list(DeviceState)


def test_events_without_a_rule_change_nothing() -> None:
    """An event that says nothing about the device leaves the facts as they are."""
    assert fold(e.HandleStored(handle="ab"), facts=UP) is UP


# ── privacy ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "other",
    [
        *(MIC_LOST, REFUSED, VOLUME, MUTED, RINGING, failed(), started(), reply(), drained()),
        *(STOPPING, disconnected(), LINK_DOWN, LOST, FORGOTTEN, RELEASED),
    ],
)
def test_nothing_hides_an_open_uplink(other: e.Event) -> None:
    """Whatever happens while audio leaves, also much later, the device shows listening."""
    facts = fold(opened(), other, facts=UP)
    assert {state(facts, NOW + later) for later in (0, 1, 3, 60, 86_400)} == {DeviceState.LISTENING}


def test_split_utterances_overlap() -> None:
    """Of two utterances on the way, the end of one leaves the uplink open."""
    facts = fold(opened(1), opened(2), closed(1), facts=UP)
    assert state(facts) is DeviceState.LISTENING
    assert state(fold(closed(2), facts=facts)) is DeviceState.IDLE


def test_late_close() -> None:
    """The end of an utterance that is not open changes nothing."""
    assert fold(closed(7), facts=UP) == UP


# ── connections ───────────────────────────────────────────────────────────────────────────────


def test_short_gap_is_not_shown() -> None:
    """Only a gap above two seconds is offline; the wake-up for it is announced."""
    facts = fold(disconnected(), facts=UP)
    assert derive(facts, NOW).until == NOW + s.OFFLINE_AFTER_S
    assert state(facts, NOW + 1.999) is DeviceState.IDLE
    assert derive(facts, NOW + 2) == s.Derived(DeviceState.OFFLINE, "reconnecting", None)


def test_gap_counts_from_its_beginning() -> None:
    """Further attempts and failures do not start the two seconds anew."""
    facts = fold(disconnected(1), facts=UP)
    facts = fold(connecting(2), disconnected(2), connecting(3), facts=facts, at=NOW + 1.5)
    assert state(facts, NOW + 2) is DeviceState.OFFLINE


def test_old_connection_ends_after_the_switch() -> None:
    """The end of the connection before the current one does not make the device offline."""
    facts = fold(connecting(2), resumed(2), disconnected(1), facts=UP)
    assert state(facts, NOW + 60) is DeviceState.IDLE


def test_failed_switch_leaves_the_old_connection() -> None:
    """A dial that fails while the old connection lives does not make the device offline."""
    facts = fold(connecting(2), disconnected(2), facts=UP)
    assert state(facts, NOW + 60) is DeviceState.IDLE


@pytest.mark.parametrize(
    ("event", "cause"), [(LINK_DOWN, "no_network"), (QUOTA, "quota"), (LINK_UP, "reconnecting")]
)
def test_offline_cause(event: e.Event, cause: str) -> None:
    """Offline says whether the network, the quota or the service is missing."""
    facts = fold(event, disconnected(), facts=UP)
    assert derive(facts, NOW + 2) == s.Derived(DeviceState.OFFLINE, cause, None)


def test_quota_is_forgotten_by_a_connection() -> None:
    """Once connected again, an old quota is not blamed for the next gap."""
    facts = fold(QUOTA, disconnected(1), resumed(2), disconnected(2), facts=UP)
    assert derive(facts, NOW + 2).cause == "reconnecting"


def test_released_connection_is_no_outage() -> None:
    """A connection closed on purpose is idle; a slow reconnect of it is offline."""
    facts = fold(RELEASED, facts=UP)
    assert state(facts, NOW + 60) is DeviceState.IDLE
    assert state(fold(connecting(2), facts=facts), NOW + 2) is DeviceState.OFFLINE


def test_network_loss_while_released() -> None:
    """Without a connection a dead network is shown, counted from its loss; its return ends it."""
    facts = fold(RELEASED, LINK_DOWN, facts=UP)
    facts = fold(LINK_DOWN, facts=facts, at=NOW + 1.5)
    assert derive(facts, NOW + 2) == s.Derived(DeviceState.OFFLINE, "no_network", None)
    assert state(fold(LINK_UP, facts=facts), NOW + 60) is DeviceState.IDLE


def test_link_loss_alone_is_left_to_the_connection() -> None:
    """While a connection lives, a lost default route is not an outage (yet)."""
    assert state(fold(LINK_DOWN, facts=UP), NOW + 60) is DeviceState.IDLE


# ── start and stop ────────────────────────────────────────────────────────────────────────────


def test_start() -> None:
    """Starting until ready and connected; after ten seconds without, offline."""
    facts = fold(connecting())
    assert derive(facts, NOW) == s.Derived(DeviceState.STARTING, "starting", NOW + 10)
    facts = fold(READY, facts=facts)
    assert derive(facts, NOW + 9) == s.Derived(DeviceState.STARTING, "first_connection", NOW + 10)
    assert state(facts, NOW + 10) is DeviceState.OFFLINE
    assert state(fold(fresh(), facts=facts), NOW + 10) is DeviceState.IDLE


def test_bad_config_at_the_start() -> None:
    """A configuration refused before ready is fatal, and a good one ends it."""
    facts = fold(CONFIG)
    assert derive(facts, NOW) == s.Derived(DeviceState.FATAL, "config", None)
    assert state(fold(READY, facts=facts)) is DeviceState.IDLE


def test_stopping_turns_the_light_off() -> None:
    """Going down shows nothing, whatever is wrong, unless audio still leaves."""
    facts = fold(MIC_LOST, MUTED, VOLUME, STOPPING, facts=UP)
    assert state(facts) is DeviceState.IDLE
    assert state(fold(opened(), facts=facts)) is DeviceState.LISTENING


# ── failures stay visible ─────────────────────────────────────────────────────────────────────


def test_failure_outlasts_what_follows() -> None:
    """The events that follow a failure at once do not repaint it for at least a second."""
    facts = fold(failed(), turn_ended(1), connecting(2), resumed(2), started(2), facts=UP)
    assert state(facts, NOW + f.FAILED_MIN_S) is DeviceState.FAILED


def test_failure_while_speech_leaves_is_shown_after_it() -> None:
    """A failure told while the uplink is open gets its full time once it is closed."""
    facts = fold(opened(), failed(), facts=UP)
    facts = fold(closed(), facts=facts, at=NOW + 30)
    assert derive(facts, NOW + 30) == s.Derived(
        DeviceState.FAILED, "no_answer", NOW + 30 + f.FAILED_S
    )


def test_failure_cut_short_is_shown_again() -> None:
    """New speech within a second of a failure hides it, and it is shown after that speech."""
    facts = fold(failed(), facts=UP)
    facts = fold(opened(), facts=facts, at=NOW + 0.5)
    facts = fold(opened(2), closed(), facts=facts, at=NOW + 5)
    facts = fold(closed(2), facts=facts, at=NOW + 9)
    assert state(facts, NOW + 9) is DeviceState.FAILED


def test_failure_seen_long_enough_is_over() -> None:
    """A failure that was visible for a second does not come back after the next speech."""
    facts = fold(failed(), facts=UP)
    facts = fold(opened(), facts=facts, at=NOW + 1)
    facts = fold(closed(), facts=facts, at=NOW + 9)
    assert state(facts, NOW + 9) is DeviceState.IDLE


# ── turns ─────────────────────────────────────────────────────────────────────────────────────


def test_barge_in() -> None:
    """The flush of an interrupted reply does not end the thinking about the next turn."""
    facts = fold(reply(1), started(2), interrupted(1), drained(1), turn_ended(1), facts=UP)
    assert state(facts) is DeviceState.THINKING


def test_late_drain_of_an_older_reply() -> None:
    """A newer reply at the speaker is not ended by the drain of the one before."""
    facts = fold(reply(2), drained(1), facts=UP)
    assert state(facts) is DeviceState.SPEAKING


def test_turn_ended_leaves_the_speaker_speaking() -> None:
    """The service's end of a turn is not yet silence in the room."""
    assert state(fold(reply(), turn_ended(1), facts=UP)) is DeviceState.SPEAKING


def test_unheard_reply_has_no_follow_up() -> None:
    """A reply of which nothing was heard does not invite an answer."""
    assert state(fold(reply(), drained(heard_ms=0), facts=UP)) is DeviceState.IDLE


def test_drain_out_of_nowhere() -> None:
    """A drain without a reply changes nothing."""
    assert fold(drained(), facts=UP) is UP


def test_tool_extends_thinking() -> None:
    """A tool call gives the thinking another full deadline; without thinking it does nothing."""
    facts = fold(started(), facts=UP)
    facts = fold(TOOL, facts=facts, at=NOW + 20)
    assert derive(facts, NOW + 20).until == NOW + 20 + f.THINKING_MAX_S
    assert fold(TOOL, facts=UP) is UP


def test_the_light_says_thinking_while_a_function_runs() -> None:
    """Or the service works; also in a turn that nobody has asked for, and for as long as it may."""
    for event in (e.TurnInProgress(turn=1), TOOL_STARTED):
        assert state(fold(event, facts=UP)) is DeviceState.THINKING
    facts = fold(TOOL_STARTED, facts=UP)
    assert derive(facts, NOW).until == NOW + f.WORK_MAX_S
    assert state(fold(turn_ended(1), facts=facts)) is DeviceState.IDLE


def test_a_reply_that_waits_for_a_function() -> None:
    """Thinking while the function runs; then the reply goes on, and the light with it."""
    facts = fold(started(), reply(), TOOL_STARTED, facts=UP)
    assert state(facts) is DeviceState.THINKING
    assert state(fold(TOOL, facts=facts)) is DeviceState.SPEAKING


def test_missing_causes_are_still_told() -> None:
    """An event with an empty cause is as true as one with words."""
    events = [
        e.CaptureLost(device="", cause="", remedy=""),
        e.PlaybackLost(device="", cause="", remedy=""),
        e.Muted(by=""),
        e.Refused(cause="", remedy=""),
    ]
    assert [state(fold(event, facts=UP)) for event in events] == [
        DeviceState.FATAL,
        DeviceState.FATAL,
        DeviceState.MUTED,
        DeviceState.FATAL,
    ]


# ── any order of events ───────────────────────────────────────────────────────────────────────

NUMBERS = st.integers(1, 3)
PLAIN: list[e.Event] = [
    *(READY, CONFIG, RELOADED, MIC_LOST, MIC_BACK, SPEAKER_LOST, SPEAKER_BACK, MUTED, UNMUTED),
    *(VOLUME, RINGING, RING_ENDED, LOST, FORGOTTEN, RELEASED, REFUSED, QUOTA, LINK_UP, LINK_DOWN),
    *(TOOL_STARTED, TOOL),
]
NUMBERED: list[Callable[[int], e.Event]] = [
    *(opened, closed, started, reply, drained, failed, interrupted),
    *(turn_ended, connecting, fresh, resumed, disconnected),
]
ANY_EVENT = st.one_of(st.sampled_from(PLAIN), *(NUMBERS.map(make) for make in NUMBERED))
STORY = st.lists(st.tuples(ANY_EVENT, st.floats(0, 40)), max_size=40)


def tell(story: list[tuple[e.Event, float]], check: Callable[[Facts, float], None]) -> None:
    """Check the facts after each event and after the pause behind it."""
    facts, now = Facts(), NOW
    for event, pause_s in story:
        facts = facts.after(event, now)
        check(facts, now)
        now += pause_s
        check(facts, now)


@given(STORY)
@settings(max_examples=400)
def test_listening_is_the_open_uplink(story: list[tuple[e.Event, float]]) -> None:
    """In every order of events: the device shows listening if and only if audio leaves it."""
    leaving: set[int] = set()

    def check(facts: Facts, now: float) -> None:
        assert (state(facts, now) is DeviceState.LISTENING) == bool(leaving)

    facts, now = Facts(), NOW
    for event, pause_s in story:
        if isinstance(event, e.UplinkOpened):
            leaving.add(event.utterance)
        elif isinstance(event, e.UplinkClosed):
            leaving.discard(event.utterance)
        facts = facts.after(event, now)
        check(facts, now)
        now += pause_s
        check(facts, now)


@given(STORY)
@settings(max_examples=300)
def test_nothing_sticks(story: list[tuple[e.Event, float]]) -> None:
    """In every order of events, a turn leaves nothing behind once its deadlines have passed."""
    lasting = {DeviceState.LISTENING, DeviceState.FATAL, DeviceState.MUTED, DeviceState.OFFLINE}
    lasting |= {DeviceState.STARTING, DeviceState.IDLE}

    def check(facts: Facts, now: float) -> None:
        assert state(facts, now + 901) in lasting

    tell(story, check)


@given(STORY, st.floats(0, 1))
@settings(max_examples=300)
def test_until_is_when_to_look_again(story: list[tuple[e.Event, float]], part: float) -> None:
    """In every order of events, nothing changes before `until`, and `until` lies ahead."""

    def check(facts: Facts, now: float) -> None:
        derived = derive(facts, now)
        if derived.until is None:
            assert derive(facts, now + 1e6) == derived
            return
        assert derived.until > now
        between = now + (derived.until - now) * part
        if between < derived.until:
            assert derive(facts, between).state is derived.state

    tell(story, check)


def test_events_of_the_device_carry_no_label() -> None:
    """What a timer is for was spoken by somebody: no event of ours has room for it."""
    kinds = (e.Ringing, e.TimerSet, e.TimerCancelled, e.TimerMissed)
    names = {field.name for kind in kinds for field in fields(kind)}
    assert names == {"kind", "number", "in_s", "late_s"}
    assert e.TimerMissed.level == logging.WARNING


def test_the_talk_button_opens_a_listening_window() -> None:
    """The light says "go on, talk" for as long as after an answer; other presses do not."""
    talk = e.ButtonUsed(gesture="tap", action="talk")
    facts = fold(talk, facts=UP)
    assert state(facts) is DeviceState.FOLLOW_UP
    assert derive(facts, NOW).until == NOW + f.FOLLOW_UP_S
    stop = e.ButtonUsed(gesture="tap", action="stop_reply")
    assert fold(stop, facts=UP) is UP
