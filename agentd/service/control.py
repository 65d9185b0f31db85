"""The control socket: how `agentd status`, `mute` or `say` reach the running daemon.

Whatever arrives is answered, refused or cut off; nothing that a client sends or withholds can
stop the daemon, hold up another client or use more than a bounded amount of memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from agentd.clock import Clock
from agentd.config.settings import Settings
from agentd.errors import AgentdError
from agentd.events import Commanded, CommandRefused, ControlUnavailable, Emit, Event
from agentd.service import rpc
from agentd.service.peers import GROUP, Access, Peer, group_id, may_command, peer_of
from agentd.service.places import NoPlace, Places
from agentd.service.stay import WRITE_S, Door, Stay
from agentd.service.watchers import Watchers
from agentd.stage import Stage
from agentd.text import safe_text
from agentd.waiting import end

MAX_CLIENTS = 16
MAX_LONG = 12  # requests that wait for something, at once: the other places are for short ones
IDLE_S = 60.0
HANDLER_S = 20.0
UNREAD_BYTES = 256 << 10  # of what was put for a client: one that leaves more does not read
MODE = 0o660

WATCH = "watch"
DISPLACED = "this connection made room for another client; connect again"
TOO_MANY = "too many clients at once; try again"
NOT_PERMITTED = (
    "not permitted: be root, or a member of the group agentd "
    "(sudo usermod -aG agentd $USER, then log in again)"
)

_log = logging.getLogger("agentd.control")


class ControlServer(Stage):
    """Serves `methods` on a Unix socket, and behind `doors` what lasts.

    `status` is what watchers are shown; `transcripts` decides who may read what is said. `guests`
    are groups that may not command; each is served at a socket of its own too where `doors_at` has
    a folder with its name.
    """

    def __init__(
        self,
        path: Path,
        methods: Mapping[str, rpc.Method],
        *,
        clock: Clock,
        emit: Emit,
        status: Callable[[], object],
        permit: Callable[[Peer], bool] | None = None,
        doors: Mapping[str, Door] | None = None,
        transcripts: Access | None = None,
        guests: Sequence[Access] = (),
        doors_at: Path | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._emit = emit
        self._transcripts = transcripts = transcripts or Access(f"{GROUP}-transcripts")
        self._guests = (*guests, transcripts)
        self._doors_at = doors_at
        self.watchers = Watchers(clock=clock, status=status, access=transcripts)
        self._doors = {**(doors or {}), WATCH: self.watchers.door()}
        of_doors = {
            name: rpc.Method(_nothing, door.params, door.changing, for_guests=True)
            for name, door in self._doors.items()
        }
        self._methods = {**methods, **of_doors}
        self._group = group_id()
        self._permit = permit or (lambda peer: may_command(peer, group=self._group))
        self._places: Places[_Client] = Places(MAX_CLIENTS)
        self._long = 0
        self.bound: set[Path] = set()  # the sockets at which we listen now

    async def run(self) -> None:
        """Serve until cancelled; a socket that cannot be opened is reported, and that is all."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._serve_at(self._path, tasks))
            if self._doors_at is not None:
                for access in self._guests:
                    tasks.create_task(self._serve_guests(access, self._doors_at, tasks))

    async def configure(self, settings: Settings) -> str:
        """Let another group read what is said."""
        if settings.control.transcripts_group != self._transcripts.group:
            self._transcripts.use(settings.control.transcripts_group)
        return ""

    def on_event(self, event: Event) -> None:
        """Hand an event to those who watch."""
        self.watchers.on_event(event)

    async def _serve_guests(
        self, access: Access, doors_at: Path, clients: asyncio.TaskGroup
    ) -> None:
        """Serve a group at its own socket, and another group when it changes."""
        while True:
            access.changed.clear()
            listening = clients.create_task(self._guests_listener(access.group, doors_at, clients))
            await access.changed.wait()
            await end(listening)

    async def _guests_listener(
        self, group: str, doors_at: Path, clients: asyncio.TaskGroup
    ) -> None:
        folder = doors_at / group
        if folder.is_dir():
            await self._serve_at(folder / self._path.name, clients, came_as=group)

    async def _serve_at(self, path: Path, clients: asyncio.TaskGroup, came_as: str = "") -> None:
        try:
            listener, bound = self._listen(path, own_group=not came_as)
        except OSError as error:
            cause = f"{path}: {error.strerror or error}"
            remedy = "Check the directory, or stop the other agentd"
            self._emit(ControlUnavailable(cause=cause, remedy=remedy))
            return
        self.bound.add(path)
        try:
            with listener:
                await self._accept(listener, clients, came_as)
        finally:
            self.bound.discard(path)
            _remove(path, bound)

    def _listen(self, path: Path, *, own_group: bool) -> tuple[socket.socket, tuple[int, int]]:
        """Return a listener, and device and inode of its file."""
        if own_group:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _clear_way(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.setblocking(False)
            listener.bind(str(path))
            path.chmod(MODE)
            if own_group and self._group is not None:  # else the folder's, by its setgid bit
                with contextlib.suppress(OSError):  # only root and members can give it away
                    os.chown(path, -1, self._group)
            listener.listen(MAX_CLIENTS)
        except OSError:
            listener.close()
            raise
        file = path.stat()
        return listener, (file.st_dev, file.st_ino)

    async def _accept(
        self, listener: socket.socket, clients: asyncio.TaskGroup, came_as: str
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:  # out of file descriptors; without a pause this would spin
                await self._clock.sleep(1.0)
                continue
            sock.setblocking(False)
            clients.create_task(self._serve(sock, came_as))

    async def _serve(self, sock: socket.socket, came_as: str) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=sock, limit=rpc.MAX_LINE_BYTES)
            try:
                await _Client(self, reader, writer).run(peer_of(sock, came_as))
            finally:
                writer.transport.abort()
        except (OSError, TimeoutError):
            pass  # it went away, or did not take its answer
        except Exception as error:  # noqa: BLE001  one client must not end the conversation
            _log.error("client failed", exc_info=error)
        finally:
            sock.close()

    def admit(self, client: _Client, peer: Peer) -> None:
        """Give a place to who knocks; raise `RpcError` if they get none."""
        if not self._permit(peer) and not any(guests.may(peer) for guests in self._guests):
            self._emit(CommandRefused(uid=peer.uid, pid=peer.pid, cause="not in group agentd"))
            raise rpc.RpcError(rpc.NOT_PERMITTED, NOT_PERMITTED)
        try:
            displaced = self._places.enter(client, privileged=may_command(peer))
        except NoPlace:
            raise rpc.RpcError(rpc.BUSY, TOO_MANY) from None
        if displaced is not None:
            displaced.send_away()

    def release(self, client: _Client) -> None:
        """Take back the place of a client that has gone."""
        self._places.leave(client)

    async def serve(self, client: _Client, line: bytes, peer: Peer) -> tuple[bytes, Stay | None]:
        """Answer a line of a client, who keeps its place meanwhile."""
        self._places.begin(client)
        try:
            return await self.answer(line, peer)
        finally:
            self._places.end(client)

    async def answer(self, line: bytes, peer: Peer) -> tuple[bytes, Stay | None]:
        """Return the answer to `line` (empty for none), and what the connection is from then on.

        Whoever gets a `Stay` closes it.
        """
        try:
            request = rpc.parse(line)
        except rpc.RpcError as failure:
            return rpc.error(failure), None
        stay = None
        try:
            method = rpc.find(self._methods, request)
            if not method.for_guests:
                self._check_may_command(request, peer)
            if method.changing:
                self._emit(Commanded(method=request.method, uid=peer.uid, pid=peer.pid))
            if request.method in self._doors:
                stay = self._open(request, peer)
                answer = rpc.result(request.id, stay.result) if stay else b""
            else:
                answer = rpc.result(request.id, await self._call(method, request))
        except rpc.RpcError as failure:
            answer = rpc.error(failure)
        return (b"" if request.notification else answer), stay

    def _check_may_command(self, request: rpc.Request, peer: Peer) -> None:
        if not self._permit(peer):
            cause = f"{request.method} is not for guests"
            self._emit(CommandRefused(uid=peer.uid, pid=peer.pid, cause=cause))
            raise rpc.RpcError(rpc.NOT_PERMITTED, NOT_PERMITTED, request.id)

    def _open(self, request: rpc.Request, peer: Peer) -> Stay | None:
        if request.notification:
            return None  # nobody waits for what would come
        with _translated(request):
            return self._doors[request.method].open(request.params, peer)

    async def _call(self, method: rpc.Method, request: rpc.Request) -> object:
        if not inspect.iscoroutinefunction(method.handler):
            return await _call(method, request)
        if self._long >= MAX_LONG:
            raise rpc.RpcError(rpc.BUSY, "too many requests at once; try again", request.id)
        self._long += 1
        try:
            return await _call(method, request)
        finally:
            self._long -= 1


def _clear_way(path: Path) -> None:
    """Remove the socket of a daemon that died; raise if one lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # its queue is full: it lives
    raise OSError(errno.EADDRINUSE, "another agentd is running here")


def _remove(path: Path, bound: tuple[int, int]) -> None:
    # Only our own: a successor may have taken the place already.
    with contextlib.suppress(OSError):
        file = path.stat()
        if (file.st_dev, file.st_ino) == bound:
            path.unlink()


class _Client:
    """One connection: a line in, a line out, until it ends or is too slow."""

    def __init__(
        self,
        server: ControlServer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer

    async def run(self, peer: Peer) -> None:
        try:
            self._server.admit(self, peer)
            while line := await self._next_request():
                answer, stay = await self._server.serve(self, line, peer)
                try:
                    if answer:
                        await self.send(answer, WRITE_S)
                    if stay is not None:
                        await self._stay(stay)
                        return
                finally:
                    if stay is not None:
                        stay.close()
        except rpc.RpcError as failure:
            await self.send(rpc.error(failure), WRITE_S)
        finally:
            self._server.release(self)

    def send_away(self) -> None:
        """Make room for another."""
        self.hang_up(rpc.error(rpc.RpcError(rpc.BUSY, DISPLACED)))

    def hang_up(self, last: bytes) -> None:
        """Send something last, if the client takes it at once, and end the connection."""
        self._writer.write(last)
        self._writer.transport.abort()

    async def _stay(self, stay: Stay) -> None:
        if stay.own_place:
            self._server.release(self)
        await stay.run(self)

    async def _next_request(self) -> bytes:
        async with asyncio.timeout(IDLE_S):
            return await self.receive()

    async def receive(self) -> bytes:
        """Return the next line that is not blank, or nothing at the end."""
        while True:
            try:
                line = await self._reader.readline()
            except ValueError:
                message = f"a line is at most {rpc.MAX_LINE_BYTES} bytes"
                raise rpc.RpcError(rpc.INVALID_REQUEST, message) from None
            if not line or line.strip():
                return line

    async def hung_up(self) -> None:
        """Return as soon as the client says anything or goes away."""
        # Killed with words of ours unread, a client leaves a reset instead of an end.
        with contextlib.suppress(OSError):
            await self._reader.read(1)

    async def send(self, data: bytes, within_s: float | None = None) -> None:
        """Send; hang up on a client that has not read within the time, if there is one."""
        self._writer.write(data)
        try:
            async with asyncio.timeout(within_s):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()
            raise

    def put(self, data: bytes) -> bool:
        """Send without waiting; return whether the client reads what it is sent."""
        self._writer.write(data)
        return self._writer.transport.get_write_buffer_size() <= UNREAD_BYTES


def _nothing(_params: rpc.Params) -> None:
    """Stand for the handler of a door."""


@contextlib.contextmanager
def _translated(request: rpc.Request) -> Iterator[None]:
    """Make an error answer of whatever goes wrong in a handler."""
    try:
        yield
    except rpc.RpcError as failure:
        raise rpc.RpcError(failure.code, failure.message, request.id) from None
    except TimeoutError:
        message = f"no answer within {HANDLER_S:g} s; see `journalctl -u agentd`"
        raise rpc.RpcError(rpc.TIMED_OUT, message, request.id) from None
    except AgentdError as error:
        raise rpc.RpcError(rpc.REFUSED, safe_text(str(error), 1000), request.id) from None
    except Exception as error:  # noqa: BLE001  one command must not end the conversation
        _log.error("method %s failed", request.method, exc_info=error)
        message = f"internal error ({type(error).__name__}); see `journalctl -u agentd`"
        raise rpc.RpcError(rpc.INTERNAL_ERROR, message, request.id) from None


async def _call(method: rpc.Method, request: rpc.Request) -> object:
    with _translated(request):
        async with asyncio.timeout(HANDLER_S):
            value = method.handler(request.params)
            return await value if inspect.isawaitable(value) else value
