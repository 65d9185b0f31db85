"""How well wake words are heard: misses, false accepts, what it costs, and where the cut-offs lie.

    python -m benchmarks.wake_words AUDIO [--hours 4] [--write]

AUDIO is a folder of recordings as `benchmarks.recordings` reads them: `wake/`, `speech/`, `noise/`,
`scenes/`. Every recording goes through the spotter as the daemon runs it, behind the sparks; the
means are kept, so that one pass gives the whole curve. `--hours` of texts are spoken by espeak-ng
as negatives. `--write` writes docs/measured/wake.md. Needs numpy, sox and espeak-ng.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agentd.audio import formats
from agentd.config.settings import AttentionSection
from agentd.events import Frame
from agentd.vad.cascade import AGGRESSIVENESS
from agentd.vad.equip import CUTOFFS, equip
from agentd.vad.sparks import Sparks
from agentd.vad.spotter import Spotter
from agentd.vad.webrtc import WebrtcModel
from benchmarks.recordings import RATE_HZ, Wave, read

WORDS = ("okay_nabu", "hey_jarvis", "hey_mycroft", "alexa")
PHRASES = {
    "okay_nabu": "okay nabu",
    "hey_jarvis": "hey jarvis",
    "hey_mycroft": "hey mycroft",
    "alexa": "alexa",
}
VOICES = (
    *("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us+f2", "en-us+f3"),
    *("en-gb+f4", "en-us+m3", "en-us+m7", "en-gb+m5", "en-gb-x-rp+f3"),
)
CONDITIONS = (
    ("clean", "", 0.0, ""),
    ("café 10 dB", "coffee_shop", 10.0, ""),
    ("café 5 dB", "coffee_shop", 5.0, ""),
    ("hood 10 dB", "fan_hood_1", 10.0, ""),
    ("television 10 dB", "babble_4talkers", 10.0, ""),
    ("far field", "room_tone", 20.0, "room_t60_0.6s"),
)
SAID_IN = {"alexa": ("scenes",)}  # people say it there: no false alarm
BEFORE_S = 3.0
CURVE = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)
PAGE = Path("docs/measured/wake.md")


@dataclass(frozen=True, slots=True)
class Positive:
    """A recording with one word in it, and where the word ends if that is labelled."""

    word: str
    who: str
    wave: Wave
    end_s: float | None
    active: tuple[float, float] | None


@dataclass
class Means:
    """The mean of every word after each frame, and what share of the frames was looked at."""

    values: dict[str, NDArray[np.float32]]
    awake: float

    def crossings(self, word: str, cutoff: float) -> list[float]:
        """Return the times in seconds at which `word` is heard at this cut-off, 1 s apart."""
        means = self.values[word]
        above = np.flatnonzero(means >= cutoff)
        fallen = np.cumsum(means < cutoff * 0.5)  # the same number: not fallen in between
        times: list[float] = []
        last = -1
        for frame in above[np.diff(above, prepend=-2) > 1]:
            if last < 0 or (frame - last >= 50 and fallen[frame] > fallen[last]):
                times.append(float(frame) * 0.02 + 0.02)
            last = int(frame)
        return times


class Passes:
    """Runs sound through the spotter and keeps the means."""

    def __init__(self) -> None:
        equipment = equip(AttentionSection(mode="wake-word", words=WORDS))
        assert equipment.extract is not None, equipment.cause
        self._extract, self._ears = equipment.extract, equipment.ears
        self.cpu_s = self.sound_s = 0.0

    def run(self, wave: Wave) -> Means:
        """Return the means of one recording, from a room that the spotter has heard before."""
        spotter = Spotter(Sparks(WebrtcModel(AGGRESSIVENESS), -60.0))
        spotter.equip(self._extract, self._ears)
        for ear in self._ears:
            ear.forget()
        pcm = wave.clip(-32768, 32767).astype("<i2").tobytes()
        count = len(pcm) // formats.FRAME_BYTES
        values = {word: np.zeros(count, np.float32) for word in WORDS}
        began = time.process_time()
        for index in range(count):
            piece = pcm[index * formats.FRAME_BYTES : (index + 1) * formats.FRAME_BYTES]
            spotter.hear(Frame(index, index * 0.02, piece), formats.level_dbfs(piece))
            for word, mean in spotter.means.items():
                values[word][index] = mean
        self.cpu_s += time.process_time() - began
        self.sound_s += count * 0.02
        return Means(values, spotter.frames / max(1, count))


# ── what is heard ─────────────────────────────────────────────────────────────────────────────


def spoken(text: str, voice: str, speed: int = 165) -> Wave:
    """Return `text` as espeak-ng speaks it, at 16 kHz."""
    said = subprocess.run(
        ["espeak-ng", "-v", voice, "-s", str(speed), "--stdout", "--stdin"],
        input=text.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    done = subprocess.run(
        ["sox", "-t", "wav", "-", "-t", "raw", "-r", str(RATE_HZ), "-e", "signed", "-b", "16", "-"],
        input=said,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    ).stdout
    return np.frombuffer(done, "<i2").astype(np.float64)


def positives(audio: Path) -> list[Positive]:
    """Return people's recordings and the models' test clips, and the words by espeak-ng."""
    labels = json.loads((audio / "wake" / "labels.json").read_text())
    found = []
    for path in sorted((audio / "wake").glob("*.flac")):
        word = next((w for w in WORDS if path.stem.startswith((w, f"test_{w}"))), None)
        if word is None:
            continue
        segments = labels.get(f"wake/{path.name}", {}).get("segments")
        who = "test clip" if path.stem.startswith("test_") else "people"
        # Some test clips go on after the word: their labels end somewhere else.
        ends = segments[-1][1] if segments and len(segments) == 1 else None
        active = (segments[0][0], segments[-1][1]) if segments else None
        found.append(Positive(word, who, read(path), ends, active))
    for word, phrase in PHRASES.items():
        said = (spoken(phrase, voice, 150) for voice in VOICES)
        found += [Positive(word, "espeak-ng", wave, None, None) for wave in said]
    return found


def in_scene(positive: Positive, audio: Path, noise: str, snr_db: float, room: str) -> Wave:
    """Return the recording in a noise, in a room, after some seconds of it."""
    wave = positive.wave
    if positive.active is None:
        active = wave
    else:
        active = wave[int(positive.active[0] * RATE_HZ) : int(positive.active[1] * RATE_HZ)]
    power = float(np.mean(active**2))
    if room:
        answer = read(audio / "rir" / f"{room}.flac")
        answer = answer / np.sqrt(np.sum(answer**2))
        wave = np.convolve(wave, answer)[: len(wave) + RATE_HZ // 2]
    whole = np.concatenate([np.zeros(int(BEFORE_S * RATE_HZ)), wave, np.zeros(RATE_HZ)])
    if noise:
        loop = np.resize(read(audio / "noise" / f"{noise}.flac"), len(whole))
        gain = np.sqrt(power / np.mean(loop**2)) * 10 ** (-snr_db / 20)
        return np.asarray(whole + gain * loop)
    return np.asarray(whole + np.random.default_rng(7).normal(0.0, 6.0, len(whole)))


def negatives(audio: Path, hours: float) -> Iterator[tuple[str, Wave]]:
    """Yield every recording without a word by its kind, and texts spoken by espeak-ng."""
    for path in sorted((audio / "scenes").glob("*.wav")):
        yield "scenes", read(path)
    for path in sorted((audio / "aec").glob("*.wav")):
        yield "scenes", read(path)
    for path in sorted((audio / "speech").glob("*.flac")):
        yield "speech", read(path)
    for path in sorted((audio / "noise").glob("*.flac")):
        yield "noise", read(path)
    spoken_s = 0.0
    for voice, text in zip(cycle(VOICES), texts(), strict=False):
        if spoken_s >= hours * 3600:
            return
        wave = spoken(text, voice)
        spoken_s += len(wave) / RATE_HZ
        yield "espeak-ng", wave


def texts() -> Iterator[str]:
    """Yield paragraphs of English prose that every Debian with Python has, over and over."""
    documents = [
        *sorted(Path("/usr/share/common-licenses").glob("*")),
        *sorted(Path("docs").rglob("*.md")),
        *sorted(Path(sys.prefix).glob("lib/python3*/site-packages/*/METADATA")),
        *sorted(Path("/usr/lib/python3.11").glob("*.py")),
    ]
    for path in cycle(path for path in documents if path.is_file()):
        text = path.read_text(encoding="utf-8", errors="ignore")
        if path.suffix == ".py":
            text = "\n\n".join(re.findall(r'"""(.*?)"""', text, re.DOTALL))
        for paragraph in re.split(r"\n\s*\n", text):
            plain = re.sub(r"[^A-Za-z0-9 ,.;:'?!-]+", " ", paragraph).strip()
            if len(plain) > 120:
                yield plain[:4000]


# ── what came of it ───────────────────────────────────────────────────────────────────────────


@dataclass
class Result:
    """All that the page says."""

    positives: dict[tuple[str, str, str], list[Means]] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)
    negatives: dict[str, list[Means]] = field(default_factory=dict)
    hours: dict[str, float] = field(default_factory=dict)

    def missed(self, word: str, condition: str, cutoff: float, who: Sequence[str]) -> str:
        """Return the share of recordings in which the word is not heard."""
        heard = missed = 0
        for one in who:
            for means in self.positives.get((word, condition, one), ()):
                after = [at for at in means.crossings(word, cutoff) if at > BEFORE_S]
                heard, missed = heard + bool(after), missed + (not after)
        total = heard + missed
        return f"{100 * missed / total:.0f} % of {total}" if total else "–"

    def false_per_hour(self, word: str, cutoff: float) -> float:
        """Return how often the word is heard in an hour without it."""
        kinds = [kind for kind in self.negatives if kind not in SAID_IN.get(word, ())]
        count = sum(
            len(means.crossings(word, cutoff)) for kind in kinds for means in self.negatives[kind]
        )
        return count / sum(self.hours[kind] for kind in kinds)

    def late_ms(self, word: str, cutoff: float) -> list[float]:
        """Return how long after its labelled end the word is certain, in a quiet room."""
        found = []
        for who in ("people", "test clip"):
            for means in self.positives.get((word, "clean", who), ()):
                end_s = self.ends.get(id(means))
                hits = [at for at in means.crossings(word, cutoff) if at > BEFORE_S]
                if end_s is not None and hits:
                    found.append((hits[0] - BEFORE_S - end_s) * 1000)
        return sorted(found)


def measure(audio: Path, hours: float, progress: Callable[[str], None]) -> tuple[Result, Passes]:
    """Run everything through the spotter."""
    passes, result = Passes(), Result()
    for positive in positives(audio):
        for name, noise, snr_db, room in CONDITIONS:
            means = passes.run(in_scene(positive, audio, noise, snr_db, room))
            result.positives.setdefault((positive.word, name, positive.who), []).append(means)
            if positive.end_s is not None:
                result.ends[id(means)] = positive.end_s
    progress("the words are through")
    for kind, wave in negatives(audio, hours):
        result.negatives.setdefault(kind, []).append(passes.run(wave))
        result.hours[kind] = result.hours.get(kind, 0.0) + len(wave) / RATE_HZ / 3600
    return result, passes


def percentile(values: Sequence[float], percent: float) -> str:
    """Return a percentile in whole milliseconds, or a dash."""
    return f"{np.percentile(values, percent):.0f}" if values else "–"


def page(result: Result, passes: Passes, babble: float, quiet: float) -> str:
    """Return docs/measured/wake.md."""
    average = 100 * passes.cpu_s / passes.sound_s
    people = ("people", "test clip")
    hours = ", ".join(f"{name} {value:.2f} h" for name, value in result.hours.items())
    lines = [
        "# Wake words, measured",
        "",
        "Written by `python -m benchmarks.wake_words`. People and the models' own test clips are",
        "recordings; espeak-ng is a synthetic voice in twelve accents.",
        f"Without a word: {hours}. The hours by espeak-ng are prose read by a machine: they stand",
        "for a radio, not for a kitchen. The curve was chosen on the same recordings that it is",
        "measured on; others will differ.",
        "",
        "## Misses at medium sensitivity",
        "",
        "| word | voice | " + " | ".join(name for name, *_ in CONDITIONS) + " |",
        "| --- | --- |" + " --- |" * len(CONDITIONS),
    ]
    for word in WORDS:
        for label, who in (("recordings", people), ("espeak-ng", ("espeak-ng",))):
            cutoff = CUTOFFS[word][1]
            cells = [result.missed(word, name, cutoff, who) for name, *_ in CONDITIONS]
            lines.append(f"| {word} | {label} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## The curve",
        "",
        "Missed in a quiet room and in a café at 10 dB, and how often the word was heard",
        "in an hour without it. The cut-offs of low, medium and high are marked.",
        "",
        "| word | cut-off | clean | café 10 dB | espeak-ng clean | heard falsely per hour |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for word in WORDS:
        marks = dict(zip(CUTOFFS[word], ("low", "medium", "high"), strict=True))
        for cutoff in sorted({*CURVE, *CUTOFFS[word]}):
            mark = f" **{marks[cutoff]}**" if cutoff in marks else ""
            lines.append(
                f"| {word} | {cutoff:g}{mark} | {result.missed(word, 'clean', cutoff, people)}"
                f" | {result.missed(word, 'café 10 dB', cutoff, people)}"
                f" | {result.missed(word, 'clean', cutoff, ('espeak-ng',))}"
                f" | {result.false_per_hour(word, cutoff):.2f} |"
            )
    lines += [
        "",
        "## When it is certain",
        "",
        "Milliseconds from the labelled end of the word, recordings in a quiet room, at medium.",
        "",
        "| word | 10 % | median | 90 % | latest |",
        "| --- | --- | --- | --- | --- |",
    ]
    for word in WORDS:
        late = result.late_ms(word, CUTOFFS[word][1])
        cells = [percentile(late, percent) for percent in (10, 50, 90, 100)]
        lines.append(f"| {word} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Near misses in what has no word",
        "",
        "Peaks of the mean that stayed below the cut-off of medium, by tenths.",
        "",
        "| word | 0.3 | 0.4 | 0.5 | 0.6 | 0.7 | 0.8 | 0.9 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for word in WORDS:
        counts = [near_misses(result, word, tenth / 10) for tenth in range(3, 10)]
        lines.append(f"| {word} | " + " | ".join(str(count) for count in counts) + " |")
    lines += [
        "",
        "## What it costs",
        "",
        f"On {platform.machine()}, Python {platform.python_version()}, one word:",
        f"{babble:.2f} % of a core while four people talk at once, {quiet:.3f} % in a quiet room,",
        "the gate's own first stage included.",
        f"All of the above with four words: {average:.2f} % of a core.",
        f"Library, features and one word take {memory_mib():.1f} MiB.",
        "",
    ]
    return "\n".join(lines)


def near_misses(result: Result, word: str, low: float) -> int:
    """Return how many peaks of the mean lie in the tenth from `low` on, below the cut-off."""
    below = result_crossings(result, word, low)
    return below - result_crossings(result, word, min(low + 0.1, CUTOFFS[word][1]))


def result_crossings(result: Result, word: str, cutoff: float) -> int:
    """Return how often the mean rises over `cutoff` in what has no word."""
    return sum(
        len(means.crossings(word, cutoff)) for all_ in result.negatives.values() for means in all_
    )


def share_of_core(wave: Wave) -> float:
    """Return what one word costs in per cent of a core, in sound like this."""
    equipment = equip(AttentionSection(mode="wake-word"))
    assert equipment.extract is not None
    spotter = Spotter(Sparks(WebrtcModel(AGGRESSIVENESS), -60.0))
    spotter.equip(equipment.extract, equipment.ears)
    pcm = wave.clip(-32768, 32767).astype("<i2").tobytes()
    size = formats.FRAME_BYTES
    frames = [
        Frame(index, index * 0.02, pcm[at : at + size])
        for index, at in enumerate(range(0, len(pcm) - size + 1, size))
    ]
    levels = [formats.level_dbfs(frame.pcm) for frame in frames]
    began = time.process_time()
    for frame, level_dbfs in zip(frames, levels, strict=True):
        spotter.hear(frame, level_dbfs)
    return 100 * (time.process_time() - began) / (len(frames) * 0.02)


def memory_mib() -> float:
    """Return what a process grows by when it loads one word."""
    program = (
        "import resource;from agentd.config.settings import AttentionSection;"
        "from agentd.vad.equip import equip;from agentd.events import Frame;"
        "rss=lambda:int(open('/proc/self/statm').read().split()[1])*resource.getpagesize();"
        "before=rss();found=equip(AttentionSection(mode='wake-word'));"
        "features=[v for _ in range(100) for v in found.extract(bytes(640))];"
        "[found.ears[0].take([v],0.0) for v in features];print(rss()-before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True
    )
    return int(done.stdout) / 2**20


def main() -> None:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--hours", type=float, default=4.0, help="of texts by espeak-ng")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    options = parser.parse_args()
    result, passes = measure(options.audio, options.hours, print)
    talk = np.resize(read(options.audio / "noise" / "babble_4talkers.flac"), 60 * RATE_HZ)
    room = np.random.default_rng(7).normal(0.0, 12.0, 120 * RATE_HZ)
    text = page(result, passes, share_of_core(talk), share_of_core(room))
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    print(text)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
