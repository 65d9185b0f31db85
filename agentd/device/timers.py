"""Timers and alarms: a pure schedule that survives restarts and a wall clock that jumps.

A *timer* ("in ten minutes") counts monotonic time. Across a restart of the daemon monotonic time
goes on; across a reboot (another boot id) the wall clock has to stand in for it, and its guess is
corrected once the clock is synchronised.

An *alarm* ("at seven") means wall time. The wall clock is believed while it is synchronised, and
afterwards continued with monotonic time, so that a later jump moves nothing. A device that has not
been synchronised since it booted rings by its own clock, unless that is before the alarm was set
(a Pi wakes up in 1970): then it waits to be told the time. A synchronised clock that says that an
alarm has not been set yet, or that it is further away than any alarm can be, has been set back: the
alarm then rings at its time of day by the clock as it is now.
"""

from __future__ import annotations

import calendar
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, tzinfo

from agentd.text import printable_lines

MAX_ENTRIES = 32
SHORTEST_S = 1.0
LONGEST_S = 7 * 86_400.0
MAX_LABEL = 60
MAX_NUMBER = 2**53  # of an entry in a file; what JSON's readers agree on
LATE_MAX_S = 900.0  # due while the device was off: rings if it is not later than this
ALARM_LONGEST_S = 4 * 86_400.0  # from Friday to Monday, and the hours that a change of zone adds
LATEST_UNIX_S = 2.0**63 / 1e9  # of a kernel's clock: in the year 2262
LOOK_AGAIN_S = 30.0  # the wall clock may be set at any time while an alarm is pending

TIMER, ALARM = "timer", "alarm"
REPEATS = ("once", "daily", "weekdays")


class TimerError(ValueError):
    """What was asked for cannot be done; the message is fit to be spoken."""


@dataclass(frozen=True, slots=True)
class Now:
    """The clocks read together, and which boot they belong to."""

    mono_s: float
    unix_s: float
    synchronised: bool
    boot: str = ""


@dataclass(frozen=True, slots=True)
class TimerEntry:
    """One timer or alarm."""

    number: int
    kind: str
    label: str
    created_unix_s: float
    due_unix_s: float
    due_mono_s: float  # of a timer, in boot `boot`
    boot: str
    length_s: float = 0.0  # of a timer
    repeat: str = "once"  # of an alarm
    guessed: bool = False  # a timer from an earlier boot, while the wall clock is not synchronised


@dataclass(frozen=True, slots=True)
class Due:
    """An entry whose time has come; `late_s` above `LATE_MAX_S` means missed."""

    entry: TimerEntry
    late_s: float

    @property
    def missed(self) -> bool:
        """Return whether it is too late to ring."""
        return self.late_s > LATE_MAX_S


