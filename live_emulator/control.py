"""The control socket: another process injects faults and reads the record.

One JSON object per line each way.  Requests: ``{"cmd": "fault", "do": …}``,
``{"cmd": "record", "since": 0, "kind": …}``, ``{"cmd": "wait", "kind": …, "since": 0,
"timeout": 10}``, ``{"cmd": "info"}``, ``{"cmd": "clear"}``, ``{"cmd": "stop"}``.
Answers: ``{"ok": true, …}`` or ``{"ok": false, "error": "…"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from live_emulator.fault_api import Faults
from live_emulator.record import Record

LINE_LIMIT = 1024 * 1024


class Controlled(Protocol):
    """What the socket gives access to."""

    record: Record
    faults: Faults
    stop_requested: asyncio.Event

    def inject(self, table: dict[str, Any]) -> None:
        """Inject the fault of a request; raise ValueError for one that there is not."""

    def info(self) -> dict[str, Any]:
        """Return addresses, counts and open connections."""


class ControlServer:
    """Answers requests on a Unix socket."""

    def __init__(self, emulator: Controlled, path: Path) -> None:
        self._emulator = emulator
        self._path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; a socket left over from an earlier run is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, path=str(self._path), limit=LINE_LIMIT
        )
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening and end open conversations."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line), default=str).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):  # the client is gone, or its line is too long
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                return {"ok": False, "error": "a request is a JSON object with a cmd"}
            return {"ok": True} | await self._do(request)
        except TimeoutError as exc:
            return {"ok": False, "error": str(exc), "timeout": True}
        except (ValueError, TypeError, RecursionError) as exc:
            return {"ok": False, "error": str(exc)}

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        command = request.pop("cmd", None)
        emulator = self._emulator
        if command == "fault":
            emulator.inject(request)
        elif command == "clear":
            emulator.faults.clear()
        elif command == "record":
            kind = request.get("kind")
            found = emulator.record.select(kind, since=int(request.get("since", 0)))
            return {"entries": [entry.as_json() for entry in found]}
        elif command == "wait":
            entry = await emulator.record.wait_for(
                str(request["kind"]) if "kind" in request else lambda _: True,
                float(request.get("timeout", 10.0)),
                since=int(request.get("since", 0)),
                direction=request.get("direction"),
                connection=request.get("connection"),
            )
            return {"entry": entry.as_json()}
        elif command == "info":
            return emulator.info()
        elif command == "stop":
            emulator.stop_requested.set()
        else:
            raise ValueError("cmd is one of fault, clear, record, wait, info, stop")
        return {}


class ControlError(RuntimeError):
    """The emulator refused a request."""


class ControlClient:
    """Talk to an emulator in another process; blocking, for scripts and tests."""

    def __init__(self, path: Path | str, timeout_s: float = 60.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rwb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def request(self, cmd: str, **rest: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            ControlError: the emulator refused it.
            TimeoutError: a ``wait`` found nothing in time.
            OSError: the emulator is gone.
        """
        self._file.write(json.dumps({"cmd": cmd, **rest}).encode() + b"\n")
        self._file.flush()
        line = self._file.readline()
        if not line:
            raise ConnectionResetError("the emulator hung up")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("timeout"):
            raise TimeoutError(answer["error"])
        if not answer["ok"]:
            raise ControlError(answer["error"])
        return answer

    def fault(self, do: str, **params: Any) -> None:
        """Inject a fault: ``fault("close", code=1011, on="setup #2")``."""
        self.request("fault", do=do, **params)

    def clear(self) -> None:
        """Forget the scheduled faults."""
        self.request("clear")

    def record(self, kind: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Return record entries after ``since``."""
        found: list[dict[str, Any]] = self.request("record", kind=kind, since=since)["entries"]
        return found

    def wait(self, kind: str, timeout: float = 10.0, since: int = 0, **rest: Any) -> dict[str, Any]:
        """Wait for an entry of this kind."""
        entry: dict[str, Any] = self.request(
            "wait", kind=kind, timeout=timeout, since=since, **rest
        )["entry"]
        return entry

    def info(self) -> dict[str, Any]:
        """Return addresses, counts and open connections."""
        return self.request("info")

    def stop(self) -> None:
        """Ask the emulator to end."""
        self.request("stop")
