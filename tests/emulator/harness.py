"""A client's end of the emulator's core: frames in, frames out, on a clock moved by hand."""

from __future__ import annotations

import base64
import json
import math
from array import array
from functools import lru_cache
from typing import Any

from live_emulator.clock import ManualClock
from live_emulator.connection import LiveConnection
from live_emulator.effects import Close, Note, Reset, Send, SendRaw, Serverwide, Utterance
from live_emulator.faults import FaultSchedule, make_fault
from live_emulator.handshake import Admission, AuthForm, Credential
from live_emulator.models import Backend
from live_emulator.opening import Service
from live_emulator.options import EmulatorOptions
from live_emulator.scenario import read_scenario
from live_emulator.sessions import SessionStore
from live_emulator.wire import message_kind

MODEL = "gemini-3.8-live"
KEY = Credential(AuthForm.API_KEY, "key")
MANUAL = {"automaticActivityDetection": {"disabled": True}}


@lru_cache(maxsize=64)
def voice(seconds: float, rate_hz: int = 16_000, hz: float = 300.0) -> bytes:
    """A loud tone: speech, as far as an energy gate can tell."""
    count = round(seconds * rate_hz)
    step = 2 * math.pi * hz / rate_hz
    return array("h", (round(9_000 * math.sin(step * n)) for n in range(count))).tobytes()


def silence(seconds: float, rate_hz: int = 16_000) -> bytes:
    """Digital silence."""
    return bytes(2 * round(seconds * rate_hz))


def blob(pcm: bytes, rate_hz: int = 16_000) -> dict[str, Any]:
    """An audio message as the SDK writes it."""
    data = base64.urlsafe_b64encode(pcm).decode()
    return {"realtime_input": {"audio": {"data": data, "mime_type": f"audio/pcm;rate={rate_hz}"}}}


def make_service(
    clock: ManualClock, turns: list[dict[str, Any]] | None = None, **options: Any
) -> Service:
    """A service with nothing in it yet."""
    if turns is not None:
        options["scenario"] = read_scenario({"turn": turns})
    chosen = EmulatorOptions(**options)
    numbers = iter(range(1, 10**9))
    store = SessionStore(
        chosen.handle_lifetime,
        handles_kept=chosen.handles_kept,
        new_id=lambda: f"id-{next(numbers)}",
    )
    return Service(chosen, store, FaultSchedule())