@dataclass(frozen=True, slots=True)
class Schedule:
    """All timers and alarms. Every method returns the next schedule."""

    entries: tuple[TimerEntry, ...] = ()
    last_number: int = 0
    offset_s: float | None = None  # wall minus monotonic time when last synchronised, in `boot`
    boot: str = ""

    # ── setting and cancelling ────────────────────────────────────────────────────────────────

    def set_timer(self, length_s: float, label: str, now: Now) -> tuple[Schedule, TimerEntry]:
        """Add a timer.

        Raises:
            TimerError: not a length of time, too short, too long, or too many.
        """
        if not length_s >= SHORTEST_S:
            raise TimerError("A timer needs at least one second")
        if length_s > LONGEST_S:
            raise TimerError("A timer can run for seven days at most; set an alarm instead")
        entry = TimerEntry(
            number=self.last_number + 1,
            kind=TIMER,
            label=_clean(label),
            created_unix_s=self.wall_s(now),
            due_unix_s=self.wall_s(now) + length_s,
            due_mono_s=now.mono_s + length_s,
            boot=now.boot,
            length_s=length_s,
        )
        return self._add(entry), entry

    def set_alarm(
        self, at: str, repeat: str, label: str, now: Now, zone: tzinfo | None
    ) -> tuple[Schedule, TimerEntry]:
        """Add an alarm at the next "HH:MM" on the local clock.

        Raises:
            TimerError: not a time of day, the time is not known, or too many.
        """
        hour, minute = _time_of_day(at)
        if repeat not in REPEATS:
            raise TimerError(f"An alarm repeats {', '.join(REPEATS[:-1])} or {REPEATS[-1]}")
        if not self.knows_the_time(now):
            raise TimerError("I do not know what time it is yet, so I cannot set an alarm")
        wall_s = self.wall_s(now)
        entry = TimerEntry(
            number=self.last_number + 1,
            kind=ALARM,
            label=_clean(label),
            created_unix_s=wall_s,
            due_unix_s=next_occurrence(wall_s, hour, minute, repeat, zone),
            due_mono_s=math.inf,
            boot=now.boot,
            repeat=repeat,
        )
        return self._add(entry), entry

    def cancel(
        self, number: int | None, label: str, kind: str
    ) -> tuple[Schedule, list[TimerEntry]]:
        """Remove the entries that match what was said; without any hint, the only one there is.

        Raises:
            TimerError: nothing matches, or it is not clear which is meant.
        """
        if not self.entries:
            raise TimerError("There is no timer and no alarm")
        found = [entry for entry in self.entries if _matches(entry, number, label, kind)]
        if not found:
            raise TimerError("There is no such timer or alarm")
        if len(found) > 1 and number is None and not label:
            raise TimerError(f"There are {len(found)}; say which one, or cancel all")
        gone = {entry.number for entry in found}
        kept = tuple(entry for entry in self.entries if entry.number not in gone)
        return replace(self, entries=kept), found

    def cancel_all(self) -> tuple[Schedule, list[TimerEntry]]:
        """Remove everything."""
        return replace(self, entries=()), list(self.entries)

    def _add(self, entry: TimerEntry) -> Schedule:
        if len(self.entries) >= MAX_ENTRIES:
            raise TimerError(f"There are {MAX_ENTRIES} timers and alarms already; cancel one first")
        return replace(self, entries=(*self.entries, entry), last_number=entry.number)

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def seen(self, now: Now) -> Schedule:
        """Note how wall and monotonic time relate while the wall clock can be believed."""
        if now.synchronised:
            return replace(self, offset_s=now.unix_s - now.mono_s, boot=now.boot)
        return self if self.boot == now.boot else replace(self, offset_s=None, boot=now.boot)

    def wall_s(self, now: Now) -> float:
        """Return the wall time to be believed."""
        if now.synchronised or self.offset_s is None or self.boot != now.boot:
            return now.unix_s
        return now.mono_s + self.offset_s

    def knows_the_time(self, now: Now) -> bool:
        """Return whether the time of day can be told: synchronised in this boot, or plausible."""
        if now.synchronised or (self.offset_s is not None and self.boot == now.boot):
            return True
        latest = max((entry.created_unix_s for entry in self.entries), default=0.0)
        return now.unix_s >= max(latest, _BUILD_UNIX_S)

    def left_s(self, entry: TimerEntry, now: Now) -> float | None:
        """Return the seconds until `entry` is due; None while that cannot be known."""
        if entry.kind == TIMER and entry.boot == now.boot:
            return entry.due_mono_s - now.mono_s
        wall_s = self.wall_s(now)
        if wall_s < entry.created_unix_s:
            # Not set yet, says the clock: it is wrong. A timer can still run its whole length.
            return None if entry.kind == ALARM else entry.length_s
        return entry.due_unix_s - wall_s

    def take_due(self, now: Now, zone: tzinfo | None) -> tuple[Schedule, list[Due]]:
        """Take out what is due; repeating alarms move on to their next time."""
        schedule = self.seen(now)
        kept: list[TimerEntry] = []
        due: list[Due] = []
        for entry in schedule.entries:
            if now.synchronised and entry.kind == ALARM:
                anchored = _realigned(entry, now.unix_s, zone)
            else:
                anchored = _anchored(entry, schedule.left_s(entry, now), now)
            left_s = schedule.left_s(anchored, now)
            if left_s is None or left_s > 0:
                kept.append(anchored)
                continue
            due.append(Due(anchored, -left_s))
            if anchored.repeat != "once":
                after_s = max(schedule.wall_s(now), anchored.due_unix_s)
                kept.append(_repeated(anchored, after_s, zone))
        return replace(schedule, entries=tuple(kept)), due

    def next_look_s(self, now: Now) -> float | None:
        """Return the seconds until `take_due` should be asked again; None: there is nothing."""
        waits_s = []
        for entry in self.entries:
            left_s = self.left_s(entry, now)
            exact = entry.kind == TIMER and entry.boot == now.boot and not entry.guessed
            soon_s = LOOK_AGAIN_S if left_s is None else max(0.0, left_s)
            waits_s.append(soon_s if exact else min(soon_s, LOOK_AGAIN_S))
        return min(waits_s, default=None)

    # ── persistence ───────────────────────────────────────────────────────────────────────────

    def dump(self) -> dict[str, object]:
        """Return the schedule as a JSON document."""
        entries = [asdict(entry) for entry in self.entries]
        for entry in entries:
            if entry["due_mono_s"] == math.inf:
                entry["due_mono_s"] = None
        return {"entries": entries, "last_number": self.last_number}


# Wall clocks before this program was written are wrong: 2026-01-01.
_BUILD_UNIX_S = calendar.timegm((2026, 1, 1, 0, 0, 0))


