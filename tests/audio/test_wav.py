"""WAV files of every kind are read, and what is written is valid at every moment."""

from __future__ import annotations

import resource
import struct
import wave
from pathlib import Path

import pytest

from agentd.audio.wav import WavWriter, read_header
from agentd.errors import AudioError, DeviceNotFound, UnsupportedFormat


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a RIFF chunk, padded."""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    """Return a WAV file of chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fmt(tag: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16) -> bytes:
    """Return a format chunk."""
    block = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits))


def put(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(content)
    return path


def test_the_standard_module_and_ours_agree(tmp_path: Path) -> None:
    """A plain file of `wave`."""
    path = tmp_path / "plain.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(3)
        file.setframerate(44_100)
        file.writeframes(bytes(6 * 100))
    layout = read_header(path)
    assert (layout.rate_hz, layout.channels, layout.width) == (44_100, 2, 3)
    assert (layout.data_at, layout.data_bytes, layout.frame_bytes) == (44, 600, 6)


def test_extensible_and_foreign_chunks_are_understood(tmp_path: Path) -> None:
    """What sox and Windows write for 24 bits; metadata of odd length in between."""
    plain = struct.pack("<HHIIHH", 0xFFFE, 1, 48_000, 144_000, 3, 24)
    extra = struct.pack("<HHIH", 22, 24, 4, 1) + bytes(14)
    file = riff(chunk(b"LIST", b"abc"), chunk(b"fmt ", plain + extra), chunk(b"data", bytes(9)))
    layout = read_header(put(tmp_path / "x.wav", file))
    assert (layout.rate_hz, layout.width, layout.data_bytes) == (48_000, 3, 9)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 5_000])
def test_a_length_that_is_not_true_is_not_believed(tmp_path: Path, size: int) -> None:
    """A recorder that is still running, or was killed: what is there counts."""
    torn = riff(fmt()) + b"data" + struct.pack("<I", size) + bytes(100)
    assert read_header(put(tmp_path / "torn.wav", torn)).data_bytes == 100


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "not a WAV"),
        (b"ID3" + bytes(100), "not a WAV"),
        (riff(fmt()), "no samples"),
        (riff(chunk(b"data", bytes(10))), "no format"),
        (riff(chunk(b"fmt ", bytes(8))), "torn header"),
        (riff(fmt(tag=3, bits=32), chunk(b"data", bytes(8))), "format 0x0003"),
        (riff(fmt(bits=64), chunk(b"data", bytes(8))), "64 bits"),
        (riff(fmt(channels=0), chunk(b"data", bytes(8))), "0 channels"),
        (riff(fmt(rate=1_000), chunk(b"data", bytes(8))), "1000 samples per second"),
    ],
)
def test_what_cannot_be_used_says_what_to_do(tmp_path: Path, content: bytes, what: str) -> None:
    """Name, reason, remedy."""
    path = put(tmp_path / "odd.wav", content)
    with pytest.raises(UnsupportedFormat, match=what) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert "sox" in str(caught.value)


def test_a_missing_file_is_a_missing_device(tmp_path: Path) -> None:
    """The daemon treats it as a microphone that is not plugged in."""
    with pytest.raises(DeviceNotFound, match="No such file"):
        read_header(tmp_path / "none.wav")


def test_the_file_is_valid_after_every_write(tmp_path: Path) -> None:
    """Somebody else may read it at any time."""
    path = tmp_path / "grows.wav"
    writer = WavWriter(path, 24_000)
    for length in range(1, 4):
        with wave.open(str(path), "rb") as file:
            assert file.getnframes() == (length - 1) * 480
        writer.append(bytes(960))
    writer.close()
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (24_000, 1, 1_440)
    assert writer.samples == 1_440


def test_a_file_that_cannot_be_made_is_a_missing_device(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(DeviceNotFound, match="may write"):
        WavWriter(tmp_path / "no" / "such" / "directory.wav", 24_000)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """What the file system refuses, or takes only half of (here: by a limit of the process)."""
    writer = WavWriter(tmp_path / "full.wav", 24_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(AudioError, match="Make room"):
            writer.append(bytes(960))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.close()
