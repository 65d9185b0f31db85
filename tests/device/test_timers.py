"""Timers and alarms on clocks that jump."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.device.timers import (
    LATE_MAX_S,
    LONGEST_S,
    LOOK_AGAIN_S,
    MAX_ENTRIES,
    MAX_LABEL,
    Now,
    Schedule,
    TimerEntry,
    TimerError,
    load,
    next_occurrence,
)

BERLIN = ZoneInfo("Europe/Berlin")
DAY_S = 86_400.0


def unix(text: str, zone: ZoneInfo = BERLIN) -> float:
    """Return the Unix time of a local date and time."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


NOW = Now(1_000.0, unix("2027-03-01 12:00"), True, "boot-1")
EMPTY = Schedule()


def later(
    now: Now, seconds: float, *, jump_s: float = 0.0, synchronised: bool | None = None
) -> Now:
    """Let time pass; the wall clock may jump on top."""
    synced = now.synchronised if synchronised is None else synchronised
    return Now(now.mono_s + seconds, now.unix_s + seconds + jump_s, synced, now.boot)


def rebooted(now: Now, off_s: float, *, unix_s: float | None = None, sync: bool = True) -> Now:
    """Let the device be off for a while; the wall clock may come up wrong."""
    return Now(5.0, now.unix_s + off_s if unix_s is None else unix_s, sync, "boot-2")


def due(schedule: Schedule, now: Now) -> list[tuple[int, float]]:
    """Return number and lateness of what is due."""
    return [(item.entry.number, item.late_s) for item in schedule.take_due(now, BERLIN)[1]]


def reloaded(schedule: Schedule) -> Schedule:
    """Send the schedule through the state file."""
    return load(json.loads(json.dumps(schedule.dump())))


# ── timers ────────────────────────────────────────────────────────────────────────────────────


def test_timer_rings_when_its_time_is_over() -> None:
    """A timer is due after its length, once."""
    schedule, entry = EMPTY.set_timer(600, "eggs", NOW)
    assert (entry.number, entry.kind, entry.label) == (1, "timer", "eggs")
    assert due(schedule, later(NOW, 599)) == []
    after, rung = schedule.take_due(later(NOW, 600), BERLIN)
    assert [item.entry.number for item in rung] == [1]
    assert not rung[0].missed
    assert after.entries == ()


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S, -NOW.unix_s])
@pytest.mark.parametrize("synchronised", [True, False])
def test_timer_ignores_the_wall_clock(jump_s: float, synchronised: bool) -> None:
    """A day forward, a day back or 1970: a timer counts on."""
    schedule, _ = EMPTY.set_timer(600, "", NOW)
    jumped = later(NOW, 300, jump_s=jump_s, synchronised=synchronised)
    schedule, rung = schedule.take_due(jumped, BERLIN)
    assert rung == []
    assert due(schedule, later(jumped, 299)) == []
    assert due(schedule, later(jumped, 300)) == [(1, 0.0)]


def test_timer_survives_a_restart_of_the_daemon() -> None:
    """In the same boot a restart and a jump of the wall clock change nothing."""
    schedule = reloaded(EMPTY.set_timer(600, "", NOW)[0])
    jumped = later(NOW, 300, jump_s=DAY_S, synchronised=False)
    assert due(schedule, jumped) == []
    assert due(schedule, later(jumped, 300)) == [(1, 0.0)]


def test_timer_survives_a_reboot() -> None:
    """After a reboot the wall clock says how much is left."""
    schedule = reloaded(EMPTY.set_timer(600, "", NOW)[0])
    up = rebooted(NOW, 200)
    assert schedule.left_s(schedule.entries[0], up) == 400
    schedule, _ = schedule.take_due(up, BERLIN)
    assert not schedule.entries[0].guessed
    assert due(schedule, later(up, 399)) == []
    assert due(schedule, later(up, 400)) == [(1, 0.0)]