class Peer:
    """One client connection to the core."""

    def __init__(
        self,
        service: Service | None = None,
        clock: ManualClock | None = None,
        backend: Backend = Backend.DEVELOPER,
        number: int = 1,
        credential: Credential = KEY,
        **options: Any,
    ) -> None:
        self.clock = clock or ManualClock()
        self.service = service or make_service(self.clock, **options)
        self.backend = backend
        admission = Admission(backend, "v1beta", False, credential)
        self.core = LiveConnection(number, admission, self.service, self.clock.now())
        self.frames: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.raw: list[str] = []
        self.closes: list[tuple[int, str]] = []
        self.notes: list[Note] = []
        self.utterances: list[Utterance] = []
        self.effects: list[Any] = []

    def again(self, number: int = 2) -> Peer:
        """Another connection to the same service."""
        return Peer(self.service, self.clock, self.backend, number)

    def send(self, message: Any) -> list[dict[str, Any]]:
        """Send a message (or raw text); return the frames that came back at once."""
        start = len(self.frames)
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        self.core.receive(text, self.clock.now())
        self.settle()
        return self.frames[start:]

    def settle(self) -> None:
        """Run what is due now."""
        self.core.tick(self.clock.now())
        for effect in self.core.take():
            self.effects.append(effect)
            if isinstance(effect, Send):
                self.frames.append(effect.message)
                self.times.append(self.clock.now())
            elif isinstance(effect, SendRaw):
                self.raw.append(effect.data)
            elif isinstance(effect, Close):
                self.closes.append((effect.code, effect.reason))
            elif isinstance(effect, Note):
                self.notes.append(effect)
            elif isinstance(effect, Utterance):
                self.utterances.append(effect)

    def advance(self, seconds: float) -> list[dict[str, Any]]:
        """Let time pass, stopping at every deadline; return the frames sent meanwhile."""
        start = len(self.frames)
        end = self.clock.now() + seconds
        while (due := self.core.deadline()) is not None and due <= end:
            self.clock.advance(max(0.0, due - self.clock.now()))
            self.settle()
        self.clock.advance(end - self.clock.now())
        return self.frames[start:]

    def setup(self, model: str = MODEL, **fields: Any) -> list[dict[str, Any]]:
        """Send a setup; manual activity signals unless told otherwise."""
        path = f"models/{model}"
        if self.backend is Backend.VERTEX:
            path = f"projects/p/locations/us-central1/publishers/google/models/{model}"
        body = {"model": path, "realtimeInputConfig": MANUAL, **fields}
        return self.send(
            {"setup": {key: value for key, value in body.items() if value is not None}}
        )

    def start(self) -> list[dict[str, Any]]:
        """Send activityStart."""
        return self.send({"realtime_input": {"activityStart": {}}})

    def end(self) -> list[dict[str, Any]]:
        """Send activityEnd."""
        return self.send({"realtime_input": {"activityEnd": {}}})

    def say(self, seconds: float = 1.0, pcm: bytes = b"") -> bytes:
        """Speak a whole utterance; return its PCM."""
        pcm = pcm or voice(seconds)
        self.start()
        self.send(blob(pcm))
        self.end()
        return pcm

    def turn(self, seconds: float = 1.0) -> list[dict[str, Any]]:
        """Speak and hear the answer out."""
        start = len(self.frames)
        self.say(seconds)
        self.advance(60.0)
        return self.frames[start:]

    def fault(self, **table: Any) -> None:
        """Inject a fault: now, or scheduled."""
        fault = make_fault(table)
        if fault.trigger is not None:
            self.service.schedule.add(fault)
        else:
            self.core.apply(fault, self.clock.now())
            self.settle()

    def hang_up(self) -> None:
        """End the connection as seen by the server."""
        self.core.disconnected(self.clock.now())
        for effect in self.core.take():
            if isinstance(effect, Utterance):
                self.utterances.append(effect)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the frames so far."""
        return kinds(self.frames)

    @property
    def was_reset(self) -> bool:
        """Whether the link was cut."""
        return any(isinstance(effect, Reset) for effect in self.effects)

    @property
    def serverwide(self) -> list[str]:
        """Faults handed up to the server."""
        return [e.fault.action for e in self.effects if isinstance(e, Serverwide)]

    def noted(self, kind: str) -> list[dict[str, Any]]:
        """Details of the notes of a kind."""
        return [dict(note.detail) for note in self.notes if note.kind == kind]


def kinds(frames: list[dict[str, Any]]) -> list[str]:
    """Name each frame; runs of the same kind are shortened to one."""
    out: list[str] = []
    for frame in frames:
        kind = message_kind(frame)
        if not out or out[-1] != kind:
            out.append(kind)
    return out


def reply_pcm(frames: list[dict[str, Any]]) -> bytes:
    """The audio of the reply."""
    out = b""
    for frame in frames:
        turn = frame.get("serverContent", {}).get("modelTurn", {})
        for part in turn.get("parts", []):
            if "inlineData" in part:
                out += base64.b64decode(part["inlineData"]["data"])
    return out


def said(frames: list[dict[str, Any]], which: str = "outputTranscription") -> str:
    """The transcription, joined."""
    return "".join(
        frame["serverContent"][which].get("text", "")
        for frame in frames
        if which in frame.get("serverContent", {})
    )


def handles(frames: list[dict[str, Any]]) -> list[str]:
    """The handles issued."""
    updates = [f["sessionResumptionUpdate"] for f in frames if "sessionResumptionUpdate" in f]
    return [update["newHandle"] for update in updates if "newHandle" in update]
