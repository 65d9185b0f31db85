"""Are the wake words there, do they hear themselves, and what do they cost?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agentd.audio import formats
from agentd.config.settings import AttentionSection
from agentd.doctor.findings import Finding, fail, ok, skipped, warn
from agentd.events import Frame
from agentd.vad.cascade import AGGRESSIVENESS
from agentd.vad.clips import read_clip
from agentd.vad.equip import Equipment, equip
from agentd.vad.sparks import Sparks
from agentd.vad.spotter import Spotter
from agentd.vad.webrtc import WebrtcModel

CHECK = "wake word"
OFTEN_PER_HOUR = 6.0


def check_words(attention: AttentionSection, status: Mapping[str, Any] | None) -> Finding:
    """Load the words, let the bundled ones hear their clips, and count how often they were heard.

    `status` is the daemon's, None where it does not run.
    """
    if attention.mode != "wake-word":
        return skipped(CHECK, 'attention.mode is "open": whatever is said is sent')
    found = equip(attention)
    if found.extract is None:
        return fail(CHECK, f"none can be heard: {found.cause}", found.remedy)
    if found.problems:
        problem = found.problems[0]
        return warn(CHECK, f"{problem.file}: {problem.key}: {problem.problem}", problem.remedy)
    deaf, cost_percent = _hear_clips(found)
    names = ", ".join(ear.word.name for ear in found.ears)
    if deaf:
        remedy = "Raise attention.sensitivity, or lower the word's threshold"
        return warn(CHECK, f"{deaf} does not hear its own clip", remedy)
    heard = _heard_per_hour(status)
    if heard is not None and heard > OFTEN_PER_HOUR:
        remedy = 'Set attention.sensitivity = "low", or choose another word'
        return warn(CHECK, f"{names}: heard {heard:.1f} times an hour", remedy)
    often = "" if heard is None else f", heard {heard:.1f} times an hour"
    return ok(
        CHECK,
        f"{names}: {cost_percent:.1f} % of a core while somebody speaks{often}",
        cost_percent=round(cost_percent, 2),
    )


def _hear_clips(found: Equipment) -> tuple[str, float]:
    """Return a bundled word that does not hear its clip, and what the words cost in per cent."""
    assert found.extract is not None
    took_s = sound_s = 0.0
    for ear in found.ears:
        pcm = read_clip(ear.word.name)
        if pcm is None:
            continue
        spotter = Spotter(Sparks(WebrtcModel(AGGRESSIVENESS), -60.0))
        spotter.equip(found.extract, found.ears)
        size = formats.FRAME_BYTES
        sound = bytes(size * 50) + pcm + bytes(size * 25)
        heard = []
        began = time.process_time()
        for index, at in enumerate(range(0, len(sound) - size + 1, size)):
            frame = Frame(index, index * formats.FRAME_S, sound[at : at + size])
            heard += spotter.hear(frame, formats.level_dbfs(frame.pcm))
        took_s += time.process_time() - began
        sound_s += max(1, spotter.frames) * formats.FRAME_S
        if not any(one.word.name == ear.word.name and not one.is_near for one in heard):
            return ear.word.name, 0.0
    return "", 100 * took_s / sound_s if sound_s else 0.0


def _heard_per_hour(status: Mapping[str, Any] | None) -> float | None:
    """Return how often the running daemon has heard a word, if it runs for long enough to say."""
    if status is None:
        return None
    attention, uptime_s = status.get("attention"), status.get("uptime_s")
    heard = attention.get("heard") if isinstance(attention, dict) else None
    if not isinstance(heard, int) or not isinstance(uptime_s, int | float) or uptime_s < 600:
        return None
    return heard * 3600 / uptime_s