def test_timer_after_a_reboot_into_a_slow_clock() -> None:
    """A clock that stood still while the device was off is corrected by synchronisation."""
    schedule = reloaded(EMPTY.set_timer(600, "", NOW)[0])
    up = rebooted(NOW, 0, sync=False)
    schedule, _ = schedule.take_due(up, BERLIN)
    assert schedule.entries[0].guessed
    assert schedule.next_look_s(up) == LOOK_AGAIN_S
    schedule, _ = reloaded(schedule).take_due(later(up, 10), BERLIN)
    synced = later(up, 20, jump_s=200, synchronised=True)
    schedule, rung = schedule.take_due(synced, BERLIN)
    assert rung == []
    assert schedule.left_s(schedule.entries[0], synced) == pytest.approx(380)
    assert schedule.next_look_s(synced) == pytest.approx(380)


def test_timer_after_a_reboot_into_1970() -> None:
    """A clock before the timer was set is no clock: the timer runs its whole length again."""
    schedule = reloaded(EMPTY.set_timer(600, "", NOW)[0])
    up = rebooted(NOW, 0, unix_s=100.0, sync=False)
    assert schedule.left_s(schedule.entries[0], up) == 600
    schedule, _ = schedule.take_due(up, BERLIN)
    assert due(schedule, later(up, 599)) == []
    assert due(schedule, later(up, 600)) == [(1, 0.0)]


def test_timer_set_before_the_clock_was_right() -> None:
    """Set in 1970 and synchronised afterwards, a timer survives a reboot with the right time."""
    wrong = Now(10.0, 50.0, False, "boot-1")
    schedule, _ = EMPTY.set_timer(600, "", wrong)
    right = Now(40.0, NOW.unix_s, True, "boot-1")
    schedule, _ = schedule.take_due(right, BERLIN)
    assert schedule.entries[0].due_unix_s == pytest.approx(NOW.unix_s + 570)
    up = Now(1.0, NOW.unix_s + 100, True, "boot-2")
    assert due(reloaded(schedule), up) == []
    assert due(reloaded(schedule), later(up, 470)) == [(1, 0.0)]


@pytest.mark.parametrize(("late_s", "missed"), [(LATE_MAX_S, False), (LATE_MAX_S + 1, True)])
def test_due_while_off(late_s: float, missed: bool) -> None:
    """What came due while the device was off rings within 15 minutes; later it is missed."""
    schedule = reloaded(EMPTY.set_timer(600, "", NOW)[0])
    _, rung = schedule.take_due(rebooted(NOW, 600 + late_s), BERLIN)
    assert [(item.late_s, item.missed) for item in rung] == [(late_s, missed)]


@pytest.mark.parametrize("length_s", [-300, 0, 0.5, math.nan, -math.inf])
def test_too_short(length_s: float) -> None:
    """Minus five minutes is answered, not set."""
    with pytest.raises(TimerError, match="at least one second"):
        EMPTY.set_timer(length_s, "", NOW)


@pytest.mark.parametrize("length_s", [LONGEST_S + 1, 1e300, math.inf])
def test_too_long(length_s: float) -> None:
    """A timer of years is answered with what to do instead."""
    with pytest.raises(TimerError, match="alarm instead"):
        EMPTY.set_timer(length_s, "", NOW)


def test_too_many() -> None:
    """The schedule is bounded; numbers are never used twice."""
    schedule = EMPTY
    for _ in range(MAX_ENTRIES):
        schedule, _ = schedule.set_timer(60, "", NOW)
    with pytest.raises(TimerError, match="cancel one"):
        schedule.set_timer(60, "", NOW)
    schedule, _ = schedule.cancel(MAX_ENTRIES, "", "")
    assert reloaded(schedule).set_timer(60, "", NOW)[1].number == MAX_ENTRIES + 1


def test_labels_are_tamed() -> None:
    """Labels come from the model: one line, bounded."""
    _, entry = EMPTY.set_timer(60, "  a\n\x1b[31mb\t c " + "x" * 99, NOW)
    assert entry.label.startswith("a [31mb c xxx")
    assert len(entry.label) == MAX_LABEL


# ── alarms ────────────────────────────────────────────────────────────────────────────────────


def test_alarm_rings_at_the_next_such_time() -> None:
    """Today if it is still to come, else tomorrow."""
    _, today = EMPTY.set_alarm("18:30", "once", "", NOW, BERLIN)
    _, tomorrow = EMPTY.set_alarm("7:05", "once", "", NOW, BERLIN)
    assert today.due_unix_s == unix("2027-03-01 18:30")
    assert tomorrow.due_unix_s == unix("2027-03-02 07:05")


