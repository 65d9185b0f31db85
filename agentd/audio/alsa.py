"""Microphone and speaker over PortAudio (PyAudio) on ALSA.

PortAudio on Linux freezes its list of devices when it initialises, opens every PCM it finds to
make that list (hundreds of lines on stderr, 17 MiB of plugins), and cannot open a name with
arguments such as `plughw:CARD=Device` at all. So it is shown two names only, `agentd_capture` and
`agentd_playback`, both of type `null` while it initialises. Afterwards ALSA's configuration
(alsa.conf beside this file) defines them as whatever AGENTD_CAPTURE_PCM and AGENTD_PLAYBACK_PCM
say at the moment of opening. A card that comes back under another number is found by its id
without initialising anew, which would tear down the other stream.

In this process rather than in a child: measured on a PulseAudio-backed PCM, the callbacks of one
stream cost 0.7 s of CPU a minute and PortAudio 5 MiB, while a bare child interpreter is 13 MiB and
adds a wake-up to every period. What a child would buy is immunity from a stream that hangs when
its device vanishes (PortAudio #1037, #930, #1074). Injected here: a source or sink unplugged and a
server killed end the stream at once (`is_active`), a device that stalls hangs only
`Pa_StopStream`, which is not used, and a sound server that hangs takes `Pa_CloseStream` with it.
Then the thread is abandoned, sound goes on over a new stream as soon as there is one, and
`StreamWedged` tells that `systemctl restart agentd` gets the thread back. A microphone that stays
silent over it starves the watchdog, which restarts the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from agentd import environment
from agentd.audio import cards, formats, threads
from agentd.audio.devices import Deliver, Source
from agentd.audio.flatline import is_flat, sounding_channel
from agentd.clock import Clock
from agentd.errors import (
    AudioError,
    CaptureFailed,
    DeviceBusy,
    DeviceNotFound,
    DeviceWedged,
    PlaybackFailed,
)
from agentd.text import counted
from agentd.waiting import to_its_end

Direction = Literal["capture", "playback"]

# CPU for both streams in silence over ALSA's pulse plugin, s/min: 1.8 with 20 ms, 1.0 with 40 ms.
# 40 ms of capture make an onset known 10 ms later on average; 30 ms of playback keep a flush quick.
PERIOD_MS = {"capture": 40, "playback": 30}
WATCH_S = 0.5  # how often a stream is asked whether it still runs
DEADLINE_S = 3.0  # for a call into PortAudio
BACKLOG = 250  # captured periods kept while the event loop is busy: 10 s

_HERE = Path(__file__).parent
_STREAM = {"playback": 0, "capture": 1}  # snd_pcm_stream_t
_NONBLOCK = 1
_TYPE_NULL = 4  # snd_pcm_type_t
_OVERFLOW = 0x2  # paInputOverflow
_UNDERFLOW = 0x4  # paOutputUnderflow
_ABORT = 2  # paAbort


class PortAudio:
    """The one PortAudio of this process, initialised once and silently."""

    _one: PortAudio | None = None
    _making = threading.Lock()

    def __init__(self) -> None:
        silence_libraries()
        environment.reserve()
        before = os.environ["ALSA_CONFIG_PATH"] or environment.ALSA_SYSTEM_CONF
        os.environ["ALSA_CONFIG_PATH"] = str(_HERE / "alsa_init.conf")
        _forget_configuration()
        try:
            import pyaudio

            self.api = pyaudio
            self.pa = pyaudio.PyAudio()
        except ImportError as error:
            raise AudioError(
                f"PyAudio cannot be used ({error}). Install python3-pyaudio"
            ) from error
        finally:
            os.environ["ALSA_CONFIG_PATH"] = before
        self._index = {
            str(self.pa.get_device_info_by_index(index)["name"]): index
            for index in range(self.pa.get_device_count())
        }
        self._opening = {"capture": threading.Lock(), "playback": threading.Lock()}
        self._calling = threading.Lock()
        self._counting = threading.Lock()
        self._inside = 0

    @classmethod
    def get(cls) -> PortAudio:
        """Return it, initialising it on the first call."""
        with cls._making:
            if cls._one is None:
                cls._one = cls()
            return cls._one

    def open(
        self,
        direction: Direction,
        pcm: str,
        *,
        rate_hz: int,
        channels: int,
        callback: Callable[..., tuple[bytes | None, int]],
    ) -> Any:
        """Open a stream on an ALSA PCM name and start it; blocks.

        Raises:
            DeviceNotFound, DeviceBusy, AudioError: with what to do.
        """
        capturing = direction == "capture"
        with _held(self._opening[direction], f"opening {direction}"), self._visit(refresh=True):
            check(direction, pcm)
            os.environ[f"AGENTD_{direction.upper()}_PCM"] = pcm
            try:
                with self._alone():
                    return self.pa.open(
                        rate=rate_hz,
                        channels=channels,
                        format=self.api.paInt16,
                        input=capturing,
                        output=not capturing,
                        input_device_index=self._index["agentd_capture"] if capturing else None,
                        output_device_index=None if capturing else self._index["agentd_playback"],
                        frames_per_buffer=rate_hz * PERIOD_MS[direction] // 1000,
                        stream_callback=callback,
                    )
            except AudioError:
                raise
            except (OSError, KeyError, ValueError) as error:
                raise AudioError(
                    f"{pcm}: {rate_hz} Hz with {counted(channels, 'channel')} is refused "
                    f"({error}). Try the name with plughw: in front, or a plug PCM in "
                    "/etc/asound.conf"
                ) from error

    def close(self, stream: Any) -> None:
        """Abort and close a stream; blocks.

        Stopping it first would wait for a device that may never move again.
        """
        with self._alone(), self._visit():
            stream.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only call into PortAudio, whose list of streams has no lock.

        A call that hangs must not hold up the others for ever: it does so in the device, long after
        or before it has touched that list.
        """
        alone = self._calling.acquire(timeout=DEADLINE_S / 3)
        try:
            yield
        finally:
            if alone:
                self._calling.release()

    @contextlib.contextmanager
    def _visit(self, *, refresh: bool = False) -> Iterator[None]:
        """Be inside ALSA; `refresh` lets it read its files anew: a new card or a user's edit.

        Reading anew also unloads plugins that are in nobody's hands, libpulse and its thread keys
        among them, under the feet of a call that is just opening or closing one. So it is done
        only by a call that is alone; the other one has just read the same files.
        """
        with self._counting:
            if refresh:
                _add_configuration()
            if refresh and not self._inside:
                _forget_configuration()
            self._inside += 1
        try:
            yield
        finally:
            with self._counting:
                self._inside -= 1


