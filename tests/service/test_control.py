"""The control socket for real: the shipped client, hostile clients, many and slow ones."""

import asyncio
import contextlib
import grp
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.clock import SystemClock
from agentd.errors import ControlError
from agentd.events import Commanded, CommandRefused, ControlUnavailable, Event
from agentd.service import client as client_module
from agentd.service import control, peers, rpc
from agentd.service.client import (
    CallFailed,
    ControlClient,
    NotPermitted,
    NotRunning,
    ask,
    socket_path,
)
from agentd.service.control import ControlServer
from agentd.service.peers import Peer, may_command

DEADLINE_S = 30


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact that no event announces."""
    async with asyncio.timeout(DEADLINE_S):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Daemon:
    """A control server with a few methods, and what it told."""

    def __init__(self, path: Path, permit: Callable[[Peer], bool] | None = None) -> None:
        self.path = path
        self.events: list[Event] = []
        self.volume = 70
        self.calls = 0
        self.hang = asyncio.Event()
        methods = {
            "status": rpc.Method(lambda _params: self.status()),
            "volume": rpc.Method(
                self._set_volume, {"percent": rpc.Param(int, low=0, high=100)}, changing=True
            ),
            "echo": rpc.Method(lambda params: params["text"], {"text": rpc.Param(str)}),
            "slow": rpc.Method(self._slow),
            "bug": rpc.Method(lambda _params: list[int]().pop()),
            "refuse": rpc.Method(self._refuse),
            "own": rpc.Method(self._own),
        }
        self.server = ControlServer(
            path,
            methods,
            clock=SystemClock(),
            emit=self.events.append,
            status=self.status,
            permit=permit,
        )

    def status(self) -> dict[str, object]:
        return {"state": "idle", "volume": self.volume}

    async def _set_volume(self, params: dict[str, Any]) -> dict[str, int]:
        await asyncio.sleep(0)
        self.calls += 1
        self.volume = params["percent"]
        return {"percent": self.volume}

    async def _slow(self, params: dict[str, Any]) -> None:
        await self.hang.wait()

    def _refuse(self, params: dict[str, Any]) -> None:
        raise ControlError("the hardware switch says muted; flip it first")

    def _own(self, params: dict[str, Any]) -> None:
        raise rpc.RpcError(-32050, "own code")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Daemon"]:
        task = asyncio.create_task(self.server.run())
        try:
            await until(lambda: bool(self.server.bound) or task.done())
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def with_daemon(
    tmp_path: Path, commands: Callable[[ControlClient], object], **options: Any
) -> tuple[Daemon, Any]:
    """Run `commands` with the shipped client, in its own thread, against a running daemon."""

    async def scenario() -> tuple[Daemon, Any]:
        async with Daemon(tmp_path / "control.sock", **options).running() as daemon:

            def use() -> object:
                with ControlClient(daemon.path, timeout_s=DEADLINE_S) as client:
                    return commands(client)

            return daemon, await asyncio.to_thread(use)

    return asyncio.run(scenario())


def raw(path: Path, data: bytes) -> list[bytes]:
    """Send `data` and return the lines that come back until the server hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(65536):
                received += chunk
    return received.splitlines()


def send_raw(tmp_path: Path, *chunks: bytes) -> tuple[Daemon, list[list[bytes]]]:
    """Send each of `chunks` over a connection of its own."""

    async def scenario() -> tuple[Daemon, list[list[bytes]]]:
        async with Daemon(tmp_path / "control.sock").running() as daemon:
            return daemon, [await asyncio.to_thread(raw, daemon.path, c) for c in chunks]

    return asyncio.run(scenario())


def codes(lines: list[bytes]) -> list[int]:
    """Return the error codes in the answers."""
    return [json.loads(line)["error"]["code"] for line in lines]


def test_a_command_reaches_the_daemon_and_is_logged_with_its_sender(tmp_path: Path) -> None:
    """Several calls over one connection; changing ones name user and process."""

    def commands(client: ControlClient) -> object:
        before = client.call("status")
        changed = client.call("volume", percent=40)
        return before, changed, client.call("status")

    daemon, answers = with_daemon(tmp_path, commands)
    assert answers == (
        {"state": "idle", "volume": 70},
        {"percent": 40},
        {"state": "idle", "volume": 40},
    )
    assert daemon.events == [Commanded(method="volume", uid=os.geteuid(), pid=os.getpid())]


