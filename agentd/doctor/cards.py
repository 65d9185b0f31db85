"""Sound cards, who may open them, who holds them, and their mixers."""

from __future__ import annotations

import grp
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentd.audio.cards import ASOUND, Card, cards
from agentd.device.volume import best_control, playback_controls
from agentd.doctor.findings import Finding, fail, ok, warn

DEV_SND = Path("/dev/snd")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Node:
    """A device node that this user may not open."""

    path: str
    group: str
    group_may: bool


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the kernel has, and what we may open of it."""

    cards: tuple[Card, ...]
    closed: tuple[Node, ...]
    user: str


def look_at_cards(user: str, asound: Path = ASOUND, dev: Path = DEV_SND) -> CardFacts:
    """Read the cards and try the permissions of their nodes."""
    closed = []
    for node in sorted(dev.glob("*")) if dev.is_dir() else ():
        if node.is_dir() or os.access(node, os.R_OK | os.W_OK):
            continue
        about = node.stat()
        needed = stat.S_IRGRP | stat.S_IWGRP
        closed.append(Node(str(node), _group(about.st_gid), about.st_mode & needed == needed))
    return CardFacts(tuple(cards(asound)), tuple(closed), user)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def judge_cards(facts: CardFacts, *, sound_works: bool) -> Finding:
    """Judge what there is; sound may also come from a sound server without any card."""
    named = ", ".join(f"{card.id} ({card.text})" for card in facts.cards)
    if facts.closed:
        node = facts.closed[0]
        remedy = (
            f"sudo usermod -aG {node.group} {facts.user}, then log in again"
            if node.group_may and node.group != "root"
            else f"sudo chgrp audio {node.path} && sudo chmod g+rw {node.path}, "
            f"and put {facts.user} into the group audio"
        )
        return fail("cards", f"{facts.user} may not open {node.path}", remedy)
    if facts.cards:
        return ok("cards", named, cards=len(facts.cards))
    if sound_works:
        return ok("cards", "the kernel has none; the configured devices work without", cards=0)
    return fail(
        "cards",
        "the kernel has no sound card",
        "Plug one in; a HAT needs its dtoverlay line in /boot/firmware/config.txt and a reboot",
    )


# ── who holds a device ────────────────────────────────────────────────────────────────────────


def holders(prefix: str = f"{DEV_SND}/pcm", proc: Path = PROC) -> list[str]:
    """Return "name (pid, device)" of every process that holds a PCM, as far as /proc tells."""
    found = []
    for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        if int(process.name) == os.getpid():
            continue
        try:
            held = {str(entry.readlink()) for entry in (process / "fd").iterdir()}
            name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue  # it has ended, or is not ours to look into
        devices = sorted(Path(path).name for path in held if path.startswith(prefix))
        if devices:
            found.append(f"{name} (pid {process.name}, {', '.join(devices)})")
    return found


# ── mixer ─────────────────────────────────────────────────────────────────────────────────────

_CONTROL = re.compile(r"Simple mixer control '(.+)',(\d+)")
_CHANNEL = re.compile(r"^\s+(?:Mono|Front Left|Front Right|\w[\w ]*):.*\[(?:\d+%|on|off)\]")


@dataclass(frozen=True, slots=True)
class MixerControl:
    """A control of a card's mixer; None where it has no switch or volume in that direction."""

    name: str
    playback_on: bool | None = None
    playback_percent: int | None = None
    capture_on: bool | None = None
    capture_percent: int | None = None


def parse_mixer(scontents: str) -> list[MixerControl]:
    """Read the output of `amixer scontents`."""
    blocks = re.split(r"(?m)^(?=Simple mixer control )", scontents)
    return [control for block in blocks if (control := _parse_control(block)) is not None]


def _parse_control(block: str) -> MixerControl | None:
    head = _CONTROL.match(block)
    if head is None or head[2] != "0":
        return None
    capabilities = set((re.search(r"Capabilities:(.*)", block) or ("", ""))[1].split())
    lines = [line for line in block.splitlines() if _CHANNEL.match(line)]
    playback = [part for line in lines for part in _side(line, "Playback", "Capture")]
    capture = [part for line in lines for part in _side(line, "Capture", "Playback")]
    if not any("Playback" in line or "Capture" in line for line in lines):
        both = [part for line in lines for part in re.findall(r"\[([^\]]+)\]", line)]
        is_capture = bool(capabilities & {"cswitch", "cvolume", "cswitch-joined", "cvolume-joined"})
        playback, capture = ([], both) if is_capture else (both, [])
    return MixerControl(
        head[1], _switch(playback), _percent(playback), _switch(capture), _percent(capture)
    )


def _side(line: str, side: str, other: str) -> list[str]:
    """Return what stands in brackets behind `side`, up to the other one."""
    _, found, rest = line.partition(f"{side} ")
    return re.findall(r"\[([^\]]+)\]", rest.partition(f"{other} ")[0]) if found else []


def _switch(parts: Sequence[str]) -> bool | None:
    switches = [part == "on" for part in parts if part in ("on", "off")]
    return any(switches) if switches else None


def _percent(parts: Sequence[str]) -> int | None:
    values = [int(part[:-1]) for part in parts if part.endswith("%")]
    return max(values) if values else None


def judge_mixer(
    scontents: str | None, *, device: str, wanted: str, capture_device: str = ""
) -> Finding:
    """Judge whether the mixer lets sound through; `device` is what `amixer -D` takes."""
    if scontents is None:
        return ok("mixer", "the device has none; the volume is set in software")
    controls = parse_mixer(scontents)
    automatic = wanted in ("auto", "software")
    name = best_control(playback_controls(scontents)) if automatic else wanted
    trouble = _judge_playback_mixer(controls, name, device)
    if trouble is None and capture_device in (device, ""):
        trouble = judge_capture_mixer(scontents, device)
    if trouble is not None:
        return trouble
    if name is None:
        return ok("mixer", "no control for playback; the volume is set in software")
    percent = next((c.playback_percent for c in controls if c.name == name), None)
    return ok("mixer", f"{name} is at {percent} %" if percent is not None else f"{name} is on")


def _judge_playback_mixer(
    controls: Sequence[MixerControl], name: str | None, device: str
) -> Finding | None:
    for control in controls:
        amixer = f"amixer -D {device} sset '{control.name}'"
        if control.name == name:
            if control.playback_on is False:
                return fail("mixer", f"{control.name} is muted", f"{amixer} unmute")
            if control.playback_percent == 0:
                return fail("mixer", f"{control.name} is at 0 %", f"{amixer} 70%")
        elif control.playback_on is False and control.name in ("Master", "Speaker", "Headphone"):
            return warn("mixer", f"{control.name} is muted", f"{amixer} unmute")
    return None


def judge_capture_mixer(scontents: str, device: str) -> Finding | None:
    """Judge the controls of the microphone; None if there is nothing wrong."""
    for control in parse_mixer(scontents):
        amixer = f"amixer -D {device} sset '{control.name}'"
        if control.name in ("Capture", "Mic", "ADC", "Internal Mic"):
            if control.capture_on is False:
                return fail("mixer", f"{control.name} is off (microphone)", f"{amixer} cap")
            if control.capture_percent == 0:
                return fail("mixer", f"{control.name} is at 0 % (microphone)", f"{amixer} 60%")
    return None