@contextlib.contextmanager
def _held(lock: threading.Lock, what: str) -> Iterator[None]:
    """Hold a lock, but do not queue up for ever behind a call that hangs."""
    if not lock.acquire(timeout=DEADLINE_S):
        raise DeviceWedged(f"{what} has not returned yet. Unplug and replug the device")
    try:
        yield
    finally:
        lock.release()


def _add_configuration() -> None:
    """Let our file be among those that ALSA reads."""
    ours = str(_HERE / "alsa.conf")
    path = os.environ.get("ALSA_CONFIG_PATH") or environment.ALSA_SYSTEM_CONF
    if ours not in path.split(":"):
        os.environ["ALSA_CONFIG_PATH"] = f"{path}:{ours}"


def _forget_configuration() -> None:
    with contextlib.suppress(OSError):
        ctypes.CDLL("libasound.so.2").snd_config_update_free_global()


def silence_libraries() -> None:
    """Keep ALSA, JACK and PortAudio from writing to stderr; what matters is raised as an error.

    The handler is a C function that does nothing harmful with its first argument, a string, so
    that no Python runs on their threads.
    """
    _silence_stdio()
    ignore = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p)
    for library, setters in (
        ("libasound.so.2", ("snd_lib_error_set_handler",)),
        ("libjack.so.0", ("jack_set_error_function", "jack_set_info_function")),
    ):
        # Either may be missing; then there is nothing to silence.
        with contextlib.suppress(OSError, AttributeError):
            loaded = ctypes.CDLL(library)
            for setter in setters:
                getattr(loaded, setter)(ignore)


