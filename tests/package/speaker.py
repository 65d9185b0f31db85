"""A machine that is a smart speaker: the package, a sound card of null sinks, a service to talk to.

Microphone and loudspeaker are sinks of a PulseAudio in the container, reached through ALSA as any
card is; the Live API is the emulator of the installed package, with its own certificate authority.
"""

from __future__ import annotations

import contextlib
import json
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.package.machine import Machine, wait_until

KEY: Final = "AIzaTestKeyOfNobody-0123456789abcdefghi"
CERTIFICATE: Final = "/etc/rig-ca.pem"
OTHER_KEY: Final = "AIzaAnotherTestKey-0123456789abcdefghij"

_ASOUND = """\
pcm.rig_mic { type pulse server "unix:/run/rig/native" device "mic.monitor" }
pcm.rig_spk { type pulse server "unix:/run/rig/native" device "spk" }
pcm.!default { type asym capture.pcm "rig_mic" playback.pcm "rig_spk" }
ctl.!default { type pulse server "unix:/run/rig/native" }
"""
_PULSE_CLIENT = "autospawn = no\nenable-shm = no\ncookie-file = /etc/pulse/cookie\n"
# Without rewinds: at the slightest delay a null sink would render a second ahead and then again,
# and the daemon would rightly find its speaker dead.
_PULSE = """\
[Service]
RuntimeDirectory=rig
RuntimeDirectoryMode=0755
# Folders of its own are closed to others; the socket is for everybody.
Environment=HOME=/run/rig/own XDG_RUNTIME_DIR=/run/rig/own PULSE_RUNTIME_PATH=/run/rig/own
ExecStartPost=/bin/sh -c "until [ -S /run/rig/native ]; do sleep 0.1; done; chmod 0755 /run/rig"
ExecStart=/usr/bin/pulseaudio -n --daemonize=no --exit-idle-time=-1 --disable-shm=yes \\
    --load="module-native-protocol-unix auth-anonymous=1 socket=/run/rig/native" \\
    --load="module-null-sink sink_name=mic rate=16000 channels=1 norewinds=1" \\
    --load="module-null-sink sink_name=spk rate=24000 channels=1 norewinds=1"
[Install]
WantedBy=multi-user.target
"""
_EMULATOR = """\
[Service]
ExecStart=/usr/bin/agentd emulator --port 9443 --ca-file {ca} --control /run/emulator \\
    --state /var/tmp/emulator.json --audio-dir /var/tmp/received --accept {key} {options}
Restart=no
"""
_SETTINGS = """\
[live]
base_url = "https://127.0.0.1:9443"
[audio]
capture_device = "rig_mic"
playback_device = "rig_spk"
"""
_DROPIN = f"[Service]\nEnvironment=SSL_CERT_FILE={CERTIFICATE}\n"
_ASK = """
import json, socket, sys
link = socket.socket(socket.AF_UNIX); link.settimeout(70); link.connect("/run/emulator")
link.sendall(sys.argv[1].encode() + b"\\n")
print(link.makefile().readline())
"""


# Beside the installed libraries, where every process of that environment reads it (`site`).
_HOOK_FOLDER = "/usr/lib/agentd/lib/python3.*/site-packages"
_HOOK = """\
import signal
def _run(*_):
    with open("/run/agentd/injected") as file:
        exec(compile(file.read(), "<injected>", "exec"), {})
signal.signal(signal.SIGUSR2, _run)
"""


