"""Why the gate is shut in half duplex, and until when."""

from __future__ import annotations

from agentd.audio.echo.half_duplex import HalfDuplex

TAIL_S = 0.3


def test_nothing_plays_and_the_gate_is_open() -> None:
    """At the start there is no reason."""
    assert not HalfDuplex().is_shut(0.0)


def test_a_reply_shuts_until_its_tail_is_over() -> None:
    """From the first sample to the last, and while the room still rings."""
    shutter = HalfDuplex().reply_began(1)
    assert shutter.is_shut(1e9)
    shutter = shutter.reply_ended(1, 10.0, TAIL_S)
    assert shutter.is_shut(10.29)
    assert not shutter.is_shut(10.3)


def test_an_earcon_in_a_reply_does_not_open_the_gate() -> None:
    """The sound is over, the reply is not."""
    shutter = HalfDuplex().reply_began(1).sounded(5.0, 0.1, TAIL_S)
    assert shutter.is_shut(6.0)
    assert not shutter.reply_ended(1, 10.0, TAIL_S).is_shut(10.4)


def test_a_reply_that_ends_in_a_long_sound_leaves_it_shut() -> None:
    """Whatever is over last counts."""
    shutter = HalfDuplex().reply_began(1).sounded(9.0, 3.0, TAIL_S).reply_ended(1, 10.0, TAIL_S)
    assert shutter.is_shut(12.2)
    assert not shutter.is_shut(12.3)


def test_the_end_of_an_older_reply_changes_nothing() -> None:
    """The next one is at the speaker already."""
    shutter = HalfDuplex().reply_began(1).reply_began(2).reply_ended(1, 10.0, TAIL_S)
    assert shutter.is_shut(11.0)


def test_a_hushed_alarm_is_followed_by_its_tail_only() -> None:
    """Pressed away after one second of ten."""
    shutter = HalfDuplex().sounded(0.0, 10.0, TAIL_S).hushed(1.0, TAIL_S)
    assert shutter.is_shut(1.2)
    assert not shutter.is_shut(1.3)


def test_hushing_opens_neither_during_a_reply_nor_in_its_tail() -> None:
    """A reply is not a sound of ours."""
    shutter = HalfDuplex().reply_began(1).sounded(0.0, 10.0, TAIL_S)
    assert shutter.hushed(1.0, TAIL_S).is_shut(1.4)
    ended = shutter.reply_ended(1, 2.0, 1.0).hushed(2.1, TAIL_S)
    assert ended.is_shut(2.9)
    assert not ended.is_shut(3.0)