def _silence_stdio() -> None:
    """Let nothing be written through C's `stderr`; file descriptor 2 stays what it is.

    When a card vanishes, Debian's PortAudio 19.6 tries to start it again without a pause and prints
    four lines each time: some 100,000 in half a second, for which journald would suppress what
    agentd itself has to say for the next 30 s. It has no handler to set. To redirect descriptor 2
    would lose tracebacks and the last words of a crash, which are written to its number. So C's
    `stderr` becomes a stream on it that can only be read: a write fails and is forgotten. (That it
    may be set like any variable is in glibc's manual, "Standard Streams".) Where descriptor 2 is
    write-only, a pipe or a file and not the journal's socket, it becomes /dev/null.
    """
    # Another C library may not let it be set; then there are those lines.
    with contextlib.suppress(AttributeError, ValueError):
        libc = ctypes.CDLL(None)
        libc.fopen.restype = libc.fdopen.restype = ctypes.c_void_p
        stream = ctypes.c_void_p.in_dll(libc, "stderr")
        silent = libc.fdopen(2, b"r") or libc.fopen(b"/dev/null", b"we")
        stream.value = silent or stream.value


def check(direction: Direction, pcm: str) -> None:
    """Open a PCM for a moment to learn from ALSA itself why it cannot be opened.

    PortAudio knows only "illegal combination of I/O devices".

    Raises:
        DeviceNotFound, DeviceBusy, AudioError: with what to do.
    """
    try:
        alsa = ctypes.CDLL("libasound.so.2")
    except OSError as error:
        raise AudioError(f"ALSA is missing ({error}). Install libasound2") from error
    handle = ctypes.c_void_p()
    status = alsa.snd_pcm_open(ctypes.byref(handle), pcm.encode(), _STREAM[direction], _NONBLOCK)
    if status < 0:
        raise refusal(pcm, -status)
    kind = alsa.snd_pcm_type(handle)
    alsa.snd_pcm_close(handle)
    if direction == "capture" and kind == _TYPE_NULL:
        # It has no clock: frames would come as fast as the processor makes them.
        raise AudioError(
            f"{pcm} is no microphone but silence without end. Choose one from `agentd devices`"
        )


def refusal(pcm: str, code: int) -> AudioError:
    """Return the error for an errno that ALSA gave on opening a PCM."""
    if code in {errno.EBUSY, errno.EAGAIN}:
        return DeviceBusy(
            f"{pcm} is in use by another program. Stop it (`fuser -v /dev/snd/*` names it), "
            "or use a shared PCM such as default, dsnoop: or dmix:"
        )
    if code == errno.EPERM:
        # Of a device node only the device policy of the unit says so (kernel, devcgroup_check).
        return AudioError(
            f"{pcm}: the service may not open it (operation not permitted). "
            "sudo systemctl restart agentd; "
            "`systemctl show -p DeviceAllow agentd` must have char-116"
        )
    if code == errno.EACCES:
        return AudioError(
            f"{pcm}: permission denied. Let the user of the daemon into the group audio"
        )
    if code in {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ECONNREFUSED, errno.EINVAL}:
        return DeviceNotFound(
            f"{pcm} is not there ({os.strerror(code)}). Plug it in, or choose from "
            f"`agentd devices`; cards now: {', '.join(cards.card_ids()) or 'none'}"
        )
    return AudioError(f"{pcm} cannot be opened ({os.strerror(code)}). See `agentd doctor`")


