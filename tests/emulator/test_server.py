"""The server: TLS, handshakes, faults on the transport, the record, the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import wave
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidStatus,
    WebSocketException,
)

from live_emulator import Emulator, EmulatorOptions, load_scenario
from live_emulator.control import ControlClient, ControlError
from live_emulator.faults import ACTIONS, CONNECT_ACTIONS, PARAMETERS, make_fault
from tests.emulator.clients import DEVELOPER, VERTEX, emulator, raw, run
from tests.emulator.harness import handles, kinds, said, voice

V38 = "models/gemini-3.8-live"
VERTEX_PATH = "publishers/google/models/gemini-3.8-live"


def test_a_whole_raw_session() -> None:
    """A hand-written client: double slash, query key, a turn, a clean close."""

    async def main() -> None:
        async with emulator() as server:
            path = "/" + DEVELOPER + "?key=abc"
            async with raw(server, path, additional_headers={}) as client:
                assert await client.setup() == {"setupComplete": {}}
                await client.say(voice(0.2))
                frames = await client.until("turnComplete")
                assert kinds(frames) == [
                    "inputTranscription",
                    "audio",
                    "generationComplete",
                    "turnComplete",
                ]
            closed = await server.record.wait_for("closed")
            assert closed.detail["code"] == 1000
            assert server.connections == {}

    run(main())


def test_vertex_express_and_access_token() -> None:
    """Vertex with an API key, and with ?access_token=."""

    async def main() -> None:
        async with emulator() as server:
            async with raw(server, VERTEX) as client:
                frame = await client.setup(VERTEX_PATH)
                assert frame["setupComplete"]["sessionId"]
            async with raw(server, VERTEX + "?access_token=t", additional_headers={}) as client:
                assert "setupComplete" in await client.setup(VERTEX_PATH)

    run(main())


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503, 799])
def test_refused_handshakes(status: int) -> None:
    """The next handshake is refused with the status; the one after is not."""

    async def main() -> None:
        async with emulator() as server:
            server.faults.do("refuse_http", status=status)
            with pytest.raises(InvalidStatus) as caught:
                async with raw(server):
                    pass
            assert caught.value.response.status_code == (503 if status == 799 else status)
            assert b'"error"' in (caught.value.response.body or b"")
            async with raw(server) as client:
                await client.setup()

    run(main())


def test_missing_credentials_and_paths() -> None:
    """403 and 401 without credentials, 404 elsewhere, 401 or 403 for a refused bearer."""

    async def refused(server: Emulator, path: str, **given: Any) -> int:
        with pytest.raises(InvalidStatus) as caught:
            async with raw(server, path, **given):
                pass
        return caught.value.response.status_code

    async def main() -> None:
        bearer = {"additional_headers": {"Authorization": "Bearer stale"}}
        async with emulator(accept_credentials=frozenset({"good"})) as server:
            found = [
                await refused(server, DEVELOPER, additional_headers={}),
                await refused(server, VERTEX, additional_headers={}),
                await refused(server, "/ws/else"),
                await refused(server, VERTEX, **bearer),
            ]
            assert found == [403, 401, 404, 401]
        strict = {"accept_credentials": frozenset({"good"})}
        async with emulator(bad_bearer="http_403", **strict) as server:
            assert await refused(server, VERTEX, **bearer) == 403
        async with (
            emulator(bad_bearer="close_1008", **strict) as server,
            raw(server, VERTEX, **bearer) as client,
        ):
            with pytest.raises(ConnectionClosed) as caught:
                await client.setup(VERTEX_PATH)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008

    run(main())


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("expired", "expired"),
        ("not_yet_valid", "not yet valid"),
        ("wrong_host", "IP address mismatch"),
        ("unknown_ca", "verify failed"),
    ],
)
def test_bad_certificates(kind: str, part: str) -> None:
    """Each bad certificate fails verification for its own reason; a good one comes back."""

    async def main() -> None:
        async with emulator() as server:
            server.faults.do("certificate", kind=kind)
            with pytest.raises(ssl.SSLCertVerificationError, match=part):
                async with raw(server):
                    pass
            server.faults.do("certificate", kind="valid")
            async with raw(server) as client:
                await client.setup()

    run(main())


def test_the_certificate_passes_strict_verification() -> None:
    """Python 3.13's default VERIFY_X509_STRICT is satisfied, by address and by name."""

    async def main() -> None:
        async with emulator(san=("speaker.test",)) as server:
            context = server.client_context()
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            for name in ("127.0.0.1", "localhost", "speaker.test"):
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", server.port, ssl=context, server_hostname=name
                )
                writer.close()
                await writer.wait_closed()

    run(main())


