"""The record: every frame and event, in order, for tests to assert on and as JSON lines."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from live_emulator.wire import JsonObject, decode_base64, message_kind, normalise, redact

_SIGNALS = ("activityStart", "activityEnd", "audioStreamEnd", "audio", "mediaChunks", "video")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the record."""

    seq: int
    t: float
    """Real seconds since the emulator started."""
    wall: float
    connection: int
    session: str
    direction: str
    """``in``, ``out`` or ``event``."""
    kind: str
    frame: str = ""
    """``text`` or ``binary``."""
    size: int = 0
    """Bytes on the wire, before TLS and compression."""
    audio_bytes: int = 0
    message: JsonObject | None = None
    """The JSON with inline audio left out; None for frames that are nothing but audio."""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> JsonObject:
        """Return the entry as a JSON object, empty fields left out."""
        out: JsonObject = {
            "seq": self.seq,
            "t": round(self.t, 6),
            "wall": round(self.wall, 6),
            "connection": self.connection,
            "session": self.session,
            "direction": self.direction,
            "kind": self.kind,
        }
        extra: JsonObject = {
            "frame": self.frame,
            "size": self.size,
            "audio_bytes": self.audio_bytes,
            "message": self.message,
            "detail": dict(self.detail),
        }
        return out | {key: value for key, value in extra.items() if value}


@dataclass(frozen=True, slots=True)
class Inbound:
    """What a client frame is, as far as the record cares."""

    kind: str
    message: JsonObject | None = None
    pcm: bytes = b""


def describe_inbound(frame: str | bytes) -> Inbound:
    """Classify a client frame; never fails, ``kind`` is ``invalid`` for what is no message."""
    try:
        body = json.loads(frame)
        message = normalise(body) if isinstance(body, dict) else None
    except (ValueError, RecursionError):
        message = None
    if not message:
        return Inbound("invalid")
    kind = next(iter(message))
    realtime = message.get("realtimeInput")
    if not isinstance(realtime, dict):
        return Inbound(str(kind), redact(message))
    for signal in _SIGNALS:
        if signal in realtime:
            kind = signal
            break
    else:
        kind = "text" if "text" in realtime else "realtimeInput"
    if kind not in ("audio", "mediaChunks"):
        return Inbound(str(kind), redact(message))
    chunks = [realtime.get("audio")] if kind == "audio" else realtime.get("mediaChunks")
    pcm = b""
    for blob in chunks if isinstance(chunks, list) else []:
        if isinstance(blob, dict) and str(blob.get("mimeType", "")).startswith("audio/"):
            try:
                pcm += decode_base64(blob.get("data", ""))
            except ValueError:
                return Inbound("invalid")
    return Inbound("audio", None, pcm)


class Record:
    """The entries so far (the newest ``limit`` of them), and a way to wait for the next."""

    def __init__(self, limit: int = 50_000, log: TextIO | None = None) -> None:
        self.entries: deque[Entry] = deque(maxlen=limit)
        self._log = log
        self._started = time.monotonic()
        self._seq = 0
        self._waiters: list[tuple[Callable[[Entry], bool], asyncio.Future[Entry]]] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.entries))

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def last_seq(self) -> int:
        """Return the number of the newest entry; 0 when there is none."""
        return self._seq

    def select(
        self,
        kind: str | None = None,
        *,
        direction: str | None = None,
        connection: int | None = None,
        since: int = 0,
    ) -> list[Entry]:
        """Return the entries that match, oldest first."""
        return [
            entry
            for entry in self.entries
            if entry.seq > since
            and kind in (None, entry.kind)
            and direction in (None, entry.direction)
            and connection in (None, entry.connection)
        ]

    def add(self, connection: int, session: str, direction: str, kind: str, **rest: Any) -> Entry:
        """Append an entry, log it, wake who waits for it."""
        self._seq += 1
        t = time.monotonic() - self._started
        entry = Entry(self._seq, t, time.time(), connection, session, direction, kind, **rest)
        self.entries.append(entry)
        if self._log is not None:
            json.dump(entry.as_json(), self._log, ensure_ascii=False, default=str)
            self._log.write("\n")
            self._log.flush()
        if self._waiters:
            self._wake(entry)
        return entry

    def _wake(self, entry: Entry) -> None:
        left = []
        for predicate, future in self._waiters:
            if future.done():
                continue
            if predicate(entry):
                future.set_result(entry)
            else:
                left.append((predicate, future))
        self._waiters = left

    def sent(
        self, connection: int, session: str, message: JsonObject, frame: str, size: int
    ) -> None:
        """Record a message to the client."""
        kind = message_kind(message)
        audio = 0
        if kind == "audio":
            part = message["serverContent"]["modelTurn"]["parts"][0]["inlineData"]
            audio = len(part["data"]) * 3 // 4 - part["data"][-2:].count("=")
        plain = audio and len(message["serverContent"]) == 1
        self.add(
            connection,
            session,
            "out",
            kind,
            frame=frame,
            size=size,
            audio_bytes=audio,
            message=None if plain else redact(message),
        )

    async def wait_for(
        self,
        what: str | Callable[[Entry], bool],
        timeout: float = 10.0,  # noqa: ASYNC109 - a deadline is the whole point
        *,
        since: int = 0,
        direction: str | None = None,
        connection: int | None = None,
    ) -> Entry:
        """Return the first entry that matches a kind or a predicate, past or to come.

        ``since`` skips entries up to that sequence number; ``timeout`` is in real seconds.

        Raises:
            TimeoutError: naming what was waited for and the newest kinds on record.
        """

        def match(entry: Entry) -> bool:
            return (
                entry.seq > since
                and direction in (None, entry.direction)
                and connection in (None, entry.connection)
                and (entry.kind == what if isinstance(what, str) else what(entry))
            )

        for entry in self.entries:
            if match(entry):
                return entry
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._waiters.append((match, future))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            newest = [f"{e.direction}:{e.kind}" for e in list(self.entries)[-12:]]
            name = what if isinstance(what, str) else getattr(what, "__doc__", None) or "entry"
            raise TimeoutError(f"no {name} within {timeout} s; newest: {newest}") from None
        finally:
            self._waiters = [pair for pair in self._waiters if pair[1] is not future]
