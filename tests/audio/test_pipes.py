"""Named pipes as microphone and speaker; WAV names that are no files."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agentd.audio import formats
from agentd.audio.files import FileCapture, FilePlayback, Timeline
from agentd.audio.opening import open_devices
from agentd.audio.pipes import (
    CREDIT_S,
    HASTE,
    PIPE_BYTES,
    START_S,
    Allowance,
    PipeCapture,
    PipePlayback,
    open_pipe,
)
from agentd.audio.wav import WavWriter
from agentd.clock import FakeClock
from agentd.config.settings import Audio
from agentd.errors import AudioError, CaptureFailed, DeviceNotFound, PlaybackFailed
from rig.waiting import running, until

BYTES_PER_S = formats.CAPTURE_RATE_HZ * formats.SAMPLE_BYTES


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Make a named pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def writer(path: Path) -> int:
    """Open the other end of a microphone that is open already."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)


def reader(path: Path) -> int:
    """Open the other end of a speaker."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def test_the_settings_name_them(tmp_path: Path) -> None:
    """As `pipe:` and an absolute path, for either direction or both."""
    settings = Audio(capture_device=f"pipe:{tmp_path}/a", playback_device=f"pipe:{tmp_path}/b")
    capture, playback = open_devices(settings, FakeClock())
    assert (type(capture), type(playback)) == (PipeCapture, PipePlayback)
    assert (capture.name, playback.name) == (settings.capture_device, settings.playback_device)


def test_what_is_written_is_heard_in_order(pipe: Path) -> None:
    """Also when it comes in odd numbers of bytes; the other end's end is the microphone's."""
    pcm = formats.to_pcm(list(range(4_000)))
    got: list[bytes] = []

    async def main() -> None:
        device = PipeCapture(pipe, FakeClock())
        task = asyncio.create_task(device.capture(lambda piece, _at, _o: got.append(piece)))
        await asyncio.sleep(0)
        end = writer(pipe)
        for at in range(0, len(pcm), 333):
            os.write(end, pcm[at : at + 333])
            await asyncio.sleep(0)
        os.close(end)
        with pytest.raises(CaptureFailed, match="no program writes to it"):
            await task

    asyncio.run(main())
    heard = b"".join(got)
    assert heard[: len(pcm)] == pcm
    assert not any(heard[len(pcm) :])
    assert all(len(piece) % 2 == 0 for piece in got)


def test_a_program_that_writes_without_end_is_held_to_the_time(pipe: Path) -> None:
    """A file poured into the pipe is heard as long as it lasts, and no faster."""
    clock = FakeClock()
    got = 0

    def deliver(piece: bytes, _at_s: float, _overrun: bool) -> None:
        nonlocal got
        got += len(piece)

    async def main() -> None:
        began_s = clock.monotonic()
        async with running(PipeCapture(pipe, clock).capture(deliver)):
            await asyncio.sleep(0)
            end = writer(pipe)
            os.set_blocking(end, False)
            while got < 10 * BYTES_PER_S:
                try:
                    os.write(end, bytes(4_096))
                except BlockingIOError:
                    await asyncio.sleep(0)
            assert clock.monotonic() - began_s >= (10 - START_S) / HASTE - 0.1
            os.close(end)

    asyncio.run(main())


def test_a_pipe_that_nobody_fills_is_a_lost_microphone(pipe: Path) -> None:
    """Said as such, with what to do, and no silence is made up for nobody."""
    got: list[bytes] = []

    async def main() -> None:
        device = PipeCapture(pipe, FakeClock())
        with pytest.raises(CaptureFailed, match=r"no program writes to it.*int16 mono at 16000 Hz"):
            await device.capture(lambda pcm, _at, _o: got.append(pcm))

    asyncio.run(main())
    assert not got


def test_a_program_that_pauses_is_given_silence_for(pipe: Path) -> None:
    """The time goes on, the pipe stays open, and what comes afterwards is whole."""
    clock = FakeClock()
    heard = b""
    word = formats.to_pcm([5] * 1_600)

    def deliver(piece: bytes, _at_s: float, _overrun: bool) -> None:
        nonlocal heard
        heard += piece

    async def main() -> None:
        nonlocal heard
        async with running(PipeCapture(pipe, clock).capture(deliver)):
            await asyncio.sleep(0)
            end = writer(pipe)
            os.write(end, word + b"x")
            began_s = clock.monotonic()
            await until(lambda: len(heard) >= 3 * BYTES_PER_S)
            assert len(heard) / BYTES_PER_S <= clock.monotonic() - began_s + 0.2
            assert heard[: len(word)] == word
            assert not any(heard[len(word) :])
            heard = b""
            os.write(end, word)
            await until(lambda: word in heard)
            os.close(end)

    asyncio.run(main())


def test_a_speaker_waits_for_nobody_and_says_so(pipe: Path) -> None:
    """Without a reader, and when the reader goes."""

    async def main() -> None:
        device = PipePlayback(pipe, FakeClock())
        with pytest.raises(PlaybackFailed, match="no program reads from it"):
            await device.play(lambda count, _latency: bytes(count * 2))
        end = reader(pipe)
        task = asyncio.create_task(device.play(lambda count, _latency: bytes(count * 2)))
        await asyncio.sleep(0)
        assert os.read(end, 960)
        os.close(end)
        with pytest.raises(PlaybackFailed, match="no program reads from it"):
            await task

    asyncio.run(main())


def test_a_reader_that_stops_is_a_lost_speaker(pipe: Path) -> None:
    """The pipe stays small: no more than 85 ms lie in it."""
    latencies: list[float] = []

    def source(count: int, latency_s: float) -> bytes:
        latencies.append(latency_s)
        return bytes(count * 2)

    async def main() -> None:
        end = reader(pipe)
        with pytest.raises(PlaybackFailed, match="has stopped"):
            await PipePlayback(pipe, FakeClock()).play(source)
        assert len(os.read(end, 1 << 20)) <= PIPE_BYTES
        os.close(end)

    asyncio.run(main())
    assert latencies == pytest.approx([index * 0.02 for index in range(len(latencies))])


def test_a_fast_reader_gets_sound_at_its_own_length(pipe: Path) -> None:
    """In order, whole, and no faster than time: `cat` would take any amount."""
    clock = FakeClock()
    asked = 0

    def source(count: int, _latency_s: float) -> bytes:
        nonlocal asked
        asked += 1
        return formats.to_pcm([asked] * count)

    async def main() -> None:
        end = reader(pipe)
        heard = b""
        began_s = clock.monotonic()
        async with running(PipePlayback(pipe, clock).play(source)):
            while len(heard) < 48_000 * 5:
                await asyncio.sleep(0)
                try:
                    heard += os.read(end, 1 << 16)
                except BlockingIOError:
                    continue
        os.close(end)
        assert clock.monotonic() - began_s >= (5 - START_S) / HASTE - 0.1
        values = formats.samples(heard)
        assert values == [index // 480 + 1 for index in range(len(values))]

    asyncio.run(main())


def test_the_allowance_after_a_pause_is_bounded() -> None:
    """An hour of nothing is no licence for an hour at once; time that stands still gives none."""
    allowance = Allowance(1_000, 50.0)
    assert allowance.at(50.0) == int(1_000 * START_S)
    assert allowance.at(3_650.0) == 1_000 * CREDIT_S
    allowance.take(2_000)
    assert allowance.at(3_650.0) == 0
    assert allowance.at(3_600.0) == 0
    assert allowance.at(3_601.0) == int(1_000 * HASTE)


# ── names that are something else ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["read", "write"])
def test_a_pipe_that_is_none(tmp_path: Path, way: str) -> None:
    """Missing, or a file: said with the command that makes one."""
    with pytest.raises(DeviceNotFound, match=r"is not there\. Make it: mkfifo"):
        open_pipe(tmp_path / "none", "read" if way == "read" else "write")
    file = tmp_path / "file.wav"
    file.touch()
    with pytest.raises(AudioError, match=r"is no named pipe.*write file:"):
        open_pipe(file, "read" if way == "read" else "write")


def raises(run: Callable[[], object], words: str) -> None:
    """Check that a device is missing, for a reason that names the remedy."""
    with pytest.raises(DeviceNotFound, match=words):
        run()


@pytest.mark.parametrize("way", ["capture", "playback"])
def test_a_wav_name_that_is_a_pipe_never_waits(pipe: Path, way: str) -> None:
    """Nobody is at its other end; the name that it should have is said."""

    async def main() -> None:
        timeline = Timeline(FakeClock())
        if way == "capture":
            await FileCapture(pipe, 0, timeline).capture(lambda _pcm, _at, _o: None)
        else:
            await FilePlayback(pipe, timeline, lead=True).play(lambda count, _l: bytes(count * 2))

    raises(lambda: asyncio.run(main()), f"is a pipe, not a file. Write pipe:{pipe}")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_wav_name_that_is_a_device_or_a_folder(tmp_path: Path) -> None:
    """Neither is opened for writing."""
    raises(lambda: WavWriter(Path("/dev/full"), 24_000), "is a device, not a file")
    raises(lambda: WavWriter(tmp_path, 24_000), "is a directory, not a file")


def test_a_speaker_file_keeps_no_descriptor_once_it_is_closed(tmp_path: Path) -> None:
    """However often it is opened; the file goes on where it was."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    path = tmp_path / "out.wav"

    async def main() -> None:
        clock = FakeClock()
        devices = [FilePlayback(path, Timeline(clock), lead=True) for _ in range(5)]
        for device in devices * 2:
            async with running(device.play(lambda count, _l: bytes(count * 2))):
                await until(lambda: path.exists() and path.stat().st_size > 2_000)

    asyncio.run(main())
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_speaker_file_that_was_taken_away_begins_anew(tmp_path: Path) -> None:
    """Moved or cut short between two openings: the header never promises more than is there."""
    path = tmp_path / "out.wav"
    first = WavWriter(path, 24_000)
    first.append(bytes(960))
    first.close()
    again = WavWriter(path, 24_000, after=480)
    assert again.samples == 480
    again.close()
    path.unlink()
    anew = WavWriter(path, 24_000, after=480)
    assert anew.samples == 0
    anew.append(bytes(960))
    assert anew.samples == 480
    anew.close()