async def _ended(stream: Any) -> None:
    """Wait until a stream's thread has died; PortAudio tells nobody."""
    while stream.is_active():  # noqa: ASYNC110 - there is nothing to wait on
        await asyncio.sleep(WATCH_S)


async def _close(stream: Any, name: str) -> None:
    await to_its_end(
        threads.call(
            lambda: PortAudio.get().close(stream), what=f"closing {name}", deadline_s=DEADLINE_S
        )
    )


async def _open(
    direction: Direction,
    name: str,
    rate_hz: int,
    channels: int,
    callback: Callable[..., tuple[bytes | None, int]],
) -> Any:
    pcm = cards.pcm_of(name)
    return await threads.call(
        lambda: PortAudio.get().open(
            direction, pcm, rate_hz=rate_hz, channels=channels, callback=callback
        ),
        what=f"opening {name}",
        deadline_s=DEADLINE_S,
        discard=lambda stream: PortAudio.get().close(stream),
    )


class AlsaCapture:
    """A microphone by PCM name or card id: 16 kHz int16, one channel of it."""

    def __init__(self, name: str, channel: int, clock: Clock) -> None:
        self.name = name
        self.has_ended = False
        self.other_channel: int | None = None
        self._channel = channel
        self._clock = clock

    async def capture(self, deliver: Deliver) -> None:
        """Deliver periods until the stream ends."""
        loop = asyncio.get_running_loop()
        backlog: deque[tuple[bytes, float, bool]] = deque(maxlen=BACKLOG)
        channels = cards.channels_to_open(cards.pcm_of(self.name), self._channel)
        channel = min(self._channel, channels - 1)
        monotonic = self._clock.monotonic
        scheduled = over = False

        def drain() -> None:
            nonlocal scheduled
            scheduled = False
            while backlog:
                raw, at_s, overrun = backlog.popleft()
                pcm = formats.pick_channel(raw, channels, channel)
                if channels > 1 and is_flat(pcm):
                    self.other_channel = sounding_channel(raw, channels)
                deliver(pcm, at_s, overrun)

        def on_period(raw: bytes, _count: int, _times: object, status: int) -> tuple[None, int]:
            nonlocal scheduled
            if over:
                return None, _ABORT
            full = len(backlog) == BACKLOG
            backlog.append((raw, monotonic(), bool(status & _OVERFLOW) or full))
            if not scheduled:
                scheduled = True
                with contextlib.suppress(RuntimeError):  # the loop is closed already
                    loop.call_soon_threadsafe(drain)
            return None, 0  # paContinue

        stream = await _open("capture", self.name, formats.CAPTURE_RATE_HZ, channels, on_period)
        try:
            await _ended(stream)
            raise CaptureFailed(f"{self.name} has ended. Check its cable and power")
        finally:
            over = True  # one that cannot be closed may still call
            await _close(stream, self.name)


class AlsaPlayback:
    """A speaker by PCM name or card id: 24 kHz int16 mono."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ran_dry = 0

    async def play(self, source: Source) -> None:
        """Play periods until the stream ends."""
        latency_s = 0.0
        over = False

        def on_period(
            _raw: None, count: int, times: dict[str, float], status: int
        ) -> tuple[bytes, int]:
            if over:
                return bytes(count * formats.SAMPLE_BYTES), _ABORT
            self.ran_dry += bool(status & _UNDERFLOW)
            ahead_s = times["output_buffer_dac_time"] - times["current_time"]
            # PortAudio's time is the wall clock here: a jump between the two shows as nonsense.
            if not 0.0 <= ahead_s <= 2.0:
                ahead_s = latency_s
            return source(count, ahead_s), 0  # paContinue

        stream = await _open("playback", self.name, formats.PLAYBACK_RATE_HZ, 1, on_period)
        try:
            latency_s = float(stream.get_output_latency())
            await _ended(stream)
            raise PlaybackFailed(f"{self.name} has ended. Check its cable and power")
        finally:
            over = True
            await _close(stream, self.name)
