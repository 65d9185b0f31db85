"""AEC3 itself, on a synthetic room: what comes out is fit for the gate."""

from __future__ import annotations

import pytest

from agentd.audio import formats
from agentd.audio.echo import policy as echo
from agentd.audio.echo.canceller import Known
from agentd.config.settings import Audio
from agentd.events import Frame

if not echo.is_installed():
    pytest.skip("extra `aec` is not installed", allow_module_level=True)

import numpy as np

from agentd.audio.echo.far_end import LEAD_S, Samples
from agentd.audio.echo.webrtc import WebrtcCanceller
from rig.room import synthetic

BEGIN_S = 50.0
ECHO_MS = 90


def reply(length_s: float, seed: int = 1) -> Samples:
    """Return 24 kHz noise that comes and goes like syllables."""
    dice = np.random.default_rng(seed)
    count = round(length_s * 24_000)
    swell = np.repeat(dice.uniform(0.05, 1.0, count // 3_000 + 1), 3_000)[:count]
    low = np.convolve(dice.standard_normal(count), np.ones(6) / 6, "same")
    return (low * swell * 5_000).astype(np.int16)


def echo_of(played: Samples, gain: float) -> Samples:
    """Return what a microphone hears of it at 16 kHz, `ECHO_MS` late, with a little noise."""
    wide = np.interp(np.arange(len(played) * 2 // 3) * 1.5, np.arange(len(played)), played)
    heard = np.convolve(wide, synthetic())[: len(wide)] * gain
    late = np.concatenate((np.zeros(ECHO_MS * 16), heard))
    noise = np.random.default_rng(9).standard_normal(len(late)) * 5
    return np.clip(late + noise, -32_768, 32_767).astype(np.int16)


def run(
    canceller: WebrtcCanceller,
    played: Samples,
    heard: Samples,
    *,
    begin_s: float = BEGIN_S,
    latency_s: float = 0.12,
) -> list[Frame]:
    """Let a reply be played and heard; return the frames that come out."""
    out: list[Frame] = []
    written = 0
    for i in range(len(heard) // 320):
        while written < len(played) and written / 24_000 < i * 0.02 + latency_s:
            piece = played[written : written + 720]
            canceller.played(piece.tobytes(), begin_s + written / 24_000)
            written += 720
        pcm = heard[i * 320 : (i + 1) * 320].tobytes()
        out.append(canceller.clean(Frame(i, begin_s + i * 0.02, pcm)))
    return out


def level(frames: list[Frame]) -> float:
    return formats.level_dbfs(b"".join(frame.pcm for frame in frames))


def test_an_echo_is_taken_away_by_12_db_and_more() -> None:
    """Of noise, which is harder than speech; the frames keep their numbers and times."""
    played = reply(8.0)
    heard = echo_of(played, 0.5)
    canceller = WebrtcCanceller()
    out = run(canceller, played, heard)
    last = out[200:390]
    assert level(last) < formats.level_dbfs(heard[200 * 320 : 390 * 320].tobytes()) - 12
    assert all(frame.index == i for i, frame in enumerate(last, start=200))
    assert canceller.stats.is_settled
    assert canceller.stats.lead_ms == pytest.approx(LEAD_S * 1000)


def test_until_the_room_is_known_nothing_passes_for_a_voice() -> None:
    """The first second of the first reply; later replies are clean from the beginning."""
    played = reply(6.0)
    heard = echo_of(played, 0.5)
    canceller = WebrtcCanceller()
    first = run(canceller, played, heard)
    assert all(frame.is_echo for frame in first[10:80])
    assert canceller.stats.known is Known.CANCELLED
    second = run(canceller, played, heard, begin_s=BEGIN_S + 60)
    assert level(second[10:290]) < formats.level_dbfs(heard[3_200:92_800].tobytes()) - 12
    assert not all(frame.is_echo for frame in second[10:290])


def test_without_a_reply_frames_are_left_alone() -> None:
    """The very same objects, before, and after the tail of a reply has passed."""
    canceller = WebrtcCanceller()
    frame = Frame(0, BEGIN_S - 1, bytes(640))
    assert canceller.clean(frame) is frame
    played = reply(2.0)
    silence = np.zeros(160 * 320, np.int16)
    run(canceller, played, silence)
    worked = canceller.stats.frames
    assert 135 < worked < 155
    assert canceller.clean(later := Frame(161, BEGIN_S + 3.3, bytes(640))) is later
    assert canceller.stats.frames == worked


def test_noise_suppression_hears_everything() -> None:
    """Also what is said while nothing is played; steady noise loses its 12 dB."""
    canceller = echo.load(Audio(noise_suppression=True))
    noise = (np.random.default_rng(2).standard_normal(16_000 * 6) * 500).astype(np.int16)
    frames = [
        canceller.clean(Frame(i, i * 0.02, noise[i * 320 : (i + 1) * 320].tobytes()))
        for i in range(300)
    ]
    assert level(frames[200:]) < formats.level_dbfs(noise.tobytes()) - 6
    assert canceller.stats.frames == 0


def test_a_speaker_that_is_heard_before_its_time_moves_the_lead() -> None:
    """A sound card that claims 200 ms too much: after two measurements AEC3 can find the echo."""
    played = reply(14.0)
    heard = echo_of(played, 0.5)[(ECHO_MS + 200) * 16 :]
    canceller = WebrtcCanceller()
    out = run(canceller, played, heard, latency_s=0.5)
    assert canceller.stats.lead_ms > 200
    assert canceller.stats.is_settled
    assert level(out[-120:-20]) < formats.level_dbfs(heard[-120 * 320 : -20 * 320].tobytes()) - 12
