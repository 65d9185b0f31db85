"""`agentd wake list|test|score`: which words there are, and how well they are heard."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentd.audio import formats
from agentd.config.files import load
from agentd.config.settings import AttentionSection
from agentd.errors import EXIT_FAILURE, EXIT_OK
from agentd.events import Frame
from agentd.text import json_text, safe_text
from agentd.vad.cascade import AGGRESSIVENESS
from agentd.vad.clips import read_speech
from agentd.vad.equip import Equipment, cutoff_of, equip
from agentd.vad.sparks import Sparks
from agentd.vad.spotter import Heard, Spotter
from agentd.vad.webrtc import WebrtcModel
from agentd.vad.words import INSTALL, package_folder, read_shelf

LEAD_S = 1.0  # of silence before each recording: the room, as the device knows it
BAR = 40


def main(arguments: argparse.Namespace) -> int:
    """Run one of the three; return the exit status."""
    attention = load(arguments.config).settings.attention
    if arguments.what == "list":
        return _list(attention, as_json=arguments.json)
    if arguments.word:
        attention = attention.model_copy(update={"words": (arguments.word,)})
    equipment = equip(attention)
    for problem in equipment.problems:
        print(problem, file=sys.stderr)
    if equipment.extract is None:
        return _failed(f"no wake word can be heard: {equipment.cause}. {equipment.remedy}")
    if not arguments.folder:
        what = "a folder of WAVs" if arguments.what == "score" else "a WAV, or - for raw sound"
        return _failed(f"wake {arguments.what} needs {what}: agentd wake {arguments.what} PATH")
    if arguments.what == "score":
        return _score(equipment, Path(arguments.folder), as_json=arguments.json)
    return _test(equipment, arguments.folder)


def _failed(message: str) -> int:
    print(f"agentd: {safe_text(message, 1000)}", file=sys.stderr)
    return EXIT_FAILURE


# ── list ──────────────────────────────────────────────────────────────────────────────────────


def _list(attention: AttentionSection, *, as_json: bool) -> int:
    package = package_folder()
    shelf = read_shelf(Path(attention.models), package)
    rows: list[dict[str, Any]] = [
        {
            "name": model.name,
            "phrase": model.phrase,
            "languages": list(model.languages),
            "from": "agentd" if model.is_bundled else attention.models,
            "cutoff": {level: round(cutoff_of(model, level), 3) for level in _LEVELS},
            "listened_for": attention.mode == "wake-word" and model.name in attention.words,
        }
        for model in sorted(shelf.models.values(), key=lambda model: model.name)
    ]
    if as_json:
        print(json_text(rows, indent=2))
    else:
        for row in rows:
            mark = "*" if row["listened_for"] else " "
            languages = ",".join(row["languages"])
            print(f"{mark} {row['name']:16} {row['phrase']!r:18} {languages:22} {row['from']}")
    for problem in shelf.problems:
        print(problem, file=sys.stderr)
    if package is None:
        return _failed(f"the extra wake is not installed. {INSTALL}")
    return EXIT_FAILURE if shelf.problems or not rows else EXIT_OK


_LEVELS = ("low", "medium", "high")


# ── test and score ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Found:
    """What was heard in a recording."""

    name: str
    seconds: float
    heard: tuple[Heard, ...]
    near: tuple[Heard, ...]
    peaks: dict[str, float]


class _Ear:
    """A spotter that takes sound in pieces of any length."""

    def __init__(self, equipment: Equipment) -> None:
        assert equipment.extract is not None
        self.spotter = Spotter(Sparks(WebrtcModel(AGGRESSIVENESS), -60.0))
        for ear in equipment.ears:
            ear.forget()
        self.spotter.equip(equipment.extract, equipment.ears)
        self.peaks = {ear.word.name: 0.0 for ear in equipment.ears}
        self._index = 0

    def hear(self, pcm: bytes) -> list[Heard]:
        """Take a frame of 20 ms (int16 mono 16 kHz, 640 bytes)."""
        frame = Frame(self._index, self._index * formats.FRAME_S, pcm)
        self._index += 1
        found = self.spotter.hear(frame, formats.level_dbfs(pcm))
        for name, mean in self.spotter.means.items():
            self.peaks[name] = max(self.peaks[name], mean)
        return found


def _frames(pcm: bytes) -> Sequence[bytes]:
    size = formats.FRAME_BYTES
    return [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]


def listen(equipment: Equipment, name: str, pcm: bytes) -> Found:
    """Return what is heard in a recording (int16 mono 16 kHz), after a second of silence."""
    ear = _Ear(equipment)
    lead = bytes(round(LEAD_S / formats.FRAME_S) * formats.FRAME_BYTES)
    found = [heard for frame in _frames(lead + pcm + lead) for heard in ear.hear(frame)]
    return Found(
        name,
        len(pcm) / 32_000,
        tuple(heard for heard in found if not heard.is_near),
        tuple(heard for heard in found if heard.is_near),
        ear.peaks,
    )


def _score(equipment: Equipment, folder: Path, *, as_json: bool) -> int:
    """Show for every recording what was heard in it, and the sums."""
    try:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".wav")
    except OSError as error:
        return _failed(f"{folder}: cannot be read ({error.strerror})")
    if not paths:
        return _failed(f"{folder}: no WAV files in it. Record int16 mono 16 kHz: arecord -f S16_LE")
    found, refused = [], 0
    for path in paths:
        pcm = read_speech(path)
        if pcm is None:
            refused += 1
            print(f"{safe_text(str(path))}: is no WAV of int16 mono 16 kHz", file=sys.stderr)
            continue
        found.append(listen(equipment, str(path.relative_to(folder)), pcm))
        if not as_json:
            print(_line(found[-1]))
    hours = sum(one.seconds for one in found) / 3600
    sums = {
        "recordings": len(found),
        "refused": refused,
        "hours": round(hours, 4),
        "with_a_word": sum(bool(one.heard) for one in found),
        "without_a_word": sum(not one.heard for one in found),
        "heard": sum(len(one.heard) for one in found),
        "near_misses": sum(len(one.near) for one in found),
        "heard_per_hour": round(sum(len(one.heard) for one in found) / hours, 2) if hours else 0.0,
    }
    if as_json:
        rows = [
            {
                "name": one.name,
                "heard": [[heard.word.name, round(heard.score, 3)] for heard in one.heard],
                "peaks": {name: round(peak, 3) for name, peak in one.peaks.items()},
            }
            for one in found
        ]
        print(json_text({"recordings": rows, "sums": sums}, indent=2))
    else:
        print(
            f"{sums['recordings']} recordings, {hours * 60:.1f} min: a word in"
            f" {sums['with_a_word']}, none in {sums['without_a_word']},"
            f" {sums['near_misses']} near misses. All with the word: the second figure is the"
            f" misses. None with it: {sums['heard_per_hour']} false alarms an hour."
        )
    return EXIT_FAILURE if refused else EXIT_OK


def _line(found: Found) -> str:
    words = ", ".join(
        f"{heard.word.name} {heard.score:.2f} at {max(0.0, heard.at_s - LEAD_S):.1f} s"
        for heard in found.heard
    )
    peaks = ", ".join(f"{name} {peak:.2f}" for name, peak in found.peaks.items())
    return f"{safe_text(found.name)}: {words or 'nothing'} (highest: {peaks})"


def _test(equipment: Equipment, source: str) -> int:
    """Show scores as they come: of a WAV, or of what `arecord` writes to standard input."""
    ear = _Ear(equipment)
    if source == "-":
        size = formats.FRAME_BYTES
        while len(pcm := sys.stdin.buffer.read(size)) == size:
            _show(ear.hear(pcm))
        return EXIT_OK
    pcm_of = read_speech(Path(source))
    if pcm_of is None:
        return _failed(f"{source}: is no WAV of int16 mono 16 kHz that can be read")
    for frame in _frames(bytes(64_000) + pcm_of + bytes(32_000)):
        _show(ear.hear(frame))
    return EXIT_OK


def _show(found: Sequence[Heard]) -> None:
    for heard in found:
        verdict = "nearly" if heard.is_near else "HEARD"
        bar = "#" * round(heard.score * BAR)
        print(
            f"{heard.at_s:7.2f} s  {heard.word.name:16} {heard.score:.2f}"
            f" of {heard.word.cutoff:.2f}  {verdict:6}  {bar}",
            flush=True,
        )
