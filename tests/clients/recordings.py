"""The server's side of recorded Live sessions, played to the daemon's session.

A recording is what pydantic-ai's tests keep of a real session (`interactions`, each a message sent
or received, in YAML, of which JSON is a part). What the client sent then says where the service
waits now: for the setup, for a question, for the result of a function. They belong to others and
are not shipped: `make test-clients RECORDINGS=DIR` takes a folder of them.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agentd import events as e
from agentd.live.messages import whole_json
from agentd.live.toolbox import Tool, Toolbox
from live_emulator.certs import load_pem, make_authority, make_leaf, server_context
from tests.live.device import Device

WAIT_S = 30.0


class NotARecording(ValueError):
    """A file that holds no recorded Live session; the message names it."""


@dataclass(slots=True)
class Recording:
    """A session as it was: (sent or received, message) in order."""

    name: str
    messages: list[tuple[str, Mapping[str, Any]]]

    @property
    def model(self) -> str:
        """Return the model's name."""
        return str(self.messages[0][1]["setup"].get("model", "")).rsplit("/", 1)[-1]

    @property
    def vertex(self) -> bool:
        """Return whether it was made with Vertex AI."""
        return str(self.messages[0][1]["setup"].get("model", "")).startswith("projects/")

    @property
    def received(self) -> list[Mapping[str, Any]]:
        """Return what the service said, without setupComplete."""
        found = [message for way, message in self.messages if way == "received"]
        return [message for message in found if "setupComplete" not in message]

    def contents(self) -> list[Mapping[str, Any]]:
        """Return every serverContent."""
        return [message["serverContent"] for message in self.received if "serverContent" in message]

    def sound(self) -> bytes:
        """Return the sound of all replies."""
        parts = [p for c in self.contents() for p in c.get("modelTurn", {}).get("parts", [])]
        data = [p["inlineData"]["data"] for p in parts if "inlineData" in p]
        return b"".join(base64.b64decode(one, altchars=b"-_") for one in map(_urlsafe, data))

    def words(self, which: str) -> str:
        """Join a transcription."""
        return "".join(content.get(which, {}).get("text", "") for content in self.contents())

    def calls(self) -> list[Mapping[str, Any]]:
        """Return the functions that the model called."""
        return [
            call
            for message in self.received
            for call in message.get("toolCall", {}).get("functionCalls", [])
        ]

    def results(self) -> dict[str, Any]:
        """Return what the functions answered, by name."""
        sent = [message for way, message in self.messages if way == "sent"]
        answers = [
            message.get("tool_response", message.get("toolResponse", {})) for message in sent
        ]
        return {
            answer["name"]: answer.get("response", {})
            for found in answers
            for answer in found.get("functionResponses", found.get("function_responses", []))
        }


def _urlsafe(data: str) -> str:
    return data.replace("+", "-").replace("/", "_")


def read(path: Path) -> Recording:
    """Read a recording.

    Raises:
        NotARecording: it cannot be read, or is something else.
    """
    try:
        text = path.read_text("utf-8")
        found = json.loads(text) if path.suffix == ".json" else _yaml(text, path)
    except (OSError, ValueError) as error:
        raise NotARecording(f"{path}: {error}") from error
    interactions = found.get("interactions") if isinstance(found, dict) else None
    if not isinstance(interactions, list):
        raise NotARecording(f"{path}: no `interactions`; a recording of a WebSocket has them")
    messages = [
        (str(one.get("direction")), one["data"])
        for one in interactions
        if isinstance(one, dict) and isinstance(one.get("data"), dict)
    ]
    if not messages or "setup" not in messages[0][1]:
        raise NotARecording(f"{path}: does not begin with the setup of a Live session")
    return Recording(path.stem, messages)


def _yaml(text: str, path: Path) -> Any:
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise NotARecording(f"{path}: needs PyYAML; apt-get install python3-yaml") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NotARecording(f"{path}: no YAML: {str(error).splitlines()[0]}") from error


# ── the service ───────────────────────────────────────────────────────────────────────────────


def _waits_for(message: Mapping[str, Any]) -> str:
    """Return what a message that was sent then is waited for now; empty: for nothing."""
    if "setup" in message:
        return "setup"
    if "tool_response" in message or "toolResponse" in message:
        return "result"
    content = message.get("client_content", message.get("clientContent"))
    if content is not None:
        return "question" if content.get("turnComplete", content.get("turn_complete")) else ""
    return "question"  # a piece of sound, or a signal


def _is(message: Mapping[str, Any], what: str) -> bool:
    """Return whether a message of the daemon is what is waited for."""
    realtime = message.get("realtime_input", {})
    content = message.get("client_content", {})
    return {
        "setup": "setup" in message,
        "result": "tool_response" in message,
        "question": "activityEnd" in realtime or bool(content.get("turnComplete")),
    }[what]


