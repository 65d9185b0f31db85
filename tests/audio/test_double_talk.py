"""Somebody over the reply, or the room: the decision on synthetic sound."""

from __future__ import annotations

import pytest

from agentd.audio.echo import policy as echo

if not echo.is_installed():
    pytest.skip("extra `aec` is not installed", allow_module_level=True)

import numpy as np

from agentd.audio.echo.double_talk import FIRST, WINDOW, Bands, DoubleTalk, Samples, Without

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


def test_a_voice_beside_a_tone_is_told_from_noise() -> None:
    """The noise around a tone is nobody's; what stands above it is somebody's."""
    talk = DoubleTalk()
    dice = np.random.default_rng(6)

    def hum() -> Samples:
        return (dice.standard_normal(320) * 60).astype(np.int16)

    far, voice = tone(440, 8_000, 220), tone(2_000, 900, 20)
    alone = [talk.feed(one // 2 + hum(), one, hum()) for one in far[:200]]
    assert talk.is_narrow
    assert not any(alone[100:])
    over = [
        talk.feed(one // 2 + hum() + said, one, hum())
        for one, said in zip(far[200:], voice, strict=True)
    ]
    assert all(over[WINDOW:]), "although the canceller left nothing of it"


def test_the_bands_of_a_tone_are_left_out_and_the_others_kept() -> None:
    """A tone of -12 dBFS goes, a voice that is 20 dB fainter stays as it is, a frame late."""
    talk, without = DoubleTalk(), Without()
    voice = tone(2_000, 800, 60)
    out = []
    for far, said in zip(tone(440, 8_000, 60), voice, strict=True):
        near = far + said
        talk.feed(near, far, near)
        out.append(without.feed(near, talk.kept))
    heard = np.concatenate(out[30:]).astype(float)
    wanted = np.concatenate(voice[29:59]).astype(float)
    assert np.sqrt(np.mean((heard - wanted) ** 2)) < 0.05 * np.sqrt(np.mean(wanted**2))