def load(document: Mapping[str, object] | None) -> Schedule:
    """Return the schedule of a document; entries that make no sense are left out."""
    raw = (document or {}).get("entries")
    entries = tuple(
        entry
        for item in (raw if isinstance(raw, list) else [])[:MAX_ENTRIES]
        if (entry := _entry(item)) is not None
    )
    last = max((entry.number for entry in entries), default=0)
    saved = (document or {}).get("last_number")
    fits = isinstance(saved, int) and saved < MAX_NUMBER
    return Schedule(entries, max(last, saved) if fits and isinstance(saved, int) else last)


def _entry(item: object) -> TimerEntry | None:
    if not isinstance(item, dict):
        return None
    try:
        entry = TimerEntry(
            number=int(item["number"]),
            kind=str(item["kind"]),
            label=_clean(str(item["label"])),
            created_unix_s=float(item["created_unix_s"]),
            due_unix_s=float(item["due_unix_s"]),
            due_mono_s=math.inf if item["due_mono_s"] is None else float(item["due_mono_s"]),
            boot=str(item["boot"]),
            length_s=float(item["length_s"]),
            repeat=str(item["repeat"]),
            guessed=bool(item.get("guessed", False)),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    sane = entry.kind in (TIMER, ALARM) and entry.repeat in REPEATS
    times = (entry.created_unix_s, entry.due_unix_s)
    mono_fits = entry.kind == ALARM or math.isfinite(entry.due_mono_s)
    fits = all(0.0 <= time_s <= LATEST_UNIX_S for time_s in times)
    fits = fits and 0.0 <= entry.length_s <= LONGEST_S and 0 <= entry.number < MAX_NUMBER
    return entry if sane and mono_fits and fits else None


def _realigned(entry: TimerEntry, wall_s: float, zone: tzinfo | None) -> TimerEntry:
    """Bring an alarm to where the clock now is, if that was set back since."""
    if entry.created_unix_s <= wall_s and entry.due_unix_s - wall_s <= ALARM_LONGEST_S:
        return entry
    return replace(_repeated(entry, wall_s, zone), created_unix_s=wall_s)


def _anchored(entry: TimerEntry, left_s: float | None, now: Now) -> TimerEntry:
    """Tie a timer to this boot's monotonic clock, and its wall times to the right wall clock."""
    if entry.kind == ALARM or left_s is None:
        return entry
    if entry.boot != now.boot:
        due_s = now.mono_s + left_s
        return replace(entry, due_mono_s=due_s, boot=now.boot, guessed=not now.synchronised)
    if not now.synchronised:
        return entry
    if entry.guessed:
        due_s = now.mono_s + entry.due_unix_s - now.unix_s
        return replace(entry, due_mono_s=due_s, guessed=False)
    shift_s = now.unix_s + left_s - entry.due_unix_s
    if abs(shift_s) < 1.0:
        return entry
    return replace(
        entry,
        due_unix_s=entry.due_unix_s + shift_s,
        created_unix_s=entry.created_unix_s + shift_s,
    )


# ── the calendar ──────────────────────────────────────────────────────────────────────────────


def next_occurrence(
    after_unix_s: float, hour: int, minute: int, repeat: str, zone: tzinfo | None
) -> float:
    """Return the first moment after `after_unix_s` at which the local clock shows that time."""
    local = datetime.fromtimestamp(after_unix_s, zone)
    for days in range(9):
        day = (local + timedelta(days=days)).date()
        if repeat == "weekdays" and day.weekday() >= 5:
            continue
        # A fresh local time for each day: summer time may begin in between.
        moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()
        if moment > after_unix_s:
            return moment
    raise AssertionError("one of nine days has such a moment")  # pragma: no cover


def _repeated(entry: TimerEntry, after_s: float, zone: tzinfo | None) -> TimerEntry:
    """Return an alarm at the next moment of its time of day."""
    local = datetime.fromtimestamp(entry.due_unix_s, zone)
    due_s = next_occurrence(after_s, local.hour, local.minute, entry.repeat, zone)
    return replace(entry, due_unix_s=due_s)


def _time_of_day(text: str) -> tuple[int, int]:
    hour, _, minute = text.strip().partition(":")
    if hour.isdecimal() and minute.isdecimal() and int(hour) < 24 and int(minute) < 60:
        return int(hour), int(minute)
    raise TimerError("An alarm needs a time of day between 00:00 and 23:59")


def _matches(entry: TimerEntry, number: int | None, label: str, kind: str) -> bool:
    if number is not None and entry.number != number:
        return False
    if kind and entry.kind != kind:
        return False
    return not label or _clean(label).casefold() in entry.label.casefold()


def _clean(label: str) -> str:
    return " ".join(printable_lines(label).split())[:MAX_LABEL]