class Speaker:
    """The machine, its sound card and its service."""

    def __init__(self, machine: Machine, suite: str) -> None:
        self.machine = machine
        self.suite = suite

    def prepare(self) -> None:
        """Put the rig in place; the package is installed already, without a key."""
        machine = self.machine
        machine.write("/etc/asound.conf", _ASOUND)
        machine.write("/etc/pulse/client.conf", _PULSE_CLIENT)
        machine.write("/etc/pulse/cookie", bytes(256))
        machine.write("/etc/systemd/system/rig-sound.service", _PULSE)
        machine.write("/etc/agentd/conf.d/90-rig.toml", _SETTINGS)
        machine.write("/etc/systemd/system/agentd.service.d/rig.conf", _DROPIN)
        machine.run("systemctl daemon-reload && systemctl enable --now rig-sound")
        wait_until(
            "the sound server",
            lambda: machine.ask("pactl -s unix:/run/rig/native info").returncode == 0,
        )
        self.start_service()

    @property
    def pid(self) -> int:
        """Return the daemon's process id."""
        return int(self.machine.show("agentd", "MainPID")["MainPID"])

    @property
    def restarts(self) -> int:
        """Return how often systemd has restarted the daemon by itself."""
        return int(self.machine.show("agentd", "NRestarts")["NRestarts"])

    def unit(self, **settings: str) -> None:
        """Change settings of the unit; none at all: as it is shipped."""
        path = "/etc/systemd/system/agentd.service.d/test.conf"
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        if lines:
            self.machine.write(path, f"[Service]\n{lines}")
        self.machine.run(f"{'' if lines else f'rm -f {path}; '}systemctl daemon-reload")

    @contextlib.contextmanager
    def injectable(self) -> Iterator[Callable[[str], None]]:
        """Let code be run in the daemon's main thread; call what this gives with the code.

        The daemon is the installed one, in its own sandbox; a signal handler from a `.pth` file is
        all that is added. No debugger: some processors refuse to let one write registers.
        """
        machine = self.machine
        hook = f'cd {_HOOK_FOLDER} && rm -rf "$PWD"/_agentd_injection.p*'
        machine.run(f"cd {_HOOK_FOLDER} && cat > _agentd_injection.py", stdin=_HOOK.encode())
        machine.run(f"cd {_HOOK_FOLDER} && echo import _agentd_injection > _agentd_injection.pth")
        machine.run("systemctl restart agentd")
        self.wait_connected()

        def inject(code: str) -> None:
            machine.write("/run/agentd/injected", code)
            machine.run("systemctl kill --kill-whom=main -s USR2 agentd")

        try:
            yield inject
        finally:
            machine.run(f"{hook} && systemctl restart agentd")
            self.wait_connected()

    def start_service(self, key: str = KEY, options: str = "") -> None:
        """Start the Live API anew, for one key."""
        unit = _EMULATOR.format(ca=CERTIFICATE, key=key, options=options)
        self.machine.write("/run/systemd/system/emulator.service", unit)
        self.machine.run("systemctl daemon-reload && systemctl restart emulator")
        wait_until("the emulator", lambda: self.machine.exists("/run/emulator"))
        wait_until("its answer", lambda: self.emulator("info")["ok"])

    def emulator(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send one request to the emulator's control socket; return the answer."""
        request = json.dumps({"cmd": command, **arguments})
        result = self.machine.ask(f"python3 - '{request}'", stdin=_ASK.encode())
        if result.returncode:
            return {"ok": False, "error": result.stderr}
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    def set_key(self, key: str = KEY) -> None:
        """Store a key as a person does; agentd is restarted when it runs."""
        self.machine.run("agentd-set-key", stdin=key.encode() + b"\n")

    def status(self) -> dict[str, Any]:
        """Return `agentd status --json`."""
        document: dict[str, Any] = json.loads(self.machine.run("agentd status --json"))
        return document

    def connected(self) -> bool:
        """Tell whether the daemon has a connection."""
        result = self.machine.ask("agentd status --json")
        return result.returncode == 0 and json.loads(result.stdout)["session"]["connected"]

    def wait_connected(self, timeout_s: float = 60.0) -> None:
        """Wait until the daemon has a connection."""
        wait_until("a connection", self.connected, timeout_s)

    def wait_state(self, state: str) -> None:
        """Wait until the device shows a state."""
        wait_until(f"the state {state}", lambda: self.status()["state"] == state)

    def _speech(self, sentence: Path) -> tuple[str, bytes]:
        with wave.open(str(sentence)) as sound:
            rate, channels = sound.getframerate(), sound.getnchannels()
            frames = sound.readframes(sound.getnframes())
        # Two seconds wait in the sound server, so that a busy machine tears no sentence in two; the
        # microphone's own latency is what agentd asks for.
        command = (
            "pacat -s unix:/run/rig/native --playback --device=mic --raw --format=s16le "
            f"--rate={rate} --channels={channels} --latency-msec=2000"
        )
        return command, frames

    def say(self, sentence: Path) -> None:
        """Speak into the microphone, and stay in the room until the sentence is over."""
        command, frames = self._speech(sentence)
        self.machine.run(command, stdin=frames)

    @contextlib.contextmanager
    def talking(self, sentence: Path) -> Iterator[None]:
        """Say a sentence again and again, without a pause between."""
        command, frames = self._speech(sentence)
        self.machine.write("/var/tmp/sentence", frames)
        loop = f"while :; do cat /var/tmp/sentence; done | {command}"
        self.machine.run(f"systemd-run --unit=talking sh -c '{loop}'")
        try:
            yield
        finally:
            self.machine.run("systemctl kill -s KILL talking; systemctl reset-failed talking || :")

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Let the microphone hear what every room has: a little noise (-50 dBFS)."""
        self.machine.run(
            "systemd-run --unit=room pacat -s unix:/run/rig/native --playback --device=mic --raw "
            "--format=s16le --rate=16000 --channels=1 --volume=11650 /dev/urandom"
        )
        try:
            yield
        finally:
            self.machine.run("systemctl stop room")

    @contextlib.contextmanager
    def recording(self, sink: str, rate_hz: int) -> Iterator[Callable[[], bytes]]:
        """Record what goes through a sink ("mic" or "spk"); call what this gives for it, mono."""
        path = f"/var/tmp/{sink}.raw"
        self.machine.run(
            f"systemd-run --unit=recording-{sink} parec -s unix:/run/rig/native "
            f"--device={sink}.monitor --raw --format=s16le --rate={rate_hz} --channels=1 "
            f"--latency-msec=50 {path}"
        )
        size = f"stat -c %s {path} 2>/dev/null || echo 0"
        wait_until("the recorder", lambda: int(self.machine.run(size)) > rate_hz)
        try:
            yield lambda: self.machine.fetch(path)
        finally:
            self.machine.run(f"systemctl stop recording-{sink}; rm -f {path}")

    def converse(self, sentence: Path) -> dict[str, Any]:
        """Say a sentence; return the journal entry of the turn that it led to."""
        cursor = self.machine.cursor()
        self.say(sentence)
        return self.machine.wait_event("turn", after=cursor)

    def keep_a_handle(self, sentence: Path) -> None:
        """Converse until there is something that can be resumed."""
        self.converse(sentence)
        wait_until("a handle", lambda: self.status()["session"]["handle_age_s"] is not None)