def test_close_codes_reach_the_client() -> None:
    """Close frames carry code and reason; 1006 and a reset end the link without one."""

    async def main() -> None:
        async with emulator() as server:
            for code in (1000, 1001, 1007, 1008, 1011, 1012, 1013):
                async with raw(server) as client:
                    await client.setup()
                    server.faults.do("close", code=code, reason="x" * 200)
                    with pytest.raises(ConnectionClosed) as caught:
                        await client.receive()
                    assert caught.value.rcvd is not None
                    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, "x" * 123)
            for fault in ({"do": "close", "code": 1006}, {"do": "reset"}):
                async with raw(server) as client:
                    await client.setup()
                    server.inject(dict(fault))
                    with pytest.raises(ConnectionClosed) as caught:
                        await client.receive()
                    assert caught.value.rcvd is None

    run(main())


def test_faults_at_connect_strike_the_next_connection() -> None:
    """A fault waiting for connect strikes before setup."""

    async def main() -> None:
        async with emulator() as server:
            server.faults.do("reset", on="connect")
            server.faults.do("close", code=1013, on="connect #2")
            for _ in range(2):
                with pytest.raises((ConnectionClosed, InvalidMessage)):
                    async with raw(server) as client:
                        await client.setup()
            async with raw(server) as client:
                await client.setup()

    run(main())


def test_a_frozen_connection_neither_reads_nor_writes_until_thawed() -> None:
    """Freeze stops the answer and the pongs, thaw lets both go on."""

    async def main() -> None:
        async with emulator() as server, raw(server) as client:
            await client.setup()
            server.faults.do("freeze")
            await client.say(voice(0.2))
            pong = await client.ws.ping()
            received = asyncio.ensure_future(client.receive())
            done, _ = await asyncio.wait([received, asyncio.ensure_future(pong)], timeout=0.3)
            assert not done
            assert server.record.select("activityEnd") == []
            server.faults.do("thaw")
            await pong
            await received
            await client.until("turnComplete")

    run(main())


def test_a_frozen_connection_can_be_reset() -> None:
    """A reset gets through although nothing is written any more."""

    async def main() -> None:
        async with emulator() as server, raw(server) as client:
            await client.setup()
            server.faults.do("freeze")
            server.faults.do("reset")
            with pytest.raises(ConnectionClosed):
                await client.receive()
            await server.record.wait_for("closed")

    run(main())


def test_mute_setup_and_mute_handshake() -> None:
    """Neither ever answers; the server stops cleanly all the same."""

    async def main() -> None:
        async with emulator() as server:
            server.faults.do("silent_setup")
            async with raw(server) as client:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.setup(), 0.3)
            server.faults.do("silent_http")
            with pytest.raises(TimeoutError):
                async with raw(server, open_timeout=0.3):
                    pass
            await server.record.wait_for(lambda e: e.detail.get("do") == "silent_http")

    run(main())


def test_the_port_can_be_closed_and_opened_again() -> None:
    """refuse_tcp refuses new connections and leaves open ones alone; accept_tcp undoes it."""

    async def main() -> None:
        async with emulator() as server, raw(server) as client:
            await client.setup()
            server.faults.do("refuse_tcp")
            with pytest.raises(ConnectionRefusedError):
                async with raw(server):
                    pass
            await client.say(voice(0.1))
            await client.until("turnComplete")
            seq = server.record.last_seq
            server.faults.do("accept_tcp")
            await server.record.wait_for("listening", since=seq)
            async with raw(server) as second:
                await second.setup()

    run(main())


