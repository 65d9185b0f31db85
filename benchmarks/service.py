"""The Live API emulator in a process of its own, so that its work is nobody else's CPU time.

One JSON object per line each way, over the child's stdin and stdout. Times in answers are on
`time.monotonic()`, the clock of the sound recordings.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from live_emulator import Emulator

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the emulator's record."""

    seq: int
    at_s: float
    """On `time.monotonic()`."""
    connection: int
    direction: str
    kind: str
    audio_bytes: int
    detail: Mapping[str, Any] = field(default_factory=dict)


# ── the child ─────────────────────────────────────────────────────────────────────────────────


def _keep_audio(emulator: Emulator, connection: int, path: Path) -> None:
    path.write_bytes(emulator.received_audio(connection))


async def _answer(emulator: Emulator, start_s: float, request: dict[str, Any]) -> Any:
    command = request.pop("cmd")
    if command == "fault":
        emulator.inject(request)
        return None
    if command == "clear":
        emulator.faults.clear()
        return None
    if command == "audio":
        _keep_audio(emulator, request["connection"], Path(request["path"]))
        return None
    if command == "seq":
        return emulator.record.last_seq
    assert command == "entries", command
    return [
        [e.seq, start_s + e.t, e.connection, e.direction, e.kind, e.audio_bytes, dict(e.detail)]
        for e in emulator.record.select(since=request["since"])
    ]


async def _serve(settings: Mapping[str, Any]) -> None:
    from live_emulator import Emulator, EmulatorOptions

    # A client that is gone is what most measurements are about, and no news.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    given = {**settings, "san": tuple(settings.get("san", ()))}
    if "audio_dir" in given:
        given["audio_dir"] = Path(given["audio_dir"])
    options = EmulatorOptions(**given)
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    async with Emulator(options) as emulator:
        before_s = time.monotonic()
        start_s = before_s - emulator.record.add(0, "", "event", "calibrated").t
        ready = {"port": emulator.port, "ca_file": str(emulator.ca_file)}
        print(json.dumps(ready), flush=True)
        while line := await requests.readline():
            answer = await _answer(emulator, start_s, json.loads(line))
            print(json.dumps(answer, default=str), flush=True)


# ── the parent ────────────────────────────────────────────────────────────────────────────────


class Service:
    """A running emulator; a context manager. May be asked from one thread at a time."""

    def __init__(
        self, *, host: str = "127.0.0.1", inside: Sequence[str] = (), **options: object
    ) -> None:
        """Prepare; `inside` is a command prefix (`nsenter …`), `options` are `EmulatorOptions`."""
        self._command = [*inside, sys.executable, "-m", "benchmarks.service"]
        self._options = {"host": host, "connection_limits": False, **options}
        self._lock = threading.Lock()
        self.host = host
        self.port = 0
        self.ca_file = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*self._command, json.dumps(self._options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self._read()
        self.port, self.ca_file = ready["port"], ready["ca_file"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the emulator ended with status {self._process.wait(10)}")
        return json.loads(line)

    def _ask(self, cmd: str, **rest: object) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"cmd": cmd, **rest}) + "\n")
            self._process.stdin.flush()
            return self._read()

    def environment(self, host: str | None = None, port: int | None = None) -> dict[str, str]:
        """Return the environment that points a client here, or at a relay in front of it."""
        return {
            "SSL_CERT_FILE": self.ca_file,
            "GOOGLE_GEMINI_BASE_URL": f"https://{host or self.host}:{port or self.port}",
            "GEMINI_API_KEY": "benchmark-key-0123456789",
            "no_proxy": "*",
        }

    def fault(self, do: str, **params: object) -> None:
        """Let something go wrong, now or `on` a moment."""
        self._ask("fault", do=do, **params)

    def clear_faults(self) -> None:
        """Forget faults that still wait."""
        self._ask("clear")

    def seq(self) -> int:
        """Return the number of the newest entry."""
        return int(self._ask("seq"))

    def entries(self, since: int = 0) -> list[Entry]:
        """Return what was recorded after entry `since`."""
        return [Entry(*row) for row in self._ask("entries", since=since)]

    def audio(self, connection: int, folder: Path) -> bytes:
        """Return every byte of PCM received on a connection."""
        path = folder / f"received-{os.getpid()}-{connection}.pcm"
        self._ask("audio", connection=connection, path=str(path))
        pcm = path.read_bytes()
        path.unlink()
        return pcm

    def wait(
        self, wanted: Callable[[Entry], bool], *, since: int = 0, timeout_s: float = 20.0
    ) -> Entry | None:
        """Return the first entry after `since` that matches; None if there is none in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            for entry in self.entries(since):
                if wanted(entry):
                    return entry
                since = entry.seq
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)


def kind(name: str, direction: str | None = None) -> Callable[[Entry], bool]:
    """Return a predicate for `Service.wait`."""
    return lambda entry: entry.kind == name and direction in (None, entry.direction)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
