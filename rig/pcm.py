"""Capture from, or play to, a PCM with nothing but PyAudio, in a process of its own.

    python -m rig.pcm capture NAME RATE_HZ SECONDS > int16.raw
    python -m rig.pcm play NAME RATE_HZ < int16.raw

PortAudio's list of devices is that of its first initialisation in a process, so a test that wants
to see the rig's devices by name cannot share a process with one that has opened others.
"""

from __future__ import annotations

import sys

import pyaudio

BUFFER_S = 0.2


def device_index(portaudio: pyaudio.PyAudio, name: str) -> int:
    """Return the index of a PCM by its name."""
    count = portaudio.get_device_count()
    names = [str(portaudio.get_device_info_by_index(i)["name"]) for i in range(count)]
    return names.index(name)


def main() -> None:
    """Do what the command line says."""
    verb, name, rate_hz = sys.argv[1], sys.argv[2], int(sys.argv[3])
    portaudio = pyaudio.PyAudio()
    capture = verb == "capture"
    index = device_index(portaudio, name)
    stream = portaudio.open(
        rate=rate_hz,
        channels=1,
        format=pyaudio.paInt16,
        input=capture,
        output=not capture,
        input_device_index=index if capture else None,
        output_device_index=None if capture else index,
        frames_per_buffer=round(rate_hz * BUFFER_S),
    )
    if capture:
        for _ in range(round(float(sys.argv[4]) / BUFFER_S)):
            frames = stream.read(round(rate_hz * BUFFER_S), exception_on_overflow=False)
            sys.stdout.buffer.write(frames)
            sys.stdout.buffer.flush()
    else:
        stream.write(sys.stdin.buffer.read())
        stream.write(bytes(2 * rate_hz))  # closing drops what is still in PortAudio's buffer
    stream.close()
    portaudio.terminate()


if __name__ == "__main__":
    main()
