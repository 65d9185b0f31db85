"""The books of a device, over its openings."""

from __future__ import annotations

from agentd.audio.health import DeviceHealth, Pacing
from agentd.audio.pace import AHEAD_S, PROOF_S, TOO_FAST
from agentd.audio.supervise import DeviceTrouble

GONE = DeviceTrouble("the microphone is gone", "Plug it in")
BUSY = DeviceTrouble("it is used by another program", "Stop that one")


def test_each_trouble_is_news_once_and_the_outage_counts_from_the_first() -> None:
    """A device that cannot be opened again and again is reported once, with each new cause."""
    health = DeviceHealth("capture")
    assert not health.is_lost
    assert [health.lost(*one) for one in ((GONE, 5.0), (GONE, 6.0), (BUSY, 7.0))] == [
        True, False, True,
    ]  # fmt: skip
    assert (health.is_lost, health.told) == (True, BUSY)
    assert health.back(15.0) == 10.0
    assert (health.is_lost, health.told) == (False, None)
    assert health.back(16.0) == 0.0
    assert health.lost(BUSY, 17.0)


def fast(health: DeviceHealth, from_s: float) -> list[Pacing]:
    """Let it deliver a second of sound every millisecond."""
    return [health.take(1.0, from_s + number / 1000) for number in range(round(AHEAD_S) + 4)]


def test_one_that_does_not_keep_time_is_closed_and_must_prove_itself() -> None:
    """Reported once an opening; then unheard until it has kept time for a while."""
    health = DeviceHealth("capture")
    judged = fast(health, 0.0)
    assert judged[0] == Pacing(usable=True)
    assert [one.failed for one in judged if one.failed] == [TOO_FAST]
    assert judged[-1] == Pacing(usable=False)
    health.opened()
    honest = [health.take(0.02, 100.0 + 0.02 * number) for number in range(round(PROOF_S * 60))]
    assert not honest[0].usable
    assert [one.proved for one in honest].count(True) == 1
    assert honest[-1] == Pacing(usable=True)


def test_closed_on_purpose_it_is_believed_again() -> None:
    """Unmuting opens the device that is there now: nothing is held against it."""
    health = DeviceHealth("playback")
    fast(health, 0.0)
    health.lost(TOO_FAST, 1.0)
    health.forget()
    health.opened()
    assert (health.is_lost, health.told) == (False, None)
    assert health.take(0.02, 50.0) == Pacing(usable=True)
