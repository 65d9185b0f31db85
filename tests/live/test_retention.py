"""How long words are kept: on disk not longer than in memory, and no longer than allowed."""

from __future__ import annotations

from typing import Any

from agentd.live.memory import TRANSCRIPT
from tests.live.world import World, settings

SPOKEN = "my PIN is 4711"


def document(*ages_h: float) -> dict[str, Any]:
    """A transcript with one turn for each age, as a run before this one left it."""
    world = World()
    turns = [
        {
            "user": f"{SPOKEN} {age_h}",
            "model": "I see",
            "at_unix_s": world.wall.unix_s - age_h * 3600,
            "at_synchronised": True,
        }
        for age_h in ages_h
    ]
    return {"version": 1, "turns": turns}


def started(transcript: object, **config: Any) -> World:
    world = World(settings(**config))
    world.documents[TRANSCRIPT] = transcript
    return world.start(None, transcript)


def kept(world: World) -> list[str]:
    return [turn["user"] for turn in (world.documents.get(TRANSCRIPT) or {"turns": []})["turns"]]


def test_switched_off_the_transcript_leaves_the_disk_at_the_next_start() -> None:
    """Whoever sets restore_context = false does not want to find it there."""
    world = started(document(1.0), privacy__restore_context=False)
    assert world.documents.get(TRANSCRIPT) is None


def test_what_is_too_old_leaves_the_disk_at_the_start() -> None:
    """Only the turn of today is left of a device that was off for days."""
    world = started(document(50.0, 30.0, 1.0), privacy__transcript_max_age_h=24.0)
    assert kept(world) == [f"{SPOKEN} 1.0"]


def test_fewer_turns_are_allowed_than_there_are() -> None:
    """The oldest go, on disk as well."""
    world = started(document(3.0, 2.0, 1.0), privacy__transcript_max_turns=2)
    assert kept(world) == [f"{SPOKEN} 2.0", f"{SPOKEN} 1.0"]


def test_old_turns_leave_the_disk_although_nobody_speaks() -> None:
    """A quiet device deletes too."""
    world = started(document(23.0, 1.0), privacy__transcript_max_age_h=24.0).connect()
    assert len(kept(world)) == 2
    world.advance(3.0 * 3600)
    assert kept(world) == [f"{SPOKEN} 1.0"]
    world.advance(24.0 * 3600)
    assert world.documents.get(TRANSCRIPT) is None


def test_a_clock_that_is_set_late_makes_ages_known() -> None:
    """Within the hour after NTP answers, what is too old is gone."""
    world = World(settings(privacy__transcript_max_age_h=24.0))
    world.wall = type(world.wall)(3_600.0, synchronised=False)
    stored = document(50.0)
    world.documents[TRANSCRIPT] = stored
    world.start(None, stored).connect()
    assert len(kept(world)) == 1
    world.wall = type(world.wall)(1_800_000_000.0, synchronised=True)
    world.advance(3_700.0)
    assert world.documents.get(TRANSCRIPT) is None


def test_a_file_of_a_later_version_is_left_alone() -> None:
    """It may be of use after the next upgrade."""
    later = {"version": 2, "turns": [1, 2, 3]}
    world = started(later)
    assert world.documents[TRANSCRIPT] == later
