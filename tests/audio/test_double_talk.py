"""Somebody over the reply, or the room: the decision on synthetic sound."""

from __future__ import annotations

import pytest

from agentd.audio import echo

if not echo.is_installed():
    pytest.skip("extra `aec` is not installed", allow_module_level=True)

import numpy as np

from agentd.audio.double_talk import FIRST, Bands, DoubleTalk, Samples

SILENCE = np.zeros(320, np.int16)


def tone(hz: float, amplitude: float, frames: int) -> list[Samples]:
    """Return frames of a tone."""
    at = np.arange(320 * frames) / 16_000
    return list((amplitude * np.sin(2 * np.pi * hz * at)).astype(np.int16).reshape(frames, 320))


def taught(late: int = 8) -> DoubleTalk:
    """Return one that knows a room which halves the sound, `late` frames after."""
    talk = DoubleTalk()
    dice = np.random.default_rng(4)
    played = [(dice.standard_normal(320) * 3_000).astype(np.int16) for _ in range(6 * FIRST)]
    for i, far in enumerate(played):
        near: Samples = played[i - late] // 2 if i >= late else SILENCE
        talk.feed(near, far, near // 4)
    return talk


def test_a_rest_of_the_echo_is_nobodys_voice() -> None:
    """Well or badly cancelled, early or late."""
    talk = taught()
    far = tone(700, 3_000, 20)
    near = tone(700, 1_500, 20)
    assert not any(talk.feed(n, f, n) for n, f in zip(near, far, strict=True))


def test_the_room_rings_on_after_the_reply() -> None:
    """For as long as its sound dies away."""
    talk = taught()
    for far, near in zip(tone(700, 3_000, 20), tone(700, 1_500, 20), strict=True):
        talk.feed(near, far, near)
    ringing = [(n * 10 ** (-i / 20)).astype(np.int16) for i, n in enumerate(tone(700, 1_500, 30))]
    assert not any(talk.feed(near, SILENCE, near) for near in ringing)


def test_a_voice_stands_out_where_the_reply_is_not() -> None:
    """Half as loud as the echo, in other bands than it, and known within 100 ms."""
    talk = taught()
    far, near, voice = tone(700, 3_000, 40), tone(700, 1_500, 40), tone(2_000, 750, 40)
    alone = [talk.feed(n, f, n // 8) for n, f in zip(near[:20], far[:20], strict=True)]
    assert not any(alone)
    both = [
        talk.feed(n + v, f, n // 8 + v)
        for n, v, f in zip(near[20:], voice[20:], far[20:], strict=True)
    ]
    assert both.index(True) < 5
    assert all(both[5:])


def test_without_a_far_end_everything_may_be_a_voice() -> None:
    """Nothing is judged that no reply can be in."""
    talk = taught()
    for _ in range(100):
        talk.feed(SILENCE, SILENCE, SILENCE)
    assert all(talk.feed(v, SILENCE, v) for v in tone(700, 1_000, 5))


def test_it_learns_a_room_that_becomes_louder() -> None:
    """The microphone was moved towards the loudspeaker: 12 dB, in seconds."""
    talk = taught()
    dice = np.random.default_rng(5)
    played: Bands = dice.standard_normal((400, 320)) * 3_000
    heard = [
        talk.feed((f * 2).astype(np.int16), f.astype(np.int16), f.astype(np.int16)) for f in played
    ]
    assert any(heard[:10])
    assert not any(heard[-100:])