@pytest.mark.parametrize("at", ["", "7", "24:00", "12:60", "-1:30", "7:3x", "half past", "7:30:00"])
def test_not_a_time_of_day(at: str) -> None:
    """What is no time of day is answered with what one is."""
    with pytest.raises(TimerError, match="between 00:00 and 23:59"):
        EMPTY.set_alarm(at, "once", "", NOW, BERLIN)


def test_unknown_repetition() -> None:
    """A repetition that does not exist is answered with those that do."""
    with pytest.raises(TimerError, match="once, daily or weekdays"):
        EMPTY.set_alarm("7:00", "monthly", "", NOW, BERLIN)


def test_no_alarm_without_the_time() -> None:
    """A clock in 1970 cannot promise to ring at seven."""
    with pytest.raises(TimerError, match="what time it is"):
        EMPTY.set_alarm("7:00", "once", "", Now(5.0, 100.0, False), BERLIN)


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S, -NOW.unix_s])
def test_alarm_keeps_the_time_it_knew(jump_s: float) -> None:
    """Once synchronised, a jump of an unsynchronised clock moves no alarm."""
    schedule, _ = EMPTY.seen(NOW).set_alarm("13:00", "once", "", NOW, BERLIN)
    jumped = later(NOW, 60, jump_s=jump_s, synchronised=False)
    assert due(schedule, jumped) == []
    assert due(schedule, later(jumped, 3_539)) == []
    assert due(schedule, later(jumped, 3_540)) == [(1, 0.0)]


def test_alarm_follows_a_synchronised_correction() -> None:
    """A correction by NTP is believed: the alarm means the right seven o'clock."""
    schedule, _ = EMPTY.seen(NOW).set_alarm("13:00", "once", "", NOW, BERLIN)
    corrected = later(NOW, 60, jump_s=300)
    assert due(schedule, later(corrected, 3_239)) == []
    assert due(schedule, later(corrected, 3_240)) == [(1, 0.0)]


def test_alarm_waits_for_a_clock() -> None:
    """Rebooted into 1970 an alarm waits; it rings when the clock is set, if not too late."""
    schedule = reloaded(EMPTY.set_alarm("13:00", "once", "", NOW, BERLIN)[0])
    up = rebooted(NOW, 0, unix_s=100.0, sync=False)
    schedule, rung = schedule.take_due(up, BERLIN)
    assert rung == []
    assert schedule.left_s(schedule.entries[0], up) is None
    assert schedule.next_look_s(up) == LOOK_AGAIN_S
    set_right = Now(up.mono_s + 30, unix("2027-03-01 13:02"), True, up.boot)
    assert due(schedule, set_right) == [(1, 120.0)]


def test_alarm_without_synchronisation_uses_its_own_clock() -> None:
    """Without a network since the reboot, an alarm still rings by a plausible clock."""
    schedule = reloaded(EMPTY.set_alarm("13:00", "once", "", NOW, BERLIN)[0])
    up = rebooted(NOW, 600, sync=False)
    assert schedule.knows_the_time(up)
    assert due(schedule, later(up, 3_000)) == [(1, 0.0)]


def test_wall_clock_is_looked_at_while_an_alarm_is_pending() -> None:
    """The wall clock may be set at any time, so an alarm looks again soon; a timer need not."""
    schedule, _ = EMPTY.set_alarm("18:00", "once", "", NOW, BERLIN)
    assert schedule.next_look_s(NOW) == LOOK_AGAIN_S
    assert EMPTY.set_timer(3600, "", NOW)[0].next_look_s(NOW) == 3600
    assert EMPTY.next_look_s(NOW) is None
    assert schedule.next_look_s(later(NOW, 6 * 3600 - 5)) == pytest.approx(5)
    assert schedule.next_look_s(later(NOW, 6 * 3600 + 5)) == 0


def test_daily_alarm_moves_on() -> None:
    """A daily alarm rings and stays for tomorrow."""
    schedule, _ = EMPTY.set_alarm("13:00", "daily", "", NOW, BERLIN)
    schedule, rung = schedule.take_due(later(NOW, 3_600), BERLIN)
    assert len(rung) == 1
    assert schedule.entries[0].due_unix_s == unix("2027-03-02 13:00")


