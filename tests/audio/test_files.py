"""WAV devices in real time: both files laid side by side are the room."""

from __future__ import annotations

import asyncio
import wave
from array import array
from pathlib import Path

import pytest

from agentd.audio import formats
from agentd.audio.capture import Microphone
from agentd.audio.files import FileCapture, FilePlayback, Timeline
from agentd.audio.opening import open_devices
from agentd.audio.playback import Player
from agentd.clock import FakeClock, SystemClock
from agentd.config.settings import Audio
from agentd.errors import DeviceNotFound
from agentd.events import (
    Event,
    Frame,
    PlaybackMark,
    ReplyAudio,
    ReplyComplete,
)
from rig.waiting import running, until
from tests.audio.test_resample import tone


def write_wav(path: Path, values: list[int], rate_hz: int, channels: int = 1) -> Path:
    """Write int16 samples."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(formats.to_pcm(values))
    return path


def read_wav(path: Path) -> list[int]:
    """Return the samples of a file."""
    with wave.open(str(path), "rb") as file:
        return array("h", file.readframes(file.getnframes())).tolist()


def capture(path: Path, frames: int, channel: int = 0) -> list[bytes]:
    """Return so many frames of a file device on a virtual clock."""
    got: list[bytes] = []

    async def main() -> None:
        device = FileCapture(path, channel, Timeline(FakeClock()))
        async with running(device.capture(lambda pcm, _at_s, _overrun: got.append(pcm))):
            await until(lambda: len(got) >= frames)

    asyncio.run(main())
    return got[:frames]


def test_a_16_khz_file_is_heard_as_it_is_and_then_silence(tmp_path: Path) -> None:
    """Sample for sample, and digital silence for ever after."""
    values = tone(440, 16_000, 0.1)
    frames = capture(write_wav(tmp_path / "a.wav", values, 16_000), 10)
    heard = formats.samples(b"".join(frames))
    assert heard == values + [0] * (10 * 320 - len(values))


@pytest.mark.parametrize(("rate_hz", "channels"), [(48_000, 2), (44_100, 1), (8_000, 1)])
def test_other_formats_are_converted_in_place(tmp_path: Path, rate_hz: int, channels: int) -> None:
    """The same tone at the same time."""
    values = tone(500, rate_hz, 0.4)
    interleaved = [value for value in values for _ in range(channels)]
    path = write_wav(tmp_path / "b.wav", interleaved, rate_hz, channels)
    heard = formats.samples(b"".join(capture(path, 25)))
    expected = tone(500, 16_000, 0.4)
    worst = max(abs(a - b) for a, b in zip(heard[400:6_000], expected[400:6_000], strict=True))
    assert worst < 200
    assert max(map(abs, heard[6_800:])) <= 1


def test_a_channel_can_be_chosen(tmp_path: Path) -> None:
    """By number; 0 is the mean of them."""
    path = write_wav(tmp_path / "c.wav", [100, 300] * 1_000, 16_000, 2)
    assert set(formats.samples(capture(path, 2, channel=1)[0])) == {300}
    assert set(formats.samples(capture(path, 2, channel=0)[0])) == {200}


def test_both_files_side_by_side_are_the_room(tmp_path: Path) -> None:
    """A reply given 0.2 s into the recording stands 0.2 s into the other file."""
    said = write_wav(tmp_path / "said.wav", tone(440, 16_000, 0.5), 16_000)
    heard = tmp_path / "heard.wav"
    settings = Audio(
        capture_device=f"file:{said}", playback_device=f"file:{heard}", volume_percent=100
    )
    frames: list[Frame] = []
    marks: list[PlaybackMark] = []
    events: list[Event] = []

    async def main() -> None:
        clock = SystemClock()
        mic_device, speaker_device = open_devices(settings, clock)
        microphone = Microphone(
            settings,
            clock=clock,
            emit=events.append,
            on_frame=frames.append,
            device=mic_device,
        )
        player = Player(
            settings, clock=clock, emit=events.append, on_mark=marks.append, device=speaker_device
        )
        async with running(microphone.run(), player.run()):
            await until(lambda: len(frames) >= 10)
            player.hear(ReplyAudio(1, formats.to_pcm([1_000] * 4_800)))
            player.hear(ReplyComplete(1))
            await until(lambda: marks and marks[-1].drained)
            size = read_wav(heard)  # readable while it grows
            assert size
            await until(lambda: len(frames) >= 40)

    asyncio.run(main())
    played = read_wav(heard)
    first = played.index(1_000)
    assert played.count(1_000) == 4_800
    # Given in frame 10; written in the period that follows, however late the machine ran.
    assert first % 480 == 0
    assert first >= 10 * 480
    assert abs(len(played) / 24_000 - len(frames) * formats.FRAME_S) <= 0.5
    times = [frame.at_s for frame in frames]
    assert times == pytest.approx([times[0] + i * formats.FRAME_S for i in range(len(times))])


def test_time_goes_on_while_capture_is_closed(tmp_path: Path) -> None:
    """Muted for a second: that second of the room was not heard."""
    values = [index // 320 + 1 for index in range(320 * 200)]
    path = write_wav(tmp_path / "long.wav", values, 16_000)
    clock = FakeClock()
    got: list[bytes] = []

    async def main() -> None:
        device = FileCapture(path, 0, Timeline(clock))
        began_s = clock.monotonic()
        async with running(device.capture(lambda pcm, _at, _o: got.append(pcm))):
            await until(lambda: len(got) >= 5)
        done = len(got)
        clock.advance(1.0)
        # Waiting moves this clock too, so the room may be a frame ahead of what was heard.
        unheard = int((clock.monotonic() - began_s) / formats.FRAME_S + 1e-6)
        async with running(device.capture(lambda pcm, _at, _o: got.append(pcm))):
            await until(lambda: len(got) >= done + 2)
        numbers = [formats.samples(pcm)[0] for pcm in got]
        assert numbers[:done] == list(range(1, done + 1))
        assert numbers[done] == unheard + 1
        assert unheard >= done + 50

    asyncio.run(main())


def test_a_speaker_that_was_closed_fills_its_file_with_the_silence_it_missed(
    tmp_path: Path,
) -> None:
    """The time line has no holes."""
    clock = FakeClock()
    path = tmp_path / "out.wav"
    ones = formats.to_pcm([1] * 480)

    async def main() -> None:
        device = FilePlayback(path, Timeline(clock), lead=True)
        async with running(device.play(lambda _frames, _latency: ones)):
            await until(lambda: path.exists() and len(read_wav(path)) >= 960)
        before = len(read_wav(path))
        clock.advance(1.0)
        async with running(device.play(lambda _frames, _latency: ones)):
            await until(lambda: len(read_wav(path)) >= before + 24_000 + 480)
        assert read_wav(path)[before : before + 24_000] == [0] * 24_000

    asyncio.run(main())


def test_a_missing_file_is_a_missing_microphone(tmp_path: Path) -> None:
    """Told like one, with the path."""

    async def main() -> None:
        device = FileCapture(tmp_path / "none.wav", 0, Timeline(FakeClock()))
        with pytest.raises(DeviceNotFound, match=r"none\.wav"):
            await device.capture(lambda _pcm, _at, _o: None)

    asyncio.run(main())