def test_handles_survive_connections_and_faults() -> None:
    """Resume, poison, heal, expire on a live server."""

    async def main() -> None:
        async with emulator() as server:
            async with raw(server) as client:
                await client.setup(sessionResumption={})
                await client.say(voice(0.1))
                await client.until("turnComplete")
                (handle,) = handles(await client.until("sessionResumptionUpdate"))
            await server.record.wait_for("closed")
            resume: dict[str, Any] = {"sessionResumption": {"handle": handle}}
            async with raw(server) as client:
                assert await client.setup(**resume) == {"setupComplete": {}}
                async with raw(server) as other:
                    with pytest.raises(ConnectionClosed) as caught:
                        await other.setup(**resume)
                    assert caught.value.rcvd is not None
                    assert caught.value.rcvd.code == 1011
            seq = server.record.last_seq
            server.faults.do("poison_handles", mode="reject_1007")
            async with raw(server) as client:
                with pytest.raises(ConnectionClosed, match="Invalid session handle"):
                    await client.setup(**resume)
            server.faults.do("heal_handles")
            server.faults.do("expire_handles")
            async with raw(server) as client:
                with pytest.raises(ConnectionClosed, match="session not found"):
                    await client.setup(**resume)
            assert len(server.record.select("closing", since=seq)) == 2

    run(main())


def test_takeover_cuts_the_old_connection() -> None:
    """resume_while_open=takeover: the new connection gets the session."""

    async def main() -> None:
        async with (
            emulator(resume_while_open="takeover", handle_on_setup=True) as server,
            raw(server) as first,
        ):
            await first.setup(sessionResumption={})
            (handle,) = handles(await first.until("sessionResumptionUpdate"))
            async with raw(server) as second:
                await second.setup(sessionResumption={"handle": handle})
                with pytest.raises(ConnectionClosed):
                    await first.receive()
                await second.say(voice(0.1))
                await second.until("turnComplete")

    run(main())


def test_faults_at_a_time_and_from_options() -> None:
    """A fault with at= strikes at that service time."""

    async def main() -> None:
        faults = (make_fault({"do": "close", "code": 1012, "at": "3s"}),)
        async with emulator(faults=faults) as server, raw(server) as client:
            await client.setup()
            with pytest.raises(ConnectionClosed) as caught:
                await client.receive()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1012
            assert server.clock.now() >= 3.0

    run(main(), virtually=True)


def test_a_flood_goes_on_until_it_is_over() -> None:
    """Numbered frames, then bytes that only a WebSocket without manners would write."""

    async def main() -> None:
        async with emulator() as server, raw(server) as client:
            await client.setup()
            server.faults.do("flood", data='{"n": {n}}', count=450)
            server.faults.do("send_bytes", hex="82027b7d", count=3)
            seen = [await client.receive() for _ in range(453)]
            numbers = [frame["n"] for frame in seen if frame]
            assert numbers == list(range(1, 451))
            server.faults.do("deafen")
            server.faults.do("flood", count=0, data="{}")
            for _ in range(1000):
                assert await client.receive() == {}

    run(main())


def test_a_handshake_is_answered_by_whatever_is_given() -> None:
    """The bytes of raw_http are all that a client gets, also one by one and without end."""

    async def main() -> None:
        async with emulator() as server:
            server.faults.do("raw_http", data="HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")
            with pytest.raises(InvalidStatus) as caught:
                async with raw(server):
                    pass
            assert caught.value.response.status_code == 418
            server.faults.do("raw_http", data="X", count=0, on="connect #2")
            server.faults.do("raw_http", data="HTTP/1.1\r\n", drip_s=0.001, on="connect #3")
            for _ in range(2):
                with pytest.raises(WebSocketException):
                    async with raw(server):
                        pass

    run(main())


def test_ten_minutes_pass_in_seconds() -> None:
    """With time_scale a whole connection's life, goAway and close, passes at once."""

    async def main() -> None:
        async with emulator(time_scale=1_000.0) as server, raw(server) as client:
            await client.setup()
            assert await client.receive() == {"goAway": {"timeLeft": "0.050s"}}
            with pytest.raises(ConnectionClosed, match="GoAway"):
                await client.receive()

    run(main())


def test_garbage_never_crashes_the_server() -> None:
    """Broken frames close their connection; the server goes on."""

    async def main() -> None:
        async with emulator() as server:
            for garbage in ("{", b"\xff\x00", "[]", "[" * 50_000, '{"setup": {"model": {}}}'):
                async with raw(server) as client:
                    await client.ws.send(garbage)
                    with pytest.raises(ConnectionClosed) as caught:
                        await client.receive()
                    assert caught.value.rcvd is not None
                    assert caught.value.rcvd.code == 1007
            twice = [("x-goog-api-key", "k"), ("X-Test", "1"), ("User-Agent", "second")]
            async with raw(server, additional_headers=twice) as client:
                await client.setup()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.read()
            writer.close()
            async with raw(server) as client:
                await client.setup()
            assert server.record.select("core_error") == []

    run(main())


