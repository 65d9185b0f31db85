"""The machine as a test handles it: switch it on, run commands in it, read its journal as it grows.

Nothing in the machine is asked again and again: an emulated processor has no time to spare. The
journal comes as a stream, and a wait is a wait on that stream.
"""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from rig.guest import Guest, checked
from rig.netns import Namespace
from tests.machine.image import Image
from tests.machine.qemu import Hardware, Qemu

BOOT_S: Final = 900.0
COMMAND_S: Final = 300.0
EVENT_S: Final = 600.0
"""For everything that is waited for: generous, it ends a test that has failed."""

T = TypeVar("T")
Entry = dict[str, Any]

_FOLLOW = "exec journalctl -f -q -n all -b -o json --all -u agentd.service"


class Board(Guest):
    """A machine with one disk; it may be switched on many times."""

    def __init__(self, image: Image, disk: Path, work: Path, namespace: Namespace) -> None:
        self.image, self.disk, self.work = image, disk, work
        self.namespace = namespace
        self.boots = 0
        self._qemu: Qemu | None = None
        self._ids = itertools.count(1)
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._entries: list[Entry] = []
        self._up = False
        self._gone = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._qemu is not None:
            self._qemu.cut_power()

    @property
    def qemu(self) -> Qemu:
        """The process, while the machine is on."""
        assert self._qemu is not None, "the machine is off"
        return self._qemu

    @property
    def is_on(self) -> bool:
        """Tell whether the machine is on."""
        return self._qemu is not None

    # ── power ───────────────────────────────────────────────────────────────────────────────────

    def switch_on(self, hardware: Hardware | None = None) -> None:
        """Boot, and return when the machine takes commands; its services may still be starting."""
        with self._changed:
            self._entries, self._answers = [], {}
            self._up, self._gone = False, False
        self.boots += 1
        self._qemu = Qemu(self.image, self.disk, self.work, self.namespace, hardware)
        reader = threading.Thread(target=self._read, args=(self._qemu,), daemon=True)
        reader.start()
        try:
            self._wait(lambda: self._up, "the machine's first word", BOOT_S)
        except AssertionError as error:
            console = (self.work / "console").read_text(errors="replace")[-3000:]
            raise AssertionError(f"{error}\n{console}") from None
        self._send({"id": 0, "do": "follow", "script": _FOLLOW})

    def wait_booted(self) -> None:
        """Wait until systemd has started everything."""
        self.ask("systemctl is-system-running --wait", timeout_s=BOOT_S)

    def switch_off(self) -> None:
        """Shut down in an orderly way."""
        self._send({"id": next(self._ids), "do": "run", "script": "systemctl poweroff"})
        self.qemu.off()
        self._qemu = None

    def cut_power(self) -> None:
        """Pull the plug."""
        self.qemu.cut_power()
        self._qemu = None

    # ── the wire ────────────────────────────────────────────────────────────────────────────────

    def _read(self, qemu: Qemu) -> None:
        pending = b""
        while True:
            try:
                data = qemu.driver.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        with self._changed:
            if qemu is self._qemu:
                self._gone = True
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "boot" in message:
                self._up = True
            elif "line" in message:
                entry = json.loads(message["line"])
                entry["at_s"] = int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6
                self._entries.append(entry)
            else:
                self._answers[message["id"]] = message
            self._changed.notify_all()

    def _send(self, message: dict[str, Any]) -> None:
        self.qemu.driver.sendall(json.dumps(message).encode() + b"\n")

    def _wait(self, question: Callable[[], T], what: str, timeout_s: float) -> T:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (answer := question()):
                left_s = deadline - time.monotonic()
                if self._gone:
                    raise AssertionError(f"the machine went off before {what}")
                if left_s <= 0 or not self._changed.wait(left_s):
                    raise AssertionError(f"not within {timeout_s:g} s: {what}")
            return answer

    # ── commands ────────────────────────────────────────────────────────────────────────────────

    def begin(self, script: str, stdin: bytes = b"", timeout_s: float = COMMAND_S) -> Command:
        """Start a shell script as root; it runs beside whatever else runs."""
        identifier = next(self._ids)
        request = {"id": identifier, "do": "run", "script": script, "timeout_s": timeout_s}
        self._send(request | {"stdin": base64.b64encode(stdin).decode()})
        return Command(self, identifier, script, timeout_s)

    def take_answer(self, identifier: int, script: str, timeout_s: float) -> dict[str, Any]:
        """Wait for what came of a script."""
        # The machine keeps the time-out by its own clock; ours is for a machine that is gone.
        answer = self._wait(
            lambda: self._answers.pop(identifier, None), f"the end of: {script}", timeout_s + 900
        )
        return answer or {}

    def ask(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root; return status and output whatever they are."""
        return self.begin(script, **options).result()

    def now_s(self) -> float:
        """Return the machine's monotonic clock, which the journal is stamped with."""
        return float(self.run("cut -d' ' -f1 /proc/uptime"))

    # ── the journal ─────────────────────────────────────────────────────────────────────────────

    def mark(self) -> int:
        """Return the present end of the journal."""
        with self._changed:
            return len(self._entries)

    def events(self, *names: str, since: int = 0) -> list[Entry]:
        """Return agentd's events of this boot, all or those of some names."""
        with self._changed:
            found = self._entries[since:]
        return [
            entry
            for entry in found
            if "AGENTD_EVENT" in entry and (not names or entry["AGENTD_EVENT"] in names)
        ]

    def wait_event(
        self,
        *names: str,
        since: int = 0,
        timeout_s: float = EVENT_S,
        where: Callable[[Entry], bool] = lambda _: True,
    ) -> Entry:
        """Wait for an event of one of the names after a mark; return the first."""
        try:
            return (
                self._wait(
                    lambda: next(filter(where, self.events(*names, since=since)), None),
                    f"the event {' or '.join(names)}",
                    timeout_s,
                )
                or {}
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told(since)}") from None

    def told(self, since: int = 0) -> str:
        """Return what the daemon and systemd said about it, for a report or a failure."""
        with self._changed:
            found = self._entries[since:]
        return "\n".join(f"{entry['at_s']:9.3f} {line(entry)}" for entry in found)


class Command:
    """A shell script at work in the machine."""

    def __init__(self, board: Board, identifier: int, script: str, timeout_s: float) -> None:
        self._board, self._identifier = board, identifier
        self._script, self._timeout_s = script, timeout_s
        self.begun_s = self.ended_s = 0.0
        """The machine's monotonic clock, once there is a result."""

    def result(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end."""
        answer = self._board.take_answer(self._identifier, self._script, self._timeout_s)
        self.begun_s, self.ended_s = answer["begun"], answer["ended"]
        out, err = (base64.b64decode(answer[name]).decode(errors="replace") for name in _STREAMS)
        return subprocess.CompletedProcess(self._script, answer["status"], out, err)

    def output(self) -> str:
        """Wait for the end; fail when the script failed."""
        return checked(self.result())


_STREAMS = ("out", "err")


def line(entry: Entry) -> str:
    """Return a journal entry as one line."""
    name = entry.get("AGENTD_EVENT") or entry.get("SYSLOG_IDENTIFIER", "")
    message = entry.get("MESSAGE", "")
    text = message if isinstance(message, str) else bytes(message or []).decode(errors="replace")
    return f"{name}: {text}"
