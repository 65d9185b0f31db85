"""What happens to a household in a day, drawn from a seed: the same day every time."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

DAY_H = 24.0


class Trouble(enum.Enum):
    """What may go wrong."""

    HANDOVER = "handover"  # another network
    END = "end"  # the service ends the connection without a word before
    OUTAGE = "outage"  # no network at all
    SERVER = "server failure"  # refuses for a while
    QUOTA = "quota storm"
    REBOOT = "reboot"  # of the device


@dataclass(frozen=True, slots=True)
class Event:
    """One thing of the day; `long_s` where it lasts."""

    at_s: float
    trouble: Trouble
    long_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Talk:
    """Somebody says something; `then_s` later perhaps more."""

    at_s: float
    lengths_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """Hours of household life."""

    hours: float
    events: tuple[Event, ...]
    talks: tuple[Talk, ...]


# Per 24 h. The connection ends of the service's own limit (about 140) come on top.
PER_DAY = {
    Trouble.HANDOVER: 40,
    Trouble.END: 20,
    Trouble.OUTAGE: 3,
    Trouble.SERVER: 10,
    Trouble.QUOTA: 4,
    Trouble.REBOOT: 1,
}
OUTAGES_S = (600.0, 1800.0, 5400.0)
TALKS_PER_H = 12.0


def draw(hours: float, seed: int) -> Day:
    """Draw a day; a short one still has each kind of trouble once."""
    chance = random.Random(seed)
    end_s = hours * 3600.0
    events: list[Event] = []
    for trouble, per_day in PER_DAY.items():
        for number in range(max(1, round(per_day * hours / DAY_H))):
            # Not in the last tenth: what it does to the conversation must still be seen.
            at_s = chance.uniform(0.03, 0.9) * end_s
            long_s = 0.0
            if trouble is Trouble.OUTAGE:
                long_s = min(OUTAGES_S[number % len(OUTAGES_S)], end_s / 12)
            elif trouble in (Trouble.SERVER, Trouble.QUOTA):
                long_s = min(chance.uniform(20.0, 90.0), end_s / 24)
            events.append(Event(at_s, trouble, long_s))
    events.sort(key=lambda event: event.at_s)
    return Day(hours, tuple(_apart(events)), tuple(_talks(chance, end_s)))


def _apart(events: list[Event]) -> list[Event]:
    """Let each trouble begin after the one before has ended."""
    result: list[Event] = []
    free_s = 0.0
    for event in events:
        at_s = max(event.at_s, free_s)
        result.append(Event(at_s, event.trouble, event.long_s))
        free_s = at_s + event.long_s + 30.0
    return result


def _talks(chance: random.Random, end_s: float) -> list[Talk]:
    talks: list[Talk] = []
    at_s = 60.0
    while at_s < end_s - 120.0:
        count = chance.choice((1, 1, 1, 2, 3))
        talks.append(Talk(at_s, tuple(round(chance.uniform(0.6, 6.0), 1) for _ in range(count))))
        at_s += chance.expovariate(TALKS_PER_H / 3600.0) + 40.0
    return talks