def test_repeating_alarm_after_a_long_time_off() -> None:
    """After days without power a daily alarm is missed once and set for the next day."""
    schedule = reloaded(EMPTY.set_alarm("13:00", "daily", "", NOW, BERLIN)[0])
    schedule, rung = schedule.take_due(rebooted(NOW, 5 * DAY_S), BERLIN)
    assert [item.missed for item in rung] == [True]
    assert schedule.entries[0].due_unix_s == unix("2027-03-06 13:00")


def test_weekdays() -> None:
    """On Friday evening the next weekday is Monday."""
    friday = unix("2027-03-05 20:00")
    assert next_occurrence(friday, 7, 0, "weekdays", BERLIN) == unix("2027-03-08 07:00")


def test_summer_time() -> None:
    """Seven o'clock stays seven o'clock when summer time begins (23 hours) and ends (25 hours)."""
    for eve, hours in (("2027-03-27 07:00", 23), ("2027-10-30 07:00", 25)):
        due_s = next_occurrence(unix(eve), 7, 0, "daily", BERLIN)
        assert (due_s - unix(eve)) / 3600 == hours


@given(
    st.floats(1.7e9, 2.2e9),
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(["once", "daily", "weekdays"]),
)
def test_next_occurrence_is_ahead_and_shows_that_time(
    after_s: float, hour: int, minute: int, repeat: str
) -> None:
    """Whatever the moment: the next one lies ahead, within days, and at that time of day."""
    due_s = next_occurrence(after_s, hour, minute, repeat, UTC)
    moment = datetime.fromtimestamp(due_s, UTC)
    assert after_s < due_s <= after_s + 4 * DAY_S
    assert (moment.hour, moment.minute, moment.second) == (hour, minute, 0)
    assert repeat != "weekdays" or moment.weekday() < 5


# ── cancelling ────────────────────────────────────────────────────────────────────────────────


def three() -> Schedule:
    """Return two timers and an alarm."""
    schedule, _ = EMPTY.set_timer(60, "Eggs", NOW)
    schedule, _ = schedule.set_timer(120, "pasta", NOW)
    return schedule.set_alarm("18:00", "once", "", NOW, BERLIN)[0]


@pytest.mark.parametrize(
    ("number", "label", "kind", "gone"),
    [(2, "", "", [2]), (None, "egg", "", [1]), (None, "", "alarm", [3]), (1, "eggs", "timer", [1])],
)
def test_cancel(number: int | None, label: str, kind: str, gone: list[int]) -> None:
    """By number, by part of the label, by kind when there is one of it."""
    schedule, found = three().cancel(number, label, kind)
    assert [entry.number for entry in found] == gone
    assert {entry.number for entry in schedule.entries} == {1, 2, 3} - set(gone)


def test_cancel_the_only_one() -> None:
    """With one timer no hint is needed."""
    assert EMPTY.set_timer(60, "", NOW)[0].cancel(None, "", "")[0].entries == ()


def test_cancel_all() -> None:
    """All of them go."""
    schedule, gone = three().cancel_all()
    assert (schedule.entries, len(gone)) == ((), 3)


def test_cancel_what_is_unclear() -> None:
    """Two timers and no hint: the question is given back, and nothing is cancelled."""
    with pytest.raises(TimerError, match="say which"):
        three().cancel(None, "", "timer")


def test_cancel_what_does_not_exist() -> None:
    """No such timer, or none at all, is said so."""
    with pytest.raises(TimerError, match="no such"):
        three().cancel(9, "", "")
    with pytest.raises(TimerError, match="no timer and no alarm"):
        EMPTY.cancel(None, "", "")


# ── the state file ────────────────────────────────────────────────────────────────────────────


def test_round_trip() -> None:
    """What was set comes back from the file as it was."""
    assert reloaded(three()).entries == three().entries


GOOD = three().dump()