@pytest.mark.parametrize(
    ("method", "params", "code", "says"),
    [
        ("reboot", {}, rpc.METHOD_NOT_FOUND, "unknown method"),
        ("volume", {"percent": 400}, rpc.INVALID_PARAMS, "percent: must be 0 to 100"),
        ("bug", {}, rpc.INTERNAL_ERROR, "internal error (IndexError); see `journalctl"),
        ("refuse", {}, rpc.REFUSED, "flip it first"),
        ("own", {}, -32050, "own code"),
    ],
)
def test_errors_reach_the_user_with_their_remedy(
    tmp_path: Path, method: str, params: dict[str, Any], code: int, says: str
) -> None:
    """Each failure is an answer; the daemon and the connection live on."""

    def commands(client: ControlClient) -> object:
        with pytest.raises(CallFailed) as caught:
            client.call(method, **params)
        assert client.call("echo", text="still here") == "still here"
        return caught.value

    daemon, failure = with_daemon(tmp_path, commands)
    assert failure.code == code
    assert says in str(failure)
    assert (daemon.volume, daemon.calls) == (70, 0)


def test_a_handler_that_hangs_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client gets an answer in any case."""
    monkeypatch.setattr(control, "HANDLER_S", 0.05)

    def commands(client: ControlClient) -> object:
        with pytest.raises(CallFailed, match="no answer within") as caught:
            client.call("slow")
        return caught.value.code

    assert with_daemon(tmp_path, commands)[1] == rpc.TIMED_OUT


def test_notifications_are_done_and_not_answered(tmp_path: Path) -> None:
    """JSON-RPC without id; blank lines are nothing; the last line needs no line end."""
    lines = (
        b'{"jsonrpc":"2.0","method":"volume","params":{"percent":11}}\n\n \r\n'
        b'{"jsonrpc":"2.0","id":5,"method":"status"}'
    )
    daemon, (answers,) = send_raw(tmp_path, lines)
    assert [json.loads(answer) for answer in answers] == [
        {"jsonrpc": "2.0", "id": 5, "result": {"state": "idle", "volume": 11}}
    ]
    assert daemon.calls == 1


def test_hostile_lines_get_errors_and_change_nothing(tmp_path: Path) -> None:
    """C1: garbage, floods, wrong types and endless lines are answered or cut off."""
    daemon, answers = send_raw(
        tmp_path,
        b"\x00\xff\xfe\n",
        b"[" * 60_000 + b"\n",
        b'{"jsonrpc":"2.0","id":1,"method":"volume","params":{"percent":"99"}}\n',
        b'[{"jsonrpc":"2.0","id":1,"method":"volume","params":{"percent":9}}]\n',
        b"x" * (rpc.MAX_LINE_BYTES * 4),
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    assert [codes(lines) for lines in answers] == [
        [rpc.PARSE_ERROR],
        [rpc.PARSE_ERROR],
        [rpc.INVALID_PARAMS],
        [rpc.INVALID_REQUEST],
        [rpc.INVALID_REQUEST],
        [],
        [rpc.PARSE_ERROR] * 2,
    ]
    assert (daemon.volume, daemon.calls) == (70, 0)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A daemon in a loop of its own, for many small attacks."""
    directory = tmp_path_factory.mktemp("control")
    loop = asyncio.new_event_loop()
    daemon = Daemon(directory / "control.sock")
    stop = asyncio.Event()

    async def serve() -> None:
        async with daemon.running():
            started.set()
            await stop.wait()

    started = threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(DEADLINE_S)
    yield daemon
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


PIECES = st.sampled_from(
    [b'{"jsonrpc":"2.0","id":1,"method":"', b'volume","params":{"percent":', b"status", b'"}\n',
     b"}}\n", b"\n", b"[]", b"null\n", b'{"id":', b"\x00", b"watchx"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=40) | PIECES, max_size=8))
