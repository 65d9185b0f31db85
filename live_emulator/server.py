"""The server: TLS, WebSockets, and everything that outlives a connection."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import logging
import socket
import ssl
import tempfile
import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO
from weakref import WeakKeyDictionary

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from live_emulator import rest
from live_emulator.audio import wav_bytes
from live_emulator.certs import Authority, load_pem, make_authority, make_leaf, server_context
from live_emulator.clock import ScaledClock
from live_emulator.connection import LiveConnection
from live_emulator.control import ControlServer
from live_emulator.effects import Utterance
from live_emulator.fault_api import Faults
from live_emulator.fault_frames import filled
from live_emulator.faults import CONNECT_ACTIONS, SERVER_ACTIONS, Fault, FaultSchedule, make_fault
from live_emulator.front import front
from live_emulator.handshake import Admission, AuthForm, HttpRefusal, admit
from live_emulator.opening import Service
from live_emulator.options import EmulatorOptions
from live_emulator.record import Record
from live_emulator.sessions import Poison, SessionStore
from live_emulator.shell import ConnectionShell

logger = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 600.0
CLOSE_TIMEOUT_S = 5.0


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; IPv6 when the address has a colon.

    The protocol is given because asyncio sets TCP_NODELAY only on sockets that name TCP
    (``base_events._set_nodelay``); without it every small frame waits 40 ms for an ACK.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


class Emulator:
    """A Live API server in this process.

    >>> async with Emulator() as emulator:  # doctest: +SKIP
    ...     os.environ["SSL_CERT_FILE"] = str(emulator.ca_file)
    ...     client = genai.Client(api_key="any", http_options={"base_url": emulator.base_url})
    """

    def __init__(self, options: EmulatorOptions | None = None) -> None:
        self.options = options or EmulatorOptions()
        self.clock = ScaledClock(self.options.time_scale)
        self.schedule = FaultSchedule()
        self.store = SessionStore(
            self.options.handle_lifetime, handles_kept=self.options.handles_kept
        )
        self._service = Service(self.options, self.store, self.schedule, real_s=self.clock.real_s)
        self.faults = Faults(self)
        self.record = Record(self.options.record_limit)
        self.connections: dict[int, ConnectionShell] = {}
        """Open connections by number."""
        self.utterances: list[Utterance] = []
        """User audio between start and end of each utterance, oldest first."""
        self._connection_audio: dict[int, tuple[str, bytearray]] = {}
        self._audio_bytes = 0
        self._utterance_bytes = 0
        self._count = 0
        self._admitted: WeakKeyDictionary[ServerConnection, Admission] = WeakKeyDictionary()
        self._numbers: WeakKeyDictionary[ServerConnection, int] = WeakKeyDictionary()
        self._early: WeakKeyDictionary[ServerConnection, list[Fault]] = WeakKeyDictionary()
        self._servers: list[Server] = []
        self._context = server_context()
        self._authority: Authority | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._log: TextIO | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._stopping = asyncio.Event()
        self.stop_requested = asyncio.Event()
        """Set by the control socket's ``stop``; who runs the emulator may heed it."""
        self._control: ControlServer | None = None
        self._listening: socket.socket | None = None
        self._listen_task: asyncio.Task[None] | None = None
        self.port = 0
        self.ca_file = Path()

    # -- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Make certificates, load the state, listen.

        Raises:
            OSError: the port or a file is not available.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        options = self.options
        # the loop's clock is the one that the timers keep, also where a test lets it jump
        self.clock = ScaledClock(options.time_scale, asyncio.get_running_loop().time)
        self._folder = tempfile.TemporaryDirectory(prefix="agentd-emulator-")
        if options.log_file is not None:
            self._log = options.log_file.open("w", encoding="utf-8", errors="replace")
        self.record = Record(options.record_limit, self._log)
        self._authority = make_authority(dt.datetime.now(dt.UTC).replace(tzinfo=None))
        self.ca_file = options.ca_file or Path(self._folder.name) / "ca.pem"
        self.ca_file.write_bytes(self._authority.pem)
        self.serve_certificate(options.certificate)
        self._load_state()
        await self.listen()
        if options.control_path is not None:
            self._control = ControlServer(self, options.control_path)
            await self._control.start()
        for fault in (*options.faults, *options.scenario.faults):
            self.add_fault(fault)

    async def listen(self) -> None:
        """Open the listening port (again)."""
        if self._listening is not None:
            return
        sock = bind(self.options.host, self.port or self.options.port)
        self.port = sock.getsockname()[1]
        self._servers.append(
            await serve(
                self._handle,
                sock=sock,
                ssl=self._context,
                process_request=self._process_request,
                create_connection=front(self._rest, self._note_rest),
                compression="deflate" if self.options.deflate else None,
                max_size=self.options.max_frame_bytes,
                ping_interval=self.options.ping_interval_s,
                ping_timeout=self.options.ping_interval_s,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                server_header=None,
                logger=logging.getLogger(__name__ + ".websockets"),
            )
        )
        self._listening = sock
        self.record.add(0, "", "event", "listening", detail={"port": self.port})

    def refuse_tcp(self) -> None:
        """Close the listening port; open connections go on."""
        if self._listening is not None:
            self._listening = None
            self._servers[-1].server.close()

    async def stop(self) -> None:
        """Cut every connection and stop listening."""
        self._stopping.set()
        for timer in self._timers:
            timer.cancel()
        if self._control is not None:
            await self._control.stop()
        self.refuse_tcp()
        for shell in list(self.connections.values()):
            shell.cut()
        for server in self._servers:
            server.close(close_connections=False)
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await server.wait_closed()
            except TimeoutError:  # pragma: no cover - a handler that does not end
                logger.warning("a connection did not end in time")
        self.save_state()
        if self._log is not None:
            self._log.close()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def base_url(self) -> str:
        """Return what goes into ``http_options.base_url``."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        if host == "0.0.0.0":  # noqa: S104 - compared, not bound
            host = "127.0.0.1"
        return f"https://{host}:{self.port}"

    def info(self) -> dict[str, Any]:
        """Return addresses, counts and open connections."""
        return {
            "base_url": self.base_url,
            "port": self.port,
            "ca_file": str(self.ca_file.absolute()),
            "record_seq": self.record.last_seq,
            "connections": sorted(self.connections),
            "connections_total": self._count,
            "utterances": len(self.utterances),
            "sessions": len(self.store.sessions),
            "moments": dict(self.schedule.counts),
            "faults_waiting": len(self.schedule),
        }

    def client_environment(self) -> dict[str, str]:
        """Return the environment that points an unchanged SDK at this emulator."""
        return {
            "SSL_CERT_FILE": str(self.ca_file.absolute()),
            "GOOGLE_GEMINI_BASE_URL": self.base_url,
            "GOOGLE_VERTEX_BASE_URL": self.base_url,
            "no_proxy": "127.0.0.1,localhost,::1",
        }

    def client_context(self) -> ssl.SSLContext:
        """Return a client-side TLS context that trusts this emulator."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def serve_certificate(self, kind: str) -> None:
        """Serve a certificate of this kind on new connections (see ``certs.KINDS``)."""
        assert self._authority is not None
        assert self._folder is not None
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        authority = make_authority(now) if kind == "unknown_ca" else self._authority
        hosts = ["127.0.0.1", "::1", "localhost", *self.options.san]
        if self.options.host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            hosts.append(self.options.host)
        load_pem(self._context, make_leaf(authority, hosts, now, kind), Path(self._folder.name))

    # -- connections ------------------------------------------------------------------------

    async def _process_request(self, ws: ServerConnection, request: Request) -> Response | None:
        self._count += 1
        number = self._count
        admitted = admit(request.path, dict(request.headers.raw_items()))
        path = request.path.partition("?")[0]
        self.record.add(
            number,
            "",
            "event",
            "connect",
            detail={
                "path": path,
                "user_agent": " ".join(request.headers.get_all("User-Agent")),
                "auth": admitted.credential.form.value if isinstance(admitted, Admission) else "",
            },
        )
        early: list[Fault] = []
        for fault in self.schedule.happened("connect", number):
            if fault.action == "refuse_http":
                status = int(fault.number("status", 503))
                return self._refuse(ws, number, status, fault.text("body", ""))
            if fault.action == "raw_http":
                await self._answer_raw(ws, number, fault)
            elif fault.action == "silent_http":
                self.record.add(number, "", "event", "fault", detail={"do": "silent_http"})
                await self._stopping.wait()
            elif fault.action in SERVER_ACTIONS:
                self.strike_server(fault)
            else:
                early.append(fault)
        if isinstance(admitted, HttpRefusal):
            return self._refuse(ws, number, admitted.status, admitted.message)
        refusal = self._bad_bearer(admitted)
        if refusal is not None:
            return self._refuse(ws, number, refusal.status, refusal.message)
        self._admitted[ws] = admitted
        self._early[ws] = early
        self._numbers[ws] = number
        return None

    def _rest(self, request: rest.Request) -> rest.Reply:
        """Answer a request that is no handshake."""
        return rest.answer(request, self._service, self.clock.now(), time.time())

    def _note_rest(self, request: rest.Request, reply: rest.Reply) -> None:
        self.record.add(0, "", "event", "rest", detail=rest.summary(request, reply))

    async def _answer_raw(self, ws: ServerConnection, number: int, fault: Fault) -> None:
        """Answer a handshake with bytes, all at once or one by one, and never with more."""
        self.record.add(number, "", "event", "fault", detail={"do": fault.action})
        data, drip_s = filled(fault).encode(), fault.number("drip_s", 0.0)
        count = int(fault.number("count", 1)) or None
        letters = itertools.cycle(data[at : at + 1] for at in range(len(data)))
        whole = itertools.repeat(data) if count is None else itertools.repeat(data, count)
        for piece in letters if drip_s else whole:
            ws.transport.write(piece)
            await ws.drain()
            await asyncio.sleep(drip_s)
            if ws.transport.is_closing() or self._stopping.is_set():
                break
        await self._stopping.wait()

    def _bad_bearer(self, admitted: Admission) -> HttpRefusal | None:
        accepted = self.options.accept_credentials
        credential = admitted.credential
        if accepted is None or credential.form is not AuthForm.BEARER:
            return None
        if credential.value in accepted or self.options.bad_bearer == "close_1008":
            return None
        if self.options.bad_bearer == "http_403":
            return HttpRefusal(403, "The caller does not have permission.")
        return HttpRefusal(401, "Request had invalid authentication credentials.")

    def _refuse(self, ws: ServerConnection, number: int, status: int, body: str) -> Response:
        self.record.add(number, "", "event", "refused", detail={"status": status})
        try:
            code = HTTPStatus(status)
        except ValueError:
            code = HTTPStatus.SERVICE_UNAVAILABLE
        message = rest.error_body(int(code), body or code.phrase)
        response = ws.respond(code, json.dumps(message) + "\n")
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json; charset=UTF-8"
        return response

    async def _handle(self, ws: ServerConnection) -> None:
        number = self._numbers[ws]
        core = LiveConnection(
            number,
            self._admitted[ws],
            self._service,
            self.clock.now(),
        )
        shell = ConnectionShell(ws, core, self, self.clock)
        self.connections[number] = shell
        for fault in self._early[ws]:
            shell.strike(fault)
        try:
            await shell.run()
        finally:
            del self.connections[number]
            self._closed(number)

    def _closed(self, number: int) -> None:
        for fault in self.schedule.happened("closed", number):
            if fault.action in SERVER_ACTIONS:
                self.strike_server(fault)

    def drop(self, numbers: Iterable[int]) -> None:
        """Cut connections whose session was taken over."""
        for number in numbers:
            shell = self.connections.get(number)
            if shell is not None:
                shell.cut()

    # -- faults -----------------------------------------------------------------------------

    def add_fault(self, fault: Fault) -> None:
        """Schedule a fault, or let it strike now if it has neither trigger nor time."""
        if fault.trigger is not None:
            self.schedule.add(fault)
        elif fault.at_s is not None:
            delay_s = self.clock.real_s(max(0.0, fault.at_s - self.clock.now()))
            loop = asyncio.get_running_loop()
            self._timers = [t for t in self._timers if not t.cancelled()]
            self._timers.append(loop.call_later(delay_s, self.strike, fault))
        else:
            self.strike(fault)

    def inject(self, table: dict[str, Any]) -> None:
        """Add a fault given as a table, as in a scenario file.

        Raises:
            ValueError: the table is no fault.
        """
        self.add_fault(make_fault(table))

    def strike(self, fault: Fault) -> None:
        """Let a fault strike now: the server, or the open connections it concerns."""
        if fault.action in SERVER_ACTIONS:
            self.strike_server(fault)
            return
        if fault.action in CONNECT_ACTIONS:
            raise ValueError(f"{fault.action} strikes at connect; give it on = 'connect'")
        for number, shell in list(self.connections.items()):
            if fault.connection in (None, number):
                shell.strike(fault)

    def strike_server(self, fault: Fault) -> None:
        """Let a fault strike the whole server."""
        self.record.add(0, "", "event", "fault", detail={"do": fault.action, **fault.params})
        if fault.action == "poison_handles":
            self.store.poison = Poison(fault.text("mode", "close"))
        elif fault.action == "heal_handles":
            self.store.poison = Poison.NONE
        elif fault.action == "expire_handles":
            self.store.expire_all()
        elif fault.action == "certificate":
            self.serve_certificate(fault.text("kind", "unknown_ca"))
        elif fault.action == "refuse_tcp":
            self.refuse_tcp()
        else:
            self._listen_task = asyncio.get_running_loop().create_task(self.listen())

    # -- what was received ------------------------------------------------------------------

    def keep_audio(self, shell: ConnectionShell, pcm: bytes) -> None:
        """Keep received PCM per connection, oldest connections dropped beyond the limit."""
        if not pcm:
            return
        _, kept = self._connection_audio.setdefault(shell.number, (shell.session_id, bytearray()))
        kept += pcm
        self._audio_bytes += len(pcm)
        while self._audio_bytes > self.options.audio_limit_bytes:
            oldest = next(iter(self._connection_audio))
            self._audio_bytes -= len(self._connection_audio.pop(oldest)[1])

    def keep_utterance(self, utterance: Utterance) -> None:
        """Keep an utterance, put it on record, write its WAV if asked to."""
        self.utterances.append(utterance)
        self._utterance_bytes += len(utterance.pcm)
        while self._utterance_bytes > self.options.audio_limit_bytes:
            self._utterance_bytes -= len(self.utterances.pop(0).pcm)
        detail: dict[str, Any] = {
            "number": utterance.number,
            "seconds": round(utterance.seconds, 4),
            "complete": utterance.complete,
            "explicit": utterance.explicit,
        }
        if self.options.audio_dir is not None:
            self.options.audio_dir.mkdir(parents=True, exist_ok=True)
            name = f"c{utterance.connection:05d}-u{utterance.number:05d}-{len(self.utterances)}.wav"
            wav = wav_bytes(utterance.pcm, utterance.rate_hz)
            (self.options.audio_dir / name).write_bytes(wav)
            detail["file"] = name
        self.record.add(
            utterance.connection, utterance.session, "event", "utterance", detail=detail
        )

    def received_audio(self, connection: int | None = None, session: str | None = None) -> bytes:
        """Return the PCM received, in order: of one connection, one session, or all."""
        return b"".join(
            bytes(pcm)
            for number, (owner, pcm) in self._connection_audio.items()
            if connection in (None, number) and session in (None, owner)
        )

    # -- state ------------------------------------------------------------------------------

    def _load_state(self) -> None:
        path = self.options.state_file
        if path is None or not path.exists():
            return
        try:
            data = json.loads(path.read_text("utf-8"))
            self.store.load(data, self.clock.now(), time.time(), self.options.time_scale)
        except (OSError, ValueError, KeyError, TypeError) as exc:
            self.record.add(0, "", "event", "state_unreadable", detail={"error": repr(exc)})

    def save_state(self) -> None:
        """Write sessions and handles, if a state file was asked for."""
        path = self.options.state_file
        if path is None:
            return
        text = json.dumps(self.store.dump(self.clock.now(), time.time()))
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text, "utf-8")
        fresh.replace(path)
