"""The real SDK against the real emulator over TLS: faults L1 to L10, on both backends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentd import events as e
from agentd.config.settings import Tools, Transcription
from agentd.live.google.websocket import unacknowledged
from agentd.live.store import MemoryStore
from agentd.live.toolbox import Tool, Toolbox
from live_emulator import Emulator, EmulatorOptions
from live_emulator.scenario import read_scenario
from tests.live.device import Device, on_loop

BACKENDS = pytest.mark.parametrize("backend", ["developer", "vertex"])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator is on this machine."""
    for name in ("https_proxy", "HTTPS_PROXY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def emulator(monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Emulator]:
    """An emulator that answers fast with a short tone."""
    chosen: dict[str, Any] = {
        "reply": "tone",
        "tone_s": 0.2,
        "latency_s": 0.01,
        "pace": 0.0,
        "playback_hold": 0.0,
    }
    async with Emulator(EmulatorOptions(**(chosen | options))) as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        yield server


def heard(server: Emulator) -> list[bytes]:
    """What the service heard, utterance by utterance, incomplete ones left out."""
    return [utterance.pcm for utterance in server.utterances if utterance.complete]


def said(device: Device, *numbers: int) -> list[bytes]:
    """What was said in these utterances."""
    return [device.utterances[number] for number in numbers]


def setups(server: Emulator) -> list[dict[str, Any]]:
    """The setup messages so far."""
    return [
        entry.message["setup"]
        for entry in server.record.select("setup")
        if entry.message is not None
    ]


# ── the plain conversation ────────────────────────────────────────────────────────────────────


@BACKENDS
@on_loop
async def test_a_rejected_answer_is_a_failure(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told with the service's own word for it; the next question is answered."""
    script = read_scenario(
        {"turn": [{"parrot": False, "turn_complete_reason": "RESPONSE_REJECTED"}, {"say": "yes"}]}
    )
    async with (
        emulator(monkeypatch, scenario=script) as server,
        Device(server.base_url, backend=backend) as device,
    ):
        await device.speak(5)
        failed = await device.event(e.TurnFailed)
        assert failed.turn_complete_reason == "RESPONSE_REJECTED"
        await device.speak(5)
        await device.answered(1)
        assert len(setups(server)) == 1


@BACKENDS
@on_loop
async def test_the_empty_turn_behind_a_result_is_not_the_answer(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link breaks in it: the question is asked again, and its function does not run twice."""
    runs = []

    async def lamp(args: Any) -> Any:
        runs.append(args)
        return {"ok": True}

    turn = {"tool_call": {"name": "lamp", "args": {}}, "say": "it is on", "empty_turn": True}
    script = read_scenario(
        {"turn": [turn], "loop": True, "fault": [{"do": "reset", "on": "turnComplete #1"}]}
    )
    async with (
        emulator(monkeypatch, scenario=script, latency_s=0.3) as server,
        Device(
            server.base_url,
            backend=backend,
            toolbox=Toolbox((Tool("lamp", "Switch the lamp.", lamp),)),
        ) as device,
    ):
        await device.speak(5)
        await device.answered(1)
        assert len(setups(server)) == 2
        assert len(runs) == 1
        assert not device.told(e.TurnFailed)


@BACKENDS
@on_loop
async def test_two_turns(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech arrives whole, the reply comes back whole, the figures are told."""
    async with (
        emulator(monkeypatch, transcripts=("hello", "and again")) as server,
        Device(server.base_url, backend=backend) as device,
    ):
        await device.speak(20)
        await device.answered(1)
        await device.speak(5)
        await device.answered(2)
        assert heard(server) == said(device, 1, 2)
        assert len(device.reply) == 2 * 24_000 * 2 * 0.2
        turn = device.told(e.TurnEnded)[0]
        assert turn.first_audio_ms is not None
        assert turn.reply_ms == turn.heard_ms == 200.0
        assert turn.prompt_tokens > 0
        assert turn.response_tokens > 0
        texts = [value.text for value in device.values if isinstance(value, e.TranscriptText)]
        assert "hello" in "".join(texts)


@pytest.mark.parametrize("heed", [True, False])
@on_loop
async def test_server_vad(heed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the service's detector no activity is signalled; the stream's end is, and is silence.

    The documentation has it heed the end; 3.8 is said to ignore it and to wait for the pause.
    """
    heeded = {"audio_stream_end": heed}
    async with (
        emulator(monkeypatch, traits=heeded) as server,
        Device(server.base_url, activity_detection="server") as device,
    ):
        await device.connected()
        number = await device.begin()
        # the emulator's detector wants something louder than our marks
        loud = (b"\x00\x40" + b"\x00\xc0") * 8_000
        device.utterances[number] += loud
        device.session.hear(e.UtteranceAudio(number, device.now, loud))
        device.finish(number)
        await server.record.wait_for("audioStreamEnd")
        assert not server.record.select("activityStart")
        await device.event(e.TurnEnded)


@on_loop
async def test_what_was_said_before_the_connection_stands_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Speech during the first dial waits and goes out after setupComplete."""
    async with emulator(monkeypatch) as server:
        server.inject({"do": "delay_setup", "delay_s": 0.5})
        async with Device(server.base_url) as device:
            await device.speak(20)
            await device.answered()
            assert heard(server) == said(device, 1)


@on_loop
async def test_frames_before_setup_complete_are_not_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes before setupComplete arrives, although the SDK takes the first frame."""
    async with emulator(monkeypatch) as server:
        server.inject({"do": "send_raw", "data": '{"goAway":{"timeLeft":"30s"}}', "on": "connect"})
        server.inject({"do": "delay_setup", "delay_s": 0.3, "on": "setup #1"})
        async with Device(server.base_url) as device:
            await device.connected()
            told = await device.event(e.GoAway)
            assert told.time_left_s == 30.0


# ── L1, L2: GoAway ────────────────────────────────────────────────────────────────────────────


@BACKENDS
@on_loop
async def test_go_away_while_idle(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a quiet moment the connection is closed first and resumed with the newest handle."""
    async with (
        emulator(monkeypatch) as server,
        Device(server.base_url, backend=backend) as device,
    ):
        await device.speak()
        await device.good_handle()
        await device.answered()
        server.inject({"do": "go_away", "time_left_s": 30})
        resumed = await device.event(e.Resumed)
        assert resumed.rung == "newest"
        await device.speak()
        await device.answered(2)
        assert heard(server) == said(device, 1, 2)
        closing = server.record.select("closed", connection=1)[0]
        opening = server.record.select("connect", connection=2)[0]
        assert closing.seq < opening.seq
        print(f"go away while idle ({backend}): gap {resumed.gap_ms:.0f} ms")


@BACKENDS
@on_loop
async def test_go_away_while_the_user_speaks(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The utterance is finished and answered before the connection is changed."""
    async with (
        emulator(monkeypatch) as server,
        Device(server.base_url, backend=backend) as device,
    ):
        await device.connected()
        number = await device.begin()
        await device.go_on(number, 10)
        server.inject({"do": "go_away", "time_left_s": 30})
        await device.event(e.GoAway)
        await device.go_on(number, 10)
        device.finish(number)
        await device.event(e.Resumed)
        assert heard(server) == said(device, 1)
        assert server.utterances[0].connection == 1
        assert len(device.reply) == 24_000 * 2 * 0.2
        assert not device.told(e.Replayed)


@on_loop
async def test_go_away_forced_in_mid_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no quiet moment comes, the switch is forced and the utterance begins anew, whole."""
    async with emulator(monkeypatch) as server, Device(server.base_url) as device:
        await device.speak()
        await device.good_handle()
        await device.answered()
        number = await device.begin()
        await device.go_on(number, 10)
        server.inject({"do": "go_away", "time_left_s": 5.2})  # the margin is 5 s
        await device.event(e.Resumed)
        await device.go_on(number, 10)
        device.finish(number)
        await device.answered(2)
        assert heard(server) == said(device, 1, 2)


@on_loop
async def test_go_away_while_a_reply_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply is heard to its end before the connection is changed."""
    async with (
        emulator(monkeypatch, tone_s=1.0) as server,
        Device(server.base_url) as device,
    ):
        await device.connected()
        server.inject({"do": "go_away", "time_left_s": 30, "on": "generationComplete"})
        await device.speak()
        await device.event(e.GoAway)
        assert not device.told(e.TurnEnded)
        await device.event(e.Resumed)
        turn = device.told(e.TurnEnded)[0]
        assert (turn.interrupted, turn.heard_ms) == (False, 1000.0)


@on_loop
async def test_go_away_during_a_tool_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection stays until the tool has answered and the model has replied."""
    gate = asyncio.Event()

    async def slow(args: Any) -> dict[str, Any]:
        del args
        await gate.wait()
        return {"result": "done"}

    toolbox = Toolbox((Tool("lamp", "Switch the lamp.", slow),))
    script = read_scenario({"turn": [{"tool_call": {"name": "lamp", "args": {}}, "say": "done"}]})
    async with (
        emulator(monkeypatch, scenario=script) as server,
        Device(server.base_url, toolbox=toolbox) as device,
    ):
        await device.speak()
        await server.record.wait_for("toolCall")
        server.inject({"do": "go_away", "time_left_s": 30})
        await device.event(e.GoAway)
        gate.set()
        await device.event(e.Resumed)
        assert [tool.outcome for tool in device.told(e.ToolCalled)] == ["answered"]
        assert server.record.select("toolResponse", connection=1)
        assert heard(server) == said(device, 1)


@on_loop
async def test_go_away_that_the_peer_enforces(monkeypatch: pytest.MonkeyPatch) -> None:
    """L2: the service closes 1008 before we leave; resumed all the same, nothing told as fault."""
    async with emulator(monkeypatch) as server, Device(server.base_url) as device:
        await device.speak()
        await device.good_handle()
        await device.answered()
        number = await device.begin()
        await device.go_on(number, 10)
        server.inject({"do": "go_away", "time_left_s": 30, "close_after_s": 0.2})
        resumed = await device.event(e.Resumed)
        assert resumed.rung == "newest"
        device.finish(number)
        await device.answered(2)
        assert heard(server) == said(device, 1, 2)
        assert not device.told(e.Refused)
        assert not device.told(e.HandleDropped)


# ── L3: the connection breaks ─────────────────────────────────────────────────────────────────

CODES = [1000, 1001, 1008, 1011, 1012, 1013]


@pytest.mark.parametrize("code", [*CODES, 0])
@pytest.mark.parametrize("when", ["idle", "speech", "reply"])
@on_loop
async def test_the_connection_breaks(when: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed with the newest handle; what was said is answered, and sent again exactly once."""
    backend = "vertex" if code in (1011, 0) and when != "idle" else "developer"
    async with (
        emulator(monkeypatch, pace=20.0) as server,
        Device(server.base_url, backend=backend) as device,
    ):
        await device.speak()
        await device.answered()
        await device.good_handle()
        fault: dict[str, Any] = {"do": "close", "code": code} if code else {"do": "reset"}
        if when == "speech":
            fault["on"] = "audio 0.4 s into utterance 2"
        if when == "reply":
            fault["on"] = "reply #2 0.1 s"
        server.inject(fault)
        if when == "idle":
            await device.connected(2)
        await device.speak(20, pause_s=0.005)
        await device.connected(2)
        await device.wait(
            lambda: (
                len(device.told(e.TurnEnded)) >= 2 and not device.told(e.TurnEnded)[-1].interrupted
            )
        )
        assert [resumed.rung for resumed in device.told(e.Resumed)] == ["newest"]
        whole = [audio for audio in heard(server) if audio == device.utterances[2]]
        assert len(whole) == (2 if when == "reply" else 1)
        assert heard(server)[-1] == device.utterances[2]
        assert not device.told(e.SpeechLost)
        assert not device.told(e.HandleDropped)
        gap_ms = device.told(e.Resumed)[0].gap_ms
        print(f"close {code or 'reset'} while {when} ({backend}): gap {gap_ms:.0f} ms")


@pytest.mark.parametrize("code", CODES)
@on_loop
async def test_the_connection_breaks_at_setup(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close before setupComplete is tried again; a person is asked only where one must help."""
    async with emulator(monkeypatch) as server:
        server.inject({"do": "silent_setup"})
        server.inject({"do": "close", "code": code, "on": "setup #1"})
        async with Device(server.base_url) as device:
            ended = await device.event(e.Disconnected)
            assert (ended.phase, ended.close_code) == ("setup", code)
            if code == 1008:
                assert (await device.event(e.Refused)).cause == "setup refused"
                return
            await device.connected()
            await device.speak()
            await device.answered()


# ── L4, L5: handles ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["reject_1007", "reject_1008"])
@on_loop
async def test_handles_that_the_service_refuses(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rung is tried once, then a fresh session gets the conversation back as context."""
    async with (
        emulator(monkeypatch, transcripts=("what is a kettle",)) as server,
        Device(server.base_url) as device,
    ):
        await device.speak()
        await device.answered()
        await device.good_handle()
        server.inject({"do": "poison_handles", "mode": mode})
        server.inject({"do": "reset"})
        fresh = await device.event(e.SessionFresh, 2)
        assert fresh.restored_turns == 1
        assert len(device.told(e.HandleDropped)) == len(device.told(e.HandleStored))
        seed = await server.record.wait_for("clientContent")
        assert "what is a kettle" in str(seed.message)
        assert "turnComplete" not in str(seed.message) or "True" not in str(seed.message)
        server.inject({"do": "heal_handles"})
        await device.speak()
        await device.answered(2)
        assert heard(server) == said(device, 1, 2)


@pytest.mark.parametrize("mode", ["close", "mute"])
@on_loop
async def test_poisoned_handle(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L5: a handle that lets us in and then kills or ignores us is demoted; nothing is lost."""
    async with (
        emulator(monkeypatch, transcripts=("one", "two")) as server,
        Device(server.base_url, reply_timeout_s=2.0, network__replay_max_age_s=60.0) as device,
    ):
        await device.speak()
        await device.answered()
        await device.good_handle()
        server.inject({"do": "poison_handles", "mode": mode})
        server.inject({"do": "reset"})
        await device.event(e.Resumed)
        await device.speak()
        await device.answered(2)
        assert device.told(e.HandleDropped)
        assert device.told(e.SessionFresh)[-1].restored_turns == 1
        assert heard(server)[-1] == device.utterances[2]


# ── L6, L7: doors that slam, peers that are silent ────────────────────────────────────────────


@on_loop
async def test_accept_then_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """L6: a service that accepts and closes at once is not hammered."""
    async with emulator(monkeypatch) as server:
        server.inject({"do": "close", "code": 1011, "on": "setup", "times": 0})
        async with Device(server.base_url, dials_per_min=5, backoff_max_s=1.0) as device:
            await device.event(e.Disconnected, 5)
            dials = device.session.status().dials
            assert dials <= 5
            retry_s = device.told(e.Disconnected)[-1].retry_in_s
            assert retry_s > 30.0, "the sixth dial must wait for the window"


@pytest.mark.parametrize("fault", ["silent_http", "silent_setup"])
@on_loop
async def test_a_service_that_never_answers(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L7: a silent handshake and a silent setup are noticed within their bound."""
    async with emulator(monkeypatch) as server:
        server.inject({"do": fault})
        async with Device(server.base_url, connect_timeout_s=1.0, setup_timeout_s=1.0) as device:
            ended = await device.event(e.Disconnected)
            assert ended.cause == "timeout"
            assert ended.phase == ("handshake" if fault == "silent_http" else "setup")
            await device.connected()
            await device.speak()
            await device.answered()


@pytest.mark.parametrize("fault", ["mute", "freeze"])
@on_loop
async def test_a_service_that_falls_silent(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L7: a question without any sign of life ends the connection; it is asked again elsewhere."""
    async with (
        emulator(monkeypatch, resume_while_open="takeover") as server,
        Device(server.base_url, reply_timeout_s=2.0) as device,
    ):
        await device.speak()
        await device.good_handle()
        await device.answered()
        server.inject({"do": fault})
        await device.speak()
        await device.answered(2)
        ended = device.told(e.Disconnected)[0]
        assert ended.cause == "mute"
        assert device.told(e.Resumed)
        assert not device.told(e.HandleDropped), "the connection had proved its handle before"
        assert heard(server)[-1] == device.utterances[2]


@on_loop
async def test_a_service_that_holds_on_to_a_dead_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resuming is refused while the service believes the old connection open: the question wins."""
    async with (
        emulator(monkeypatch, resume_while_open="refuse", transcripts=("one", "two")) as server,
        Device(server.base_url, reply_timeout_s=2.0) as device,
    ):
        await device.speak()
        await device.good_handle()
        await device.answered()
        server.inject({"do": "freeze"})
        await device.speak()
        await device.answered(2)
        fresh = device.told(e.SessionFresh)[-1]
        assert fresh.restored_turns == 1
        assert heard(server)[-1] == device.utterances[2]
        print(f"resume refused: answered over a fresh session after {fresh.gap_ms:.0f} ms")


# ── L8: strange frames ────────────────────────────────────────────────────────────────────────

STRANGE = [
    ({"do": "unknown_frame"}, False),
    ({"do": "malformed_json"}, True),
    ({"do": "error_frame"}, True),
    ({"do": "send_raw", "data": "[1, 2]"}, True),
    ({"do": "send_raw", "data": '"text"'}, True),
    ({"do": "send_raw", "data": '{"serverContent": 7}'}, True),
    (
        {
            "do": "send_raw",
            "data": '{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"data":"%"}}]}}}',
        },
        True,
    ),
    ({"do": "unknown_field"}, False),
    ({"do": "oversized_frame", "bytes": 3 << 19}, False),
    ({"do": "duplicate_setup_complete"}, False),
    ({"do": "phantom_interrupted"}, False),
    ({"do": "send_raw", "data": "{}"}, False),
]


@pytest.mark.parametrize(("fault", "bad"), STRANGE, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("text", [True, False], ids=["text", "binary"])
@on_loop
async def test_strange_frames(
    fault: dict[str, Any], bad: bool, text: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L8: no frame ends the session, not even in mid-reply."""
    async with emulator(monkeypatch, text_frames=text) as server:
        if fault["do"] == "duplicate_setup_complete":
            server.inject(dict(fault))
        async with Device(server.base_url) as device:
            await device.connected()
            if fault["do"] != "duplicate_setup_complete":
                server.inject(dict(fault))
                server.inject({**fault, "on": "reply #1 0.05 s"})
            await device.speak()
            await device.wait(lambda: len(device.told(e.TurnEnded)) >= 1)
            await device.speak()
            await device.wait(lambda: len(device.told(e.TurnEnded)) >= 2)
            assert heard(server) == said(device, 1, 2)
            assert bool(device.told(e.BadFrame)) is bad
            assert device.session.status().connections == 1


@on_loop
async def test_audio_after_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """L8: late audio of an interrupted turn is not played."""
    async with (
        emulator(monkeypatch, tone_s=2.0, pace=2.0, transcripts=("one", "two")) as server,
        Device(server.base_url) as device,
    ):
        await device.connected()
        server.inject({"do": "audio_after_interrupted", "chunks": 5})
        await device.speak()
        await device.wait(lambda: device.reply)
        await device.speak()
        await device.answered(2)
        cancelled = next(
            place for place, v in enumerate(device.values) if isinstance(v, e.ReplyCancelled)
        )
        turn = device.values[cancelled].turn
        late = [
            v for v in device.values[cancelled:] if isinstance(v, e.ReplyAudio) and v.turn == turn
        ]
        assert not late
        assert device.told(e.Interrupted)[0].by == "local"
        assert device.told(e.TurnEnded)[0].interrupted


# ── L9, L10: refusals ─────────────────────────────────────────────────────────────────────────

REFUSALS = [
    (401, "credential refused", True),
    (403, "credential refused", True),
    (404, "endpoint not found", True),
    (429, "quota", False),
    (503, "overloaded", False),
]


@BACKENDS
@pytest.mark.parametrize(("status", "cause", "fatal"), REFUSALS)
@on_loop
async def test_refused_at_the_door(
    backend: str, status: int, cause: str, fatal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classed rightly, not hammered, and a reload tries at once."""
    async with emulator(monkeypatch) as server:
        server.inject({"do": "refuse_http", "status": status})
        async with Device(server.base_url, backend=backend) as device:
            ended = await device.event(e.Disconnected)
            assert (ended.cause, ended.close_code, ended.phase) == (cause, status, "handshake")
            if fatal:
                refused = await device.event(e.Refused)
                assert refused.remedy
                assert ended.retry_in_s > 200.0
            if status == 429:
                assert (await device.event(e.QuotaExhausted)).retry_in_s >= 5.0
            await device.session.configure(device.settings)
            await device.connected()
            await device.speak()
            await device.answered()


@pytest.mark.parametrize("kind", ["expired", "not_yet_valid", "wrong_host", "unknown_ca"])
@on_loop
async def test_bad_certificate(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L9: a certificate that does not hold is told with what to do, and not hammered."""
    async with (
        emulator(monkeypatch, certificate=kind) as server,
        Device(server.base_url) as device,
    ):
        ended = await device.event(e.Disconnected)
        assert ended.phase == "handshake"
        causes = {
            "expired": {"certificate expired", "clock not set"},  # the clock of this machine may
            "not_yet_valid": {"certificate not yet valid", "clock not set"},  # be set, or not
            "wrong_host": {"certificate name"},
            "unknown_ca": {"certificate"},
        }
        assert ended.cause in causes[kind]
        assert ended.retry_in_s > (25.0 if ended.cause == "clock not set" else 50.0)
        assert bool(device.told(e.Refused)) == (ended.cause != "clock not set")
        assert ended.remedy
        server.serve_certificate("valid")
        await device.session.configure(device.settings)
        await device.connected()


@on_loop
async def test_no_such_host() -> None:
    """L9: a name that cannot be resolved is a matter of the network, not of the user."""
    async with Device("https://nowhere.invalid") as device:
        ended = await device.event(e.Disconnected)
        assert ended.cause in ("dns", "no such name")
        assert not device.told(e.Refused)


@on_loop
async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused TCP connection is tried again by backoff, and then it works."""
    async with emulator(monkeypatch) as server:
        server.inject({"do": "refuse_tcp"})
        async with Device(server.base_url) as device:
            ended = await device.event(e.Disconnected)
            assert ended.cause == "port refused"
            server.inject({"do": "accept_tcp"})
            await device.connected()


@on_loop
async def test_quota_right_after_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    """L10: accepted and closed 1011 for quota: backed off with jitter, told, handle kept."""
    async with emulator(monkeypatch) as server, Device(server.base_url) as device:
        await device.speak()
        await device.good_handle()
        await device.answered()
        server.inject({"do": "quota", "delay_s": 0.1, "on": "setup #2"})
        server.inject({"do": "reset"})
        told = await device.event(e.QuotaExhausted)
        assert told.close_code == 1011
        assert told.retry_in_s >= 5.0
        assert not device.told(e.HandleDropped)
        await device.session.configure(device.settings)
        assert (await device.event(e.Resumed, 2)).rung == "newest"


# ── restart, stop ─────────────────────────────────────────────────────────────────────────────


@BACKENDS
@on_loop
async def test_a_restart_resumes_the_conversation(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store holds after a stop is enough to go on."""
    store = MemoryStore()
    async with emulator(monkeypatch, transcripts=("one", "two")) as server:
        async with Device(server.base_url, backend=backend, store=store) as device:
            await device.speak()
            await device.good_handle()
            await device.answered()
        assert server.record.select("closed", connection=1)
        async with Device(server.base_url, backend=backend, store=store) as device:
            resumed = await device.event(e.Resumed)
            assert resumed.rung == "newest"
            assert not device.told(e.SessionFresh)
            await device.speak()
            await device.answered()
        assert len({entry.session for entry in server.record.select("setup")}) == 1


@on_loop
async def test_stop_with_a_dead_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that has frozen does not hold up the stop."""
    async with emulator(monkeypatch) as server, Device(server.base_url) as device:
        await device.connected()
        server.inject({"do": "freeze"})
        started = device.now
        await device.stop()
        took_s = device.now - started
        print(f"stop with a frozen peer: {took_s:.2f} s")
        assert device.session.status().state == "stopped"
        async with device:  # so that leaving the block finds a running session
            pass


@on_loop
async def test_another_model_begins_afresh_with_the_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reload to another model never uses the old handle and restores the conversation."""
    async with (
        emulator(monkeypatch, transcripts=("remember the milk",)) as server,
        Device(server.base_url) as device,
    ):
        await device.speak()
        await device.good_handle()
        await device.answered()
        live = device.settings.live.model_copy(
            update={"model": "gemini-2.5-flash-native-audio-preview-12-2025"}
        )
        how = await device.session.configure(device.settings.model_copy(update={"live": live}))
        assert how == "fresh"
        fresh = await device.event(e.SessionFresh, 2)
        assert fresh.cause == "handle of another model"
        assert fresh.restored_turns == 1
        assert "handle" not in setups(server)[1]["sessionResumption"]


# ── requests, over the wire ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("live", "how", "kind"),
    [
        ({}, "context_update", "contextUpdate"),
        ({"backend": "vertex"}, "now", "clientContent"),
        ({"model": "gemini-2.5-flash-native-audio-preview-12-2025"}, "on_resume", "setup"),
    ],
)
@on_loop
async def test_instruct_in_the_way_the_model_knows(
    live: dict[str, Any], how: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service gets the new instruction, and the conversation goes on."""
    async with emulator(monkeypatch) as server, Device(server.base_url, **live) as device:
        await device.speak()
        await device.good_handle()
        await device.answered()
        since = server.record.last_seq
        assert await device.session.instruct("Speak like a pirate.") == how
        entry = await server.record.wait_for(kind, since=since, direction="in")
        assert "pirate" in str(entry.message)
        await device.speak()
        await device.answered(2)
        assert not device.told(e.SessionFresh)[1:]


@on_loop
async def test_a_typed_question_during_a_call_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Vertex 2.5 the call's turn ends by itself, before the answer; both questions have one."""
    release = asyncio.Event()

    async def lamp(args: Any) -> dict[str, Any]:
        await release.wait()
        return {"on": True}

    scenario = read_scenario(
        {"turn": [{"tool_call": {"name": "lamp"}, "say": "It is on."}, {"say": "Noon."}]}
    )
    toolbox = Toolbox((Tool("lamp", "Switch the lamp on.", lamp),))
    model: dict[str, Any] = {"backend": "vertex", "model": "gemini-live-2.5-flash"}
    async with (
        emulator(monkeypatch, scenario=scenario) as server,
        Device(server.base_url, toolbox=toolbox, **model) as device,
    ):
        await device.speak()
        await device.event(e.ToolStarted)
        await server.record.wait_for("turnComplete")
        assert await device.session.say("what time is it") == "sent"
        ended = await device.event(e.TurnEnded, 2)
        assert ended.turn == 2
        assert ended.reply_ms > 0
        assert not device.told(e.TurnFailed)


@pytest.mark.parametrize("backend", ["developer", "vertex"])
@on_loop
async def test_functions_change_in_the_running_session(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function offered later is called on the same connection; withdrawn, none is declared."""

    async def lamp(args: Any) -> dict[str, Any]:
        return {"on": True}

    scenario = read_scenario({"turn": [{"tool_call": {"name": "lamp"}, "say": "It is on."}]})
    toolbox = Toolbox()
    async with (
        emulator(monkeypatch, scenario=scenario) as server,
        Device(server.base_url, toolbox=toolbox, backend=backend) as device,
    ):
        await device.connected()
        toolbox.add(Tool("lamp", "Switch the lamp on.", lamp))
        assert await device.session.tools_changed() == "context_update"
        await device.speak()
        await device.answered()
        assert device.told(e.ToolCalled)[0].outcome == "answered"
        off = device.settings.model_copy(update={"tools": Tools(enabled=False)})
        assert await device.session.configure(off) == "context_update"
        await server.record.wait_for(lambda entry: entry.detail == {"names": []})
        assert device.session.status().connections == 1


@pytest.mark.parametrize(
    ("live", "kind"),
    [
        ({}, "clientContent"),
        ({"backend": "vertex"}, "clientContent"),
        ({"model": "gemini-3.1-flash-live-preview"}, "text"),
    ],
)
@on_loop
async def test_say_is_answered(
    live: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typed question, in the way the model takes it."""
    async with emulator(monkeypatch) as server, Device(server.base_url, **live) as device:
        await device.connected()
        assert await device.session.say("what time is it") == "sent"
        await device.answered()
        assert device.reply
        assert server.record.select(kind, direction="in")


@BACKENDS
@on_loop
async def test_context_is_taken_without_an_answer(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives, and the model stays silent."""
    async with (
        emulator(monkeypatch) as server,
        Device(server.base_url, backend=backend) as device,
    ):
        await device.connected()
        await device.session.add_context("the oven is on")
        entry = await server.record.wait_for("clientContent")
        assert "oven" in str(entry.message)
        await device.speak()
        await device.answered()
        assert len(device.told(e.TurnEnded)) == 1


@BACKENDS
@on_loop
async def test_a_tool_round_on_the_wire(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call, answer, reply; a slow tool says when to speak of its result, where that is known."""

    async def lamp(args: Any) -> dict[str, Any]:
        return {"on": args["on"]}

    toolbox = Toolbox((Tool("lamp", "Switch the lamp.", lamp, slow=True),))
    script = read_scenario(
        {"turn": [{"tool_call": {"name": "lamp", "args": {"on": True}}, "say": "it is on"}]}
    )
    async with (
        emulator(monkeypatch, scenario=script) as server,
        Device(server.base_url, backend=backend, toolbox=toolbox) as device,
    ):
        await device.speak()
        entry = await server.record.wait_for("toolResponse")
        assert "'on': True" in str(entry.message)
        assert ("WHEN_IDLE" in str(entry.message)) is (backend == "developer")
        await device.answered()
        assert [told.outcome for told in device.told(e.ToolCalled)] == ["answered"]


@on_loop
async def test_extended_thinking_takes_our_setup_and_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It demands a level, refuses scheduling and behavior, and calls what it can read."""

    async def lamp(args: Any) -> dict[str, Any]:
        return {"on": args["on"]}

    parameters = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    toolbox = Toolbox((Tool("lamp", "Switch the lamp.", lamp, parameters, slow=True),))
    script = read_scenario(
        {"turn": [{"tool_call": {"name": "lamp", "args": {"on": True}}, "say_after": "it is on"}]}
    )
    model = "gemini-3.8-live-extended-thinking"
    async with (
        emulator(monkeypatch, scenario=script) as server,
        Device(server.base_url, toolbox=toolbox, model=model) as device,
    ):
        await device.speak()
        await server.record.wait_for("toolResponse")
        await device.answered()
        assert [told.outcome for told in device.told(e.ToolCalled)] == ["answered"]
        assert len(setups(server)) == 1


@BACKENDS
@pytest.mark.parametrize("slow", [False, True], ids=["blocking", "non-blocking"])
@on_loop
async def test_what_destroys_is_done_after_an_answer_and_not_before(
    backend: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called, called again without a word, over a lost connection as well, then with one."""
    ran: list[Any] = []

    async def forget(args: Any) -> dict[str, Any]:
        ran.append(args)
        return {"forgotten": "all"}

    toolbox = Toolbox((Tool("forget", "Forget.", forget, slow=slow, asks=lambda _args: "forget"),))
    call = {"name": "forget", "args": {"confirmed": True}}
    turn = {"tool_call": call, "say": "Really?", "say_after": "Really?", "tone": "0.2s"}
    # the second answers late: until then what comes may still belong to the call before it
    script = read_scenario({"turn": [turn, turn | {"latency": "1.2s"}]})
    again = {"toolCall": {"functionCalls": [{"id": "again", **call}]}}
    async with (
        emulator(monkeypatch, scenario=script, handle_on_setup=True) as server,
        Device(server.base_url, backend=backend, toolbox=toolbox) as device,
    ):
        await device.speak()
        await device.event(e.ConfirmationAsked)
        for connection in (1, 2):
            seen = server.record.last_seq
            server.faults.do("send_raw", data=again)
            answer = await server.record.wait_for("toolResponse", since=seen)
            assert "needs_confirmation" in str(answer.message)
            if connection == 1:
                server.faults.do("reset")
                await device.connected(2)
        assert not ran
        assert not device.told(e.Confirmed)
        await device.speak()
        await device.event(e.Confirmed)
        await device.wait(lambda: ran, "run")
        assert [told.by for told in device.told(e.Confirmed)] == ["voice"]
        assert len(device.told(e.ConfirmationNeeded)) == 1


@on_loop
async def test_a_server_gone_mad(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred unusable frames in a row end the connection, not the daemon."""
    async with emulator(monkeypatch) as server, Device(server.base_url) as device:
        await device.connected()
        for _ in range(120):
            server.inject({"do": "malformed_json"})
        ended = await device.event(e.Disconnected)
        assert ended.cause == "unusable frames"
        await device.connected(2)
        assert len(device.told(e.BadFrame)) < 10


@on_loop
async def test_forget_begins_a_session_that_knows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No handle, no context, nothing in the store."""
    store = MemoryStore()
    async with (
        emulator(monkeypatch, transcripts=("a secret",)) as server,
        Device(server.base_url, store=store) as device,
    ):
        await device.speak()
        await device.good_handle()
        await device.answered()
        assert "1 turn of" in await device.session.forget()
        assert store.documents == {}
        fresh = await device.event(e.SessionFresh, 2)
        assert (fresh.cause, fresh.restored_turns) == ("forgotten", 0)
        assert "handle" not in setups(server)[1]["sessionResumption"]


def test_what_a_peer_has_not_taken_is_known() -> None:
    """The kernel tells how much of what was sent is unacknowledged; a closed socket has nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        with near, far:
            near.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += near.send(bytes(65_536))
            assert 0 < unacknowledged(near) <= sent
        assert unacknowledged(near) == 0
        assert unacknowledged(None) == 0


# ── what a row of the table makes of a setup ──────────────────────────────────────────────────


async def nothing(args: Any) -> dict[str, Any]:
    """A function that does nothing."""
    del args
    return {}


TWO = (Tool("quick", "Quick.", nothing), Tool("slow", "Slow.", nothing, slow=True))


@pytest.mark.parametrize(
    ("live", "behaviors", "level"),
    [
        ({}, ["BLOCKING", "NON_BLOCKING"], None),
        ({"backend": "vertex"}, ["BLOCKING", "NON_BLOCKING"], None),
        ({"model": "gemini-3.8-live-extended-thinking"}, [None, None], "LOW"),
        (
            {"model": "gemini-3.8-live-extended-thinking", "thinking_level": "high"},
            [None, None],
            "HIGH",
        ),
        ({"model": "gemini-3.1-flash-live-preview"}, [None, "NON_BLOCKING"], None),
        (
            {"model": "gemini-3.1-flash-live-preview", "thinking_level": "minimal"},
            [None, "NON_BLOCKING"],
            "MINIMAL",
        ),
    ],
)
@on_loop
async def test_each_model_is_set_up_as_it_demands(
    live: dict[str, Any],
    behaviors: list[str | None],
    level: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quick function blocks where it would not by itself; a thinking level where there is one."""
    async with (
        emulator(monkeypatch) as server,
        Device(server.base_url, toolbox=Toolbox(TWO), **live) as device,
    ):
        await device.connected()
        (setup,) = setups(server)
        declared = setup["tools"][0]["functionDeclarations"]
        assert [function.get("behavior") for function in declared] == behaviors
        thinking = setup["generationConfig"].get("thinkingConfig", {})
        assert thinking.get("thinkingLevel") == level


@BACKENDS
@on_loop
async def test_hints_for_the_transcription(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Languages, words and mode travel in the setup; without them it says nothing of the kind."""
    hints = Transcription(languages=("id-ID", "en-US"), vocabulary=("Kirana",), mode="smart")
    async with (
        emulator(monkeypatch, any_model=True) as server,
        Device(
            server.base_url, backend=backend, model="gemini-5-live", transcription=hints
        ) as device,
    ):
        await device.connected()
        assert setups(server)[0]["inputAudioTranscription"] == {
            "languageCodes": ["id-ID", "en-US"],
            "customVocabulary": ["Kirana"],
            "mode": "SMART",
        }


@on_loop
async def test_a_chosen_silence_ends_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """3.8 may say nothing, without a turnComplete: the connection stays, nothing is repeated."""
    scenario = read_scenario({"turn": [{}, {"silent": True, "heard": "he talks to her"}, {}]})
    async with (
        emulator(monkeypatch, scenario=scenario) as server,
        Device(server.base_url, reply_timeout_s=2.0) as device,
    ):
        await device.speak()
        await device.answered()
        await device.speak()
        ended = await device.event(e.TurnEnded, 2)
        assert ended.reply_ms == 0.0
        await device.speak()
        assert (await device.event(e.TurnEnded, 3)).reply_ms > 0.0
        assert device.session.status().connections == 1
        assert not device.told(e.TurnFailed)
        assert len(server.utterances) == 3
