"""A kitchen: the machine with the package, a microphone, a speaker, and the service beyond.

The microphone is the kernel's loopback card, into whose other end the test speaks; the speaker is a
USB card whose sound QEMU writes to WAV files outside. The service is the emulator, outside as well:
the machine has its two cores to itself, and a power cut leaves the service standing.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import tempfile
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from benchmarks.speech import RATE_HZ, Clip, Samples, read_wav, utterance
from live_emulator.control import ControlClient
from rig.netns import Namespace
from tests.machine.board import Board, Command, Entry
from tests.machine.image import Image
from tests.machine.qemu import BUTTON_LINE, SERVICE, overlay
from tests.package.roots import PROJECT

PORT: Final = 9443
KEY: Final = "AIzaTestKeyOfNobody-0123456789abcdefghi"
MICROPHONE: Final = "plughw:CARD=Loopback,DEV=1"
MOUTH: Final = "plughw:CARD=Loopback,DEV=0"
SPEAKER: Final = "plughw:CARD=Audio"
LED_LINE: Final = 6
# The loopback twice: its second card is there to take a number away from another one.
_TWO_CARDS: Final = "options snd-aloop enable=1,1 index=0,-1 id=Loopback,Spare pcm_substreams=1,1\n"

SETTINGS: Final = f"""\
[live]
base_url = "https://{SERVICE}:{PORT}"
[audio]
capture_device = "{MICROPHONE}"
playback_device = "{SPEAKER}"
# Speaker and microphone do not hear each other.
echo_cancellation = "hardware"
keep_alive = false
[gpio]
chip = 0
status_led = {LED_LINE}
status_pwm = false
button = {BUTTON_LINE}
"""
# Where the service's certificate is from, and more time than a real processor would be given.
DROPIN: Final = """\
[Service]
Environment=SSL_CERT_FILE=/etc/agentd/service-ca.pem
"""


class Service:
    """The emulator in the machine's namespace; a context manager."""

    def __init__(self, namespace: Namespace, work: Path, *options: str) -> None:
        self.audio = work / "heard"
        self.ca = work / "ca.pem"
        self._socket = work / "service"
        self._log = work / "service.log"
        self.audio.mkdir(exist_ok=True)
        namespace.run("ip", "link", "set", "lo", "up")
        namespace.run("ip", "address", "replace", f"{SERVICE}/32", "dev", "lo")
        command = [
            *("setpriv", "--pdeathsig", "KILL", str(PROJECT / ".venv/bin/python")),
            *("-m", "agentd", "emulator", "--host", SERVICE, "--port", str(PORT)),
            *("--san", SERVICE, "--ca-file", str(self.ca), "--control", str(self._socket)),
            *("--audio-dir", str(self.audio), "--log", str(work / "wire.jsonl")),
            *("--accept", KEY, "--resume-while-open", "takeover", *options),
        ]
        with self._log.open("ab") as log:
            self._process = namespace.popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=PROJECT
            )
        self.control = self._connect()

    def _connect(self) -> ControlClient:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                return ControlClient(self._socket, timeout_s=400)
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the emulator did not start: {self._log.read_text()}")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        self._process.kill()
        self._process.wait()

    def mark(self) -> int:
        """Return the present end of the record."""
        entries = self.record()
        return int(entries[-1]["seq"]) if entries else 0

    def record(self, kind: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Return what was on the wire after a mark."""
        return self.control.record(kind, since)

    def wait(self, kind: str, since: int, timeout_s: float = 120.0, **rest: Any) -> dict[str, Any]:
        """Wait for something on the wire after a mark."""
        return self.control.wait(kind, timeout_s, since, **rest)

    def heard(self) -> list[Path]:
        """Return the utterances received so far, as WAV files in order."""
        return sorted(self.audio.glob("*.wav"), key=lambda path: path.stat().st_mtime_ns)


class Kitchen:
    """The board and the service together."""

    def __init__(self, board: Board, service: Service) -> None:
        self.board = board
        self.service = service
        self._said = 0

    def files(self, settings: str = "", level: str = "debug") -> dict[str, bytes]:
        """Return what tells the daemon of this service, by path."""
        check = f'[log]\nlevel = "{level}"\n{settings}'
        return {
            "/etc/modprobe.d/machine-cards.conf": _TWO_CARDS.encode(),
            "/etc/agentd/service-ca.pem": self.service.ca.read_bytes(),
            "/etc/agentd/conf.d/90-kitchen.toml": SETTINGS.encode(),
            "/etc/agentd/conf.d/91-check.toml": check.encode(),
            "/etc/systemd/system/agentd.service.d/kitchen.conf": DROPIN.encode(),
        }

    def furnish(self, settings: str = "", level: str = "debug") -> None:
        """Configure the daemon for this service and store its key."""
        board = self.board
        for path, content in self.files(settings, level).items():
            board.write(path, content)
        board.run("test -e /proc/asound/Spare || { rmmod snd_aloop; modprobe snd-aloop; }")
        board.run(
            "test -e /etc/credstore/gemini-api-key || agentd-set-key", stdin=KEY.encode() + b"\n"
        )

    def start(self) -> Entry:
        """Start or restart the daemon; return the event of its connection."""
        mark = self.board.mark()
        self.board.run("systemctl daemon-reload && systemctl restart agentd", timeout_s=600)
        pid = self.board.show("agentd", "MainPID")["MainPID"]
        # The journal comes late; what the one before had to say is not meant.
        return self.board.wait_event(
            "session_fresh", "resumed", since=mark, where=lambda entry: entry["_PID"] == pid
        )

    def wait_connected(self, since: int = 0) -> Entry:
        """Wait until the daemon has a session, fresh or resumed."""
        return self.board.wait_event("session_fresh", "resumed", since=since, timeout_s=600)

    def say(self, clip: Clip) -> Speech:
        """Speak into the microphone; returns at once."""
        self._said += 1
        mark, path = self.board.mark(), f"/run/said-{self._said}.wav"
        self.board.write(path, wav(clip.samples))
        return Speech(clip, mark, self.board.begin(f"exec aplay -q -D {MOUTH} {path}"))

    def say_until(self, event: str, clip: Clip) -> Speech:
        """Speak, and return in the middle of it all, when something has come of it."""
        speech = self.say(clip)
        self.board.wait_event(event, since=speech.mark)
        return speech

    def converse(self, clip: Clip) -> Entry:
        """Say something and listen to the whole reply; return the journal's entry of the turn."""
        speech = self.say(clip)
        turn = self.board.wait_event("turn", "turn_failed", since=speech.mark)
        speech.end()
        return turn

    def status(self) -> dict[str, Any]:
        """Return `agentd status --json`."""
        document: dict[str, Any] = json.loads(self.board.run("agentd status --json"))
        return document

    def heard(self, number: int) -> Samples:
        """Return the n-th utterance that the service received."""
        return read_wav(self.service.heard()[number])

    def reply(self, number: int = 0) -> Samples:
        """Return what the speaker has played since it was plugged in for the n-th time, 16 kHz."""
        return recorded(self.board.qemu.recording(number))


class Speech:
    """Something being said."""

    def __init__(self, clip: Clip, mark: int, command: Command) -> None:
        self.clip, self.mark = clip, mark
        """What is said, and where the journal was before it."""
        self._command = command

    def end(self) -> None:
        """Wait until it has been said."""
        self._command.output()

    def interrupted(self) -> None:
        """Wait until nobody speaks any more, however that ended."""
        self._command.result()


def sentence(number: int, duration_s: float = 2.0) -> Clip:
    """Return recorded speech without a pause, another for each number."""
    return utterance(number, duration_s)


def wav(samples: Samples) -> bytes:
    """Return a WAV file of 16 kHz."""
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return memory.getvalue()


def recorded(path: Path) -> Samples:
    """Return a recording of 48 kHz stereo, still growing, as 16 kHz mono."""
    if not path.exists():
        return np.zeros(0, np.int16)
    data = path.read_bytes()[44:]
    frames = np.frombuffer(data[: len(data) // 12 * 12], "<i2").reshape(-1, 2)
    # The mean of three samples is low pass enough for speech that was 24 kHz before.
    left = frames[: len(frames) // 3 * 3, 0].astype(np.float64)
    mono: Samples = left.reshape(-1, 3).mean(axis=1).astype(np.int16)
    return mono


@contextlib.contextmanager
def own_kitchen(image: Image, disk: Path, *options: str) -> Iterator[Kitchen]:
    """Have a machine, switched off, over a disk that stays as it is, and a service of its own.

    Each is in a network namespace of its own: several may be there at once.
    """
    namespace = Namespace("kitchen")
    try:
        with tempfile.TemporaryDirectory(prefix="agentd-machine-") as folder:
            work = Path(folder)
            copy = overlay(disk, work / "disk.qcow2", "qcow2")
            with (
                Service(namespace, work, *options) as service,
                Board(image, copy, work, namespace) as board,
            ):
                yield Kitchen(board, service)
    finally:
        namespace.close()
