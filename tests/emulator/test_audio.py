"""Audio arithmetic and the energy gate."""

from __future__ import annotations

import math
import wave
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_emulator.activity import EnergyGate, SpeechEnded, SpeechStarted
from live_emulator.audio import level_dbfs, pcm_of, read_wav, resample, samples_of, tone, wav_bytes
from live_emulator.replies import pieces
from live_emulator.setup import ActivityDetection
from tests.emulator.harness import silence, voice


@pytest.mark.parametrize("hz", [200, 1_000, 2_500])
def test_upsampling_keeps_the_signal(hz: int) -> None:
    """16 → 24 kHz reproduces a sine with an error at least 30 dB below it."""
    source = array(
        "h", (round(10_000 * math.sin(2 * math.pi * hz * n / 16_000)) for n in range(16_000))
    )
    out = samples_of(resample(pcm_of(source), 16_000, 24_000))
    assert len(out) == 24_000
    wanted = [10_000 * math.sin(2 * math.pi * hz * n / 24_000) for n in range(24_000)]
    worst = max(abs(a - b) for a, b in zip(out[10:-10], wanted[10:-10], strict=True))
    assert worst < 10_000 / 30


@given(st.binary(max_size=400), st.sampled_from([8_000, 16_000, 24_000, 44_100]))
def test_resampling_gives_the_right_length(pcm: bytes, rate_hz: int) -> None:
    """Any PCM at any rate, odd bytes dropped, gives the length that time asks for."""
    out = resample(pcm, rate_hz, 24_000)
    assert len(out) // 2 == len(pcm) // 2 * 24_000 // rate_hz
    assert len(out) % 2 == 0


def test_full_scale_does_not_wrap() -> None:
    """Overshoot at a full-scale step is clipped."""
    step = array("h", [-32_768] * 50 + [32_767] * 50)
    out = samples_of(resample(pcm_of(step), 16_000, 24_000))
    assert (min(out), max(out)) == (-32_768, 32_767)


def test_tone_and_level() -> None:
    """The tone has its length and level; silence is -120 dBFS."""
    pcm = tone(0.5)
    assert len(pcm) == 24_000
    assert level_dbfs(samples_of(pcm)) == pytest.approx(-15.0, abs=0.5)
    assert level_dbfs(array("h")) == level_dbfs(array("h", [0, 0])) == -120.0
    assert tone(0.0) == b""


def test_wav_files_are_read_as_24_khz_mono(tmp_path: Path) -> None:
    """Any 16-bit WAV is converted; others are refused."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(voice(0.5), 16_000))
    assert len(read_wav(path)) == 24_000
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(24_000)
        writer.writeframes(array("h", [1, 2, 3, 4]).tobytes())
    assert samples_of(read_wav(path)) == array("h", [1, 3])
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(1)
        writer.setframerate(24_000)
        writer.writeframes(b"abc")
    with pytest.raises(ValueError, match="16-bit"):
        read_wav(path)


@given(st.text(max_size=80), st.integers(0, 10))
def test_pieces_join_to_the_text(text: str, count: int) -> None:
    """Transcription pieces never lose a character."""
    found = pieces(text, count)
    assert "".join(found) == text
    assert 1 <= len(found) <= max(1, count)


# -- the gate ----------------------------------------------------------------------------------


def edges(gate: EnergyGate, pcm: bytes, chunk: int = 640) -> list[tuple[str, float]]:
    out: list[tuple[str, float]] = []
    for start in range(0, len(pcm), chunk):
        out += [
            (type(event).__name__, event.offset_s)
            for event in gate.feed(pcm[start : start + chunk])
            if isinstance(event, SpeechStarted | SpeechEnded)
        ]
    return out


@pytest.mark.parametrize("chunk", [2, 333, 640, 100_000])
def test_chunking_does_not_matter(chunk: int) -> None:
    """The same stream in any chunk size gives the same edges."""
    stream = silence(0.4) + voice(0.6) + silence(1.0)
    found = edges(EnergyGate(ActivityDetection()), stream, chunk)
    assert [name for name, _ in found] == ["SpeechStarted", "SpeechEnded"]
    assert [offset_s for _, offset_s in found] == pytest.approx([0.4, 1.0])


def test_short_noises_are_no_speech() -> None:
    """prefix_padding_ms of speech is needed before the start is committed."""
    config = ActivityDetection(prefix_padding_ms=200)
    assert edges(EnergyGate(config), silence(0.2) + voice(0.1) + silence(1.0)) == []
    assert len(edges(EnergyGate(config), silence(0.2) + voice(0.3) + silence(1.0))) == 2


def test_silence_duration_decides_the_end() -> None:
    """A gap shorter than silence_duration_ms does not end speech."""
    stream = voice(0.3) + silence(0.4) + voice(0.3) + silence(2.0)
    long, short = (EnergyGate(ActivityDetection(silence_duration_ms=ms)) for ms in (600, 200))
    assert len(edges(long, stream)) == 2
    assert len(edges(short, stream)) == 4


def test_low_sensitivity_needs_a_louder_voice() -> None:
    """START_SENSITIVITY_LOW has the higher threshold."""
    quiet = array("h", (value // 30 for value in samples_of(voice(1.0)))).tobytes()
    assert edges(EnergyGate(ActivityDetection(start_high=True)), quiet)
    assert not edges(EnergyGate(ActivityDetection(start_high=False)), quiet)