def test_a_lone_surrogate_comes_back_harmless() -> None:
    """Text that is no Unicode is answered with a replacement, not with a broken connection."""

    async def main() -> None:
        async with emulator() as server, raw(server) as client:
            await client.setup(outputAudioTranscription={})
            await client.ws.send('{"realtimeInput": {"text": "\\ud800"}}')
            frames = await client.until("turnComplete")
            assert said(frames) == "?"

    run(main())


def test_every_fault_can_be_asked_for_and_forgotten() -> None:
    """Each with the parameters of its row, from a program as from a table."""

    async def main() -> None:
        async with emulator() as server:
            values = {"mode": "mute", "kind": "expired", "hex": "00", "data": "{}"}
            for action in ACTIONS:
                params = {name: values.get(name, 1) for name in PARAMETERS.get(action, ())}
                early = CONNECT_ACTIONS | {"silent_setup", "delay_setup"}
                when = {} if action in early else {"at": 3600}
                server.faults.do(action, **params, **when)
            server.faults.do("quota")
            server.faults.clear()
            assert len(server.schedule) == 0

    run(main())


def test_the_record_and_the_kept_audio_on_disk(tmp_path: Path) -> None:
    """Every frame is a JSON line without audio in it; every utterance a WAV."""

    async def main() -> None:
        log, folder = tmp_path / "log.jsonl", tmp_path / "audio"
        pcm = voice(0.5)
        async with emulator(log_file=log, audio_dir=folder) as server, raw(server) as client:
            await client.setup()
            await client.say(pcm)
            await client.until("turnComplete")
            done = await server.record.wait_for("turnComplete", direction="out", connection=1)
            assert server.record.select("turnComplete", since=done.seq) == []
            with pytest.raises(TimeoutError, match="no nothing within"):
                await server.record.wait_for("nothing", 0.05)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
        heard = [line for line in lines if line["direction"] == "in"]
        assert [line["kind"] for line in heard] == [
            "setup",
            "activityStart",
            "audio",
            "activityEnd",
        ]
        assert heard[2]["audio_bytes"] == len(pcm)
        assert all(len(json.dumps(line)) < 2_000 for line in lines)
        assert (
            sum(line.get("audio_bytes", 0) for line in lines if line["direction"] == "out")
            == 24_000
        )
        (path,) = folder.iterdir()
        with wave.open(str(path)) as reader:
            assert reader.readframes(reader.getnframes()) == pcm

    run(main())


def test_kept_audio_is_bounded() -> None:
    """The oldest audio goes first."""

    async def main() -> None:
        async with emulator(audio_limit_bytes=10_000) as server:
            for _ in range(2):
                async with raw(server) as client:
                    await client.setup()
                    await client.say(voice(0.25))
                    await client.until("turnComplete")
            assert server.received_audio(1) == b""
            assert server.received_audio(2) == voice(0.25)
            assert len(server.utterances) == 1

    run(main())


def test_a_restarted_emulator_knows_its_handles(tmp_path: Path) -> None:
    """--state: the handle told by one emulator is good at the next; a torn file is survived."""

    async def main() -> None:
        state = tmp_path / "state.json"
        async with emulator(state_file=state) as server, raw(server) as client:
            await client.setup(sessionResumption={})
            await client.say(voice(0.1))
            await client.until("turnComplete")
            (handle,) = handles(await client.until("sessionResumptionUpdate"))
        async with emulator(state_file=state) as server, raw(server) as client:
            resumed = await client.setup(sessionResumption={"handle": handle})
            assert resumed == {"setupComplete": {}}
        state.write_text("{")
        async with emulator(state_file=state) as server:
            assert server.record.select("state_unreadable")

    run(main())