def test_no_bytes_disturb_the_daemon(lasting: Daemon, parts: list[bytes]) -> None:
    """C1, by fuzzing: after any input the next client is served and nothing has changed."""
    for line in raw(lasting.path, b"".join(parts)):
        answer = json.loads(line)
        assert answer["jsonrpc"] == "2.0"
        assert ("result" in answer) != ("error" in answer)
    with ControlClient(lasting.path, timeout_s=DEADLINE_S) as client:
        assert client.call("status") == {"state": "idle", "volume": 70}
    assert lasting.calls == 0


def test_strangers_are_refused_told_the_remedy_and_told_of(tmp_path: Path) -> None:
    """C1: without permission no method is reached, not even to learn its name."""

    async def scenario() -> Daemon:
        daemon = Daemon(tmp_path / "control.sock", permit=lambda _peer: False)
        async with daemon.running():

            def knock() -> None:
                with (
                    ControlClient(daemon.path, timeout_s=DEADLINE_S) as client,
                    pytest.raises(NotPermitted, match="usermod -aG agentd"),
                ):
                    client.call("volume", percent=1)

            await asyncio.to_thread(knock)
        return daemon

    daemon = asyncio.run(scenario())
    assert daemon.calls == 0
    assert [type(event) for event in daemon.events] == [CommandRefused]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_another_user_for_real_is_refused() -> None:
    """The kernel says who knocks; a wide open socket file does not help them."""
    script = (
        "import contextlib,socket,sys\n"
        "s=socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(sys.argv[1])\n"
        'b=b\'{"jsonrpc":"2.0","id":1,"method":"volume","params":{"percent":1}}\\n\'\n'
        "with contextlib.suppress(OSError): s.sendall(b)\n"
        "print(s.recv(4096).decode())"
    )

    async def scenario() -> tuple[Daemon, str]:
        with tempfile.TemporaryDirectory() as made:
            directory = Path(made)
            directory.chmod(0o755)  # noqa: ASYNC240
            return await knock(directory)

    async def knock(directory: Path) -> tuple[Daemon, str]:
        async with Daemon(directory / "control.sock").running() as daemon:
            daemon.path.chmod(0o666)
            done = await asyncio.to_thread(
                subprocess.run,
                ["/usr/bin/python3", "-c", script, str(daemon.path)],
                user=65534,
                group=65534,
                extra_groups=[],
                capture_output=True,
                text=True,
                check=True,
            )
            return daemon, done.stdout

    daemon, answer = asyncio.run(scenario())
    assert json.loads(answer)["error"]["code"] == rpc.NOT_PERMITTED
    assert [(e.uid, e.cause) for e in daemon.events if isinstance(e, CommandRefused)] == [
        (65534, "not in group agentd")
    ]
    assert daemon.calls == 0


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer(1, 0, frozenset()), True),
        (Peer(1, 999, frozenset({999})), True),
        (Peer(1, 1000, frozenset({1000, 990})), True),
        (Peer(1, 1000, frozenset({1000})), False),
        (Peer(1, 65534, frozenset({65534})), False),
    ],
)
def test_root_the_own_user_and_the_group_may_command(peer: Peer, allowed: bool) -> None:
    """Nobody else."""
    assert may_command(peer, own_uid=999, group=990) is allowed


def test_without_the_group_only_root_and_the_own_user_may() -> None:
    """A machine without the package has no such group."""
    assert not may_command(Peer(1, 1000, frozenset({1000})), own_uid=999, group=None)


def test_the_groups_of_a_peer_are_those_of_its_process() -> None:
    """SO_PEERGROUPS: also supplementary ones."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert set(os.getgroups()) | {os.getegid()} == peers.peer_of(ours).groups
        assert peers.peer_of(ours).uid == os.geteuid()
    try:
        expected = grp.getgrnam("agentd").gr_gid
    except KeyError:
        expected = None
    assert peers.group_id() == expected


def test_the_socket_is_for_owner_and_group_and_goes_with_the_daemon(tmp_path: Path) -> None:
    """0660, and no file is left behind."""

    async def scenario() -> int:
        async with Daemon(tmp_path / "deep" / "control.sock").running() as daemon:
            return stat.S_IMODE(daemon.path.stat().st_mode)

    assert asyncio.run(scenario()) == 0o660
    assert list((tmp_path / "deep").iterdir()) == []


def test_the_socket_of_a_dead_daemon_is_taken_over(tmp_path: Path) -> None:
    """After kill -9 the file is still there; the next start works."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    daemon, answer = with_daemon(tmp_path, lambda client: client.call("status"))
    assert answer == daemon.status()