@dataclass(slots=True)
class Service:
    """Plays one recording to whoever connects."""

    recording: Recording
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """A question is waited for."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, connection: ServerConnection) -> None:
        """Play it."""
        due = False  # a question that was asked is not asked again before its answer
        try:
            for way, message in self.recording.messages:
                what = _waits_for(message) if way == "sent" else ""
                if way == "received":
                    due = due and not message.get("serverContent", {}).get("turnComplete")
                    await connection.send(json.dumps(message).encode())
                elif what and not (what == "question" and due):
                    due = due or what == "question"
                    if what == "question":
                        self.asked.set()
                    while not _is(json.loads(await connection.recv()), what):
                        pass
            self.ended.set()
            async for _ in connection:
                pass
        except ConnectionClosed:
            pass


def _checks(recording: Recording, device: Device) -> list[str]:
    """Return what differs between what was recorded and what the daemon made of it."""
    wrong = []
    sound, turns = recording.sound(), sum(bool(c.get("turnComplete")) for c in recording.contents())
    if abs(len(device.reply) - len(sound)) > 1 * turns + 1 or not sound.startswith(
        device.reply[: len(sound) - 1 - turns]
    ):
        wrong.append(f"{len(device.reply)} bytes of sound, recorded were {len(sound)}")
    for which, speaker in (
        ("inputTranscription", e.Speaker.USER),
        ("outputTranscription", e.Speaker.MODEL),
    ):
        texts = [v for v in device.values if isinstance(v, e.TranscriptText)]
        said = "".join(text.text for text in texts if text.speaker is speaker)
        if said != recording.words(which):
            wrong.append(f"{which} {said!r}, recorded was {recording.words(which)!r}")
    called = [event.tool for event in device.told(e.ToolCalled)]
    if called != [call["name"] for call in recording.calls()]:
        wrong.append(f"called {called}")
    if failed := [event.cause for event in device.told(e.TurnFailed)]:
        wrong.append(f"turns failed: {failed}")
    if device.told(e.BadFrame):
        wrong.append("frames that could not be used")
    return wrong


async def play(recording: Recording) -> list[str]:
    """Play a recording to the daemon's session; return what it got wrong."""
    service = Service(recording)
    results = recording.results()
    toolbox = Toolbox()
    for name in dict.fromkeys(str(call["name"]) for call in recording.calls()):

        async def answer(args: Mapping[str, Any], name: str = name) -> Mapping[str, Any]:
            del args
            return dict(whole_json(results.get(name, {})))

        toolbox.add(Tool(name, "Recorded.", answer))
    context = server_context()
    authority = make_authority(dt.datetime.now(dt.UTC))
    with tempfile.TemporaryDirectory(prefix="recording-") as name:
        folder = Path(name)
        (folder / "ca.pem").write_bytes(authority.pem)
        load_pem(context, make_leaf(authority, ["127.0.0.1"], dt.datetime.now(dt.UTC)), folder)
        os.environ |= {"SSL_CERT_FILE": str(folder / "ca.pem"), "no_proxy": "127.0.0.1"}
        async with serve(service.serve, "127.0.0.1", 0, ssl=context, compression=None) as server:
            port = server.sockets[0].getsockname()[1]
            backend = {"backend": "vertex"} if recording.vertex else {}
            more: dict[str, Any] = {"model": recording.model, **backend}
            async with Device(f"https://127.0.0.1:{port}", toolbox=toolbox, **more) as device:
                return await _converse(service, device)


async def _converse(service: Service, device: Device) -> list[str]:
    """Ask whenever a question is waited for, until the recording is over."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not service.ended.is_set():
                waits = [
                    asyncio.create_task(service.asked.wait()),
                    asyncio.create_task(service.ended.wait()),
                ]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for task in waits:
                    task.cancel()
                if service.asked.is_set():
                    service.asked.clear()
                    await device.speak()
            await device.wait(lambda: device.session.status().state == "live", "the end")
            expected = any(c.get("turnComplete") for c in service.recording.contents())
            if expected:
                await device.wait(
                    lambda: bool(device.told(e.TurnEnded) or device.told(e.TurnFailed)), "a turn"
                )
    except TimeoutError:
        return ["it did not come to its end", *_checks(service.recording, device)]
    return _checks(service.recording, device)


def play_all(folder: Path) -> int:
    """Play every recording of a folder; print what each gave; return the exit status."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix in {".yaml", ".yml", ".json"})
    if not paths:
        print(f"{folder}: no recordings (.yaml, .yml, .json)")
        return 2
    bad = played = 0
    for path in paths:
        try:
            wrong = asyncio.run(play(read(path)))
        except NotARecording as error:
            print(f"{error}: left out")
            continue
        played += 1
        bad += bool(wrong)
        print(path.name, "; ".join(wrong) or "ok", flush=True)
    return int(bad > 0 or not played)