@pytest.mark.parametrize(
    "document",
    [None, {}, {"entries": 7}, {"entries": [1, None, {}]}, {"entries": [{"number": "x"}]}],
)
def test_unusable_document(document: dict[str, object] | None) -> None:
    """A document without sense is an empty schedule."""
    assert load(document).entries == ()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "bomb"},
        {"repeat": "never"},
        {"due_unix_s": math.nan},
        {"due_mono_s": None},
        {"due_mono_s": "x"},
        {"number": math.inf},
        {"created_unix_s": []},
        {"created_unix_s": -1e300},
        {"due_unix_s": 1e300},
        {"length_s": 1e300},
        {"length_s": -1.0},
        {"number": 10**400},
        {"number": -1},
    ],
)
def test_damaged_entry(change: dict[str, object]) -> None:
    """A damaged entry is left out; the others stay."""
    document = three().dump()
    entries = document["entries"]
    assert isinstance(entries, list)
    entries[0] |= change
    assert [entry.number for entry in load(document).entries] == [2, 3]


def test_numbers_go_on_after_a_restart() -> None:
    """The counter is kept, and never falls behind the entries."""
    assert load({"entries": [], "last_number": 41}).set_timer(9, "", NOW)[1].number == 42
    assert load({**GOOD, "last_number": "x"}).last_number == 3
    assert load({**GOOD, "last_number": 10**400}).last_number == 3


@given(st.lists(st.tuples(st.floats(1, 1e5), st.floats(0, 5e4), st.floats(-1e9, 1e9))))
def test_timers_ring_in_time(steps: list[tuple[float, float, float]]) -> None:
    """Whatever the wall clock does, in one boot every timer rings at its monotonic time."""
    schedule, now, ends = EMPTY, replace(NOW, synchronised=False), {}
    for length_s, pause_s, jump_s in steps[:MAX_ENTRIES]:
        schedule, entry = schedule.set_timer(length_s, "", now)
        ends[entry.number] = now.mono_s + length_s
        now = later(now, pause_s, jump_s=jump_s)
        schedule, rung = schedule.take_due(now, BERLIN)
        over = {number for number, end_s in ends.items() if end_s <= now.mono_s}
        assert {item.entry.number for item in rung} == over
        ends = {number: end_s for number, end_s in ends.items() if number not in over}


@pytest.mark.parametrize("repeat", ["once", "daily", "weekdays"])
def test_an_alarm_set_while_the_clock_was_years_ahead_rings_at_its_time_of_day(repeat: str) -> None:
    """The clock is set back: it does not wait for the year in which it was set."""
    ahead = replace(NOW, unix_s=unix("2036-02-28 22:00"))
    schedule, _ = EMPTY.set_alarm("06:30", repeat, "", ahead, BERLIN)
    schedule, rung = schedule.take_due(NOW, BERLIN)
    assert rung == []
    assert schedule.entries[0].due_unix_s == unix("2027-03-02 06:30")
    assert schedule.entries[0].created_unix_s == NOW.unix_s
    schedule, rung = schedule.take_due(later(NOW, 18.5 * 3600), BERLIN)
    assert [item.late_s for item in rung] == [0.0]


def test_a_daily_alarm_that_rang_while_the_clock_was_ahead_rings_tomorrow() -> None:
    """Its next time was years away when the clock was set back."""
    schedule, _ = EMPTY.set_alarm("06:30", "daily", "", NOW, BERLIN)
    schedule, rung = schedule.take_due(later(NOW, 60.0, jump_s=9 * 366 * DAY_S), BERLIN)
    assert [item.missed for item in rung] == [True]
    back = later(NOW, 120.0)
    schedule, rung = schedule.take_due(back, BERLIN)
    assert rung == []
    assert schedule.entries[0].due_unix_s == unix("2027-03-02 06:30")


def test_a_clock_that_is_not_synchronised_moves_no_alarm() -> None:
    """A Pi that wakes up in 1970 says nothing about when an alarm is due."""
    schedule, entry = EMPTY.set_alarm("06:30", "daily", "", NOW, BERLIN)
    woken = rebooted(NOW, 3600.0, unix_s=100.0, sync=False)
    assert schedule.take_due(woken, BERLIN)[0].entries == (entry,)


def test_entry_is_a_value() -> None:
    """Entries are frozen: a schedule that somebody holds does not change under them."""
    assert hash(three().entries[0]) == hash(three().entries[0])
    assert isinstance(three().entries[0], TimerEntry)
