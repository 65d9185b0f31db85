"""The quickstart: the smallest honest google-genai and PyAudio script.

Google's SDK in the shape of its own examples: the microphone always streams, the service detects
speech, four tasks and two queues, and nothing is recovered.
"""

from __future__ import annotations

import asyncio

import pyaudio
from google import genai
from google.genai.live import AsyncSession
from google.genai.types import Blob, LiveConnectConfig, Modality

CHUNK = 1024
device = pyaudio.PyAudio()


async def listen(heard: asyncio.Queue[bytes]) -> None:
    stream = await asyncio.to_thread(
        device.open, 16_000, 1, pyaudio.paInt16, input=True, frames_per_buffer=CHUNK
    )
    while True:
        await heard.put(await asyncio.to_thread(stream.read, CHUNK, False))


async def send(session: AsyncSession, heard: asyncio.Queue[bytes]) -> None:
    while True:
        blob = Blob(data=await heard.get(), mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=blob)


async def receive(session: AsyncSession, reply: asyncio.Queue[bytes]) -> None:
    while True:
        async for message in session.receive():
            content = message.server_content
            if content and content.interrupted:
                while not reply.empty():
                    reply.get_nowait()
            if message.data:
                reply.put_nowait(message.data)


async def play(reply: asyncio.Queue[bytes]) -> None:
    stream = await asyncio.to_thread(device.open, 24_000, 1, pyaudio.paInt16, output=True)
    while True:
        await asyncio.to_thread(stream.write, await reply.get())


async def main() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue(5)
    reply: asyncio.Queue[bytes] = asyncio.Queue()
    client = genai.Client()
    config = LiveConnectConfig(response_modalities=[Modality.AUDIO])
    async with (
        client.aio.live.connect(model="gemini-3.8-live", config=config) as session,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(listen(heard))
        group.create_task(send(session, heard))
        group.create_task(receive(session, reply))
        group.create_task(play(reply))


if __name__ == "__main__":
    asyncio.run(main())