def test_the_control_socket(tmp_path: Path) -> None:
    """Another process injects faults, waits on the record, and stops the emulator."""

    async def main() -> None:
        path = tmp_path / "control.sock"
        async with emulator(control_path=path) as server, raw(server) as client:
            await client.setup()

            def other_process() -> None:
                with ControlClient(path) as control:
                    assert control.info()["connections"] == [1]
                    assert control.wait("setup")["direction"] == "in"
                    control.fault("phantom_interrupted", on="activityStart")
                    control.fault("close", code=1001)
                    assert control.wait("closing", direction="event")["detail"]["code"] == 1001
                    assert [e["kind"] for e in control.record("closing")] == ["closing"]
                    control.clear()
                    assert control.info()["faults_waiting"] == 0
                    with pytest.raises(ControlError, match="unknown fault"):
                        control.fault("explode")
                    with pytest.raises(ControlError, match="cmd is one of"):
                        control.request("explode")
                    with pytest.raises(TimeoutError):
                        control.wait("nothing", timeout=0.05)
                    control.stop()

            await asyncio.to_thread(other_process)
            await server.stop_requested.wait()
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"garbage\n[]\n")
            answers = [json.loads(await reader.readline()) for _ in range(2)]
            assert [answer["ok"] for answer in answers] == [False, False]
            writer.write(b"x" * 2_000_000 + b"\n")
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    run(main())


def test_many_connections_leave_nothing_behind() -> None:
    """A hundred sessions in one process: no connection, task or waiter is left."""

    async def main() -> None:
        async with emulator(time_scale=100.0, connection_limits=False) as server:
            before = len(asyncio.all_tasks())
            handle = ""
            for number in range(1, 101):
                async with raw(server) as client:
                    await client.setup(sessionResumption={"handle": handle} if handle else {})
                    await client.say(voice(0.05))
                    await client.until("turnComplete")
                    (handle,) = handles(await client.until("sessionResumptionUpdate"))
                await server.record.wait_for("closed", connection=number)
            assert server.connections == {}
            assert len(server.store.sessions) == 1
            assert len(asyncio.all_tasks()) <= before

    run(main())


# -- the command ------------------------------------------------------------------------------


def test_the_command_runs_a_scenario(tmp_path: Path) -> None:
    """Agentd emulator: says where it is, serves, obeys its control socket, exits 0."""

    async def main() -> None:
        scenario = tmp_path / "s.toml"
        scenario.write_text('[options]\ntime_scale = 10\n[[turn]]\nheard = "hi"\nsay = "Hello."\n')
        control, ca = tmp_path / "c.sock", tmp_path / "ca.pem"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "live_emulator",
            *("--scenario", str(scenario), "--control", str(control), "--ca-file", str(ca)),
            *("--fault", 'do = "close", code = 1012, on = "turnComplete"'),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            ready = json.loads(await process.stdout.readline())
            assert ready["environment"]["SSL_CERT_FILE"] == str(ca)
            here = Emulator(EmulatorOptions())
            here.port, here.ca_file = ready["port"], ca
            async with raw(here) as client:
                await client.setup(outputAudioTranscription={})
                await client.say(voice(0.2))
                with pytest.raises(ConnectionClosed):
                    await client.until("never")
            with ControlClient(control) as remote:
                remote.stop()
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    run(main())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--scenario", "/does/not/exist"], "No such file"),
        (["--fault", "do = 'explode'"], "unknown fault"),
        (["--fault", "???"], ""),
        (["--pace", "-1"], "pace"),
    ],
)
def test_the_command_names_mistakes(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong argument is explained; the exit status is 2."""
    import argparse

    from live_emulator.cli import add_arguments
    from live_emulator.cli import run as run_command

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run_command(parser.parse_args(arguments)) == 2
    assert part in capsys.readouterr().err


def test_a_port_in_use_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that cannot be bound: exit status 1 and a remedy."""
    import argparse
    import socket

    from live_emulator.cli import add_arguments
    from live_emulator.cli import run as run_command

    with socket.create_server(("127.0.0.1", 0)) as taken:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        arguments = parser.parse_args(["--port", str(taken.getsockname()[1])])
        assert run_command(arguments) == 1
    assert "choose another --port" in capsys.readouterr().err


def test_the_example_in_the_documentation_works(tmp_path: Path) -> None:
    """The scenario shown in docs/developer/emulator.md is read without complaint."""
    text = Path("docs/developer/emulator.md").read_text("utf-8")
    example = text.split("```toml\n", 1)[1].split("```", 1)[0]
    path = tmp_path / "example.toml"
    path.write_text(example)
    scenario = load_scenario(path)
    assert scenario.turns
    assert scenario.faults


def test_the_environment_works_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative --ca-file is announced as an absolute path."""
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with Emulator(EmulatorOptions(ca_file=Path("ca.pem"))) as server:
            assert server.client_environment()["SSL_CERT_FILE"] == str(tmp_path / "ca.pem")
            assert server.info()["ca_file"] == str(tmp_path / "ca.pem")

    run(main())
