"""The other end of the control socket, for commands: synchronous, light, hence instant."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentd.errors import ControlError
from agentd.state.paths import runtime_directory
from agentd.text import safe_document

SERVICE_DIRECTORY = Path("/run/agentd")
SOCKET_NAME = "control.sock"
_CHUNK_BYTES = 65_536
_MAX_ANSWER_BYTES = 4 << 20
_TEXT_LIMIT = 1000  # characters of one text in an answer
_NOT_PERMITTED, _BUSY = -32001, -32002  # of `agentd.service.rpc`, which commands do without
_PATIENCE_S = 3.0
_AGAIN_S = 0.05


class NotRunning(ControlError):
    """There is no daemon to talk to."""


class NotPermitted(ControlError):
    """The daemon does not take commands from this user."""


class CallFailed(ControlError):
    """The daemon answered with an error; `code` is that of JSON-RPC."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def socket_path(environ: Mapping[str, str], home: Path) -> Path:
    """Return where a command finds the daemon: that of the service, else the user's own."""
    return runtime_directory(environ, home, system=SERVICE_DIRECTORY) / SOCKET_NAME


def ask(path: Path, method: str, **params: object) -> Any:
    """Return the result of `method`, asked once more while others take all places of the daemon.

    What was not served for want of a place was not begun, so that asking again does nothing twice.

    Raises:
        ControlError: says what to do.
    """
    latest_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with ControlClient(path) as client:
                return client.call(method, **params)
        except CallFailed as error:
            if error.code != _BUSY or time.monotonic() >= latest_s:
                raise
        time.sleep(_AGAIN_S)


class ControlClient:
    """A connection to the daemon; use it as a context."""

    def __init__(self, path: Path, *, timeout_s: float = 25.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._received = b""
        self._id = 0

    def __enter__(self) -> Self:
        """Connect; raise `NotRunning` or `NotPermitted` with the remedy."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(self._timeout_s)
        try:
            sock.connect(str(self._path))
        except OSError as error:
            sock.close()
            raise self._translated(error) from None
        self._socket = sock
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, method: str, **params: object) -> Any:
        """Return the result of `method`; raise `ControlError` saying what to do."""
        self._id += 1
        request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self._send(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._receive()
            if "error" in answer:
                raise _failure(answer["error"])
            if answer.get("id") == self._id:
                return answer.get("result")

    def watch(self) -> Iterator[Any]:
        """Yield the status now and whenever it changes, until the daemon stops."""
        for method, params in self.stream():
            if method == "status":
                yield params

    def stream(self, **params: object) -> Iterator[tuple[str, Any]]:
        """Watch; yield method and parameters of each message, until the daemon stops."""
        self.call("watch", **params)
        if self._socket is not None:
            self._socket.settimeout(None)
        while True:
            try:
                answer = self._receive()
            except NotRunning:
                return
            if "error" in answer:
                raise _failure(answer["error"])
            yield str(answer.get("method")), answer.get("params")

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            raise ControlError("not connected: use the client in a `with` block")
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # refused at the door: the reason is there to be read
        except OSError as error:
            raise self._translated(error) from None

    def _receive(self) -> dict[str, Any]:
        if self._socket is None:
            raise ControlError("not connected: use the client in a `with` block")
        while b"\n" not in self._received:
            try:
                chunk = self._socket.recv(_CHUNK_BYTES)
            except OSError as error:
                raise self._translated(error) from None
            if not chunk:
                raise NotRunning("the daemon closed the connection; it may be stopping. Try again")
            self._received += chunk
            if len(self._received) > _MAX_ANSWER_BYTES:
                raise ControlError("the answer is too long; are both of the same version?")
        line, _, self._received = self._received.partition(b"\n")
        try:
            # The daemon holds words of peers, cards and the network; here they leave it.
            answer = safe_document(json.loads(line), _TEXT_LIMIT)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise ControlError("the answer is not JSON-RPC; is this agentd's socket?")
        return answer

    def _translated(self, error: OSError) -> ControlError:
        if isinstance(error, PermissionError):
            return NotPermitted(
                f"you may not use {self._path}: be root, or a member of the group agentd "
                "(sudo usermod -aG agentd $USER, then log in again)"
            )
        if isinstance(error, TimeoutError):
            return ControlError(
                f"the daemon does not answer within {self._timeout_s:g} s; "
                "see `journalctl -u agentd`"
            )
        if isinstance(error, FileNotFoundError | ConnectionError):
            return NotRunning(
                f"the daemon is not running (nobody listens at {self._path}). "
                "Start it with `sudo systemctl start agentd`, or by hand with `agentd run`"
            )
        return ControlError(f"{self._path}: {error.strerror or error}")


def _failure(error: object) -> ControlError:
    if not isinstance(error, dict):
        return ControlError("the daemon reports an error without saying which")
    code, message = error.get("code"), str(error.get("message"))
    if code == _NOT_PERMITTED:
        return NotPermitted(message)
    return CallFailed(message, code if isinstance(code, int) else 0)
