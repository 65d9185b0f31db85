#!/usr/bin/env python3
"""Make the sounds in agentd/device/clips: tones from arithmetic, words by espeak-ng.

    scripts/make_sounds.py            tones and words
    scripts/make_sounds.py --tones    only the tones (needs nothing but Python)

The tones come out the same, byte for byte, on every machine. To add a language, add its sentences
to SENTENCES and its espeak-ng voice to VOICES; people can also drop their own recordings into
/etc/agentd/sounds/LANGUAGE/NAME.wav without any of this.
"""

from __future__ import annotations

import argparse
import array
import math
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agentd.audio.resample import resample  # noqa: E402 - found by the line above

TARGET = ROOT / "agentd" / "device" / "clips"
TONE_RATE_HZ = 24_000
SPEECH_RATE_HZ = 12_000  # half the bytes, and espeak-ng has little to say above 6 kHz
PEAK = 0.5 * 32767  # -6 dBFS: room for a reply under it
QUIET = 0.004 * 32767

# (begin s, length s, frequency Hz, level): partials of a note that rings out
Note = tuple[float, float, float, float]
TONES: dict[str, tuple[float, list[Note]]] = {
    "listening": (0.16, [(0.0, 0.16, 1046.5, 0.6)]),
    "mute": (0.34, [(0.0, 0.18, 659.3, 0.7), (0.12, 0.22, 440.0, 0.8)]),
    "unmute": (0.34, [(0.0, 0.18, 440.0, 0.7), (0.12, 0.22, 659.3, 0.8)]),
    "error": (0.42, [(0.0, 0.2, 233.1, 1.0), (0.18, 0.24, 196.0, 1.0)]),
    "ready": (0.6, [(0.0, 0.3, 523.3, 0.6), (0.12, 0.3, 659.3, 0.6), (0.24, 0.36, 784.0, 0.7)]),
    "tick": (0.04, [(0.0, 0.04, 1568.0, 0.5)]),
    "timer": (
        0.7,
        [(0.0, 0.2, 1318.5, 1.0), (0.15, 0.2, 1318.5, 1.0), (0.3, 0.35, 1568.0, 1.0)],
    ),
    "alarm": (
        0.8,
        [(0.2 * i, 0.2, 880.0 if i % 2 else 1108.7, 1.0) for i in range(4)],
    ),
}

VOICES = {"en": "en-us", "id": "id"}
SENTENCES = {
    "en": {
        "no_network": "I have no internet.",
        "reconnecting": "I cannot reach the service.",
        "refused": "The service refuses my key.",
        "no_key": "I have no key.",
        "settings": "A setting is wrong.",
        "proxy": "The proxy is in the way.",
        "blocked": "This network is in the way.",
        "clock": "My clock is not set.",
        "busy": "The service is busy.",
        "quota": "The quota is used up.",
        "no_microphone": "I have no microphone.",
        "muted": "The microphone is off.",
        "speech_lost": "Sorry, I lost what you said.",
    },
    "id": {
        "no_network": "Tidak ada internet.",
        "reconnecting": "Layanan tidak terjangkau.",
        "refused": "Kunci layanan ditolak.",
        "no_key": "Kunci tidak ada.",
        "settings": "Ada pengaturan yang salah.",
        "proxy": "Proksi menghalangi.",
        "blocked": "Jaringan ini menghalangi.",
        "clock": "Jam belum disetel.",
        "busy": "Layanan sedang sibuk.",
        "quota": "Kuota sudah habis.",
        "no_microphone": "Mikrofon tidak ada.",
        "muted": "Mikrofon mati.",
        "speech_lost": "Maaf, ucapan tadi hilang.",
    },
}


def tone(length_s: float, notes: list[Note]) -> list[int]:
    """Return int16 samples: bell-like notes, a soft attack, silence at both ends."""
    total = round(length_s * TONE_RATE_HZ)
    mix = [0.0] * total
    for begin_s, note_s, frequency_hz, level in notes:
        first, count = round(begin_s * TONE_RATE_HZ), round(note_s * TONE_RATE_HZ)
        for i in range(min(count, total - first)):
            t = i / TONE_RATE_HZ
            attack = min(1.0, t / 0.004)
            release = min(1.0, (count - i) / (0.01 * TONE_RATE_HZ))
            envelope = attack * release * math.exp(-4.0 * t / note_s)
            angle = 2.0 * math.pi * frequency_hz * t
            mix[first + i] += level * envelope * (math.sin(angle) + 0.25 * math.sin(2 * angle))
    return _normalised(mix)


def words(language: str, sentence: str) -> list[int]:
    """Return int16 samples of `sentence`, trimmed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "words.wav"
        command = ["espeak-ng", "-v", VOICES[language], "-s", "185", "-w", str(file), sentence]
        subprocess.run(command, check=True)
        with wave.open(str(file)) as source:
            rate_hz = source.getframerate()
            samples = array.array("h", source.readframes(source.getnframes()))
    loud = [i for i, sample in enumerate(samples) if abs(sample) > QUIET]
    margin = rate_hz // 50
    trimmed = samples[max(0, loud[0] - margin) : loud[-1] + margin]
    return _normalised([float(v) for v in resample(list(trimmed), rate_hz, SPEECH_RATE_HZ)])


def _normalised(values: list[float]) -> list[int]:
    peak = max(abs(value) for value in values)
    return [round(value * PEAK / peak) for value in values]


def write(path: Path, rate_hz: int, samples: list[int]) -> None:
    """Write a mono 16-bit WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = array.array("h", samples)
    if sys.byteorder == "big":
        pcm.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm.tobytes())
    print(f"{path.name:>20} {len(samples) / rate_hz:5.2f} s {path.stat().st_size:7} bytes")


def main() -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tones", action="store_true", help="only what needs no espeak-ng")
    parser.add_argument("--into", type=Path, default=TARGET, help="folder to write to")
    arguments = parser.parse_args()
    for name, (length_s, notes) in TONES.items():
        write(arguments.into / f"{name}.wav", TONE_RATE_HZ, tone(length_s, notes))
    if not arguments.tones:
        for language, sentences in SENTENCES.items():
            for name, sentence in sentences.items():
                path = arguments.into / language / f"{name}.wav"
                write(path, SPEECH_RATE_HZ, words(language, sentence))
    return 0


if __name__ == "__main__":
    sys.exit(main())