def test_a_second_daemon_leaves_the_first_alone(tmp_path: Path) -> None:
    """It is told; the socket stays with its owner."""

    async def scenario() -> tuple[list[Event], list[bytes]]:
        async with Daemon(tmp_path / "control.sock").running() as first:
            second = Daemon(first.path)
            await second.server.run()
            request = b'{"jsonrpc":"2.0","id":1,"method":"status"}\n'
            return second.events, await asyncio.to_thread(raw, first.path, request)

    events, answers = asyncio.run(scenario())
    assert len(answers) == 1
    assert [type(event) for event in events] == [ControlUnavailable]
    assert "another agentd is running" in events[0].message()


@pytest.mark.parametrize("place", ["x" * 120 + "/control.sock", "file/control.sock"])
def test_a_socket_that_cannot_be_made_is_told(tmp_path: Path, place: str) -> None:
    """Too long a path, a file in the way: the daemon goes on without commands."""
    (tmp_path / "file").write_text("")
    daemon = Daemon(tmp_path / place)
    asyncio.run(asyncio.wait_for(daemon.server.run(), DEADLINE_S))
    assert [type(event) for event in daemon.events] == [ControlUnavailable]


STATUS = b'{"jsonrpc":"2.0","id":1,"method":"status"}\n'
SLOW = b'{"jsonrpc":"2.0","id":1,"method":"slow"}\n'
WATCH = b'{"jsonrpc":"2.0","id":1,"method":"watch"}\n'

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def enter(daemon: Daemon, request: bytes = STATUS) -> Ends:
    """Connect, ask something, and stay."""
    reader, writer = await asyncio.open_unix_connection(str(daemon.path))
    writer.write(request)
    if request != SLOW:
        assert b"result" in await reader.readline()
    return reader, writer


@pytest.mark.parametrize("asks", [STATUS, WATCH], ids=["idle", "watching"])
def test_whoever_is_idle_longest_makes_room_and_hears_so(asks: bytes, tmp_path: Path) -> None:
    """Sixteen that only hold their places never keep the owner from muting."""

    async def scenario() -> None:
        async with Daemon(tmp_path / "control.sock").running() as daemon:
            inside = [await enter(daemon, asks) for _ in range(control.MAX_CLIENTS)]
            assert b"result" in (await asyncio.to_thread(raw, daemon.path, STATUS))[0]
            lines = (await inside[0][0].read()).splitlines()
            assert codes(lines[-1:]) == [rpc.BUSY]
            if asks == STATUS:
                inside[1][1].write(STATUS)
                assert b"result" in await inside[1][0].readline()
            for _, writer in inside:
                writer.close()

    asyncio.run(scenario())


def test_clients_that_poll_do_not_keep_others_out(tmp_path: Path) -> None:
    """They ask again and again and come back when sent away; every command is answered."""

    async def poll(daemon: Daemon) -> None:
        while True:
            with contextlib.suppress(OSError, AssertionError):
                reader, writer = await enter(daemon)
                while b"result" in await reader.readline():
                    writer.write(STATUS)
                writer.close()
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        async with Daemon(tmp_path / "control.sock").running() as daemon:
            polling = [asyncio.create_task(poll(daemon)) for _ in range(control.MAX_CLIENTS + 4)]
            await until(lambda: len(daemon.server._places) == control.MAX_CLIENTS)
            for percent in range(20):
                request = {"jsonrpc": "2.0", "id": 1, "method": "volume"}
                line = json.dumps(request | {"params": {"percent": percent}}).encode() + b"\n"
                assert b"result" in (await asyncio.to_thread(raw, daemon.path, line))[-1]
                assert daemon.volume == percent
            for task in polling:
                task.cancel()
            await asyncio.gather(*polling, return_exceptions=True)

    asyncio.run(scenario())


