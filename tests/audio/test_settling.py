"""When what a canceller leaves of a reply is fit for the gate: on powers, frame by frame."""

from __future__ import annotations

import pytest

from agentd.audio.echo import policy as echo

if not echo.is_installed():
    pytest.skip("extra `aec` is not installed", allow_module_level=True)

import numpy as np

from agentd.audio.echo.canceller import Known
from agentd.audio.echo.far_end import Samples
from agentd.audio.echo.settling import LEAST_FRAMES, LINGERS_FRAMES, MOST_FRAMES, Settling

SILENCE = np.zeros(320, np.int16)


def noise(rms: float, frames: int, seed: int = 1) -> list[Samples]:
    """Return steady noise."""
    dice = np.random.default_rng(seed)
    return list((dice.standard_normal((frames, 320)) * rms).astype(np.int16))


def syllables(frames: int, rms: float = 3_000.0) -> list[Samples]:
    """Return noise that comes and goes like speech: 120 ms each, from loud to almost nothing."""
    dice = np.random.default_rng(2)
    swell = np.repeat(10 ** dice.uniform(-1.5, 0, frames // 6 + 1), 6)[:frames, None]
    return list((dice.standard_normal((frames, 320)) * swell * rms).astype(np.int16))


def later(frames: list[Samples], count: int, gain: float) -> list[Samples]:
    """Return an echo that comes `count` frames after its reference."""
    echoes = [SILENCE] * count + frames[: len(frames) - count]
    return [(one * gain).astype(np.int16) for one in echoes]


def feed(near: list[Samples], far: list[Samples], rest: list[Samples]) -> tuple[Settling, int]:
    """Return what is known after these frames, and after how many anything was."""
    settling, after = Settling(), len(far)
    for i, frame in enumerate(zip(near, far, rest, strict=True)):
        if settling.feed(*frame):
            after = min(after, i)
    return settling, after


@pytest.mark.parametrize("lag", [0, 4, 11, 17])
def test_an_echo_that_is_taken_away_settles_it(lag: int) -> None:
    """By 15 dB and more, after two seconds of loud reply, wherever the echo is."""
    far = syllables(300)
    near = later(far, lag, 0.5)
    settling, after = feed(near, far, [one // 10 for one in near])
    assert settling.known is Known.CANCELLED
    assert after >= LEAST_FRAMES - 1
    assert settling.erle_db > 15


@pytest.mark.parametrize("rms", [3.0, 30.0, 300.0, 600.0])
def test_a_room_without_an_echo_settles_it_whatever_its_noise(rms: float) -> None:
    """From -80 to -35 dBFS: nothing of the reply is there that could be taken away."""
    far, near = syllables(300), noise(rms, 300)
    settling, after = feed(near, far, near)
    assert settling.known is Known.NO_ECHO
    assert LEAST_FRAMES - 1 <= after <= MOST_FRAMES
    assert settling.left_dbfs < -48


def test_an_echo_that_is_not_taken_away_is_no_room_without_one() -> None:
    """It settles by time alone, and says so."""
    far = syllables(400)
    near = later(far, 8, 0.3)
    settling, after = feed(near, far, near)
    assert settling.known is Known.BY_LEVEL
    assert after == MOST_FRAMES - 1
    assert settling.left_dbfs > -45


def test_a_rest_hidden_by_noise_settles_it() -> None:
    """An echo 6 dB above the noise, cancelled to far below it: 15 dB can never show."""
    far, hum = syllables(300), noise(300.0, 300)
    near = [e + n for e, n in zip(later(far, 5, 0.2), hum, strict=True)]
    settling, after = feed(near, far, hum)
    assert settling.known is Known.CANCELLED
    assert after < MOST_FRAMES
    assert settling.erle_db < 15


def test_a_faint_reply_is_never_doubtful() -> None:
    """At a low volume no frame is held back, and nothing is learned."""
    far = noise(50.0, 300)
    settling = Settling()
    for near in noise(20.0, 300, seed=3):
        settling.feed(near, far.pop(), near)
        assert not settling.is_doubtful
    assert settling.known is Known.NOTHING


def test_rare_sounds_are_bounded_too() -> None:
    """One loud frame in sixteen keeps the gate shut for three seconds in all, not for a minute."""
    settling = Settling()
    loud, near = noise(3_000.0, 1)[0], noise(900.0, 500)
    doubtful = 0
    for i in range(500):
        settling.feed(near[i], loud if i % 16 == 0 else SILENCE, near[i])
        doubtful += settling.is_doubtful
    assert settling.is_settled
    assert doubtful < MOST_FRAMES


def test_doubt_ends_when_the_echo_has_died_away() -> None:
    """After a loud frame for as long as a room may ring, no longer."""
    settling = Settling()
    settling.feed(SILENCE, noise(3_000.0, 1)[0], SILENCE)
    doubtful = [settling.is_doubtful]
    for _ in range(2 * LINGERS_FRAMES):
        settling.feed(SILENCE, SILENCE, SILENCE)
        doubtful.append(settling.is_doubtful)
    assert doubtful.count(True) == LINGERS_FRAMES
