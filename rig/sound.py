"""A sound card without a sound card: a private PulseAudio with two null sinks.

    speak() ──► sink `mic` ──► mic.monitor ──► ALSA PCM rig_mic ──► the program's microphone
                                   │
                                   └─────────► record()["mic"]
    the program's speaker ──► ALSA PCM rig_spk ──► sink `spk` ──► spk.monitor ──► record()["spk"]

PCM `default` is both of them. Several rigs may run at once; nothing of the user's or the machine's
sound configuration is read or touched. Works as root in a container without D-Bus.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rig.recording import Recorder, Track

MIC_RATE_HZ: Final = 16_000
SPK_RATE_HZ: Final = 24_000
RATES_HZ: Final[Mapping[str, int]] = {"mic": MIC_RATE_HZ, "spk": SPK_RATE_HZ}

PROGRAMS: Final = ("pulseaudio", "pactl", "pacat", "parec")
START_S: Final = 30.0
"""How long the server may take to answer. It takes 0.2 s on a quiet machine."""

_ASOUNDRC = """\
pcm.rig_mic {{ type pulse server "{server}" device "mic.monitor" hint.description "rig mic" }}
pcm.rig_spk {{ type pulse server "{server}" device "spk" hint.description "rig speaker" }}
pcm.!default {{ type asym capture.pcm "rig_mic" playback.pcm "rig_spk" }}
ctl.!default {{ type pulse server "{server}" }}
"""

# Clients must never start a server of their own, nor share memory: with shared memory the server
# aborts in memblock.c after a few dozen clients.
_CLIENT_CONF = """\
autospawn = no
enable-shm = no
cookie-file = {home}/cookie
"""


def missing_programs() -> list[str]:
    """Return the programs that the rig needs and the machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Speaking:
    """Audio on its way into a sink."""

    def __init__(self, process: subprocess.Popen[bytes], pcm_path: Path, duration_s: float) -> None:
        self._process = process
        self._pcm_path = pcm_path
        self.duration_s = duration_s

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the last sample has been played."""
        limit_s = self.duration_s + START_S if timeout_s is None else timeout_s
        status = self._process.wait(limit_s)
        self._pcm_path.unlink(missing_ok=True)
        if status not in (0, -signal.SIGTERM):
            raise RuntimeError(f"pacat failed with status {status}")

    def stop(self) -> None:
        """Fall silent at once."""
        self._process.terminate()
        self.wait()


class SoundRig:
    """A private sound server; a context manager that has both devices ready inside.

    `env` is what a child process needs to find them. For code in this process use `applied()`.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._modules: dict[str, str] = {}
        self._server: subprocess.Popen[bytes] | None = None
        self._spoken = 0
        self.env: dict[str, str] = {}

    # --- life ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if missing := missing_programs():
            raise FileNotFoundError(
                f"the sound rig needs {', '.join(missing)}: apt-get install pulseaudio "
                "pulseaudio-utils libasound2-plugins"
            )
        with contextlib.ExitStack() as stack:
            self._make_home(stack)
            stack.callback(self.kill_server)
            self.start_server()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _make_home(self, stack: contextlib.ExitStack) -> None:
        # A Unix socket's path holds 107 bytes, less than some TMPDIRs.
        base = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="rig-", dir=base, ignore_cleanup_errors=True)
        )
        self.home = Path(directory)
        self.home.chmod(0o700)
        (self.home / "run").mkdir(mode=0o700)
        self._socket = self.home / "run" / "native"
        server = f"unix:{self._socket}"
        (self.home / ".asoundrc").write_text(_ASOUNDRC.format(server=server), encoding="utf-8")
        client_conf = self.home / "client.conf"
        client_conf.write_text(_CLIENT_CONF.format(home=self.home), encoding="utf-8")
        self.env = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "PULSE_SERVER": server,
            "PULSE_CLIENTCONFIG": str(client_conf),
            "PULSE_RUNTIME_PATH": str(self.home / "run"),
            "PULSE_STATE_PATH": str(self.home / "state"),
        }

    def child_env(self, **extra: str) -> dict[str, str]:
        """Return this process's environment with the rig's devices in it, for a child."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ALSA_", "PULSE_"))}
        inherited.pop("DBUS_SESSION_BUS_ADDRESS", None)
        return {**inherited, **self.env, **extra}

    @contextlib.contextmanager
    def applied(self) -> Iterator[Self]:
        """Make the rig's devices those of this process, for PyAudio used directly.

        PortAudio and ALSA read their configuration when they initialise: create `PyAudio()` inside.
        """
        before = dict(os.environ)
        try:
            os.environ.clear()
            os.environ.update({**before, **self.child_env()})
            for name in [n for n in os.environ if n.startswith("ALSA_")]:
                del os.environ[name]
            yield self
        finally:
            os.environ.clear()
            os.environ.update(before)

    def start_server(self) -> None:
        """Start the server and both devices, and return once they answer."""
        if self._server is not None:
            raise RuntimeError("the sound server is running already")
        self._socket.unlink(missing_ok=True)
        command = [
            # A test run that is killed leaves no server behind.
            "setpriv", "--pdeathsig", "KILL",
            "pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--system=no",
            "--exit-idle-time=-1", "--disable-shm=yes", "--realtime=no", "--high-priority=no",
            "--disallow-exit=no", "--log-target=stderr", "--log-level=notice",
            f"--load=module-native-protocol-unix socket={self._socket} auth-anonymous=1",
            f"--load=module-cli-protocol-unix socket={self.home / 'run' / 'cli'}",
        ]  # fmt: skip
        with (self.home / "pulseaudio.log").open("ab") as log:
            self._server = subprocess.Popen(
                command, env=self.child_env(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_ready()
        self._modules.clear()
        for name in RATES_HZ:
            self.plug(name)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while self._try_pactl("info") is None:
            assert self._server is not None
            if self._server.poll() is not None or time.monotonic() > deadline:
                log = (self.home / "pulseaudio.log").read_text(errors="replace")
                raise RuntimeError(f"pulseaudio does not start:\n{log}")
            time.sleep(0.02)

    def kill_server(self) -> None:
        """Kill the server: every device vanishes at once and every stream dies."""
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)
            self._server.kill()
            self._server.wait()
            self._server = None

    # --- devices and what can happen to them -----------------------------------------------------

    def plug(self, name: str) -> None:
        """Bring a device (`mic` or `spk`) into being and make it the default of its kind.

        Without rewinds a sink renders at most 50 ms ahead, instead of 2 s which are revoked when
        somebody speaks: a recording that starts has sound at once, and what it holds stays true.
        """
        self._modules[name] = self.pactl(
            "load-module", "module-null-sink", f"sink_name={name}", f"rate={RATES_HZ[name]}",
            "channels=1", "format=s16le", "norewinds=1",
        )  # fmt: skip
        if name == "mic":
            self.pactl("set-default-source", "mic.monitor")
        else:
            self.pactl("set-default-sink", "spk")

    def unplug(self, name: str) -> None:
        """Make a device vanish with every stream on it, as when a USB cable is pulled.

        The server alone would move the streams to another device, so they are killed in the same
        breath; pactl cannot, the server's own command line can.
        """
        kills = [
            f"kill-{kind} {entry['index']}"
            for kind, device in (("sink-input", "sink"), ("source-output", "source"))
            for entry in self._list(f"{kind}s")
            if entry[device] in {e["index"] for e in self._list(f"{device}s") if name in e["name"]}
        ]
        self._command(*kills, f"unload-module {self._modules.pop(name)}")

    def suspend(self, name: str) -> None:
        """Stall a device: it stays, its streams stay open, and no sample moves."""
        self.pactl("suspend-sink", name, "1")

    def resume(self, name: str) -> None:
        """End a stall."""
        self.pactl("suspend-sink", name, "0")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the server's process: devices exist, calls hang."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            if self._server is not None:
                self._server.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def echo(
        self, *, gain_db: float = -12.0, delay_ms: int = 40, response: Path | None = None
    ) -> Iterator[None]:
        """Let the microphone hear the speaker: bare, or as in a room with this response (.npy)."""
        with self._room(response, gain_db) if response else self._loopback(gain_db, delay_ms):
            yield

    @contextlib.contextmanager
    def _room(self, response: Path, gain_db: float) -> Iterator[None]:
        gain = 10 ** (gain_db / 20)
        command = [sys.executable, "-m", "rig.room", "spk.monitor", "mic", str(response)]
        with (self.home / "room.log").open("ab") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command, str(gain)],
                env=self.child_env(),
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + START_S
            while not self._names("rig-room"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the room does not start (status {process.returncode})")
                time.sleep(0.02)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()

    def tear(self, what: str) -> None:
        """Note that the machine tore the sound elsewhere than in a room."""
        with (self.home / "room.log").open("a", encoding="utf-8") as log:
            log.write(f"tear: {what}\n")

    def tears(self) -> list[str]:
        """Return how the machine tore the sound in a room, if it was too busy for it."""
        path = self.home / "room.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return [line for line in text.splitlines() if line.startswith("tear: ")]

    def _names(self, client: str) -> bool:
        inputs = self._list("sink-inputs")
        return any(entry["properties"].get("application.name") == client for entry in inputs)

    @contextlib.contextmanager
    def _loopback(self, gain_db: float, delay_ms: int) -> Iterator[None]:
        module = self.pactl(
            "load-module", "module-loopback", "source=spk.monitor", "sink=mic",
            f"latency_msec={delay_ms}", "sink_input_properties=media.name=rig-echo",
        )  # fmt: skip
        try:
            (stream,) = [
                str(entry["index"])
                for entry in self._list("sink-inputs")
                if str(entry["owner_module"]) == module
            ]
            self.pactl("set-sink-input-volume", stream, f"{gain_db}dB")
            yield
        finally:
            self._try_pactl("unload-module", module)

    # --- speaking and listening ------------------------------------------------------------------

    def start_speaking(
        self, audio: bytes | Path, *, rate_hz: int = MIC_RATE_HZ, device: str = "mic"
    ) -> Speaking:
        """Play int16 mono PCM, or a 16-bit WAV file, into a device and return at once."""
        channels = 1
        if isinstance(audio, Path):
            with wave.open(str(audio), "rb") as file:
                if file.getsampwidth() != 2:
                    raise ValueError(f"{audio}: the rig plays 16-bit WAV files")
                channels, rate_hz = file.getnchannels(), file.getframerate()
                audio = file.readframes(file.getnframes())
        self._spoken += 1
        pcm_path = self.home / f"speak-{self._spoken}.pcm"
        pcm_path.write_bytes(audio)
        command = [
            "pacat", "--playback", "--raw", "--format=s16le", f"--device={device}",
            # Half a second in hand, so that a busy machine leaves no gap. It starts no later.
            f"--rate={rate_hz}", f"--channels={channels}", "--latency-msec=500",
            "--client-name=rig-speaker", str(pcm_path),
        ]  # fmt: skip
        process = subprocess.Popen(command, env=self.child_env(), stdin=subprocess.DEVNULL)
        return Speaking(process, pcm_path, len(audio) / (2 * channels * rate_hz))

    def speak(
        self, audio: bytes | Path, *, rate_hz: int = MIC_RATE_HZ, device: str = "mic"
    ) -> None:
        """Play int16 mono PCM, or a 16-bit WAV file, into a device, to its end."""
        self.start_speaking(audio, rate_hz=rate_hz, device=device).wait()

    def record(self, *devices: str) -> Recorder:
        """Return a recorder of what devices (both if none is named) play, on one clock."""
        names = devices or tuple(RATES_HZ)
        return Recorder({n: (f"{n}.monitor", RATES_HZ[n]) for n in names}, self.child_env())

    def sink_samples(self, device: str, duration_s: float) -> Track:
        """Record what a device plays for a while."""
        with self.record(device) as recorder:
            recorder.wait_recorded(device, duration_s)
            return recorder.track(device)

    # --- control ---------------------------------------------------------------------------------

    def pactl(self, *arguments: str) -> str:
        """Run pactl and return its output; raise `RuntimeError` with its message."""
        done = self._run_pactl(arguments)
        if done.returncode != 0:
            raise RuntimeError(f"pactl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _list(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads(self.pactl("--format=json", "list", kind))
        return entries

    def _command(self, *lines: str) -> None:
        """Let the server run commands without serving anything in between."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_S)
            connection.connect(str(self.home / "run" / "cli"))
            connection.sendall("".join(f"{line}\n" for line in lines).encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass

    def _try_pactl(self, *arguments: str) -> str | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = self._run_pactl(arguments)
            return done.stdout.strip() if done.returncode == 0 else None
        return None

    def _run_pactl(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pactl", *arguments],
            env=self.child_env(LC_ALL="C"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