def test_requests_that_wait_leave_places_for_those_that_do_not(tmp_path: Path) -> None:
    """Twelve questions that nobody answers, and mute still works."""

    async def scenario() -> None:
        async with Daemon(tmp_path / "control.sock").running() as daemon:
            inside = [await enter(daemon, SLOW) for _ in range(control.MAX_LONG)]
            await until(lambda: daemon.server._long == control.MAX_LONG)
            assert codes(await asyncio.to_thread(raw, daemon.path, SLOW)) == [rpc.BUSY]
            for _ in range(2 * control.MAX_CLIENTS):
                assert b"result" in (await asyncio.to_thread(raw, daemon.path, STATUS))[0]
            daemon.hang.set()
            for reader, writer in inside:
                assert b"result" in await reader.readline()
                writer.close()

    asyncio.run(scenario())


def test_a_watcher_that_is_sent_away_says_why(tmp_path: Path) -> None:
    """The command does not just end."""

    async def scenario() -> None:
        async with Daemon(tmp_path / "control.sock").running() as daemon:

            def watch() -> None:
                with ControlClient(daemon.path, timeout_s=DEADLINE_S) as client:
                    for _ in client.watch():
                        watching.set()

            watching = threading.Event()
            first = asyncio.create_task(asyncio.to_thread(watch))
            await asyncio.to_thread(watching.wait, DEADLINE_S)
            others = [await enter(daemon) for _ in range(control.MAX_CLIENTS)]
            with pytest.raises(CallFailed, match="made room for another client"):
                await first
            for _, writer in others:
                writer.close()

    asyncio.run(scenario())


def test_a_client_that_says_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line forever does not keep a place."""
    monkeypatch.setattr(control, "IDLE_S", 0.05)

    async def scenario() -> bytes:
        async with Daemon(tmp_path / "control.sock").running() as daemon:
            reader, writer = await asyncio.open_unix_connection(str(daemon.path))
            writer.write(b'{"jsonrpc"')
            answer = await asyncio.wait_for(reader.read(), DEADLINE_S)
            writer.close()
            return answer

    assert asyncio.run(scenario()) == b""


def test_a_client_that_takes_no_answers_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unread answers do not pile up, and hold up nobody else."""
    monkeypatch.setattr(control, "WRITE_S", 0.05)
    request = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "echo", "params": {"text": "x" * 60_000}}
    )

    async def scenario() -> None:
        async with Daemon(tmp_path / "control.sock").running() as daemon:
            _, writer = await asyncio.open_unix_connection(str(daemon.path), limit=1)
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    writer.write(request.encode() + b"\n")
                    await writer.drain()
            await until(lambda: len(daemon.server._places) == 0)
            writer.transport.abort()

    asyncio.run(scenario())


def test_a_watcher_sees_each_change(tmp_path: Path) -> None:
    """`agentd status --watch`: the status now, then whenever it changes, until the stop."""

    async def scenario() -> list[int]:
        daemon = Daemon(tmp_path / "control.sock")
        seen: list[int] = []

        def watch() -> None:
            with ControlClient(daemon.path, timeout_s=DEADLINE_S) as client:
                seen.extend(status["volume"] for status in client.watch())

        async with daemon.running():
            task = asyncio.create_task(asyncio.to_thread(watch))
            for volume in (70, 40, 10):
                daemon.volume = volume
                daemon.server.watchers.publish()
                await until(lambda: seen[-1:] == [daemon.volume])
        await task
        assert not daemon.server.watchers.count
        return seen

    assert asyncio.run(scenario()) == [70, 40, 10]


def test_a_watcher_that_is_killed_leaves_no_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """C1: dying with the status unread resets the connection, and that is no fault of ours."""

    async def main() -> None:
        async with Daemon(tmp_path / "control.sock").running() as daemon:
            with socket.socket(socket.AF_UNIX) as watcher:
                watcher.connect(str(daemon.path))
                watcher.sendall(b'{"jsonrpc":"2.0","id":1,"method":"watch"}\n')
                await until(lambda: bool(daemon.server.watchers.count))
                # The answer and the first status wait to be read, and never are.
                await asyncio.to_thread(watcher.recv, 1)
            await until(lambda: not len(daemon.server._places))
            assert not daemon.server.watchers.count

    asyncio.run(main())
    assert caplog.text == ""


