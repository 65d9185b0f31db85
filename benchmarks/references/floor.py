"""The floor: raw websockets, PyAudio and a webrtcvad gate, nothing else.

The least that does the job, as a person would write it in an afternoon: a gate with a pre-roll and
a fixed hangover, one message per 20 ms, a loop that connects again. No configuration, no state on
disk, no light, no log, no replay, no recovery of sound devices.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections import deque
from typing import Any

import pyaudio
import webrtcvad
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
FRAME = 320  # 20 ms at 16 kHz
PERIOD = 480  # 20 ms at 24 kHz
ONSET, HANGOVER, PRE_ROLL = 3, 20, 15  # frames
QUEUE_FRAMES = 1500


class Speaker:
    """Plays what is in the buffer, else silence."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def callback(self, _in: bytes, frames: int, _time: Any, _flags: int) -> tuple[bytes, int]:
        size = frames * 2
        out = bytes(self.buffer[:size])
        del self.buffer[:size]
        return out.ljust(size, b"\0"), pyaudio.paContinue


class Floor:
    """Gate and connection."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.vad = webrtcvad.Vad(2)
        self.speaker = Speaker()
        self.messages: asyncio.Queue[str] = asyncio.Queue(QUEUE_FRAMES)
        self.ring: deque[bytes] = deque(maxlen=PRE_ROLL + ONSET)
        self.voiced = self.quiet = 0
        self.open = False
        self.handle = ""

    def callback(self, pcm: bytes, _frames: int, _time: Any, _flags: int) -> tuple[None, int]:
        self.loop.call_soon_threadsafe(self.gate, pcm)
        return None, pyaudio.paContinue

    def gate(self, pcm: bytes) -> None:
        speech = self.vad.is_speech(pcm, 16_000)
        if self.open:
            self.audio(pcm)
            self.quiet = 0 if speech else self.quiet + 1
            if self.quiet >= HANGOVER:
                self.open, self.voiced = False, 0
                self.say({"activityEnd": {}})
            return
        self.ring.append(pcm)
        self.voiced = self.voiced + 1 if speech else 0
        if self.voiced >= ONSET:
            self.open, self.quiet = True, 0
            self.say({"activityStart": {}})
            for frame in self.ring:
                self.audio(frame)
            self.ring.clear()

    def audio(self, pcm: bytes) -> None:
        data = base64.b64encode(pcm).decode()
        self.say({"audio": {"data": data, "mimeType": "audio/pcm;rate=16000"}})

    def say(self, message: dict[str, Any]) -> None:
        if not self.messages.full():
            self.messages.put_nowait(json.dumps({"realtimeInput": message}))

    async def run(self) -> None:
        url = os.environ["GOOGLE_GEMINI_BASE_URL"].replace("https", "wss") + PATH
        headers = {"x-goog-api-key": os.environ["GEMINI_API_KEY"]}
        while True:
            try:
                async with connect(url, additional_headers=headers, compression=None) as ws:
                    await self.session(ws)
            except* (OSError, WebSocketException):
                await asyncio.sleep(0.1)

    async def session(self, ws: ClientConnection) -> None:
        resumption = {"handle": self.handle} if self.handle else {}
        setup = {
            "model": "models/gemini-3.8-live",
            "generationConfig": {"responseModalities": ["AUDIO"]},
            "realtimeInputConfig": {"automaticActivityDetection": {"disabled": True}},
            "sessionResumption": resumption,
        }
        await ws.send(json.dumps({"setup": setup}))
        await ws.recv()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.send(ws))
            group.create_task(self.receive(ws))

    async def send(self, ws: ClientConnection) -> None:
        while True:
            await ws.send(await self.messages.get())

    async def receive(self, ws: ClientConnection) -> None:
        while True:
            message = json.loads(await ws.recv())
            update = message.get("sessionResumptionUpdate", {})
            self.handle = update.get("newHandle", self.handle)
            if "goAway" in message:
                await ws.close()
            content = message.get("serverContent", {})
            if content.get("interrupted"):
                self.speaker.buffer.clear()
            for part in content.get("modelTurn", {}).get("parts", ()):
                if "inlineData" in part:
                    self.speaker.buffer += base64.b64decode(part["inlineData"]["data"])


async def main() -> None:
    floor = Floor()
    device = pyaudio.PyAudio()
    format_ = pyaudio.paInt16
    microphone = device.open(
        16_000, 1, format_, input=True, frames_per_buffer=FRAME, stream_callback=floor.callback
    )
    speaker = device.open(
        24_000,
        1,
        format_,
        output=True,
        frames_per_buffer=PERIOD,
        stream_callback=floor.speaker.callback,
    )
    task = asyncio.ensure_future(floor.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        microphone.close()
        speaker.close()
        device.terminate()


if __name__ == "__main__":
    asyncio.run(main())