def test_watching_ends_when_the_watcher_leaves(tmp_path: Path) -> None:
    """No sender is left running for nobody."""

    async def scenario() -> None:
        async with Daemon(tmp_path / "control.sock").running() as daemon:
            reader, writer = await asyncio.open_unix_connection(str(daemon.path))
            writer.write(b'{"jsonrpc":"2.0","id":1,"method":"watch"}\n')
            await reader.readline()
            await reader.readline()
            writer.close()
            await until(lambda: len(daemon.server._places) == 0)
            assert not daemon.server.watchers.count

    asyncio.run(scenario())


# ── the client alone ──────────────────────────────────────────────────────────────────────────


def test_without_daemon_the_client_says_how_to_start_it(tmp_path: Path) -> None:
    """No socket file, or one that nobody listens on."""
    with pytest.raises(NotRunning, match="systemctl start agentd"):
        ControlClient(tmp_path / "none").__enter__()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(NotRunning, match="agentd run"):
        ControlClient(tmp_path / "dead").__enter__()


def test_without_permission_the_client_names_the_group(tmp_path: Path) -> None:
    """EACCES at the socket file is translated to the remedy."""
    with pytest.raises(NotPermitted, match="usermod -aG agentd"):
        raise ControlClient(tmp_path)._translated(PermissionError(13, "Permission denied"))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 400\n", "not JSON-RPC"),
        (b"[]\n", "not JSON-RPC"),
        (b'{"error": 7}\n', "without saying which"),
        (b"", "closed the connection"),
        (b'{"id":99,"result":1}\n', "closed the connection"),
        (b"x" * (5 << 20), "too long"),
    ],
)
def test_a_strange_server_does_not_confuse_the_client(
    tmp_path: Path, answer: bytes, says: str
) -> None:
    """Whatever listens there: a sentence, not a traceback."""

    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(answer)
            writer.close()

        def use() -> None:
            with ControlClient(tmp_path / "s", timeout_s=DEADLINE_S) as client:
                client.call("status")

        async with await asyncio.start_unix_server(serve, str(tmp_path / "s")):
            with pytest.raises(ControlError, match=says):
                await asyncio.to_thread(use)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("codes", "asked", "says"),
    [
        ((rpc.BUSY, rpc.BUSY), 3, None),
        ((rpc.BUSY, rpc.REFUSED), 2, "the reason"),
        ((rpc.BUSY,) * 99, 1, "the reason"),
    ],
)
def test_a_command_for_which_there_is_no_place_is_given_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codes: tuple[int, ...],
    asked: int,
    says: str | None,
) -> None:
    """Until there is one, for a while; any other refusal is the answer."""
    if len(codes) > 9:
        monkeypatch.setattr(client_module, "_PATIENCE_S", 0.0)
    left, came = list(codes), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.readline())
        answer: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "result": "muted"}
        if left:
            answer = {"id": 1, "error": {"code": left.pop(0), "message": "the reason"}}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_unix_server(serve, str(tmp_path / "s")):
            if says is None:
                assert await asyncio.to_thread(ask, tmp_path / "s", "mute") == "muted"
            else:
                with pytest.raises(CallFailed, match=says):
                    await asyncio.to_thread(ask, tmp_path / "s", "mute")

    asyncio.run(scenario())
    assert len(came) == asked


def test_a_daemon_that_hangs_is_named(tmp_path: Path) -> None:
    """The command does not wait for ever."""
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        with (
            ControlClient(tmp_path / "s", timeout_s=0.05) as client,
            pytest.raises(ControlError, match="does not answer"),
        ):
            client.call("status")


def test_a_client_is_used_as_a_context(tmp_path: Path) -> None:
    """A slip in our own code is named."""
    client = ControlClient(tmp_path)
    with pytest.raises(ControlError, match="with"):
        client.call("status")
    with pytest.raises(ControlError, match="with"):
        client._receive()


def test_the_socket_is_found_where_the_daemon_puts_it() -> None:
    """$RUNTIME_DIRECTORY first."""
    assert socket_path({"RUNTIME_DIRECTORY": "/run/x"}, Path("/home/ada")) == Path(
        "/run/x/control.sock"
    )


def test_a_command_loads_neither_asyncio_nor_the_sdk() -> None:
    """`agentd status` is instant on a Pi: what it imports is small."""
    script = (
        "import sys; import agentd.service.client; "
        "print(*sorted(m for m in ('asyncio', 'pydantic', 'google', 'hypothesis') "
        "if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == ""
